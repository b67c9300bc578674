"""The FFmpeg program of the package ``imageio-ffmpeg``, for what PyAV is built without: libvmaf and VVenC.

It is GPL software and called as a process only; this package neither links nor ships it (extra ``[bench]``).
"""

from __future__ import annotations

import importlib
import subprocess
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np

from bench.methods import Frames
from reducio_codec.errors import InputError, MissingDependencyError, VideoError
from reducio_codec.io.colour import FromRgb


@cache
def program() -> str:
    """Path of the program. MissingDependencyError says how to get it."""
    try:
        package = importlib.import_module("imageio_ffmpeg")
        return str(package.get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:  # RuntimeError: no program for this system
        raise MissingDependencyError(
            "VMAF and VVenC need: pip install 'reducio-codec[bench]' (imageio-ffmpeg)"
        ) from error


@cache
def version() -> str:
    """As the program says it, for result files."""
    return call(["-version"]).decode().split(" Copyright")[0].removeprefix("ffmpeg version ")


class HungError(VideoError):
    """The program did not come to an end in the time that it was given."""


def call(
    arguments: Sequence[str], *, data: bytes = b"", folder: Path | None = None, seconds: float | None = None
) -> bytes:
    """Run the program in ``folder`` with ``data`` on its standard input, and return its output.

    Raises:
        VideoError: it failed. HungError: it was still running after ``seconds``, and has been killed.
    """
    command = [program(), "-hide_banner", "-loglevel", "error", *arguments]
    try:
        done = subprocess.run(command, input=data, capture_output=True, cwd=folder, check=False, timeout=seconds)
    except subprocess.TimeoutExpired as error:
        raise HungError(f"FFmpeg's program was still running after {seconds:.0f} s") from error
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
        raise VideoError(f"FFmpeg's program failed: {lines[0]}")
    return done.stdout


def raw(frames: Frames, *, pixel_format: str) -> bytes:
    """``(T, H, W, 3)`` to planes, frame after frame, BT.709 limited range. Sides must be even."""
    height, width = frames.shape[1:3]
    if height % 2 or width % 2:
        raise InputError(f"frames are {width}x{height}; 4:2:0 needs even sides")
    convert = FromRgb(pixel_format=pixel_format, width=width, height=height)
    return b"".join(convert(picture).to_ndarray().tobytes() for picture in frames)


def raw_input(path: str, *, frames: Frames, rate: Fraction, pixel_format: str) -> list[str]:
    """Arguments that make the program read such planes."""
    size = f"{frames.shape[2]}x{frames.shape[1]}"
    return ["-f", "rawvideo", "-pix_fmt", pixel_format, "-s", size, "-r", str(rate), "-i", path]


def from_raw(data: bytes, *, height: int, width: int, pixel_format: str) -> list[av.VideoFrame]:
    """Planes of 4:2:0 with two bytes a sample back to frames."""
    planes = np.frombuffer(data, "<u2").reshape(-1, height * 3 // 2, width)
    return [av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=pixel_format) for picture in planes]
