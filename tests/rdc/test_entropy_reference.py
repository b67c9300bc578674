"""A second decoder of latents, written from FORMAT.md alone with plain integers, reads what the product writes."""

from __future__ import annotations

import itertools
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


def pass_of(y: int, x: int) -> int:
    if y % 2 == 0 and x % 2 == 0:
        return 2 if y % 4 != x % 4 else y % 4 // 2
    return 3 if y % 2 == 1 and x % 2 == 1 else 4


def near(plane: list[list[int]], y: int, x: int) -> list[int]:
    height, width, number = len(plane), len(plane[0]), pass_of(y, x)
    if number == 0:
        return []
    far = 2 if number in (1, 2) else 1
    if number in (1, 3):
        offsets = ((-far, -far), (-far, far), (far, -far), (far, far))
    else:
        offsets = ((-far, 0), (far, 0), (0, -far), (0, far))
    found = []
    for dy, dx in offsets:
        row = y + dy if 0 <= y + dy < height else y - dy
        column = x + dx if 0 <= x + dx < width else x - dx
        found.append(plane[row][column] if 0 <= row < height and 0 <= column < width else 0)
    return found


def decode(data: bytes, shape: tuple[int, int, int, int], *, step: int, tables: LatentTables) -> Symbols:
    """Symbols [channel][time][row][column]; ``step`` in 1/1024."""
    channels, times, height, width = shape
    symbols = [[[[0] * width for _ in range(height)] for _ in range(times)] for _ in range(channels)]
    errors = [[[[0] * width for _ in range(height)] for _ in range(times)] for _ in range(channels)]
    if not data:
        return symbols
    size, start = read_varint(data, 0)
    escapes, place = data[start : start + size], 0
    coder = RangeDecoder(data[start + size :])
    for time, channel, number in itertools.product(range(times), range(channels), range(5)):
        own = max(1, (step * tables.multipliers[channel] + 512) // 1024)
        plane, error = symbols[channel][time], errors[channel][time]
        weights = tables.weights[channel][min(time, 3)][number]
        coded = []
        for y, x in itertools.product(range(height), range(width)):
            if pass_of(y, x) != number:
                continue
            sums = (
                sum(near(error, y, x)),
                errors[channel][time - 1][y][x] if time else 0,
                sum(errors[other][time][y][x] for other in range(max(0, channel - 4), channel)),
            )
            value = sum(weight * part for weight, part in zip(weights, sums, strict=True)) // 4096
            context = sum(border <= value for border in THRESHOLDS)
            prediction = (tables.follow[channel][number - 1] * sum(near(plane, y, x)) + 32) // 64 if number else 0
            coded.append((tables.scales[channel][min(time, 3)][number][context], y, x, prediction))
        for scale, y, x, prediction in sorted(coded, key=lambda item: item[0]):  # stable
            counts = frequencies(LADDER[scale], own).tolist()
            largest = len(counts) // 2 - 1
            residual = coder.decode(counts) - largest
            if residual > largest:
                code, place = read_varint(escapes, place)
                residual = (code // 2 + largest + 1) * (-1 if code % 2 else 1)
            plane[y][x] = residual + prediction
            error[y][x] = abs(residual) * own
    return symbols


@pytest.mark.parametrize("name", ["default", "reducio-lite"])
def test_it_reads_the_golden_symbols(name: str) -> None:
    tables = LatentTables.default(16) if name == "default" else LatentCoder.load(BUNDLED / name).tables
    for clip, step in zip(np.load(GOLDEN / "symbols.npy"), STEPS, strict=True):
        data = LatentCoder(tables).encode(clip, step=step)
        assert np.array_equal(decode(data, clip.shape, step=round(1024 * step), tables=tables), clip)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (3, 2, 5, 4), (6, 6, 1, 7), (2, 6, 2, 2), (5, 1, 9, 11)])
def test_it_reads_random_symbols(shape: tuple[int, int, int, int], tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    tables = LatentTables(
        multipliers=tuple(rng.integers(300, 3000, shape[0]).tolist()),
        follow=rng.integers(0, 17, (shape[0], 4)).tolist(),
        weights=rng.integers(0, 1500, (shape[0], 4, 5, 3)).tolist(),
        scales=rng.integers(0, 38, (shape[0], 4, 5, 16)).tolist(),
    )
    symbols = np.rint(rng.laplace(scale=5, size=shape)).astype(np.int32)
    data = LatentCoder(tables).encode(symbols, step=0.3)
    assert np.array_equal(decode(data, shape, step=round(1024 * 0.3), tables=tables), symbols)
