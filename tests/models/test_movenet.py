"""MoveNet: sizes, boxes at every cell, frozen blocks, and weights that are loaded in order."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deocclude.models.blocks import count_parameters
from deocclude.models.movenet import MoveNet, MoveNetConfig

TINY = MoveNetConfig(
    stem_width=8, widths=(8, 8, 8, 16), blocks=((8, 8, 1), (16, 8, 2), (16, 8, 2), (16, 8, 2), (16, 16, 2)),
    taps=(1, 2, 3), last_width=16, pyramid_widths=(8, 8, 8), head_width=8,
)  # fmt: skip


def test_outputs_are_at_a_quarter_of_the_input() -> None:
    centre, sides = MoveNet(TINY).eval()(torch.rand(2, 3, 64, 96))
    assert centre.shape == (2, 1, 16, 24) and sides.shape == (2, 4, 16, 24)
    assert (sides > 0).all() and (sides <= 160).all()


def test_published_size_has_4_7_million_parameters() -> None:
    assert 4.7e6 < count_parameters(MoveNet()) < 4.8e6


def test_sides_are_the_distances_from_the_middle_of_each_cell() -> None:
    network = MoveNet(TINY).eval()
    with torch.no_grad():
        for head in (network.size, network.offset):
            head[1].weight.zero_()
        network.size[1].bias.copy_(torch.tensor([40.0, 20.0]))  # height, width
        network.offset[1].bias.copy_(torch.tensor([0.75, 0.25]))  # y, x from the cell's upper left
        sides = network(torch.rand(1, 3, 32, 32)).sides
    expected = torch.tensor([10.25, 19.75, 9.75, 20.25]).view(1, 4, 1, 1).expand_as(sides)
    torch.testing.assert_close(sides, expected, atol=1e-4, rtol=0)


def test_frozen_blocks_have_no_gradient() -> None:
    network = MoveNet(TINY)
    network.freeze(2)
    sum(t.sum() for t in network(torch.rand(1, 3, 64, 64))).backward()
    trained = {name for name, p in network.named_parameters() if p.grad is not None}
    assert not any(name.startswith(("stem", "blocks.0", "blocks.1")) for name in trained)
    assert {name for name, _ in network.named_parameters() if name.startswith(("blocks.2", "centre"))} <= trained
    with pytest.raises(ValueError, match="has 5 blocks, 6 cannot be frozen"):
        network.freeze(6)


def test_loaded_weights_give_the_same_outputs_and_other_shapes_are_rejected() -> None:
    torch.manual_seed(0)
    one, other = MoveNet(TINY).eval(), MoveNet(TINY).eval()
    weights = [
        (c.weight.detach().numpy(), None if c.bias is None else c.bias.detach().numpy()) for c in one.convolutions()
    ]
    assert len(weights) == sum(isinstance(m, torch.nn.Conv2d) for m in one.modules())
    other.load_convolutions(weights)
    image = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(other(image), one(image))
    with pytest.raises(ValueError, match=f"has {len(weights)} convolutions, got {len(weights) - 1}"):
        other.load_convolutions(weights[1:])
    with pytest.raises(
        ValueError, match=r"convolution 1 of MoveNet is \(8, 3, 3, 3\) and \(8,\), got \(8, 3, 1, 1\) and \(8,\)"
    ):
        other.load_convolutions([(np.zeros((8, 3, 1, 1)), weights[0][1]), *weights[1:]])
