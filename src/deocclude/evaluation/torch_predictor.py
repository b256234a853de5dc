"""Trained weights as a predictor: in torch, at any crop size, without export; own networks and baselines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deocclude.checkpoints.files import rebuild
from deocclude.errors import UsageError
from deocclude.imaging.appearance import Appearance, plain_appearance
from deocclude.imaging.boxes import BoxXyxy
from deocclude.inference.content_recovery import ContentRecovery, to_rgb
from deocclude.inference.mask_completion import MaskCompletion
from deocclude.models.features import read_mask_completion
from deocclude.models.mask_completion import MaskOutput, to_probabilities
from deocclude.models.network_kinds import PERSON_NETWORK_KINDS
from deocclude.people.stages import Stages
from deocclude.pipeline import Deoccluder
from deocclude.types import Result

_SIZE_PX = 256  # crop side for weights whose metadata state none


class TorchNetwork:
    """A torch function with the interface of `runtime.Network`: named arrays in, named arrays out."""

    def __init__(self, forward: Callable[..., dict[str, Tensor]], input_size: int, device: torch.device) -> None:
        self.input_size = self.fine_size = input_size
        self._forward, self._device = forward, device

    @torch.no_grad()
    def __call__(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Inputs: (B, C, S, S) float32, with the names of the exported networks."""
        tensors = {
            name: torch.from_numpy(np.ascontiguousarray(value, dtype=np.float32)).to(self._device)
            for name, value in inputs.items()
        }
        return {name: value.float().cpu().numpy() for name, value in self._forward(**tensors).items()}


class SingleRecovery:
    """Content of a one-stage network, which predicts it together with the masks; called as `ContentRecovery`.

    Attributes:
        reads_all: true, because the network also reads the occluder's pixels.
    """

    reads_all = True

    def __init__(self, network: Callable[..., dict[str, np.ndarray]]) -> None:
        self._network = network

    def __call__(self, image: np.ndarray, visible: np.ndarray, amodal: np.ndarray, *parsing: np.ndarray) -> Appearance:
        """As `ContentRecovery`; `parsing` is ignored."""
        outputs = self._network(
            image=image.transpose(2, 0, 1)[None].astype(np.float32) / 255, initial=visible[None, None]
        )
        return plain_appearance(to_rgb(outputs["content"]), amodal)


class TorchPredictor:
    """A predictor for `evaluation.evaluate` that completes everyone, to measure the network and not its calibration.

    Attributes:
        network: its kind in stored weights.
        size_px: side of the crops.
        paints: whether it recovers appearance; otherwise the occluded part keeps the photo's colours.
    """

    def __init__(
        self, completion: MaskCompletion, recovery: Callable[..., Appearance] | None, device: torch.device, *,
        network: str, size_px: int,
    ) -> None:  # fmt: skip
        self.network, self.size_px, self.paints = network, size_px, recovery is not None
        self._deoccluder = Deoccluder(
            Stages(completion, recovery or _PhotoItself(), device=device.type, model="trained")
        )

    def __call__(
        self, image: np.ndarray, masks: Sequence[np.ndarray] | None = None, boxes_xyxy: Sequence[BoxXyxy] | None = None
    ) -> Result:
        """Complete the person of each mask or box."""
        return self._deoccluder(image, masks=masks, boxes_xyxy=boxes_xyxy, complete="always")

    def recover(self, image: np.ndarray, visible_mask: np.ndarray, amodal_mask: np.ndarray) -> np.ndarray:
        """The photo with the occluded part (amodal minus visible) recovered, (H, W, 3) uint8."""
        return self._deoccluder.recover(image, visible_mask, amodal_mask)


class _PhotoItself:
    """The stand-in for stage 2 where the network predicts masks only: it keeps the photo's colours."""

    reads_all = True

    def __call__(self, image: np.ndarray, *_: np.ndarray) -> Appearance:
        return Appearance(image)


def open_trained(
    weights: Path, *, device: torch.device, size_px: int | None = None, parser: Path | None = None, tight: bool = True
) -> TorchPredictor:
    """Open the .safetensors file of any method, with one prediction per crop.

    Args:
        weights: the file.
        device: of torch.
        size_px: crop side; None takes the file's own, or 256.
        parser: for stage 2: stage 1's weights, for masks and parsing.
        tight: see `MaskCompletion`.

    Raises:
        WeightsError: the file does not fit.
        UsageError: stage 2 without a parser, or another network with one.
    """
    network, metadata = rebuild(weights, PERSON_NETWORK_KINDS)
    network = network.to(device).eval()
    size_px = size_px or metadata.get("size_px", _SIZE_PX)
    kind = metadata["network"]
    stage = kind.partition("_")[0]

    def completion_from(
        predict_masks: Callable[[Tensor, Tensor], MaskOutput], of_masks: Mapping[str, Any] = metadata
    ) -> MaskCompletion:
        """`MaskCompletion` around a function from image and initial mask to masks, whose weights have this metadata."""

        def forward(image: Tensor, initial: Tensor) -> dict[str, Tensor]:
            return to_probabilities(predict_masks(image, initial).float())._asdict()

        second_pass = bool(of_masks.get("second_pass", False))
        return MaskCompletion(
            TorchNetwork(forward, size_px, device), average="never", tight=tight, second_pass=second_pass
        )

    def predictor(completion: MaskCompletion, recovery: Callable[..., Appearance] | None) -> TorchPredictor:
        return TorchPredictor(completion, recovery, device, network=kind, size_px=size_px)

    if stage != "content" and parser is not None:
        raise UsageError(f"{weights}: {kind} predicts masks itself and ignores external masks: leave out {parser}")
    if stage == "mask":
        return predictor(completion_from(network), None)
    if stage == "single":
        paint = TorchNetwork(lambda image, initial: {"content": network(image, initial).content}, size_px, device)
        return predictor(completion_from(lambda *inputs: network(*inputs).masks), SingleRecovery(paint))
    if parser is None:
        raise UsageError(f"{weights}: stage 2 needs masks and parts of a stage 1: name its .safetensors with --stage1")
    paint = TorchNetwork(lambda **inputs: {"content": network(**inputs)}, size_px, device)
    stage1, of_stage1 = read_mask_completion(parser)
    # no exemplar synthesis over the output: the network itself is measured
    return predictor(completion_from(stage1.to(device).eval(), of_stage1), ContentRecovery(paint, exemplars=False))
