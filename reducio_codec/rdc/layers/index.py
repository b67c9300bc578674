"""INDEX: the last record. How much the file holds, and when it ends.

clips (varint) | frames (varint) | when the last picture stops being shown, in ticks (signed varint; may be left out)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from reducio_codec.errors import FormatError
from reducio_codec.rdc.layers.layer import Layer, Limits
from reducio_codec.rdc.ranges import LATEST_TIME
from reducio_codec.rdc.varint import read_signed, read_varint, write_signed, write_varint


def pack(*, clips: int, frames: int, end: int | None) -> bytes:
    out = bytearray()
    write_varint(out, clips)
    write_varint(out, frames)
    if end is not None:
        write_signed(out, end)
    return bytes(out)


class Index(Layer):
    """Concealed by what was found: a file without it ends behind its last clip."""

    KIND: ClassVar[int] = 5
    NAME: ClassVar[str] = "index"

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self.count: tuple[int, int] | None = None
        """Clips and frames."""
        self.end: int | None = None

    def take(self, payload: bytes, *, offset: int) -> None:
        clips, place = read_varint(payload, 0)
        frames, place = read_varint(payload, place)
        end = None
        if place < len(payload):
            end, place = read_signed(payload, place)
        if place != len(payload) or (end is not None and abs(end) > LATEST_TIME) or not clips <= frames <= 16 * clips:
            raise FormatError(f"the index says what can't be: {clips} clips of {frames} frames, until {end}")
        if clips > self.limits.clips:
            raise FormatError(f"the index claims {clips} clips; the file's bytes hold at most {self.limits.clips}")
        if self.count is not None:
            raise FormatError("the file has a second index, which is ignored")
        self.count, self.end = (clips, frames), end

    def settle(self) -> Sequence[str]:
        return ["the end of the file is missing"] if self.count is None else []
