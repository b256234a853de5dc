"""What evaluation asks of a predictor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from deocclude.imaging.boxes import BoxXyxy


class PredictedPerson(Protocol):
    """What is read of one person in a prediction: masks (H, W) bool, content (H, W, 3) uint8, as in `Person`.

    A visible mask or content of None is not predicted and not measured, as is a probability of NaN. A person who also
    has `parsing`, (H, W) uint8 labels into PARSING_NAMES, is measured by body parts too.
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
    """What is read of a prediction, as in `Result`: one person for the one mask or box that was given, or everyone
    found where none was."""

    @property
    def people(self) -> Sequence[PredictedPerson]: ...


class Predictor(Protocol):
    """What can be evaluated: a `Deoccluder`, or anything called like one."""

    def __call__(
        self,
        image: NDArray[np.uint8],
        masks: Sequence[BoolArray] | None = None,
        boxes_xyxy: Sequence[BoxXyxy] | None = None,
    ) -> Prediction: ...

    def recover(self, image: NDArray[np.uint8], visible_mask: BoolArray, amodal_mask: BoolArray) -> NDArray[np.uint8]:
        """(H, W, 3) uint8: the photo with what is amodal and not visible recovered."""
        ...


BoolArray = NDArray[np.bool_]
