"""Odd numbers and values, and how bytes and records are changed."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from reducio_codec.errors import FormatError
from reducio_codec.rdc.varint import read_varint
from tests.fuzz.records import (
    Pieces,
)

ODD_NUMBERS = (
    0, 1, 2, 5, 15, 16, 17, 127, 128, 254, 255, 256, 1023, 16383, 16384, 16385, (1 << 16) - 1, 1 << 28, (1 << 31) - 1, 1 << 31,
    1 << 32, 1 << 40, 1 << 60, (1 << 60) + 1, (1 << 63) - 1,
)  # fmt: skip
ODD_VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2, 3, 16, 17, 4096, 16384, 16385, 1 << 31, (1 << 31) - 1, -(1 << 60), 1 << 60, 1 << 64,
    10**400, 0.5, 1e308, float("nan"), float("inf"), "", "a", "avif", "png", "jpeg", "webp", "bt709", "\u0000", "\ud800",
    "x" * 60_000, "é" * 257, [], {}, [0, 0], [1, 0], [0, 1], [1, 1], [-1, 1], [1, 1 << 31], [(1 << 31) - 1, 1],
    [1, (1 << 31) - 1], [16, 4], [16, 5], [65536, 16], [1, 2, 3], ["1", "2"], [[1], [2]], {"a": 1},
)  # fmt: skip


def flip(rng: random.Random, data: bytes, *, most: int = 4) -> bytes:
    """Bits turned, bytes put in, left out or repeated, the end cut."""
    out = bytearray(data)
    for _ in range(rng.randint(1, most)):
        place = rng.randrange(len(out) + 1)
        match rng.randrange(6):
            case 0 | 1 if place < len(out):
                out[place] ^= 1 << rng.randrange(8)
            case 2 if place < len(out):
                out[place] = rng.choice((0, 1, 127, 128, 255))
            case 3:
                out[place:place] = rng.randbytes(rng.randint(1, 5))
            case 4:
                del out[place : place + rng.randint(1, 9)]
            case _:
                if rng.random() < 0.3:
                    del out[place:]
                else:
                    out[place:place] = out[place : place + rng.randint(1, 40)]
    return bytes(out)


def numbers(payload: bytes, count: int) -> tuple[list[int], int]:
    """The varints that a payload begins with, and where they end."""
    found, place = [], 0
    try:
        while len(found) < count:
            value, place = read_varint(payload, place)
            found.append(value)
    except FormatError:
        pass
    return found, place


def change(rng: random.Random, pieces: Pieces, kinds: Sequence[int], how: Callable[[int, bytes], bytes]) -> Pieces:
    """Some records of these kinds, made anew."""
    records = list(pieces.records)
    places = [i for i, (kind, _) in enumerate(records) if kind in kinds]
    for place in rng.sample(places, min(len(places), rng.randint(1, 3))):
        kind, payload = records[place]
        records[place] = kind, how(kind, payload)
    return replace(pieces, records=tuple(records))
