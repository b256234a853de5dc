"""Parsing guided attention (Zhou et al. 2021, section 4.2), over parts and over places of the body."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deocclude.models.blocks import SqueezeExcitation


class Parsing(NamedTuple):
    """Part probabilities (B, P, H, W) of the visible and of the amodal mask; channel 0 is background."""

    visible: Tensor
    amodal: Tensor

    def at(self, size_hw: tuple[int, int]) -> Parsing:
        """The same, average pooled to a smaller size."""
        return Parsing(*(F.adaptive_avg_pool2d(p, size_hw) if p.shape[-2:] != size_hw else p for p in self))


class ParsingGuidedAttention(nn.Module):
    """Two attention streams, fused with the feature they guide.

    Part stream: the feature is mapped to one channel per part, gated by the visible and by the amodal parsing,
    concatenated with the feature and passed through squeeze-and-excitation. Place stream: attention between feature +
    visible parsing and feature + amodal parsing, in both directions.

    Args:
        channels: of the feature.
        parts: classes of the parsing, background included.
        key_channels: of queries, keys and values.
        part_stream: use the part stream.
        place_stream: use the place stream.
        pool: side of the cells that count as one place. The attention map has a row and a column for each place, so
            that its cost falls by pool^4.
    """

    def __init__(
        self, channels: int, parts: int, *, key_channels: int = 24, part_stream: bool = True, place_stream: bool = True,
        pool: int = 1,
    ):  # fmt: skip
        super().__init__()
        self.pool = pool
        self.part_stream, self.place_stream = part_stream, place_stream
        fused = channels
        if part_stream:
            self.to_parts = nn.Conv2d(channels, parts - 1, 1)
            self.which = SqueezeExcitation(channels + 2 * (parts - 1))
            fused += channels + 2 * (parts - 1)
        if place_stream:
            self.attention = BodyAttention(channels, parts, key_channels)
            self.value = nn.Conv2d(channels, key_channels, 1)
            fused += 2 * key_channels
        self.fuse = nn.Sequential(nn.Conv2d(fused, channels, 1, bias=False), nn.BatchNorm2d(channels))
        nn.init.zeros_(self.fuse[1].weight)  # starts as the identity

    def forward(self, feature: Tensor, parsing: Parsing, seen: Tensor) -> Tensor:
        """feature: (B, C, h, w); parsing at (h, w); seen: (B, 1, h, w), visible fraction -> (B, C, h, w)."""
        streams = [feature]
        if self.part_stream:
            mapped = self.to_parts(feature)
            parts = [feature, mapped * parsing.visible[:, 1:], mapped * parsing.amodal[:, 1:]]
            streams.append(self.which(torch.cat(parts, 1)))
        if self.place_stream:
            streams += self._places(feature, parsing, seen)
        return F.relu(feature + self.fuse(torch.cat(streams, 1)))

    def _places(self, feature: Tensor, parsing: Parsing, seen: Tensor) -> list[Tensor]:
        """(B, key_channels, h, w) each: values that every place attends to in the visible, and in the whole body."""
        size_hw = feature.shape[-2:]
        if self.pool > 1:
            cells_hw = size_hw[0] // self.pool, size_hw[1] // self.pool
            feature, parsing = F.adaptive_avg_pool2d(feature, cells_hw), parsing.at(cells_hw)
            seen = F.adaptive_avg_pool2d(seen, cells_hw)
        value = self.value(feature)
        attended = [attend(weights, value) for weights in self.attention(feature, parsing, seen)]
        return attended if self.pool == 1 else [F.interpolate(f, size_hw, mode="nearest") for f in attended]


class BodyAttention(nn.Module):
    """Attention weights between the places of the whole body and visible places."""

    def __init__(self, channels: int, parts: int, key_channels: int, log_sharpness: float = 2.0):
        super().__init__()
        self.whole = nn.Conv2d(channels + parts, key_channels, 1)
        self.seen = nn.Conv2d(channels + parts, key_channels, 1)
        self.log_sharpness = nn.Parameter(torch.tensor(log_sharpness))

    def forward(self, feature: Tensor, parsing: Parsing, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Attention weights in both directions; arguments as `scores`, `seen` as its `seen_share`.

        Returns:
            Two (B, hw, hw) whose rows sum to 1: for each place of the whole body weights of visible places, and for
            each visible place weights of places of the whole body.
        """
        scores = self.scores(feature, parsing)
        from_seen = scores + invisibility_penalty(seen)
        return torch.softmax(from_seen, -1), torch.softmax(scores.transpose(1, 2), -1)

    def scores(self, feature: Tensor, parsing: Parsing, seen_share: Tensor | None = None) -> Tensor:
        """Scaled cosine similarities, (B, hw of the whole body, hw of the visible body).

        Args:
            feature: (B, C, h, w).
            parsing: at (h, w).
            seen_share: (B, 1, h, w), visible fraction of each place; if given, `invisibility_penalty` is added.
        """
        whole = F.normalize(self.whole(torch.cat([feature, parsing.amodal], 1)).flatten(2).float(), dim=1)
        seen = F.normalize(self.seen(torch.cat([feature, parsing.visible], 1)).flatten(2).float(), dim=1)
        whole = self.log_sharpness.exp() * whole
        if seen_share is not None:
            # added as one more channel of the product: a sum would need one more pass over the scores
            whole = torch.cat([whole, torch.ones_like(whole[:, :1])], 1)
            seen = torch.cat([seen, invisibility_penalty(seen_share)], 1)
        return whole.transpose(1, 2) @ seen


def invisibility_penalty(seen: Tensor) -> Tensor:
    """Score offset of places less than half visible: (B, 1, h, w) visible fraction -> (B, 1, hw) in [-12, 0]."""
    return -12.0 * (1 - (2 * seen.float()).clamp(max=1)).flatten(2)


def attend(weights: Tensor, value: Tensor) -> Tensor:
    """Weighted sums of values: weights (B, n, hw), value (B, C, h, w), n = hw -> (B, C, h, w)."""
    out = value.flatten(2) @ weights.to(value.dtype).transpose(1, 2)
    return out.reshape(value.shape)
