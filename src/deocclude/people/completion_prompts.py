"""Completion prompts of a request: checked, and applied to the people they are for."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from deocclude.errors import InputError, UsageError, shown
from deocclude.imaging.arrays import ImageU8, Mask
from deocclude.imaging.boxes import BoxXyxy
from deocclude.inference.body import Body
from deocclude.inference.completion_prompts import JOINTS, CompletionPrompts
from deocclude.inference.prompt_maps import Point
from deocclude.inference.prompted_completion import PreparedCrop, PromptedCompletion, restricted
from deocclude.people.choice import people_were
from deocclude.people.prompts import box_problem, check_prompt

_MAX_EXTENT = 10  # longest side of an extent, in longer sides of the image: a crop of more would take too much memory


def check_completion_prompts(prompts: CompletionPrompts, size_hw: tuple[int, int], name: str) -> CompletionPrompts:
    """Check a user's completion prompts; masks are read.

    Args:
        prompts: for one person.
        size_hw: the image's size. Points may not leave the image; an extent may, up to a length of _MAX_EXTENT.
        name: how error messages call the person.

    Returns:
        The prompts with (H, W) bool masks.

    Raises:
        InputError: a box, point, joint, number or mask cannot be used.
    """
    if not isinstance(prompts, CompletionPrompts):
        raise InputError(f"the completion prompts of {name} must be CompletionPrompts, got {type(prompts).__name__}")

    def checked_mask(kind: str) -> Mask | None:
        given = getattr(prompts, kind)
        return None if given is None else check_prompt(given, size_hw, f"the {kind} mask of {name}")

    if not isinstance(prompts.joints, Mapping):
        raise InputError(f"the joints of {name} must be points by the joint's name, got {shown(prompts.joints)}")
    unknown = [joint for joint in prompts.joints if joint not in JOINTS]
    if unknown:
        raise InputError(f"{name} has no joint {shown(unknown[0])}: joints are {', '.join(JOINTS)}")
    return replace(
        prompts,
        extent_xyxy=None if prompts.extent_xyxy is None else _extent(prompts.extent_xyxy, size_hw, name),
        points=_points(prompts.points, size_hw, name),
        not_points=_points(prompts.not_points, size_hw, name),
        joints={joint: _point(at, size_hw, f"the {joint} of {name}") for joint, at in prompts.joints.items()},
        pose=_number_from_1(prompts.pose, f"the typical pose of {name}"),
        hypothesis=_number_from_1(prompts.hypothesis, f"the hypothesis of {name}"),
        front=checked_mask("front"),
        keep=checked_mask("keep"),
        background=checked_mask("background"),
    )


def check_prompts_of_people(
    prompts: Mapping[int, CompletionPrompts], size_hw: tuple[int, int]
) -> dict[int, CompletionPrompts]:
    """`check_completion_prompts` for the prompts of each person, by number."""
    return {number: check_completion_prompts(given, size_hw, f"person {number}") for number, given in prompts.items()}


def check_people(prompts: Collection[int], found: Collection[int], decided: Collection[int]) -> None:
    """Raise InputError where there is no person of a number with prompts, or the person was not chosen."""
    for number in prompts:
        if number not in found:
            raise InputError(f"person {number} has completion prompts, but {people_were(len(found))} found")
        if number not in decided:
            raise InputError(f"person {number} has completion prompts, but was not chosen")


def prompted_bodies(
    completion: PromptedCompletion | None, photo: ImageU8, found: Mapping[int, Body], decided: Mapping[int, Body],
    prompts: Mapping[int, CompletionPrompts], model: str,
) -> dict[int, Body]:  # fmt: skip
    """The bodies by number, those with completion prompts completed again.

    Args:
        completion: stage 1's prompted head; None for a model without.
        photo: (H, W, 3) uint8 RGB.
        found: every body of the image, with everything that may be hidden.
        decided: the chosen bodies, with the hidden parts that are completed.
        prompts: checked, by number.
        model: its name, for errors.

    Raises:
        InputError: there is no such person, or the person was not chosen.
        UsageError: the model has no prompted head.
        NoPersonError: nothing visible is left of a person.
    """
    check_people(prompts, found, decided)
    bodies = dict(decided)
    for number, given in prompts.items():
        bodies[number], _ = prompted_body(completion, photo, found[number], decided[number], given, model)
    return bodies


def prompted_body(
    completion: PromptedCompletion | None, photo: ImageU8, found: Body, decided: Body, prompts: CompletionPrompts,
    model: str, prepared: PreparedCrop | None = None,
) -> tuple[Body, PreparedCrop | None]:  # fmt: skip
    """One body, completed as its prompts say.

    Args:
        completion: stage 1's prompted head; None for a model without.
        photo: (H, W, 3) uint8 RGB.
        found: the body with everything that may be hidden.
        decided: the body with what is completed without prompts.
        prompts: checked.
        model: its name, for errors.
        prepared: features of a crop, used again where it fits.

    Returns:
        The body, and the features that were used last.

    Raises:
        UsageError: the model has no prompted head.
        NoPersonError: nothing visible is left of the person.
    """
    body = decided if prompts.only_restricts else found
    if not prompts.for_head:
        return restricted(body, prompts), prepared
    if completion is None:
        raise UsageError(
            f"model {model} has no head for completion prompts: masks alone (front, keep, background) are possible"
        )
    if prepared is None or not completion.covers(prepared, body, prompts):
        prepared = completion.prepare(photo, body, prompts)
    return restricted(completion.answer(photo, body, prepared, prompts), prompts), prepared


def _extent(box_xyxy: BoxXyxy, size_hw: tuple[int, int], name: str) -> BoxXyxy:
    """The extent as four floats. Raises InputError where it misses the image or is longer than _MAX_EXTENT."""
    x0, y0, x1, y1 = _numbers(box_xyxy, 4, f"the extent of {name}")
    if problem := box_problem((x0, y0, x1, y1)):
        raise InputError(f"the extent of {name} {problem}")
    height, width = size_hw
    if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height:
        raise InputError(f"the extent of {name} lies outside the photo of {width}x{height} pixels")
    if max(x1 - x0, y1 - y0) > _MAX_EXTENT * max(size_hw):
        raise InputError(
            f"the extent of {name} may be {_MAX_EXTENT} times as long as the photo of {width}x{height} pixels at most"
        )
    return x0, y0, x1, y1


def _points(points: Any, size_hw: tuple[int, int], name: str) -> tuple[Point, ...]:
    """Points inside the image. Raises InputError."""
    try:
        given = list(points)
    except TypeError as error:
        raise InputError(f"the points of {name} must be a list, got {shown(points)}") from error
    return tuple(_point(point, size_hw, f"a point of {name}") for point in given)


def _number_from_1(number: Any, name: str) -> int | None:
    """A whole number from 1, or None. Raises InputError."""
    if number is None:
        return None
    if isinstance(number, bool) or not isinstance(number, (int, np.integer)) or number < 1:
        raise InputError(f"{name} must be a number from 1, got {shown(number)}")
    return int(number)


def _point(point: Point, size_hw: tuple[int, int], name: str) -> Point:
    """Two floats inside the image. Raises InputError."""
    x, y = _numbers(point, 2, name)
    height, width = size_hw
    if not (0 <= x <= width and 0 <= y <= height):
        raise InputError(f"{name} must lie in the photo of {width}x{height} pixels, got ({x:g}, {y:g})")
    return x, y


def _numbers(values: Any, count: int, name: str) -> list[float]:
    """`count` finite numbers as floats. Raises InputError."""
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError, OverflowError):
        numbers = []
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise InputError(f"{name} must be {count} finite numbers in pixels, got {shown(values)}")
    return numbers
