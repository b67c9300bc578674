"""How long an MP4 says that a track is shown. FFmpeg gives the times between decoded pictures, which aren't those between
shown ones where pictures are reordered."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

_CONTAINERS = (b"moov", b"trak", b"edts")


def track_end(path: Path, *, track: int) -> Fraction | None:
    """Seconds at which the edit list of a track ends; None where there is none, or what it says can't be (ISO/IEC 14496-12)."""
    scale = duration = number = 0
    with path.open("rb") as file:
        for kind, body in _boxes(file, 0, path.stat().st_size):
            if kind == b"mvhd":
                scale = int.from_bytes(body[20:24] if body[0] else body[12:16], "big")
            elif kind == b"tkhd":
                wide = body[0] != 0
                number = int.from_bytes(body[20:24] if wide else body[12:16], "big")
                duration = int.from_bytes(body[28:36] if wide else body[20:24], "big")
            elif kind == b"elst" and number == track:
                unknown = duration in (0, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
                return None if unknown or not scale else Fraction(duration, scale)
    return None


def _boxes(file: BinaryIO, at: int, end: int) -> Iterator[tuple[bytes, bytes]]:
    """Kind and first 40 bytes of the boxes down to those of a track, in the file's order."""
    while at + 8 <= end:
        file.seek(at)
        head = file.read(16)
        size, kind, body = int.from_bytes(head[:4], "big"), head[4:8], at + 8
        if size == 1:
            size, body = int.from_bytes(head[8:16], "big"), at + 16
        if size < body - at:
            return
        if kind in _CONTAINERS:
            yield from _boxes(file, body, min(end, at + size))
        else:
            file.seek(body)
            yield kind, file.read(40).ljust(40, b"\0")
        at += size
