"""Measures of masks."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from deocclude.metrics.content import BoolArray, _same_shape


def intersection_union(predicted: BoolArray, truth: BoolArray) -> tuple[int, int]:
    """Pixels in both masks and pixels in either, the two numbers that pooled IoU sums over people."""
    _same_shape(predicted, truth)
    return int(np.count_nonzero(predicted & truth)), int(np.count_nonzero(predicted | truth))


def invisible_intersection_union(
    predicted_amodal: BoolArray, true_amodal: BoolArray, true_visible: BoolArray
) -> tuple[int, int]:
    """`intersection_union` of what is predicted hidden and what is: both amodal masks less the true visible one."""
    _same_shape(true_amodal, true_visible)
    return intersection_union(predicted_amodal & ~true_visible, true_amodal & ~true_visible)


def pooled_iou(intersections_unions: Iterable[tuple[int, int]]) -> float:
    """Sum of the intersections over sum of the unions, of one person or of many: big people count for more.

    NaN when the unions are empty.
    """
    intersection = union = 0
    for one_intersection, one_union in intersections_unions:
        intersection += one_intersection
        union += one_union
    return intersection / union if union else math.nan


def false_completion_share(predicted_amodal: BoolArray, true_amodal: BoolArray) -> float:
    """Pixels predicted to be body that are none, as a share of the true body's area.

    For a person whom nothing hides this is false completion: body painted where there is none. It can exceed 1.
    NaN when the true body is empty.
    """
    _same_shape(predicted_amodal, true_amodal)
    area = np.count_nonzero(true_amodal)
    return np.count_nonzero(predicted_amodal & ~true_amodal) / area if area else math.nan


def visible_ratio(visible: BoolArray, amodal: BoolArray) -> float:
    """Visible pixels over amodal pixels, in [0, 1] where visible is a subset of amodal. NaN when amodal is empty."""
    _same_shape(visible, amodal)
    area = np.count_nonzero(amodal)
    return np.count_nonzero(visible) / area if area else math.nan


def ratio_bin(ratio: float, bins: int = 10) -> int:
    """Which of `bins` equal parts of [0, 1] holds the ratio: bin i holds i/bins <= ratio < (i+1)/bins, the last also 1.

    Raises:
        ValueError: the ratio is outside [0, 1].
    """
    if not 0.0 <= ratio <= 1.0:
        raise ValueError(f"ratio must lie in [0, 1], got {ratio}")
    return min(int(ratio * bins), bins - 1)


def label_counts(predicted: NDArray, truth: NDArray, region: BoolArray, labels: int) -> NDArray[np.int64]:
    """(labels, 3) pixels of each label inside the region: in both, in either, in the truth. Labels are integers below
    `labels`; other values count as no label."""
    _same_shape(predicted, truth)
    _same_shape(truth, region)
    one, other = predicted[region], truth[region]
    counts = [
        (np.count_nonzero(p & t), np.count_nonzero(p | t), np.count_nonzero(t))
        for p, t in ((one == label, other == label) for label in range(labels))
    ]
    return np.array(counts, np.int64).reshape(labels, 3)
