"""Prompts of people: masks and boxes, checked, with who gave them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from deocclude.imaging.boxes import BoxXyxy, box_iou, box_to_mask

_CROWDED_IOU = 0.05


@dataclass(frozen=True, eq=False)
class Prompt:
    """What is known of a person before stage 1: a rough visible mask, or a box. The mask of a box is made when needed,
    so that many people in a large photo do not take much memory."""

    area: np.ndarray | BoxXyxy = field(repr=False)  # (H, W) bool, or (x0, y0, x1, y1) in pixels
    score: float = 1.0  # 0 to 1: how sure the finder is; 1 for what a user points at
    doubtful: bool = False  # there may be nobody
    least_score: float = 0.0  # whom stage 1 leaves with less is nobody

    def mask(self, size_hw: tuple[int, int]) -> np.ndarray:
        """(H, W) bool: the rough mask, or the filled box."""
        return self.area if isinstance(self.area, np.ndarray) else box_to_mask(self.area, size_hw)


def in_crowds(prompts: Sequence[Prompt]) -> list[bool]:
    """For each prompt whether it is a box that another one's overlaps by an IoU of 0.05 or more."""
    edges = [prompt.area if isinstance(prompt.area, tuple) else (0.0,) * 4 for prompt in prompts]
    boxes = np.array(edges, np.float32).reshape(-1, 4)
    overlap = box_iou(boxes, boxes)
    np.fill_diagonal(overlap, 0.0)
    return (overlap >= _CROWDED_IOU).any(1).tolist()
