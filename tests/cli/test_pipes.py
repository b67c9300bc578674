"""Videos in pipes, pictures and players: real processes on both sides."""

from __future__ import annotations

import fcntl
import os
import shlex
import signal
import subprocess
import sys
import termios
import time
from array import array
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from reducio_codec.cli import main
from reducio_codec.codec import ReducioCodec
from reducio_codec.io.video import open_video, read_clip

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
PROGRAM = f"{shlex.quote(sys.executable)} -m reducio_codec"
MODEL = ("-m", "reducio-test")


@pytest.fixture
def rdc(make_video: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """20 frames of 64x48 as clip.y4m and clip.rdc in the current folder."""
    monkeypatch.chdir(tmp_path)
    codec = ReducioCodec.from_pretrained("reducio-test")
    codec.compress(make_video("clip.mp4", frames=20), "first.rdc")
    codec.decompress("first.rdc", "clip.y4m")
    codec.compress("clip.y4m", "clip.rdc")
    for name in ("clip.mp4", "first.rdc"):
        Path(name).unlink()
    return tmp_path / "clip.rdc"


def shell(line: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["sh", "-c", line.replace("RC", PROGRAM)], env=ENVIRONMENT, capture_output=True, timeout=240, check=False
    )


def run(*arguments: object, **options: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], **options)  # type: ignore[arg-type]


def refused(done: Result, *words: str, code: int = 2) -> None:
    assert done.exit_code == code, done.output
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and all(word in line for word in words), line


def test_through_pipes_all_the_way(rdc: Path, tmp_path: Path) -> None:
    import imageio_ffmpeg

    ffmpeg = shlex.quote(imageio_ffmpeg.get_ffmpeg_exe())
    done = shell(
        f"{ffmpeg} -v error -i clip.y4m -f yuv4mpegpipe - | RC encode - -o - -m reducio-test | tee piped.rdc | "
        f"RC decode - -o - | {ffmpeg} -v error -i - -f framecrc -"
    )
    assert done.returncode == 0, done.stderr
    assert Path("piped.rdc").read_bytes() == rdc.read_bytes()
    frames = [line for line in done.stdout.decode().splitlines() if not line.startswith("#")]
    assert len(frames) == 20
    assert [line.split(": ")[-1] for line in done.stderr.decode().splitlines() if "encode" not in line][
        -1
    ] == "20 frames"


def test_y4m_on_standard_output_is_the_file(rdc: Path) -> None:
    done = run("decode", rdc, "-o", "-")
    assert done.exit_code == 0 and done.stderr == "-: 20 frames\n"
    assert run("decode", rdc, "-o", "out.y4m").exit_code == 0
    assert done.stdout_bytes == Path("out.y4m").read_bytes()
    with open_video("out.y4m") as reader:
        assert (reader.info.rate, reader.info.colour.pixel_format) == (16, "yuv420p")
    assert run("decode", rdc, "-o", "large.y4m", "--pix-fmt", "yuv444p").exit_code == 0
    with ReducioCodec.from_pretrained("reducio-test").open_file(rdc) as video:
        assert np.abs(read_clip("large.y4m").astype(int) - video[:]).max() <= 3
    refused(run("decode", rdc, "-o", "out.mp4", "--pix-fmt", "yuv444p"), "--pix-fmt yuv444p has no effect on out.mp4")
    refused(run("decode", rdc, "-o", "-", "--lossless"), "--lossless has no effect on Y4M")
    refused(run("decode", rdc, "-o", "out.y4m"), "exists", "--force")


def test_a_pipe_that_breaks_within_a_frame_makes_no_file(rdc: Path, tmp_path: Path) -> None:
    content = Path("clip.y4m").read_bytes()
    refused(run("encode", "-", "-o", "x.rdc", *MODEL, input=content[:-5]), "19 frames", "cut off", code=1)
    refused(run("encode", "-", "-o", "x.rdc", *MODEL, input=b""), code=1)
    refused(run("encode", "-", "-o", "x.rdc", *MODEL, input=b"no video"), "can't be read", code=1)
    refused(run("encode", "-", *MODEL, input=content), "-o OUT.rdc")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.rdc", "clip.y4m"]


def waits_for_more(process: subprocess.Popen[bytes]) -> bool:
    """It has read all that was written, and has had the time to come back for more."""
    left = array("i", [0])
    fcntl.ioctl(process.stdin, termios.FIONREAD, left)  # type: ignore[arg-type]
    if left[0] == 0:
        time.sleep(0.5)
    return left[0] == 0


