"""Building blocks shared by the networks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

_CERTAIN_LOGIT = 20.0  # its sigmoid is 1 to eight digits


def conv_bn(c_in: int, c_out: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU: (B, c_in, H, W) -> (B, c_out, H/stride, W/stride)."""
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(c_out), nn.ReLU(inplace=True)
    )


class ResidualBlock(nn.Module):
    """Two dense 3x3 convolutions and a shortcut (He et al. 2016).

    Dense convolutions are faster than depthwise ones on CPUs at these widths.
    """

    def __init__(self, c_in: int, c_out: int, stride: int = 1):
        super().__init__()
        self.body = nn.Sequential(
            conv_bn(c_in, c_out, 3, stride), nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False), nn.BatchNorm2d(c_out)
        )
        nn.init.zeros_(self.body[-1].weight)  # at initialisation the shortcut alone passes
        if stride == 1 and c_in == c_out:
            self.shortcut: nn.Module = nn.Identity()
        else:
            pool: list[nn.Module] = [nn.AvgPool2d(stride)] if stride > 1 else []
            self.shortcut = nn.Sequential(*pool, nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, c_in, H, W) -> (B, c_out, H/stride, W/stride)."""
        return F.relu(self.body(x) + self.shortcut(x), inplace=True)


class SqueezeExcitation(nn.Module):
    """Channel gates from global averages (Hu et al. 2018)."""

    def __init__(self, channels: int, reduction: int = 4):
        super().__init__()
        hidden = max(8, channels // reduction)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, hidden, 1), nn.ReLU(inplace=True),
            nn.Conv2d(hidden, channels, 1), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, C, H, W) -> the same shape, each channel scaled by a gate in (0, 1)."""
        return x * self.gate(x)


class Hourglass(nn.Module):
    """Encoder-decoder with additive skips (Newell et al. 2016).

    Args:
        widths: channels at each scale; the first is the input's.
        blocks: residual blocks at the coarsest scale, and at each scale of the decoder.
    """

    def __init__(self, widths: tuple[int, ...], blocks: int):
        super().__init__()
        pairs = list(pairwise(widths))
        self.down = nn.ModuleList(ResidualBlock(a, b, stride=2) for a, b in pairs)
        self.bottom = nn.Sequential(*(ResidualBlock(widths[-1], widths[-1]) for _ in range(blocks)))
        self.reduce = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairs)
        self.up = nn.ModuleList(nn.Sequential(*(ResidualBlock(a, a) for _ in range(blocks))) for a, _ in pairs)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, widths[0], H, W), H and W divisible by 2^(len(widths) - 1) -> the same shape."""
        skips = []
        for down in self.down:
            skips.append(x)
            x = down(x)
        x = self.bottom(x)
        for up, reduce, skip in zip(reversed(self.up), reversed(self.reduce), reversed(skips), strict=True):
            x = up(skip + F.interpolate(reduce(x), scale_factor=2.0, mode="nearest"))
        return x


BACKBONES: dict[str, Callable[[tuple[int, ...], int], nn.Module]] = {"hourglass": Hourglass}
"""Backbones of stage 1 by name: (widths, blocks) -> module that maps (B, widths[0], H, W) to the same shape."""


def convolutions_of(module: nn.Module) -> Iterator[nn.Conv2d]:
    """Every convolution inside a module, in the order of definition."""
    return (child for child in module.modules() if isinstance(child, nn.Conv2d))


@torch.no_grad()
def load_convolutions(
    network: str, convolutions: Iterable[nn.Conv2d], weights: Sequence[tuple[np.ndarray, np.ndarray | None]]
) -> None:
    """Load the weight and bias of every convolution of a network.

    Args:
        network: its name, for errors.
        convolutions: of the network, in the order of the weights.
        weights: (weight, bias) pairs; a bias of None for a convolution without one.

    Raises:
        ValueError: their number or a shape differs.
    """
    own = list(convolutions)
    if len(own) != len(weights):
        raise ValueError(f"{network} has {len(own)} convolutions, got {len(weights)}")
    for number, (conv, arrays) in enumerate(zip(own, weights, strict=True), start=1):
        params = [param for param in (conv.weight, conv.bias) if param is not None]
        given = [array for array in arrays if array is not None]
        if [tuple(param.shape) for param in params] != [array.shape for array in given]:
            shapes = [" and ".join(str(tuple(one.shape)) for one in pair) for pair in (params, given)]
            raise ValueError(f"convolution {number} of {network} is {shapes[0]}, got {shapes[1]}")
        for param, array in zip(params, given, strict=True):
            param.copy_(torch.from_numpy(array.astype(np.float32)))


def count_parameters(network: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def certain_logits(mask: Tensor) -> Tensor:
    """Turn a given mask into logits, for networks that return the initial mask unchanged as the visible mask.

    Args:
        mask: (B, 1, S, S) in {0, 1}.

    Returns:
        (B, 1, S, S) logits of -20 and 20 without a gradient. Their sigmoid is 0 or 1 to eight digits.
    """
    return (mask.detach() * 2 - 1) * _CERTAIN_LOGIT


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """(B, H, W) integer labels -> (B, classes, H, W) float32. A label >= `classes` (255: unknown) gives all zeros."""
    known = labels < classes
    out = F.one_hot(torch.where(known, labels, 0).long(), classes).permute(0, 3, 1, 2).float()
    return out * known[:, None]
