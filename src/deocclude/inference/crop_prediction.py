"""A network's prediction on a crop of an image, and the average of several predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deocclude.errors import WeightsError
from deocclude.imaging.arrays import Float32, ImageU8, Mask, Probability, Scalar
from deocclude.imaging.boxes import BoxXyxy, box_to_mask
from deocclude.imaging.crop import OUTSIDE_GREY, SquareCrop
from deocclude.inference.runtime import Network

FEATURES = "features"  # the box segmenter's output beside its masks


@dataclass(frozen=True)
class CropPrediction:
    """A network's prediction on one crop; probabilities are 0 outside the image.

    Attributes:
        crop: the crop, of S pixels a side.
        image: (S, S, 3) uint8.
        initial: (S, S) bool: the network's prompt.
        visible: (S, S) float32 probabilities.
        amodal: (S, S) float32 probabilities, at least `visible`.
        visible_parsing: (12, S/4, S/4) float32 probabilities; None for a network without body parts.
        amodal_parsing: (12, S/4, S/4) float32 probabilities; None for a network without body parts.
    """

    crop: SquareCrop
    image: ImageU8
    initial: Mask
    visible: Probability
    amodal: Probability
    visible_parsing: Probability | None
    amodal_parsing: Probability | None

    @property
    def parsings(self) -> tuple[Probability, Probability]:
        """Visible and amodal parsing, (12, S/4, S/4) float32 each.

        Raises:
            WeightsError: the network predicts no body parts.
        """
        if self.visible_parsing is None or self.amodal_parsing is None:
            raise WeightsError("stage 1 must predict body parts: its outputs lack visible_parsing or amodal_parsing")
        return self.visible_parsing, self.amodal_parsing

    def at_size(self, photo: ImageU8, size_px: int) -> CropPrediction:
        """The same window and prediction on a grid of `size_px` pixels a side.

        Args:
            photo: (H, W, 3) uint8 RGB.
            size_px: side of the new crop.

        Raises:
            WeightsError: the network predicts no body parts.
        """
        if size_px == self.crop.size_px:
            return self
        crop = replace(self.crop, size_px=size_px)

        def regridded_parts(parsing: Probability) -> Probability:
            cells = parsing.shape[-1] * size_px // self.crop.size_px
            return np.moveaxis(crop.regridded(np.moveaxis(parsing, 0, -1), cells), -1, 0)

        visible_parsing, amodal_parsing = self.parsings
        return CropPrediction(
            crop=crop,
            image=crop.extract(photo, fill=OUTSIDE_GREY),
            initial=crop.regridded(self.initial, size_px),
            visible=crop.regridded(self.visible, size_px),
            amodal=crop.regridded(self.amodal, size_px),
            visible_parsing=regridded_parts(visible_parsing),
            amodal_parsing=regridded_parts(amodal_parsing),
        )


class CropPredictions:
    """Predictions of networks on crops of one image.

    Crops and unmirrored outputs are cached: averaging over the mirror image later takes only one more run.
    """

    def __init__(self, photo: ImageU8) -> None:
        """An image, (H, W, 3) uint8 RGB."""
        self.photo = photo
        self._images: dict[SquareCrop, ImageU8] = {}
        self._unmirrored: dict[tuple[int, SquareCrop, bytes], dict[str, Float32]] = {}

    @property
    def size_hw(self) -> tuple[int, int]:
        """The image's size."""
        height, width = self.photo.shape[:2]
        return height, width

    def __call__(
        self, network: Network, crop: SquareCrop, initial: Mask, *, mirror: bool, first: CropPrediction | None = None
    ) -> CropPrediction:
        """Run a network on one crop of the image.

        Args:
            network: stage 1, or the box-prompted segmentation network.
            crop: the crop, of S pixels a side.
            initial: (S, S) bool: the prompt.
            mirror: average with the prediction on the mirror image.
            first: an earlier prediction; the network gets the mean of `initial` and its visible probability.
        """
        if crop not in self._images:
            self._images[crop] = crop.extract(self.photo, fill=OUTSIDE_GREY)
        prompt = as_mask_batch(initial)
        if first is not None:  # as in training (train/two_pass_prompts.py)
            prompt = np.divide(prompt + crop.resampled_from(first.crop, first.visible, crop.size_px), 2)
        inputs = {"image": as_batch(self._images[crop]), "initial": prompt}
        key = id(network), crop, prompt.tobytes()
        outputs = self._unmirrored.get(key)
        if outputs is None:
            outputs = network(**(with_mirrored(inputs) if mirror else inputs))
            if not mirror:
                self._unmirrored[key] = outputs
        elif mirror:
            mirrored = network(**{name: values[..., ::-1] for name, values in inputs.items()})
            outputs = {name: np.concatenate([values, mirrored[name]]) for name, values in outputs.items()}
        return as_prediction(crop, self._images[crop], initial, outputs, self.size_hw)


def with_mirrored(batches: Mapping[str, Float32]) -> dict[str, Float32]:
    """(2, C, S, S) of each (1, C, S, S) array: itself and its mirror image."""
    return {name: np.concatenate([batch, batch[..., ::-1]]) for name, batch in batches.items()}


def as_prediction(
    crop: SquareCrop, image: ImageU8, initial: Mask, outputs: Mapping[str, Float32], size_hw: tuple[int, ...]
) -> CropPrediction:
    """The prediction from a network's outputs for a crop, or for a crop and its mirror image.

    Args:
        crop: the crop, of S pixels a side.
        image: (S, S, 3) uint8.
        initial: (S, S) bool: the prompt.
        outputs: probabilities by name, (1 or 2, C, n, n) each.
        size_hw: the image's size.
    """
    inside = crop.inside_photo((size_hw[0], size_hw[1]))
    visible = average_mirrored(outputs["visible"])[0] * inside
    amodal = np.maximum(average_mirrored(outputs["amodal"])[0] * inside, visible)
    visible_parsing, amodal_parsing = (
        average_mirrored(outputs[name]) if name in outputs else None for name in ("visible_parsing", "amodal_parsing")
    )
    return CropPrediction(crop, image, initial, visible, amodal, visible_parsing, amodal_parsing)


