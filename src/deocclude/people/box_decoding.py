"""Boxes and scores from the maps of detection networks. numpy only."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from deocclude.imaging.arrays import Float32
from deocclude.inference.settings import DetectorSettings

MAX_PEOPLE = 100  # bounds time and memory
_CANDIDATES = 300  # most cells of NanoDet's maps that are decoded to boxes; one person has several
STRIDES = (8, 16, 32)  # of NanoDet's maps, in input pixels


def decode_centres(
    centre: Float32, sides: Float32, stride: int, min_score: float = DetectorSettings.min_score
) -> tuple[Float32, Float32]:
    """Boxes of the centre-based detector. A person is a local maximum of the heatmap of at least `min_score`.

    Args:
        centre: (h, w) heatmap, 0 to 1.
        sides: (4, h, w) distances to the left, top, right and bottom edge, in cells.
        stride: input pixels per cell.
        min_score: 0 to 1.

    Returns:
        (N, 4) float32 boxes in input pixels and (N,) float32 scores, by descending score; at most MAX_PEOPLE.
    """
    rows, columns = np.nonzero((centre >= min_score) & (centre >= _neighbourhood_max(centre)))
    scores = centre[rows, columns]
    order = np.argsort(-scores, kind="stable")[:MAX_PEOPLE]
    rows, columns = rows[order], columns[order]
    reach = sides[:, rows, columns].T
    middle = np.stack([columns, rows], 1) + 0.5
    boxes = np.concatenate([middle - reach[:, :2], middle + reach[:, 2:]], 1) * stride
    return boxes.astype(np.float32), scores[order].astype(np.float32)


def decode_distances(maps: Mapping[str, Float32], min_score: float) -> tuple[Float32, Float32]:
    """Boxes of NanoDet, before non-maximum suppression.

    A cell's distance to each edge of its box is the expectation of a distribution over 0, 1, ... strides (generalised
    focal loss, Li et al. 2020, arXiv 2006.04388).

    Args:
        maps: for the strides S of 8, 16 and 32 input pixels: `scores_S` (1, 1, h, w), 0 to 1, and `distances_S`
            (1, 4 * bins, h, w), logits for left, top, right and bottom.
        min_score: 0 to 1.

    Returns:
        (N, 4) float32 boxes in input pixels and (N,) float32 scores, by descending score; at most 300.
    """
    boxes, scores = [np.zeros((0, 4), np.float32)], [np.zeros(0, np.float32)]
    for stride in STRIDES:
        score = maps[f"scores_{stride}"][0, 0]
        rows, columns = np.nonzero(score >= min_score)
        logits = maps[f"distances_{stride}"][0][:, rows, columns]
        logits = logits.reshape(4, len(logits) // 4, len(rows))
        share = np.exp(logits - logits.max(1, keepdims=True))
        reach = (share * np.arange(logits.shape[1])[:, None]).sum(1) / share.sum(1)  # (4, N), in strides
        middle = np.stack([columns, rows]) + 0.5
        boxes.append((np.concatenate([middle - reach[:2], middle + reach[2:]]).T * stride).astype(np.float32))
        scores.append(score[rows, columns].astype(np.float32))
    every_box, every_score = np.concatenate(boxes), np.concatenate(scores)
    order = np.argsort(-every_score, kind="stable")[:_CANDIDATES]
    return every_box[order], every_score[order]


def _neighbourhood_max(values: Float32) -> Float32:
    """(h, w): the largest value in each cell's 3x3 neighbourhood."""
    padded = np.pad(values, 1, constant_values=-np.inf)
    across = np.maximum(np.maximum(padded[:, :-2], padded[:, 1:-1]), padded[:, 2:])
    largest: Float32 = np.maximum(np.maximum(across[:-2], across[1:-1]), across[2:])
    return largest
