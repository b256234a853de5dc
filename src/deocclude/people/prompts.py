"""Prompts: what is known of a person before the networks run, a mask or a box. User prompts are checked here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from deocclude.errors import InputError, shown
from deocclude.imaging.arrays import Mask
from deocclude.imaging.boxes import BoxXyxy, box_iou, box_to_mask
from deocclude.imaging.masks import check_mask
from deocclude.io.images import MaskSource, open_mask
from deocclude.io.mask_labels import people_of

# Detectors may round a box past the image border; a box further outside belongs to another image.
_BOX_SLACK_PX = 1.0
# Nobody can be seen in less; smaller boxes are slips, such as fractions of the photo's size.
MIN_BOX_SIDE_PX = 4
_TOP_FRACTION = 1.5  # a box with no edge above it is in fractions of the photo's size, maybe a little outside


@dataclass(frozen=True, eq=False)
class Prompt:
    """A rough visible mask, or a box, whose mask is drawn when needed: many people then take little memory."""

    area: Mask | BoxXyxy = field(repr=False)  # (H, W) bool, or (x0, y0, x1, y1) in pixels
    score: float = 1.0  # 0 to 1: of the detector or segmenter; 1 for a user prompt
    from_detector: bool = False  # by the model's own detector: it may be a false positive
    least_score: float = 0.0  # of this score times stage 1's; a body with less is dropped

    def mask(self, size_hw: tuple[int, int]) -> Mask:
        """(H, W) bool: the rough mask, or the filled box."""
        return self.area if isinstance(self.area, np.ndarray) else box_to_mask(self.area, size_hw)


def in_crowded_boxes(prompts: Sequence[Prompt], min_iou: float) -> list[bool]:
    """For each prompt whether it is a box that another box overlaps.

    Args:
        prompts: all prompts of the image.
        min_iou: least IoU of an overlap.
    """
    edges = [prompt.area if isinstance(prompt.area, tuple) else (0.0,) * 4 for prompt in prompts]
    boxes = np.array(edges, np.float32).reshape(-1, 4)
    overlap = box_iou(boxes, boxes)
    np.fill_diagonal(overlap, 0.0)
    crowded: Mask = overlap >= min_iou
    return [bool(row.any()) for row in crowded]


def check_prompt(mask: MaskSource, size_hw: tuple[int, int], name: str) -> Mask:
    """Check a user's mask and convert it to bool.

    Args:
        mask: (H, W) bool, or uint8 with the values 0 and 255 (or 0 and 1). Other uint8 and float masks are read as from
            a file: soft masks are True from half of their highest value on (`io.mask_labels.people_of`). Or a path,
            bytes, an open file or a Pillow image, as for `load_mask`; it is turned upright by its EXIF.
        size_hw: the image's size.
        name: how error messages call this mask.

    Returns:
        (H, W) bool.

    Raises:
        InputError: another type or size, labels of several people, an empty mask, or a file that cannot be read.
    """
    if isinstance(mask, (str, os.PathLike)):
        name = f"{name} ({os.fspath(mask)})"
    if (image := _image_of(mask)) is not None:
        people = people_of(image, name)
        if len(people) > 1:
            raise InputError(f"{name} has the labels of {len(people)} people: give one mask a person")
        (mask,) = people
    checked = check_mask(mask, size_hw, name)
    if not checked.any():
        raise InputError(f"{name} is empty: it must mark at least one pixel of the person")
    return checked


def _image_of(mask: Any) -> Image.Image | None:
    """The Pillow image of a mask that is a file, an image, or an array of grey levels; None for others."""
    if _has_levels(mask):
        return Image.fromarray(mask.astype(np.float32) if mask.dtype.kind == "f" else mask)
    is_file = isinstance(mask, (str, os.PathLike, bytes, bytearray, memoryview)) or hasattr(mask, "read")
    is_source = is_file or isinstance(mask, Image.Image)
    return open_mask(mask) if is_source else None


def _has_levels(mask: Any) -> bool:
    """Whether a mask is an array of grey levels, probabilities or labels, rather than of yes and no."""
    if not isinstance(mask, np.ndarray) or mask.ndim != 2 or not mask.size:
        return False
    if mask.dtype.kind == "f":
        return bool(np.isfinite(mask).all() and mask.min() >= 0)
    return mask.dtype == np.uint8 and not np.isin(mask, (0, 1) if mask.max() <= 1 else (0, 255)).all()


def check_box(box_xyxy: BoxXyxy, size_hw: tuple[int, int], name: str) -> BoxXyxy:
    """Check a user's box.

    Args:
        box_xyxy: four numbers in pixels.
        size_hw: the image's size.
        name: how error messages call this box.

    Returns:
        The box as four floats.

    Raises:
        InputError: the box is inverted, in fractions, lower or narrower than MIN_BOX_SIDE_PX, or outside the image.
    """
    try:
        edges = [float(edge) for edge in box_xyxy]
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{name} must be four numbers (x0, y0, x1, y1), got {shown(box_xyxy)}") from error
    if len(edges) != 4 or not all(np.isfinite(edges)):
        raise InputError(f"{name} must be four finite numbers (x0, y0, x1, y1), got {shown(box_xyxy)}")
    x0, y0, x1, y1 = box = (edges[0], edges[1], edges[2], edges[3])
    if problem := box_problem(box):
        raise InputError(f"{name} {problem}")
    height, width = size_hw
    if min(x0, y0) < -_BOX_SLACK_PX or x1 > width + _BOX_SLACK_PX or y1 > height + _BOX_SLACK_PX:
        raise InputError(
            f"{name} must lie in the photo, 0 to {width} wide and 0 to {height} high, got {_box_text(box)}"
        )
    return box


def box_problem(box_xyxy: BoxXyxy) -> str | None:
    """Why a box cannot be a person's in any photo, with the likely slip; None for a usable box.

    Args:
        box_xyxy: four finite numbers.
    """
    x0, y0, x1, y1 = box_xyxy
    if are_fractions(box_xyxy):
        least = f"at least {MIN_BOX_SIDE_PX} px wide and high"
        return f"must be in pixels and {least}, got {_box_text(box_xyxy)}, {FRACTIONS}"
    if x0 >= x1 or y0 >= y1:
        problem = f"must have x0 < x1 and y0 < y1, got {_box_text(box_xyxy)}"
    elif min(x1 - x0, y1 - y0) < MIN_BOX_SIDE_PX:
        problem = f"must be at least {MIN_BOX_SIDE_PX} px wide and high, got {_box_text(box_xyxy)}"
    else:
        return None
    if min(x1, y1) >= MIN_BOX_SIDE_PX and min(x0, y0) >= 0:
        problem += f"; if that is x, y, width, height, the box is {_box_text((x0, y0, x0 + x1, y0 + y1))}"
    return problem


FRACTIONS = "which looks like fractions of the photo's size"  # end of an error message


def are_fractions(coordinates: Sequence[float]) -> bool:
    """Whether coordinates, at least one, look like fractions of a photo's size instead of pixels."""
    return max(coordinates) <= _TOP_FRACTION and min(coordinates) >= -_BOX_SLACK_PX


