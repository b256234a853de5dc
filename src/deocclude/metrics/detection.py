"""Recall and precision of predicted boxes, with ignored people and areas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deocclude.imaging.boxes import box_iou

_IGNORED_FRACTION = 0.5  # an unmatched box does not count with at least this fraction inside `ignore`


@dataclass(frozen=True)
class Matched:
    """Matches of one photo, of boxes and people that count (see `match_boxes`).

    Attributes:
        scores: (N,) confidences of predicted boxes.
        correct: (N,) bool, whether each box has a true one.
        people: number of true boxes that count.
    """

    scores: np.ndarray
    correct: np.ndarray
    people: int


def match_boxes(
    found_xyxy: np.ndarray, scores: np.ndarray, truth_xyxy: np.ndarray, *, ignore: np.ndarray | None = None,
    min_height_px: float = 0.0, min_iou: float = 0.5,
) -> Matched:  # fmt: skip
    """Match predicted to true boxes by descending confidence, each to the free true box with the highest IoU.

    Args:
        found_xyxy: (N, 4) predicted boxes.
        scores: (N,) confidences.
        truth_xyxy: (M, 4) true boxes.
        ignore: (H, W) bool, areas of unlabelled people.
        min_height_px: people of a smaller height do not count; neither do boxes matched to them, nor unmatched boxes
            of a smaller height or at least half inside `ignore`.
        min_iou: of a match.
    """
    iou = box_iou(found_xyxy, truth_xyxy)
    tall = truth_xyxy[:, 3] - truth_xyxy[:, 1] >= min_height_px
    free = np.ones(len(truth_xyxy), bool)
    counted, correct = np.zeros((2, len(found_xyxy)), bool)
    for i in np.argsort(-scores, kind="stable"):
        # people who count first: a small neighbour must not take the box of a tall person
        for group in (tall, ~tall):
            candidates = np.flatnonzero(free & group & (iou[i] >= min_iou))
            if len(candidates):
                best = candidates[np.argmax(iou[i, candidates])]
                free[best] = False
                counted[i] = correct[i] = bool(tall[best])
                break
        else:
            is_tall = found_xyxy[i, 3] - found_xyxy[i, 1] >= min_height_px
            counted[i] = is_tall and _fraction_inside(found_xyxy[i], ignore) < _IGNORED_FRACTION
    return Matched(scores[counted], correct[counted], int(tall.sum()))


def recall_precision(outcomes: Sequence[Matched], min_score: float = 0.0) -> tuple[float, float]:
    """Recall and precision over photos, of boxes with at least `min_score`.

    Recall is 1 without people, precision 1 without boxes.
    """
    scores = np.concatenate([np.zeros(0), *(o.scores for o in outcomes)])
    correct = np.concatenate([np.zeros(0, bool), *(o.correct for o in outcomes)])[scores >= min_score]
    people = sum(o.people for o in outcomes)
    return (correct.sum() / people if people else 1.0), (correct.mean() if len(correct) else 1.0)


def f1(recall: float, precision: float) -> float:
    """Harmonic mean of recall and precision; 0 if both are 0."""
    return 2 * recall * precision / max(recall + precision, 1e-9)


def _fraction_inside(box_xyxy: np.ndarray, mask: np.ndarray | None) -> float:
    """Fraction of a box inside a mask, 0 to 1; 0 without a mask."""
    if mask is None:
        return 0.0
    x0, y0, x1, y1 = np.round(box_xyxy).astype(int).clip(0)
    part = mask[y0:y1, x0:x1]
    return float(part.mean()) if part.size else 0.0
