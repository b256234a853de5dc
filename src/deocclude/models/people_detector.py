"""The centre-based people detector, which shipped before NanoDet: a small anchor-free network.

Objects as points (CenterNet, Zhou et al. 2019, arXiv 1904.07850), with box sides as in FCOS (Tian et al. 2019): one
heatmap of box centres, and four distances from each cell's middle to the sides of the box around the visible mask. A
coarse mask of all people is a third, auxiliary output, because a few centres per photo train slowly.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deocclude.checkpoints.hub import Pretrained
from deocclude.models.blocks import ResidualBlock, conv_bn
from deocclude.models.efficientnet_lite import EfficientNetLite
from deocclude.models.mask_completion import MaskCompletionNet

# largest log distance: 148 cells of 8 pixels, more than any photo shows; bounds the exponential
_MAX_LOG_SIDE = 5.0
# initial outputs. A centre has the probability of RetinaNet: with 0.5 the background would outweigh the few centres.
_FIRST_CENTRE = 0.01
_FIRST_MASK = 0.1  # probability of a visible person
_FIRST_SIDE_CELLS = 4.0  # distance to each side


@dataclass(frozen=True)
class PeopleDetectorConfig:
    """Sizes of PeopleDetector."""

    # backbone. residual: blocks of stage 1, randomly initialised or from a stage 1; efficientnet_lite0: pretrained on
    # ImageNet, each feature projected to `widths` by one convolution, `stem_width` unused
    trunk: str = "residual"
    stem_width: int = 24
    widths: tuple[int, ...] = (40, 80, 128, 192)  # channels at 1/4, 1/8, 1/16, 1/32 of the input, as stage 1
    # further residual blocks of the encoder at each scale; most at 1/32, where they are cheapest and have the largest
    # receptive field: the centre cell of a person who fills the photo must cover both ends
    blocks: tuple[int, ...] = (0, 1, 1, 2)
    stride: int = 8  # of the output maps; 4 separates neighbours better and takes 1.5 times as long

    @classmethod
    def base(cls) -> PeopleDetectorConfig:
        """Default sizes of a config: about 3.3 M parameters, 2 GMAC at 384x384, on a residual backbone.

        With an ImageNet-pretrained backbone, as in configs/history/people-08.yaml, 3.6 M and as many GMAC.
        """
        return cls()

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        return asdict(self)


class PeopleOutput(NamedTuple):
    """Outputs of the heads, at 1/stride of the input.

    Attributes:
        centre: (B, 1, h, w) logits of box centres.
        log_sides: (B, 4, h, w), log of the distance to left, top, right, bottom in cells.
        mask: (B, 1, h, w) logits of the visible person fraction of the cell.
    """

    centre: Tensor
    log_sides: Tensor
    mask: Tensor

    @property
    def sides(self) -> Tensor:
        """(B, 4, h, w) distances in cells, positive."""
        return self.log_sides.clamp(max=_MAX_LOG_SIDE).exp()


class PeopleMaps(NamedTuple):
    """Outputs for inference. centre, mask: (B, 1, h, w) in [0, 1]; sides: (B, 4, h, w) positive, in cells."""

    centre: Tensor
    sides: Tensor
    mask: Tensor


class PeopleDetector(Pretrained, nn.Module):
    """Encoder to 1/32, light decoder to 1/stride, three heads; `net(image) -> PeopleOutput`.

    Raises ValueError for an unknown backbone or sizes that do not match.
    """

    network_name, config_type = "people_detector", PeopleDetectorConfig

    def __init__(self, config: PeopleDetectorConfig | None = None):
        super().__init__()
        self.config = config = config or PeopleDetectorConfig.base()
        strides = [4 * 2**level for level in range(len(config.widths))]
        if config.stride not in strides or len(config.blocks) != len(config.widths):
            raise ValueError(
                f"stride must be one of {strides} and blocks one number a width, "
                f"got {config.stride} and {config.blocks} for widths {config.widths}"
            )
        first = strides.index(config.stride)  # scale of the output maps
        if config.trunk == "residual":
            self.stem = conv_bn(3, config.stem_width, 3, 2)
            pairs = pairwise((config.stem_width, *config.widths))
            self.down = nn.ModuleList(
                nn.Sequential(ResidualBlock(a, b, stride=2), *(ResidualBlock(b, b) for _ in range(more)))
                for (a, b), more in zip(pairs, config.blocks, strict=True)
            )
        elif config.trunk == "efficientnet_lite0" and len(strides) == len(EfficientNetLite.widths):
            self.trunk = EfficientNetLite()
            sizes = zip(EfficientNetLite.widths, config.widths, config.blocks, strict=True)
            self.lateral = nn.ModuleList(
                nn.Sequential(nn.Conv2d(a, b, 1), *(ResidualBlock(b, b) for _ in range(more)))
                for a, b, more in list(sizes)[first:]
            )
        else:
            raise ValueError(
                f"trunk must be residual, or efficientnet_lite0 with {len(EfficientNetLite.widths)} widths, "
                f"got {config.trunk!r} with {len(strides)}"
            )
        self.reduce = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairwise(config.widths[first:]))
        self.up = nn.ModuleList(ResidualBlock(a, a) for a in config.widths[first:-1])
        width = config.widths[first]
        self.shared = conv_bn(width, width)
        self.centre = nn.Conv2d(width, 1, 1)
        self.log_sides = nn.Conv2d(width, 4, 1)
        self.mask = nn.Conv2d(width, 1, 1)
        nn.init.constant_(self.centre.bias, math.log(_FIRST_CENTRE / (1 - _FIRST_CENTRE)))
        nn.init.constant_(self.mask.bias, math.log(_FIRST_MASK / (1 - _FIRST_MASK)))
        nn.init.constant_(self.log_sides.bias, math.log(_FIRST_SIDE_CELLS))
        for head in (self.centre, self.log_sides, self.mask):
            nn.init.normal_(head.weight, std=0.01)

    @torch.no_grad()
    def start_from(self, stage1: MaskCompletionNet) -> None:
        """Initialise the residual backbone from a stage 1 of the same widths.

        Copies stem, encoder and decoder of the visible hourglass, which was trained on far more samples of people than
        the real photos of the detector. The fourth input channel of stage 1, the initial mask, is fixed to 1 (a box
        around the whole photo) and folded into the batch norm. Blocks that stage 1 lacks start as their shortcuts; the
        heads stay randomly initialised.

        Raises:
            ValueError: other widths or another backbone.
        """
        other, own = stage1.config, self.config
        if other.backbone != "hourglass" or own.trunk != "residual":
            raise ValueError(
                "a residual backbone starts from an hourglass, "
                f"got the backbone {own.trunk} and a stage 1 with the backbone {other.backbone}"
            )
        if (other.stem_width, other.widths) != (own.stem_width, own.widths) or other.blocks != 1:
            raise ValueError(
                f"stage 1 has a stem of {other.stem_width}, widths {other.widths} and {other.blocks} blocks, "
                f"the people detector needs {own.stem_width}, {own.widths} and 1"
            )
        hourglass = stage1.visible_hourglass
        conv, norm = stage1.stem[0], stage1.stem[1]
        self.stem[1].load_state_dict(norm.state_dict())
        self.stem[0].weight.copy_(conv.weight[:, :3])
        self.stem[1].running_mean.sub_(conv.weight[:, 3].sum((1, 2)))
        for level, block in enumerate((stage1.enter, *hourglass.down)):
            self.down[level][0].load_state_dict(block.state_dict())
        if own.blocks[-1]:
            self.down[-1][1].load_state_dict(hourglass.bottom[0].state_dict())
        first = len(own.widths) - 1 - len(self.reduce)
        for level, (reduce, up) in enumerate(zip(self.reduce, self.up, strict=True), start=first):
            reduce.load_state_dict(hourglass.reduce[level].state_dict())
            up.load_state_dict(hourglass.up[level][0].state_dict())

    def forward(self, image: Tensor) -> PeopleOutput:
        """Detect people. image: (B, 3, H, W) RGB in [0, 1], 128/255 beyond the photo; H and W divisible by 32."""
        features = self._features(image)
        x = features[-1]
        for up, reduce, skip in zip(reversed(self.up), reversed(self.reduce), reversed(features[:-1]), strict=False):
            x = up(skip + F.interpolate(reduce(x), scale_factor=2.0, mode="nearest"))
        x = self.shared(x)
        return PeopleOutput(self.centre(x), self.log_sides(x), self.mask(x))

    def _features(self, image: Tensor) -> list[Tensor]:
        """Backbone features down to 1/32, the finest first; the decoder uses the last ones."""
        if self.config.trunk == "residual":
            x, features = self.stem(image * 2 - 1), []
            for down in self.down:
                x = down(x)
                features.append(x)
            return features
        features = self.trunk(image * 2 - 1)[-len(self.lateral) :]
        return [lateral(x) for lateral, x in zip(self.lateral, features, strict=True)]


def to_maps(output: PeopleOutput) -> PeopleMaps:
    """Turn logits into probabilities, and log distances into cells."""
    sides = output.sides  # first, as in the graphs that were exported before
    return PeopleMaps(torch.sigmoid(output.centre), sides, torch.sigmoid(output.mask))
