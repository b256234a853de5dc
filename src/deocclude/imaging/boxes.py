"""Boxes: from masks and to masks, their overlap, and non-maximum suppression. Pure functions of arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deocclude.errors import InputError

BoxXyxy = tuple[float, float, float, float]


def mask_to_box_xyxy(mask: np.ndarray) -> tuple[int, int, int, int]:
    """The smallest box around the True pixels of an (H, W) bool mask. Raises InputError when there are none."""
    rows = np.flatnonzero(mask.any(axis=1))
    if rows.size == 0:
        raise InputError("the mask is empty: it has no person pixel to draw a box around")
    columns = np.flatnonzero(mask[rows[0] : rows[-1] + 1].any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def box_to_mask(box_xyxy: Sequence[float], size_hw: tuple[int, int]) -> np.ndarray:
    """(H, W) bool mask of the pixels whose centre lies in the box; parts of the box outside the picture are cut off."""
    x0, y0, x1, y1 = box_xyxy
    mask = np.zeros(size_hw, dtype=bool)
    # The centre of pixel i is at i + 0.5: it lies in [x0, x1) when ceil(x0 - 0.5) <= i < ceil(x1 - 0.5).
    left, top, right, bottom = (max(0, int(np.ceil(edge - 0.5))) for edge in (x0, y0, x1, y1))
    mask[top:bottom, left:right] = True
    return mask


def is_filled_box(mask: np.ndarray) -> bool:
    """Whether an (H, W) bool mask is a box and nothing else. Raises InputError when it is empty."""
    x0, y0, x1, y1 = mask_to_box_xyxy(mask)
    return bool(mask[y0:y1, x0:x1].all())


def suppress(boxes_xyxy: np.ndarray, scores: np.ndarray, max_iou: float) -> list[int]:
    """Indices of the boxes that stay, the surest first: one that shares more than `max_iou` with a surer one goes."""
    iou = box_iou(boxes_xyxy, boxes_xyxy)
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        if all(iou[i, j] <= max_iou for j in kept):
            kept.append(int(i))
    return kept


def box_iou(a_xyxy: np.ndarray, b_xyxy: np.ndarray) -> np.ndarray:
    """Intersection over union of each of (N, 4) with each of (M, 4) boxes: (N, M)."""
    a, b = a_xyxy[:, None], b_xyxy[None]
    shared = (np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])).clip(0).prod(-1)
    areas = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1)
    return shared / np.maximum(areas - shared, 1e-9)
