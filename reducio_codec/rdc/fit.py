"""How a latent coder's tables are fitted to latents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from reducio_codec.rdc.entropy import LatentCoder, Symbols, classes, passes
from reducio_codec.rdc.ranges import UNIT
from reducio_codec.rdc.tables import CLASSES, LADDER, LARGEST_SYMBOL, PASSES, LatentTables, context_weights, frequencies

Table = tuple[int, int, int]
Samples = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], int]
"""Sums (3, n), magnitudes (n,) of what is coded, the channel's step in units."""


def fit_tables(
    latents: Sequence[npt.NDArray[np.floating[Any]]],
    *,
    multipliers: Sequence[float] | None = None,
    steps: Sequence[float] = (0.25, 0.5, 1.0),
) -> LatentTables:
    """Tables that code sample latents, quantised at each of ``steps``, in few bits.

    Args:
        latents: each (z, t, h, w), normalised.
        multipliers: quantiser step of each channel at ``latent_step`` 1, in standard deviations; 1 unless given.
    """
    channels = latents[0].shape[0]
    whole = tuple(max(1, round(m * UNIT)) for m in (multipliers if multipliers is not None else [1.0] * channels))
    base = replace(LatentTables.default(channels), multipliers=whole)
    coder = LatentCoder(base)
    symbols = [(step, coder.quantize(latent, step=step)) for step in steps for latent in latents]
    base = replace(base, follow=tuple(_fit_follow([found[c] for _, found in symbols]) for c in range(channels)))
    weights, scales = np.array(base.weights), np.array(base.scales)
    for table, samples in _samples(LatentCoder(base), symbols).items():
        counts = np.array([4 * (table[2] > 0), table[1] > 0, min(table[0], 4)])
        weights[table] = context_weights(_fit_shares(samples, counts), counts=counts)
        scales[table] = _fit_scales(samples, weights[table], otherwise=scales[table])
    return replace(base, weights=weights.tolist(), scales=scales.tolist())


def _samples(coder: LatentCoder, symbols: Sequence[tuple[float, Symbols]]) -> dict[Table, list[Samples]]:
    """Of each table, what is coded with it."""
    found: dict[Table, list[Samples]] = {}
    for step, latent in symbols:
        for group in coder.groups(latent, step=step):
            width = coder.channel_step(group.table[0], step)
            found.setdefault(group.table, []).append((group.sums, np.abs(group.residual(latent)), width))
    return found


def _fit_follow(planes: Sequence[Symbols]) -> tuple[int, ...]:
    """The prediction of each pass that leaves the smallest logarithms of one channel's symbols, each (t, h, w)."""
    cost = np.zeros((PASSES - 1, 17))
    for plane in planes:
        for number, part in enumerate(passes(*plane.shape[1:])[1:]):
            near, own = part.neighbours(plane), plane[:, part.rows, part.columns]
            for strength in range(17):
                cost[number, strength] += np.log2(1 + np.abs(own - (strength * near + 32) // 64)).sum()
    return tuple(int(strength) for strength in cost.argmin(1))


def _fit_shares(samples: Sequence[Samples], counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """How the means of the three sums add up to the size of what is coded: least squares of relative errors, none negative."""
    means = np.concatenate([sums.T for sums, _, _ in samples]) / np.maximum(counts, 1)  # (n, 3)
    sizes = np.concatenate([magnitudes * width for _, magnitudes, width in samples])
    least = np.concatenate([np.full(len(magnitudes), width / 2) for _, magnitudes, width in samples])
    usual = means.sum(1) / max(np.count_nonzero(counts), 1) + least
    means, sizes = means / usual[:, None], sizes / usual
    gram, target, shares = means.T @ means, means.T @ sizes, np.ones(3)
    for _ in range(300):  # multiplicative updates, which keep signs (Lee and Seung 1999)
        shares *= target / (gram @ shares + 1e-9)
    return shares if shares.sum() > 0 else np.ones(3)


def _fit_scales(
    samples: Sequence[Samples], weights: npt.NDArray[np.int64], *, otherwise: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """The cheapest scale of each class; a class with few samples borrows from those beside it, then from all."""
    cost = np.zeros((CLASSES, len(LADDER)))
    for width in {width for _, _, width in samples}:
        counted = np.zeros((CLASSES, LARGEST_SYMBOL + 2))
        for sums, magnitudes, own in samples:
            if own == width:
                np.add.at(counted, (classes(weights, sums), np.minimum(magnitudes, LARGEST_SYMBOL + 1)), 1)
        cost += counted @ np.stack([_bits(scale, width) for scale in LADDER], 1)
    beside = np.pad(cost, ((1, 1), (0, 0)))
    cost = cost + 0.05 * (beside[:-2] + beside[2:]) + 0.002 * cost.sum(0)
    return np.where(cost.any(1), cost.argmin(1), otherwise)


@cache
def _bits(scale: int, step: int) -> npt.NDArray[np.float64]:
    """Cost of each magnitude from 0 to ``LARGEST_SYMBOL`` + 1, sign included."""
    counted = frequencies(scale, step)
    largest = (len(counted) - 2) // 2
    escape = 16 - np.log2(counted[-1]) + 12
    bits = np.full(LARGEST_SYMBOL + 2, escape)
    bits[: largest + 1] = 16 - np.log2(counted[largest : 2 * largest + 1])
    return bits
