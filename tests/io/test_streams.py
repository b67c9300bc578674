"""Videos that come through pipes and go into them: read once, frame by frame, with the same frames and times as files."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest

from reducio_codec.errors import InputError, VideoError
from reducio_codec.io.pipe import Pipe
from reducio_codec.io.video import open_stream, open_video, read_clip
from reducio_codec.io.writer import VideoWriter
from reducio_codec.rdc.header import RdcHeader
from reducio_codec.rdc.writer import RdcWriter

MakeVideo = Callable[..., Path]
NTSC = Fraction(30000, 1001)


def write(target: Any, content: np.ndarray, **options: Any) -> None:
    height, width = content.shape[1:3]
    with VideoWriter(target, width=width, height=height, time_base=1 / NTSC, rate=NTSC, **options) as writer:
        for number, rgb in enumerate(content):
            writer.write(rgb, number)


@contextmanager
def piped(content: bytes) -> Iterator[BinaryIO]:
    """A pipe that gives these bytes."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None

        def feed() -> None:
            try:
                with process.stdin as pipe:  # type: ignore[union-attr]
                    pipe.write(content)
            except BrokenPipeError:
                pass

        thread = threading.Thread(target=feed)
        thread.start()
        try:
            yield process.stdout  # type: ignore[misc]
        finally:
            process.kill()
            thread.join()


@pytest.mark.parametrize("name", ["a.y4m", "a.mkv", "a.ts", "a.mp4", "a.gif"])
def test_a_pipe_gives_what_the_file_gives(make_video: MakeVideo, tmp_path: Path, name: str) -> None:
    path = make_video("first.mp4", frames=20)
    if name == "a.y4m":
        write(tmp_path / name, read_clip(path))
        path = tmp_path / name
    elif name == "a.mp4":
        with VideoWriter(tmp_path / name, width=64, height=48, time_base=Fraction(1, 16), rate=Fraction(16)) as writer:
            for number, rgb in enumerate(read_clip(path)):
                writer.write(rgb, number)  # its index comes first
        path = tmp_path / name
    else:
        path = (
            make_video(name, frames=20, codec="gif", pix_fmt="rgb8") if name == "a.gif" else make_video(name, frames=20)
        )
    with open_video(path) as reader, piped(path.read_bytes()) as pipe, open_stream(pipe) as (info, frames):
        known = reader.info
        assert (info.width, info.height, info.time_base) == (known.width, known.height, known.time_base)
        assert info.rate == pytest.approx(known.rate, abs=1)  # a GIF's is a guess
        expected = list(reader)
        found = list(frames)
    assert [(frame.pts, frame.duration) for frame in found] == [(frame.pts, frame.duration) for frame in expected]
    np.testing.assert_array_equal([frame.rgb for frame in found], [frame.rgb for frame in expected])


