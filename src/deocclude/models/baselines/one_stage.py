"""One-stage baseline: a U-Net that predicts both masks and the occluded appearance in one pass.

Its input is the photo with occluder and background, whereas stage 2 reads the visible body alone.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from deocclude.models.baselines.unet import UNet, UNetConfig
from deocclude.models.mask_completion import MaskOutput


class SingleOutput(NamedTuple):
    """Output of a one-stage network: logits of the masks, and the person's colours (B, 3, S, S) in [0, 1]."""

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