def _box_text(box_xyxy: BoxXyxy) -> str:
    """A box for error messages."""
    return f"({', '.join(f'{edge:g}' for edge in box_xyxy)})"


def checked_prompts(
    size_hw: tuple[int, int], masks: Sequence[MaskSource] | None, boxes_xyxy: Sequence[BoxXyxy] | None
) -> list[Prompt]:
    """Check a user's prompts.

    Args:
        size_hw: the image's size.
        masks: visible masks, arrays or files (`check_prompt`).
        boxes_xyxy: boxes in pixels.

    Returns:
        Masks first, then boxes.

    Raises:
        InputError: a prompt cannot be used; the message names it.
    """
    areas = [check_prompt(mask, size_hw, f"mask {i}") for i, mask in enumerate(as_list(masks, "masks"), start=1)]
    boxes = [check_box(box, size_hw, f"box {i}") for i, box in enumerate(as_list(boxes_xyxy, "boxes_xyxy"), start=1)]
    return [*(Prompt(mask) for mask in areas), *(Prompt(box) for box in boxes)]


def as_list(prompts: Sequence[Any] | None, name: str) -> list[Any]:
    """Prompts as a list.

    Raises:
        InputError: a single mask or box instead of a list.
    """
    if prompts is None:
        return []
    if isinstance(prompts, (str, bytes, bytearray, memoryview)) or hasattr(prompts, "read"):
        raise InputError(f"{name} must be a list with one entry a person, got a single one: put it in a list")
    try:
        entries = list(prompts)
    except TypeError as error:
        raise InputError(f"{name} must be a list with one entry a person, got {type(prompts).__name__}") from error
    single_mask = isinstance(prompts, np.ndarray) and prompts.ndim == 2 and name == "masks"
    single_box = name == "boxes_xyxy" and len(entries) == 4 and all(np.isscalar(edge) for edge in entries)
    if single_mask or single_box:
        raise InputError(f"{name} must be a list with one entry a person, got a single one: put it in a list")
    return entries
