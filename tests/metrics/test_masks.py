"""Hand-computed values of the measures of masks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from deocclude.metrics import masks


def bar(start: int, stop: int, *, size: int = 10) -> np.ndarray:
    """(4, size) mask whose columns start to stop are set: 4 pixels a column."""
    mask = np.zeros((4, size), bool)
    mask[:, start:stop] = True
    return mask


def test_intersection_union_and_pooled_iou() -> None:
    assert masks.intersection_union(bar(0, 6), bar(3, 9)) == (12, 36)
    assert masks.pooled_iou([(12, 36)]) == pytest.approx(1 / 3)
    # 12 of 36 and 4 of 4: pooled is 16 / 40, not the mean of 1/3 and 1.
    assert masks.pooled_iou([(12, 36), (4, 4)]) == pytest.approx(0.4)
    assert math.isnan(masks.pooled_iou([]))
    assert math.isnan(masks.pooled_iou([(0, 0)]))


def test_invisible_iou_excludes_truly_visible_pixels() -> None:
    # The body spans columns 0-8 of which 0-4 are seen; the prediction ends at 6: hidden 4-6 found of 4-8.
    counts = masks.invisible_intersection_union(bar(2, 6), bar(0, 8), bar(0, 4))
    assert counts == (8, 16)
    # A prediction that only repeats the visible part finds nothing.
    assert masks.invisible_intersection_union(bar(0, 4), bar(0, 8), bar(0, 4)) == (0, 16)
    # Nothing hidden, nothing predicted to be.
    assert masks.invisible_intersection_union(bar(0, 4), bar(0, 4), bar(0, 4)) == (0, 0)


def test_false_positive_ratio_is_relative_to_the_true_body() -> None:
    assert masks.false_positive_ratio(bar(0, 6), bar(0, 4)) == pytest.approx(0.5)
    assert masks.false_positive_ratio(bar(0, 3), bar(0, 4)) == 0.0
    assert masks.false_positive_ratio(bar(0, 9), bar(0, 3)) == pytest.approx(2.0)
    assert math.isnan(masks.false_positive_ratio(bar(0, 3), bar(0, 0)))


def test_visible_ratio_and_its_bins() -> None:
    assert masks.visible_ratio(bar(0, 3), bar(0, 4)) == 0.75
    assert math.isnan(masks.visible_ratio(bar(0, 0), bar(0, 0)))
    assert [masks.ratio_bin(r) for r in (0.0, 0.0999, 0.1, 0.55, 0.9, 1.0)] == [0, 0, 1, 5, 9, 9]
    with pytest.raises(ValueError, match=r"ratio must lie in \[0, 1\], got 1.5"):
        masks.ratio_bin(1.5)


def test_label_counts_by_hand() -> None:
    predicted, truth = np.array([[1, 1, 2, 9]]), np.array([[1, 2, 2, 2]])
    region = np.array([[True, True, True, False]])
    assert masks.label_counts(predicted, truth, region, 3).tolist() == [[0, 0, 0], [1, 2, 1], [1, 2, 2]]
