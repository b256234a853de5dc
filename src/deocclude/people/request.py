"""The request for one image: prompts or detection, which people, and how far they are completed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from deocclude.errors import InputError, UsageError
from deocclude.imaging.boxes import BoxXyxy
from deocclude.inference.completion_prompts import CompletionPrompts
from deocclude.inference.occlusion_probability import Complete, check_complete, check_uncrop
from deocclude.io.images import MaskSource
from deocclude.people.choice import Choice, F, keep
from deocclude.people.instances import Segmenter

Told = Mapping[int, CompletionPrompts] | CompletionPrompts
"""Completion prompts by the number of the person, or those of the only person."""
T = TypeVar("T", bound=Told)


@dataclass(frozen=True)
class Request:
    """The options of a call of the Deoccluder, checked as far as possible without the image.

    `choice` is the parsed `person`; `samples` is the `count` of `Deoccluder.samples`, None for a call. The other fields
    are the arguments of `Deoccluder.__call__`.
    """

    masks: Sequence[MaskSource] | None
    boxes_xyxy: Sequence[BoxXyxy] | None
    segmenter: Segmenter | None
    choice: Choice
    min_score: float | None
    min_height_px: float | None
    complete: Complete
    min_hidden_probability: float | None
    uncrop: bool
    completion_prompts: Told = field(default_factory=dict)
    samples: int | None = None

    @property
    def people_given(self) -> bool:
        """Whether the user gave masks or boxes; otherwise people are detected."""
        return self.masks is not None or self.boxes_xyxy is not None

    @property
    def skips_low_people(self) -> bool:
        """Whether "auto" leaves low people incomplete: detected ones, unless the call gives a minimum height itself."""
        return not self.people_given and self.min_height_px is None

    def told(self, chosen: Collection[int]) -> Mapping[int, CompletionPrompts]:
        """The completion prompts by number; those of the only person by its number.

        Args:
            chosen: numbers of the chosen people.

        Raises:
            InputError: prompts without a number, and not exactly one person.
        """
        if not isinstance(self.completion_prompts, CompletionPrompts):
            return self.completion_prompts
        if len(chosen) != 1:
            people = f"{len(chosen)} people were found" if chosen else "nobody was found"
            raise InputError(f"completion prompts without a number are for a single person, but {people}")
        return {next(iter(chosen)): self.completion_prompts}

    def pick(self, people: Sequence[F], size_hw: tuple[int, int]) -> list[F]:
        """The people of the user's prompts, in their order; or the requested detected people, left to right.

        Args:
            people: all people of the image.
            size_hw: the image's size.

        Raises:
            InputError: see `Choice.pick`.
        """
        if self.people_given:
            return list(people)
        kept = keep(people, self.min_score or 0.0, self.min_height_px or 0.0)
        if self.choice.how in ("all", "largest"):
            return self.choice.pick(kept, size_hw)
        return [one for one in self.choice.pick(people, size_hw) if any(one is other for other in kept)]

    @classmethod
    def of(
        cls, masks: Sequence[MaskSource] | None, boxes_xyxy: Sequence[BoxXyxy] | None, *,
        segmenter: Segmenter | None = None, person: str = "all", min_score: float | None = None,
        min_height_px: float | None = None, complete: str = "auto", min_hidden_probability: float | None = None,
        uncrop: bool = False, completion_prompts: Told | None = None, samples: int | None = None,
    ) -> Request:  # fmt: skip
        """The request of a call's arguments; `Deoccluder.__call__` and `Deoccluder.samples` describe them.

        Raises:
            UsageError: an option has an invalid value, or two options exclude each other.
        """
        request = cls(
            masks, boxes_xyxy, segmenter, Choice.parse(person), min_score, min_height_px, check_complete(complete),
            min_hidden_probability, uncrop, completion_prompts or {}, samples,
        )  # fmt: skip
        check_uncrop(uncrop, complete)
        check_told(request.completion_prompts, uncrop=uncrop, complete=complete)
        check_samples(samples, uncrop=uncrop, complete=complete)
        _check_in_range("min_hidden_probability", min_hidden_probability, 1.0)
        request._check_finding()
        return request

    def _check_finding(self) -> None:
        """Check the options of detection. Raises UsageError where one is invalid or comes with prompts."""
        _check_in_range("min_score", self.min_score, 1.0)
        _check_in_range("min_height_px", self.min_height_px, np.inf)
        check_segmenter(self.segmenter)
        has_detection_options = self.min_score is not None or self.min_height_px or self.segmenter is not None
        if self.people_given and (self.choice.how != "all" or has_detection_options):
            raise UsageError(
                "person, min_score, min_height_px and segmenter select among detected people: "
                "give them or masks and boxes, not both"
            )


def check_told(told: T, *, uncrop: bool, complete: str) -> T:
    """Check the type of completion prompts, and that they fit the other options. Raises UsageError."""
    if not isinstance(told, (Mapping, CompletionPrompts)):
        raise UsageError(
            "completion prompts must be CompletionPrompts, or a dict of them by the number of the person, "
            f"got {type(told).__name__}"
        )
    if told and (uncrop or complete == "never"):
        raise UsageError("completion prompts complete people inside the photo: not with uncrop or complete never")
    return told


def check_samples(samples: int | None, *, uncrop: bool, complete: str) -> None:
    """Check a number of samples. Raises UsageError for none, and where it does not fit the other options."""
    if samples is None:
        return
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 1:
        raise UsageError(f"samples must be a whole number of 1 or more, got {samples!r}")
    if uncrop or complete == "never":
        raise UsageError("samples are completions inside the photo: not with uncrop or complete never")


def _check_in_range(name: str, value: object, top: float) -> None:
    """Raise UsageError unless an option is None or a number from 0 to `top`, which is 1 or infinite."""
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if value is not None and not (number and 0 <= float(value) <= top):  # type: ignore[arg-type]
        raise UsageError(f"{name} must be a number{' from 0 to 1' if top == 1 else ' of pixels'}, got {value!r}")


def check_segmenter(segmenter: Segmenter | None) -> None:
    """Check that a segmenter can be called.

    Raises:
        UsageError: it is not callable.
    """
    if segmenter is not None and not callable(segmenter):
        raise UsageError(f"a segmenter is a function of an image, got {type(segmenter).__name__}")
