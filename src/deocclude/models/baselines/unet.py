"""A plain U-Net (Ronneberger et al. 2015, arXiv 1505.04597), without priors on people."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deocclude.models.blocks import conv_bn
from deocclude.models.mask_completion import MaskOutput


class UNet(nn.Module):
    """Encoder and decoder of two convolutions per scale with concatenated skips; keeps the size."""

    def __init__(self, c_in: int, c_out: int, widths: tuple[int, ...]):
        """widths: channels at full size, 1/2, 1/4, ..."""
        super().__init__()
        self.enter = _double_conv(c_in, widths[0])
        self.down = nn.ModuleList(_double_conv(a, b) for a, b in pairwise(widths))
        self.up = nn.ModuleList(_double_conv(a + b, a) for a, b in pairwise(widths))
        self.leave = nn.Conv2d(widths[0], c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, c_in, H, W), H and W divisible by 2^(len(widths) - 1) -> (B, c_out, H, W)."""
        features = [self.enter(x)]
        for down in self.down:
            features.append(down(F.max_pool2d(features[-1], 2)))
        x = features.pop()
        for up, skip in zip(reversed(self.up), reversed(features), strict=True):
            x = up(torch.cat([skip, F.interpolate(x, scale_factor=2.0, mode="nearest")], 1))
        return self.leave(x)


def _double_conv(c_in: int, c_out: int) -> nn.Sequential:
    """(B, c_in, H, W) -> (B, c_out, H, W)."""
    return nn.Sequential(conv_bn(c_in, c_out), conv_bn(c_out, c_out))


@dataclass(frozen=True)
class UNetConfig:
    """widths: channels at full size, 1/2, 1/4, ..."""

    widths: tuple[int, ...] = (16, 32, 64, 128, 224, 224)

    @classmethod
    def small(cls) -> UNetConfig:
        """About 0.8 M parameters."""
        return cls((8, 16, 32, 64, 88, 112))

    @classmethod
    def base(cls) -> UNetConfig:
        """About 4.0 M parameters, as many as MaskCompletionNet."""
        return cls()

    @classmethod
    def paper(cls) -> UNetConfig:
        """The published widths: 31 M parameters."""
        return cls((64, 128, 256, 512, 1024))

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        return asdict(self)


class MaskUNet(nn.Module):
    """Photo and initial mask to both masks, trained with cross-entropy on the same targets as MaskCompletionNet."""

    def __init__(self, config: UNetConfig | None = None):
        super().__init__()
        self.config = config = config or UNetConfig.base()
        self.unet = UNet(4, 2, config.widths)

    def forward(self, image: Tensor, initial: Tensor) -> MaskOutput:
        """image: (B, 3, S, S) RGB in [0, 1]; initial: (B, 1, S, S) in {0, 1} -> logits of both masks, no parsing."""
        visible, amodal = self.unet(torch.cat([image * 2 - 1, initial * 2 - 1], 1)).split(1, 1)
        return MaskOutput(visible, amodal)
