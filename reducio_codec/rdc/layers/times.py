"""TIMES: when the frames of a clip are shown, where that doesn't follow from the file's rate.

    clip number (varint) | zlib (RFC 1950): for each frame the distance to the time before, in ticks (signed varint)

The first distance is from 0.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import ClassVar

from reducio_codec.config import CLIP_LENGTH
from reducio_codec.errors import FormatError
from reducio_codec.rdc.layers.layer import Clip, Layer, Limits
from reducio_codec.rdc.ranges import LATEST_TIME
from reducio_codec.rdc.varint import read_signed, write_signed, write_varint

_LONGEST = 9
"""Bytes of a time."""


def pack(number: int, times: Sequence[int]) -> bytes:
    """The times of a clip's frames, in ticks."""
    out, deltas, last = bytearray(), bytearray(), 0
    write_varint(out, number)
    for time in times:
        write_signed(deltas, time - last)
        last = time
    return bytes(out) + zlib.compress(bytes(deltas), 9)


class Times(Layer):
    """Concealed by the file's rate: frames are shown as if it were constant."""

    KIND: ClassVar[int] = 4
    NAME: ClassVar[str] = "times"

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self._found: dict[int, tuple[int, ...]] = {}

    def take(self, payload: bytes, *, offset: int) -> None:
        number, place = self.limits.clip_number(payload)
        if number in self._found:
            raise FormatError(f"clip {number} has a second times record, which is ignored")
        self._found[number] = _unpack(payload[place:], number=number)

    def of(self, clip: Clip) -> tuple[int, ...] | None:
        """The times of a clip's frames, in ticks, where the file has them."""
        times = self._found.get(clip.index)
        return times if times is not None and len(times) == clip.frames else None

    def lacks(self, clip: Clip) -> str | None:
        if self.of(clip) is not None or (self.limits.header.frame_duration and clip.index not in self._found):
            return None
        return "its times are damaged or missing"


def _unpack(data: bytes, *, number: int) -> tuple[int, ...]:
    inflate = zlib.decompressobj()
    try:
        deltas = inflate.decompress(data, CLIP_LENGTH * _LONGEST + 1)
    except zlib.error as error:
        raise FormatError(f"clip {number}: its times are damaged: {error}") from error
    times: list[int] = []
    last, place = 0, 0
    while place < len(deltas) and len(times) <= CLIP_LENGTH:
        delta, place = read_signed(deltas, place)
        last += delta
        times.append(last)
    if not inflate.eof or inflate.unused_data or not 1 <= len(times) <= CLIP_LENGTH:
        raise FormatError(f"clip {number}: its times record holds other than 1 to {CLIP_LENGTH} times")
    if any(abs(time) > LATEST_TIME for time in times):
        raise FormatError(f"clip {number}: it claims a time beyond {LATEST_TIME} ticks")
    return tuple(times)
