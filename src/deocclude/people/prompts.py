"""Prompts: what is known of a person before the networks run, a mask or a box; those of a user are checked here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from deocclude.errors import InputError
from deocclude.imaging.boxes import BoxXyxy, box_iou, box_to_mask
from deocclude.imaging.masks import check_mask

# A detector rounds a box past the edge of the image; more than this is a box of another image.
_BOX_SLACK_PX = 1.0


@dataclass(frozen=True, eq=False)
class Prompt:
    """A rough visible mask, or a box, whose mask is made when needed: many people then take little memory."""

    area: np.ndarray | BoxXyxy = field(repr=False)  # (H, W) bool, or (x0, y0, x1, y1) in pixels
    score: float = 1.0  # 0 to 1: of the detector or segmenter; 1 for a user's prompt
    doubtful: bool = False  # a detection: it may hold nobody
    least_score: float = 0.0  # of a body, times stage 1's score; with less it is dropped

    def mask(self, size_hw: tuple[int, int]) -> np.ndarray:
        """(H, W) bool: the rough mask, or the filled box."""
        return self.area if isinstance(self.area, np.ndarray) else box_to_mask(self.area, size_hw)


def in_crowded_boxes(prompts: Sequence[Prompt], min_iou: float) -> list[bool]:
    """For each prompt whether it is a box that another box overlaps, by an IoU of `min_iou` or more."""
    edges = [prompt.area if isinstance(prompt.area, tuple) else (0.0,) * 4 for prompt in prompts]
    boxes = np.array(edges, np.float32).reshape(-1, 4)
    overlap = box_iou(boxes, boxes)
    np.fill_diagonal(overlap, 0.0)
    return (overlap >= min_iou).any(1).tolist()


def check_prompt(mask: Mask, size_hw: tuple[int, int], name: str) -> np.ndarray:
    """A mask as (H, W) bool. Raises InputError unless it is bool or 0/255 (or 0/1) uint8, of that size, not empty."""
    mask = check_mask(mask, size_hw, name)
    if not mask.any():
        raise InputError(f"{name} is empty: it must mark at least one pixel of the person")
    return mask


def check_box(box_xyxy: BoxXyxy, size_hw: tuple[int, int], name: str) -> BoxXyxy:
    """The box as four floats. Raises InputError for a box that is inverted or not in the photo."""
    try:
        box = tuple(float(edge) for edge in box_xyxy)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must be four numbers (x0, y0, x1, y1), got {box_xyxy!r}") from error
    if len(box) != 4 or not all(np.isfinite(box)):
        raise InputError(f"{name} must be four finite numbers (x0, y0, x1, y1), got {box_xyxy!r}")
    shown = ", ".join(f"{edge:g}" for edge in box)
    x0, y0, x1, y1 = box
    if x0 >= x1 or y0 >= y1:
        raise InputError(f"{name} must have x0 < x1 and y0 < y1, got ({shown})")
    height, width = size_hw
    if min(x0, y0) < -_BOX_SLACK_PX or x1 > width + _BOX_SLACK_PX or y1 > height + _BOX_SLACK_PX:
        raise InputError(f"{name} must lie in the photo, 0 to {width} wide and 0 to {height} high, got ({shown})")
    if not box_to_mask(box, size_hw).any():
        raise InputError(f"{name} must hold at least one pixel's centre, got ({shown})")
    return box


def checked_prompts(
    size_hw: tuple[int, int], masks: Sequence[np.ndarray] | None, boxes_xyxy: Sequence[BoxXyxy] | None
) -> list[Prompt]:
    """User prompts, masks first, then boxes. Raises InputError naming the one that cannot be used."""
    drawn = [check_prompt(mask, size_hw, f"mask {i}") for i, mask in enumerate(as_list(masks, "masks"), start=1)]
    boxes = [check_box(box, size_hw, f"box {i}") for i, box in enumerate(as_list(boxes_xyxy, "boxes_xyxy"), start=1)]
    return [Prompt(area) for area in (*drawn, *boxes)]


def as_list(prompts: Sequence | None, name: str) -> list:
    """Prompts as a list; a single mask or box in place of a list is a slip that deserves a clear word."""
    if prompts is None:
        return []
    try:
        entries = list(prompts)
    except TypeError as error:
        raise InputError(f"{name} must be a list with one entry a person, got {type(prompts).__name__}") from error
    single_mask = isinstance(prompts, np.ndarray) and prompts.ndim == 2 and name == "masks"
    single_box = name == "boxes_xyxy" and len(entries) == 4 and all(np.isscalar(edge) for edge in entries)
    if single_mask or single_box:
        raise InputError(f"{name} must be a list with one entry a person, got a single one: put it in a list")
    return entries
