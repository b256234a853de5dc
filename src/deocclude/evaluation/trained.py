"""Networks fresh from training as a predictor: in torch, at any size, without export. Ours and the baselines alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from deocclude.completion import MaskCompletion
from deocclude.errors import UsageError
from deocclude.masks import BoxXyxy
from deocclude.models.features import load_mask_completion
from deocclude.models.mask_completion import MaskOutput, to_probabilities
from deocclude.models.registry import network_kinds
from deocclude.pipeline import Deoccluder
from deocclude.recovery import ContentRecovery, as_colours
from deocclude.types import Result
from deocclude.weights_io import rebuild


class TorchNetwork:
    """A torch function behind the interface of `runtime.Network`: named arrays in, named arrays out."""

    def __init__(self, forward: Callable[..., dict[str, Tensor]], input_size: int, device: torch.device) -> None:
        self.input_size = self.fine_size = input_size
        self._forward, self._device = forward, device

    @torch.no_grad()
    def __call__(self, **inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Inputs: (B, C, S, S) float32, by the names that the exported networks have."""
        tensors = {
            name: torch.from_numpy(np.ascontiguousarray(value, dtype=np.float32)).to(self._device)
            for name, value in inputs.items()
        }
        return {name: value.float().cpu().numpy() for name, value in self._forward(**tensors).items()}


class SingleRecovery:
    """The content of a network of both stages, which draws it with the masks; called as `ContentRecovery` is."""

    def __init__(self, network: Callable[..., dict[str, np.ndarray]]) -> None:
        self._network = network

    def __call__(self, image: np.ndarray, visible: np.ndarray, amodal: np.ndarray, *parsing: np.ndarray) -> np.ndarray:
        """As `ContentRecovery`, but all of the image is read, and the parts are not."""
        outputs = self._network(
            image=image.transpose(2, 0, 1)[None].astype(np.float32) / 255, initial=visible[None, None]
        )
        return as_colours(outputs["content"], amodal)


class TrainedPredictor:
    """What `evaluation.evaluate` asks. Everyone is completed, however little of them seems hidden: what is measured is
    the network, not its calibration."""

    def __init__(self, completion: MaskCompletion, recovery: Callable[..., np.ndarray], device: torch.device) -> None:
        self._deoccluder = Deoccluder(completion, recovery, device=device.type, model="trained")

    def __call__(
        self, image: np.ndarray, masks: Sequence[np.ndarray] | None = None, boxes_xyxy: Sequence[BoxXyxy] | None = None
    ) -> Result:
        """The person of one mask or box."""
        return self._deoccluder(image, masks=masks, boxes_xyxy=boxes_xyxy, complete="always")

    def recover(self, image: np.ndarray, visible_mask: np.ndarray, amodal_mask: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8: the photo with what is amodal and not visible recovered."""
        return self._deoccluder.recover(image, visible_mask, amodal_mask)


def open_trained(
    weights: Path, *, size_px: int, device: torch.device, parser: Path | None = None, tight: bool = True
) -> TrainedPredictor:
    """The predictor of a .safetensors of any method, its crops `size_px` a side, each looked at once.

    parser: of stage 2, stage 1's weights, which find the parts and the body. tight: see `MaskCompletion`. Of stage 1
    alone, what is hidden keeps the photo's colours. Raises WeightsError, and UsageError for stage 2 without a parser.
    """
    network, metadata = rebuild(weights, network_kinds())
    network = network.to(device).eval()
    stage = metadata["network"].partition("_")[0]

    def of_masks(masks_of: Callable[[Tensor, Tensor], MaskOutput]) -> MaskCompletion:
        def forward(image: Tensor, initial: Tensor) -> dict[str, Tensor]:
            return to_probabilities(masks_of(image, initial).float())._asdict()

        return MaskCompletion(TorchNetwork(forward, size_px, device), average=False, tight=tight)

    if stage == "mask":
        return TrainedPredictor(of_masks(network), lambda image, *_: image, device)
    if stage == "single":
        paint = TorchNetwork(lambda image, initial: {"content": network(image, initial).content}, size_px, device)
        return TrainedPredictor(of_masks(lambda *inputs: network(*inputs).masks), SingleRecovery(paint), device)
    if parser is None:
        raise UsageError(f"{weights}: stage 2 is measured with stage 1's masks and parts: name its .safetensors")
    paint = TorchNetwork(lambda **inputs: {"content": network(**inputs)}, size_px, device)
    finder: nn.Module = load_mask_completion(parser).to(device).eval()
    return TrainedPredictor(of_masks(finder), ContentRecovery(paint), device)
