"""The people detector: shapes at any size, its untrained output, and what its numbers mean."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from deocclude.models.blocks import count_parameters
from deocclude.models.mask_completion import MaskCompletionConfig, MaskCompletionNet
from deocclude.models.people_detector import PeopleDetector, PeopleDetectorConfig, PeopleOutput, to_maps
from multiplications import Multiplications

TINY = PeopleDetectorConfig(stem_width=8, widths=(8, 8, 8, 8), blocks=(0, 0, 0, 1))
LITE = PeopleDetectorConfig(trunk="efficientnet_lite0", widths=(8, 8, 8, 8), blocks=(0, 0, 0, 1))


@pytest.mark.parametrize("config", [TINY, LITE], ids=["residual", "imagenet"])
@pytest.mark.parametrize(("stride", "h", "w"), [(8, 64, 96), (4, 32, 160), (32, 96, 64)])
def test_maps_have_the_stride_of_the_config(config: PeopleDetectorConfig, stride: int, h: int, w: int) -> None:
    output = PeopleDetector(replace(config, stride=stride)).eval()(torch.rand(2, 3, h, w))
    assert [tuple(t.shape) for t in output] == [(2, c, h // stride, w // stride) for c in (1, 4, 1)]


def test_untrained_network_has_low_scores() -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        maps = to_maps(PeopleDetector(TINY).eval()(torch.rand(1, 3, 64, 64)))
    torch.testing.assert_close(maps.centre, torch.full_like(maps.centre, 0.01), atol=0.01, rtol=0)
    torch.testing.assert_close(maps.mask, torch.full_like(maps.mask, 0.1), atol=0.05, rtol=0)
    torch.testing.assert_close(maps.sides, torch.full_like(maps.sides, 4.0), atol=1.0, rtol=0)


def test_maps_are_probabilities_and_side_lengths_in_cells() -> None:
    sides = torch.tensor([0.0, -1.0, 2.0, 99.0]).view(1, 4, 1, 1)
    maps = to_maps(PeopleOutput(torch.zeros(1, 1, 1, 1), sides, torch.full((1, 1, 1, 1), 40.0)))
    assert maps.centre.item() == 0.5 and maps.mask.item() == 1.0
    torch.testing.assert_close(maps.sides.flatten(), torch.tensor([1.0, 0.3679, 7.3891, 148.4132]), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("config", "trunk"), [(TINY, {"stem", "down"}), (LITE, {"trunk", "lateral"})], ids=["residual", "imagenet"]
)
def test_every_head_sends_gradients_to_the_shared_parts(config: PeopleDetectorConfig, trunk: set[str]) -> None:
    network = PeopleDetector(config)
    for name, head in (("centre", 0), ("log_sides", 1), ("mask", 2)):
        network.zero_grad()
        network(torch.rand(2, 3, 64, 64))[head].square().mean().backward()
        reached = {key.split(".")[0] for key, p in network.named_parameters() if p.grad is not None and p.grad.any()}
        assert reached == trunk | {"reduce", "up", "shared", name}


@pytest.mark.parametrize(
    ("config", "least", "most"),
    [
        (PeopleDetectorConfig.base(), 3.0e6, 3.4e6),
        (replace(PeopleDetectorConfig.base(), trunk="efficientnet_lite0", blocks=(0, 0, 0, 1)), 3.4e6, 3.7e6),
    ],
    ids=["base", "imagenet"],
)
def test_detector_has_few_parameters_and_multiplications(
    config: PeopleDetectorConfig, least: float, most: float
) -> None:
    assert least < count_parameters(PeopleDetector(config)) < most
    with FakeTensorMode():
        network = PeopleDetector(config).eval()
        with torch.no_grad(), Multiplications() as counted:
            network(torch.zeros(1, 3, 384, 384))
    assert 1.0e9 < counted.count < 2.5e9


def test_stage_1_cannot_initialise_a_pretrained_backbone() -> None:
    stage1 = MaskCompletionNet(MaskCompletionConfig(stem_width=8, widths=(8, 8, 8, 8), templates=4))
    named = "a residual backbone starts from an hourglass, got the backbone efficientnet_lite0"
    with pytest.raises(ValueError, match=named):
        PeopleDetector(LITE).start_from(stage1)


@pytest.mark.parametrize("wrong", [{"stride": 2}, {"stride": 64}, {"blocks": (1, 1)}])
def test_invalid_config_is_rejected(wrong: dict) -> None:
    with pytest.raises(ValueError, match=r"stride must be one of \[4, 8, 16, 32\] and blocks one number a width"):
        PeopleDetector(PeopleDetectorConfig(**wrong))


def test_detector_initialises_from_stage_1() -> None:
    torch.manual_seed(0)
    sizes = {"stem_width": 8, "widths": (8, 16, 16, 24)}
    stage1 = MaskCompletionNet(MaskCompletionConfig(**sizes, templates=4)).eval()
    for module in stage1.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.weight)
            torch.nn.init.normal_(module.running_mean)
    network = PeopleDetector(PeopleDetectorConfig(**sizes)).eval()
    network.start_from(stage1)
    image = torch.rand(1, 3, 128, 128)
    with torch.no_grad():
        theirs = stage1.enter(stage1.stem(torch.cat([image * 2 - 1, torch.ones(1, 1, 128, 128)], 1)))
        mine = network.down[0](network.stem(image * 2 - 1))
        inner = (..., slice(2, -2), slice(2, -2))  # at the edge stage 1 knows that there is no mask beyond it
        torch.testing.assert_close(mine[inner], theirs[inner])
        x = torch.rand(1, 8, 32, 32)
        deepest = stage1.visible_hourglass.bottom(
            stage1.visible_hourglass.down[2](stage1.visible_hourglass.down[1](stage1.visible_hourglass.down[0](x)))
        )
        torch.testing.assert_close(network.down[3](network.down[2](network.down[1](x))), deepest)
    assert torch.equal(network.reduce[0].weight, stage1.visible_hourglass.reduce[1].weight)
    with pytest.raises(ValueError, match="the people detector needs"):
        PeopleDetector(TINY).start_from(stage1)
