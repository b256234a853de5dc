"""SeGAN (Ehsani et al. 2018, arXiv 1703.10239): a segmentor and a painter in one network, trained together.

The segmentor predicts the amodal mask at a low resolution through a fully connected layer. The painter, a pix2pix
generator, takes the visible pixels and the occluded region in a colour of its own, and predicts the person. Gradients
of the painter reach the segmentor through the soft occluded mask. The initial mask is the visible mask.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deocclude.models.baselines.one_stage import SingleOutput
from deocclude.models.baselines.pix2pix import Pix2PixGenerator
from deocclude.models.blocks import ResidualBlock, certain_logits, conv_bn
from deocclude.models.mask_completion import MaskOutput

_HIDDEN_RGB = (-1.0, -1.0, 1.0)  # blue, in [-1, 1], marks the occluded region
_POOLED = 8  # side, in cells, of the map that the fully connected layer reads


@dataclass(frozen=True)
class SeGanConfig:
    """widths: channels of the segmentor at 1/2, 1/4, ...; mask_cells: side of its mask; painter: widths of pix2pix."""

    widths: tuple[int, ...] = (24, 48, 96, 128)
    reduced: int = 12  # channels of each cell that the fully connected layer reads
    mask_cells: int = 58  # as in the paper
    painter: tuple[int, ...] = (16, 32, 64, 112, 128)

    @classmethod
    def small(cls) -> SeGanConfig:
        """About 0.9 M parameters."""
        return cls((12, 24, 48, 64), 6, 32, (12, 24, 48, 64, 64))

    @classmethod
    def base(cls) -> SeGanConfig:
        """About 4 M parameters."""
        return cls()

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        return asdict(self)


class SeGan(nn.Module):
    """`net(image, initial) -> SingleOutput`."""

    def __init__(self, config: SeGanConfig | None = None):
        super().__init__()
        self.config = config = config or SeGanConfig.base()
        self.segmentor = nn.Sequential(
            conv_bn(4, config.widths[0], 7, 2),
            *(ResidualBlock(a, b, stride=2) for a, b in pairwise(config.widths)),
            nn.Conv2d(config.widths[-1], config.reduced, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(_POOLED), nn.Flatten(),
            nn.Linear(config.reduced * _POOLED**2, config.mask_cells**2),
        )  # fmt: skip
        self.painter = Pix2PixGenerator(5, 3, config.painter)

    def forward(self, image: Tensor, initial: Tensor) -> SingleOutput:
        """image: (B, 3, S, S) RGB in [0, 1]; initial: (B, 1, S, S) in {0, 1}."""
        cells = self.segmentor(torch.cat([image * 2 - 1, initial * 2 - 1], 1))
        coarse = cells.float().view(-1, 1, self.config.mask_cells, self.config.mask_cells)
        amodal = F.interpolate(coarse, image.shape[-2:], mode="bilinear", align_corners=False)
        hidden = torch.sigmoid(amodal) * (1 - initial)
        colour = image.new_tensor(_HIDDEN_RGB).view(1, 3, 1, 1)
        shown = (image * 2 - 1) * initial + colour * hidden
        painted = self.painter(torch.cat([shown, initial * 2 - 1, hidden * 2 - 1], 1))
        return SingleOutput(MaskOutput(certain_logits(initial), amodal), torch.sigmoid(painted))
