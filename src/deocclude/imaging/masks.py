"""Masks: morphology, connected components, holes, IoU. Pure functions of (H, W) bool arrays, True = person."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from deocclude.errors import InputError
from deocclude.imaging.arrays import Int, Mask


def check_mask(mask: Any, size_hw: tuple[int, int], name: str) -> Mask:
    """Check a mask from outside and convert it to bool. An empty mask is accepted.

    Args:
        mask: (H, W) bool, or uint8 with the values 0 and 255 (or 0 and 1).
        size_hw: the expected size.
        name: how error messages call this mask.

    Returns:
        (H, W) bool.

    Raises:
        InputError: another type, size, or other values.
    """
    if not isinstance(mask, np.ndarray) or mask.dtype not in (np.bool_, np.uint8):
        kind = mask.dtype if isinstance(mask, np.ndarray) else type(mask).__name__
        raise InputError(f"{name} must be a bool or 0/255 uint8 array, got {kind}")
    if mask.ndim != 2:
        raise InputError(f"{name} must have two dimensions (H, W), got shape {mask.shape}")
    if mask.shape != tuple(size_hw):
        raise InputError(
            f"{name} must have the photo's size {size_hw[0]}x{size_hw[1]} (HxW), got {mask.shape[0]}x{mask.shape[1]}"
        )
    # bool arrays are checked too: Pillow's array of a one-bit image holds 255 for True, which breaks arithmetic.
    values = mask.view(np.uint8)
    top = int(values.max(initial=0))
    if mask.dtype == np.bool_ and top <= 1:
        return mask
    if top not in (0, 1, 255) or ((values != 0) & (values != top)).any():
        raise InputError(f"{name} must hold only 0 and 255, got other values up to {top}")
    is_person: Mask = values != 0
    return is_person


def mask_iou(pred: Mask, target: Mask) -> float:
    """Intersection over union of two masks.

    Args:
        pred: (H, W) bool.
        target: (H, W) bool.

    Returns:
        0 to 1; two empty masks have an IoU of 1.
    """
    union = np.count_nonzero(pred | target)
    return 1.0 if union == 0 else float(np.count_nonzero(pred & target) / union)


def dilate(mask: Mask, radius_px: int) -> Mask:
    """Dilate a mask with a square of side 2 * `radius_px` + 1.

    Args:
        mask: (H, W) bool.
        radius_px: reach in all eight directions.

    Returns:
        (H, W) bool.
    """
    return _dilate_axis(_dilate_axis(mask, radius_px, 0), radius_px, 1)


def erode(mask: Mask, radius_px: int) -> Mask:
    """Erode a mask with a square of side 2 * `radius_px` + 1.

    Pixels outside the image count as True: the image border does not erode the mask.

    Args:
        mask: (H, W) bool.
        radius_px: reach in all eight directions.

    Returns:
        (H, W) bool.
    """
    return ~dilate(~mask, radius_px)


def _dilate_axis(mask: Mask, radius_px: int, axis: int) -> Mask:
    """Dilate along one axis, by `radius_px` in both directions."""
    grown = np.moveaxis(mask.copy(), axis, 0)
    done = 0
    while done < radius_px:
        # Each pixel is a bar of 2 * done + 1 pixels by now: copies of it, done + 1 further on, leave no gap.
        step = min(done + 1, radius_px - done)
        before = grown.copy()
        grown[step:] |= before[:-step]
        grown[:-step] |= before[step:]
        done += step
    return np.moveaxis(grown, 0, axis)


@dataclass(frozen=True)
class Components:
    """Connected components of a mask as horizontal runs: cheap to count and to paint."""

    size_hw: tuple[int, int]
    starts: Int  # (R,) first pixel of each run, in an image flattened with two columns of padding a row
    ends: Int  # (R,) one past the last pixel of each run
    labels: Int  # (R,) component of each run, 0 to count - 1
    areas_px: Int  # (count,) pixels of each component

    @property
    def count(self) -> int:
        """The number of components."""
        return len(self.areas_px)

    def paint(self, chosen: Mask) -> Mask:
        """The mask of the chosen components.

        Args:
            chosen: (count,) bool.

        Returns:
            (H, W) bool.
        """
        height, width = self.size_hw
        runs = chosen[self.labels]
        steps = np.zeros(height * (width + 2) + 1, dtype=np.int8)
        steps[self.starts[runs]] = 1
        steps[self.ends[runs]] = -1
        # Runs never touch: at least one pixel lies between them. The running sum is 0 or 1.
        return np.cumsum(steps[:-1], dtype=np.int8).astype(bool).reshape(height, width + 2)[:, 1:-1]


def connected_components(mask: Mask, diagonal: bool = True) -> Components:
    """Split a mask into connected components.

    Args:
        mask: (H, W) bool.
        diagonal: pixels that touch at a corner are connected too (8-connectivity); else 4-connectivity.
    """
    height, width = mask.shape
    stride = width + 2
    padded = np.zeros((height, stride), dtype=np.int8)
    padded[:, 1:-1] = mask
    steps = np.diff(padded.ravel(), append=np.int8(0))
    starts, ends = np.flatnonzero(steps == 1) + 1, np.flatnonzero(steps == -1) + 1

    # Runs are sorted: the runs of the next row that touch a run are one span of indices, found by bisection.
    reach = int(diagonal)
    first = np.searchsorted(ends, starts + stride - reach, side="right")
    past = np.searchsorted(starts, ends + stride + reach, side="left")
    touching = np.maximum(past - first, 0)
    upper = np.repeat(np.arange(len(starts)), touching)
    offsets = np.arange(touching.sum()) - np.repeat(np.cumsum(touching) - touching, touching)
    lower = np.repeat(first, touching) + offsets

    labels = _join(len(starts), upper, lower)
    _, labels = np.unique(labels, return_inverse=True)
    areas_px = np.bincount(labels, weights=ends - starts).astype(np.int64) if len(starts) else np.zeros(0, np.int64)
    return Components((height, width), starts, ends, labels, areas_px)


def _join(count: int, left: Int, right: Int) -> Int:
    """(count,): the smallest node of each node's connected component in the graph with edges left[i] - right[i]."""
    parents = np.arange(count)
    while True:
        a, b = parents[left], parents[right]
        if np.array_equal(a, b):
            return parents
        lowest = np.minimum(a, b)
        np.minimum.at(parents, a, lowest)
        np.minimum.at(parents, b, lowest)
        while not np.array_equal(parents, parents[parents]):
            parents = parents[parents]


