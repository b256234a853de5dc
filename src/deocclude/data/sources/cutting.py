"""Cutting people, and places without people, out of photos, at a size that suits training."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from deocclude.data.sources.layers import Layer, PersonPhoto, feather_alpha
from deocclude.imaging.boxes import mask_to_box_xyxy

SURROUNDINGS = 0.75  # of the person's longer side, kept on each side: crops of training reach about as far
MIN_PLACE_PX = 96  # shorter side of a piece of photo that can be a background
MAX_PLACE_PX = 720
_FEATHER_PX = 0.8


@dataclass(frozen=True)
class Cut:
    """A person with the photo around. rgb: (h, w, 3) uint8; mask: (h, w) bool; parsing: (h, w) uint8, 255 = unknown,
    0 outside the mask, or None."""

    rgb: np.ndarray
    mask: np.ndarray
    parsing: np.ndarray | None = None

    def to_person(self, name: str, *, has_background: bool, whole: bool) -> PersonPhoto:
        """For training, its edge feathered."""
        alpha = feather_alpha(self.mask, 0, _FEATHER_PX)
        return PersonPhoto(name, self.rgb, alpha, parsing=self.parsing, has_background=has_background, whole=whole)

    def to_layer(self, name: str) -> Layer:
        """To paste before others: a pixel of the rim is dropped, lest it carries the old background."""
        return Layer(name, self.rgb, feather_alpha(self.mask, 1, 0.7))


def cut_out(
    photo: np.ndarray, mask: np.ndarray, *, max_px: int | None, surroundings: float = SURROUNDINGS,
    parsing: np.ndarray | None = None,
) -> Cut:  # fmt: skip
    """A person of a photo with `surroundings` of their longer side around; that side is at most `max_px`, if not None.

    photo: (H, W, 3) uint8; mask: (H, W) bool, not empty; parsing: (H, W) uint8 labels or None.
    """
    x0, y0, x1, y1 = mask_to_box_xyxy(mask)
    longer = max(x1 - x0, y1 - y0)
    around = round(surroundings * longer) + 2
    height, width = mask.shape
    part = (slice(max(0, y0 - around), min(height, y1 + around)), slice(max(0, x0 - around), min(width, x1 + around)))
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
        # the two were shrunk in two ways: a body pixel without a label is one whose label is not known
        parsing = np.where(mask, np.where(parsing == 0, np.uint8(255), parsing), np.uint8(0))
    return Cut(np.ascontiguousarray(rgb), np.ascontiguousarray(mask), parsing)


def place_without_people(photo: np.ndarray, masks: Iterable[np.ndarray]) -> np.ndarray | None:
    """The part of a photo without people, or None where none is large enough.

    photo: (H, W, 3) uint8; masks: (H, W) bool each. Returns (h, w, 3) uint8, at most MAX_PLACE_PX on the longer side.
    """
    part = free_part(photo.shape[:2], masks)
    if part is None:
        return None
    place = photo[part]
    factor = min(1.0, MAX_PLACE_PX / max(place.shape[:2]))
    if factor < 1:
        place = cv2.resize(place, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(place)


def free_part(size_hw: tuple[int, int], masks: Iterable[np.ndarray]) -> tuple[slice, slice] | None:
    """The largest part of a photo beside, above or below everyone in it, None if under MIN_PLACE_PX.

    masks: (H, W) bool each. Largest is whose shorter side is longest.
    """
    height, width = size_hw
    boxes = np.array([mask_to_box_xyxy(mask) for mask in masks if mask.any()]).reshape(-1, 4)
    if len(boxes) == 0:
        parts = [(0, 0, width, height)]
    else:
        (x0, y0), (x1, y1) = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
        gap = max(4, int(max(x1 - x0, y1 - y0)) // 20)  # shadows, and hair that a mask left out
        beside = [(0, 0, x0 - gap, height), (x1 + gap, 0, width, height)]
        parts = [*beside, (0, 0, width, y0 - gap), (0, y1 + gap, width, height)]
    left, top, right, bottom = max(parts, key=lambda part: min(part[2] - part[0], part[3] - part[1]))
    if min(right - left, bottom - top) < MIN_PLACE_PX:
        return None
    return slice(int(top), int(bottom)), slice(int(left), int(right))
