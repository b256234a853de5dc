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
from deocclude.people.stages import Stages


def complete_prompts(
    stages: Stages, photo: ImageU8, prompts: Sequence[Prompt], *, are_user_prompts: bool
) -> list[Body]:
    """One body for each person of the prompts, with disjoint visible masks.

    Detected people are sorted from left to right; those without a visible pixel, or with too low a score, are left
    out. User prompts keep their order and are neither split nor merged: two of them may mark one person.

    Args:
        stages: the opened stages.
        photo: (H, W, 3) uint8 RGB.
        prompts: the prompts.
        are_user_prompts: user prompts, not detections.

    Raises:
        NoPersonError: a user prompt without a person.
    """

    def complete_one(prompt: Prompt, crowded: bool) -> Body | None:
        try:
            body = stages.completion(photo, prompt.mask(photo.shape[:2]), crowded=crowded)
        except NoPersonError:
            if are_user_prompts:
                raise
            return None
        return _scored(body, prompt, stages.settings, certain=are_user_prompts)

    crowded = in_crowded_boxes(prompts, stages.settings.deduplication.crowded_iou)
    completed = map_people(complete_one, prompts, crowded, workers=stages.workers)
    found = [(prompt, body) for prompt, body in zip(prompts, completed, strict=True) if body is not None]
    bodies = [body for _, body in found] if are_user_prompts else _distinct(stages, photo, found)
    visible = resolve_overlaps(bodies, allow_duplicates=are_user_prompts)
    bodies = [body.with_visible(mask) for body, mask in zip(bodies, visible, strict=True)]
    return bodies if are_user_prompts else left_to_right(bodies)


def _distinct(stages: Stages, photo: ImageU8, found: Sequence[tuple[Prompt, Body]]) -> list[Body]:
    """One body for each detected person: merged detections are split, duplicates and parts of one person joined.

    The masks of a segmenter are distinct already; two boxes of the detector may give the mask of one person.
    """
    settings = stages.settings.deduplication
    if not any(prompt.from_detector for prompt, _ in found):
        return suppress_duplicates([body for _, body in found], settings)
    split = split_merged(found, _residual_of(stages.completion, photo, stages.settings), settings)
    return join_amodal_duplicates(suppress_duplicates(split, settings), settings)


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
