"""Who is in the photo: instances from a segmenter, which of them are meant, and in which order.

People are numbered from 1, left to right. Masks are (H, W) bool of the upright photo's size and mark what is seen of
a person; rough ones are fine.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol, TypeVar

import numpy as np

from deocclude.errors import InputError, UsageError
from deocclude.imaging.masks import BoxXyxy, box_to_mask, check_mask, mask_to_box_xyxy
from deocclude.people.detector import box_iou

_CROWDED_IOU = 0.05


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

    def seen_in(self, x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
        """(y1 - y0, x1 - x0) bool: what is seen in a part of `box_xyxy`."""
        ...


F = TypeVar("F", bound=Found)


@dataclass(frozen=True, eq=False)
class Instance:
    """One person found in a photo. Raises InputError for a mask or a score that breaks what is said here."""

    mask: np.ndarray = field(repr=False)  # (H, W) bool, at least one True; held as a read-only view, not copied
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
        return int(np.count_nonzero(self.seen_in(*self.box_xyxy)))

    def seen_in(self, x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
        """(y1 - y0, x1 - x0) bool: the mask in that window."""
        return self.mask[y0:y1, x0:x1]


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


class Segmenter(Protocol):
    """Finds people in a photo. Any callable will do: what it returns goes through `as_instances`."""

    def __call__(self, image: np.ndarray, /) -> Sequence[Instance]:
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


def left_to_right(instances: Sequence[F]) -> list[F]:
    """Sorted by the centre of the box, x first, then y: the order in which people are numbered from 1.

    Boxes with one centre follow by their left and top edge; equal boxes keep the order given.
    """

    def place(instance: Found) -> tuple[int, ...]:
        x0, y0, x1, y1 = instance.box_xyxy
        return x0 + x1, y0 + y1, x0, y0

    return sorted(instances, key=place)


def keep(instances: Sequence[F], min_score: float = 0.0, min_height_px: float = 0.0) -> list[F]:
    """Those with at least this score (0 to 1) and at least this height of the box, in the order given."""

    def is_kept(instance: Found) -> bool:
        _, y0, _, y1 = instance.box_xyxy
        return instance.score >= min_score and y1 - y0 >= min_height_px

    return [instance for instance in instances if is_kept(instance)]


@dataclass(frozen=True)
class Choice:
    """Which of the people found are meant."""

    how: Literal["all", "largest", "number", "pixel"] = "all"
    number: int = 0  # from 1, counted from the left; for "number"
    pixel_xy: tuple[int, int] = (0, 0)  # column and row from 0; for "pixel"

    @classmethod
    def parse(cls, text: str | int) -> Choice:
        """Read `all`, `largest`, `N` (the N-th from the left, from 1) or `x,y` (who is at that pixel).

        Raises UsageError for any other text.

        >>> Choice.parse("120,80").pixel_xy
        (120, 80)
        """
        word = str(text).strip().lower()
        if word == "all":
            return cls("all")
        if word == "largest":
            return cls("largest")
        if re.fullmatch(r"[0-9]{1,9}", word) and int(word) > 0:
            return cls("number", number=int(word))
        if pixel := re.fullmatch(r"([0-9]{1,9})\s*,\s*([0-9]{1,9})", word):
            return cls("pixel", pixel_xy=(int(pixel[1]), int(pixel[2])))
        raise UsageError(
            f"a person is chosen by all, largest, a number from the left (1, 2, ...) or a pixel x,y, got {shown(text)}"
        )

    def pick(self, instances: Sequence[F], size_hw: tuple[int, int]) -> list[F]:
        """The chosen people of a photo of `size_hw` (H, W), left to right.

        "largest" is the most pixels; at a pixel the smallest of the masks there is meant. All and the largest of
        nobody are nobody. Raises InputError when there are fewer people than `number`, or nobody at the pixel.
        """
        ordered = left_to_right(instances)
        if self.how == "all":
            return ordered
        if self.how == "largest":
            return [max(ordered, key=lambda one: one.area_px)] if ordered else []
        if self.how == "number":
            if not 1 <= self.number <= len(ordered):
                raise InputError(f"person {self.number} from the left was asked for, but {_people(ordered)} found")
            return [ordered[self.number - 1]]
        x, y = self.pixel_xy
        height, width = size_hw
        if not (0 <= x < width and 0 <= y < height):
            raise InputError(f"pixel {x},{y} must lie in the photo of {width}x{height} pixels")
        there = [one for one in ordered if _is_at(one, x, y)]
        if not there:
            raise InputError(f"nobody is at pixel {x},{y}: {_people(ordered)} found elsewhere in the photo")
        return [min(there, key=lambda one: one.area_px)]


def _is_at(one: Found, x: int, y: int) -> bool:
    x0, y0, x1, y1 = one.box_xyxy
    return x0 <= x < x1 and y0 <= y < y1 and bool(one.seen_in(x, y, x + 1, y + 1).any())


def _people(instances: Sequence[Found]) -> str:
    return "1 person was" if len(instances) == 1 else f"{len(instances) or 'no'} people were"


def kind_of(value: Any) -> str:
    """What came, for an error: the type of a value, or of an array's entries."""
    return str(value.dtype) if isinstance(value, np.ndarray) else type(value).__name__


def shown(value: Any) -> str:
    """A value for an error, in at most 80 letters."""
    # shortened before it is written out: a list may have a million entries
    text = reprlib.repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
