"""Box-prompted segmentation: from a box to the visible and the amodal mask, on an ImageNet-pretrained backbone.

Stage 1 was trained on people from a few hundred photos, too few to separate a person from other objects in a box. The
pretrained backbone provides features of general objects; the visible mask of this network replaces the box as the
initial mask of stage 1.

    RGB -> backbone; its features + box coverage of each cell -> decoder -> visible mask, amodal mask
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deocclude.checkpoints.hub import Pretrained
from deocclude.models.blocks import ResidualBlock, conv_bn
from deocclude.models.efficientnet_lite import EfficientNetLite
from deocclude.models.mask_completion import MaskOutput


@dataclass(frozen=True)
class BoxSegmenterConfig:
    """Sizes of BoxSegmenter. Raises ValueError unless there is one width and one block count per scale."""

    widths: tuple[int, ...] = (48, 80, 128, 192)  # decoder channels at 1/4, 1/8, 1/16, 1/32 of the input
    blocks: tuple[int, ...] = (1, 2, 1, 1)  # residual blocks at each scale
    head_width: int = 16  # channels of the masks' last layers, at half resolution

    def __post_init__(self) -> None:
        if not len(self.widths) == len(self.blocks) == len(EfficientNetLite.widths):
            raise ValueError(
                f"widths and blocks must be {len(EfficientNetLite.widths)} numbers each, "
                f"got {self.widths} and {self.blocks}"
            )

    @classmethod
    def base(cls) -> BoxSegmenterConfig:
        """The shipped sizes: about 3.7 M parameters, 2.4 M of them in the backbone."""
        return cls()

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        return asdict(self)


class BoxSegmenter(Pretrained, nn.Module):
    """`net(image, initial) -> MaskOutput` without parsing."""

    network_name, config_type = "mask_box", BoxSegmenterConfig

    def __init__(self, config: BoxSegmenterConfig | None = None):
        super().__init__()
        self.config = config = config or BoxSegmenterConfig.base()
        self.trunk = EfficientNetLite()
        # the box enters at each scale of the decoder; the backbone reads the image alone
        self.enter = nn.ModuleList(
            nn.Conv2d(c_in + 1, c_out, 1) for c_in, c_out in zip(EfficientNetLite.widths, config.widths, strict=True)
        )
        self.decode = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width, width) for _ in range(count)))
            for width, count in zip(config.widths, config.blocks, strict=True)
        )
        self.reduce = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairwise(config.widths))
        width, hidden = config.widths[0], config.head_width
        self.mix = nn.Sequential(conv_bn(width, width), nn.Conv2d(width, hidden, 1))
        self.edges = nn.Conv2d(EfficientNetLite.half_width, hidden, 1)  # fine detail, at half resolution
        # 8 channels: four pixels each of the visible and of the amodal mask
        self.masks = nn.Sequential(nn.ReLU(inplace=True), conv_bn(hidden, hidden), nn.Conv2d(hidden, 8, 3, padding=1))

    def forward(self, image: Tensor, initial: Tensor) -> MaskOutput:
        """Segment the person in a box. Arguments and masks as in `with_features`."""
        return self.with_features(image, initial)[0]

    def with_features(self, image: Tensor, initial: Tensor) -> tuple[MaskOutput, Tensor]:
        """Segment the person in a box, and return the decoder's features at 1/16.

        Args:
            image: (B, 3, S, S) RGB in [0, 1], 0.5 beyond the photo; S % 32 == 0.
            initial: (B, 1, S, S) in {0, 1}, a filled box.

        Returns:
            Logits of both masks, (B, 1, S, S) each, and the decoder's features, (B, widths[2], S/16, S/16).
        """
        half, *features = self.trunk(image * 2 - 1)
        entered = []
        for level, (enter, feature) in enumerate(zip(self.enter, features, strict=True)):
            coverage = F.avg_pool2d(initial, 4 * 2**level)
            entered.append(enter(torch.cat([feature, coverage], 1)))
        decoded = [self.decode[-1](entered[-1])]  # from coarse to fine
        for decode, reduce, skip in zip(
            reversed(self.decode[:-1]), reversed(self.reduce), reversed(entered[:-1]), strict=True
        ):
            decoded.append(decode(skip + F.interpolate(reduce(decoded[-1]), scale_factor=2.0, mode="nearest")))
        x = F.interpolate(self.mix(decoded[-1]), scale_factor=2.0, mode="nearest") + self.edges(half)
        visible, amodal = F.pixel_shuffle(self.masks(x), 2).split(1, 1)
        return MaskOutput(visible, amodal), decoded[1]