def box_features(network: Network, photo: ImageU8, crop: SquareCrop, box_xyxy: BoxXyxy) -> Float32 | None:
    """The features of the box segmenter on one crop of an image.

    Args:
        network: the box segmenter.
        photo: (H, W, 3) uint8 RGB.
        crop: the crop, of S pixels a side.
        box_xyxy: the prompt, in image pixels.

    Returns:
        (C, S/16, S/16) float32; None where the exported network does not return them.
    """
    if FEATURES not in network.output_names:
        return None
    prompt = box_to_mask(crop.from_photo_xyxy(box_xyxy), (crop.size_px, crop.size_px))
    outputs = network(image=as_batch(crop.extract(photo, fill=OUTSIDE_GREY)), initial=as_mask_batch(prompt))
    features: Float32 = outputs[FEATURES][0]
    return features


def in_crop(mask: Mask, crop: SquareCrop) -> Mask:
    """(S, S) bool: a mask of the image, resampled to a crop; a thin mask keeps at least one pixel."""
    coverage = crop.extract(mask.view(np.uint8) * np.uint8(255))
    covered: Mask = coverage >= 128
    if covered.any():
        return covered
    # a mask thinner than a crop pixel must not vanish
    touched: Mask = coverage > 0 if coverage.any() else _touched(mask, crop)
    return touched


def average_predictions(
    predictions: Sequence[CropPrediction], size_hw: tuple[int, int], weights: Sequence[float] | None = None
) -> CropPrediction:
    """The weighted mean of predictions, on the crop of the first one. Parsings are averaged where they are predicted.

    Args:
        predictions: at least one.
        size_hw: the image's size.
        weights: one for each prediction; None: equal weights.
    """
    prediction, crop = predictions[0], predictions[0].crop
    weights = weights or [1.0] * len(predictions)
    inside = crop.inside_photo(size_hw)

    def resample_mask(mask: Probability, source: SquareCrop) -> Probability:
        # predictions are 0 outside the image, which must not fade probabilities at the image border
        mask = repeat_past_edge(mask, source.inside_photo(size_hw))
        return crop.resampled_from(source, mask, crop.size_px) * inside

    def resample_parsing(parsing: Probability, source: SquareCrop) -> Probability:
        return np.moveaxis(crop.resampled_from(source, np.moveaxis(parsing, 0, -1)), -1, 0)

    def mean(
        maps: Sequence[Probability | None], resample: Callable[[Probability, SquareCrop], Probability]
    ) -> Probability | None:
        weighted = [
            (values if one.crop == crop else resample(values, one.crop), np.float32(weight))
            for values, one, weight in zip(maps, predictions, weights, strict=True)
            if values is not None
        ]
        if not weighted:
            return None
        total: Any = sum(weight * values for values, weight in weighted)
        average: Probability = total / sum(weight for _, weight in weighted)
        return average

    visible = mean([one.visible for one in predictions], resample_mask)
    amodal = mean([one.amodal for one in predictions], resample_mask)
    return replace(
        prediction,
        visible=prediction.visible if visible is None else visible,
        amodal=prediction.amodal if amodal is None else amodal,
        visible_parsing=mean([one.visible_parsing for one in predictions], resample_parsing),
        amodal_parsing=mean([one.amodal_parsing for one in predictions], resample_parsing),
    )


def as_batch(image: ImageU8) -> Float32:
    """(1, 3, S, S) float32, 0 to 1, of a (S, S, 3) uint8 image."""
    batch: Float32 = image.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255)
    return batch


def as_mask_batch(mask: Mask) -> Float32:
    """(1, 1, S, S) float32 of a (S, S) mask."""
    batch: Float32 = mask[None, None].astype(np.float32)
    return batch


def _touched(mask: Mask, crop: SquareCrop) -> Mask:
    """(S, S) bool: every crop pixel that holds the centre of a pixel of the mask."""
    rows, columns = np.nonzero(mask)
    left, top = crop.left_top
    v, u = (np.floor(at / crop.scale).astype(int) for at in (rows + 0.5 - top, columns + 0.5 - left))
    inside = (v >= 0) & (v < crop.size_px) & (u >= 0) & (u < crop.size_px)
    touched = np.zeros((crop.size_px, crop.size_px), bool)
    touched[v[inside], u[inside]] = True
    return touched


def average_mirrored(batch: Float32) -> Float32:
    """(C, S, S) of a (1, C, S, S) output, or the mean of a (2, C, S, S) output, whose second entry is mirrored."""
    if len(batch) == 1:
        only: Float32 = batch[0]
        return only
    average: Float32 = (batch[0] + batch[1, ..., ::-1]) / np.float32(2)
    return average


def repeat_past_edge(values: NDArray[Scalar], inside: Mask) -> NDArray[Scalar]:
    """Repeat the image's border values outside it: a truncated body must not fade at the border.

    Args:
        values: (h, w[, C]).
        inside: (h, w) bool: pixels inside the image.
    """
    if not inside.any():  # an image so thin that no crop pixel has its centre in it
        return values
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    every_row, every_column = np.arange(len(values)), np.arange(values.shape[1])
    repeated: NDArray[Scalar] = values[every_row.clip(rows[0], rows[-1])][:, every_column.clip(columns[0], columns[-1])]
    return repeated
