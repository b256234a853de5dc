"""Measures of content inside a region: pure functions on numpy arrays, one pair of images at a time.

Masks are (H, W) bool. Images are (H, W, 3) uint8 or float RGB on the 0-255 scale. A measure of an empty region is NaN,
so that a mean over people can leave it out.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deocclude.imaging.arrays import Array

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
Picture = NDArray[np.uint8 | np.floating[Any]]

# identical regions have an infinite PSNR, which neither a mean nor JSON can represent
PSNR_CAP_DB = 100.0


def region_l1(predicted: Picture, truth: Picture, region: BoolArray) -> float:
    """Mean absolute difference over the region's pixels and three channels, 0 to 255. NaN for an empty region."""
    difference = _region_difference(predicted, truth, region)
    return float(np.abs(difference).mean()) if difference.size else math.nan


def region_psnr(predicted: Picture, truth: Picture, region: BoolArray) -> float:
    """Peak signal-to-noise ratio in dB over the region, peak 255, at most PSNR_CAP_DB. NaN for an empty region."""
    difference = _region_difference(predicted, truth, region)
    if not difference.size:
        return math.nan
    mean_square = float(np.square(difference).mean())
    if mean_square == 0.0:
        return PSNR_CAP_DB
    return min(PSNR_CAP_DB, 10.0 * math.log10(255.0**2 / mean_square))


def region_ssim(predicted: Picture, truth: Picture, region: BoolArray) -> float:
    """Mean of the SSIM map over the region's pixels and channels, in [-1, 1]. NaN for an empty region.

    Windows at the region's border reach 5 px beyond it: give both images the same surroundings to exclude them.
    """
    _check_same_shape(predicted, truth)
    _check_region(predicted, region)
    if not region.any():
        return math.nan
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    # only the region and a margin: its SSIM depends on pixels within the window's radius
    part = (
        slice(max(0, rows[0] - 2 * _SSIM_RADIUS), rows[-1] + 1 + 2 * _SSIM_RADIUS),
        slice(max(0, columns[0] - 2 * _SSIM_RADIUS), columns[-1] + 1 + 2 * _SSIM_RADIUS),
    )
    return float(ssim_map(predicted[part], truth[part])[region[part]].mean())


_SSIM_RADIUS = 5  # an 11 x 11 window
_SSIM_SIGMA = 1.5  # of the Gaussian window, in pixels
_SSIM_C1 = (0.01 * 255.0) ** 2
_SSIM_C2 = (0.03 * 255.0) ** 2


def ssim_map(predicted: Picture, truth: Picture) -> FloatArray:
    """Structural similarity (SSIM, Wang et al. 2004) at each pixel and channel, in [-1, 1], of the images' shape.

    Gaussian window 11 x 11, sigma 1.5, constants K1 = 0.01 and K2 = 0.03 of a range of 255, borders mirrored.
    """
    _check_same_shape(predicted, truth)
    x, y = predicted.astype(np.float64), truth.astype(np.float64)
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    variance_x = _window_mean(x * x) - mean_x * mean_x
    variance_y = _window_mean(y * y) - mean_y * mean_y
    covariance = _window_mean(x * y) - mean_x * mean_y
    numerator = (2.0 * mean_x * mean_y + _SSIM_C1) * (2.0 * covariance + _SSIM_C2)
    return numerator / ((mean_x**2 + mean_y**2 + _SSIM_C1) * (variance_x + variance_y + _SSIM_C2))


def _window_mean(picture: FloatArray) -> FloatArray:
    """(H, W, C) Gaussian mean over the SSIM window around each pixel; borders mirrored, border pixel repeated."""
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


def mean_gradient(picture: Picture, region: BoolArray) -> float:
    """Mean length of the brightness gradient inside the region, in grey levels per pixel.

    Brightness is the mean of the three channels; the gradient is the central difference. Only pixels with all four
    neighbours in the region count, so that the region's border is not an edge. NaN without such pixels.
    """
    _check_region(picture, region)
    inside = region[1:-1, 1:-1] & region[:-2, 1:-1] & region[2:, 1:-1] & region[1:-1, :-2] & region[1:-1, 2:]
    if not inside.any():
        return math.nan
    brightness = picture.astype(np.float64).mean(axis=2)
    across = (brightness[1:-1, 2:] - brightness[1:-1, :-2]) / 2.0
    down = (brightness[2:, 1:-1] - brightness[:-2, 1:-1]) / 2.0
    return float(np.hypot(across, down)[inside].mean())


def gradient_ratio(predicted: Picture, truth: Picture, region: BoolArray) -> float:
    """Mean gradient of the prediction divided by that of the truth inside the region: 0 for a flat colour.

    Noise reaches 1 as true detail does, so that the ratio is not a goal. NaN without pixels that have all neighbours
    inside the region, or with a constant truth.
    """
    true_gradient = mean_gradient(truth, region)
    return mean_gradient(predicted, region) / true_gradient if true_gradient > 0.0 else math.nan


def seam_step(picture: Picture, hidden: BoolArray, body: BoolArray) -> float:
    """Mean step across the border between occluded and visible body.

    Args:
        picture: (H, W, 3).
        hidden: (H, W) bool, the occluded region.
        body: (H, W) bool, the amodal mask.

    Returns:
        Mean absolute difference over all pairs of 4-neighbours with one occluded and one visible body pixel, mean over
        channels, on the 0-255 scale. NaN without such a pair.
    """
    _check_region(picture, hidden)
    _check_same_shape(hidden, body)
    colours, visible = picture.astype(np.float64), body & ~hidden
    total, pairs = 0.0, 0
    for axis in (0, 1):
        # all pairs of neighbours along the axis
        first, second = ((slice(None),) * axis + (part,) for part in (slice(None, -1), slice(1, None)))
        across = (hidden[first] & visible[second]) | (visible[first] & hidden[second])
        total += float(np.abs(colours[first] - colours[second])[across].mean(axis=-1).sum())
        pairs += np.count_nonzero(across)
    return total / pairs if pairs else math.nan


def _check_same_shape(first: Array, second: Array) -> None:
    """Raise ValueError unless both arrays have one shape."""
    if first.shape != second.shape:
        raise ValueError(f"both arrays must have one shape, got {first.shape} and {second.shape}")


def _check_region(picture: Picture, region: BoolArray) -> None:
    """Raise ValueError unless the picture is (H, W, 3) and the region (H, W)."""
    if picture.ndim != 3 or picture.shape[:2] != region.shape:
        raise ValueError(f"picture must be (H, W, 3) and region (H, W), got {picture.shape} and {region.shape}")


def _region_difference(predicted: Picture, truth: Picture, region: BoolArray) -> FloatArray:
    """(K, 3) prediction minus truth at the K pixels of the region."""
    _check_same_shape(predicted, truth)
    _check_region(predicted, region)
    return predicted[region].astype(np.float64) - truth[region].astype(np.float64)
