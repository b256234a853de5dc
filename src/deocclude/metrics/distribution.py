"""How far two collections of pictures are apart by a network's features: FID and KID, pure functions on numpy arrays.

Features are (N, D), a row a picture. Too few pictures to measure anything give NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.floating]


def frechet_distance(first: Features, second: Features) -> float:
    """Frechet distance of the Gaussians fitted to (N, D) and (M, D) features: FID where an Inception network made them.

    |m1 - m2|^2 + tr(C1) + tr(C2) - 2 tr((C1 C2)^(1/2)), covariances over N - 1 (Heusel et al. 2017, "GANs Trained by a
    Two Time-Scale Update Rule Converge to a Local Nash Equilibrium"). 0 for equal collections. With few pictures it is
    larger than with many, so only figures of equally many compare. NaN below two pictures on a side.

    Raises:
        ValueError: not two matrices of as many columns.
    """
    x, y = _checked(first, second)
    if min(len(x), len(y)) < 2:
        return math.nan
    mean_gap = x.mean(axis=0) - y.mean(axis=0)
    a = (x - x.mean(axis=0)) / math.sqrt(len(x) - 1)  # C1 = a.T @ a
    b = (y - y.mean(axis=0)) / math.sqrt(len(y) - 1)
    # The eigenvalues of C1 C2 that are not 0 are those of (a b^T)(a b^T)^T, so the trace of the root is the sum of the
    # singular values of a b^T: no root of a singular D x D matrix. The triangular factors have the same ones.
    cross = np.linalg.qr(a, mode="r") @ np.linalg.qr(b, mode="r").T
    overlap = np.linalg.svd(cross, compute_uv=False).sum()
    distance = mean_gap @ mean_gap + np.square(a).sum() + np.square(b).sum() - 2.0 * overlap
    return max(0.0, float(distance))  # rounding alone brings it below


def kernel_distance(first: Features, second: Features, people: Sequence[str] | None = None) -> float:
    """Squared maximum mean discrepancy of paired (N, D) features: KID, where an Inception network made them.

    The kernel is (x . y / D + 1)^3 (Binkowski et al. 2018, "Demystifying MMD GANs"); the estimate is the U-statistic
    of Gretton et al. 2012, "A Kernel Two-Sample Test", Lemma 6: the mean over i != j of
    k(xi, xj) + k(yi, yj) - k(xi, yj) - k(xj, yi). A picture is never compared with its own counterpart, which keeps it
    unbiased where row i of both is one person. `people` names whom row i shows: pairs of one person are left out too,
    as their errors are alike and would raise the estimate. All pictures are taken at once, not the mean over subsets
    that KID is mostly reported as: tables call it "KID, paired". 0 for equal collections; for alike ones it can be
    below 0. NaN below two pictures, or two people.

    Raises:
        ValueError: not two matrices of one shape.
    """
    x, y = _checked(first, second)
    if len(x) != len(y):
        raise ValueError(f"one counterpart a picture: got {len(x)} and {len(y)} pictures")
    if people is not None and len(people) != len(x):
        raise ValueError(f"one name a picture: got {len(people)} names and {len(x)} pictures")
    if len(x) < 2:
        return math.nan
    pairs = _kernel(x, x) + _kernel(y, y) - _kernel(x, y) - _kernel(y, x)
    names = np.arange(len(x)) if people is None else np.asarray(people)
    apart = pairs[names[:, None] != names[None, :]]
    return float(apart.mean()) if apart.size else math.nan


def _kernel(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    return (x @ y.T / x.shape[1] + 1.0) ** 3


def _checked(first: Features, second: Features) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise ValueError(f"features must be (N, D) and (M, D), got {first.shape} and {second.shape}")
    return first.astype(np.float64), second.astype(np.float64)
