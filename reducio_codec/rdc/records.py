"""Records: how the pieces of a file are framed, and found again behind damage.

    record   type (u8) | payload length (varint, at most 4 bytes) | check (u16, of the two before) | CRC-32 | payload

A reader goes from record to record. Where one isn't intact it looks for the next place whose check and checksum agree. Any
file of n bytes is read in O(n): checksums of payloads that turn out wrong are only taken as long as all of them together
stay within a few times what was read, so that heads made to claim the same bytes again and again cost nothing.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from reducio_codec.errors import FormatError
from reducio_codec.rdc.varint import read_varint, write_varint

MAX_PAYLOAD = (1 << 28) - 1
"""Bytes of a record: what four bytes of a length can say."""

LEAST_RECORD = 1 + 1 + 2 + 4
"""Bytes of an empty record."""

_LENGTH_BYTES = 4
LONGEST_HEAD = 1 + _LENGTH_BYTES + 2 + 4
_BLOCK = 1 << 16
_SPARE = 1 << 20
_REPAID = 4
"""Bytes of failed checksums that each byte read allows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """An intact record of a file."""

    kind: int
    place: int
    """Where its head starts."""
    offset: int
    """Where its payload starts."""
    payload: bytes

    @property
    def end(self) -> int:
        return self.offset + len(self.payload)


def pack_record(kind: int, payload: bytes) -> bytes:
    """The bytes of a record."""
    assert len(payload) <= MAX_PAYLOAD
    head = bytearray([kind])
    write_varint(head, len(payload))
    return bytes(head) + struct.pack("<HI", zlib.crc32(head) & 0xFFFF, zlib.crc32(payload)) + payload


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """The beginning of a record, intact."""

    kind: int
    size: int
    """Bytes of the head itself."""
    length: int
    """Bytes of the payload behind it."""
    checksum: int
    """Of the payload."""


def read_head(data: bytes) -> Head | None:
    """The head that ``data`` begins with, if that is one; ``LONGEST_HEAD`` bytes are enough."""
    try:
        length, end = read_varint(data, 1)
    except FormatError:
        return None
    if length > MAX_PAYLOAD or len(data) < end + 6:
        return None
    check, checksum = struct.unpack_from("<HI", data, end)
    if check != zlib.crc32(data[:end]) & 0xFFFF:
        return None
    return Head(kind=data[0], size=end + 6, length=length, checksum=checksum)


class Scanner:
    """Finds the records of a file of ``size`` bytes that can seek, from byte ``start`` on."""

    def __init__(self, file: BinaryIO, *, start: int, size: int) -> None:
        self._file, self._start, self._size = file, start, size
        self._heads: npt.NDArray[np.int64] = np.zeros(
            0, np.int64
        )  # places from ``_first`` to ``_last`` that may be heads
        self._first = self._last = start
        self._spent = 0
        self.damage: list[str] = []
        """Where the file is damaged, in words."""

    def __iter__(self) -> Iterator[Record]:
        place, lost = self._start, False
        while place < self._size:
            record = self._record(place)
            if record is not None:
                yield record
                place, lost = record.end, False
                continue
            if not lost:
                self.damage.append(f"damaged from byte {place} on")
            lost = True
            place = self._next_head(place + 1)

    def read(self, offset: int, length: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(length)

    def _record(self, place: int) -> Record | None:
        """The record that starts at ``place``, if there is one, and its payload may still be looked at."""
        head = read_head(self.read(place, LONGEST_HEAD))
        if head is None:
            return None
        offset, length = place + head.size, head.length
        allowed = self._size + _SPARE + _REPAID * (place - self._start) - self._spent
        if length > min(allowed, self._size - offset):
            return None
        payload = self.read(offset, length)
        if zlib.crc32(payload) != head.checksum:
            self._spent += length
            return None
        return Record(kind=head.kind, place=place, offset=offset, payload=payload)

    def _next_head(self, place: int) -> int:
        """The next place, from ``place`` on, whose head agrees; the end if there is none."""
        while place < self._size:
            if not self._first <= place < self._last:
                block = self.read(place, _BLOCK + LONGEST_HEAD)
                self._heads = place + _find_heads(block)
                self._first, self._last = place, min(place + _BLOCK, self._size)
            found = int(np.searchsorted(self._heads, place))
            if found < len(self._heads):
                return int(self._heads[found])
            place = self._last
        return self._size


def _find_heads(block: bytes) -> npt.NDArray[np.int64]:
    """Places among the first 65,536 bytes of ``block`` where a record's head agrees with its check."""
    count = min(len(block), _BLOCK)
    data = np.frombuffer(block + bytes(LONGEST_HEAD), np.uint8).astype(np.uint32)
    register = _crc_step(np.full(count, 0xFFFFFFFF, np.uint32), data[:count])
    open_length, found = np.ones(count, bool), np.zeros(count, bool)
    for length in range(1, _LENGTH_BYTES + 1):
        byte = data[length : length + count]
        register = _crc_step(register, byte)
        check = data[length + 1 : length + 1 + count] | data[length + 2 : length + 2 + count] << 8
        found |= open_length & (byte < 128) & ((~register & 0xFFFF) == check)
        open_length &= byte >= 128
    return np.flatnonzero(found)


def _crc_step(register: npt.NDArray[np.uint32], byte: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    stepped: npt.NDArray[np.uint32] = _CRC_TABLE[(register ^ byte) & 255] ^ (register >> 8)
    return stepped


def _crc_table() -> npt.NDArray[np.uint32]:
    """CRC-32 (IEEE 802.3, as zlib has it) of single bytes, for many places at once."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ np.uint32(0xEDB88320), table >> 1)
    return table


_CRC_TABLE = _crc_table()
