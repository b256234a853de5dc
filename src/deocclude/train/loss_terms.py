"""Loss functions that both stages use."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

Make = Callable[[], Tensor]
"""Computes one loss term, a scalar."""


def gram(feature: Tensor) -> Tensor:
    """Gram matrices (Gatys et al. 2016): (B, C, H, W) -> (B, C, C), divided by C * H * W."""
    b, c, h, w = feature.shape
    flat = feature.reshape(b, c, h * w)
    return flat @ flat.transpose(1, 2) / (c * h * w)


def perceptual(features_a: list[Tensor], features_b: list[Tensor]) -> Tensor:
    """Mean L1 between two lists of features."""
    return torch.stack([F.l1_loss(a, b) for a, b in zip(features_a, features_b, strict=True)]).mean()


def style(features_a: list[Tensor], features_b: list[Tensor]) -> Tensor:
    """Mean L1 between the Gram matrices of two lists of features."""
    return torch.stack([F.l1_loss(gram(a), gram(b)) for a, b in zip(features_a, features_b, strict=True)]).mean()


def channel_correlation(feature_a: Tensor, feature_b: Tensor) -> Tensor:
    """L1 between the channel correlation matrices (Gram, normalised to [-1, 1]) of two (B, C, H, W) features."""

    def correlation(feature: Tensor) -> Tensor:
        flat = feature.flatten(2)
        flat = F.normalize(flat - flat.mean(2, keepdim=True), dim=2, eps=1e-4)
        return flat @ flat.transpose(1, 2)

    return F.l1_loss(correlation(feature_a), correlation(feature_b))


def generator_adversarial(fake_scores: Tensor) -> Tensor:
    """Non-saturating generator loss (Goodfellow et al. 2014) on discriminator logits of fakes."""
    return generator_softplus(fake_scores).mean()


def discriminator_adversarial(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """Mean of softplus(-real) and softplus(fake) over patches. The caller detaches fakes."""
    return (F.softplus(-real_scores).mean() + F.softplus(fake_scores).mean()) / 2


def generator_softplus(scores: Tensor) -> Tensor:
    """Per-patch loss of scores that should be high: the generator's on fakes, the discriminator's on true samples."""
    return F.softplus(-scores)
