"""Whole numbers in as few bytes as they need: seven bits a byte, the lowest first."""

from __future__ import annotations

from reducio_codec.errors import FormatError


def write_varint(out: bytearray, value: int) -> None:
    """A number from 0 on."""
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)


def read_varint(data: bytes, place: int) -> tuple[int, int]:
    """(value, place behind it); FormatError at the end of the data or beyond 63 bits."""
    value = 0
    for shift in range(0, 63, 7):
        if place >= len(data):
            raise FormatError("a number reaches past the end of its record")
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    raise FormatError("a number has more than nine bytes")


def write_signed(out: bytearray, value: int) -> None:
    """A number of either sign: 0, -1, 1, -2, 2 ... are written as 0, 1, 2, 3, 4 ..."""
    write_varint(out, value * 2 if value >= 0 else -value * 2 - 1)


def read_signed(data: bytes, place: int) -> tuple[int, int]:
    """What ``write_signed`` wrote, and the place behind it; errors as for ``read_varint``."""
    code, place = read_varint(data, place)
    return code // 2 if code % 2 == 0 else -(code + 1) // 2, place
