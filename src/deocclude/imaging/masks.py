"""Pure functions on masks: (H, W) bool arrays, True = person. No image files, no networks.

Boxes are `(x0, y0, x1, y1)` in pixels with the end excluded, so that `x1 - x0` is a width and a mask's box holds
whole pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from deocclude.errors import InputError


def check_mask(mask: Any, size_hw: tuple[int, int], name: str) -> np.ndarray:
    """A mask from outside as (H, W) bool; `name` says in errors which one it is.

    Raises InputError unless it is bool or 0/255 (or 0/1) uint8 and of that size. It may be empty.
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
    # For bool too: an array that Pillow made of a one-bit picture holds 255 for True, which breaks arithmetic on it.
    values = mask.view(np.uint8)
    top = int(values.max(initial=0))
    if mask.dtype == np.bool_ and top <= 1:
        return mask
    if top not in (0, 1, 255) or ((values != 0) & (values != top)).any():
        raise InputError(f"{name} must hold only 0 and 255, got other values up to {top}")
    return values != 0


def mask_iou(pred: np.ndarray, target: np.ndarray) -> float:
    """Intersection over union of two (H, W) bool masks, 0 to 1; two empty masks agree fully (1)."""
    union = np.count_nonzero(pred | target)
    return 1.0 if union == 0 else np.count_nonzero(pred & target) / union


def dilate(mask: np.ndarray, radius_px: int) -> np.ndarray:
    """Grow a bool mask by `radius_px` in all eight directions (a square of side 2 * radius + 1)."""
    return _grow_axis(_grow_axis(mask, radius_px, 0), radius_px, 1)


def erode(mask: np.ndarray, radius_px: int) -> np.ndarray:
    """Shrink a bool mask by `radius_px`; outside the picture counts as person, so that its border does not eat in."""
    return ~dilate(~mask, radius_px)


def _grow_axis(mask: np.ndarray, radius_px: int, axis: int) -> np.ndarray:
    grown = np.moveaxis(mask.copy(), axis, 0)
    done = 0
    while done < radius_px:
        # A pixel at the picture's edge is by now a bar of done + 1; a longer step would leave a gap between its
        # copies.
        step = min(done + 1, radius_px - done)
        before = grown.copy()
        grown[step:] |= before[:-step]
        grown[:-step] |= before[step:]
        done += step
    return np.moveaxis(grown, 0, axis)


@dataclass(frozen=True)
class Components:
    """Connected pieces of a mask, as horizontal runs: cheap to count and to paint back."""

    size_hw: tuple[int, int]
    starts: np.ndarray  # (R,) first pixel of each run, in a picture flattened with two columns of padding a row
    ends: np.ndarray  # (R,) one past the last pixel of each run
    labels: np.ndarray  # (R,) piece of each run, 0 to count - 1
    areas_px: np.ndarray  # (count,) pixels of each piece

    @property
    def count(self) -> int:
        """How many pieces there are."""
        return len(self.areas_px)

    def paint(self, chosen: np.ndarray) -> np.ndarray:
        """(H, W) bool mask of the pieces whose entry in `chosen` ((count,) bool) is True."""
        height, width = self.size_hw
        runs = chosen[self.labels]
        steps = np.zeros(height * (width + 2) + 1, dtype=np.int8)
        steps[self.starts[runs]] = 1
        steps[self.ends[runs]] = -1
        # Runs never touch (a gap of a pixel or more parts them), so the running sum is 0 or 1.
        return np.cumsum(steps[:-1], dtype=np.int8).astype(bool).reshape(height, width + 2)[:, 1:-1]


def connected_components(mask: np.ndarray, diagonal: bool = True) -> Components:
    """Split an (H, W) bool mask into connected pieces; `diagonal` also joins pixels that touch at a corner."""
    height, width = mask.shape
    stride = width + 2
    padded = np.zeros((height, stride), dtype=np.int8)
    padded[:, 1:-1] = mask
    steps = np.diff(padded.ravel(), append=np.int8(0))
    starts, ends = np.flatnonzero(steps == 1) + 1, np.flatnonzero(steps == -1) + 1

    # Runs are sorted, so those of the next row that touch a run are one span of indices, found by bisection.
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


def _join(count: int, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(count,) smallest node of each node's group in the graph with edges left[i] - right[i]."""
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


def keep_large_components(mask: np.ndarray, min_share: float) -> np.ndarray:
    """Drop pieces smaller than `min_share` (0 to 1) of the mask's whole area; the largest piece always stays."""
    pieces = connected_components(mask)
    if pieces.count == 0:
        return mask.copy()
    least = min(min_share * pieces.areas_px.sum(), pieces.areas_px.max())
    return pieces.paint(pieces.areas_px >= least)


def find_holes(mask: np.ndarray, max_share: float = 1.0) -> list[np.ndarray]:
    """Holes of a mask: pieces of background that do not reach the picture's edge, each an (H, W) bool mask.

    Only holes of at most `max_share` (0 to 1) of the mask's area are returned.
    """
    pieces = connected_components(~mask, diagonal=False)
    if pieces.count == 0:
        return []
    height, width = mask.shape
    rows, columns = np.divmod(pieces.starts, width + 2)
    last_columns = columns + (pieces.ends - pieces.starts) - 1
    at_edge = (rows == 0) | (rows == height - 1) | (columns == 1) | (last_columns == width)
    inner = np.ones(pieces.count, dtype=bool)
    inner[pieces.labels[at_edge]] = False
    inner &= pieces.areas_px <= max_share * np.count_nonzero(mask)
    return [pieces.paint(np.arange(pieces.count) == label) for label in np.flatnonzero(inner)]
