"""An ``.rdc`` file in pieces that can be changed and put together again, with every check and checksum right."""

from __future__ import annotations

import io
import json
import struct
import zlib
from dataclasses import dataclass, replace

from reducio_codec.rdc.header import _DICTIONARY, MAGIC, VERSION, RdcHeader
from reducio_codec.rdc.reader import RdcReader
from reducio_codec.rdc.records import Scanner, pack_record
from reducio_codec.rdc.varint import write_varint

PICTURE, LATENT, AUDIO, TIMES, INDEX, CUT = 1, 2, 3, 4, 5, 7
NUMBERS = {PICTURE: 2, LATENT: 1, AUDIO: 1, TIMES: 1, INDEX: 3, CUT: 1}
"""How many varints each kind of payload begins with."""


@dataclass(frozen=True)
class Pieces:
    """A file: its header's text, its records as (kind, payload)."""

    header: bytes
    records: tuple[tuple[int, bytes], ...]

    @classmethod
    def of(cls, data: bytes) -> Pieces:
        reader = RdcReader(io.BytesIO(data))
        found = Scanner(io.BytesIO(data), start=reader._body, size=len(data))
        text = inflate(reader.header.pack())
        return cls(text, tuple((record.kind, record.payload) for record in found))

    def say(self, **values: object) -> Pieces:
        """With other values in the header."""
        return replace(self, header=json.dumps({**json.loads(self.header), **values}).encode())

    def join(self) -> bytes:
        return head(deflate(self.header)) + b"".join(pack_record(kind, payload) for kind, payload in self.records)


def head(packed: bytes) -> bytes:
    """A file's beginning, around a deflated header."""
    out = bytearray([*MAGIC, VERSION])
    write_varint(out, len(packed))
    return bytes(out) + struct.pack("<I", zlib.crc32(packed)) + packed


def deflate(text: bytes) -> bytes:
    packer = zlib.compressobj(9, wbits=-15, zdict=_DICTIONARY)
    return packer.compress(text) + packer.flush()


def inflate(packed: bytes) -> bytes:
    return zlib.decompressobj(wbits=-15, zdict=_DICTIONARY).decompress(packed)


def varint(value: int) -> bytes:
    out = bytearray()
    write_varint(out, value)
    return bytes(out)


HEADER_KEYS = tuple(RdcHeader.__dataclass_fields__)
