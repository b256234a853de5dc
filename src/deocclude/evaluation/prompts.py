"""What a predictor starts from: exact, corrupted and box prompts, or the image alone."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deocclude.data.evalsets.persons import EvalSample
from deocclude.evaluation.predictions import StoredPredictions
from deocclude.evaluation.predictors import BoolArray, PredictedPerson, Predictor
from deocclude.imaging.boxes import BoxXyxy, box_to_mask, mask_to_box_xyxy
from deocclude.imaging.masks import mask_iou

PROMPTED_KINDS = ("exact", "degraded", "box")
INITIAL_KINDS = (*PROMPTED_KINDS, "photo")  # the last: nothing but the photo


@dataclass(frozen=True)
class InitialPrompt:
    """What the predictor is told of a person. mask: (H, W) bool; box_xyxy: set when it is told the box alone.

    Of kind photo it is told nothing, and `mask` is what a person found is recognised by: the true visible mask.
    """

    kind: str
    mask: BoolArray
    box_xyxy: BoxXyxy | None

    @classmethod
    def of(cls, sample: EvalSample, kind: str, set_seed: int) -> InitialPrompt:
        """exact: the true visible mask. degraded: spoilt with a seed of the set and the record, the same in every run.

        box: the visible mask's box, right and bottom exclusive, as a filled rectangle in `mask`.
        """
        visible = sample.visible
        if kind == "box" and visible.any():
            box_xyxy = mask_to_box_xyxy(visible)
            return cls(kind, box_to_mask(box_xyxy, visible.shape), box_xyxy)
        if kind == "degraded":
            from deocclude.data.synthesis.mask_corruption import corrupt_mask  # needs OpenCV

            rng = np.random.default_rng([set_seed, zlib.crc32(sample.id.encode())])
            return cls(kind, corrupt_mask(visible, rng, None), None)
        return cls(kind, visible, None)


def predict(predictor: Predictor | StoredPredictions, sample: EvalSample, prompt: InitialPrompt) -> PredictedPerson:
    """The predictor's answer for one person. A prompt that shows nothing is answered with nothing.

    Without a prompt, the person found whose visible mask is most like the true one; nobody where none shares a pixel.
    Predictions from files are what they are, whatever the prompt.
    """
    if isinstance(predictor, StoredPredictions):
        return predictor.person(sample)
    if not prompt.mask.any():
        return _Nobody(prompt.mask, prompt.mask, sample.photo)
    if prompt.kind == "photo":
        likeness = [(mask_iou(one.visible_mask, prompt.mask), one) for one in predictor(sample.photo).people]
        best, person = max(likeness, key=lambda pair: pair[0], default=(0.0, None))
        nothing = np.zeros_like(prompt.mask)
        return person if best > 0 else _Nobody(nothing, nothing, sample.photo)
    if prompt.box_xyxy is not None:
        return predictor(sample.photo, boxes_xyxy=[prompt.box_xyxy]).people[0]
    return predictor(sample.photo, masks=[prompt.mask]).people[0]


@dataclass(frozen=True)
class _Nobody:
    visible_mask: BoolArray
    amodal_mask: BoolArray
    content: NDArray[np.uint8]
    hidden_probability: float = 0.0
