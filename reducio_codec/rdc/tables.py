"""The latent coder's static integer tables, which travel with a checkpoint.

No number that a network computes reaches a probability: what a symbol costs follows from symbols that were decoded
before it, by integer arithmetic, so a file decodes to the same symbols on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from reducio_codec.config import JsonConfig
from reducio_codec.errors import InputError, WeightsError
from reducio_codec.rdc.ranges import MAX_CHANNELS, UNIT

LADDER = tuple(round(4 * 1.27**i) for i in range(38))
"""Scales that a context can choose, in units: 1/256 to about 27 standard deviations, 27% apart."""

THRESHOLDS = tuple(round(4 * 1.75**i) for i in range(15))
"""Borders between context classes, in units of the weighted mean of the errors around."""

CLASSES = len(THRESHOLDS) + 1
PASSES = 5
"""In which a channel's positions are coded, from coarse to fine."""

TIMES = 4
"""Time positions that have tables of their own; any after them use the last one's."""

WEIGHT = 1 << 12
"""A context's weight of 1."""

_SHAPE_RESOLUTION = 64  # entries of the master distribution per unit of its scale
_SHAPE_REACH = 40
_SHAPE_TOTAL = 1 << 24
FREQUENCY_TOTAL = 1 << 16
"""What the frequencies of a distribution add up to."""

LARGEST_SYMBOL = 255
"""Residuals of larger magnitude are escaped."""


@cache
def _shape() -> npt.NDArray[np.int64]:
    """P(|x| < i / 64) of the unit distribution, in 1 / 2^24, as whole numbers.

    Nine tenths of a Laplace distribution and one tenth of one three times as wide. The tails are what is left to
    rounding, so the table is written with a margin that no platform's exp() can cross.
    """
    x = np.arange(_SHAPE_RESOLUTION * _SHAPE_REACH + 1) / _SHAPE_RESOLUTION
    below = 1 - 0.9 * np.exp(-x) - 0.1 * np.exp(-x / 3)
    # 2^24 grid from values rounded at 2^-20: platforms that differ in the last bits of exp() agree
    return np.rint(below * (1 << 20)).astype(np.int64) * (_SHAPE_TOTAL >> 20)


@cache
def frequencies(scale: int, step: int) -> npt.NDArray[np.int64]:
    """Frequencies of the symbols -A to A, then of the escape; they add up to ``FREQUENCY_TOTAL``.

    Args:
        scale: of the distribution, in units.
        step: of the quantiser, in units.
    """
    shape = _shape()
    edges = (2 * np.arange(LARGEST_SYMBOL + 1, dtype=np.int64) + 1) * step * (_SHAPE_RESOLUTION // 2) // scale
    within = shape[np.minimum(edges, len(shape) - 1)]  # P(|symbol| <= i)
    largest = min(int(np.searchsorted(within, within[-1])), LARGEST_SYMBOL)
    within = within[: largest + 1]
    side = np.diff(within) // 2  # symbols 1 to A, one sign
    masses = np.concatenate((side[::-1], within[:1], side, [0]))
    spare = FREQUENCY_TOTAL - len(masses)
    result = 1 + masses * spare // _SHAPE_TOTAL
    result[largest] += FREQUENCY_TOTAL - result.sum()
    return np.asarray(result, dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class LatentTables(JsonConfig):
    """What a latent coder knows of a model's latent.

    ``multipliers[c]``: quantiser step of channel c at ``latent_step`` 1, in units. ``follow[c][pass - 1]``: how much of the
    sum of the four neighbours is taken as prediction, in 1/64. ``weights[c][time][pass]``: of the sums that make a context,
    in 1/4096: the four neighbours, the time position before, the channels before. ``scales[c][time][pass][class]``: index
    into ``LADDER``.
    """

    multipliers: tuple[int, ...]
    follow: tuple[tuple[int, ...], ...]
    weights: tuple[tuple[tuple[tuple[int, ...], ...], ...], ...]
    scales: tuple[tuple[tuple[tuple[int, ...], ...], ...], ...]
    format: int = 1

    def __post_init__(self) -> None:
        for name in ("follow", "weights", "scales"):
            object.__setattr__(self, name, _tuples(getattr(self, name)))
        channels = len(self.multipliers)
        ok = (
            self.format == 1
            and 0 < channels <= MAX_CHANNELS
            and all(type(m) is int and 1 <= m <= 64 * UNIT for m in self.multipliers)
            and _good(self.follow, shape=(channels, PASSES - 1), largest=16)
            and _good(self.weights, shape=(channels, TIMES, PASSES, 3), largest=WEIGHT)
            and _good(self.scales, shape=(channels, TIMES, PASSES, CLASSES), largest=len(LADDER) - 1)
        )
        if not ok:
            raise WeightsError("the latent coder's tables (entropy.json) are damaged or of a newer format")

    @classmethod
    @cache
    def default(cls, channels: int) -> LatentTables:
        """For a model without fitted tables: each context expects what its neighbours show."""
        mean = [0, *(round(t * 1.3) for t in THRESHOLDS)]
        known = tuple(int(np.argmin([abs(np.log(s / max(m, 6))) for s in LADDER])) for m in mean)
        blind = (int(np.argmin([abs(s - 0.6 * UNIT) for s in LADDER])),) * CLASSES
        before = 4  # channels that a context looks back: from there on all channels are alike
        shape = min(channels, before + 1), TIMES, PASSES
        weights, scales = np.zeros((*shape, 3), int), np.zeros((*shape, CLASSES), int)
        for channel, time, number in np.ndindex(shape):
            counts = np.array([4 * (number > 0), time > 0, channel])
            weights[channel, time, number] = context_weights(counts > 0, counts=counts)
            scales[channel, time, number] = known if counts.any() else blind
        alike = [min(channel, before) for channel in range(channels)]
        return cls(
            multipliers=(UNIT,) * channels,
            follow=((0,) * (PASSES - 1),) * channels,
            weights=weights[alike].tolist(),
            scales=scales[alike].tolist(),
        )

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LatentTables:
        try:
            return super().from_json(data)
        except (InputError, TypeError, ValueError) as error:
            raise WeightsError(f"the latent coder's tables (entropy.json) can't be read: {error}") from error


def context_weights(shares: npt.NDArray[Any], *, counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Weights (3,) of three sums of ``counts`` addends each, so that their means count in proportion to ``shares``."""
    known = np.where(counts > 0, shares, 0)
    whole: npt.NDArray[np.int64] = np.rint(WEIGHT * known / max(known.sum(), 1e-9) / np.maximum(counts, 1)).astype(int)
    return whole


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


def _good(table: Any, *, shape: tuple[int, ...], largest: int) -> bool:
    """Whether a nested tuple has this shape, and whole numbers from 0 to ``largest`` only."""
    if not shape:
        return type(table) is int and 0 <= table <= largest
    if not isinstance(table, tuple) or len(table) != shape[0]:
        return False
    return all(_good(part, shape=shape[1:], largest=largest) for part in table)
