"""The shared blocks: shapes, and how a fresh block starts."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from deocclude.models.blocks import Hourglass, ResidualBlock, SqueezeExcitation, count_parameters, one_hot


def test_a_fresh_residual_block_is_its_shortcut() -> None:
    x = torch.randn(2, 4, 8, 8)
    torch.testing.assert_close(ResidualBlock(4, 4).eval()(x), x.relu())
    assert ResidualBlock(4, 6, stride=2)(x).shape == (2, 6, 4, 4)


def test_gates_scale_channels() -> None:
    x = torch.rand(2, 8, 5, 7) + 0.1
    ratio = SqueezeExcitation(8)(x) / x
    assert ratio.min() > 0 and ratio.max() < 1
    torch.testing.assert_close(ratio, ratio[..., :1, :1].expand_as(ratio))


@pytest.mark.parametrize("size", [(8, 8), (16, 24)])
def test_an_hourglass_keeps_the_shape(size: tuple[int, int]) -> None:
    x = torch.randn(2, 4, *size)
    assert Hourglass((4, 6, 8, 8), blocks=2)(x).shape == x.shape


def test_parameters_are_counted_by_hand() -> None:
    network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5))
    assert count_parameters(network) == 3 * 5 * 9 + 5 + 10
    network[0].requires_grad_(False)
    assert count_parameters(network) == 10


def test_one_hot_ignores_unknown_labels() -> None:
    out = one_hot(torch.tensor([[[0, 2], [255, 1]]], dtype=torch.uint8), 3)
    assert out[0].permute(1, 2, 0).tolist() == [[[1, 0, 0], [0, 0, 1]], [[0, 0, 0], [0, 1, 0]]]
