"""Measures of masks, (H, W) bool."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from deocclude.imaging.arrays import Int
from deocclude.metrics.content import BoolArray, _check_same_shape


def intersection_union(predicted: BoolArray, truth: BoolArray) -> tuple[int, int]:
    """Pixels of the intersection and of the union of two masks, as `pooled_iou` sums them."""
    _check_same_shape(predicted, truth)
    return int(np.count_nonzero(predicted & truth)), int(np.count_nonzero(predicted | truth))


def invisible_intersection_union(
    predicted_amodal: BoolArray, true_amodal: BoolArray, true_visible: BoolArray
) -> tuple[int, int]:
    """`intersection_union` of the occluded part: both amodal masks minus the true visible mask."""
    _check_same_shape(true_amodal, true_visible)
    return intersection_union(predicted_amodal & ~true_visible, true_amodal & ~true_visible)


def pooled_iou(intersections_unions: Iterable[tuple[int, int]]) -> float:
    """Sum of intersections divided by sum of unions, so that large people have more weight.

    Args:
        intersections_unions: pairs from `intersection_union`.

    Returns:
        In [0, 1]; NaN if all unions are empty.
    """
    intersection = union = 0
    for one_intersection, one_union in intersections_unions:
        intersection += one_intersection
        union += one_union
    return intersection / union if union else math.nan


def false_positive_ratio(predicted_amodal: BoolArray, true_amodal: BoolArray) -> float:
    """Predicted pixels outside the true amodal mask, divided by the area of the true mask (over-segmentation ratio).

    For an unoccluded person this is the false-positive completion. It can exceed 1. NaN if the true mask is empty.
    """
    _check_same_shape(predicted_amodal, true_amodal)
    area = np.count_nonzero(true_amodal)
    return np.count_nonzero(predicted_amodal & ~true_amodal) / area if area else math.nan


def visible_ratio(visible: BoolArray, amodal: BoolArray) -> float:
    """Visible area divided by amodal area, in [0, 1] if visible is a subset of amodal. NaN if amodal is empty."""
    _check_same_shape(visible, amodal)
    area = np.count_nonzero(amodal)
    return np.count_nonzero(visible) / area if area else math.nan


def ratio_bin(ratio: float, bins: int = 10) -> int:
    """Index of the ratio among `bins` equal bins of [0, 1]: i/bins <= ratio < (i+1)/bins, and 1 in the last bin.

    Raises:
        ValueError: the ratio is outside [0, 1].
    """
    if not 0.0 <= ratio <= 1.0:
        raise ValueError(f"ratio must lie in [0, 1], got {ratio}")
    return min(int(ratio * bins), bins - 1)


def label_counts(predicted: Int, truth: Int, region: BoolArray, labels: int) -> NDArray[np.int64]:
    """Count the pixels of each label inside a region.

    Args:
        predicted: (H, W) integer labels.
        truth: (H, W) integer labels.
        region: (H, W) bool.
        labels: number of labels; other values are ignored.

    Returns:
        (labels, 3): intersection, union, true pixels.
    """
    _check_same_shape(predicted, truth)
    _check_same_shape(truth, region)
    one, other = predicted[region], truth[region]
    counts = [
        (np.count_nonzero(p & t), np.count_nonzero(p | t), np.count_nonzero(t))
        for p, t in ((one == label, other == label) for label in range(labels))
    ]
    return np.array(counts, np.int64).reshape(labels, 3)
