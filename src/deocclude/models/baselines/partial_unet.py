"""A plain partial-convolution U-Net (Liu et al. 2018, arXiv 1804.07723): stage 2 without parsing and attention.

Trained on the same targets as ContentRecoveryNet; it is also the network of PCNet-C (models/baselines/pcnet.py).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deocclude.models.partial_conv import PartialConv

_DECODER_SLOPE = 0.2


@dataclass(frozen=True)
class PartialUNetConfig:
    """widths: channels at 1/2, 1/4, ... of the input; kernels: side of the encoder convolution at each scale."""

    widths: tuple[int, ...] = (32, 64, 96, 160, 160, 160, 160)
    kernels: tuple[int, ...] = (5, 3, 3, 3, 3, 3, 3)

    @classmethod
    def small(cls) -> PartialUNetConfig:
        """About 0.5 M parameters."""
        return cls((16, 32, 64, 80, 80, 80), (5, 3, 3, 3, 3, 3))

    @classmethod
    def base(cls) -> PartialUNetConfig:
        """About 2.6 M parameters, as many as ContentRecoveryNet."""
        return cls()

    @classmethod
    def paper(cls) -> PartialUNetConfig:
        """The published widths and kernels, to 1/128: 26 M parameters."""
        return cls((64, 128, 256, 512, 512, 512, 512), (7, 5, 5, 3, 3, 3, 3))

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        return asdict(self)


class PartialUNet(nn.Module):
    """Encoder and decoder of partial convolutions; skips are concatenated with their validity."""

    def __init__(self, config: PartialUNetConfig | None = None):
        super().__init__()
        self.config = config = config or PartialUNetConfig.base()
        ins = (3, *config.widths[:-1])
        self.encoder = nn.ModuleList(
            PartialConv(a, b, k, 2, norm=i > 0)
            for i, (a, b, k) in enumerate(zip(ins, config.widths, config.kernels, strict=True))
        )
        self.decoder = nn.ModuleList(
            PartialConv(below + skip, out, slope=_DECODER_SLOPE)
            for below, skip, out in zip(config.widths, ins, (config.widths[0], *config.widths[:-1]), strict=True)
        )
        self.leave = nn.Conv2d(config.widths[0], 3, 3, padding=1)

    def forward(
        self, image: Tensor, visible: Tensor, amodal: Tensor, visible_parsing: Tensor | None = None,
        amodal_parsing: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """As ContentRecoveryNet, ignoring the parsing. Returns (B, 3, S, S) in [0, 1]."""
        x = (image * 2 - 1) * visible
        valid = visible
        skips: list[tuple[Tensor, Tensor]] = []
        for conv in self.encoder:
            skips.append((x, valid))
            x, valid = conv(x, valid)
        for conv, (skip, skip_valid) in zip(reversed(self.decoder), reversed(skips), strict=True):
            size_hw = skip.shape[-2:]
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")[..., : size_hw[0], : size_hw[1]]
            valid = F.interpolate(valid, scale_factor=2.0, mode="nearest")[..., : size_hw[0], : size_hw[1]]
            both_valid = (valid * x.shape[1] + skip_valid * skip.shape[1]) / (x.shape[1] + skip.shape[1])
            x, valid = conv(torch.cat([x, skip.to(x.dtype)], 1), both_valid)
        return torch.sigmoid(self.leave(x))
