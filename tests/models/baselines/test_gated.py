"""Gated convolution and contextual attention."""

from __future__ import annotations

import torch
from torch import Tensor

from deocclude.models.baselines.gated import GatedConfig, GatedConv, GatedNet, contextual_attention, run_gated


def test_a_closed_gate_lets_nothing_through() -> None:
    conv = GatedConv(1, 1, 1)
    with torch.no_grad():
        conv.conv.weight.copy_(torch.tensor([2.0, 0.0]).view(2, 1, 1, 1))
        conv.conv.bias.copy_(torch.tensor([0.0, -50.0]))
        assert conv(torch.ones(1, 1, 2, 2)).abs().max() < 1e-12
        conv.conv.bias[1] = 50.0
        assert conv(torch.ones(1, 1, 2, 2)).eq(2).all()


def test_contextual_attention_reproduces_distinct_patches() -> None:
    """Places that differ: each finds itself, and overlapping patches of the same feature average to it."""
    feature = torch.zeros(1, 64, 8, 8)
    # every cell of half size has a channel of its own
    for cell in range(16):
        row, column = divmod(cell, 4)
        feature[0, cell, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] = 100 * (1 + cell)
    found = contextual_attention(feature, torch.ones(1, 1, 32, 32))
    assert (found - feature).abs().max() < 0.35 * feature.max()
    assert torch.equal(found.argmax(1), feature.argmax(1))


def test_contextual_attention_copies_only_visible_patches() -> None:
    feature = torch.zeros(1, 1, 8, 16)
    feature[..., 8:] = 7.0
    visible = torch.zeros(1, 1, 32, 64)
    visible[..., :24] = 1
    assert contextual_attention(feature, visible).abs().max() < 0.01, "sevens lie where nothing is seen"


def test_coarse_l1_by_hand(batch: dict[str, Tensor]) -> None:
    torch.manual_seed(0)
    network = GatedNet(GatedConfig(4, (2,)))
    inputs = (batch["photo"], batch["visible"], batch["amodal"])
    refined, own = run_gated(network, batch, inputs)
    coarse, again = network.pictures(*inputs)
    assert torch.equal(refined, again)
    whole = batch["amodal"].expand_as(coarse) > 0
    assert torch.allclose(own["coarse_l1"], (coarse - batch["truth"])[whole].abs().mean())
