"""A second decoder of latents, written from FORMAT.md alone with plain integers, reads what the product writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from reducio_codec.rdc.entropy import LatentCoder
from reducio_codec.rdc.tables import LADDER, THRESHOLDS, LatentTables, frequencies
from reducio_codec.rdc.varint import read_varint
from reducio_codec.weights.zoo import BUNDLED
from tests.rdc.test_golden import GOLDEN, STEPS

Symbols = list[list[list[list[int]]]]


class RangeDecoder:
    """64 bits of state, words of 32 bits, probabilities in 2^24."""

    def __init__(self, data: bytes) -> None:
        padded = data + bytes(-len(data) % 4)
        self.words = [int.from_bytes(padded[i : i + 4], "little") for i in range(0, len(padded), 4)]
        self.lower, self.range, self.point = 0, 2**64 - 1, 0
        for _ in range(2):
            self.point = self.point << 32 | self._word()

    def _word(self) -> int:
        return self.words.pop(0) if self.words else 0

    def decode(self, counts: list[int]) -> int:
        scale = self.range >> 24
        quantile = (self.point - self.lower) % 2**64 // scale
        assert quantile < 2**24
        spare, total = 2**24 - len(counts), 0
        for symbol, count in enumerate(counts):
            left = total * spare // 2**16 + symbol
            total += count
            right = total * spare // 2**16 + symbol + 1 if symbol + 1 < len(counts) else 2**24
            if quantile < right:
                break
        self.lower = (self.lower + scale * left) % 2**64
        self.range = scale * (right - left)
        if self.range < 2**32:
            self.lower = self.lower << 32 & 2**64 - 1
            self.range <<= 32
            self.point = (self.point << 32 & 2**64 - 1) | self._word()
        return symbol


def passes(height: int, width: int) -> Iterator[list[tuple[int, int]]]:
    places = [(y, x) for y in range(height) for x in range(width)]
    yield [(y, x) for y, x in places if y % 2 == 0 and x % 2 == 0]
    yield [(y, x) for y, x in places if y % 2 == 1 and x % 2 == 1]
    yield [(y, x) for y, x in places if (y + x) % 2 == 1]


def near(plane: list[list[int]], y: int, x: int, number: int) -> list[int]:
    height, width = len(plane), len(plane[0])
    offsets = ((-1, -1), (-1, 1), (1, -1), (1, 1)) if number == 1 else ((-1, 0), (1, 0), (0, -1), (0, 1))
    found = []
    for dy, dx in offsets:
        row = y + dy if 0 <= y + dy < height else y - dy
        column = x + dx if 0 <= x + dx < width else x - dx
        found.append(plane[row][column] if 0 <= row < height and 0 <= column < width else 0)
    return found


def blur(plane: list[list[int]], step: int) -> list[list[int]]:
    height, width = len(plane), len(plane[0])

    def at(y: int, x: int) -> int:
        return abs(plane[min(max(y, 0), height - 1)][min(max(x, 0), width - 1)]) * step

    return [
        [4 * at(y, x) + sum(at(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)) for x in range(width)]
        for y in range(height)
    ]


def decode(data: bytes, shape: tuple[int, int, int, int], *, step: int, tables: LatentTables) -> Symbols:
    """Symbols [channel][time][row][column]; ``step`` in 1/1024."""
    channels, times, height, width = shape
    symbols = [[[[0] * width for _ in range(height)] for _ in range(times)] for _ in range(channels)]
    if not data:
        return symbols
    size, start = read_varint(data, 0)
    escapes, place = data[start : start + size], 0
    coder = RangeDecoder(data[start + size :])
    before: list[list[list[int]]] = []
    for time in range(times):
        now: list[list[list[int]]] = []
        for channel in range(channels):
            own = max(1, (step * tables.multipliers[channel] + 512) // 1024)
            plane = symbols[channel][time]
            for number, grid in enumerate(passes(height, width)):
                known = (1 if time else 0) + (2 if channel else 0) + (4 if number else 0)
                coded = []
                for y, x in grid:
                    total, weight, prediction = 0, 0, 0
                    if time:
                        total, weight = total + before[channel][y][x], weight + 13
                    for other in now[-4:]:
                        total, weight = total + other[y][x], weight + 13
                    if number:
                        around = near(plane, y, x, number)
                        total, weight = total + 4 * own * sum(map(abs, around)), weight + 16
                        prediction = (tables.follow[channel] * sum(around) + 8) // 16
                    context = sum(border <= total // weight for border in THRESHOLDS) if weight else 0
                    coded.append((tables.scales[channel][known][context], y, x, prediction))
                for scale, y, x, prediction in sorted(coded, key=lambda item: item[0]):  # stable
                    counts = frequencies(LADDER[scale], own).tolist()
                    largest = len(counts) // 2 - 1
                    residual = coder.decode(counts) - largest
                    if residual > largest:
                        code, place = read_varint(escapes, place)
                        residual = (code // 2 + largest + 1) * (-1 if code % 2 else 1)
                    plane[y][x] = residual + prediction
            now.append(blur(plane, own))
        before = now
    return symbols


@pytest.mark.parametrize("name", ["default", "reducio-lite"])
def test_it_reads_the_golden_symbols(name: str) -> None:
    tables = LatentTables.default(16) if name == "default" else LatentCoder.load(BUNDLED / name).tables
    for clip, step in zip(np.load(GOLDEN / "symbols.npy"), STEPS, strict=True):
        data = LatentCoder(tables).encode(clip, step=step)
        assert np.array_equal(decode(data, clip.shape, step=round(1024 * step), tables=tables), clip)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 2, 5, 4), (6, 3, 1, 7), (2, 2, 2, 2)])
def test_it_reads_random_symbols(shape: tuple[int, int, int, int], tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    tables = LatentTables(
        multipliers=tuple(rng.integers(300, 3000, shape[0]).tolist()),
        follow=tuple(rng.integers(0, 5, shape[0]).tolist()),
        scales=tuple(tuple(tuple(rng.integers(0, 38, 16).tolist()) for _ in range(8)) for _ in range(shape[0])),
    )
    symbols = np.rint(rng.laplace(scale=5, size=shape)).astype(np.int32)
    data = LatentCoder(tables).encode(symbols, step=0.3)
    assert np.array_equal(decode(data, shape, step=round(1024 * 0.3), tables=tables), symbols)
