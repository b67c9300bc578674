"""AUDIO: a piece of the sound, which is a file of its own in Matroska, cut anywhere.

number of the piece, from 0 (varint) | its bytes
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from reducio_codec.errors import FormatError
from reducio_codec.rdc.layers.layer import Layer, Limits
from reducio_codec.rdc.varint import read_varint, write_varint

PIECE = 1 << 20
"""Bytes of a piece that a writer makes."""


def pack(number: int, piece: bytes) -> bytes:
    out = bytearray()
    write_varint(out, number)
    return bytes(out) + piece


class Audio(Layer):
    """Concealed by its beginning: what lies before a lost piece can be tried."""

    KIND: ClassVar[int] = 3
    NAME: ClassVar[str] = "audio"

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self._pieces: dict[int, tuple[int, int]] = {}

    def take(self, payload: bytes, *, offset: int) -> None:
        number, place = read_varint(payload, 0)
        if number in self._pieces:
            raise FormatError(f"the sound has a second piece {number}, which is ignored")
        self._pieces[number] = (offset + place, len(payload) - place)

    def pieces(self) -> list[tuple[int, int]]:
        """(offset, bytes) of the pieces, in order, up to the first that is lost."""
        found: list[tuple[int, int]] = []
        while len(found) in self._pieces:
            found.append(self._pieces[len(found)])
        return found

    def settle(self) -> Sequence[str]:
        return ["a piece of the sound is missing"] if len(self.pieces()) < len(self._pieces) else []
