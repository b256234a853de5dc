"""NanoDet: shapes, sizes, frozen stages, and weights that are loaded in order."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deocclude.models.blocks import count_parameters
from deocclude.models.nanodet import NanoDet, NanoDetConfig
from deocclude.people.box_decoding import STRIDES

TINY = NanoDetConfig(widths=(4, 4, 8, 8), blocks=(1, 1, 1, 1), pyramid_width=8, bins=5)


def test_outputs_have_the_size_of_each_stride() -> None:
    output = NanoDet(TINY).eval()(torch.rand(2, 3, 64, 96))
    assert [tuple(t.shape) for t in output.logits] == [(2, 1, 64 // s, 96 // s) for s in STRIDES]
    assert [tuple(t.shape) for t in output.distances] == [(2, 20, 64 // s, 96 // s) for s in STRIDES]


def test_published_size_has_3_8_million_parameters() -> None:
    assert 3.7e6 < count_parameters(NanoDet()) < 3.8e6


def test_frozen_stages_have_no_gradient() -> None:
    network = NanoDet(TINY)
    network.freeze(2)
    sum(t.sum() for maps in network(torch.rand(1, 3, 64, 64)) for t in maps).backward()
    trained = {name for name, p in network.named_parameters() if p.grad is not None}
    assert not any(name.startswith(("stem", "stages.0", "stages.1")) for name in trained)
    assert {name for name, _ in network.named_parameters() if name.startswith(("stages.2", "heads"))} <= trained
    with pytest.raises(ValueError, match="has 4 stages, 5 cannot be frozen"):
        network.freeze(5)


def test_convolutions_come_in_the_order_of_the_forward_pass() -> None:
    network, order = NanoDet(TINY), []
    for conv in network.convolutions():
        conv.register_forward_hook(lambda module, *_: order.append(module))
    network(torch.rand(1, 3, 32, 32))
    assert [id(one) for one in order] == [id(one) for one in network.convolutions()]
    assert len(order) == sum(isinstance(m, torch.nn.Conv2d) for m in network.modules())


def test_loaded_weights_give_the_same_outputs_and_other_shapes_are_rejected() -> None:
    torch.manual_seed(0)
    one, other = NanoDet(TINY).eval(), NanoDet(TINY).eval()
    weights = [(c.weight.detach().numpy(), c.bias.detach().numpy()) for c in one.convolutions()]
    other.load_convolutions(weights)
    image = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(other(image), one(image))
    with pytest.raises(ValueError, match=f"has {len(weights)} convolutions, got {len(weights) - 1}"):
        other.load_convolutions(weights[1:])
    with pytest.raises(
        ValueError, match=r"convolution 1 of NanoDet is \(4, 3, 3, 3\) and \(4,\), got \(4, 3, 1, 1\) and \(4,\)"
    ):
        other.load_convolutions([(np.zeros((4, 3, 1, 1)), weights[0][1]), *weights[1:]])
    with pytest.raises(ValueError, match="NanoDet has 4 stages, got widths"):
        NanoDetConfig(widths=(8, 8))
