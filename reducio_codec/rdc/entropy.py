"""Quantised latents to bytes and back.

Symbols are coded in groups: time position by time position, channel by channel, and within a channel in five passes from
coarse to fine, each of which is predicted from the four neighbours that it lies between. A symbol's context is how large the
errors of these predictions were around it: at its four neighbours, in the same channel in the time position before, and in
the four channels before at the same place. All symbols of a group with the same scale are coded in one call.
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
from reducio_codec.rdc.tables import (
    FREQUENCY_TOTAL,
    LADDER,
    PASSES,
    THRESHOLDS,
    TIMES,
    WEIGHT,
    LatentTables,
    frequencies,
)
from reducio_codec.rdc.varint import read_varint, write_varint
from reducio_codec.weights.layout import read_document

Symbols = npt.NDArray[np.int32]
Whole = npt.NDArray[np.int64]

LARGEST_MAGNITUDE = 1 << 20
"""Symbols of larger magnitude can't be written."""


class LatentCoder:
    """Quantiser and entropy coder of one model's latent (z, t, h, w), normalised to about unit variance.

    Args:
        tables: what it knows of the latent.
        stored: what the model folder's file says, of which they come.
    """

    def __init__(self, tables: LatentTables, *, stored: bytes | None = None) -> None:
        self.tables = tables
        self._stored = stored
        self.channels = len(tables.multipliers)
        self._weights = np.array(tables.weights, dtype=np.int64)  # (channel, time, pass, 3)
        self._scales = np.array(tables.scales, dtype=np.int64)  # (channel, time, pass, class)

    @classmethod
    def load(cls, folder: str | Path, *, channels: int = 16) -> LatentCoder:
        """The tables in a model folder's entropy.json, or generic ones where there is none."""
        path = Path(folder) / "entropy.json"
        if not path.is_file():
            return cls(LatentTables.default(channels))
        coder = cls(LatentTables.from_json(read_document(path)), stored=path.read_bytes())
        if coder.channels != channels:
            raise WeightsError(f"{path} is for {coder.channels} channels; the model's latent has {channels}")
        return coder

    @property
    def to_store(self) -> bytes | dict[str, Any] | None:
        """What a model folder's entropy.json is to hold: byte for byte what was loaded, since files name its hash; None for the
        generic tables, which aren't stored."""
        if self._stored is not None:
            return self._stored
        return None if self.tables == LatentTables.default(self.channels) else self.tables.to_json()

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
            residual = np.zeros(len(group.prediction), dtype=np.int64)
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
        steps = [self.channel_step(channel, step) for channel in range(self.channels)]
        errors = np.zeros((self.channels, height, width), np.int64)  # of each channel, in units: the newest there are
        for time in range(times):
            for channel in range(self.channels):
                plane, before = symbols[channel, time], errors[channel].copy()
                others = errors[max(0, channel - 4) : channel].sum(0)
                for number, part in enumerate(passes(height, width)):
                    rows, columns = part.rows, part.columns
                    if not len(rows):
                        continue
                    sums = np.zeros((3, len(rows)), np.int64)
                    sums[1], sums[2] = before[rows, columns], others[rows, columns]
                    prediction: Whole = np.zeros(len(rows), np.int64)
                    if number:
                        sums[0] = part.neighbours(errors[channel])
                        prediction = (self.tables.follow[channel][number - 1] * part.neighbours(plane) + 32) // 64
                    yield Group(
                        table=(channel, min(time, TIMES - 1), number),
                        place=(channel, time, rows, columns),
                        sums=sums,
                        prediction=prediction,
                    )
                    errors[channel, rows, columns] = np.abs(plane[rows, columns] - prediction) * steps[channel]

    def _contexts(self, group: Group, *, step: float) -> Iterator[tuple[Whole, int, int]]:
        width = self.channel_step(group.table[0], step)
        scales = self._scales[group.table][classes(self._weights[group.table], group.sums)]
        order = np.argsort(scales, kind="stable")  # places of one scale lie side by side, in ascending order
        counts = np.bincount(scales)
        end = 0
        for scale in np.flatnonzero(counts).tolist():
            start, end = end, end + int(counts[scale])
            yield order[start:end], LADDER[scale], width

    def _models(self, group: Group, *, step: float) -> Iterator[tuple[Whole, Any, int]]:
        for places, scale, width in self._contexts(group, step=step):
            yield places, *_model(scale, width)


@dataclass(frozen=True, kw_only=True)
class Group:
    """Symbols that are coded together, since none is another's context."""

    table: tuple[int, int, int]
    """Channel, time position (the last that has tables, at most) and pass: where the tables have its weights and scales."""
    place: tuple[int, int, Whole, Whole]
    """Index into the symbols: channel, time position, rows, columns."""
    sums: Whole
    """(3, n) errors of prediction, in units: of the four neighbours, the time position before, up to four channels before."""
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


def classes(weights: Whole, sums: Whole) -> Whole:
    """(n,) context class of a group's sums (3, n)."""
    return np.searchsorted(_BORDERS, weights @ sums // WEIGHT, side="right")


@dataclass(frozen=True, kw_only=True)
class Pass:
    """Positions of a plane that are coded together, each between four of earlier passes."""

    rows: Whole
    columns: Whole
    around: Whole
    """(4, n) the neighbours' places in the plane, row by row; one behind the last where there is none."""

    def neighbours(self, plane: Symbols | Whole) -> Whole:
        """(..., h, w) to (..., n): the sums of the four."""
        flat = plane.reshape(*plane.shape[:-2], -1)
        nothing = np.zeros_like(flat[..., :1])
        total: Whole = np.concatenate((flat, nothing), -1)[..., self.around].sum(-2, dtype=np.int64)
        return total


@lru_cache(maxsize=64)
def passes(height: int, width: int) -> tuple[Pass, ...]:
    """The five passes. Beyond the edge the position on the other side is the neighbour, where there is one."""
    row, column = np.divmod(np.arange(height * width), width)
    coarse = np.where((row // 2 + column // 2) % 2 == 1, 2, row // 2 % 2)  # of the even rows and columns
    number = np.where((row + column) % 2 == 1, 4, np.where(row % 2 == 1, 3, coarse))
    found = []
    for index in range(PASSES):
        rows, columns = row[number == index], column[number == index]
        far = 2 if index < 3 else 1
        diagonal = ((-far, -far), (-far, far), (far, -far), (far, far))
        around = []
        for dy, dx in diagonal if index % 2 == 1 else ((-far, 0), (far, 0), (0, -far), (0, far)):
            y = np.where((rows + dy < 0) | (rows + dy >= height), rows - dy, rows + dy)
            x = np.where((columns + dx < 0) | (columns + dx >= width), columns - dx, columns + dx)
            inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
            around.append(np.where(inside, y * width + x, height * width))
        found.append(Pass(rows=rows, columns=columns, around=np.stack(around)))
    return tuple(found)
