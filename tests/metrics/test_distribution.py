"""FID and KID: figures known by hand, the textbook formula, and what must always hold."""

from __future__ import annotations

import math

import numpy as np
import pytest

from deocclude.metrics.distribution import frechet_distance, kernel_distance


def test_frechet_distance_by_hand() -> None:
    # One feature: means 1 and 4, standard deviations sqrt(2) and sqrt(8) over N - 1.
    narrow, wide = np.array([[0.0], [2.0]]), np.array([[2.0], [6.0]])
    assert frechet_distance(narrow, wide) == pytest.approx(3**2 + (math.sqrt(8) - math.sqrt(2)) ** 2)
    # The same cloud moved by (3, 4).
    cloud = np.random.default_rng(0).normal(size=(9, 2))
    assert frechet_distance(cloud, cloud + np.array([3.0, 4.0])) == pytest.approx(25.0)


@pytest.mark.parametrize(("pictures", "others", "features"), [(40, 60, 5), (6, 9, 20)])
def test_frechet_distance_matches_the_matrix_square_root(pictures: int, others: int, features: int) -> None:
    """Also with fewer pictures than features, where the covariances are singular."""
    sqrtm = pytest.importorskip("scipy.linalg").sqrtm
    rng = np.random.default_rng(1)
    x = rng.normal(size=(pictures, features)) @ rng.normal(size=(features, features))
    y = rng.normal(size=(others, features)) + 0.3
    c1, c2 = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = sqrtm((c1 @ c2).astype(np.complex128)).real
    expected = np.square(x.mean(0) - y.mean(0)).sum() + np.trace(c1 + c2 - 2 * root)
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-5)
    assert frechet_distance(y, x) == pytest.approx(frechet_distance(x, y))


def test_frechet_distance_matches_torchmetrics() -> None:
    """The reference that papers report, with the pictures' own pixels as features."""
    import torch
    from torchmetrics.image.fid import FrechetInceptionDistance

    class Pixels(torch.nn.Module):
        num_features = 12

        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            return pictures.flatten(1).float()

    rng = np.random.default_rng(7)
    real, made = rng.normal(size=(50, 12)), rng.normal(size=(40, 12)) * 1.4 + 0.2
    fid = FrechetInceptionDistance(Pixels(), normalize=True)
    fid.update(torch.from_numpy(real).reshape(50, 3, 2, 2), real=True)
    fid.update(torch.from_numpy(made).reshape(40, 3, 2, 2), real=False)
    assert frechet_distance(real, made) == pytest.approx(float(fid.compute()), rel=1e-3)


def test_kernel_distance_by_hand() -> None:
    # One feature, k(a, b) = (ab + 1)^3, x = (0, 1), y = (2, 3): only the pairs of different rows count.
    x, y = np.array([[0.0], [1.0]]), np.array([[2.0], [3.0]])
    expected = ((0 * 1 + 1) ** 3 + (2 * 3 + 1) ** 3) - ((0 * 3 + 1) ** 3 + (1 * 2 + 1) ** 3)
    assert kernel_distance(x, y) == pytest.approx(expected)


def test_kernel_distance_excludes_pairs_of_one_person() -> None:
    # k(a, b) = (ab + 1)^3; x = (0, 1, 1), y = (1, 2, 0); rows 0 and 1 show one person.
    x, y = np.array([[0.0], [1.0], [1.0]]), np.array([[1.0], [2.0], [0.0]])
    first = (0 + 1) ** 3 + (0 + 1) ** 3 - (0 + 1) ** 3 - (1 + 1) ** 3  # rows 0 and 2
    second = (1 + 1) ** 3 + (0 + 1) ** 3 - (0 + 1) ** 3 - (2 + 1) ** 3  # rows 1 and 2
    assert kernel_distance(x, y, ["a", "a", "b"]) == pytest.approx((first + second) / 2)
    assert kernel_distance(x, y, ["a", "b", "c"]) == pytest.approx(kernel_distance(x, y))
    assert math.isnan(kernel_distance(x, y, ["a", "a", "a"]))
    with pytest.raises(ValueError, match="got 2 people and 3 images"):
        kernel_distance(x, y, ["a", "b"])


def test_kernel_distance_matches_the_mean_over_pairs() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(5, 3)), rng.normal(size=(5, 3))

    def k(a, b):
        return (a @ b / 3 + 1) ** 3

    pairs = [(i, j) for i in range(5) for j in range(5) if i != j]
    expected = np.mean([k(x[i], x[j]) + k(y[i], y[j]) - k(x[i], y[j]) - k(x[j], y[i]) for i, j in pairs])
    assert kernel_distance(x, y) == pytest.approx(expected)


def test_distances_are_zero_for_equal_sets_and_grow_with_shift() -> None:
    x = np.random.default_rng(3).normal(size=(30, 64)).astype(np.float32)
    assert frechet_distance(x, x) == pytest.approx(0.0, abs=1e-9)
    assert kernel_distance(x, x) == pytest.approx(0.0, abs=1e-12)
    for measure in (frechet_distance, kernel_distance):
        near, far = measure(x, x + np.float32(0.5)), measure(x, x + np.float32(1.0))
        assert 0 < near < far


def test_kernel_distance_is_unbiased() -> None:
    rng = np.random.default_rng(4)
    draws = [kernel_distance(rng.normal(size=(20, 4)), rng.normal(size=(20, 4))) for _ in range(400)]
    assert abs(np.mean(draws)) < 3 * np.std(draws) / math.sqrt(len(draws))


def test_too_few_pictures_and_wrong_shapes() -> None:
    one = np.zeros((1, 3))
    assert math.isnan(frechet_distance(one, one)) and math.isnan(kernel_distance(one, one))
    for measure in (frechet_distance, kernel_distance):
        with pytest.raises(ValueError, match=r"\(2, 3\) and \(2, 4\)"):
            measure(np.zeros((2, 3)), np.zeros((2, 4)))
    with pytest.raises(ValueError, match="got 2 and 3 images"):
        kernel_distance(np.zeros((2, 3)), np.zeros((3, 3)))
