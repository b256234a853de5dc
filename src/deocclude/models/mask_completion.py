"""Stage 1: repair (refine) the initial mask, complete it, and parse both masks (Zhou et al. 2021, section 4.1).

    RGB + initial mask -> stem -> hourglass 1 -> repaired visible mask, visible parsing
                          stem + hourglass 1 -> hourglass 2 -> amodal mask, amodal parsing

Each mask head is guided by its parsing feature (detached, squeeze-and-excitation). The typical pose masks also guide
the amodal head.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deocclude.checkpoints.hub import Pretrained
from deocclude.models.blocks import BACKBONES, ResidualBlock, SqueezeExcitation, conv_bn
from deocclude.models.typical_poses import TypicalPoses
from deocclude.types import PARSING_NAMES


@dataclass(frozen=True)
class MaskCompletionConfig:
    """Sizes and switches of MaskCompletionNet; the switches are the ablations of the paper.

    Raises ValueError for an unknown backbone.
    """

    stem_width: int = 24
    widths: tuple[int, ...] = (40, 80, 128, 192)  # channels at 1/4, 1/8, 1/16, 1/32 of the input
    blocks: int = 1  # residual blocks at each scale of the hourglass decoder
    head_width: int = 16  # channels of each mask's last layers, at half resolution
    parsing_classes: int = 12
    parsing_channels: int = 32  # of each parsing feature, as in the paper
    templates: int = 64  # typical poses, as many as in the paper
    template_channels: int = 32  # of the guidance by typical poses
    parsing_guidance: bool = True
    pose_guidance: bool = True
    hourglasses: Literal[1, 2] = 2  # 1: no refinement before completion, both heads read one hourglass
    backbone: str = "hourglass"  # one of blocks.BACKBONES

    def __post_init__(self) -> None:
        if self.backbone not in BACKBONES:
            raise ValueError(f"backbone must be one of {', '.join(BACKBONES)}, got {self.backbone!r}")

    @classmethod
    def small(cls) -> MaskCompletionConfig:
        """Sizes for comparisons on a small budget: about 0.8 M parameters."""
        return cls(stem_width=16, widths=(24, 40, 56, 72), head_width=12, parsing_channels=16, template_channels=16)

    @classmethod
    def base(cls) -> MaskCompletionConfig:
        """The shipped sizes: about 4 M parameters."""
        return cls()

    @classmethod
    def paper(cls) -> MaskCompletionConfig:
        """About the reference's 27.0 M parameters and 75.7 GMAC at 256x256."""
        return cls(stem_width=96, widths=(384, 224, 144, 144), blocks=2, head_width=96)

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        return asdict(self)


class MaskOutput(NamedTuple):
    """Logits of stage 1. Masks: (B, 1, S, S). Parsing: (B, classes, S/4, S/4), None from a network without parsing."""

    visible: Tensor
    amodal: Tensor
    visible_parsing: Tensor | None = None
    amodal_parsing: Tensor | None = None

    def float(self) -> MaskOutput:
        """The same in float32."""
        return MaskOutput(*(None if t is None else t.float() for t in self))


class MaskFeatures(NamedTuple):
    """Inputs of the amodal head, which can be run again from them.

    stem: (B, s, S/2, S/2), of the image and the initial mask. whole: (B, w, S/4, S/4), of the last hourglass. poses:
    (B, t, S/4, S/4), the guidance by typical poses, empty (t = 0) for a network without it.
    """

    stem: Tensor
    whole: Tensor
    poses: Tensor


class GuidedHead(nn.Module):
    """Predicts a mask and a parsing from the feature of one hourglass; the parsing feature guides the mask."""

    def __init__(self, config: MaskCompletionConfig, extra_channels: int = 0):
        super().__init__()
        width, hidden = config.widths[0], config.head_width
        self.parsing_guidance = config.parsing_guidance
        self.parsing_feature = conv_bn(width, config.parsing_channels)
        self.parsing = nn.Conv2d(config.parsing_channels, config.parsing_classes, 1)
        guided = width + extra_channels
        if config.parsing_guidance:
            self.excite = SqueezeExcitation(config.parsing_channels)
            guided += config.parsing_channels
        self.mix = nn.Sequential(conv_bn(guided, width), nn.Conv2d(width, hidden, 1))
        self.edges = nn.Conv2d(config.stem_width, hidden, 1)  # fine detail from the stem, at half resolution
        self.mask = nn.Sequential(nn.ReLU(inplace=True), conv_bn(hidden, hidden), nn.Conv2d(hidden, 4, 3, padding=1))

    def forward(self, feature: Tensor, stem: Tensor, extra: tuple[Tensor, ...] = ()) -> tuple[Tensor, Tensor]:
        """Predict a mask and its parsing.

        Args:
            feature: (B, w, S/4, S/4), of the hourglass.
            stem: (B, s, S/2, S/2).
            extra: further features for the mask, at (S/4, S/4).

        Returns:
            Logits of the mask (B, 1, S, S) and of the parsing (B, P, S/4, S/4).
        """
        parsing_feature = self.parsing_feature(feature)
        parts = [feature, *extra]
        if self.parsing_guidance:
            # detached: the parsing feature learns from parsing labels alone
            parts.append(self.excite(parsing_feature.detach()))
        mixed = F.interpolate(self.mix(torch.cat(parts, 1)), scale_factor=2.0, mode="nearest")
        mask = F.pixel_shuffle(self.mask(mixed + self.edges(stem)), 2)
        return mask, self.parsing(parsing_feature)


