"""Patch discriminator with spectral normalisation (Miyato et al. 2018), as in the paper for both stages."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


class PatchDiscriminator(nn.Module):
    """Scores patches of (image, mask) pairs as real or fake.

    Args:
        in_channels: of image and mask together.
        width: channels of the first convolution.
        depth: strided convolutions; each halves the resolution and doubles the patch.
    """

    def __init__(self, in_channels: int = 4, width: int = 32, depth: int = 4):
        super().__init__()
        layers: list[nn.Module] = []
        c_in = in_channels
        for level in range(depth):
            c_out = min(width * 2**level, width * 4)
            layers += [spectral_norm(nn.Conv2d(c_in, c_out, 4, 2, 1)), nn.LeakyReLU(0.2, inplace=True)]
            c_in = c_out
        layers.append(spectral_norm(nn.Conv2d(c_in, 1, 3, 1, 1)))
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, in_channels, H, W) -> (B, 1, H / 2^depth, W / 2^depth) logits."""
        return self.body(x)
