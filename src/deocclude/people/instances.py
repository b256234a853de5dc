"""Who is in the photo: instances from a segmenter, which of them are meant, and in which order.

People are numbered from 1, left to right. Masks are (H, W) bool of the upright photo's size and mark what is seen of
a person; rough ones are fine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from deocclude.errors import InputError, kind_of, shown
from deocclude.imaging.boxes import mask_to_box_xyxy
from deocclude.imaging.masks import check_mask


class Found(Protocol):
    """Somebody found in a photo: what is asked of them to sort them, to tell them apart and to choose."""

    @property
    def score(self) -> float:
        """0 to 1: how sure the finder is."""
        ...

    @property
    def box_xyxy(self) -> tuple[int, int, int, int]:
        """Around what is seen, in pixels of the photo, end excluded."""
        ...

    @property
    def area_px(self) -> int:
        """How many pixels are seen."""
        ...

    def visible_in(self, x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
        """(y1 - y0, x1 - x0) bool: what is seen in a part of `box_xyxy`."""
        ...


@dataclass(frozen=True, eq=False)
class Instance:
    """One person found in a photo. Raises InputError for a mask or a score that breaks what is said here."""

    mask: Mask = field(repr=False)  # (H, W) bool, at least one True; held as a read-only view, not copied
    score: float = 1.0  # 0 to 1: how sure the finder is
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
        if not 0 <= score <= 1:  # false for NaN too
            raise InputError(f"an instance's score must be a number from 0 to 1, got {score:g}")
        view = self.mask.view()
        view.flags.writeable = False
        object.__setattr__(self, "mask", view)
        object.__setattr__(self, "score", score)
        object.__setattr__(self, "box_xyxy", mask_to_box_xyxy(view))

    @cached_property
    def area_px(self) -> int:
        """How many pixels the mask has."""
        return int(np.count_nonzero(self.visible_in(*self.box_xyxy)))

    def visible_in(self, x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
        """(y1 - y0, x1 - x0) bool: the mask in that window."""
        return self.mask[y0:y1, x0:x1]


class Segmenter(Protocol):
    """Finds people in a photo. Any callable will do: what it returns goes through `as_instances`."""

    def __call__(self, image: ImageU8, /) -> Sequence[Instance]:
        """`image`: (H, W, 3) uint8 RGB. Returns one instance a person, in any order, masks of the image's size."""
        ...


def as_instances(found: Any, size_hw: tuple[int, int]) -> list[Instance]:
    """What a segmenter found, as instances in the order given; one whose mask has no pixel is left out.

    `found`: a list of `Instance`, (mask, score) pairs or bare masks (score 1), or an (N, H, W) array of masks. A mask
    is (H, W) bool or 0/255 (or 0/1) uint8. Raises InputError for anything else, saying which entry is wrong.
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


# --- which of them, in which order -----------------------------------------------------------------------------------
