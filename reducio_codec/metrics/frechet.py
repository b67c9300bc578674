"""Frechet distance between two sets of feature vectors, each taken as a Gaussian (Heusel et al. 2017; FVD uses it).

``|m1 - m2|^2 + tr C1 + tr C2 - 2 tr (C1 C2)^(1/2)``. With fewer vectors than features the covariances are singular, and
the usual matrix square root is then neither stable nor quick. But with centred vectors A (n1, d) and B (n2, d), where
C1 = A^T A and C2 = B^T B, the last trace is the sum of the singular values of ``A B^T``, a matrix of n1 x n2. This
is exact for any rank, and no square root of a matrix is taken.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reducio_codec.errors import InputError


def frechet_distance(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Distance of two sets of vectors ``(n1, d)`` and ``(n2, d)``, n of 2 or more; 0 for equal sets.

    Covariances are the unbiased ones (divided by n - 1), as in every published FID and FVD.
    """
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1] or min(len(first), len(second)) < 2:
        raise InputError(
            f"features are {first.shape} and {second.shape}; allowed: (n, d) with n of 2 or more, and one d for both"
        )
    mean_first, a = _centred(first)
    mean_second, b = _centred(second)
    shift = mean_first - mean_second
    cross = np.linalg.svd(_shorten(a) @ _shorten(b).T, compute_uv=False)
    distance = shift @ shift + np.sum(a * a) + np.sum(b * b) - 2 * np.sum(cross)
    return max(float(distance), 0.0)  # rounding alone can take it below


def _centred(features: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean ``(d,)``, and A ``(n, d)`` with covariance A^T A."""
    double = features.astype(np.float64)
    mean = double.mean(0)
    return mean, (double - mean) / np.sqrt(len(double) - 1)


def _shorten(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """At most d rows R with R^T R = A^T A: the product of thousands of clips needs no thousand columns."""
    if len(rows) <= rows.shape[1]:
        return rows
    short: NDArray[np.float64] = np.asarray(np.linalg.qr(rows, mode="r"))
    return short
