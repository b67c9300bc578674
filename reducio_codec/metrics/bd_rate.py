"""Bjontegaard delta rate (VCEG-M33): how many more bits a codec needs than an anchor for the same quality.

log10(rate) is interpolated over quality, by PCHIP (as JCT-VC's spreadsheets do) or Akima, and the two curves are
averaged over the qualities that both reach. scipy is imported when it is first used (extra ``[bench]``).
"""

from __future__ import annotations

import importlib
import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal

from reducio_codec.errors import InputError, MissingDependencyError

Method = Literal["pchip", "akima"]
Curve = Sequence[tuple[float, float]]
"""(rate, quality) of each point; any unit of rate, and larger quality is better."""


def bd_rate(
    anchor: Curve, test: Curve, *, method: Method = "pchip", rate_range: tuple[float, float] | None = None
) -> float | None:
    """Bits that ``test`` needs more than ``anchor``, in percent: negative is better.

    Args:
        anchor, test: at least two points each; a point with more rate must have more quality.
        rate_range: only the qualities that the anchor has between these rates.

    Returns:
        None where the curves share no quality (nothing can be compared; never an extrapolation).

    Raises:
        InputError: too few points, a rate or quality that isn't positive and finite, or a curve that isn't rising.
    """
    inverse = [_interpolate(_sorted(curve), x="quality", method=method) for curve in (anchor, test)]
    low = max(min(quality for _, quality in curve) for curve in (anchor, test))
    high = min(max(quality for _, quality in curve) for curve in (anchor, test))
    if rate_range is not None:
        reached = [quality_at(anchor, rate, method=method) for rate in _clipped(rate_range, curve=anchor)]
        low, high = max(low, min(reached)), min(high, max(reached))
    if high - low <= 1e-9 * max(abs(low), 1):
        return None
    area_anchor, area_test = (float(curve.integrate(low, high)) for curve in inverse)
    return 100 * (10 ** ((area_test - area_anchor) / (high - low)) - 1)


def quality_at(curve: Curve, rate: float, *, method: Method = "pchip") -> float:
    """Quality of a curve at ``rate``, interpolated over log10(rate). InputError outside the curve's rates."""
    points = _sorted(curve)
    low, high = points[0][0], points[-1][0]
    if not low <= rate <= high:
        raise InputError(f"rate is {rate}; this curve has rates from {low} to {high}")
    return float(_interpolate(points, x="rate", method=method)(math.log10(rate)))


def convex_hull(curve: Curve) -> list[tuple[float, float]]:
    """The points that no mixture of two others beats: what an encoder that chooses its settings reaches.

    Rising in rate and quality, so it can go to :func:`bd_rate` whatever grid of settings it came from.
    """
    hull: list[tuple[float, float]] = []
    for rate, quality in sorted(set(curve), key=lambda point: (point[0], -point[1])):
        if hull and quality <= hull[-1][1]:
            continue
        while len(hull) >= 2 and _above(hull[-2], (rate, quality), point=hull[-1]) <= 0:
            hull.pop()
        hull.append((rate, quality))
    return hull


def _above(left: tuple[float, float], right: tuple[float, float], *, point: tuple[float, float]) -> float:
    """How far ``point`` lies above the line from ``left`` to ``right``, in quality."""
    share = (point[0] - left[0]) / (right[0] - left[0])
    return point[1] - (left[1] + share * (right[1] - left[1]))


def _clipped(rates: tuple[float, float], *, curve: Curve) -> tuple[float, float]:
    low, high = min(rate for rate, _ in curve), max(rate for rate, _ in curve)
    first, last = rates
    return min(max(first, low), high), min(max(last, low), high)


def _sorted(curve: Curve) -> list[tuple[float, float]]:
    points = sorted(curve)
    if len(points) < 2:
        raise InputError(f"the curve has {len(points)} points; at least 2 are needed")
    if any(not (0 < rate < math.inf and math.isfinite(quality)) for rate, quality in points):
        raise InputError(f"the curve is {points}; rates must be positive and qualities finite")
    for (rate, quality), (next_rate, next_quality) in itertools.pairwise(points):
        if next_rate == rate or next_quality <= quality:
            raise InputError(
                f"the curve goes from quality {quality} at rate {rate} to {next_quality} at {next_rate}; "
                "a point with more rate must have more quality (take convex_hull for a grid of settings)"
            )
    return points


def _interpolate(points: list[tuple[float, float]], *, x: Literal["rate", "quality"], method: Method) -> Any:
    if method not in ("pchip", "akima"):
        raise InputError(f"method is {method!r}; allowed: pchip, akima")
    try:
        scipy = importlib.import_module("scipy.interpolate")
    except ImportError as error:
        raise MissingDependencyError("BD-rate needs scipy: pip install 'reducio-codec[bench]'") from error
    build = scipy.PchipInterpolator if method == "pchip" else scipy.Akima1DInterpolator
    rates, qualities = [math.log10(rate) for rate, _ in points], [quality for _, quality in points]
    return build(rates, qualities) if x == "rate" else build(qualities, rates)
