"""A mask as one polygon, and back."""

from __future__ import annotations

import numpy as np
import pytest

from deocclude.data.datasets.outline import outline
from deocclude.io.coco import polygons_to_mask


def filled(numbers: list[int], size_hw: tuple[int, int]) -> np.ndarray:
    return polygons_to_mask([np.array(numbers, float).reshape(-1, 2)], size_hw)


def test_a_box_has_its_four_corners() -> None:
    mask = np.zeros((5, 8), bool)
    mask[1:4, 2:7] = True
    numbers = np.array(outline(mask)).reshape(-1, 2)
    assert sorted(map(tuple, numbers.tolist())) == [(2, 1), (2, 4), (7, 1), (7, 4)]


def test_pieces_holes_and_touching_corners_round_trip() -> None:
    ring = np.ones((7, 7), bool)
    ring[2:5, 2:5] = False
    ring[3, 3] = True
    checkers = np.indices((6, 9)).sum(axis=0) % 2 == 0
    for mask in (ring, checkers, ~checkers, np.ones((1, 1), bool)):
        numbers = outline(mask)
        np.testing.assert_array_equal(filled(numbers, mask.shape), mask)
        corners = np.array(numbers).reshape(-1, 2)
        assert (corners != np.roll(corners, 1, axis=0)).any(axis=1).all(), "no corner twice in a row"


@pytest.mark.parametrize("seed", range(20))
def test_random_mask_round_trip(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((rng.integers(1, 14), rng.integers(1, 14))) < rng.uniform(0.05, 0.95)
    mask[0, -1] = True
    np.testing.assert_array_equal(filled(outline(mask), mask.shape), mask)
