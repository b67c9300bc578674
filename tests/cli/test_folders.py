"""``encode FOLDER`` and ``decode FOLDER``, as real processes."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from reducio_codec.cli import main
from reducio_codec.cli.folder import cores, share_cores
from reducio_codec.codec import ReducioCodec
from reducio_codec.io.video import read_clip

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
MODEL = ("-m", "reducio-test")
JOB = ("--jobs", "1")
MakeVideo = Callable[..., Path]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "reducio_codec", *map(str, arguments)]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=240, check=False)


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


@pytest.fixture
def videos(make_video: MakeVideo, tmp_path: Path) -> Path:
    """a.mp4 and a.mkv, sub/b.mp4, one that is no video, and what is none by its name."""
    folder = tmp_path / "videos"
    (folder / "sub").mkdir(parents=True)
    for number, name in enumerate(("a.mp4", "a.mkv", "b.mp4")):
        make_video(name, frames=3 + number)
    (tmp_path / "a.mp4").rename(folder / "a.mp4")
    (tmp_path / "a.mkv").rename(folder / "a.mkv")
    (tmp_path / "b.mp4").rename(folder / "sub" / "b.mp4")
    (folder / "bad.mp4").write_bytes(b"no video at all")
    (folder / "notes.txt").write_text("none either")
    return folder


def test_there_and_back(videos: Path, tmp_path: Path) -> None:
    rdc, back = tmp_path / "new" / "rdc", tmp_path / "back"
    done = run("encode", videos, "-o", rdc, *MODEL, "--jobs", 2)
    assert done.returncode == 1
    assert names(rdc) == ["a.mkv.rdc", "a.mp4.rdc", "sub/b.rdc"]
    lines = done.stdout.splitlines()
    assert [line[:5] for line in lines[:-1]] == ["[1/4]", "[2/4]", "[3/4]"]
    assert any(str(rdc / "sub" / "b.rdc") in line and "5 frames" in line and "kbit/s" in line for line in lines)
    assert lines[-1] == f"{rdc}: 3 written"
    assert done.stderr.splitlines()[:2] == ["failed: bad.mp4", "error: 1 of 4 failed:"]
    assert "bad.mp4 can't be read as a video" in done.stderr.splitlines()[2] and len(done.stderr.splitlines()) == 3

    # interrupted within one file, mended in another: only those are done again
    (videos / "bad.mp4").write_bytes((videos / "a.mp4").read_bytes())
    half = rdc / "sub" / "b.rdc"
    content = half.read_bytes()
    half.write_bytes(content[: len(content) // 2])
    (rdc / ".0123456789abcdef.tmp").write_bytes(b"of a process that was killed")
    kept = (rdc / "a.mp4.rdc").stat().st_mtime_ns
    done = run("encode", videos, "-o", rdc, *MODEL, *JOB)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == f"{rdc}: 2 written, 2 were there already"
    assert half.read_bytes() == content
    assert (rdc / "a.mp4.rdc").stat().st_mtime_ns == kept

    (rdc / "damaged.rdc").write_bytes(content[:-40])
    done = run("decode", rdc, "-o", back, "--lossless", "--precision", "float32", *JOB)
    assert done.returncode == 1 and "damaged.rdc" in done.stderr.splitlines()[-1]
    assert names(back) == ["a.mkv.mkv", "a.mp4.mkv", "bad.mkv", "sub/b.mkv"]
    with ReducioCodec.from_pretrained("reducio-test").open_file(half) as video:
        np.testing.assert_array_equal(read_clip(back / "sub" / "b.mkv"), video[:])


def test_what_is_older_than_its_video_is_replaced_with_force_only(videos: Path, tmp_path: Path) -> None:
    (videos / "bad.mp4").unlink()
    rdc = tmp_path / "rdc"
    rdc.mkdir()
    codec = ReducioCodec.from_pretrained("reducio-test")
    for name, source in (("a.mp4", "a.mp4"), ("a.mkv", "a.mkv")):
        codec.compress(videos / source, rdc / f"{name}.rdc")
    (rdc / "sub").mkdir()
    codec.compress(videos / "a.mp4", rdc / "sub" / "b.rdc")
    precious = (rdc / "sub" / "b.rdc").read_bytes()
    os.utime(videos / "sub" / "b.mp4", (time.time() + 100,) * 2)
    done = run("encode", videos, "-o", rdc, *MODEL)
    assert done.returncode == 1 and "--force" in done.stderr and "sub/b.rdc" in done.stderr
    assert (rdc / "sub" / "b.rdc").read_bytes() == precious
    done = run("encode", videos, "-o", rdc, *MODEL, "--force", *JOB)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == f"{rdc}: 3 written"
    assert (rdc / "sub" / "b.rdc").read_bytes() != precious


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["encode", "videos"], 2, ("pictures", "-o", "folder")),
        (["encode", "videos", "-o", "out.rdc"], 2, ("pictures", "-o", "folder")),
        (["encode", "videos", "-o", "videos/a.mp4"], 2, ("pictures", "-o", "folder")),
        (["decode", "rdc", "-o", "videos/a.mp4"], 2, ("rdc is a folder", "videos/a.mp4 is not")),
        (["encode", "empty", "-o", "out"], 2, ("no videos", ".mkv", "pictures")),
        (["encode", "videos/a.mp4", "-o", "x.rdc", "--jobs", "2"], 2, ("--jobs 2 has no effect on one video",)),
        (["encode", "pictures", "-o", "x.rdc", "--jobs", "2"], 2, ("--jobs 2 has no effect on one video",)),
        (["decode", "rdc"], 2, ("rdc is a folder", "-o")),
        (["decode", "rdc", "-o", "out.mkv"], 2, ("out.mkv is the name of a file", "folder")),
        (["decode", "rdc", "-o", "-"], 2, ("folder",)),
        (["decode", "rdc", "-o", "rdc"], 2, ("rdc is the folder of the .rdc files",)),
        (["decode", "empty", "-o", "out"], 2, ("no .rdc files",)),
        (["decode", "rdc", "--frames", "out"], 2, ("--frames out has no effect on a folder",)),
        (["decode", "rdc", "-o", "out", "--pix-fmt", "yuv444p"], 2, ("--pix-fmt yuv444p has no effect",)),
        (["decode", "rdc/a.rdc", "--jobs", "2"], 2, ("--jobs 2 has no effect on one file",)),
        (["encode", "videos", "-o", "out", *MODEL, *JOB, "--decoder", "odd", "--effort", "1"], 2, ("odd", "allowed")),
        (["encode", "videos", "-o", "out", *MODEL, "--target-psnr", "30", "--step", "1"], 2, ("--step",)),
    ],
)
def test_what_is_wrong_for_all_is_one_line(
    videos: Path, arguments: list[str], code: int, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(videos.parent)
    for name in ("empty", "rdc", "pictures"):
        Path(name).mkdir()
    Path("rdc", "a.rdc").write_bytes(b"none")
    Image.new("RGB", (32, 32)).save("pictures/0.png")
    before = names(Path())
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == code, done.output
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and "a bug" not in line
    assert all(word in line for word in words), line
    assert names(Path()) == before


def test_pictures_are_one_video_still(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pictures").mkdir()
    for number in range(2):
        Image.new("RGB", (32, 32), (90 * number, 0, 0)).save(f"pictures/{number}.png")
    Path("pictures", "making-of.mp4").write_bytes(b"beside them")
    for output in ([], ["-o", "a.rdc"], ["-o", "-"]):
        assert CliRunner().invoke(main, ["encode", "pictures", *output, *MODEL]).exit_code == 0
    Path("pictures", "making-of.mp4").unlink()
    assert CliRunner().invoke(main, ["encode", "pictures", "-o", "named", *MODEL]).exit_code == 0
    assert names(tmp_path) == ["a.rdc", "named", "pictures.rdc", "pictures/0.png", "pictures/1.png"]


def test_cores_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert share_cores(2, files=9, device="cpu") == (2, None)
    monkeypatch.delenv("OMP_NUM_THREADS")
    for files in (1, 3, 100):
        processes, threads = share_cores(None, files=files, device="cpu")
        assert threads is not None and threads >= 1
        assert processes <= files and processes * threads <= cores()
    assert share_cores(4 * cores(), files=1000, device="cpu") == (4 * cores(), 1)
    assert share_cores(None, files=0, device="cpu")[0] == 1
    assert share_cores(None, files=9, device="cuda")[0] == 1


@pytest.fixture
def long_videos(make_video: MakeVideo, tmp_path: Path) -> Path:
    """Two that take long enough to be interrupted."""
    folder = tmp_path / "long"
    folder.mkdir()
    first = make_video("a.mp4", frames=1000)
    (folder / "b.mp4").write_bytes(first.read_bytes())
    first.rename(folder / "a.mp4")
    return folder


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert condition()


def group_is_gone(number: int) -> bool:
    try:
        os.killpg(number, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.fixture
def working(long_videos: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process with two others, each in the middle of a file."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "reducio_codec", "encode", str(long_videos), "-o", str(out), *MODEL, "--jobs", "2"]
    with subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            wait_for(lambda: out.is_dir() and len(list(out.glob(".*.tmp"))) == 2)
            yield process
        finally:
            if not group_is_gone(process.pid):
                os.killpg(process.pid, signal.SIGKILL)


def test_ctrl_c_ends_all_and_leaves_nothing_by_half(working: subprocess.Popen[str], tmp_path: Path) -> None:
    os.killpg(working.pid, signal.SIGINT)  # as a terminal does: to all of them
    out, err = working.communicate(timeout=120)
    assert (working.returncode, out, err) == (130, "", "interrupted\n")
    assert names(tmp_path / "out") == []
    wait_for(lambda: group_is_gone(working.pid))


def test_a_terminal_shows_files_and_frames(videos: Path, tmp_path: Path) -> None:
    (videos / "bad.mp4").unlink()
    (videos / "a.mkv").unlink()
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "reducio_codec", "encode", str(videos), "-o", str(tmp_path / "out"), *MODEL, *JOB]
    environment = {**ENVIRONMENT, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=theirs, text=True) as process:
        os.close(theirs)
        seen = b""
        while True:
            try:
                seen += os.read(ours, 1 << 16)
            except OSError:  # Linux's way to say that nobody is at the other end
                break
            if process.poll() is not None and not seen:
                break
        out, _ = process.communicate(timeout=120)
    os.close(ours)
    assert process.returncode == 0
    assert b"files" in seen and b"sub/b.mp4" in seen and b"2/2" in seen
    assert b"frames/s" not in seen and len(out.splitlines()) == 3  # what isn't progress goes where it was sent
