"""Measures of the evaluation protocol: pure functions on numpy arrays, one pair of pictures at a time.

Masks are (H, W) bool. Pictures are (H, W, 3) uint8 or float RGB on the 0-255 scale. A measure that has nothing to
measure (no hidden pixel, no pixel in the region) is NaN, so that a mean over people can leave it out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]

# Two identical regions have an infinite ratio, which neither a mean nor JSON can hold.
PSNR_CAP_DB = 100.0


# --- masks ---------------------------------------------------------------------------------------------------------


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


# --- content inside a region ---------------------------------------------------------------------------------------


def region_l1(predicted: NDArray, truth: NDArray, region: BoolArray) -> float:
    """Mean absolute difference over the region's pixels and three channels, 0 to 255. NaN for an empty region."""
    difference = _region_difference(predicted, truth, region)
    return float(np.abs(difference).mean()) if difference.size else math.nan


def region_psnr(predicted: NDArray, truth: NDArray, region: BoolArray) -> float:
    """Peak signal-to-noise ratio in dB over the region, peak 255, at most PSNR_CAP_DB. NaN for an empty region."""
    difference = _region_difference(predicted, truth, region)
    if not difference.size:
        return math.nan
    mean_square = float(np.square(difference).mean())
    if mean_square == 0.0:
        return PSNR_CAP_DB
    return min(PSNR_CAP_DB, 10.0 * math.log10(255.0**2 / mean_square))


def region_ssim(predicted: NDArray, truth: NDArray, region: BoolArray) -> float:
    """Mean of the SSIM map over the region's pixels and channels, in [-1, 1]. NaN for an empty region.

    Windows at the region's edge look 5 px beyond it: give both pictures the same surroundings to keep those out.
    """
    _same_shape(predicted, truth)
    if not region.any():
        return math.nan
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    # Twice the window's radius around the region is all that its SSIM values can see.
    part = (
        slice(max(0, rows[0] - 2 * _SSIM_RADIUS), rows[-1] + 1 + 2 * _SSIM_RADIUS),
        slice(max(0, columns[0] - 2 * _SSIM_RADIUS), columns[-1] + 1 + 2 * _SSIM_RADIUS),
    )
    return float(ssim_map(predicted[part], truth[part])[region[part]].mean())


_SSIM_RADIUS = 5  # an 11 x 11 window
_SSIM_SIGMA = 1.5
_SSIM_C1 = (0.01 * 255.0) ** 2
_SSIM_C2 = (0.03 * 255.0) ** 2


def ssim_map(predicted: NDArray, truth: NDArray) -> FloatArray:
    """Structural similarity at each pixel and channel (Wang et al. 2004), of the pictures' shape.

    Gaussian window 11 x 11, sigma 1.5, constants 0.01 and 0.03 of a 255 range, edges mirrored.
    """
    _same_shape(predicted, truth)
    x, y = predicted.astype(np.float64), truth.astype(np.float64)
    mean_x, mean_y = _gaussian_window(x), _gaussian_window(y)
    variance_x = _gaussian_window(x * x) - mean_x * mean_x
    variance_y = _gaussian_window(y * y) - mean_y * mean_y
    covariance = _gaussian_window(x * y) - mean_x * mean_y
    likeness = (2.0 * mean_x * mean_y + _SSIM_C1) * (2.0 * covariance + _SSIM_C2)
    return likeness / ((mean_x**2 + mean_y**2 + _SSIM_C1) * (variance_x + variance_y + _SSIM_C2))


def _gaussian_window(picture: FloatArray) -> FloatArray:
    """Weighted mean over the SSIM window along the first two axes, edges mirrored with the edge pixel repeated."""
    offsets = np.arange(-_SSIM_RADIUS, _SSIM_RADIUS + 1)
    weights = np.exp(-0.5 * (offsets / _SSIM_SIGMA) ** 2)
    weights /= weights.sum()
    for axis in (0, 1):
        length = picture.shape[axis]
        padding = [(0, 0)] * picture.ndim
        padding[axis] = (_SSIM_RADIUS, _SSIM_RADIUS)
        padded = np.moveaxis(np.pad(picture, padding, mode="symmetric"), axis, 0)
        blurred = sum(weight * padded[shift : shift + length] for shift, weight in enumerate(weights))
        picture = np.moveaxis(blurred, 0, axis)
    return picture


