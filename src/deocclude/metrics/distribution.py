"""Distances between two sets of images by network features: FID and KID, pure functions on numpy arrays.

Features are (N, D), one row per image. Too few images give NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.floating]


def frechet_distance(first: Features, second: Features) -> float:
    """Frechet distance of the Gaussians fitted to (N, D) and (M, D) features; FID for Inception features.

    |m1 - m2|^2 + tr(C1) + tr(C2) - 2 tr((C1 C2)^(1/2)), covariances over N - 1 (Heusel et al. 2017, "GANs Trained by a
    Two Time-Scale Update Rule Converge to a Local Nash Equilibrium"). 0 for equal sets. The estimate
    grows as the number of images falls, so only values of equally many images compare. NaN below two images per set.

    Raises:
        ValueError: not two matrices with the same number of columns.
    """
    x, y = _checked(first, second)
    if min(len(x), len(y)) < 2:
        return math.nan
    mean_gap = x.mean(axis=0) - y.mean(axis=0)
    a = (x - x.mean(axis=0)) / math.sqrt(len(x) - 1)  # C1 = a.T @ a
    b = (y - y.mean(axis=0)) / math.sqrt(len(y) - 1)
    # The non-zero eigenvalues of C1 C2 are those of (a b^T)(a b^T)^T, so the trace of the root is the sum of the
    # singular values of a b^T, without a root of a singular D x D matrix. The triangular factors have the same ones.
    # type: ignore, because numpy's stubs take the result of mode "r" for a tuple
    cross = np.linalg.qr(a, mode="r") @ np.linalg.qr(b, mode="r").T  # type: ignore[attr-defined]
    overlap = np.linalg.svd(cross, compute_uv=False).sum()
    distance = mean_gap @ mean_gap + np.square(a).sum() + np.square(b).sum() - 2.0 * overlap
    return max(0.0, float(distance))  # negative by rounding only


def kernel_distance(first: Features, second: Features, people: Sequence[str] | None = None) -> float:
    """Squared maximum mean discrepancy of paired (N, D) features; KID for Inception features.

    The kernel is (x . y / D + 1)^3 (Binkowski et al. 2018, "Demystifying MMD GANs"); the estimate is the U-statistic
    of Gretton et al. 2012, "A Kernel Two-Sample Test", Lemma 6: the mean over i != j of
    k(xi, xj) + k(yi, yj) - k(xi, yj) - k(xj, yi). An image is never compared with its own counterpart, so that the
    estimate is unbiased for paired sets. It uses all images at once, not the usual mean over subsets: tables call it
    "KID, paired". It is 0 for equal sets and can be negative for similar ones.

    Args:
        first: (N, D).
        second: (N, D), counterparts row by row.
        people: person of each row; pairs of one person are left out, because their errors are correlated and would
            raise the estimate.

    Returns:
        The estimate; NaN below two images or two people.

    Raises:
        ValueError: not two matrices of one shape, or another number of people.
    """
    x, y = _checked(first, second)
    if len(x) != len(y):
        raise ValueError(f"expected one counterpart per image, got {len(x)} and {len(y)} images")
    if people is not None and len(people) != len(x):
        raise ValueError(f"expected one person per image, got {len(people)} people and {len(x)} images")
    if len(x) < 2:
        return math.nan
    pairs = _kernel(x, x) + _kernel(y, y) - _kernel(x, y) - _kernel(y, x)
    names = np.arange(len(x)) if people is None else np.asarray(people)
    apart = pairs[names[:, None] != names[None, :]]
    return float(apart.mean()) if apart.size else math.nan


def _kernel(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, M) kernel of `kernel_distance` between all rows of x and y."""
    kernel: NDArray[np.float64] = (x @ y.T / x.shape[1] + 1.0) ** 3
    return kernel


def _checked(first: Features, second: Features) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both as float64. Raises ValueError unless they are matrices with the same number of columns."""
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise ValueError(f"features must be (N, D) and (M, D), got {first.shape} and {second.shape}")
    return first.astype(np.float64), second.astype(np.float64)
