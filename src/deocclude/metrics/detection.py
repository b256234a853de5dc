"""Recall and precision of found boxes, with people and places that do not count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deocclude.imaging.boxes import box_iou

_MOSTLY = 0.5  # share of a false box in ignored pixels from which it is no fault


@dataclass(frozen=True)
class Matched:
    """One photo's outcome. scores: (N,) of the found boxes that count; correct: (N,) bool; people: to be found."""

    scores: np.ndarray
    correct: np.ndarray
    people: int


def match_boxes(
    found_xyxy: np.ndarray, scores: np.ndarray, truth_xyxy: np.ndarray, *, ignore: np.ndarray | None = None,
    min_height_px: float = 0.0, min_iou: float = 0.5,
) -> Matched:  # fmt: skip
    """Match found boxes (N, 4) to true ones (M, 4), the surest first, each to the best that is left.

    ignore: (H, W) bool, pixels of people whom nobody labelled. People lower than `min_height_px` do not count, nor does
    a box that finds one of them, nor an unmatched box that is as low or lies mostly in `ignore`.
    """
    iou = box_iou(found_xyxy, truth_xyxy)
    tall = truth_xyxy[:, 3] - truth_xyxy[:, 1] >= min_height_px
    free = np.ones(len(truth_xyxy), bool)
    counted, correct = np.zeros((2, len(found_xyxy)), bool)
    for i in np.argsort(-scores, kind="stable"):
        # people who count come first: a small neighbour must not take the box that finds a tall one
        for group in (tall, ~tall):
            candidates = np.flatnonzero(free & group & (iou[i] >= min_iou))
            if len(candidates):
                best = candidates[np.argmax(iou[i, candidates])]
                free[best] = False
                counted[i] = correct[i] = bool(tall[best])
                break
        else:
            high = found_xyxy[i, 3] - found_xyxy[i, 1] >= min_height_px
            counted[i] = high and _share_inside(found_xyxy[i], ignore) < _MOSTLY
    return Matched(scores[counted], correct[counted], int(tall.sum()))


def recall_precision(outcomes: Sequence[Matched], min_score: float = 0.0) -> tuple[float, float]:
    """Share of people found and share of boxes that are people, over photos. Nobody to find: recall 1; no box:
    precision 1."""
    scores = np.concatenate([np.zeros(0), *(o.scores for o in outcomes)])
    correct = np.concatenate([np.zeros(0, bool), *(o.correct for o in outcomes)])[scores >= min_score]
    people = sum(o.people for o in outcomes)
    return (correct.sum() / people if people else 1.0), (correct.mean() if len(correct) else 1.0)


def f1(recall: float, precision: float) -> float:
    """Harmonic mean of the two, 0 when both are."""
    return 2 * recall * precision / max(recall + precision, 1e-9)


def _share_inside(box_xyxy: np.ndarray, mask: np.ndarray | None) -> float:
    if mask is None:
        return 0.0
    x0, y0, x1, y1 = np.round(box_xyxy).astype(int).clip(0)
    part = mask[y0:y1, x0:x1]
    return float(part.mean()) if part.size else 0.0
