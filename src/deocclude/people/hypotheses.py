"""Several completions of one person, most probable first.

The prompted head completes the person again with prompts that a user might give: where stage 1 is in doubt, a point
that is body or is not; other extents; typical poses. Of these candidates the few are returned that together expect the
best overlap with the truth, if the truth were one of the candidates: a greedy choice of diverse solutions, compare
Batra et al. 2012, "Diverse M-best solutions in Markov random fields".
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from deocclude.errors import UsageError
from deocclude.imaging.arrays import Float, ImageU8, Mask, Probability
from deocclude.imaging.boxes import BoxXyxy, mask_to_box_xyxy
from deocclude.inference.body import Body
from deocclude.inference.completion_prompts import CompletionPrompts
from deocclude.inference.prompt_maps import Point
from deocclude.inference.prompted_completion import PreparedCrop, PromptedCompletion

_LEVELS = (0.15, 0.3, 0.7, 0.85)  # of the amodal probability, whose boxes are plausible extents
# Weight of a candidate's soft IoU with the probability map of the completion without further prompts. Fitted on 73
# pictures of training people, it is hardly above 0: of four hypotheses each is the best one about as often.
_OVERLAP_WEIGHT = 0.5
_POSES = 3  # typical poses that are tried
_DOUBTS = 4  # places where a point is tried
_COMBINED = 2  # of them, those whose answers are combined
_LEAST_DOUBT = 0.05  # mean of min(p, 1 - p) there
_DOUBT_REACH = 1 / 16  # of the crop's side: how wide a doubt is


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """One completion of a person.

    Attributes:
        amodal_mask: (H, W) bool.
        probability: 0 to 1, that this one is the best of those returned; they sum to 1.
        prompts: completion prompts that give it.
    """

    amodal_mask: Mask
    probability: float
    prompts: CompletionPrompts


def likely_completions(
    completion: PromptedCompletion, photo: ImageU8, body: Body, prompts: CompletionPrompts, count: int
) -> tuple[Hypothesis, ...]:
    """Different completions of a person.

    Args:
        completion: stage 1's prompted head.
        photo: (H, W, 3) uint8 RGB.
        body: the person, with everything that may be hidden.
        prompts: checked; they hold for every hypothesis.
        count: at most so many.

    Returns:
        At least one; the most probable first.

    Raises:
        UsageError: `count` is below 1.
    """
    if count < 1:
        raise UsageError(f"at least one hypothesis must be requested, got {count}")
    prepared = completion.prepare(photo, body, prompts)
    first = completion.predict(prepared, [completion.maps(prepared, prompts)])[0] if prompts.for_head else None
    base: Probability = prepared.outputs["amodal"][0, 0] if first is None else first[0]
    candidates = [prompts, *_variants(completion, prepared, base, prompts)]
    maps = [completion.maps(prepared, one) for one in candidates[1:]]
    found = [base, *(one[0] for one in completion.predict(prepared, maps))]
    hidden = np.stack([(one >= 0.5) & ~prepared.initial for one in found])
    overlaps = _ious(hidden)
    scores = _soft_ious(hidden, base * ~prepared.initial)
    chosen = _most_expected(overlaps, count)
    probability = _softmax(_OVERLAP_WEIGHT * scores[chosen])
    order = np.argsort(-probability, kind="stable")
    return tuple(
        Hypothesis(
            _amodal(completion, photo, body, candidates[chosen[i]]), float(probability[i]), candidates[chosen[i]]
        )
        for i in order
    )


def _amodal(completion: PromptedCompletion, photo: ImageU8, body: Body, prompts: CompletionPrompts) -> Mask:
    """(H, W) bool: the amodal mask with these prompts."""
    whole = completion(photo, body, prompts) if prompts.for_head else body
    return whole.on_photo(whole.amodal, photo.shape[:2])


def _variants(
    completion: PromptedCompletion, prepared: PreparedCrop, base: Probability, prompts: CompletionPrompts
) -> list[CompletionPrompts]:
    """The prompts with other extents, and with typical poses, as far as the user gave none."""
    found: list[CompletionPrompts] = []
    if prompts.extent_xyxy is None:
        extents = dict.fromkeys(_extents(base, prepared.initial))
        found += [replace(prompts, extent_xyxy=prepared.crop.to_photo_xyxy(extent)) for extent in extents]
    answers = [prompts]
    for number, (x, y) in enumerate(_doubts(base * ~prepared.initial)):
        place = prepared.crop.to_photo_xyxy((x, y, x, y))[:2]
        single = answers if number < _COMBINED else [prompts]
        both = [one.with_point(place, is_body=is_body) for one in single for is_body in (True, False)]
        answers += both if number < _COMBINED else []
        found += both
    if prompts.pose is None:
        found += [replace(prompts, pose=pose) for pose in completion.nearest_poses(prepared, _POSES)]
    return found


def _doubts(hidden: Probability) -> list[Point]:
    """Where the hidden part is most in doubt, in crop pixels; the largest doubt first.

    Args:
        hidden: (S, S) probability, 0 where the body is visible.
    """
    size_px = len(hidden)
    reach = max(1, round(_DOUBT_REACH * size_px))
    doubt = np.minimum(hidden, 1 - hidden)
    mass = _box_sum(doubt, reach)
    found: list[Point] = []
    while len(found) < _DOUBTS:
        y, x = np.unravel_index(int(mass.argmax()), mass.shape)
        if mass[y, x] < _LEAST_DOUBT * (2 * reach + 1) ** 2:
            break
        found.append((float(x) + 0.5, float(y) + 0.5))
        around = slice(max(0, y - 2 * reach), y + 2 * reach + 1), slice(max(0, x - 2 * reach), x + 2 * reach + 1)
        mass[around] = 0
    return found


def _box_sum(values: Probability, reach: int) -> Float:
    """(S, S) sums over squares of 2 * reach + 1 pixels a side, 0 beyond the crop."""
    padded = np.pad(values.astype(np.float64), ((reach + 1, reach), (reach + 1, reach))).cumsum(0).cumsum(1)
    width = 2 * reach + 1
    sums: Float = padded[width:, width:] - padded[:-width, width:] - padded[width:, :-width] + padded[:-width, :-width]
    return sums


def _extents(base: Probability, visible: Mask) -> list[BoxXyxy]:
    """Plausible boxes of the body, in crop pixels; each holds the visible mask."""

    def around(mask: Mask) -> BoxXyxy:
        a, b, c, d = mask_to_box_xyxy(mask | visible)
        return a, b, c, d

    middle = around(base >= 0.5)
    found = [around(base >= level) for level in _LEVELS]
    return [box for box in found if box != middle]


def _ious(masks: Mask) -> Float:
    """(N, N) IoU of each pair of (N, S, S) masks; 1 for two empty ones."""
    flat = masks.reshape(len(masks), -1).astype(np.float32)
    shared = flat @ flat.T
    areas = flat.sum(1)
    union = areas[:, None] + areas - shared
    ious: Float = np.where(union > 0, shared / np.maximum(union, 1), 1.0)
    return ious


def _soft_ious(masks: Mask, probability: Probability) -> Float:
    """(N,) soft IoU of masks with a probability map."""
    shared = np.minimum(masks, probability).sum((1, 2))
    union = np.maximum(masks, probability).sum((1, 2))
    ious: Float = np.where(union > 0, shared / np.maximum(union, 1e-6), 1.0)
    return ious


def _softmax(logits: Float) -> Float:
    shifted = np.exp(logits - logits.max())
    weights: Float = shifted / shifted.sum()
    return weights


def _most_expected(overlaps: Float, count: int) -> list[int]:
    """The completion without further prompts, then one after another what raises the mean best overlap most."""
    chosen = [0]
    best = overlaps[0].copy()
    while len(chosen) < min(count, len(overlaps)):
        gains = (np.maximum(overlaps, best) - best).mean(1)
        gains[chosen] = -1
        following = int(gains.argmax())
        if gains[following] <= 0:
            break
        chosen.append(following)
        best = np.maximum(best, overlaps[following])
    return chosen
