"""From prompts to people: each prompt is completed, and what overlaps becomes one body a person.

Three rules, in this order: merged detections are split, duplicates are dropped, and every pixel that two visible masks
share is given to one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from deocclude.errors import NoPersonError
from deocclude.imaging.boxes import box_iou
from deocclude.imaging.depth_order import resolve_overlaps
from deocclude.inference.body import Body
from deocclude.inference.mask_completion import MaskCompletion
from deocclude.inference.settings import InferenceSettings
from deocclude.people.choice import left_to_right
from deocclude.people.deduplicate import merge_duplicates, merge_same_bodies, split_merged
from deocclude.people.prompts import Prompt


def complete_prompt(
    complete: MaskCompletion, photo: ImageU8, prompt: Prompt, settings: InferenceSettings, *, is_user_prompt: bool,
    crowded: bool,
) -> Body | None:  # fmt: skip
    """The body of one prompt; None for a detection that holds no person, or whose score is too low.

    photo: (H, W, 3) uint8 RGB; crowded: another prompt's box overlaps. Raises NoPersonError for a user's prompt alone.
    """
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
    """One body a person, visible masks disjoint. Detected people are ordered from left to right.

    A user's prompts keep their order, and two of them may mark one person: nobody is split or merged then. The masks
    of a segmenter keep people apart already; two boxes may end in the mask of one person.
    """
    bodies = [body for _, body in found]
    if not are_user_prompts:
        from_boxes = any(prompt.doubtful for prompt, _ in found)
        if from_boxes:
            bodies = split_merged(found, _residual_of(complete, photo, settings), settings.deduplication)
        bodies = merge_duplicates(bodies, settings.deduplication)
        if from_boxes:
            bodies = merge_same_bodies(bodies, settings.deduplication)
    visible = resolve_overlaps(bodies, allow_duplicates=are_user_prompts)
    bodies = [body.with_visible(mask) for body, mask in zip(bodies, visible, strict=True)]
    return bodies if are_user_prompts else left_to_right(bodies)


def _residual_of(
    complete: MaskCompletion, photo: ImageU8, settings: InferenceSettings
) -> Callable[[Prompt, Body], Body | None]:
    """A function that finds the person in a box beside one who is known; None where nobody fills the box."""

    def residual_of(prompt: Prompt, known: Body) -> Body | None:
        try:
            body = complete.complete_residual(photo, prompt.mask(photo.shape[:2]), known)
        except NoPersonError:
            return None
        body = None if body is None else _scored(body, prompt, settings, certain=False)
        if body is None:
            return None
        (filled,) = box_iou(*np.array([[prompt.area], [body.box_xyxy]], np.float32)).ravel()
        # the legs, say, of a person whose upper body is known fill less of it
        return body if filled >= settings.deduplication.min_residual_box_iou else None

    return residual_of


def _scored(body: Body, prompt: Prompt, settings: InferenceSettings, *, certain: bool) -> Body | None:
    """The body with the product of its score and the prompt's; None, unless `certain`, where that is too low."""
    score = body.score * prompt.score
    unlikely = prompt.doubtful and body.score < settings.detector.min_visible_probability
    if not certain and (unlikely or score < prompt.least_score or not body.area_px):
        return None
    return replace(body, score=score)
