"""From prompts to people: each prompt is completed, and each person gets one body.

In this order: prompts are completed and scored; merged detections are split; duplicates are dropped, and parts of one
person joined; each pixel of two visible masks is assigned to one of them; people are sorted from left to right. User
prompts are completed, and their pixels assigned: nothing else.
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
from deocclude.people.stages import Stages


def complete_prompts(
    stages: Stages, photo: ImageU8, prompts: Sequence[Prompt], *, are_user_prompts: bool
) -> list[Body]:
    """One body for each detected person, or for each user prompt; visible masks as by `resolve_overlaps`.

    Detected people are sorted from left to right; those without a visible pixel, or with too low a score, are left
    out. User prompts keep their order and are neither split nor merged: two of them may mark one person, and then keep
    the pixels that they share.

    Args:
        stages: the opened stages.
        photo: (H, W, 3) uint8 RGB.
        prompts: the prompts.
        are_user_prompts: user prompts, not detections.

    Raises:
        NoPersonError: a user prompt without a person.
    """

    def complete_one(prompt: Prompt, is_crowded: bool) -> Body | None:
        try:
            body = stages.completion(photo, prompt.mask(photo.shape[:2]), crowded=is_crowded)
        except NoPersonError:
            if are_user_prompts:
                raise
            return None
        return _scored(body, prompt, stages.settings, keep_always=are_user_prompts)

    are_crowded = in_crowded_boxes(prompts, stages.settings.deduplication.crowded_iou)
    completed = map_people(complete_one, prompts, are_crowded, workers=stages.workers)
    found = [(prompt, body) for prompt, body in zip(prompts, completed, strict=True) if body is not None]
    bodies = [body for _, body in found] if are_user_prompts else _distinct(stages, photo, found)
    visible = resolve_overlaps(bodies, allow_duplicates=are_user_prompts)
    bodies = [body.with_visible(mask) for body, mask in zip(bodies, visible, strict=True)]
    return bodies if are_user_prompts else left_to_right(bodies)


def _distinct(stages: Stages, photo: ImageU8, found: Sequence[tuple[Prompt, Body]]) -> list[Body]:
    """One body for each detected person: merged detections are split, duplicates dropped, parts of a person joined.

    A box of the detector may hold two people, or two boxes one person. The masks of a segmenter are neither split nor
    joined; once completed, two of them may still be duplicates.
    """
    settings = stages.settings.deduplication
    if not any(prompt.from_detector for prompt, _ in found):
        return suppress_duplicates([body for _, body in found], settings)
    split = split_merged(found, _residual_of(stages.completion, photo, stages.settings), settings)
    return join_amodal_duplicates(suppress_duplicates(split, settings), settings)


def _residual_of(
    complete: MaskCompletion, photo: ImageU8, settings: InferenceSettings
) -> Callable[[Prompt, Body], Body | None]:
    """A function that completes the other person in a prompt's box, beside a known body, or returns None."""

    def residual_of(prompt: Prompt, known: Body) -> Body | None:
        try:
            body = complete.complete_residual(photo, prompt.mask(photo.shape[:2]), known)
        except NoPersonError:
            return None
        body = None if body is None else _scored(body, prompt, settings, keep_always=False)
        if body is None:
            return None
        overlap = box_iou(np.array([prompt.area], np.float32), np.array([body.box_xyxy], np.float32)).item()
        # a part of the known person, such as the legs below a known upper body, overlaps less with the box
        return body if overlap >= settings.deduplication.min_residual_box_iou else None

    return residual_of


def _scored(body: Body, prompt: Prompt, settings: InferenceSettings, *, keep_always: bool) -> Body | None:
    """The body with its score times the prompt's.

    Unless `keep_always`, None: where that is below the prompt's least score, where nothing of the body is left, or
    where a detection's own mask has too low a score.
    """
    score = body.score * prompt.score
    unlikely = prompt.from_detector and body.score < settings.detector.min_visible_probability
    if not keep_always and (unlikely or score < prompt.least_score or not body.area_px):
        return None
    return replace(body, score=score)
