"""From prompts to people: each prompt is completed, and overlaps are resolved until each person has one body.

Three steps, in this order: merged detections are split, duplicates are dropped or, as parts of one person, joined, and
each pixel of two visible masks is assigned to one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from deocclude.errors import NoPersonError
from deocclude.imaging.arrays import ImageU8
from deocclude.imaging.boxes import box_iou
from deocclude.imaging.depth_order import resolve_overlaps
from deocclude.inference.body import Body
from deocclude.inference.mask_completion import MaskCompletion
from deocclude.inference.scheduling import map_people
from deocclude.inference.settings import InferenceSettings
from deocclude.people.choice import left_to_right
from deocclude.people.deduplicate import join_amodal_duplicates, split_merged, suppress_duplicates
from deocclude.people.prompts import Prompt, in_crowded_boxes


def complete_prompts(
    complete: MaskCompletion, photo: ImageU8, prompts: Sequence[Prompt], settings: InferenceSettings,
    *, are_user_prompts: bool, workers: int = 1,
) -> list[tuple[Prompt, Body]]:  # fmt: skip
    """The body of each prompt. Detections without a person, or with too low a score, are left out.

    Args:
        complete: stage 1.
        photo: (H, W, 3) uint8 RGB.
        prompts: the prompts.
        settings: tuned numbers.
        are_user_prompts: user prompts, not detections.
        workers: people processed at once.

    Raises:
        NoPersonError: a user prompt without a person.
    """

    def complete_one(prompt: Prompt, crowded: bool) -> Body | None:
        return _complete_prompt(complete, photo, prompt, settings, is_user_prompt=are_user_prompts, crowded=crowded)

    crowded = in_crowded_boxes(prompts, settings.deduplication.crowded_iou)
    completed = map_people(complete_one, prompts, crowded, workers=workers)
    return [(prompt, body) for prompt, body in zip(prompts, completed, strict=True) if body is not None]


def _complete_prompt(
    complete: MaskCompletion, photo: ImageU8, prompt: Prompt, settings: InferenceSettings, *, is_user_prompt: bool,
    crowded: bool,
) -> Body | None:  # fmt: skip
    """The body of one prompt; None for a detection without a person, or with too low a score."""
    try:
        body = complete(photo, prompt.mask(photo.shape[:2]), crowded=crowded)
    except NoPersonError:
        if is_user_prompt:
            raise
        return None
    return _scored(body, prompt, settings, certain=is_user_prompt)


def resolve(
    complete: MaskCompletion, photo: ImageU8, found: Sequence[tuple[Prompt, Body]], settings: InferenceSettings,
    *, are_user_prompts: bool,
) -> list[Body]:  # fmt: skip
    """One body for each person, with disjoint visible masks.

    Detected people are sorted from left to right. User prompts keep their order and are neither split nor merged: two
    of them may mark one person. The masks of a segmenter are distinct already; two boxes may give the mask of one
    person.

    Args:
        complete: stage 1.
        photo: (H, W, 3) uint8 RGB.
        found: each prompt with its body.
        settings: tuned numbers.
        are_user_prompts: user prompts, not detections.
    """
    bodies = [body for _, body in found]
    if not are_user_prompts:
        from_boxes = any(prompt.from_detector for prompt, _ in found)
        if from_boxes:
            bodies = split_merged(found, _residual_of(complete, photo, settings), settings.deduplication)
        bodies = suppress_duplicates(bodies, settings.deduplication)
        if from_boxes:
            bodies = join_amodal_duplicates(bodies, settings.deduplication)
    visible = resolve_overlaps(bodies, allow_duplicates=are_user_prompts)
    bodies = [body.with_visible(mask) for body, mask in zip(bodies, visible, strict=True)]
    return bodies if are_user_prompts else left_to_right(bodies)


def _residual_of(
    complete: MaskCompletion, photo: ImageU8, settings: InferenceSettings
) -> Callable[[Prompt, Body], Body | None]:
    """A function that completes the residual person of a prompt's box beside a known body, or returns None."""

    def residual_of(prompt: Prompt, known: Body) -> Body | None:
        try:
            body = complete.complete_residual(photo, prompt.mask(photo.shape[:2]), known)
        except NoPersonError:
            return None
        body = None if body is None else _scored(body, prompt, settings, certain=False)
        if body is None:
            return None
        prompt_box, body_box = np.array([[prompt.area], [body.box_xyxy]], np.float32)
        (filled,) = box_iou(prompt_box, body_box).ravel()
        # a part of the known person, such as the legs below a known upper body, fills less of the box
        return body if filled >= settings.deduplication.min_residual_box_iou else None

    return residual_of


def _scored(body: Body, prompt: Prompt, settings: InferenceSettings, *, certain: bool) -> Body | None:
    """The body with its score times the prompt's; None, unless `certain`, where that is too low."""
    score = body.score * prompt.score
    unlikely = prompt.from_detector and body.score < settings.detector.min_visible_probability
    if not certain and (unlikely or score < prompt.least_score or not body.area_px):
        return None
    return replace(body, score=score)
