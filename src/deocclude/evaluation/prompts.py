"""Prompts of the evaluation: exact mask, corrupted mask, box, or the photo alone."""

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
from deocclude.people.prompts import MIN_BOX_SIDE_PX

PROMPTED_KINDS = ("exact", "degraded", "box")  # kinds of initial mask that are given to the pipeline
INITIAL_KINDS = (*PROMPTED_KINDS, "photo")  # photo: no prompt


@dataclass(frozen=True)
class InitialPrompt:
    """The prompt of one person.

    Attributes:
        kind: one of INITIAL_KINDS.
        mask: (H, W) bool. For the kind photo: the true visible mask, which selects the person among the detected ones.
        box_xyxy: of a box prompt, in pixels, right and bottom exclusive; None for other kinds, and for a box smaller
            than users may give.
    """

    kind: str
    mask: BoolArray
    box_xyxy: BoxXyxy | None

    @classmethod
    def of(cls, sample: EvalSample, kind: str, set_seed: int) -> InitialPrompt:
        """Make the prompt of a sample.

        Args:
            sample: the person.
            kind: exact: the true visible mask. degraded: the visible mask with corruption seeded by the set and the
                record. box: the filled box of the visible mask. photo: see `mask`.
            set_seed: of the evaluation set.
        """
        visible = sample.visible
        if kind == "box" and visible.any():
            x0, y0, x1, y1 = box_xyxy = mask_to_box_xyxy(visible)
            # the pipeline refuses smaller boxes; their filled masks are measured instead
            is_usable = min(x1 - x0, y1 - y0) >= MIN_BOX_SIDE_PX
            return cls(kind, box_to_mask(box_xyxy, visible.shape), box_xyxy if is_usable else None)
        if kind == "degraded":
            from deocclude.data.synthesis.mask_corruption import corrupt_mask  # needs OpenCV

            rng = np.random.default_rng([set_seed, zlib.crc32(sample.id.encode())])
            return cls(kind, corrupt_mask(visible, rng, None), None)
        return cls(kind, visible, None)


def predict(predictor: Predictor | StoredPredictions, sample: EvalSample, prompt: InitialPrompt) -> PredictedPerson:
    """The prediction for one person.

    An empty prompt gives an empty prediction. For the kind photo: the detected person whose visible mask has the
    highest IoU with the true one; an empty prediction if all IoUs are 0. Predictions from files ignore the prompt.
    """
    if isinstance(predictor, StoredPredictions):
        return predictor.person(sample)
    if not prompt.mask.any():
        return _EmptyPrediction(prompt.mask, prompt.mask, sample.photo)
    if prompt.kind == "photo":
        ious = [(mask_iou(found.visible_mask, prompt.mask), found) for found in predictor(sample.photo).people]
        best, person = max(ious, key=lambda pair: pair[0], default=(0.0, None))
        nothing = np.zeros_like(prompt.mask)
        return person if best > 0 else _EmptyPrediction(nothing, nothing, sample.photo)
    if prompt.box_xyxy is not None:
        return predictor(sample.photo, boxes_xyxy=[prompt.box_xyxy]).people[0]
    return predictor(sample.photo, masks=[prompt.mask]).people[0]


@dataclass(frozen=True)
class _EmptyPrediction:
    """The prediction of no person: empty masks, and the photo as content."""

    visible_mask: BoolArray
    amodal_mask: BoolArray
    content: NDArray[np.uint8]
    hidden_probability: float = 0.0
