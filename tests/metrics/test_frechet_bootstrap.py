"""Frechet distance against closed forms, scipy and torch-fidelity; bootstrap intervals."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from reducio_codec.errors import InputError
from reducio_codec.metrics.bootstrap import bootstrap
from reducio_codec.metrics.frechet import frechet_distance


def samples(seed: int, count: int, size: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, size)).astype(np.float64)


def by_matrix_root(first: np.ndarray, second: np.ndarray) -> float:
    c1, c2 = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    shift = first.mean(0) - second.mean(0)
    return float(shift @ shift + np.trace(c1 + c2 - 2 * np.real(sqrtm(c1 @ c2))))


def test_agrees_with_torch_fidelity() -> None:
    random = np.random.default_rng(0)
    first = random.normal(size=(300, 24))
    second = random.normal(0.3, 1.4, size=(250, 24)) @ np.diag(np.linspace(0.5, 2, 24))
    statistics = [fid_features_to_statistics(torch.from_numpy(features)) for features in (first, second)]
    expected = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("n1", "n2"), [(200, 150), (8, 200), (200, 8)])
def test_agrees_with_the_matrix_square_root(n1: int, n2: int) -> None:
    first, second = samples(1, n1, 12), samples(2, n2, 12) * np.linspace(0.2, 3, 12) + 0.5
    assert frechet_distance(first, second) == pytest.approx(by_matrix_root(first, second), rel=1e-6)


def test_fewer_clips_than_features_closed_form() -> None:
    """Both sets vary along one direction each, at an angle a: tr (C1 C2)^(1/2) = s1 s2 |cos a|."""
    size, angle = 400, 0.7
    along = np.zeros((2, size))
    along[0, 0] = 1
    along[1, :2] = np.cos(angle), np.sin(angle)
    steps1, steps2 = np.array([-1.0, 0, 1]), np.array([-3.0, -1, 1, 3])
    first, second = np.outer(steps1, along[0]), np.outer(steps2, along[1])
    second[:, 5] += 2
    var1, var2 = steps1.var(ddof=1), steps2.var(ddof=1)
    expected = 4 + var1 + var2 - 2 * np.sqrt(var1 * var2) * np.cos(angle)
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-12)


def test_equal_sets_and_a_shift() -> None:
    first = samples(3, 6, 400)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(first, first + 0.5) == pytest.approx(400 * 0.25, rel=1e-9)


def test_wrong_features() -> None:
    with pytest.raises(InputError, match="2 or more"):
        frechet_distance(samples(0, 1, 4), samples(0, 5, 4))
    with pytest.raises(InputError, match="one d"):
        frechet_distance(samples(0, 5, 3), samples(0, 5, 4))


def test_interval_of_a_mean_is_about_two_standard_errors() -> None:
    values = list(np.random.default_rng(0).normal(30, 2, 200))
    found = bootstrap(values)
    error = np.std(values) / np.sqrt(200)
    assert found.value == pytest.approx(np.mean(values))
    assert found.value - found.low == pytest.approx(1.96 * error, rel=0.15)
    assert found.high - found.value == pytest.approx(1.96 * error, rel=0.15)
    assert found == bootstrap(values), "the same seed gives the same interval"


def test_clips_of_one_video_are_drawn_together() -> None:
    values = [level for level in (20.0, 25, 30, 35) for _ in range(10)]
    videos = [level for level in range(4) for _ in range(10)]
    together, single = bootstrap(values, groups=videos), bootstrap(values)
    assert together.value == single.value == pytest.approx(27.5)
    assert together.high - together.low > 2 * (single.high - single.low)


def test_median_and_wrong_input() -> None:
    assert bootstrap([1.0, 2, 100], statistic="median").value == 2
    with pytest.raises(InputError, match="at least one"):
        bootstrap([])
    with pytest.raises(InputError, match="finite"):
        bootstrap([1.0, float("nan")])
    with pytest.raises(InputError, match="groups"):
        bootstrap([1.0, 2.0], groups=["a"])
    with pytest.raises(InputError, match="level"):
        bootstrap([1.0], level=1.5)
