"""Frozen features for perceptual and style terms: of ImageNet networks, or of the encoder of stage 1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deocclude.checkpoints.files import load_weights, rebuild
from deocclude.errors import WeightsError
from deocclude.models.efficientnet_lite import EfficientNetLite
from deocclude.models.mask_completion import MaskCompletionConfig, MaskCompletionNet


class ParsingFeatures(nn.Module):
    """Encoder features of a trained MaskCompletionNet, which separate hair, skin and garments.

    At 1/2, 1/4, 1/8 and 1/16 of the input. Frozen, but gradients pass through to the image.
    """

    def __init__(self, network: MaskCompletionNet):
        super().__init__()
        self.stem, self.enter = network.stem, network.enter
        self.down = network.visible_hourglass.down[:2]
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> ParsingFeatures:
        """Stay in evaluation mode: the batch norms are frozen too."""
        return super().train(False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """image: (B, 3, H, W) RGB in [0, 1] -> features. The initial mask is all ones."""
        x = self.stem(torch.cat([image * 2 - 1, torch.ones_like(image[:, :1])], 1))
        features = [x]
        x = self.enter(x)
        features.append(x)
        for down in self.down:
            x = down(x)
            features.append(x)
        return features


class Vgg16Features(nn.Module):
    """ReLU 1_2, 2_2, 3_3 of VGG-16 (Simonyan and Zisserman 2015), with torchvision's tensor names."""

    _STAGES = ((64, 64), (128, 128), (256, 256, 256))

    def __init__(self, state: dict[str, Tensor]):
        super().__init__()
        self.stages = nn.ModuleList()
        c_in, index = 3, 0  # index: of the layer in torchvision's `features`
        for number, widths in enumerate(self._STAGES):
            layers: list[nn.Module] = [nn.MaxPool2d(2)] if number else []
            index += 1 if number else 0
            for c_out in widths:
                conv = nn.Conv2d(c_in, c_out, 3, padding=1)
                conv.load_state_dict({k: state[f"features.{index}.{k}"] for k in ("weight", "bias")})
                layers += [conv, nn.ReLU(inplace=True)]
                c_in, index = c_out, index + 2
            self.stages.append(nn.Sequential(*layers))
        # channel statistics of ImageNet, which the published weights expect
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))
        self.requires_grad_(False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """image: (B, 3, H, W) RGB in [0, 1] -> three features at full, 1/2 and 1/4 size."""
        x = (image - self.mean) / self.std
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class ImageNetFeatures(nn.Module):
    """ImageNet-pretrained EfficientNet-Lite0: features at 1/2, 1/4, 1/8 and 1/16 of the input.

    Features are normalised to unit length over the channels (as in LPIPS, Zhang et al. 2018, arXiv 1801.03924), so that
    all stages have equal weight. Frozen, but gradients pass through to the image.
    """

    _STAGES = 4

    def __init__(self, published: dict[str, Tensor]):
        """published: tensors by the names of the published file. Raises ValueError if they do not fit."""
        super().__init__()
        self.backbone = EfficientNetLite()
        self.backbone.load_published(published)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> ImageNetFeatures:
        """Stay in evaluation mode: the batch norms are frozen too."""
        return super().train(False)

    def forward(self, image: Tensor) -> list[Tensor]:
        """image: (B, 3, H, W) RGB in [0, 1], H and W divisible by 32 -> features of unit length at each place."""
        return [F.normalize(x, dim=1, eps=1e-3) for x in self.backbone(image * 2 - 1, self._STAGES)]


def load_features(path: Path) -> nn.Module:
    """Frozen features from a .safetensors file of stage 1 or of VGG-16. Raises WeightsError for another file."""
    weights, metadata = load_weights(path)
    if metadata.get("network") == "mask_completion":
        network = load_mask_completion(path)
        if network.config.backbone != "hourglass":
            raise WeightsError(f"{path}: features need the backbone hourglass, got {network.config.backbone}")
        return ParsingFeatures(network)
    if "features.0.weight" in weights:
        try:
            return Vgg16Features(weights)
        except (KeyError, RuntimeError) as error:
            reason = str(error).splitlines()[-1].strip()
            raise WeightsError(f"{path}: not the weights of VGG-16: {reason}") from error
    raise WeightsError(f"{path}: expected weights of a deocclude stage 1 or of VGG-16 (features.N.weight), got neither")


def load_mask_completion(path: Path) -> MaskCompletionNet:
    """Stage 1 with the sizes and weights of a .safetensors file. Raises WeightsError."""
    return read_mask_completion(path)[0]


def read_mask_completion(path: Path) -> tuple[MaskCompletionNet, dict[str, Any]]:
    """Stage 1 as `load_mask_completion` gives it, and the file's metadata."""
    return rebuild(path, {"mask_completion": (MaskCompletionNet, MaskCompletionConfig)})
