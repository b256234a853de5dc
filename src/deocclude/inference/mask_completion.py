"""Stage 1 at inference: from a rough visible mask, or a box, to the whole body. numpy in, numpy out.

A wide crop around the prompt estimates the extent of the body. The final prediction is made on a tight crop around that
estimate, with `average` over test-time augmentations (mirrored, and zoomed out). In a box, the box-prompted
segmentation network segments the person first. Where the prompt's contour is not kept, the tight crop has a finer grid:
a contour that is off by one grid pixel costs several points of IoU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from deocclude.errors import InputError
from deocclude.imaging.arrays import ImageU8, Mask
from deocclude.imaging.boxes import is_filled_box, mask_to_box_xyxy
from deocclude.imaging.crop import SquareCrop
from deocclude.imaging.masks import keep_large_components
from deocclude.inference.body import Body, BodyInCrop
from deocclude.inference.crop_prediction import (
    CropPrediction,
    CropPredictions,
    average_predictions,
    box_features,
    in_crop,
)
from deocclude.inference.hidden_regions import FeatureMap
from deocclude.inference.mask_postprocessing import to_body, trusted_pixels
from deocclude.inference.runtime import ModelInfo, Network
from deocclude.inference.settings import InferenceSettings

Averaging = Literal["doubtful", "always", "never"]


class MaskCompletion:
    """Completes one person at a time. Holds its networks and settings."""

    def __init__(
        self, network: Network, average: Averaging = "doubtful", *, tight: bool = True, second_pass: bool = False,
        box_segmenter: Network | None = None, splits_boxes: bool = False,
        settings: InferenceSettings = InferenceSettings(),
    ) -> None:  # fmt: skip
        """The networks, and the prompts that they were trained for.

        Args:
            network: stage 1.
            average: whose final prediction is averaged over crops, tight and zoomed out, each plain and mirrored:
                people of whom it is doubtful whether anything is hidden (`settings.doubt`), "always" or "never".
            tight: make the final prediction on a tight crop around the estimated body; else on the wide crop around the
                prompt, as a single fixed crop would.
            second_pass: stage 1 was trained to start from the mean of a box and its own first prediction there
                (`mask.p_refinement_pass` in training).
            box_segmenter: the box-prompted segmentation network. The final prediction is an ensemble of its prediction
                and of stage 1's from its mask; in crowds and where predictions are averaged, of stage 1's from the box
                too.
            splits_boxes: that network was trained to segment the residual person of a box
                (`data.crop.p_subtract_neighbor` in training).
            settings: tuned numbers.
        """
        self._network = network
        self._box_segmenter = box_segmenter
        self._splits_boxes = splits_boxes and box_segmenter is not None
        self._second_pass = second_pass
        self._average = average
        self._tight = tight
        self._settings = settings

    @classmethod
    def of(cls, networks: Mapping[str, Network], model: ModelInfo, average: Averaging = "doubtful") -> MaskCompletion:
        """The completion of a model with its opened networks."""
        boxes = model.networks.get("mask_box")
        return cls(
            networks["mask_completion"],
            average,
            second_pass=bool(model.networks["mask_completion"].info.get("second_pass", False)),
            box_segmenter=networks.get("mask_box"),
            splits_boxes=boxes is not None and bool(boxes.info.get("splits_boxes", False)),
            settings=model.settings,
        )

    def __call__(self, photo: ImageU8, initial_mask: Mask, *, crowded: bool = False) -> Body:
        """Complete the person of an imperfect visible mask, or of a filled box.

        Args:
            photo: (H, W, 3) uint8 RGB.
            initial_mask: (H, W) bool.
            crowded: whether another person's box overlaps this one.

        Raises:
            InputError: the mask is empty.
            NoPersonError: the body is smaller than a pixel.
        """
        if not initial_mask.any():
            raise InputError("the initial mask is empty: it must mark at least one pixel of the person")
        predict = CropPredictions(photo)
        body = self._complete(predict, initial_mask, crowded, average=self._average == "always")
        doubt = self._settings.doubt
        if self._average == "doubtful" and doubt.least_hidden <= body.probable_hidden <= doubt.most_hidden:
            return self._complete(predict, initial_mask, crowded, average=True)
        return body

    def complete_residual(self, photo: ImageU8, box: Mask, known: Body) -> Body | None:
        """Complete the other person of a box, beside a known body.

        Args:
            photo: (H, W, 3) uint8 RGB.
            box: (H, W) bool, filled.
            known: the known body.

        Returns:
            None where no other person is visible, and for a model that was not trained to split boxes.
        """
        if not self._splits_boxes or self._box_segmenter is None:
            return None
        residual = box.copy()
        residual[known.region.slices] &= ~known.visible
        if np.count_nonzero(residual) < self._settings.deduplication.min_residual_of_box * np.count_nonzero(box):
            return None
        average, predict = self._average == "always", CropPredictions(photo)
        tight, segmented, _ = self._segment_box(self._box_segmenter, predict, residual, average)
        if not (segmented.visible >= 0.5).any():
            return None
        refined = predict(self._network, tight, segmented.visible >= 0.5, mirror=average)
        prediction = average_predictions([refined, segmented], predict.size_hw)
        return self._to_body(replace(prediction, initial=in_crop(box, tight)), photo, box)

    def parse(self, photo: ImageU8, visible_mask: Mask, amodal_mask: Mask) -> BodyInCrop:
        """The body parts of a person whose masks are known, in the tight crop around the body.

        Args:
            photo: (H, W, 3) uint8 RGB.
            visible_mask: (H, W) bool.
            amodal_mask: (H, W) bool, not empty.

        Raises:
            WeightsError: stage 1 predicts no body parts.
        """
        around = amodal_mask if self._tight or not visible_mask.any() else visible_mask
        sizes_px, average = (self._network.input_size,), self._average == "always"
        predict = CropPredictions(photo)
        found = self._final_prediction(predict, visible_mask, mask_to_box_xyxy(around), sizes_px, average)
        amodal = found.crop.extract(amodal_mask)
        return BodyInCrop(found.crop, found.image, amodal, *found.parsings)

    def feature_map(self, photo: ImageU8, body: Body) -> FeatureMap | None:
        """The box segmenter's features around a body, prompted with the body's box.

        Args:
            photo: (H, W, 3) uint8 RGB.
            body: a body with at least one amodal pixel.

        Returns:
            None for a model without box segmenter, or whose box segmenter returns no features.
        """
        segmenter = self._box_segmenter
        if segmenter is None:
            return None
        x0, y0, x1, y1 = mask_to_box_xyxy(body.amodal)
        left, top = body.region.left, body.region.top
        box_xyxy = (x0 + left, y0 + top, x1 + left, y1 + top)
        crop = SquareCrop.from_box_xyxy(box_xyxy, self._settings.crop.tight_scale, segmenter.input_size)
        features = box_features(segmenter, photo, crop, box_xyxy)
        return None if features is None else FeatureMap(crop, features)

    def _complete(self, predict: CropPredictions, initial_mask: Mask, crowded: bool, *, average: bool) -> Body:
        """The body of a prompt, with the final prediction averaged or not."""
        is_box = is_filled_box(initial_mask)
        prediction = None
        if is_box and self._box_segmenter is not None:
            prediction = self._predict_from_box(self._box_segmenter, predict, initial_mask, crowded, average)
        if prediction is None:
            prediction = self._predict_from_mask(predict, initial_mask, is_box, average)
        return self._to_body(prediction, predict.photo, initial_mask)

    def _to_body(self, prediction: CropPrediction, photo: ImageU8, initial_mask: Mask) -> Body:
        return to_body(prediction, photo, initial_mask, self._network.input_size, self._settings.cleanup)

    def _predict_from_mask(
        self, predict: CropPredictions, initial_mask: Mask, is_box: bool, average: bool
    ) -> CropPrediction:
        """The final prediction from the initial mask, or from the box, alone."""
        first = None
        if self._tight:
            body_box, first = self._estimate_extent(self._network, predict, initial_mask)
        else:
            body_box = mask_to_box_xyxy(initial_mask)
        start = first if self._second_pass and is_box else None
        return self._final_prediction(predict, initial_mask, body_box, self._crop_sizes_px(is_box), average, start)

    def _predict_from_box(
        self, segmenter: Network, predict: CropPredictions, box: Mask, crowded: bool, mirror: bool
    ) -> CropPrediction | None:
        """The ensemble's prediction for a box; None where the box-prompted segmentation network finds no person."""
        stage1 = self._network
        tight, segmented, wide = self._segment_box(segmenter, predict, box, mirror)
        if not (segmented.visible >= 0.5).any():
            return None
        visible = segmented.visible >= 0.5
        refined = predict(stage1, tight, visible, mirror=mirror)
        ensemble = self._settings.ensemble
        if not mirror and not crowded:
            pair = average_predictions([refined, segmented], predict.size_hw, (ensemble.refined, 1.0))
            return replace(pair, initial=segmented.initial)
        first = None
        if self._second_pass:
            wide_crop = replace(wide.crop, size_px=stage1.input_size)
            first = predict(stage1, wide_crop, in_crop(box, wide_crop), mirror=False)
        zoomed_out = self._zoomed_out(tight)
        direct = predict(stage1, zoomed_out, in_crop(box, zoomed_out), mirror=mirror, first=first)
        weights = (ensemble.refined, 1.0, ensemble.direct_in_crowds if crowded else ensemble.direct)
        # the prompt is a box: the segmenter's own mask takes the place of a given one
        prediction = average_predictions([refined, segmented, direct], predict.size_hw, weights)
        return replace(prediction, initial=segmented.initial)

    def _segment_box(
        self, segmenter: Network, predict: CropPredictions, box: Mask, mirror: bool
    ) -> tuple[SquareCrop, CropPrediction, CropPrediction]:
        """The tight crop around the person of a box, and the segmenter's predictions, tight and wide."""
        body_box, wide = self._estimate_extent(segmenter, predict, box)
        tight = SquareCrop.from_box_xyxy(body_box, self._settings.crop.tight_scale, segmenter.fine_size)
        return tight, predict(segmenter, tight, in_crop(box, tight), mirror=mirror), wide

    def _crop_sizes_px(self, is_box: bool) -> tuple[int, ...]:
        """Sizes of the final crop; the next size is used where the given mask is not trusted.

        A trusted mask keeps its contour, and the usual size completes the hidden part as well. A box is never trusted.
        """
        usual, fine = self._network.input_size, self._network.fine_size
        return (fine,) if fine == usual or is_box else (usual, fine)

    def _final_prediction(
        self, predict: CropPredictions, initial_mask: Mask, box: Sequence[float], sizes_px: Sequence[int],
        average: bool, first: CropPrediction | None = None,
    ) -> CropPrediction:  # fmt: skip
        """The prediction on the crop around a box, averaged over test-time augmentations.

        first: an earlier prediction, for a network that starts from it.
        """
        scale = self._settings.crop.tight_scale if self._tight else self._settings.crop.wide_scale
        for size_px in sizes_px:
            crop = SquareCrop.from_box_xyxy(box, scale, size_px)
            initial = in_crop(initial_mask, crop)
            prediction = predict(self._network, crop, initial, mirror=average, first=first)
            if trusted_pixels(prediction.initial, prediction.visible >= 0.5, self._settings.cleanup).any():
                break
        if not average:
            return prediction
        further = self._zoomed_out(crop)
        start = None if first is None else prediction
        second = predict(self._network, further, in_crop(initial_mask, further), mirror=True, first=start)
        return average_predictions([prediction, second], predict.size_hw)

    def _estimate_extent(
        self, network: Network, predict: CropPredictions, initial_mask: Mask
    ) -> tuple[tuple[float, float, float, float], CropPrediction]:
        """The box of the whole body, in image pixels, which holds the initial mask; and the wide prediction."""
        visible_box, settings = mask_to_box_xyxy(initial_mask), self._settings.crop
        scale = settings.wide_scale
        for _ in range(settings.max_wide_crops):
            crop = SquareCrop.from_box_xyxy(visible_box, scale, network.input_size)
            prediction = predict(network, crop, in_crop(initial_mask, crop), mirror=False)
            body = keep_large_components(prediction.amodal >= 0.5, self._settings.cleanup.min_component_share)
            if not _runs_into_edge(body):
                break
            scale *= settings.widen_by
        if not body.any():
            return visible_box, prediction
        height, width = predict.size_hw
        x0, y0, x1, y1 = crop.to_photo_xyxy(mask_to_box_xyxy(body))
        body_box = (
            max(0.0, min(x0, visible_box[0])),
            max(0.0, min(y0, visible_box[1])),
            min(float(width), max(x1, visible_box[2])),
            min(float(height), max(y1, visible_box[3])),
        )
        return body_box, prediction

    def _zoomed_out(self, crop: SquareCrop) -> SquareCrop:
        """The second of the two final crops: the tight one with a wider margin."""
        settings = self._settings.crop
        return replace(crop, side_px=crop.side_px * settings.zoomed_out_scale / settings.tight_scale)


def _runs_into_edge(body: Mask) -> bool:
    """Whether a body meets the crop's border: no pixel outside the image is body, so the image border never counts."""
    return bool(body[0].any() or body[-1].any() or body[:, 0].any() or body[:, -1].any())