def keep_large_components(mask: Mask, min_share: float) -> Mask:
    """Drop small components; the largest one is always kept.

    Args:
        mask: (H, W) bool.
        min_share: components below this fraction (0 to 1) of the mask's area are dropped.

    Returns:
        (H, W) bool.
    """
    components = connected_components(mask)
    if components.count == 0:
        empty: Mask = mask.copy()
        return empty
    least = min(min_share * components.areas_px.sum(), components.areas_px.max())
    large: Mask = components.areas_px >= least
    return components.paint(large)


def find_holes(mask: Mask, max_share: float = 1.0) -> list[Mask]:
    """Holes of a mask: background components that do not reach the image border.

    Args:
        mask: (H, W) bool.
        max_share: largest area of a hole, as a fraction (0 to 1) of the mask's area.

    Returns:
        One (H, W) bool mask a hole.
    """
    components = connected_components(~mask, diagonal=False)
    if components.count == 0:
        return []
    height, width = mask.shape
    rows, columns = np.divmod(components.starts, width + 2)
    last_columns = columns + (components.ends - components.starts) - 1
    at_edge = (rows == 0) | (rows == height - 1) | (columns == 1) | (last_columns == width)
    inner = np.ones(components.count, dtype=bool)
    inner[components.labels[at_edge]] = False
    inner &= components.areas_px <= max_share * np.count_nonzero(mask)
    return [components.paint(np.arange(components.count) == label) for label in np.flatnonzero(inner)]
