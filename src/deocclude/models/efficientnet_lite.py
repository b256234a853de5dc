"""The backbone of EfficientNet-Lite (Tan and Le 2019, arXiv 1905.11946; Lite: no squeeze-excitation, ReLU6).

It is used as an ImageNet-pretrained backbone: the few labelled photos of a training run do not give such features.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_EPS = 1e-3  # of the batch norms, as in training of the published weights
_STEM_WIDTH = 32  # channels


class _Stage(NamedTuple):
    """Blocks of one width. expand: expansion factor inside a block; stride: of the first block."""

    expand: int
    width: int
    blocks: int
    kernel: int
    stride: int


# EfficientNet-Lite0 without the wide last block and the classifier
_STAGES = (
    _Stage(1, 16, 1, 3, 1), _Stage(6, 24, 2, 3, 2), _Stage(6, 40, 2, 5, 2), _Stage(6, 80, 3, 3, 2),
    _Stage(6, 112, 3, 5, 1), _Stage(6, 192, 4, 5, 2),
)  # fmt: skip
_LAST_OF_SCALE = (0, 1, 2, 4, 5)  # last stage at 1/2, 1/4, ..., 1/32: its output is returned


class EfficientNetLite(nn.Module):
    """`backbone(image) -> features` at 1/2, 1/4, 1/8, 1/16 and 1/32 of the input.

    Attributes:
        half_width: channels of the feature at 1/2.
        widths: channels of the other features.
    """

    half_width = _STAGES[_LAST_OF_SCALE[0]].width
    widths = tuple(_STAGES[i].width for i in _LAST_OF_SCALE[1:])

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv_norm(3, _STEM_WIDTH, 3, 2)
        self._frozen_statistics = False
        c_in, self.stages = _STEM_WIDTH, nn.ModuleList()
        for stage in _STAGES:
            blocks = []
            for number in range(stage.blocks):
                stride = stage.stride if number == 0 else 1
                blocks.append(InvertedResidual(c_in, stage.width, stage.expand, stage.kernel, stride))
                c_in = stage.width
            self.stages.append(nn.Sequential(*blocks))

    def forward(self, image: Tensor, scales: int = len(_LAST_OF_SCALE)) -> list[Tensor]:
        """Compute features.

        Args:
            image: (B, 3, H, W) RGB in [-1, 1], H and W divisible by 32.
            scales: how many features to compute.

        Returns:
            The features, the finest first.
        """
        x = F.relu6(self.stem(image), inplace=True)
        features = []
        for number, stage in enumerate(self.stages[: _LAST_OF_SCALE[scales - 1] + 1]):
            x = stage(x)
            if number in _LAST_OF_SCALE:
                features.append(x)
        return features

    def train(self, mode: bool = True) -> EfficientNetLite:
        """Batch norms with pretrained statistics stay in evaluation mode: small batches would degrade them."""
        super().train(mode)
        if self._frozen_statistics:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def freeze(self, stages: int) -> None:
        """Freeze the stem and the first stages. Raises ValueError for more stages than there are."""
        if not 0 <= stages <= len(self.stages):
            raise ValueError(f"frozen stages must be from 0 to {len(self.stages)}, got {stages}")
        if stages:
            for part in (self.stem, *self.stages[:stages]):
                part.requires_grad_(False)

    @torch.no_grad()
    def load_published(self, published: dict[str, Tensor]) -> None:
        """Load the weights of EfficientNet-Lite0 as published for torch, and freeze the batch norm statistics.

        Args:
            published: tensors by their published names.

        Raises:
            ValueError: a tensor is missing or has another shape.
        """
        # own layer -> published layer
        names = {"stem.0": "_conv_stem", "stem.1": "_bn0"}
        number = 0
        for s, stage in enumerate(self.stages):
            for b, block in enumerate(stage):
                own, source = f"stages.{s}.{b}", f"_blocks.{number}"
                if block.expand is not None:
                    names |= {f"{own}.expand.0": f"{source}._expand_conv", f"{own}.expand.1": f"{source}._bn0"}
                names |= {
                    f"{own}.depthwise.0": f"{source}._depthwise_conv", f"{own}.depthwise.1": f"{source}._bn1",
                    f"{own}.project.0": f"{source}._project_conv", f"{own}.project.1": f"{source}._bn2",
                }  # fmt: skip
                number += 1
        state = {}
        for key in self.state_dict():
            layer, _, part = key.rpartition(".")
            source = f"{names[layer]}.{part}"
            if part == "num_batches_tracked":
                state[key] = torch.tensor(0)
            elif source in published:
                state[key] = published[source]
            else:
                raise ValueError(f"not the weights of EfficientNet-Lite0: {source} is missing")
        try:
            self.load_state_dict(state)
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise ValueError(f"not the weights of EfficientNet-Lite0: {reason}") from error
        self._frozen_statistics = True
        self.train(self.training)


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution, 1x1 projection, and a shortcut at equal sizes (Sandler et al. 2018)."""

    def __init__(self, c_in: int, c_out: int, expand: int, kernel: int, stride: int):
        super().__init__()
        inner = c_in * expand
        self.expand = _conv_norm(c_in, inner, 1) if expand > 1 else None
        self.depthwise = _conv_norm(inner, inner, kernel, stride, groups=inner)
        self.project = _conv_norm(inner, c_out, 1)
        self.has_shortcut = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, c_in, H, W) -> (B, c_out, H/stride, W/stride)."""
        y = x if self.expand is None else F.relu6(self.expand(x), inplace=True)
        if y.requires_grad:  # on CPUs gradients of depthwise convolutions take 4 to 15 times as long in bfloat16
            with torch.autocast(y.device.type, enabled=False):
                y = self.depthwise(y.float())
        else:
            y = self.depthwise(y)
        y = self.project(F.relu6(y, inplace=True))
        return x + y if self.has_shortcut else y


class _SameConv(nn.Conv2d):
    """Convolution with TensorFlow's "SAME" padding at even sizes, as in training of the published weights."""

    def forward(self, x: Tensor) -> Tensor:
        k, s = self.kernel_size[0], self.stride[0]
        before = (k - s) // 2
        return self._conv_forward(F.pad(x, (before, k - s - before) * 2), self.weight, None)


def _conv_norm(c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution and batch norm, without an activation: (B, c_in, H, W) -> (B, c_out, H/stride, W/stride)."""
    if stride == 1:
        conv = nn.Conv2d(c_in, c_out, kernel, 1, kernel // 2, groups=groups, bias=False)
    else:
        conv = _SameConv(c_in, c_out, kernel, stride, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out, eps=_EPS))
