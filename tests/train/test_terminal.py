"""A real process in a terminal: its lines stand above the progress bar, and the bar stays one line."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

from tests.train.conftest import TINY, to_toml

WARNING_RUN = """
import logging, warnings
from reducio_codec.cli import main
from reducio_codec.training import loop

step = loop.take_step

def warn_and_step(task, run, **more):
    if run.position.step == 2:
        logging.getLogger("reducio_codec.train.task").warning("skipped a clip: %s", "x.mp4")
        warnings.warn("this is\\na warning")
    step(task, run, **more)

loop.take_step = warn_and_step
main()
"""
"""Warnings of both kinds at the third step."""


def run_in_terminal(command: list[str], *, cwd: Path, width: int = 160) -> tuple[int, str]:
    """Exit code, and all that came to the terminal (stdout and stderr)."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    env = {**os.environ, "PYTHONPATH": str(Path.cwd()), "TERM": "xterm"}
    for name in ("COLUMNS", "LINES"):  # where a test runner sets them they would hide this terminal's size
        env.pop(name, None)
    process = subprocess.Popen(command, cwd=cwd, env=env, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen = b""
    try:
        while data := os.read(ours, 65536):
            seen += data
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(ours)
    return process.wait(timeout=60), seen.decode()


def on_screen(written: str) -> list[str]:
    """What a terminal shows in the end, as far as colours, carriage returns, moves up and erased lines go."""
    lines, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", written):
        if part == "\r":
            column = 0
        elif part == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif part.startswith("\x1b["):
            row -= int(part[2:-1] or 1) if part.endswith("A") else 0
            lines[row] = "" if part == "\x1b[2K" else lines[row]
        else:
            lines[row] = lines[row][:column].ljust(column) + part + lines[row][column + len(part) :]
            column += len(part)
    return lines


def test_lines_of_a_run_stand_above_its_bar(videos: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(to_toml({**TINY, "run": {**TINY["run"], "steps": 6, "validate_steps": 3}}))
    words = ["train", "recipe.toml", "--data", str(videos), "--val", str(videos), "--out", "run"]
    code, written = run_in_terminal([sys.executable, "-c", WARNING_RUN, *words], cwd=tmp_path)
    screen = on_screen(written)
    assert code == 0, written
    assert "warning: skipped a clip: x.mp4" in screen, screen
    assert "warning: this is a warning" in screen
    assert [line[:7] for line in screen if "repeating the key frame" in line and "step" in line] == [
        "step 0,", "step 3,", "step 6,"
    ], screen  # fmt: skip
    assert [line for line in screen if "training" in line] == [line for line in screen if line.startswith("training ")]
    (bar,) = (place for place, line in enumerate(screen) if line.startswith("training "))
    assert not any(line.startswith(("warning", "step")) for line in screen[bar:])
    assert "100%" in screen[bar]
