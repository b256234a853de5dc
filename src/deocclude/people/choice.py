"""Selection among detected people: by score, by height, by number, by pixel."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from deocclude.errors import InputError, UsageError, shown
from deocclude.people.instances import Found

F = TypeVar("F", bound=Found)
T = TypeVar("T")


def left_to_right(instances: Sequence[F]) -> list[F]:
    """Sort people by their box's centre, x first, then y: the order in which people are numbered from 1.

    Equal centres are sorted by the left and top edge; equal boxes keep their order.
    """

    def sort_key(instance: Found) -> tuple[int, ...]:
        x0, y0, x1, y1 = instance.box_xyxy
        return x0 + x1, y0 + y1, x0, y0

    return sorted(instances, key=sort_key)


def number_chosen(bodies: Sequence[T], chosen: Sequence[T]) -> dict[int, T]:
    """The chosen bodies by number. A body keeps its number from the left, whichever of them are chosen.

    Args:
        bodies: all bodies, in the order of their numbers from 1.
        chosen: some of them.
    """
    # by identity: two prompts may give equal bodies
    return {number: body for number, body in enumerate(bodies, start=1) if any(body is one for one in chosen)}


def keep(instances: Sequence[F], min_score: float = 0.0, min_height_px: float = 0.0) -> list[F]:
    """The people with at least a score and a height of the box, in the given order.

    Args:
        instances: detected people.
        min_score: 0 to 1.
        min_height_px: in image pixels.
    """

    def is_kept(instance: Found) -> bool:
        _, y0, _, y1 = instance.box_xyxy
        return instance.score >= min_score and y1 - y0 >= min_height_px

    return [instance for instance in instances if is_kept(instance)]


@dataclass(frozen=True)
class Choice:
    """Which of the detected people are selected.

    Attributes:
        how: the kind of selection.
        number: from 1, counted from the left; for "number".
        pixel_xy: column and row from 0; for "pixel".
    """

    how: Literal["all", "largest", "number", "pixel"] = "all"
    number: int = 0
    pixel_xy: tuple[int, int] = (0, 0)

    @classmethod
    def parse(cls, text: str | int) -> Choice:
        """Read `all`, `largest`, `N` (the N-th from the left, from 1) or `x,y` (the person at that pixel).

        Raises:
            UsageError: any other text.

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
        """The selected people, left to right.

        "largest" selects the person with the most visible pixels. At a pixel, the smallest mask there is selected.
        "all" and "largest" of an empty list are empty.

        Args:
            instances: detected people.
            size_hw: the image's size.

        Raises:
            InputError: there are fewer people than `number`, or nobody is at the pixel.
        """
        ordered = left_to_right(instances)
        people = people_were(len(ordered))
        if self.how == "all":
            return ordered
        if self.how == "largest":
            return [max(ordered, key=lambda one: one.area_px)] if ordered else []
        if self.how == "number":
            if not 1 <= self.number <= len(ordered):
                raise InputError(f"person {self.number} from the left was asked for, but {people} found")
            return [ordered[self.number - 1]]
        x, y = self.pixel_xy
        height, width = size_hw
        if not (0 <= x < width and 0 <= y < height):
            raise InputError(f"pixel {x},{y} must lie in the photo of {width}x{height} pixels")
        there = [one for one in ordered if _is_at(one, x, y)]
        if not there:
            raise InputError(f"nobody is at pixel {x},{y}: {people} found elsewhere in the photo")
        return [min(there, key=lambda one: one.area_px)]


def _is_at(one: Found, x: int, y: int) -> bool:
    """Whether a person's visible mask holds pixel (x, y) of the image."""
    x0, y0, x1, y1 = one.box_xyxy
    return x0 <= x < x1 and y0 <= y < y1 and bool(one.visible_in(x, y, x + 1, y + 1).any())


def people_were(count: int) -> str:
    """A number of people with its verb, for messages."""
    return "1 person was" if count == 1 else f"{count or 'no'} people were"
