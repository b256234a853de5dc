"""A centre-based people detector on the trunk of MoveNet MultiPose, without its joints.

MoveNet MultiPose Lightning (Google, Apache-2.0): MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381) of 1.5 times the
width, a feature pyramid down to 1/4 of the input, and heads after CenterNet (Zhou et al. 2019, arXiv 1904.07850). The
batch norms are folded into the convolutions. Boxes are given as in the centre-based detector, from each cell's middle
to the four edges.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deocclude.checkpoints.hub import Pretrained
from deocclude.models.blocks import convolutions_of, load_convolutions

_MAX_CELLS = 160.0  # of 4 pixels: more than any input shows
_STRIDE = 4  # input pixels per cell


@dataclass(frozen=True)
class MoveNetConfig:
    """Sizes of MoveNet's trunk and heads."""

    stem_width: int = 48
    widths: tuple[int, ...] = (40, 48, 96, 480)  # channels at 1/4, 1/8, 1/16 and 1/32 of the input
    # (expanded, output, stride) of each inverted residual block
    blocks: tuple[tuple[int, int, int], ...] = (
        (48, 24, 1), (144, 40, 2), (240, 40, 1), (240, 48, 2), (288, 48, 1), (288, 48, 1), (288, 96, 2),
        (576, 96, 1), (576, 96, 1), (576, 96, 1), (576, 144, 1), (864, 144, 1), (864, 144, 1), (864, 240, 2),
        (1440, 240, 1), (1440, 240, 1), (1440, 480, 1),
    )  # fmt: skip
    taps: tuple[int, ...] = (2, 5, 9)  # the blocks whose outputs the pyramid reads, beside the last convolution's
    last_width: int = 1280
    pyramid_widths: tuple[int, ...] = (24, 32, 64)  # at 1/4, 1/8 and 1/16
    head_width: int = 96

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocks", tuple(map(tuple, self.blocks)))  # a weights file has lists

    @property
    def stride(self) -> int:
        """Input pixels per cell of the maps."""
        return _STRIDE

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        return asdict(self)


class MoveNetOutput(NamedTuple):
    """Outputs of the heads, at 1/4 of the input.

    Attributes:
        centre: (B, 1, h, w) logits of box centres.
        sides: (B, 4, h, w) distance to the left, top, right and bottom edge in cells, positive.
    """

    centre: Tensor
    sides: Tensor


class _Conv(nn.Module):
    """A convolution with TensorFlow's padding, and ReLU6 where asked for."""

    def __init__(self, before: int, after: int, kernel: int = 1, stride: int = 1, groups: int = 1, relu: bool = True):
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel, stride, kernel // 2 if stride == 1 else 0, groups=groups)
        self.beyond = kernel // 2 if stride > 1 else 0  # an even input is padded right and below alone
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(F.pad(x, (0, self.beyond, 0, self.beyond)) if self.beyond else x)
        return F.relu6(x) if self.relu else x


class _Inverted(nn.Module):
    """An inverted residual block: expand, filter each channel, project."""

    def __init__(self, before: int, expanded: int, after: int, stride: int):
        super().__init__()
        self.expand = _Conv(before, expanded) if expanded != before else nn.Identity()
        self.depthwise = _Conv(expanded, expanded, 3, stride, groups=expanded)
        self.project = _Conv(expanded, after, relu=False)
        self.is_residual = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.is_residual else y


class _Separable(nn.Module):
    """A 3x3 convolution of each channel, then one of 1x1 with ReLU."""

    def __init__(self, before: int, after: int):
        super().__init__()
        self.depthwise = nn.Conv2d(before, before, 3, padding=1, groups=before, bias=False)
        self.pointwise = nn.Conv2d(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.pointwise(self.depthwise(x)))


class MoveNet(Pretrained, nn.Module):
    """Trunk to 1/32, pyramid to 1/4, heads for centres, sizes and offsets; `net(image) -> MoveNetOutput`."""

    network_name, config_type = "movenet", MoveNetConfig

    def __init__(self, config: MoveNetConfig | None = None):
        super().__init__()
        self.config = config = config or MoveNetConfig()
        self.stem = _Conv(3, config.stem_width, 3, 2)
        before = (config.stem_width, *(after for _, after, _ in config.blocks))
        self.blocks = nn.ModuleList(_Inverted(b, *block) for b, block in zip(before, config.blocks, strict=False))
        self.last = _Conv(before[-1], config.last_width)
        tapped = [config.blocks[tap][1] for tap in config.taps]
        inner = config.pyramid_widths
        self.lateral = nn.ModuleList(
            nn.Conv2d(b, a, 1) for b, a in zip((*tapped, config.last_width), (*inner, inner[-1]), strict=True)
        )
        self.up = nn.ModuleList(_Separable(a, b) for a, b in zip(inner, (inner[0], *inner), strict=False))
        self.centre, self.size, self.offset = (
            nn.Sequential(_Separable(inner[0], config.head_width), nn.Conv2d(config.head_width, channels, 1))
            for channels in (1, 2, 2)
        )

    def forward(self, image: Tensor) -> MoveNetOutput:
        """Detect people. image: (B, 3, H, W) RGB in [0, 1], 128/255 beyond the photo; H and W divisible by 32."""
        x = self.stem(image * 2 - 1)
        features = []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in self.config.taps:
                features.append(x)
        features.append(self.last(x))
        fine = [lateral(x) for lateral, x in zip(self.lateral, features, strict=True)]
        x = fine[-1]
        for skip, up in zip(reversed(fine[:-1]), reversed(self.up), strict=True):
            x = up(F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False) + skip)
        half, offset = self.size(x) / 2, self.offset(x) - 0.5  # y, x; a cell's middle is half a cell from its number
        height, width = half.chunk(2, 1)
        down, right = offset.chunk(2, 1)
        sides = torch.cat([width - right, height - down, width + right, height + down], 1)
        # the published heads give sizes at centres alone and anything elsewhere; above one cell this changes little
        return MoveNetOutput(self.centre(x), F.softplus(sides, beta=2.0).clamp(max=_MAX_CELLS))

    def freeze(self, blocks: int) -> None:
        """Freeze the stem and the first blocks of the trunk. Raises ValueError if there are fewer."""
        if blocks > len(self.blocks):
            raise ValueError(f"MoveNet has {len(self.blocks)} blocks, {blocks} cannot be frozen")
        for module in ([self.stem] if blocks else []) + list(self.blocks[:blocks]):
            module.requires_grad_(False)

    def load_convolutions(self, weights: Sequence[tuple[np.ndarray, np.ndarray | None]]) -> None:
        """`blocks.load_convolutions` of weights in the order of `convolutions`."""
        load_convolutions("MoveNet", self.convolutions(), weights)

    def convolutions(self) -> Iterator[nn.Conv2d]:
        """Every convolution in the order of the published graph, without the heads of joints."""
        yield self.stem.conv
        laterals = dict(zip(self.config.taps, self.lateral, strict=False))
        for number, block in enumerate(self.blocks):
            yield from convolutions_of(block)
            if number in laterals:
                yield laterals[number]
        yield self.last.conv
        yield self.lateral[-1]
        yield from convolutions_of(nn.ModuleList(reversed(self.up)))
        heads = (self.offset, self.size, self.centre)
        yield from (head[0].depthwise for head in heads)
        yield from (head[0].pointwise for head in heads)
        yield from (head[1] for head in heads)
