"""Looks: what a network says of one crop of a photo, and the mean of several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from deocclude.imaging.crop import OUTSIDE_GREY, SquareCrop
from deocclude.inference.runtime import Network


@dataclass(frozen=True)
class CropPrediction:
    """What the network says of one crop; probabilities are 0 outside the photo."""

    crop: SquareCrop
    image: ImageU8  # (S, S, 3) uint8
    initial: Mask  # (S, S) bool
    visible: Mask  # (S, S) float32
    amodal: Mask  # (S, S) float32, at least `visible`
    visible_parsing: Probability | None  # (12, S/4, S/4) float32; None of a network that knows no parts
    amodal_parsing: Probability | None  # (12, S/4, S/4) float32

    def at_size(self, photo: ImageU8, size_px: int) -> CropPrediction:
        """The same window and what is known of it, `size_px` a side."""
        if size_px == self.crop.size_px:
            return self
        crop = replace(self.crop, size_px=size_px)

        def parts(parsing: Probability) -> np.ndarray:
            fewer = crop.regridded(np.moveaxis(parsing, 0, -1), parsing.shape[-1] * size_px // self.crop.size_px)
            return np.moveaxis(fewer, -1, 0)

        return CropPrediction(
            crop,
            crop.extract(photo, fill=OUTSIDE_GREY),
            *(crop.regridded(mask, size_px) for mask in (self.initial, self.visible, self.amodal)),
            parts(self.visible_parsing),
            parts(self.amodal_parsing),
        )


def predict_crop(
    network: Network, photo: ImageU8, crop: SquareCrop, initial: Mask, mirror: bool,
    first: CropPrediction | None = None,
) -> CropPrediction:  # fmt: skip
    """What a network says of one crop of the photo.

    photo: (H, W, 3) uint8 RGB; initial: (S, S) bool, what it is told; mirror: the mean with what it says of the mirror
    image; first: a former prediction, whose visible mask it is told as well (train/two_pass_prompts.py).
    """
    image = crop.extract(photo, fill=OUTSIDE_GREY)
    batch_image = image.transpose(2, 0, 1)[None].astype(np.float32) / 255
    batch_initial = initial[None, None].astype(np.float32)
    if first is not None:  # as train.second_look has it
        batch_initial = (batch_initial + crop.resampled_from(first.crop, first.visible, crop.size_px)) / 2
    if mirror:
        batch_image = np.concatenate([batch_image, batch_image[..., ::-1]])
        batch_initial = np.concatenate([batch_initial, batch_initial[..., ::-1]])
    outputs = network(image=batch_image, initial=batch_initial)
    visible, amodal, *parsings = (
        None if name not in outputs else _average_mirrored(outputs[name])
        for name in ("visible", "amodal", "visible_parsing", "amodal_parsing")
    )
    inside = crop.inside_photo(photo.shape[:2])
    visible = visible[0] * inside
    amodal = np.maximum(amodal[0] * inside, visible)
    return CropPrediction(crop, image, initial, visible, amodal, *parsings)


def in_crop(mask: Mask, crop: SquareCrop) -> np.ndarray:
    """(S, S) bool: a mask of the photo as a crop sees it, at least one pixel of it."""
    coverage = crop.extract(mask.view(np.uint8) * np.uint8(255))
    covered = coverage >= 128
    if covered.any():
        return covered
    # a mask thinner than a crop pixel must not vanish
    return coverage > 0 if coverage.any() else _touched(mask, crop)


def average_predictions(
    predictions: Sequence[CropPrediction], size_hw: tuple[int, int], weights: Sequence[float] | None = None
) -> CropPrediction:
    """The first prediction with the mean of what all say in its crop; of the parts, what those say that know any.

    weights: how much each has to say; None for all alike.
    """
    prediction, crop = predictions[0], predictions[0].crop
    weights = weights or [1.0] * len(predictions)
    inside = crop.inside_photo(size_hw)

    def mask_here(mask: Mask, there: SquareCrop) -> np.ndarray:
        # what lies outside the photo is 0 in a look; it must not fade what lies at the photo's edge
        mask = repeat_past_edge(mask, there.inside_photo(size_hw))
        return crop.resampled_from(there, mask, crop.size_px) * inside

    def parsing_here(parts: np.ndarray, there: SquareCrop) -> np.ndarray:
        return np.moveaxis(crop.resampled_from(there, np.moveaxis(parts, 0, -1)), -1, 0)

    def mean(name: str, here: Callable[[np.ndarray, SquareCrop], np.ndarray]) -> np.ndarray | None:
        said = [(getattr(one, name), one.crop, weight) for one, weight in zip(predictions, weights, strict=True)]
        known = [
            (values if there == crop else here(values, there), np.float32(weight))
            for values, there, weight in said
            if values is not None
        ]
        return sum(weight * values for values, weight in known) / sum(weight for _, weight in known) if known else None

    return replace(
        prediction,
        visible=mean("visible", mask_here),
        amodal=mean("amodal", mask_here),
        visible_parsing=mean("visible_parsing", parsing_here),
        amodal_parsing=mean("amodal_parsing", parsing_here),
    )


def _touched(mask: Mask, crop: SquareCrop) -> np.ndarray:
    """(S, S) bool: every crop pixel that a pixel of the mask lies in, however little of it that is."""
    rows, columns = np.nonzero(mask)
    left, top = crop.left_top
    v, u = (np.floor(at / crop.scale).astype(int) for at in (rows + 0.5 - top, columns + 0.5 - left))
    inside = (v >= 0) & (v < crop.size_px) & (u >= 0) & (u < crop.size_px)
    touched = np.zeros((crop.size_px, crop.size_px), bool)
    touched[v[inside], u[inside]] = True
    return touched


def _average_mirrored(batch: np.ndarray) -> np.ndarray:
    """(C, S, S) of a (1, C, S, S) output, or the mean of a (2, C, S, S) one whose second entry is mirrored."""
    return batch[0] if len(batch) == 1 else (batch[0] + batch[1, ..., ::-1]) / 2


def repeat_past_edge(values: Float32, inside: Mask) -> np.ndarray:
    """(h, w) with the photo's border values repeated outside it: a body cut by the photo's edge must not fade there."""
    if not inside.any():  # a photo so thin that no crop pixel has its centre there
        return values
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    every_row, every_column = np.arange(len(values)), np.arange(values.shape[1])
    return values[every_row.clip(rows[0], rows[-1])][:, every_column.clip(columns[0], columns[-1])]
