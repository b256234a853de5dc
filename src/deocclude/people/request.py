"""What is asked of one image: prompts or people to be found, which of them, and how far they are completed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deocclude.errors import UsageError
from deocclude.imaging.boxes import BoxXyxy
from deocclude.imaging.truncation import check_uncrop
from deocclude.inference.occlusion_probability import Complete, check_complete
from deocclude.people.choice import Choice
from deocclude.people.instances import Segmenter


@dataclass(frozen=True)
class Request:
    """The options of a call of the Deoccluder, checked as far as they can be without the image."""

    masks: Sequence[np.ndarray] | None
    boxes_xyxy: Sequence[BoxXyxy] | None
    segmenter: Segmenter | None
    choice: Choice
    min_score: float | None
    min_height_px: float
    complete: Complete
    uncrop: bool

    @property
    def is_prompted(self) -> bool:
        """Whether the user points at the people; else they are to be found."""
        return self.masks is not None or self.boxes_xyxy is not None

    @classmethod
    def of(
        cls, masks: Sequence[np.ndarray] | None, boxes_xyxy: Sequence[BoxXyxy] | None, *, segmenter: Segmenter | None,
        person: str, min_score: float | None, min_height_px: float, complete: str, uncrop: bool,
    ) -> Request:  # fmt: skip
        """The request of the call's own arguments. Raises UsageError for an option that is wrong or does not fit."""
        request = cls(
            masks, boxes_xyxy, segmenter, Choice.parse(person), min_score, min_height_px, check_complete(complete),
            uncrop,
        )  # fmt: skip
        check_uncrop(uncrop, complete)
        request._check_finding()
        return request

    def _check_finding(self) -> None:
        """Raises UsageError for options of finding people that are wrong, or that come with prompts."""
        for name, value, top in (("min_score", self.min_score, 1.0), ("min_height_px", self.min_height_px, np.inf)):
            number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
            if value is not None and not (number and 0 <= value <= top):
                raise UsageError(
                    f"{name} must be a number{' from 0 to 1' if top == 1 else ' of pixels'}, got {value!r}"
                )
        check_segmenter(self.segmenter)
        asked = self.min_score is not None or self.min_height_px or self.segmenter is not None
        if self.is_prompted and (self.choice.how != "all" or asked):
            raise UsageError(
                "person, min_score, min_height_px and segmenter are for people who are found: "
                "give them or masks and boxes, not both"
            )


def check_segmenter(segmenter: Segmenter | None) -> None:
    """Raises UsageError for what is no function."""
    if segmenter is not None and not callable(segmenter):
        raise UsageError(f"a segmenter is a function of an image, got {type(segmenter).__name__}")
