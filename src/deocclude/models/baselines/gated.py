"""Gated convolution with contextual attention: DeepFill v2 (Yu et al. 2019, arXiv 1806.03589).

Its attention is that of Yu et al. 2018, arXiv 1801.07892. A coarse network is followed by a refinement network of two
branches: dilated convolutions, and attention that places patches of the visible part where the occluded part has
similar features. Both images have an L1 term (`coarse_l1` for the coarse one). The discriminator is the spectrally
normalised patch discriminator of stage 2 with its softplus loss; the published method uses a hinge loss.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deocclude.models.parsing_attention import invisibility_penalty

_SHARPNESS = 10.0  # of the softmax over similarities, as in the paper
_DILATIONS = (2, 4, 8, 16)  # of the middle convolutions


@dataclass(frozen=True)
class GatedConfig:
    """width: channels at full size; twice that at 1/2, four times at 1/4. dilations: of the convolutions at 1/4."""

    width: int = 24
    dilations: tuple[int, ...] = _DILATIONS

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels at 1/2 and 1/4 of the input."""
        return 2 * self.width, 4 * self.width

    @classmethod
    def small(cls) -> GatedConfig:
        """About 0.5 M parameters; dilated for crops of 96 px."""
        return cls(10, (2, 4, 8))

    @classmethod
    def base(cls) -> GatedConfig:
        """About 3.3 M parameters."""
        return cls()

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        return asdict(self)


class GatedConv(nn.Module):
    """Convolution whose outputs are scaled by learned gates in (0, 1); ELU, no norm."""

    def __init__(self, c_in: int, c_out: int, kernel: int = 3, stride: int = 1, dilation: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(c_in, 2 * c_out, kernel, stride, dilation * (kernel // 2), dilation)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, c_in, H, W) -> (B, c_out, H/stride, W/stride)."""
        feature, gate = self.conv(x).chunk(2, 1)
        return F.elu(feature) * torch.sigmoid(gate)


class GatedNet(nn.Module):
    """Coarse network and refinement network; `net(image, visible, amodal) -> content`."""

    def __init__(self, config: GatedConfig | None = None):
        super().__init__()
        self.config = config = config or GatedConfig.base()
        deep = 4 * config.width
        self.coarse_down, self.coarse_middle = _down(5, config.width), _dilated(deep, config.dilations)
        self.coarse_up = _up(deep, config.width)
        # the refinement network: dilated branch (plain), attention branch (looking)
        self.plain_down, self.plain_middle = _down(5, config.width), _dilated(deep, config.dilations)
        self.looking_down = _down(5, config.width)
        self.looking = GatedConv(deep, deep)
        self.join = GatedConv(2 * deep, deep)
        self.refined_up = _up(deep, config.width)

    def pictures(self, image: Tensor, visible: Tensor, amodal: Tensor) -> tuple[Tensor, Tensor]:
        """The coarse and the refined image, (B, 3, S, S) in [0, 1]. Inputs as in `forward`, S divisible by 8."""
        masks = torch.cat([visible, amodal], 1) * 2 - 1
        seen = (image * 2 - 1) * visible
        coarse = torch.sigmoid(self.coarse_up(self.coarse_middle(self.coarse_down(torch.cat([seen, masks], 1)))))
        filled = torch.cat([seen + (coarse * 2 - 1) * (1 - visible), masks], 1)
        copied = contextual_attention(self.looking_down(filled), visible)
        branches = torch.cat([self.plain_middle(self.plain_down(filled)), self.looking(copied)], 1)
        return coarse, torch.sigmoid(self.refined_up(self.join(branches)))

    def forward(
        self, image: Tensor, visible: Tensor, amodal: Tensor, visible_parsing: Tensor | None = None,
        amodal_parsing: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """As ContentRecoveryNet, ignoring the parsing. Returns (B, 3, S, S) in [0, 1]."""
        return self.pictures(image, visible, amodal)[1]


def contextual_attention(feature: Tensor, visible: Tensor) -> Tensor:
    """Rebuild every place from 4x4 patches of visible places, weighted by the cosine similarity of 3x3 neighbourhoods.

    Args:
        feature: (B, C, h, w), h and w even; neighbourhoods are compared at half resolution.
        visible: (B, 1, S, S) in {0, 1}.

    Returns:
        (B, C, h, w).
    """
    size_hw = feature.shape[-2:]
    half_hw = size_hw[0] // 2, size_hw[1] // 2
    # (B, 9 C, n), one column for each of the n = hw / 4 places at half resolution
    neighbourhoods = F.normalize(F.unfold(F.avg_pool2d(feature, 2).float(), 3, padding=1), dim=1)
    # the factor makes it larger than any difference of similarities
    penalty = 4 * invisibility_penalty(F.adaptive_avg_pool2d(visible, half_hw))
    scores = _SHARPNESS * neighbourhoods.transpose(1, 2) @ neighbourhoods + penalty
    weights = torch.softmax(scores, -1)  # (B, n, n): for each place, weights of visible places
    patches = F.unfold(feature.float(), 4, stride=2, padding=1) @ weights.transpose(1, 2)  # (B, 16 C, n)
    summed = F.fold(patches, size_hw, 4, stride=2, padding=1)
    ones = F.unfold(torch.ones_like(feature[:1, :1], dtype=torch.float32), 4, stride=2, padding=1)
    overlap = F.fold(ones, size_hw, 4, stride=2, padding=1)  # number of patches that cover each place
    return (summed / overlap).to(feature.dtype)


def run_gated(
    network: GatedNet, batch: dict[str, Tensor], inputs: tuple[Tensor, ...]
) -> tuple[Tensor, dict[str, Tensor]]:
    """The refined image, and coarse_l1: mean L1 of the coarse image inside the amodal mask."""
    coarse, refined = network.pictures(*inputs[:3])
    amodal = batch["amodal"]
    error = ((coarse.float() - batch["truth"]).abs() * amodal).sum() / (3 * amodal.sum()).clamp(min=1)
    return refined, {"coarse_l1": error}


def _down(c_in: int, width: int) -> nn.Sequential:
    """Encoder: (B, c_in, S, S) -> (B, 4 * width, S/4, S/4)."""
    return nn.Sequential(
        GatedConv(c_in, width, 5), GatedConv(width, 2 * width, 3, 2), GatedConv(2 * width, 2 * width),
        GatedConv(2 * width, 4 * width, 3, 2), GatedConv(4 * width, 4 * width),
    )  # fmt: skip


def _dilated(width: int, dilations: tuple[int, ...]) -> nn.Sequential:
    """Dilated convolutions and a last one without dilation; keeps the shape (B, width, h, w)."""
    return nn.Sequential(*(GatedConv(width, width, dilation=d) for d in dilations), GatedConv(width, width))


def _up(c_in: int, width: int) -> nn.Sequential:
    """Decoder: (B, c_in, S/4, S/4) -> (B, 3, S, S) logits of RGB."""
    return nn.Sequential(
        nn.Upsample(scale_factor=2.0), GatedConv(c_in, 2 * width), nn.Upsample(scale_factor=2.0),
        GatedConv(2 * width, width), nn.Conv2d(width, 3, 3, padding=1),
    )  # fmt: skip
