"""Partial convolution (Liu et al. 2018, arXiv 1804.07723): a convolution over valid pixels, renormalised."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class PartialConv(nn.Module):
    """Convolution over valid pixels divided by the valid fraction of the window, then batch norm and leaky ReLU.

    Average pooling computes the valid fraction, without a convolution with stored ones. A slope of 0 is a plain ReLU.
    """

    def __init__(
        self, c_in: int, c_out: int, kernel: int = 3, stride: int = 1, *, norm: bool = True, slope: float = 0.0
    ):
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(c_out) if norm else nn.Identity()
        self.slope = slope

    def forward(self, x: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Convolve.

        Args:
            x: (B, c_in, H, W), zero where not valid.
            valid: (B, 1, H, W) in [0, 1], valid fraction of the channels.

        Returns:
            The feature (B, c_out, H/stride, W/stride), and its validity: 1 where the window has a valid pixel, else 0.
        """
        covered = F.avg_pool2d(valid, self.kernel, self.stride, self.kernel // 2)  # nothing is valid beyond the border
        reached = (covered > 0).to(covered.dtype)
        scale = reached / covered.clamp(min=0.5 / self.kernel**2)
        out = self.conv(x)
        # in the convolution's type: under autocast a float32 factor would make all following layers float32
        out = F.leaky_relu(self.norm(out * scale.to(out.dtype)), self.slope, inplace=True)
        return out * reached.to(out.dtype), reached
