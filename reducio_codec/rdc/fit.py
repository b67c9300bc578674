"""How a latent coder's tables are fitted to latents."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from reducio_codec.rdc.entropy import LatentCoder
from reducio_codec.rdc.ranges import UNIT
from reducio_codec.rdc.tables import CLASSES, KINDS, LADDER, LARGEST_SYMBOL, LatentTables, frequencies


def fit_tables(
    latents: Sequence[npt.NDArray[np.floating[Any]]],
    *,
    multipliers: Sequence[float] | None = None,
    steps: Sequence[float] = (0.25, 0.5, 1.0),
) -> LatentTables:
    """Tables that code sample latents, quantised at each of ``steps``, in the fewest bits.

    Args:
        latents: each (z, t, h, w), normalised.
        multipliers: quantiser step of each channel at ``latent_step`` 1, in standard deviations; 1 unless given.
    """
    channels = latents[0].shape[0]
    whole = tuple(max(1, round(m * UNIT)) for m in (multipliers if multipliers is not None else [1.0] * channels))
    base = LatentTables.default(channels)
    costs: list[npt.NDArray[np.float64]] = []  # for each prediction strength: (channel, kind, class, scale) bits
    for strength in range(5):
        tables = LatentTables(multipliers=whole, follow=(strength,) * channels, scales=base.scales)
        coder = LatentCoder(tables)
        cost = np.zeros((channels, KINDS, CLASSES, len(LADDER)))
        for step in steps:
            counts: dict[tuple[int, int], npt.NDArray[np.int64]] = {}
            for latent in latents:
                symbols = coder.quantize(latent, step=step)
                for group in coder.groups(symbols, step=step):
                    empty = np.zeros((CLASSES, LARGEST_SYMBOL + 2), np.int64)
                    table = counts.setdefault((group.channel, group.kind), empty)
                    size = np.minimum(np.abs(group.residual(symbols)), LARGEST_SYMBOL + 1)
                    np.add.at(table, (group.classes, size), 1)
            for (channel, kind), table in counts.items():
                for index, scale in enumerate(LADDER):
                    cost[channel, kind, :, index] += table @ _bits(scale, coder.channel_step(channel, step))
        costs.append(cost)
    best = np.stack([cost.min(3).sum((1, 2)) for cost in costs])  # (strength, channel)
    follow = best.argmin(0)
    scales = []
    for channel in range(channels):  # the kinds and classes that samples never reached keep the generic scale
        chosen = costs[follow[channel]][channel]
        used = chosen.sum(2) > 0
        best_scale = np.where(used, chosen.argmin(2), np.array(base.scales[channel]))
        scales.append(tuple(tuple(int(i) for i in row) for row in best_scale))
    return LatentTables(multipliers=whole, follow=tuple(int(f) for f in follow), scales=tuple(scales))


@cache
def _bits(scale: int, step: int) -> npt.NDArray[np.float64]:
    """Cost of each magnitude from 0 to ``LARGEST_SYMBOL`` + 1, sign included."""
    counted = frequencies(scale, step)
    largest = (len(counted) - 2) // 2
    escape = 16 - np.log2(counted[-1]) + 12
    bits = np.full(LARGEST_SYMBOL + 2, escape)
    bits[: largest + 1] = 16 - np.log2(counted[largest : 2 * largest + 1])
    return bits