def mean_gradient(picture: NDArray, region: BoolArray) -> float:
    """Mean length of the brightness gradient inside the region, in grey levels a pixel.

    Brightness is the mean of the three channels; the gradient is the central difference. Only pixels count whose
    four neighbours lie in the region too, so that the region's own border is no edge. NaN when there are none.
    """
    _region_check(picture, region)
    inside = region[1:-1, 1:-1] & region[:-2, 1:-1] & region[2:, 1:-1] & region[1:-1, :-2] & region[1:-1, 2:]
    if not inside.any():
        return math.nan
    brightness = picture.astype(np.float64).mean(axis=2)
    across = (brightness[1:-1, 2:] - brightness[1:-1, :-2]) / 2.0
    down = (brightness[2:, 1:-1] - brightness[:-2, 1:-1]) / 2.0
    return float(np.hypot(across, down)[inside].mean())


def gradient_ratio(predicted: NDArray, truth: NDArray, region: BoolArray) -> float:
    """Mean gradient of the prediction over that of the truth inside the region: 1 as much contrast, 0 a flat colour.

    Noise reaches 1 as well as true detail does, so that the ratio is no goal. NaN when the region has no pixel
    with all its neighbours inside, or when the truth is perfectly flat there.
    """
    true_gradient = mean_gradient(truth, region)
    return mean_gradient(predicted, region) / true_gradient if true_gradient > 0.0 else math.nan


def seam_step(picture: NDArray, hidden: BoolArray, body: BoolArray) -> float:
    """Mean step across the border of the hidden region: over all pairs of 4-neighbours of which one is hidden and the
    other is body that is not, the absolute difference of the two pixels, mean over channels, on the 0-255 scale.

    NaN where the hidden region has no such neighbour.
    """
    _region_check(picture, hidden)
    _same_shape(hidden, body)
    colours, seen = picture.astype(np.float64), body & ~hidden
    total, pairs = 0.0, 0
    for axis in (0, 1):
        first, second = ((slice(None),) * axis + (part,) for part in (slice(None, -1), slice(1, None)))
        across = (hidden[first] & seen[second]) | (seen[first] & hidden[second])
        total += float(np.abs(colours[first] - colours[second])[across].mean(axis=-1).sum())
        pairs += np.count_nonzero(across)
    return total / pairs if pairs else math.nan


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


# --- over people ---------------------------------------------------------------------------------------------------


def mean_of_known(values: Iterable[float]) -> float:
    """Mean of the values that are not NaN; NaN when there are none."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def bootstrap_interval(
    values: Sequence[float],
    people: Sequence[str],
    rng: np.random.Generator,
    *,
    level: float = 0.95,
    draws: int = 2000,
) -> tuple[float, float]:
    """Confidence interval of the mean of `values`, by drawing people with replacement: see `bootstrap_means`.

    (NaN, NaN) when values of fewer than two people are known: one says nothing of how much people differ.

    Raises:
        ValueError: the two sequences differ in length.
    """
    means = bootstrap_means(values, people, rng, draws=draws)
    known = {person for value, person in zip(values, people, strict=True) if not math.isnan(value)}
    if len(known) < 2:
        return math.nan, math.nan
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return float(low), float(high)


def bootstrap_means(
    values: Sequence[float], people: Sequence[str], rng: np.random.Generator, *, draws: int
) -> FloatArray:
    """(draws,) means of `values`, each over as many people as there are, drawn with replacement.

    `people[i]` names whom `values[i]` was measured on. Pictures of one person resemble each other, so whole people are
    drawn, each with all their values. NaN values are left out; (0,) when nothing is left.

    Raises:
        ValueError: the two sequences differ in length.
    """
    if len(values) != len(people):
        raise ValueError(f"one person a value: got {len(values)} values and {len(people)} people")
    sums: dict[str, list[float]] = {}
    for value, person in zip(values, people, strict=True):
        if not math.isnan(value):
            total = sums.setdefault(person, [0.0, 0.0])
            total[0] += value
            total[1] += 1.0
    if not sums:
        return np.empty(0)
    by_person = np.array(list(sums.values()))  # (people, 2): sum and count
    drawn = rng.integers(len(by_person), size=(draws, len(by_person)))
    totals = by_person[drawn].sum(axis=1)  # (draws, 2)
    return totals[:, 0] / totals[:, 1]


# --- checks --------------------------------------------------------------------------------------------------------


def _same_shape(first: NDArray, second: NDArray) -> None:
    if first.shape != second.shape:
        raise ValueError(f"both arrays must have one shape, got {first.shape} and {second.shape}")


def _region_check(picture: NDArray, region: BoolArray) -> None:
    if picture.ndim != 3 or picture.shape[:2] != region.shape:
        raise ValueError(f"picture must be (H, W, 3) and region (H, W), got {picture.shape} and {region.shape}")


def _region_difference(predicted: NDArray, truth: NDArray, region: BoolArray) -> FloatArray:
    _same_shape(predicted, truth)
    _region_check(predicted, region)
    return predicted[region].astype(np.float64) - truth[region].astype(np.float64)
