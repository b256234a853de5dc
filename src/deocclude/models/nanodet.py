"""NanoDet-g: the anchor-free detector of people that ships.

RangiLyu/nanodet (Apache-2.0), configuration `nanodet-g`: a CSP backbone, a path aggregation network and one head for
each stride, with the batch norms folded into the convolutions and the class person alone. Boxes are distances to the
four edges, each a distribution over 0, 1, ... strides (generalised focal loss, Li et al. 2020, arXiv 2006.04388).
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
from deocclude.people.box_decoding import STRIDES

_STAGES = 4  # of the backbone, at 1/4 to 1/32 of the input
_SLOPE = 0.1  # of the leaky ReLU
MEAN_RGB = (123.675, 116.28, 103.53)  # channel statistics of ImageNet, 0 to 255
STD_RGB = (58.395, 57.12, 57.375)  # their standard deviations


@dataclass(frozen=True)
class NanoDetConfig:
    """Sizes of NanoDet. Raises ValueError unless there is one width and one block count per stage."""

    widths: tuple[int, ...] = (32, 64, 128, 256)  # channels of the backbone's stages
    blocks: tuple[int, ...] = (1, 2, 2, 3)  # concatenating blocks of each stage
    pyramid_width: int = 128  # channels of the path aggregation network
    bins: int = 11  # of an edge's distribution

    def __post_init__(self) -> None:
        if len(self.widths) != _STAGES or len(self.blocks) != _STAGES:
            raise ValueError(f"NanoDet has {_STAGES} stages, got widths {self.widths} and blocks {self.blocks}")

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        return asdict(self)


class NanoDetOutput(NamedTuple):
    """Outputs of the heads, one tensor for each stride S of 8, 16 and 32, at 1/S of the input.

    Attributes:
        logits: (B, 1, h, w) of a person around the cell.
        distances: (B, 4 * bins, h, w) logits for left, top, right and bottom.
    """

    logits: tuple[Tensor, ...]
    distances: tuple[Tensor, ...]


def _conv(c_in: int, c_out: int, stride: int = 1) -> nn.Sequential:
    """3x3 convolution and leaky ReLU."""
    return nn.Sequential(nn.Conv2d(c_in, c_out, 3, stride, 1), nn.LeakyReLU(_SLOPE, inplace=True))


class _ConcatBlock(nn.Module):
    """Two convolutions in a row, whose outputs are concatenated; keeps the width."""

    def __init__(self, width: int):
        super().__init__()
        self.enter = _conv(width, width // 2)
        self.middle = _conv(width // 2, width // 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        return torch.cat([self.middle(x), x], 1)


class _Stage(nn.Module):
    """A stage of the backbone: `width` channels in the branch, twice as many in its output."""

    def __init__(self, c_in: int, width: int, blocks: int, stride: int):
        super().__init__()
        self.enter = _conv(c_in, width, stride)
        self.blocks = nn.Sequential(*(_ConcatBlock(width) for _ in range(blocks)))
        self.leave = _conv(width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        return torch.cat([self.leave(self.blocks(x)), x], 1)


class NanoDet(Pretrained, nn.Module):
    """Backbone to 1/32, path aggregation network, one head for each stride; `net(image) -> NanoDetOutput`."""

    network_name, config_type = "nanodet", NanoDetConfig

    def __init__(self, config: NanoDetConfig | None = None):
        super().__init__()
        self.config = config = config or NanoDetConfig()
        widths, inner = config.widths, config.pyramid_width
        self.stem = _conv(3, widths[0], 2)
        ins = (widths[0], *(2 * width for width in widths[:-1]))
        strides = (1, *(2 for _ in widths[1:]))
        sizes = zip(ins, widths, config.blocks, strides, strict=True)
        self.stages = nn.ModuleList(_Stage(*stage_sizes) for stage_sizes in sizes)
        self.lateral = nn.ModuleList(nn.Conv2d(2 * width, inner, 1) for width in widths[-len(STRIDES) :])
        self.heads = nn.ModuleList(
            nn.Sequential(_conv(inner, inner), nn.Conv2d(inner, 1 + 4 * config.bins, 1)) for _ in STRIDES
        )
        for name, values in (("mean", MEAN_RGB), ("std", STD_RGB)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1) / 255, persistent=False)

    def forward(self, image: Tensor) -> NanoDetOutput:
        """Detect people. image: (B, 3, H, W) RGB in [0, 1], 128/255 beyond the photo; H and W divisible by 32."""
        maps = [head(x) for head, x in zip(self.heads, self.pyramid(image), strict=True)]
        return NanoDetOutput(tuple(m[:, :1] for m in maps), tuple(m[:, 1:] for m in maps))

    def pyramid(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The features that the heads read, at 1/8, 1/16 and 1/32 of the input."""
        x = F.max_pool2d(self.stem((image - self.mean) / self.std), 3, 2, 1)
        features = []
        first = len(self.stages) - len(self.lateral)
        for number, stage in enumerate(self.stages):
            x = stage(x)
            if number >= first:
                features.append(self.lateral[number - first](x))
        fine, middle, coarse = features
        middle = middle + _resized(coarse, 2.0)
        fine = fine + _resized(middle, 2.0)
        middle = middle + _resized(fine, 0.5)
        coarse = coarse + _resized(middle, 0.5)
        return fine, middle, coarse

    def freeze(self, stages: int) -> None:
        """Freeze the stem and the first stages of the backbone. Raises ValueError if there are fewer."""
        if stages > len(self.stages):
            raise ValueError(f"NanoDet has {len(self.stages)} stages, {stages} cannot be frozen")
        for module in ([self.stem] if stages else []) + list(self.stages[:stages]):
            module.requires_grad_(False)

    def load_convolutions(self, weights: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        """`blocks.load_convolutions` of weights in the order of `convolutions`."""
        load_convolutions("NanoDet", self.convolutions(), weights)

    def convolutions(self) -> Iterator[nn.Conv2d]:
        """Every convolution in the order of the published graph: backbone with laterals, then the heads."""
        yield from convolutions_of(self.stem)
        first = len(self.stages) - len(self.lateral)
        for number, stage in enumerate(self.stages):
            yield from convolutions_of(stage)
            if number >= first:
                yield self.lateral[number - first]
        yield from convolutions_of(self.heads)


def _resized(x: Tensor, factor: float) -> Tensor:
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
