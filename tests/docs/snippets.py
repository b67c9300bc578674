"""The fenced blocks of a documentation page, and what it takes to run one."""

from __future__ import annotations

import configparser
import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from docs.include import INCLUDE, expand
from reducio_codec.cli import main

ROOT = Path(__file__).parents[2]

_PIECE = re.compile(
    r"^<!-- (?P<mark>not run|tested with): (?P<text>.+?) -->\n(?=(?:\s*```|\{\{))"
    r"|^(?P<include>\{\{ .+? \}\})$"
    r"|^(?P<indent> *)```(?P<language>\w*)\n(?P<code>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_SHELL = ("pip ", "reducio-codec ", "python ", "ffmpeg ", "accelerate ", "npm ", "ln ")
_COMMANDS = re.compile(r"(?:reducio-codec|python -m reducio_codec|-m reducio_codec)\s+([^|&#\n]+)")
_PLACEHOLDER = re.compile(r"[\[\]|]|\b(IN|OUT|CKPT|OUTDIR)\b")


@dataclass(frozen=True, kw_only=True)
class Snippet:
    """A block of python or shell."""

    language: str
    code: str
    not_run: str | None = None
    """Why it isn't run; it is compiled, or its commands and options are looked up."""
    with_words: tuple[str, ...] = ()
    """What a test adds to the command, so that it takes seconds."""


def snippets_of(page: str) -> Iterator[Snippet]:
    """In the page's order, those of what it includes among them; a mark before an include holds for all of it."""
    not_run, words = None, ()
    for piece in _PIECE.finditer(page):
        if piece["mark"] == "not run":
            not_run = piece["text"]
            continue
        if piece["mark"]:
            words = tuple(shlex.split(piece["text"]))
            continue
        if piece["include"]:
            blocks = [block for block in _PIECE.finditer(expand(piece["include"])) if block["code"] is not None]
        else:
            blocks = [piece]
        for block in blocks:
            code = re.sub(rf"^{block['indent']}", "", block["code"], flags=re.MULTILINE)
            language = block["language"] or ("bash" if code.startswith(_SHELL) else "")
            if language in ("python", "bash"):
                yield Snippet(language=language, code=code, not_run=not_run, with_words=words)
        not_run, words = None, ()


def commands_of(code: str) -> list[str]:
    """Lines without comments; those that end with a backslash go on."""
    lines = [line.partition(" #")[0].strip() for line in code.replace("\\\n", " ").splitlines()]
    return [part.strip() for line in lines for part in line.split(" && ") if part and not part.startswith("#")]


def check_command(line: str) -> None:
    """Whatever a line calls of ours exists and has the options that it is given; the extras that pip gets exist."""
    for extra in re.findall(r"\[(\w+(?:,\w+)*)\]'", line) if line.startswith("pip ") else []:
        setup = configparser.ConfigParser()
        setup.read(ROOT / "setup.cfg")
        assert set(extra.split(",")) <= set(setup["options.extras_require"]), line
    for called in _COMMANDS.findall(line):
        name, *words = called.split()
        if name.startswith("-"):
            continue
        command = main.get_command(click.Context(main), name)
        assert command is not None, f"{name}: no such command, in {line!r}"
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        given = {word.strip("[]").split("=")[0] for word in words if word.lstrip("[").startswith("-") and word != "-"}
        assert given <= known, f"{name} has no {', '.join(sorted(given - known))}, in {line!r}"


def run_command(line: str, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """A command of ours or a script of examples/, in this process."""
    check_command(line)
    program, *arguments = shlex.split(line)
    arguments += words
    if program == "pip":
        return
    if program == "reducio-codec":
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, f"{line}\n{result.output}"
    elif program == "python" and arguments[0].startswith("examples/"):
        monkeypatch.setattr(sys, "argv", [str(ROOT / arguments[0]), *arguments[1:]])
        runpy.run_path(sys.argv[0], run_name="__main__")
    else:
        pytest.fail(f"don't know how to run {line!r}; say before the block why it isn't: <!-- not run: REASON -->")


def run(snippet: Snippet, names: dict[str, Any], *, page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a block, with the names that those before it left."""
    if snippet.language == "python":
        code = compile(snippet.code, page, "exec")
        if snippet.not_run is None:
            exec(code, names)
        return
    for line in commands_of(snippet.code):
        if snippet.not_run is None:
            run_command(line, snippet.with_words, monkeypatch)
        else:
            check_command(line)


__all__ = ["INCLUDE", "ROOT", "Snippet", "check_command", "run", "snippets_of"]
