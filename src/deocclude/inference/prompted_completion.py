"""A completed person once more, with completion prompts.

Stage 1's features of a crop are computed once. The prompted head, small and fast, answers each prompt from them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from deocclude.errors import NoPersonError, UsageError
from deocclude.imaging.arrays import Float32, ImageU8, Mask, Probability
from deocclude.imaging.boxes import BoxXyxy
from deocclude.imaging.crop import OUTSIDE_GREY, SquareCrop
from deocclude.inference.body import Body
from deocclude.inference.completion_prompts import CompletionPrompts
from deocclude.inference.crop_prediction import (
    as_batch,
    as_mask_batch,
    as_prediction,
    average_mirrored,
    in_crop,
    with_mirrored,
)
from deocclude.inference.mask_postprocessing import to_body
from deocclude.inference.prompt_maps import Stroke, draw_prompt_maps, place_pose
from deocclude.inference.runtime import STAGE1_FEATURES, ModelInfo, Network
from deocclude.inference.settings import InferenceSettings
from deocclude.io.typical_poses import POSES_NAME, read_poses

# Of stage 1's answer: what the head reads, and what of the prediction stays as it is.
_STAGE1_OUTPUTS = ("visible", "amodal", "visible_parsing", "amodal_parsing", *STAGE1_FEATURES)


@dataclass(frozen=True)
class PreparedCrop:
    """What the prompted head needs of one person, whatever the prompts.

    Attributes:
        crop: the crop.
        image: (S, S, 3) uint8.
        initial: (S, S) bool: the visible mask.
        outputs: stage 1's, of the crop and of its mirror image.
    """

    crop: SquareCrop
    image: ImageU8
    initial: Mask
    outputs: dict[str, Float32]


@dataclass(frozen=True)
class PromptedAnswer:
    """The prompted head's answer on a crop.

    Attributes:
        amodal: (S, S), 0 to 1.
        parsing: (12, S/4, S/4), 0 to 1.
        likelihood: (hypotheses,) probability that each one is the best; sum 1. Valid for the single answer alone; empty
            for a head without hypotheses.
    """

    amodal: Probability
    parsing: Probability
    likelihood: Float32


class PromptedCompletion:
    """Completes a person again for every new prompt. Holds its networks and settings."""

    def __init__(
        self, stage1: Network, head: Network, poses: Float32, settings: InferenceSettings = InferenceSettings(),
        hypotheses: int = 0,
    ) -> None:  # fmt: skip
        """The networks, and the typical poses.

        Args:
            stage1: stage 1, which returns STAGE1_FEATURES too.
            head: the prompted head.
            poses: (K, 2, 32, 32) typical poses.
            settings: tuned numbers.
            hypotheses: how many different answers the head can give.
        """
        self.hypotheses = hypotheses
        self._stage1 = stage1
        self._head = head
        self._poses = poses
        self._settings = settings

    @classmethod
    def of(cls, networks: Mapping[str, Network], model: ModelInfo) -> PromptedCompletion | None:
        """The prompted completion of a model with its opened networks; None for a model without."""
        head, stage1 = networks.get("mask_prompted"), networks["mask_completion"]
        if head is None:
            return None
        folder = model.networks["mask_completion"].onnx_path.parent
        return cls(stage1, head, read_poses(folder / POSES_NAME), model.settings, model.hypotheses)

    def __call__(self, photo: ImageU8, body: Body, prompts: CompletionPrompts) -> Body:
        """The body with the hidden part that prompts say; its visible part stays, but for `background`.

        Args:
            photo: (H, W, 3) uint8 RGB.
            body: the person as completed without prompts, with everything that may be hidden.
            prompts: at least one; masks have the image's size.

        Raises:
            UsageError: there is no such typical pose or hypothesis.
            NoPersonError: nothing visible is left of the person.
        """
        if prompts.for_head:
            body = self.answer(photo, body, self.prepare(photo, body, prompts), prompts)
        return restricted(body, prompts)

    def prepare(self, photo: ImageU8, body: Body, prompts: CompletionPrompts) -> PreparedCrop:
        """Run stage 1 on the crop of a person, which holds every prompt.

        Args:
            photo: (H, W, 3) uint8 RGB.
            body: the person; visible somewhere.
            prompts: the crop holds their extent, or else the whole body, and every point.
        """
        crop = self._crop(body, prompts)
        image, initial = (
            crop.extract(photo, fill=OUTSIDE_GREY),
            in_crop(body.on_photo(body.visible, photo.shape[:2]), crop),
        )
        batches = with_mirrored({"image": as_batch(image), "initial": as_mask_batch(initial)})
        outputs = self._stage1.select(_STAGE1_OUTPUTS, **batches)
        return PreparedCrop(crop, image, initial, outputs)

    def covers(self, prepared: PreparedCrop, body: Body, prompts: CompletionPrompts) -> bool:
        """Whether a prepared crop is the one that these prompts would get, or holds it with little to spare."""
        needed = self._crop(body, prompts)
        (left, top), (x, y) = prepared.crop.left_top, needed.left_top
        side = prepared.crop.side_px
        inside = left <= x and top <= y and x + needed.side_px <= left + side and y + needed.side_px <= top + side
        return inside and needed.side_px >= 0.7 * side

    def answer(self, photo: ImageU8, body: Body, prepared: PreparedCrop, prompts: CompletionPrompts) -> Body:
        """The body that the prompted head completes, from features that are computed already."""
        return self.to_body(photo, body, prepared, self.predict(prepared, prompts))

    def _maps(self, prepared: PreparedCrop, prompts: CompletionPrompts) -> Float32:
        """(PROMPT_MAPS, S, S): the prompts as maps on a prepared crop. Raises UsageError for an unknown pose."""
        crop = prepared.crop

        def in_crop_pixels(strokes: Sequence[Stroke]) -> list[Stroke]:
            moved = []
            for (x0, y0), (x1, y1) in strokes:
                a, b, c, d = crop.from_photo_xyxy((x0, y0, x1, y1))
                moved.append(((a, b), (c, d)))
            return moved

        extent = None if prompts.extent_xyxy is None else crop.from_photo_xyxy(prompts.extent_xyxy)
        silhouette = None
        if prompts.pose is not None:
            if not 1 <= prompts.pose <= len(self._poses):
                raise UsageError(f"typical poses are numbered from 1 to {len(self._poses)}, got {prompts.pose}")
            silhouette = place_pose(self._poses[prompts.pose - 1, 1], prepared.outputs["visible"][0, 0])
        return draw_prompt_maps(
            crop.size_px, extent_xyxy=extent, body=in_crop_pixels(prompts.body_strokes),
            background=in_crop_pixels(prompts.background_strokes), silhouette=silhouette,
        )  # fmt: skip

    def predict(self, prepared: PreparedCrop, prompts: CompletionPrompts) -> PromptedAnswer:
        """The answer to prompts; nothing is body beyond a given extent.

        The single answer is averaged with that of the mirror image. A hypothesis is not: in the mirror image, the body
        of the same hypothesis may continue on the other side.

        Raises:
            UsageError: there is no such typical pose or hypothesis.
        """
        maps, outputs, number = self._maps(prepared, prompts), prepared.outputs, prompts.hypothesis
        if number is not None and not 1 <= number <= self.hypotheses:
            raise UsageError(f"hypotheses are numbered from 1 to {self.hypotheses}, got {number}")
        inputs = {name: outputs[name] for name in ("visible", *STAGE1_FEATURES)} | {"unprompted": outputs["amodal"]}
        inputs |= with_mirrored({"prompts": maps[None]})
        if self.hypotheses:
            inputs["hypothesis"] = np.zeros((len(inputs["prompts"]), self.hypotheses), np.float32)
        if number is not None:
            inputs["hypothesis"][:, number - 1] = 1
            inputs = {name: value[:1] for name, value in inputs.items()}
        found = self._head(**inputs)
        likelihood = found["likelihood"].mean(0) if self.hypotheses else np.zeros(0, np.float32)
        amodal = average_mirrored(found["amodal"])[0] * (maps[0] >= 0)
        return PromptedAnswer(amodal, average_mirrored(found["amodal_parsing"]), likelihood)

    def to_body(self, photo: ImageU8, body: Body, prepared: PreparedCrop, found: PromptedAnswer) -> Body:
        """The body with the hidden part of the head's answer. Raises NoPersonError where nothing visible is left."""
        size_hw = photo.shape[:2]
        first = as_prediction(prepared.crop, prepared.image, prepared.initial, prepared.outputs, size_hw)
        given = prepared.initial.astype(np.float32)
        amodal = np.maximum(found.amodal * prepared.crop.inside_photo(size_hw), given)
        prediction = replace(first, visible=given, amodal=amodal, amodal_parsing=found.parsing)
        visible = body.on_photo(body.visible, size_hw)
        whole = to_body(prediction, photo, visible, self._stage1.input_size, self._settings.cleanup)
        seen = visible[whole.region.slices]
        if not (seen & whole.amodal).any():
            raise NoPersonError("nothing visible is left of the person with these prompts")
        whole = whole.with_visible(whole.visible & seen).with_visible_part(seen)
        return replace(whole, score=body.score, hidden_probability=1.0)

    def _crop(self, body: Body, prompts: CompletionPrompts) -> SquareCrop:
        """The crop around the visible part, every point, and the extent or else the whole body as completed before."""
        boxes: list[BoxXyxy] = [body.box_xyxy]
        if prompts.extent_xyxy is not None:
            boxes.append(prompts.extent_xyxy)
        else:
            r = body.region
            boxes.append((r.left, r.top, r.right, r.bottom))
        boxes += [(x, y, x, y) for stroke in (*prompts.body_strokes, *prompts.background_strokes) for x, y in stroke]
        edges = np.array(boxes, float)
        around = (*edges[:, :2].min(0), *edges[:, 2:].max(0))
        return SquareCrop.from_box_xyxy(around, self._settings.crop.tight_scale, self._stage1.input_size)


def restricted(body: Body, prompts: CompletionPrompts) -> Body:
    """The body without what the prompts' masks exclude.

    Args:
        body: the completed person.
        prompts: masks of the image's size.

    Raises:
        NoPersonError: nothing visible is left of the person.
    """
    here = body.region.slices
    hidden = body.amodal & ~body.visible
    excluded = np.zeros_like(hidden)
    if prompts.front is not None:
        excluded |= ~prompts.front[here]
    if prompts.keep is not None:
        excluded |= prompts.keep[here]
    if prompts.background is not None:
        background = prompts.background[here]
        if not (body.visible & ~background).any():
            raise NoPersonError("nothing visible is left of the person beside the background that was marked")
        return body.with_visible(body.visible & ~background).with_amodal(
            body.amodal & ~(background | (excluded & hidden))
        )
    if not (excluded & hidden).any():
        return body
    return body.with_amodal(body.amodal & ~(excluded & hidden))
