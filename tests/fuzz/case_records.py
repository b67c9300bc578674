"""Mutations of a file's records: their numbers, order, lengths and counts."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Sequence
from dataclasses import replace

from reducio_codec.rdc.records import pack_record
from tests.fuzz.odd import ODD_NUMBERS, change, flip, numbers
from tests.fuzz.records import (
    CUT,
    INDEX,
    LATENT,
    NUMBERS,
    TIMES,
    Pieces,
    varint,
)


def odd_numbers(rng: random.Random, files: Sequence[Pieces]) -> bytes:
    """Varints at their limits where a record's fields are."""

    def how(kind: int, payload: bytes) -> bytes:
        found, place = numbers(payload, NUMBERS.get(kind, 1))
        for i in range(len(found)):
            if rng.random() < 0.6:
                found[i] = rng.choice((rng.choice(ODD_NUMBERS), max(0, found[i] + rng.randint(-3, 3))))
        rest = payload[place:] if rng.random() < 0.8 else b"\xff" * rng.randint(0, 12)
        return b"".join(map(varint, found)) + rest

    return change(rng, rng.choice(files), tuple(NUMBERS), how).join()


def odd_latent(rng: random.Random, files: Sequence[Pieces]) -> bytes:
    """Flags and what they announce."""

    def how(kind: int, payload: bytes) -> bytes:
        found, place = numbers(payload, 1)
        flags, said = rng.randrange(256), bytearray()
        if flags & 16:
            said += varint(rng.choice((16, 15, 16384, 16385, 512, rng.choice(ODD_NUMBERS))))
        if flags & 32:
            said += varint(rng.choice((0, 1, 2, 33, rng.choice(ODD_NUMBERS))))
        if flags & 64:
            said.append(rng.randrange(18))
        if flags & 128:
            said += varint(rng.choice((0, 1, 2, 16, 17)))
        return b"".join(map(varint, found)) + bytes([flags]) + bytes(said) + payload[place + 1 :]

    return change(rng, rng.choice(files), (LATENT,), how).join()


def odd_order(rng: random.Random, files: Sequence[Pieces]) -> bytes:
    """Records in any order, repeated, left out, of kinds that there aren't."""
    pieces = rng.choice(files)
    records = list(pieces.records)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(records)) if records else 0
        match rng.randrange(5):
            case 0:
                rng.shuffle(records)
            case 1 if records:
                records[place:place] = records[place : place + rng.randint(1, 3)] * rng.randint(1, 30)
            case 2:
                del records[place : place + rng.randint(1, 3)]
            case 3 if records:
                records[place] = rng.randrange(256), records[place][1]
            case _:
                records.insert(place, (rng.randrange(256), rng.randbytes(rng.randrange(20))))
    return replace(pieces, records=tuple(records)).join()


def lying_counts(rng: random.Random, files: Sequence[Pieces]) -> bytes:
    """An index of other clips and frames, and clips moved."""
    pieces = rng.choice(files)
    clips = sum(kind == LATENT for kind, _ in pieces.records)
    said = [max(0, clips + rng.randint(-2, 40)), rng.choice((16 * clips, rng.randrange(700), rng.choice(ODD_NUMBERS)))]
    if rng.random() < 0.5:
        said.append(rng.choice(ODD_NUMBERS))
    records = [(kind, payload) for kind, payload in pieces.records if kind != INDEX]
    index = INDEX, b"".join(map(varint, said))
    step = rng.randint(1, 3)

    def how(kind: int, payload: bytes) -> bytes:
        found, place = numbers(payload, 1)
        return b"".join(varint(number * step) for number in found) + payload[place:]

    moved = [(kind, how(kind, payload) if kind in (LATENT, TIMES, CUT) else payload) for kind, payload in records]
    return replace(pieces, records=(*(moved if rng.random() < 0.4 else records), index)).join()


def lying_lengths(rng: random.Random, files: Sequence[Pieces]) -> bytes:
    """Heads whose check agrees and whose length doesn't."""
    pieces = rng.choice(files)
    out = bytearray(replace(pieces, records=()).join())
    for kind, payload in pieces.records:
        if rng.random() < 0.3:
            claimed = rng.choice((0, len(payload) + rng.randint(-5, 50), (1 << 28) - 1, 1 << 28, 1 << 50))
            start = bytes([kind]) + varint(max(0, claimed))
            sum_ = zlib.crc32(payload[:claimed]) if rng.random() < 0.5 else rng.getrandbits(32)
            out += start + struct.pack("<HI", zlib.crc32(start) & 0xFFFF, sum_) + payload
        else:
            out += pack_record(kind, payload)
    return bytes(out)


def mixed(rng: random.Random, files: Sequence[Pieces]) -> bytes:
    """Records of two files under one header."""
    one, two = rng.sample(list(files), 2) if len(files) > 1 else (files[0], files[0])
    records = [*one.records, *two.records]
    if rng.random() < 0.7:
        records = [record for record in records if rng.random() < 0.6]
    if rng.random() < 0.5:
        rng.shuffle(records)
    return replace(one, records=tuple(records)).join()


def raw_bytes(rng: random.Random, files: Sequence[Pieces]) -> bytes:
    """Bytes of the file turned, cut, repeated: checksums don't agree."""
    data = rng.choice(files).join()
    if rng.random() < 0.2:
        return data + data[rng.randrange(len(data)) :] if rng.random() < 0.5 else data[: rng.randrange(len(data))]
    return flip(rng, data, most=rng.choice((1, 4, 40)))
