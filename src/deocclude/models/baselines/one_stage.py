"""One network for everything: a U-Net that draws both masks and the hidden appearance in one pass.

Two stages cost a second network; this is what they have to beat. It sees the photo as it is, occluder and background
included, and has to find out by itself which colours are the person's.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from deocclude.models.baselines.unet import UNet, UNetConfig
from deocclude.models.mask_completion import MaskOutput


class SingleOutput(NamedTuple):
    """What a network of both stages gives: logits of the masks, and the person's colours (B, 3, S, S) in [0, 1]."""

    masks: MaskOutput
    content: Tensor

    def float(self) -> SingleOutput:
        """The same in float32."""
        return SingleOutput(self.masks.float(), self.content.float())


class OneStageNet(nn.Module):
    """`net(image, initial) -> SingleOutput`."""

    def __init__(self, config: UNetConfig | None = None):
        super().__init__()
        self.config = config = config or UNetConfig.base()
        self.unet = UNet(4, 5, config.widths)

    def forward(self, image: Tensor, initial: Tensor) -> SingleOutput:
        """image: (B, 3, S, S) RGB in [0, 1]; initial: (B, 1, S, S) in {0, 1}."""
        visible, amodal, colours = self.unet(torch.cat([image * 2 - 1, initial * 2 - 1], 1)).split((1, 1, 3), 1)
        return SingleOutput(MaskOutput(visible, amodal), torch.sigmoid(colours))
