"""Networks fresh from training as a predictor: in torch, at any size, without export. Ours and the baselines alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from deocclude.checkpoints.files import rebuild
from deocclude.errors import UsageError
from deocclude.imaging.appearance import Appearance, plain_appearance
from deocclude.imaging.boxes import BoxXyxy
from deocclude.inference.content_recovery import ContentRecovery, to_rgb
from deocclude.inference.mask_completion import MaskCompletion
from deocclude.models.features import load_mask_completion
from deocclude.models.mask_completion import MaskOutput, to_probabilities
from deocclude.models.network_kinds import PERSON_NETWORK_KINDS
from deocclude.pipeline import Deoccluder
from deocclude.types import Result

_SIZE_PX = 256  # of crops where the file does not say: what configs/base.yaml trains on last


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

    reads_all = True

    def __init__(self, network: Callable[..., dict[str, np.ndarray]]) -> None:
        self._network = network

    def __call__(self, image: np.ndarray, visible: np.ndarray, amodal: np.ndarray, *parsing: np.ndarray) -> Appearance:
        """As `ContentRecovery`, but all of the image is read, and the parts are not."""
        outputs = self._network(
            image=image.transpose(2, 0, 1)[None].astype(np.float32) / 255, initial=visible[None, None]
        )
        return plain_appearance(to_rgb(outputs["content"]), amodal)


class TrainedPredictor:
    """What `evaluation.evaluate` asks. Everyone is completed, however little of them seems hidden: what is measured is
    the network, not its calibration.

    network: its name in stored weights. size_px: side of its crops. paints: whether it draws what is hidden; else that
    keeps the photo's colours.
    """

    def __init__(
        self, completion: MaskCompletion, recovery: Callable[..., Appearance] | None, device: torch.device, *,
        network: str, size_px: int,
    ) -> None:  # fmt: skip
        self.network, self.size_px, self.paints = network, size_px, recovery is not None
        self._deoccluder = Deoccluder(completion, recovery or _PhotoItself(), device=device.type, model="trained")

    def __call__(
        self, image: np.ndarray, masks: Sequence[np.ndarray] | None = None, boxes_xyxy: Sequence[BoxXyxy] | None = None
    ) -> Result:
        """The person of one mask or box."""
        return self._deoccluder(image, masks=masks, boxes_xyxy=boxes_xyxy, complete="always")

    def recover(self, image: np.ndarray, visible_mask: np.ndarray, amodal_mask: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8: the photo with what is amodal and not visible recovered."""
        return self._deoccluder.recover(image, visible_mask, amodal_mask)


class _PhotoItself:
    """What a network that paints nothing leaves: the photo's own colours."""

    reads_all = True

    def __call__(self, image: np.ndarray, *_: np.ndarray) -> Appearance:
        return Appearance(image)


def open_trained(
    weights: Path, *, device: torch.device, size_px: int | None = None, parser: Path | None = None, tight: bool = True
) -> TrainedPredictor:
    """The predictor of a .safetensors of any method, its crops `size_px` a side, each looked at once.

    size_px: None takes the file's own, 256 where it has none. parser: of stage 2, stage 1's weights, which find the
    parts and the body. tight: see `MaskCompletion`. Raises WeightsError, and UsageError for stage 2 without a parser or
    another network with one.
    """
    network, metadata = rebuild(weights, PERSON_NETWORK_KINDS)
    network = network.to(device).eval()
    size_px = size_px or metadata.get("size_px", _SIZE_PX)
    kind = metadata["network"]
    stage = kind.partition("_")[0]

    def of_masks(masks_of: Callable[[Tensor, Tensor], MaskOutput]) -> MaskCompletion:
        def forward(image: Tensor, initial: Tensor) -> dict[str, Tensor]:
            return to_probabilities(masks_of(image, initial).float())._asdict()

        again = bool(metadata.get("second_look", False))
        return MaskCompletion(TorchNetwork(forward, size_px, device), average=False, tight=tight, second_pass=again)

    def predictor(completion: MaskCompletion, recovery: Callable[..., Appearance] | None) -> TrainedPredictor:
        return TrainedPredictor(completion, recovery, device, network=kind, size_px=size_px)

    if stage != "content" and parser is not None:
        raise UsageError(f"{weights}: {kind} finds masks itself: it takes no other's, {parser}")
    if stage == "mask":
        return predictor(of_masks(network), None)
    if stage == "single":
        paint = TorchNetwork(lambda image, initial: {"content": network(image, initial).content}, size_px, device)
        return predictor(of_masks(lambda *inputs: network(*inputs).masks), SingleRecovery(paint))
    if parser is None:
        raise UsageError(
            f"{weights}: stage 2 is measured with stage 1's masks and parts: name its .safetensors with --stage1"
        )
    paint = TorchNetwork(lambda **inputs: {"content": network(**inputs)}, size_px, device)
    finder: nn.Module = load_mask_completion(parser).to(device).eval()
    # what is measured is the network: no patches of the photo over its answer
    return predictor(of_masks(finder), ContentRecovery(paint, exemplars=False))
