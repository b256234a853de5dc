"""Boxes: from masks and to masks, intersection over union, non-maximum suppression. Pure functions of arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deocclude.errors import InputError
from deocclude.imaging.arrays import Float, Mask

BoxXyxy = tuple[float, float, float, float]
"""(x0, y0, x1, y1) in pixels; x1 and y1 are excluded."""

_LEAST_WEIGHT = 1e-12  # of a box in a mean: boxes whose scores are all 0 have a mean too


def mask_to_box_xyxy(mask: Mask) -> tuple[int, int, int, int]:
    """The smallest box around the True pixels of a mask.

    Args:
        mask: (H, W) bool.

    Returns:
        (x0, y0, x1, y1) in pixels, end excluded.

    Raises:
        InputError: the mask has no True pixel.
    """
    rows = np.flatnonzero(mask.any(axis=1))
    if rows.size == 0:
        raise InputError("the mask is empty: it has no person pixel to draw a box around")
    columns = np.flatnonzero(mask[rows[0] : rows[-1] + 1].any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def box_to_mask(box_xyxy: Sequence[float], size_hw: tuple[int, int]) -> Mask:
    """The filled box as a mask.

    Args:
        box_xyxy: in pixels, end excluded; it may leave the image.
        size_hw: the image's size.

    Returns:
        (H, W) bool: True where a pixel's centre lies in the box. Parts of the box outside the image are cut off.
    """
    x0, y0, x1, y1 = box_xyxy
    mask = np.zeros(size_hw, dtype=bool)
    # The centre of pixel i is at i + 0.5: it lies in [x0, x1) when ceil(x0 - 0.5) <= i < ceil(x1 - 0.5).
    left, top, right, bottom = (max(0, int(np.ceil(edge - 0.5))) for edge in (x0, y0, x1, y1))
    mask[top:bottom, left:right] = True
    return mask


def is_filled_box(mask: Mask) -> bool:
    """Whether a mask is exactly one filled box.

    Args:
        mask: (H, W) bool.

    Raises:
        InputError: the mask is empty.
    """
    x0, y0, x1, y1 = mask_to_box_xyxy(mask)
    return bool(mask[y0:y1, x0:x1].all())


def suppress(boxes_xyxy: Float, scores: Float, max_iou: float) -> list[int]:
    """Non-maximum suppression of boxes.

    Args:
        boxes_xyxy: (N, 4).
        scores: (N,).
        max_iou: a box with a larger IoU with a higher-scoring kept box is dropped.

    Returns:
        Indices of the kept boxes by descending score.
    """
    iou = box_iou(boxes_xyxy, boxes_xyxy)
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        if all(iou[i, j] <= max_iou for j in kept):
            kept.append(int(i))
    return kept


def fuse_boxes(passes: Sequence[tuple[Float, Float]], min_iou: float, max_iou: float) -> tuple[Float, Float]:
    """The detections of several passes over one image as one list (weighted boxes fusion, arXiv 1910.13302).

    Boxes of different passes that overlap are one object: its box is their mean, weighted by score, its score the sum
    of theirs over the number of passes.

    Args:
        passes: (N, 4) boxes and (N,) scores of each, at most one box an object.
        min_iou: least IoU of two passes' boxes of one object.
        max_iou: of the fused boxes, as in `suppress`.

    Returns:
        (M, 4) boxes and (M,) scores, by descending score.
    """
    boxes, scores = (np.concatenate(parts) for parts in zip(*passes, strict=True))
    origin = np.concatenate([np.full(len(part), number) for number, (_, part) in enumerate(passes)])
    iou = box_iou(boxes, boxes)
    free = np.ones(len(scores), bool)
    fused, summed = [np.zeros((0, 4))], []
    for i in np.argsort(-scores, kind="stable"):
        if not free[i]:
            continue
        same = [i]
        for other in range(len(passes)):
            candidates = np.flatnonzero(free & (origin == other) & (iou[i] >= min_iou))
            if other != origin[i] and len(candidates):
                same.append(candidates[np.argmax(scores[candidates])])
        free[same] = False
        weights = np.maximum(scores[same], _LEAST_WEIGHT)
        fused.append(np.average(boxes[same], axis=0, weights=weights)[None])
        summed.append(scores[same].sum())
    means, shares = np.concatenate(fused), np.array(summed) / len(passes)
    kept = suppress(means, shares, max_iou)
    return means[kept], shares[kept]


def box_iou(a_xyxy: Float, b_xyxy: Float) -> Float:
    """Intersection over union of every pair of boxes.

    Args:
        a_xyxy: (N, 4).
        b_xyxy: (M, 4).

    Returns:
        (N, M), 0 to 1.
    """
    a, b = a_xyxy[:, None], b_xyxy[None]
    shared = (np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])).clip(0).prod(-1)
    areas = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1)
    iou: Float = shared / np.maximum(areas - shared, 1e-9)
    return iou
