"""Several completions of one person, most probable first: the hypotheses of the prompted head.

In training, only the best hypothesis of each sample was updated. The head also predicts how likely each is the best.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from deocclude.errors import UsageError
from deocclude.imaging.arrays import ImageU8, Mask
from deocclude.inference.body import Body
from deocclude.inference.completion_prompts import CompletionPrompts
from deocclude.inference.prompted_completion import PromptedCompletion, restricted
from deocclude.people.completion_prompts import check_people


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """One completion of a person.

    Attributes:
        amodal_mask: (H, W) bool.
        probability: 0 to 1, that this one is the best of the model's hypotheses.
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
        count: number of completions.

    Returns:
        The most probable first; equal ones in the order of their numbers.

    Raises:
        UsageError: `count` is below 1, or above the head's number of hypotheses.
        NoPersonError: nothing visible is left of the person with these prompts.
    """
    _check_count(completion, count)
    return tuple(
        Hypothesis(whole.on_photo(whole.amodal, photo.shape[:2]), probability, given)
        for whole, probability, given in _likely_bodies(completion, photo, body, prompts, count)
    )


def sampled_bodies(
    completion: PromptedCompletion | None, photo: ImageU8, found: Mapping[int, Body], decided: Mapping[int, Body],
    prompts: Mapping[int, CompletionPrompts], count: int, model: str,
) -> list[dict[int, Body]]:  # fmt: skip
    """The bodies by number, in several versions: completed people by their most probable hypothesis, then the next.

    Hidden regions that are not completed stay incomplete in every version, and so do people without a completed part.
    Prompts other than `keep` and `background` override both.

    Args:
        completion: stage 1's prompted head; None for a model without.
        photo: (H, W, 3) uint8 RGB.
        found: every body of the image, with everything that may be hidden.
        decided: the chosen bodies, with the hidden parts that are completed.
        prompts: checked, by number.
        count: number of versions.
        model: its name, for errors.

    Raises:
        InputError: there is no such person, or the person was not chosen.
        UsageError: the model has no prompted head, or not so many hypotheses.
        NoPersonError: nothing visible is left of a person with its prompts.
    """
    check_people(prompts, found, decided)
    if completion is None:
        raise UsageError(f"model {model} has no head for completion prompts, which samples need")
    _check_count(completion, count)
    versions = [dict(decided) for _ in range(count)]
    for number, body in decided.items():
        given = prompts.get(number, CompletionPrompts())
        if given.only_restricts:
            if not body.hidden_fraction:
                for version in versions:
                    version[number] = restricted(body, given)
                continue
            given = _keeping_left_out(given, body, photo.shape[:2])
        likely = _likely_bodies(completion, photo, found[number], given, count)
        for version, (whole, probability, _) in zip(versions, likely, strict=True):
            version[number] = replace(whole, hidden_probability=body.hidden_probability, sample_probability=probability)
    return versions


def _likely_bodies(
    completion: PromptedCompletion, photo: ImageU8, body: Body, prompts: CompletionPrompts, count: int
) -> Iterator[tuple[Body, float, CompletionPrompts]]:
    """The bodies of the most probable hypotheses, each with its probability and prompts that give it."""
    prepared = completion.prepare(photo, body, prompts)
    likelihood = completion.predict(prepared, replace(prompts, hypothesis=None)).likelihood
    for index in np.argsort(-likelihood, kind="stable")[:count]:
        given = replace(prompts, hypothesis=int(index) + 1)
        whole = restricted(completion.answer(photo, body, prepared, given), given)
        yield whole, float(likelihood[index]), given


def _keeping_left_out(prompts: CompletionPrompts, decided: Body, size_hw: tuple[int, int]) -> CompletionPrompts:
    """The prompts with hidden regions that are not completed in `keep`, so that no hypothesis completes them."""
    if decided.left_out is None:
        return prompts
    left_out = decided.on_photo(decided.left_out, size_hw)
    return replace(prompts, keep=left_out if prompts.keep is None else prompts.keep | left_out)


def _check_count(completion: PromptedCompletion, count: int) -> None:
    """Raise UsageError where the head has not so many hypotheses."""
    if completion.hypotheses == 0:
        raise UsageError("this model has a single answer for a person, and no hypotheses")
    if not 1 <= count <= completion.hypotheses:
        raise UsageError(f"this model gives 1 to {completion.hypotheses} hypotheses of a person, not {count}")
