"""A variational autoencoder of amodal masks as shape prior, after Ling et al. 2020.

"Variational Amodal Object Completion" (NeurIPS 2020), on the VAE of Kingma and Welling 2014 (arXiv 1312.6114).

Two encoders, one decoder. The first encodes the amodal mask: reconstruction (`whole_ce`) and the KL divergence from a
standard normal (`kl`) form the prior. The second encodes the visible mask; its distribution is matched to the first
one (`match`, KL) and decoded too (`amodal_ce` and the other terms on the amodal mask). The published method trains
these in turn, here all are trained jointly. The photo is not an input.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deocclude.models.blocks import certain_logits, conv_bn
from deocclude.models.mask_completion import MaskOutput

CELLS = 32  # side of encoded and decoded masks


@dataclass(frozen=True)
class ShapeVaeConfig:
    """widths: channels at 16, 8 and 4 cells a side; latent: dimensions of the latent space."""

    widths: tuple[int, ...] = (48, 96, 192)
    latent: int = 96

    @classmethod
    def small(cls) -> ShapeVaeConfig:
        """About 0.7 M parameters."""
        return cls((24, 48, 96), 64)

    @classmethod
    def base(cls) -> ShapeVaeConfig:
        """About 2.1 M parameters."""
        return cls()

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Gaussian:
    """A diagonal normal distribution, (B, latent) each."""

    mean: Tensor
    log_variance: Tensor

    def at(self, noise: Tensor) -> Tensor:
        """Turn standard normal noise (B, latent) into a sample (reparametrisation), differentiable."""
        return self.mean + (0.5 * self.log_variance).exp() * noise

    def divergence(self, other: Gaussian | None = None) -> Tensor:
        """KL divergence of self from `other`, from a standard normal if None, in nats; mean over the batch."""
        mean, log_variance = (other.mean, other.log_variance) if other else (torch.zeros_like(self.mean),) * 2
        gap = self.log_variance - log_variance
        terms = gap.exp() + (self.mean - mean) ** 2 / log_variance.exp() - 1 - gap
        return 0.5 * terms.sum(1).mean()


class ShapeVae(nn.Module):
    """Encoders of amodal and of visible masks into one latent space, and a decoder."""

    def __init__(self, config: ShapeVaeConfig | None = None):
        super().__init__()
        self.config = config = config or ShapeVaeConfig.base()
        self.of_whole, self.of_seen = _Encoder(config), _Encoder(config)
        self.cells = CELLS // 2 ** len(config.widths)
        self.enter = nn.Linear(config.latent, config.widths[-1] * self.cells**2)
        outs = (*reversed(config.widths[:-1]), config.widths[0])
        self.up = nn.ModuleList(conv_bn(a, b) for a, b in zip(reversed(config.widths), outs, strict=True))
        self.leave = nn.Conv2d(outs[-1], 1, 3, padding=1)

    def decode(self, latent: Tensor, size_hw: tuple[int, int]) -> Tensor:
        """(B, latent) -> (B, 1, H, W) logits."""
        x = self.enter(latent).view(len(latent), -1, self.cells, self.cells)
        for conv in self.up:
            x = conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return F.interpolate(self.leave(x).float(), size_hw, mode="bilinear", align_corners=False)

    def forward(self, image: Tensor, initial: Tensor) -> MaskOutput:
        """image: not read; initial: (B, 1, S, S) in {0, 1} -> logits of both masks, amodal from the mean."""
        return MaskOutput(certain_logits(initial), self.decode(self.of_seen(initial).mean, initial.shape[-2:]))


class _Encoder(nn.Module):
    """A mask -> its distribution in the latent space."""

    def __init__(self, config: ShapeVaeConfig):
        super().__init__()
        self.body = nn.Sequential(*(conv_bn(a, b, 3, 2) for a, b in pairwise((1, *config.widths))))
        cells = CELLS // 2 ** len(config.widths)
        self.leave = nn.Linear(config.widths[-1] * cells**2, 2 * config.latent)

    def forward(self, mask: Tensor) -> Gaussian:
        """mask: (B, 1, S, S) in [0, 1], S at least 32."""
        cells = F.adaptive_avg_pool2d(mask * 2 - 1, CELLS)
        mean, log_variance = self.leave(self.body(cells).flatten(1)).float().chunk(2, 1)
        return Gaussian(mean, log_variance.clamp(-10, 10))


def vae_targets(config: ShapeVaeConfig, batch: dict[str, Tensor], rng: np.random.Generator) -> dict[str, Tensor]:
    """The batch with `noise`, (B, 2, latent) standard normal, for the samples of both distributions."""
    noise = rng.standard_normal((len(batch["initial"]), 2, config.latent)).astype(np.float32)
    return batch | {"noise": torch.from_numpy(noise).to(batch["initial"].device)}


def run_vae(network: ShapeVae, batch: dict[str, Tensor]) -> tuple[MaskOutput, dict[str, Tensor]]:
    """Decode a sample of the visible mask's distribution, and compute the terms of the prior.

    Returns:
        Logits, and the method's own terms. whole_ce: cross-entropy of the reconstructed amodal mask, per pixel; kl,
        match: divergences in nats per cell.
    """
    seen, whole = network.of_seen(batch["initial"]), network.of_whole(batch["amodal"])
    size_hw = batch["initial"].shape[-2:]
    output = MaskOutput(certain_logits(batch["initial"]), network.decode(seen.at(batch["noise"][:, 0]), size_hw))
    known = batch["known"]
    reconstruction_ce = F.binary_cross_entropy_with_logits(
        network.decode(whole.at(batch["noise"][:, 1]), size_hw), batch["amodal"], known, reduction="sum"
    ) / known.sum().clamp(min=1)
    # detached: only the encoder of visible masks is trained to match
    fixed = Gaussian(whole.mean.detach(), whole.log_variance.detach())
    return output, {
        "whole_ce": reconstruction_ce, "kl": whole.divergence() / CELLS**2, "match": fixed.divergence(seen) / CELLS**2,
    }  # fmt: skip
