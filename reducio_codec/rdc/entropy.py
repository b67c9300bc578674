"""Quantised latents to bytes and back.

Symbols are coded in groups: time position by time position, channel by channel, and within a channel first the
positions with even row and column, then those with odd ones, then the rest. A symbol's context is the magnitude of what
was decoded around it: the same channel in the time position before, the four channels before at the same place, and,
after the first positions, its four neighbours. All symbols of a group with the same context class are coded in one call.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import constriction
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reducio_codec.errors import FormatError, InputError, WeightsError
from reducio_codec.rdc.ranges import UNIT, step_units
from reducio_codec.rdc.tables import FREQUENCY_TOTAL, LADDER, THRESHOLDS, LatentTables, frequencies
from reducio_codec.rdc.varint import read_varint, write_varint
from reducio_codec.weights.layout import read_document

Symbols = npt.NDArray[np.int32]
Whole = npt.NDArray[np.int64]

LARGEST_MAGNITUDE = 1 << 20
"""Symbols of larger magnitude can't be written."""


class LatentCoder:
    """Quantiser and entropy coder of one model's latent (z, t, h, w), normalised to about unit variance."""

    def __init__(self, tables: LatentTables) -> None:
        self.tables = tables
        self.channels = len(tables.multipliers)
        self._scales = np.array(tables.scales, dtype=np.int64)  # (channel, kind, class)

    @classmethod
    def load(cls, folder: str | Path, *, channels: int = 16) -> LatentCoder:
        """The tables in a model folder's entropy.json, or generic ones where there is none."""
        path = Path(folder) / "entropy.json"
        if not path.is_file():
            return cls(LatentTables.default(channels))
        coder = cls(LatentTables.from_json(read_document(path)))
        if coder.channels != channels:
            raise WeightsError(f"{path} is for {coder.channels} channels; the model's latent has {channels}")
        return coder

    def channel_step(self, channel: int, step: float) -> int:
        """Quantiser step of a channel in units of 1/1024 standard deviation."""
        return max(1, (step_units(step) * self.tables.multipliers[channel] + UNIT // 2) // UNIT)

    def steps(self, step: float) -> Tensor:
        """Quantiser step of each channel, (z, 1, 1, 1) float32."""
        return torch.from_numpy(self._steps(step))

    def _steps(self, step: float) -> npt.NDArray[np.float32]:
        steps = [self.channel_step(channel, step) / UNIT for channel in range(self.channels)]
        return np.array(steps, dtype=np.float32)[:, None, None, None]

    def quantize(self, latent: Any, *, step: float) -> Symbols:
        """Latent (z, t, h, w) float to symbols: multiples of each channel's step, the nearest.

        Raises:
            InputError: wrong number of channels, a value that isn't finite, or one too large to write.
        """
        values = np.asarray(latent, dtype=np.float32)
        if values.ndim != 4 or values.shape[0] != self.channels:
            raise InputError(f"latent has shape {values.shape}; allowed: ({self.channels}, t, h, w)")
        if not np.isfinite(values).all():
            raise InputError("latent holds a value that isn't finite")
        symbols: npt.NDArray[np.float32] = np.rint(values / self._steps(step))
        if symbols.size and np.abs(symbols).max() > LARGEST_MAGNITUDE:
            raise InputError(f"latent holds a value of {np.abs(values).max():.3g}, too large for latent_step {step}")
        whole: Symbols = symbols.astype(np.int32)
        return whole

    def dequantize(self, symbols: Symbols, *, step: float) -> npt.NDArray[np.float32]:
        """Symbols (z, t, h, w) back to a latent, float32."""
        latent: npt.NDArray[np.float32] = symbols.astype(np.float32) * self._steps(step)
        return latent

    def code(self, latent: Any, *, step: float) -> tuple[bytes, npt.NDArray[np.float32]]:
        """A latent's (z, t, h, w) bytes, and the latent that a reader gets of them; errors as for ``quantize``."""
        symbols = self.quantize(latent, step=step)
        return self.encode(symbols, step=step), self.dequantize(symbols, step=step)

    def encode(self, symbols: Symbols, *, step: float) -> bytes:
        """Symbols (z, t, h, w) to bytes: none where all are 0. Neither shape nor step is stored."""
        if not symbols.any():
            return b""
        coder = constriction.stream.queue.RangeEncoder()
        escapes = bytearray()
        for group in self.groups(symbols, step=step):
            residual = group.residual(symbols)
            for places, model, largest in self._models(group, step=step):
                values = residual[places]
                outside = np.abs(values) > largest
                for value in values[outside]:
                    write_varint(escapes, (abs(int(value)) - largest - 1) * 2 + (value < 0))
                coder.encode(np.where(outside, 2 * largest + 1, values + largest).astype(np.int32), model)
        words: bytes = coder.get_compressed().astype("<u4").tobytes().rstrip(b"\0")
        head = bytearray()
        write_varint(head, len(escapes))
        return bytes(head + escapes) + words

    def decode(self, data: bytes, shape: tuple[int, int, int, int], *, step: float) -> Symbols:
        """The symbols that ``encode`` was given.

        Raises:
            FormatError: the bytes can't have come from ``encode``. Some damage shows only in a checksum.
        """
        if shape[0] != self.channels:
            raise FormatError(f"the file's latent has {shape[0]} channels; the model's has {self.channels}")
        if not data:
            return np.zeros(shape, dtype=np.int32)
        size, start = read_varint(data, 0)
        if size > len(data) - start:
            raise FormatError("a latent is damaged: its escapes reach past its end")
        escapes, place = data[start : start + size], 0
        words = data[start + size :] + bytes(4)
        words += bytes(-len(words) % 4)
        decoder = constriction.stream.queue.RangeDecoder(np.frombuffer(words, dtype="<u4").astype(np.uint32))
        symbols = np.zeros(shape, dtype=np.int32)
        for group in self.groups(symbols, step=step):
            residual = np.zeros(len(group.classes), dtype=np.int64)
            for places, model, largest in self._models(group, step=step):
                try:
                    values = decoder.decode(model, len(places)).astype(np.int64) - largest
                except AssertionError as error:  # what constriction raises when the words make no sense
                    raise FormatError("a latent is damaged: it holds no valid code") from error
                for i in np.flatnonzero(values > largest):
                    code, place = read_varint(escapes, place)
                    values[i] = (code // 2 + largest + 1) * (-1 if code % 2 else 1)
                residual[places] = values
            found = residual + group.prediction
            if np.abs(found).max(initial=0) > LARGEST_MAGNITUDE:
                raise FormatError("a latent is damaged: a symbol is larger than allowed")
            symbols[group.place] = found
        return symbols

    def estimate_bits(self, symbols: Symbols, *, step: float) -> float:
        """Ideal length of ``encode``'s result in bits, escapes' raw bits excluded."""
        total = 0.0
        for group in self.groups(symbols, step=step):
            residual = group.residual(symbols)
            for places, scale, width in self._contexts(group, step=step):
                counted = frequencies(scale, width)
                largest = (len(counted) - 2) // 2
                values = residual[places]
                index = np.where(np.abs(values) > largest, 2 * largest + 1, values + largest)
                total += float((16 - np.log2(counted[index])).sum())
        return total

    def groups(self, symbols: Symbols, *, step: float) -> Iterator[Group]:
        """Groups in coding order. Each is made from symbols of earlier groups alone, when it is asked for."""
        _, times, height, width = symbols.shape
        grids = _pass_grids(height, width)
        steps = [self.channel_step(channel, step) for channel in range(self.channels)]
        before = [np.zeros((height, width), np.int64) for _ in range(self.channels)]  # sums of the time position before
        for time in range(times):
            earlier: list[Whole] = []
            for channel in range(self.channels):
                plane = symbols[channel, time]
                base, weight, kind = np.zeros((height, width), np.int64), 0, 0
                if time:
                    base, weight, kind = base + before[channel], weight + 13, kind + 1
                if earlier:
                    base, weight, kind = base + sum(earlier[-4:]), weight + 13 * len(earlier[-4:]), kind + 2
                for number, (rows, columns) in enumerate(grids):
                    if not len(rows):
                        continue
                    around = weight
                    sums = base[rows, columns]
                    prediction: Whole = np.zeros(len(rows), np.int64)
                    if number:
                        near = _neighbours(plane, rows, columns, diagonal=number == 1)  # (4, n)
                        sums = sums + 4 * steps[channel] * np.abs(near).sum(0)
                        around += 16
                        prediction = (self.tables.follow[channel] * near.sum(0) + 8) // 16
                    classes = np.zeros(len(rows), np.int64)
                    if around:
                        classes = np.searchsorted(_BORDERS, sums // around, side="right")
                    yield Group(
                        channel=channel,
                        kind=kind + 4 * (number > 0),
                        place=(channel, time, rows, columns),
                        classes=classes,
                        prediction=prediction,
                    )
                before[channel] = _blur(np.abs(plane).astype(np.int64) * steps[channel])
                earlier.append(before[channel])

    def _contexts(self, group: Group, *, step: float) -> Iterator[tuple[Whole, int, int]]:
        width = self.channel_step(group.channel, step)
        scales = self._scales[group.channel, group.kind, group.classes]
        for scale in np.unique(scales):
            yield np.flatnonzero(scales == scale), LADDER[scale], width

    def _models(self, group: Group, *, step: float) -> Iterator[tuple[Whole, Any, int]]:
        for places, scale, width in self._contexts(group, step=step):
            yield places, *_model(scale, width)


@dataclass(frozen=True, kw_only=True)
class Group:
    """Symbols that are coded together, since none is another's context."""

    channel: int
    kind: int
    place: tuple[int, int, Whole, Whole]
    """Index into the symbols: channel, time position, rows, columns."""
    classes: Whole
    """(n,) context class of each."""
    prediction: Whole
    """(n,) what is subtracted before coding."""

    def residual(self, symbols: Symbols) -> Whole:
        found: Whole = symbols[self.place].astype(np.int64) - self.prediction
        return found


_BORDERS = np.array(THRESHOLDS, dtype=np.int64)


@lru_cache(maxsize=4096)
def _model(scale: int, step: int) -> tuple[Any, int]:
    counted = frequencies(scale, step)
    # frequencies / 2^16 are exact in float64, so the coder's own integers don't depend on rounding
    model = constriction.stream.model.Categorical(counted / FREQUENCY_TOTAL, perfect=False)
    return model, (len(counted) - 2) // 2


@lru_cache(maxsize=64)
def _pass_grids(height: int, width: int) -> tuple[tuple[Whole, Whole], ...]:
    """Rows and columns of each of the three passes."""
    row, column = np.divmod(np.arange(height * width), width)
    passes = np.where((row + column) % 2 == 1, 2, row % 2)
    return tuple((row[passes == i], column[passes == i]) for i in range(3))


def _neighbours(plane: Symbols, rows: Whole, columns: Whole, *, diagonal: bool) -> Whole:
    """(4, n) symbols around each position; beyond the edge the nearest of the same parity inside takes their place."""
    height, width = plane.shape
    offsets = ((-1, -1), (-1, 1), (1, -1), (1, 1)) if diagonal else ((-1, 0), (1, 0), (0, -1), (0, 1))
    found = []
    for dy, dx in offsets:
        y, x = rows + dy, columns + dx
        y = np.where((y < 0) | (y >= height), rows - dy, y)
        x = np.where((x < 0) | (x >= width), columns - dx, x)
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        found.append(np.where(inside, plane[y.clip(0, height - 1), x.clip(0, width - 1)], 0))
    return np.stack(found).astype(np.int64)


def _blur(magnitude: Whole) -> Whole:
    """Four times the position plus the sum of the 3x3 around it: a weight of 13."""
    padded = np.pad(magnitude, 1, mode="edge")
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    total: Whole = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] + 4 * magnitude
    return total
