"""Interfaces of predictors that can be evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from deocclude.imaging.boxes import BoxXyxy


class PredictedPerson(Protocol):
    """One person of a prediction, with masks (H, W) bool and content (H, W, 3) uint8, as in `Person`.

    A visible mask or content of None and a probability of NaN are not measured. An optional attribute `parsing`, (H, W)
    uint8 labels into PARSING_NAMES, is measured by body parts.
    """

    @property
    def hidden_probability(self) -> float: ...
    @property
    def visible_mask(self) -> BoolArray | None: ...
    @property
    def amodal_mask(self) -> BoolArray: ...
    @property
    def content(self) -> NDArray[np.uint8] | None: ...


class Prediction(Protocol):
    """A prediction, as in `Result`: one person per given mask or box, or all detected people without prompts."""

    @property
    def people(self) -> Sequence[PredictedPerson]: ...


class Predictor(Protocol):
    """A predictor that can be evaluated: a `Deoccluder`, or a callable with the same arguments."""

    def __call__(
        self,
        image: NDArray[np.uint8],
        masks: Sequence[BoolArray] | None = None,
        boxes_xyxy: Sequence[BoxXyxy] | None = None,
    ) -> Prediction: ...

    def recover(self, image: NDArray[np.uint8], visible_mask: BoolArray, amodal_mask: BoolArray) -> NDArray[np.uint8]:
        """The photo with the occluded part (amodal minus visible) recovered, (H, W, 3) uint8."""
        ...


BoolArray = NDArray[np.bool_]
