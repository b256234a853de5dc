"""Crops of people, and of background regions without people, at a size that suits training."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from deocclude.data.sources.layers import Layer, PersonPhoto, feather_alpha
from deocclude.imaging.boxes import mask_to_box_xyxy

SURROUNDINGS = 0.75  # context on each side, by the longer side of the person's box: training crops reach about as far
MIN_BACKGROUND_PX = 96  # least shorter side of a background
MAX_BACKGROUND_PX = 720  # largest longer side of a background
_FEATHER_PX = 0.8  # standard deviation of the soft edge of a person
_OCCLUDER_FEATHER_PX = 0.7  # the same of an occluder


@dataclass(frozen=True)
class PersonCrop:
    """A person with the surrounding photo.

    Attributes:
        rgb: (h, w, 3) uint8.
        mask: (h, w) bool, the visible mask.
        parsing: (h, w) uint8 labels into PARSING_NAMES, 255 = unknown, 0 outside the mask; or None.
    """

    rgb: np.ndarray
    mask: np.ndarray
    parsing: np.ndarray | None = None

    def to_person(self, name: str, *, has_background: bool, whole: bool) -> PersonPhoto:
        """The person for training, with a feathered edge."""
        alpha = feather_alpha(self.mask, 0, _FEATHER_PX)
        return PersonPhoto(name, self.rgb, alpha, parsing=self.parsing, has_background=has_background, whole=whole)

    def to_layer(self, name: str) -> Layer:
        """The person as an occluder; one pixel of the rim is dropped, since it may show the old background."""
        return Layer(name, self.rgb, feather_alpha(self.mask, 1, _OCCLUDER_FEATHER_PX))


def cut_out(
    photo: np.ndarray, mask: np.ndarray, *, max_px: int | None, surroundings: float = SURROUNDINGS,
    parsing: np.ndarray | None = None,
) -> PersonCrop:  # fmt: skip
    """Crop a person with context.

    Args:
        photo: (H, W, 3) uint8.
        mask: (H, W) bool, not empty; that of the crop may be, where the person is thinner than a pixel at `max_px`.
        max_px: longest side of the person's box in pixels, or None for no scaling.
        surroundings: context on each side, as a fraction of the box's longer side; two pixels are added.
        parsing: (H, W) uint8 labels into PARSING_NAMES, or None; 0 within the mask becomes 255, unknown.
    """
    x0, y0, x1, y1 = mask_to_box_xyxy(mask)
    longer = max(x1 - x0, y1 - y0)
    margin = round(surroundings * longer) + 2
    height, width = mask.shape
    part = (slice(max(0, y0 - margin), min(height, y1 + margin)), slice(max(0, x0 - margin), min(width, x1 + margin)))
    rgb, mask = photo[part], mask[part]
    parsing = parsing[part] if parsing is not None else None
    factor = 1.0 if max_px is None else min(1.0, max_px / longer)
    if factor < 1:
        size_wh = (max(1, round(rgb.shape[1] * factor)), max(1, round(rgb.shape[0] * factor)))
        rgb = cv2.resize(rgb, size_wh, interpolation=cv2.INTER_AREA)
        mask = cv2.resize(mask.astype(np.uint8) * 255, size_wh, interpolation=cv2.INTER_AREA) >= 128
        if parsing is not None:
            parsing = cv2.resize(parsing, size_wh, interpolation=cv2.INTER_NEAREST)
    if parsing is not None:
        # mask and labels are resized differently: a pixel of the mask without a label is unknown
        parsing = np.where(mask, np.where(parsing == 0, np.uint8(255), parsing), np.uint8(0))
    return PersonCrop(np.ascontiguousarray(rgb), np.ascontiguousarray(mask), parsing)


def background_without_people(photo: np.ndarray, masks: Iterable[np.ndarray]) -> np.ndarray | None:
    """A background: the largest region of a photo without people, or None where none is large enough.

    Args:
        photo: (H, W, 3) uint8.
        masks: (H, W) bool visible mask of each person.

    Returns:
        (h, w, 3) uint8, at most MAX_BACKGROUND_PX on the longer side.
    """
    part = free_region(photo.shape[:2], masks)
    if part is None:
        return None
    background = photo[part]
    factor = min(1.0, MAX_BACKGROUND_PX / max(background.shape[:2]))
    if factor < 1:
        background = cv2.resize(background, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(background)


def free_region(size_hw: tuple[int, int], masks: Iterable[np.ndarray]) -> tuple[slice, slice] | None:
    """Rows and columns of the region beside, above or below all people that has the longest shorter side.

    Args:
        size_hw: the photo's (H, W).
        masks: (H, W) bool visible mask of each person.

    Returns:
        The region, or None where its shorter side is below MIN_BACKGROUND_PX.
    """
    height, width = size_hw
    boxes = np.array([mask_to_box_xyxy(mask) for mask in masks if mask.any()]).reshape(-1, 4)
    if len(boxes) == 0:
        parts = [(0, 0, width, height)]
    else:
        (x0, y0), (x1, y1) = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
        gap = max(4, int(max(x1 - x0, y1 - y0)) // 20)  # margin for shadows, and for hair that a mask misses
        beside = [(0, 0, x0 - gap, height), (x1 + gap, 0, width, height)]
        parts = [*beside, (0, 0, width, y0 - gap), (0, y1 + gap, width, height)]
    left, top, right, bottom = max(parts, key=lambda part: min(part[2] - part[0], part[3] - part[1]))
    if min(right - left, bottom - top) < MIN_BACKGROUND_PX:
        return None
    return slice(int(top), int(bottom)), slice(int(left), int(right))
