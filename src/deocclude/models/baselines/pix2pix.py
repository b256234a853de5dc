"""pix2pix (Isola et al. 2017, arXiv 1611.07004): a U-Net of strided 4x4 convolutions, L1, and a conditional PatchGAN.

Stage 1: photo and initial mask to the soft amodal mask, L1 on it. Stage 2: the visible body and both masks to the
colours of the person, L1 on them. The discriminator is the one of the package's own stages. Dropout, the published
network's source of noise, is left out: its authors found that it changes the output little.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deocclude.models.blocks import certain_logits
from deocclude.models.mask_completion import MaskOutput


@dataclass(frozen=True)
class Pix2PixConfig:
    """widths: channels at 1/2, 1/4, ... of the input."""

    widths: tuple[int, ...] = (32, 64, 128, 208, 256)

    @classmethod
    def small(cls) -> Pix2PixConfig:
        """About 0.7 M parameters."""
        return cls((16, 32, 56, 80, 112))

    @classmethod
    def base(cls) -> Pix2PixConfig:
        """About 3.4 M parameters."""
        return cls()

    @classmethod
    def paper(cls) -> Pix2PixConfig:
        """The published widths, to 1/128: 42 M parameters."""
        return cls((64, 128, 256, 512, 512, 512, 512))

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        return asdict(self)


class Pix2PixGenerator(nn.Module):
    """The U-Net of pix2pix; keeps the size."""

    def __init__(self, c_in: int, c_out: int, widths: tuple[int, ...]):
        super().__init__()
        self.enter = nn.Conv2d(c_in, widths[0], 4, 2, 1)
        self.down = nn.ModuleList(
            nn.Sequential(nn.LeakyReLU(0.2), nn.Conv2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b))
            for a, b in pairwise(widths)
        )
        # every level but the deepest reads the level below and a skip of the same width
        deepest = len(widths) - 1
        outs = (widths[0] // 2, *widths[:-1])
        self.up = nn.ModuleList(
            nn.Sequential(
                nn.ReLU(),
                nn.ConvTranspose2d(width if level == deepest else 2 * width, outs[level], 4, 2, 1, bias=False),
                nn.BatchNorm2d(outs[level]),
            )
            for level, width in enumerate(widths)
        )
        self.leave = nn.Conv2d(outs[0], c_out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, c_in, H, W), H and W at least 2^len(widths) -> (B, c_out, H, W)."""
        size_hw = x.shape[-2:]
        features = [self.enter(x)]
        for down in self.down:
            features.append(down(features[-1]))
        sizes = [size_hw, *(f.shape[-2:] for f in features[:-1])]
        x = features[-1]
        for level in range(len(self.up) - 1, -1, -1):
            if level < len(features) - 1:
                x = torch.cat([x, features[level]], 1)
            x = self.up[level](x)
            missing = [wanted - got for wanted, got in zip(sizes[level], x.shape[-2:], strict=True)]
            if any(missing):  # one row or column, where the encoder halved an odd size
                x = F.pad(x, (0, missing[1], 0, missing[0]), mode="replicate")
        return self.leave(F.relu(x))


class Pix2PixMask(nn.Module):
    """Stage 1 by pix2pix. The initial mask is the visible mask: pix2pix predicts one image, the amodal mask."""

    def __init__(self, config: Pix2PixConfig | None = None):
        super().__init__()
        self.config = config = config or Pix2PixConfig.base()
        self.generator = Pix2PixGenerator(4, 1, config.widths)

    def forward(self, image: Tensor, initial: Tensor) -> MaskOutput:
        """image: (B, 3, S, S) RGB in [0, 1]; initial: (B, 1, S, S) in {0, 1} -> logits of both masks."""
        return MaskOutput(certain_logits(initial), self.generator(torch.cat([image * 2 - 1, initial * 2 - 1], 1)))


class Pix2PixContent(nn.Module):
    """Stage 2 by pix2pix."""

    def __init__(self, config: Pix2PixConfig | None = None):
        super().__init__()
        self.config = config = config or Pix2PixConfig.base()
        self.generator = Pix2PixGenerator(5, 3, config.widths)

    def forward(
        self, image: Tensor, visible: Tensor, amodal: Tensor, visible_parsing: Tensor | None = None,
        amodal_parsing: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """As ContentRecoveryNet, ignoring the parsing. Returns (B, 3, S, S) in [0, 1]."""
        seen = (image * 2 - 1) * visible
        return torch.sigmoid(self.generator(torch.cat([seen, visible * 2 - 1, amodal * 2 - 1], 1)))
