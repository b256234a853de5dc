"""Instances: people found by a segmenter or a detector.

Masks are (H, W) bool of the upright image's size and mark the visible part of a person; rough masks are accepted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from deocclude.errors import InputError, kind_of, shown
from deocclude.imaging.arrays import ImageU8, Mask
from deocclude.imaging.boxes import mask_to_box_xyxy
from deocclude.imaging.masks import check_mask


class Found(Protocol):
    """A person found in an image: everything needed to sort, deduplicate and select people."""

    @property
    def score(self) -> float:
        """Confidence, 0 to 1."""
        ...

    @property
    def box_xyxy(self) -> tuple[int, int, int, int]:
        """The box around the visible part, in image pixels, end excluded."""
        ...

    @property
    def area_px(self) -> int:
        """Number of visible pixels."""
        ...

    def visible_in(self, x0: int, y0: int, x1: int, y1: int) -> Mask:
        """(y1 - y0, x1 - x0) bool: the visible mask in a part of `box_xyxy`."""
        ...


@dataclass(frozen=True, eq=False)
class Instance:
    """One person found by a segmenter."""

    mask: Mask = field(repr=False)  # (H, W) bool, at least one True; held as a read-only view
    score: float = 1.0  # 0 to 1: confidence of the segmenter
    box_xyxy: tuple[int, int, int, int] = field(init=False)  # around the mask, in pixels, end excluded

    def __post_init__(self) -> None:
        if not isinstance(self.mask, np.ndarray) or self.mask.dtype != np.bool_:
            raise InputError(f"an instance's mask must be a bool array, got {kind_of(self.mask)}")
        if self.mask.ndim != 2:
            raise InputError(f"an instance's mask must have two dimensions (H, W), got shape {self.mask.shape}")
        try:
            score = float(self.score)
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(f"an instance's score must be a number from 0 to 1, got {shown(self.score)}") from error
        if not 0 <= score <= 1:  # False for NaN too
            raise InputError(f"an instance's score must be a number from 0 to 1, got {score:g}")
        view = self.mask.view()
        if self.mask.size and view.view(np.uint8).max() > 1:  # Pillow's array of a one-bit image holds 255 for True
            view = view.view(np.uint8) != 0
        view.flags.writeable = False
        object.__setattr__(self, "mask", view)
        object.__setattr__(self, "score", score)
        object.__setattr__(self, "box_xyxy", mask_to_box_xyxy(view))

    @cached_property
    def area_px(self) -> int:
        """Number of pixels of the mask."""
        return int(np.count_nonzero(self.visible_in(*self.box_xyxy)))

    def visible_in(self, x0: int, y0: int, x1: int, y1: int) -> Mask:
        """(y1 - y0, x1 - x0) bool: the mask in that window."""
        return self.mask[y0:y1, x0:x1]


class Segmenter(Protocol):
    """Finds people in an image. Any callable works: `as_instances` checks what it returns."""

    def __call__(self, image: ImageU8, /) -> Sequence[Instance]:
        """Segment the people of an image.

        Args:
            image: (H, W, 3) uint8 RGB.

        Returns:
            One instance for each person, in any order; masks have the image's size.
        """
        ...


def as_instances(found: Any, size_hw: tuple[int, int]) -> list[Instance]:
    """Convert the return value of a segmenter to instances, in the given order. Empty masks are left out.

    Args:
        found: a list of `Instance`, (mask, score) pairs or bare masks (score 1), or an (N, H, W) array of masks. A mask
            is (H, W) bool, or uint8 with the values 0 and 255 (or 0 and 1).
        size_hw: the image's size.

    Raises:
        InputError: any other value; the message says which entry is wrong.
    """
    if isinstance(found, np.ndarray) and found.ndim == 2:
        raise InputError("a segmenter must return a list with one entry a person, got a single mask: put it in a list")
    try:
        entries = list(found)
    except TypeError as error:
        raise InputError(f"a segmenter must return a list with one entry a person, got {kind_of(found)}") from error
    instances = []
    for number, entry in enumerate(entries, start=1):
        if isinstance(entry, Instance):
            mask, score = entry.mask, entry.score
        elif isinstance(entry, (tuple, list)) and len(entry) == 2:
            mask, score = entry
        else:
            mask, score = entry, 1.0
        mask = check_mask(mask, size_hw, f"the mask of instance {number}")
        if not mask.any():
            continue
        try:
            instances.append(entry if isinstance(entry, Instance) else Instance(mask, score))
        except InputError as error:
            raise InputError(f"instance {number}: {error}") from error
    return instances
