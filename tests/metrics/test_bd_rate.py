"""BD-rate against closed forms and the package ``bjontegaard``."""

import itertools
import sys

import bjontegaard
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reducio_codec.errors import InputError, MissingDependencyError
from reducio_codec.metrics.bd_rate import bd_rate, convex_hull, quality_at

ANCHOR = [(10.0, 28.1), (20.0, 31.0), (41.0, 33.9), (85.0, 36.2), (160.0, 38.0)]
TEST = [(9.0, 28.3), (17.0, 31.2), (36.0, 33.6), (70.0, 36.5), (150.0, 38.4)]


@pytest.mark.parametrize("method", ["pchip", "akima"])
def test_agrees_with_bjontegaard(method):
    curves = [list(values) for curve in (ANCHOR, TEST) for values in zip(*curve, strict=True)]
    expected = bjontegaard.bd_rate(*curves, method=method)
    assert expected == pytest.approx(-16.8, abs=0.1), "the oracle itself"
    assert bd_rate(ANCHOR, TEST, method=method) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("method", ["pchip", "akima"])
@given(factor=st.floats(0.2, 5))
@settings(max_examples=20, deadline=None)
def test_the_same_curve_at_other_rates(method, factor):
    other = [(rate * factor, quality) for rate, quality in ANCHOR]
    assert bd_rate(ANCHOR, other, method=method) == pytest.approx(100 * (factor - 1), abs=1e-6)


def test_order_of_the_points_does_not_matter():
    assert bd_rate(ANCHOR[::-1], TEST) == bd_rate(ANCHOR, TEST)


def test_a_range_of_rates_counts_only_the_anchors_qualities_there():
    half = [(rate * (0.5 if rate < 30 else 1), quality) for rate, quality in ANCHOR]
    assert bd_rate(ANCHOR, half, rate_range=(10, 20)) == pytest.approx(-50, abs=5)
    assert bd_rate(ANCHOR, half, rate_range=(85, 160)) == pytest.approx(0, abs=2)
    assert bd_rate(ANCHOR, half, rate_range=(1, 5)) is None


def test_no_common_quality():
    assert bd_rate(ANCHOR, [(rate, quality + 20) for rate, quality in TEST]) is None


def test_quality_between_points():
    assert quality_at(ANCHOR, 41) == pytest.approx(33.9)
    assert 31.0 < quality_at(ANCHOR, 30) < 33.9
    with pytest.raises(InputError, match="rates from"):
        quality_at(ANCHOR, 200)


@pytest.mark.parametrize(
    ("curve", "match"),
    [
        ([(10, 30)], "at least 2"),
        ([(10, 30), (20, 29)], "more quality"),
        ([(10, 30), (10, 31)], "more quality"),
        ([(0, 30), (10, 31)], "positive"),
        ([(5, float("nan")), (10, 31)], "finite"),
    ],
)
def test_wrong_curves(curve, match):
    with pytest.raises(InputError, match=match):
        bd_rate(ANCHOR, curve)


def test_wrong_method():
    with pytest.raises(InputError, match="akima"):
        bd_rate(ANCHOR, TEST, method="cubic")


def test_without_scipy(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.interpolate", None)
    with pytest.raises(MissingDependencyError, match=r"\[bench\]"):
        bd_rate(ANCHOR, TEST)


def test_hull_of_a_grid():
    grid = [(1, 10), (2, 20), (2, 15), (3, 21), (4, 28), (5, 27), (6, 29)]
    assert convex_hull(grid) == [(1, 10), (2, 20), (4, 28), (6, 29)]


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50)), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_hull_rises_bends_down_and_covers_everything(points):
    grid = [(float(rate), float(quality)) for rate, quality in points]
    hull = convex_hull(grid)
    slopes = [(q2 - q1) / (r2 - r1) for (r1, q1), (r2, q2) in itertools.pairwise(hull)]
    assert all(slope > 0 for slope in slopes)
    assert all(first > second for first, second in itertools.pairwise(slopes))
    for rate, quality in grid:
        best = max((h for h in hull if h[0] <= rate), default=None)
        after = next((h for h in hull if h[0] >= rate), None)
        assert best is not None
        line = best[1]
        if after is not None and after != best:
            line += (after[1] - best[1]) * (rate - best[0]) / (after[0] - best[0])
        assert quality <= line + 1e-9