def ended(process: subprocess.Popen[bytes], *, seconds: float = 120) -> int:
    """Its exit code; where it goes on instead, the failure says where it is."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)
        pytest.fail(f"still running:\n{process.stderr.read().decode()}")  # type: ignore[union-attr]


def test_ctrl_c_while_waiting_for_frames(rdc: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-X", "faulthandler", "-m", "reducio_codec", "encode", "-", "-o", "x.rdc", *MODEL]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=ENVIRONMENT, **pipes) as process:  # type: ignore[call-overload]
        process.stdin.write(Path("clip.y4m").read_bytes()[:-5])
        process.stdin.flush()
        deadline = time.monotonic() + 120
        while not (list(tmp_path.glob(".*.tmp")) and waits_for_more(process)) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        assert ended(process) == 130
        assert process.stderr.read() == b"interrupted\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.rdc", "clip.y4m"]


def test_pictures(rdc: Path) -> None:
    done = run("decode", rdc, "--frames", "out.d", "--precision", "float32")
    assert (done.exit_code, done.stdout) == (0, "out.d: 20 frames\n")
    files = sorted(Path("out.d").iterdir())
    assert [path.name for path in files] == [f"{number:05d}.png" for number in range(20)]
    with ReducioCodec.from_pretrained("reducio-test").open_file(rdc) as video:
        for number, path in enumerate(files):
            picture = Image.open(path)
            assert picture.mode == "RGB"
            np.testing.assert_array_equal(np.asarray(picture), video[number])


def test_pictures_of_a_damaged_file(rdc: Path) -> None:
    content = bytearray(rdc.read_bytes())
    content[-30] ^= 255
    refused(run("decode", "-", "--frames", "out", input=bytes(content)), code=1)
    assert not Path("out").exists()
    done = run("decode", "-", "--frames", "out", "--on-error", "conceal", input=bytes(content))
    assert done.exit_code == 0 and done.stderr.startswith("warning: ")
    assert len(list(Path("out").iterdir())) == 20


def test_a_folder_that_is_not_empty_is_kept_without_force(rdc: Path) -> None:
    Path("out").mkdir()
    for name in ("00007.png", "00099.png", "cover.png", "notes.txt"):
        Path("out", name).write_bytes(b"before")
    refused(run("decode", rdc, "--frames", "out"), "out is not empty", "--force")
    assert len(list(Path("out").iterdir())) == 4
    assert run("decode", rdc, "--frames", "out", "--force").exit_code == 0
    names = sorted(path.name for path in Path("out").iterdir())
    assert names == [*(f"{number:05d}.png" for number in range(20)), "cover.png", "notes.txt"]
    assert Path("out", "00007.png").read_bytes() != b"before"
    refused(run("decode", rdc, "--frames", "clip.y4m"), "clip.y4m is not a folder")
    refused(run("decode", rdc, "--frames", "new", "-o", "a.mp4"), "--frames and -o")
    refused(run("decode", rdc, "--frames", "new", "--lossless"), "--frames and --lossless")
    refused(run("decode", rdc, "--frames", "new", "--pix-fmt", "yuv420p"), "--pix-fmt", "PNG")
    refused(run("decode", rdc, "--frames", "no/new"), "doesn't exist")
    assert not Path("new").exists()


def player(name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program of this name is all that is installed."""
    folder = Path("bin").absolute()
    folder.mkdir()
    (folder / name).write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


@pytest.mark.parametrize("name", ["ffplay", "mpv"])
def test_a_player_gets_the_frames_and_their_rate(rdc: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    player(name, 'printf "%s\\n" "$@" >arguments; cat >seen.y4m', monkeypatch)
    done = run("play", rdc)
    assert (done.exit_code, done.output) == (0, "")
    assert run("decode", rdc, "-o", "out.y4m").exit_code == 0
    assert Path("seen.y4m").read_bytes() == Path("out.y4m").read_bytes()
    assert "clip.rdc" in Path("arguments").read_text() and Path("arguments").read_text().endswith("-\n")


def test_a_window_that_is_closed_early_is_no_error(rdc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    player("ffplay", "head -c 100 >seen", monkeypatch)
    done = run("play", "-", input=rdc.read_bytes())
    assert (done.exit_code, done.output) == (0, "")


def test_what_goes_wrong_while_playing_is_one_line(rdc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    player("ffplay", "cat >/dev/null; exit 3", monkeypatch)
    refused(run("play", rdc), "ffplay ended with exit code 3", code=1)
    refused(run("play", "none.rdc"), "none.rdc doesn't exist")
    rdc.write_bytes(rdc.read_bytes()[:60])
    refused(run("play", rdc, *MODEL), "clip.rdc", code=1)


def test_without_a_player_others_are_named(rdc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    refused(run("play", rdc), "ffplay and mpv", "'decode' writes a video", code=1)
    shown = "'view' shows the file in a browser"
    assert (shown in run("play", rdc).stderr) == ("view" in main.list_commands(None))  # type: ignore[arg-type]
    monkeypatch.setattr(type(main), "list_commands", lambda *_: ["decode", "view"])
    refused(run("play", rdc), shown, code=1)
