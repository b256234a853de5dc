"""Partial convolution: valid pixels alone decide, and are made up for where some are missing."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from deocclude.models.partial_conv import PartialConv


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 2), (7, 2)])
def test_fully_valid_input_equals_a_plain_convolution_inside(kernel: int, stride: int) -> None:
    torch.manual_seed(0)
    layer = PartialConv(3, 4, kernel, stride, norm=False).eval()
    x = torch.randn(2, 3, 24, 24)
    out, valid = layer(x, torch.ones(2, 1, 24, 24))
    plain = F.conv2d(x, layer.conv.weight, None, stride, kernel // 2).relu()
    inner = slice(-(-(kernel // 2) // stride), -(kernel // 2))
    torch.testing.assert_close(out[..., inner, inner], plain[..., inner, inner], atol=1e-5, rtol=1e-4)
    assert out.shape == plain.shape and valid.shape == (2, 1, *out.shape[-2:]) and (valid == 1).all()


def test_few_valid_pixels_are_scaled_up() -> None:
    """A flat picture of which one pixel in nine is valid: the sum of one weight, times nine."""
    layer = PartialConv(1, 1, 3, norm=False)
    with torch.no_grad():
        layer.conv.weight.copy_(torch.arange(1.0, 10).view(1, 1, 3, 3))
    valid = torch.zeros(1, 1, 5, 5)
    valid[0, 0, 2, 2] = 1
    out, reached = layer(valid * 2.0, valid)
    # the pixel at (2, 2) is the top left one for place (3, 3), and the bottom right one for place (1, 1)
    assert out[0, 0, 3, 3].item() == pytest.approx(2 * 1 * 9)
    assert out[0, 0, 2, 2].item() == pytest.approx(2 * 5 * 9)
    assert out[0, 0, 1, 1].item() == pytest.approx(2 * 9 * 9)
    expected = torch.zeros(5, 5)
    expected[1:4, 1:4] = 1
    assert torch.equal(reached[0, 0], expected)
    assert (out[0, 0][expected == 0] == 0).all()


def test_the_border_counts_as_missing() -> None:
    layer = PartialConv(1, 1, 3, norm=False)
    with torch.no_grad():
        layer.conv.weight.fill_(1.0)
    out, _ = layer(torch.full((1, 1, 6, 6), 0.5), torch.ones(1, 1, 6, 6))
    torch.testing.assert_close(out, torch.full_like(out, 4.5))  # 9 * 0.5 everywhere, corners included


def test_invalid_input_gives_zero_output() -> None:
    layer = PartialConv(2, 3).train()
    with torch.no_grad():
        layer.norm.bias.fill_(1.0)
    valid = torch.zeros(2, 1, 12, 12)
    valid[..., :4] = 1
    out, reached = layer(torch.randn(2, 2, 12, 12) * valid, valid)
    assert (out[..., 5:] == 0).all() and (reached[..., 5:] == 0).all()
    assert (reached[..., :5] == 1).all() and out[..., :5].abs().sum() > 0


def test_partial_channel_validity_is_rescaled() -> None:
    """One valid channel of two is made up for by a factor of two."""
    layer = PartialConv(2, 1, 1, norm=False)
    with torch.no_grad():
        layer.conv.weight.fill_(1.0)
    x = torch.tensor([3.0, 0.0]).view(1, 2, 1, 1)
    out, reached = layer(x, torch.full((1, 1, 1, 1), 0.5))
    assert out.item() == pytest.approx(6) and reached.item() == 1
