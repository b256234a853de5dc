"""The box segmenter: shapes, and that its masks depend on the box."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deocclude.models.blocks import count_parameters
from deocclude.models.box_segmenter import BoxSegmenter, BoxSegmenterConfig
from deocclude.models.mask_completion import to_probabilities

TINY = BoxSegmenterConfig(widths=(8, 8, 8, 8), blocks=(1, 1, 0, 1), head_width=8)


def boxes(*xyxy: tuple[int, int, int, int], side: int = 64) -> Tensor:
    masks = torch.zeros(len(xyxy), 1, side, side)
    for mask, (x0, y0, x1, y1) in zip(masks, xyxy, strict=True):
        mask[0, y0:y1, x0:x1] = 1
    return masks


def test_masks_have_the_image_size_and_no_parsing() -> None:
    torch.manual_seed(0)
    network = BoxSegmenter(TINY).eval()
    output = network(torch.rand(2, 3, 64, 96), torch.ones(2, 1, 64, 96))
    assert output.visible.shape == output.amodal.shape == (2, 1, 64, 96)
    assert output.visible_parsing is None and output.amodal_parsing is None
    found = to_probabilities(output)
    assert ((found.amodal >= found.visible) & (found.visible >= 0) & (found.amodal <= 1)).all()


def test_each_box_of_a_photo_gets_its_own_masks() -> None:
    torch.manual_seed(0)
    network = BoxSegmenter(TINY).eval()
    photo = torch.rand(1, 3, 64, 64)
    left, right, again = network(photo.expand(3, -1, -1, -1), boxes((0, 0, 32, 64), (32, 0, 64, 64), (0, 0, 32, 64)))[0]
    assert not torch.allclose(left, right)
    torch.testing.assert_close(left, again)


def test_every_scale_receives_the_box_and_gradients() -> None:
    torch.manual_seed(0)
    network = BoxSegmenter(TINY).train()
    output = network(torch.rand(2, 3, 64, 64), boxes((8, 8, 40, 56), (20, 4, 60, 60)))
    (output.visible.square().mean() + output.amodal.square().mean()).backward()
    for enter in network.enter:
        assert enter.weight.grad[:, -1].abs().sum() > 0, "the box's own channel"
    assert all(p.grad is not None for p in network.parameters())


def test_default_config_has_few_parameters() -> None:
    with torch.device("meta"):
        network = BoxSegmenter()
    assert 3.5e6 < count_parameters(network) < 3.8e6
    assert 2.2e6 < count_parameters(network.trunk) < 2.5e6


def test_config_needs_four_widths_and_blocks() -> None:
    with pytest.raises(ValueError, match=r"widths and blocks must be 4 numbers each, got \(8, 8\) and"):
        BoxSegmenterConfig(widths=(8, 8))
