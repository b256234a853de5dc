"""The steps of the page: functions of an open photo that the studio's process does. What they take can be pickled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from deocclude.errors import InputError
from deocclude.people.editing import Editing
from deocclude.serve.studio import conversion, downloads
from deocclude.serve.studio.messages import ChangeView, HypothesisView, SentArrangement, SentPerson, SentPrompts
from deocclude.serve.studio.work import OpenPhoto
from deocclude.types import Result

Change = Callable[[Editing], Result | int]
"""A change of people; returns the number of a person that it added, or the result."""


def everyone(photo: OpenPhoto) -> ChangeView:
    """All people of a photo."""
    return conversion.change_view(None, photo.result)


def change(act: Change, photo: OpenPhoto) -> ChangeView:
    """Do a change; returns the people that changed. Raises what `act` raises."""
    before = photo.result
    done = act(photo.editing)
    return conversion.change_view(before, photo.result, done if isinstance(done, int) else None)


def complete(number: int, sent: SentPrompts, editing: Editing) -> Result:
    """Complete a person with prompts. Raises InputError, UsageError."""
    return editing.complete(number, conversion.read_prompts(sent, _size_hw(editing)))


def add(sent: SentPerson, editing: Editing) -> int:
    """Add a person. Raises InputError."""
    return editing.add(**_mask_or_box(sent, editing))


def replace(number: int, sent: SentPerson, editing: Editing) -> Result:
    """Give a person another visible part. Raises InputError."""
    return editing.replace(number, **_mask_or_box(sent, editing))


def remove(number: int, editing: Editing) -> Result:
    """Take a person out. Raises InputError."""
    return editing.remove(number)


def hypotheses(number: int, photo: OpenPhoto) -> list[HypothesisView]:
    """Four completions of a person. Raises InputError, UsageError."""
    return [conversion.hypothesis_view(one) for one in photo.editing.hypotheses(number, count=4)]


def background(photo: OpenPhoto) -> bytes:
    """PNG of the scene without people."""
    return conversion.png(photo.background().pixels, photo.result.icc_profile)


def arranged(sent: SentArrangement, max_pixels: int, photo: OpenPhoto) -> bytes:
    """An OpenRaster file of the layers as arranged. Raises InputError, TooManyPixelsError."""
    return downloads.arranged_ora(photo, sent, max_pixels)


def _mask_or_box(sent: SentPerson, editing: Editing) -> dict[str, Any]:
    """The mask or box of a person as a keyword argument. Raises InputError: neither or both are given."""
    if (sent.mask is None) == (sent.box_xyxy is None):
        raise InputError("a person is given by a mask or by a box: give one of them")
    if sent.mask is None:
        return {"box_xyxy": sent.box_xyxy}
    mask = conversion.read_mask(sent.mask, _size_hw(editing), "visible")
    if not mask.any():
        raise InputError("the visible mask is empty")
    return {"mask": mask}


def _size_hw(editing: Editing) -> tuple[int, int]:
    return editing.photo.shape[0], editing.photo.shape[1]
