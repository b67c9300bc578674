"""CUT: a scene change between a clip and the one before.

clip number (varint, from 1) | u8: 1: the clip doesn't use pictures of earlier ones, 2: nor earlier clips its, 3: both
"""

from __future__ import annotations

from enum import IntFlag
from typing import ClassVar

from reducio_codec.errors import FormatError
from reducio_codec.rdc.layers.layer import Layer, Limits
from reducio_codec.rdc.varint import write_varint


class Cut(IntFlag):
    """Why two clips, one after the other, can't use each other's key frame: the scene changes. Numbers are those in files."""

    NONE = 0
    BACKWARD = 1
    """The later clip doesn't use the earlier one's: the scene changes between that and the later clip's first frame."""
    FORWARD = 2
    """The earlier clip doesn't use the later one's: the scene changes between its last frame and that."""


def pack(number: int, cut: Cut) -> bytes:
    out = bytearray()
    write_varint(out, number)
    return bytes([*out, cut])


class Cuts(Layer):
    """Concealed by no cut: a clip may then show something of the scene beside it."""

    KIND: ClassVar[int] = 7
    NAME: ClassVar[str] = "cuts"

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self.found: dict[int, Cut] = {}

    def take(self, payload: bytes, *, offset: int) -> None:
        number, place = self.limits.clip_number(payload)
        flags = payload[place:]
        if number == 0 or len(flags) != 1 or not 1 <= flags[0] <= (Cut.BACKWARD | Cut.FORWARD):
            raise FormatError(f"clip {number}: its cut record says what can't be")
        if number in self.found:
            raise FormatError(f"clip {number} has a second cut record, which is ignored")
        self.found[number] = Cut(flags[0])