def test_an_index_at_the_end_needs_a_file(make_video: MakeVideo, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(
        0, 256, (5, 120, 160, 3), np.uint8
    )  # larger than what FFmpeg reads at once
    path = make_video("a.mp4", content=noise)
    assert path.read_bytes()[4:8] == b"ftyp" and path.read_bytes().find(b"moov") > path.read_bytes().find(b"mdat")
    with piped(path.read_bytes()) as pipe, pytest.raises(VideoError, match="index at the end can't be piped"):  # noqa: SIM117
        with open_stream(pipe) as (_, frames):
            list(frames)
    with path.open("rb") as file, open_stream(file) as (_, frames):  # as "< a.mp4" gives it
        assert len(list(frames)) == 5
    shifted = io.BytesIO(b"before" + path.read_bytes())
    shifted.seek(6)
    with open_stream(shifted) as (_, frames):
        assert len(list(frames)) == 5


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_a_cut_is_no_end(synthetic_frames: Callable[..., np.ndarray], frames: int) -> None:
    buffer = io.BytesIO()
    write(buffer, synthetic_frames(frames))
    content = buffer.getvalue()
    size = 48 * 64 * 3 // 2 + len(b"FRAME\n")
    for length in (len(content) - 1, len(content) - size + 1, len(content) - size + 8, len(content) // 2 + 3):
        with piped(content[:length]) as pipe, pytest.raises(VideoError, match=r"cut off|no frames|can't be"):  # noqa: SIM117
            with open_stream(pipe) as (_, given):
                list(given)
    with piped(content) as pipe, open_stream(pipe) as (_, given):
        assert len(list(given)) == frames


@pytest.mark.parametrize("size", [(48, 64), (47, 63), (1, 1), (2, 3), (720, 16)])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p", "yuv444p"])
def test_y4m_has_the_frames_and_their_rate(tmp_path: Path, size: tuple[int, int], pixel_format: Any) -> None:
    height, width = size
    content = np.zeros((3, height, width, 3), np.uint8)
    content[:] = np.array([200, 120, 10])  # a wrong matrix would show
    content[1] //= 2
    write(tmp_path / "a.y4m", content, pixel_format=pixel_format, sample_aspect_ratio=Fraction(4, 3))
    buffer = io.BytesIO()
    write(buffer, content, pixel_format=pixel_format, sample_aspect_ratio=Fraction(4, 3))
    assert (tmp_path / "a.y4m").read_bytes() == buffer.getvalue()
    assert not buffer.closed
    with open_video(tmp_path / "a.y4m") as reader:
        info, clip = reader.info, np.stack([frame.rgb for frame in reader])
    assert (info.rate, info.sample_aspect_ratio, info.colour.pixel_format) == (NTSC, Fraction(4, 3), pixel_format)
    assert clip.shape == content.shape
    assert np.abs(clip.astype(int) - content).max() <= 3


def test_other_programs_read_y4m_with_the_same_colours(tmp_path: Path) -> None:
    """Its matrix isn't in the file: below 720 lines they take BT.601."""
    import imageio_ffmpeg

    content = np.full((2, 48, 64, 3), (200, 40, 90), np.uint8)
    write(tmp_path / "a.y4m", content)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", "-", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    with (tmp_path / "a.y4m").open("rb") as file:
        out = subprocess.run(command, stdin=file, capture_output=True, check=True, timeout=60).stdout
    assert np.abs(np.frombuffer(out, np.uint8).reshape(content.shape).astype(int) - content).max() <= 3


def test_a_file_that_fails_is_not_there(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError),
        VideoWriter(tmp_path / "a.y4m", width=4, height=4, time_base=1 / NTSC, rate=NTSC) as w,
    ):
        w.write(np.zeros((4, 4, 3), np.uint8), 0)
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("a.y4m", {"crf": 5}, "crf=5 has no effect on Y4M"),
        ("a.y4m", {"lossless": True}, "lossless=True has no effect on Y4M"),
        ("a.y4m", {"pixel_format": "rgb24"}, "pixel_format is 'rgb24'; allowed: yuv420p"),
        ("a.mp4", {"pixel_format": "yuv420p"}, "no effect on a.mp4"),
        ("a.mp4", {"replace": True}, "no effect on .*a.mp4"),
        ("frames", {"pixel_format": "yuv420p"}, "no effect on PNG"),
    ],
)
def test_what_would_do_nothing_is_refused(tmp_path: Path, name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        write(tmp_path / name, np.zeros((1, 16, 16, 3), np.uint8), **options)
    assert list(tmp_path.iterdir()) == []


class Endless(io.RawIOBase):
    """Y4M without an end that counts what was read."""

    def __init__(self) -> None:
        self.given = 0
        self._rest = b"YUV4MPEG2 W320 H240 F25:1 Ip C420mpeg2\n"

    def read(self, size: int = -1) -> bytes:
        while len(self._rest) < size:
            self._rest += b"FRAME\n" + bytes(320 * 240 * 3 // 2)
        data, self._rest = self._rest[:size], self._rest[size:]
        self.given += len(data)
        return data


def test_a_pipe_is_read_as_frames_are_asked_for() -> None:
    pipe = Endless()
    with open_stream(pipe) as (info, frames):  # type: ignore[arg-type]
        assert info.frames is None
        first = pipe.given
        assert first < 20e6  # what FFmpeg looks at to know what it is
        for _ in range(200):
            next(frames)
    assert pipe.given < first + 200 * 120_000


def test_frames_of_a_pipe_come_as_soon_as_they_are_there(tmp_path: Path) -> None:
    """As from a camera. Three frames are less than FFmpeg asks for at once; only the third says how long the second is shown."""
    write(tmp_path / "a.y4m", np.zeros((4, 48, 64, 3), np.uint8))
    content = (tmp_path / "a.y4m").read_bytes()
    frame = 64 * 48 * 3 // 2 + len("FRAME\n")
    theirs, ours = os.pipe()
    with os.fdopen(theirs, "rb") as pipe, os.fdopen(ours, "wb", buffering=0) as camera:
        camera.write(content[:-frame])

        def end() -> None:  # for a reader that waits for it, which fails
            camera.write(content[-frame:])
            camera.close()

        last = threading.Timer(60, end)
        last.start()
        with open_stream(pipe) as (_, frames):
            assert [next(frames).pts, next(frames).pts] == [0, 1]
            assert last.is_alive()
            last.cancel()


def test_a_pipe_that_does_not_wait_is_read_to_its_end() -> None:
    """Who shares a pipe sets it so for all, and to have nothing yet is not to be at the end then."""
    content = os.urandom(50_000)
    theirs, ours = os.pipe()
    os.set_blocking(theirs, False)
    with os.fdopen(theirs, "rb") as pipe, os.fdopen(ours, "wb", buffering=0) as source:

        def feed() -> None:
            for start in range(0, len(content), 10_000):
                time.sleep(0.02)
                source.write(content[start : start + 10_000])
            source.close()

        thread = threading.Thread(target=feed)
        thread.start()
        read = Pipe(pipe).read
        assert b"".join(iter(lambda: read(7_000), b"")) == content
        thread.join()


@pytest.mark.parametrize("what", ["y4m", "rdc"])
def test_a_pipe_without_a_buffer_gets_every_byte(what: str) -> None:
    """It takes a part of what it is given where its reader is slow, or where a disk gets full, and says how much."""

    def fill(target: BinaryIO) -> None:
        if what == "y4m":
            write(target, np.zeros((20, 64, 96, 3), np.uint8))
        else:
            header = RdcHeader(model="a", latent_space="b", width=1, height=1, time_base=Fraction(1), step=512)
            RdcWriter(target, header).record(0x55, bytes(150_000))

    fill(whole := io.BytesIO())
    theirs, ours = os.pipe()
    os.set_blocking(ours, False)
    found: list[bytes] = []

    def drain() -> None:
        time.sleep(0.1)
        with os.fdopen(theirs, "rb") as pipe:
            found.append(pipe.read())

    thread = threading.Thread(target=drain)
    thread.start()
    with os.fdopen(ours, "wb", buffering=0) as raw:
        fill(raw)  # type: ignore[arg-type]
    thread.join()
    assert found == [whole.getvalue()]


def test_uneven_times_are_told_and_rounded_ones_are_not(caplog: pytest.LogCaptureFixture) -> None:
    rgb = np.zeros((16, 16, 3), np.uint8)
    for pts, told in (((0, 33, 67, 100, 133, 167), False), ((0, 33, 67, 120, 133), True)):
        caplog.clear()
        millisecond = Fraction(1, 1000)
        with VideoWriter(io.BytesIO(), width=16, height=16, time_base=millisecond, rate=Fraction(30)) as writer:  # type: ignore[arg-type]
            for when in pts:
                writer.write(rgb, when)
        assert ("not evenly spaced in time, and Y4M can't keep that" in caplog.text) == told


def test_what_gives_no_bytes_is_refused() -> None:
    with pytest.raises(InputError, match="gives str, not bytes"), open_stream(io.StringIO("text" * 100)):  # type: ignore[arg-type]
        pass


def test_ctrl_c_is_not_the_end_of_the_video(tmp_path: Path) -> None:
    """FFmpeg waits for bytes then, and would take an error for the end."""
    code = (
        "import sys\n"
        "from reducio_codec.io.termination import exit_on_sigterm\n"
        "from reducio_codec.io.video import open_stream\n"
        "exit_on_sigterm()\n"
        "try:\n"
        "    with open_stream(sys.stdin.buffer) as (info, frames):\n"
        "        for frame in frames:\n"
        "            print(frame.pts, flush=True)\n"
        "    print('the end')\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted')\n"
    )
    environment = {"PYTHONPATH": str(Path(__file__).resolve().parents[2]), "PATH": ""}
    for number, words, status in ((signal.SIGINT, "interrupted", 0), (signal.SIGTERM, "", 143)):
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        assert process.stdin is not None and process.stdout is not None
        pipe = Endless()
        process.stdin.write(pipe.read(12_000_000))
        process.stdin.flush()
        assert process.stdout.readline().strip() == b"0"
        process.send_signal(number)
        seen = process.stdout.read().decode().split("\n")
        process.stdin.close()
        assert process.wait(60) == status
        assert "the end" not in seen and seen[-2 if words else -1] == words
        process.stdout.close()
