"""Confidence intervals by bootstrap: how much a mean over clips would differ with other clips of the same kind."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from reducio_codec.errors import InputError

Statistic = Literal["mean", "median"]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A statistic and the percentile interval around it."""

    value: float
    low: float
    high: float
    count: int
    """Values that it was made of."""


def bootstrap(
    values: Sequence[float],
    *,
    statistic: Statistic = "mean",
    groups: Sequence[Hashable] | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap of the mean or median of ``values``.

    Args:
        groups: which video each value comes from. Clips of one video are alike, so whole videos are drawn; intervals
            over single clips would be too narrow. None draws single values.
        level: how much of the resampled statistics lies inside, between 0 and 1.

    Raises:
        InputError: no values, values that aren't finite, another number of groups, or a level outside (0, 1).
    """
    if not len(values) or not np.isfinite(values).all():
        raise InputError(f"values are {list(values)[:5]}...; at least one is needed, and all must be finite")
    if groups is not None and len(groups) != len(values):
        raise InputError(f"there are {len(values)} values and {len(groups)} groups; each value needs its own")
    if not 0 < level < 1:
        raise InputError(f"level is {level}; it must lie between 0 and 1")
    members: dict[Hashable, list[float]] = {}
    for number, value in enumerate(values):
        members.setdefault(number if groups is None else groups[number], []).append(value)
    table = np.full((len(members), max(map(len, members.values()))), np.nan)  # a row a group, filled up with NaN
    for row, group in zip(table, members.values(), strict=True):
        row[: len(group)] = group
    compute = np.nanmean if statistic == "mean" else np.nanmedian
    picks = np.random.default_rng(seed).integers(len(table), size=(resamples, len(table)))
    drawn = compute(table[picks].reshape(resamples, -1), axis=1)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value=float(compute(values)), low=float(low), high=float(high), count=len(values))