class MaskCompletionNet(Pretrained, nn.Module):
    """Two stacked hourglasses; `net(image, initial) -> MaskOutput`."""

    network_name, config_type = "mask_completion", MaskCompletionConfig

    def __init__(self, config: MaskCompletionConfig | None = None):
        super().__init__()
        self.config = config = config or MaskCompletionConfig.base()
        width = config.widths[0]
        self.stem = conv_bn(4, config.stem_width, 3, 2)
        self.enter = ResidualBlock(config.stem_width, width, stride=2)
        self.visible_hourglass = BACKBONES[config.backbone](config.widths, config.blocks)
        self.visible_head = GuidedHead(config)
        if config.hourglasses == 2:
            self.join = conv_bn(2 * width, width, 1)
            self.amodal_hourglass = BACKBONES[config.backbone](config.widths, config.blocks)
        if config.pose_guidance:
            self.typical_poses = TypicalPoses(config.templates, config.template_channels)
        self.amodal_head = GuidedHead(config, config.template_channels if config.pose_guidance else 0)

    def forward(self, image: Tensor, initial: Tensor) -> MaskOutput:
        """Predict both masks and their parsing.

        Args:
            image: (B, 3, S, S) RGB in [0, 1], 0.5 beyond the photo; S % 32 == 0.
            initial: (B, 1, S, S) in {0, 1}; in the refinement pass, which averages a box and a prediction, in [0, 1].

        Returns:
            Logits.
        """
        return self.with_features(image, initial)[0]

    def with_features(self, image: Tensor, initial: Tensor) -> tuple[MaskOutput, MaskFeatures]:
        """Predict both masks and their parsing, and return the features of the amodal head. Arguments as `forward`."""
        stem = self.stem(torch.cat([image * 2 - 1, initial * 2 - 1], 1))
        entered = self.enter(stem)
        seen = self.visible_hourglass(entered)
        visible, visible_parsing = self.visible_head(seen, stem)
        whole = seen
        if self.config.hourglasses == 2:
            whole = self.amodal_hourglass(self.join(torch.cat([entered, seen], 1)))
        poses = whole[:, :0]  # empty: no guidance
        if self.config.pose_guidance:
            poses = self.typical_poses(F.avg_pool2d(torch.sigmoid(visible.detach().float()), 4)).to(whole.dtype)
        amodal, amodal_parsing = self.amodal_head(whole, stem, (poses,) if self.config.pose_guidance else ())
        return MaskOutput(visible, amodal, visible_parsing, amodal_parsing), MaskFeatures(stem, whole, poses)


class MaskProbabilities(NamedTuple):
    """Probabilities for inference. Masks: (B, 1, S, S). Parsing: (B, classes, S/4, S/4)."""

    visible: Tensor
    amodal: Tensor
    visible_parsing: Tensor
    amodal_parsing: Tensor


def to_probabilities(output: MaskOutput) -> MaskProbabilities:
    """Turn logits into consistent probabilities.

    The amodal probability is at least the visible one, and each parsing is background outside its mask. From a network
    without parsing every part is equally likely.
    """
    visible = torch.sigmoid(output.visible)
    amodal = torch.maximum(torch.sigmoid(output.amodal), visible)
    return MaskProbabilities(
        visible,
        amodal,
        _masked_parsing(output.visible_parsing, visible),
        _masked_parsing(output.amodal_parsing, amodal),
    )


def _masked_parsing(logits: Tensor | None, mask: Tensor) -> Tensor:
    """(B, P, S/4, S/4) probabilities; parts sum to the coverage by `mask` (B, 1, S, S), None: equally likely parts."""
    coverage = F.avg_pool2d(mask, 4)
    if logits is None:
        count = len(PARSING_NAMES) - 1
        parts = coverage.expand(-1, count, -1, -1) / count
    else:
        parts = torch.softmax(logits[:, 1:], 1) * coverage
    return torch.cat([1 - parts.sum(1, keepdim=True), parts], 1)
