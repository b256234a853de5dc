"""Stage 1's network: shapes, ablations, sizes, and what its probabilities promise."""

from __future__ import annotations

import pytest
import torch

from deocclude.models.blocks import count_parameters
from deocclude.models.mask_completion import MaskCompletionConfig, MaskCompletionNet, MaskOutput, to_probabilities

TINY = {"stem_width": 8, "widths": (8, 8, 8, 8), "head_width": 8, "templates": 4, "template_channels": 8}


def tiny(**changes: object) -> MaskCompletionNet:
    torch.manual_seed(0)
    return MaskCompletionNet(MaskCompletionConfig(**(TINY | changes))).eval()


def inputs(batch: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(size)
    return torch.rand(batch, 3, size, size, generator=rng), (
        torch.rand(batch, 1, size, size, generator=rng) > 0.5
    ).float()


@pytest.mark.parametrize(("batch", "size"), [(2, 32), (1, 96), (1, 64)])
def test_shapes(batch: int, size: int) -> None:
    out = tiny()(*inputs(batch, size))
    assert out.visible.shape == out.amodal.shape == (batch, 1, size, size)
    assert out.visible_parsing.shape == out.amodal_parsing.shape == (batch, 12, size // 4, size // 4)


@pytest.mark.parametrize(("parsing", "pose"), [(True, True), (True, False), (False, True), (False, False)])
def test_ablation_switches_remove_parameters(parsing: bool, pose: bool) -> None:
    network = tiny(parsing_guidance=parsing, pose_guidance=pose)
    assert network(*inputs(1, 32)).amodal.shape == (1, 1, 32, 32)
    names = set(network.state_dict())
    assert ("typical_poses.centres" in names) == pose
    assert any(".excite." in n for n in names) == parsing
    assert count_parameters(network) <= count_parameters(tiny())


def test_single_hourglass_feeds_both_heads() -> None:
    network = tiny(hourglasses=1)
    assert network(*inputs(1, 32)).amodal.shape == (1, 1, 32, 32)
    names = set(network.state_dict())
    assert any(n.startswith("visible_hourglass.") for n in names), "the encoder behind the perceptual terms"
    assert not any(n.startswith(("amodal_hourglass.", "join.")) for n in names)
    assert count_parameters(network) < count_parameters(tiny())


def test_missing_parsing_gives_uniform_part_probabilities() -> None:
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :4] = 20.0
    found = to_probabilities(MaskOutput(mask - 10, mask - 10))
    assert found.amodal_parsing.shape == (1, 12, 2, 2)
    assert torch.allclose(found.amodal_parsing[:, 1:, :, 0], torch.tensor(1 / 11), atol=1e-4)
    assert torch.allclose(found.amodal_parsing[:, 0, :, 1], torch.tensor(1.0), atol=1e-4)


def test_typical_poses_affect_only_the_amodal_mask() -> None:
    network, x = tiny(), inputs(1, 32)
    x[1].zero_()
    x[1][..., 8:24, 12:20] = 1
    before = network(*x)
    network.typical_poses.centres.uniform_()
    after = network(*x)
    assert not torch.equal(before.amodal, after.amodal)
    for name in ("visible", "visible_parsing", "amodal_parsing"):
        assert torch.equal(getattr(before, name), getattr(after, name))


def test_mask_loss_sends_no_gradient_into_the_parsing_branch() -> None:
    network = tiny().train()
    out = network(*inputs(2, 32))
    (out.visible.sum() + out.amodal.sum()).backward()
    for head in (network.visible_head, network.amodal_head):
        assert all(p.grad is None for p in (*head.parsing.parameters(), *head.parsing_feature.parameters()))
        assert any(p.grad.abs().sum() > 0 for p in head.excite.parameters())
    # and the amodal mask does not teach the visible one through the poses
    network.zero_grad()
    network(*inputs(2, 32)).amodal.sum().backward()
    assert all(p.grad is None for p in network.visible_head.mask.parameters())


def test_output_depends_on_the_initial_mask() -> None:
    network, (image, initial) = tiny(), inputs(1, 32)
    assert not torch.equal(network(image, initial).visible, network(image, 1 - initial).visible)


def test_probabilities_are_consistent() -> None:
    torch.manual_seed(0)
    out = MaskOutput(*(3 * torch.randn(2, c, s, s) for c, s in ((1, 32), (1, 32), (12, 8), (12, 8))))
    found = to_probabilities(out)
    assert (found.amodal >= found.visible).all()
    torch.testing.assert_close(found.visible, out.visible.sigmoid())
    higher = out.amodal > out.visible
    torch.testing.assert_close(found.amodal[higher], out.amodal.sigmoid()[higher])
    for parsing, mask in ((found.visible_parsing, found.visible), (found.amodal_parsing, found.amodal)):
        assert parsing.min() >= -1e-6
        torch.testing.assert_close(parsing.sum(1), torch.ones(2, 8, 8))
        # the parts share what the mask holds
        torch.testing.assert_close(parsing[:, 1:].sum(1), torch.nn.functional.avg_pool2d(mask, 4)[:, 0])


def test_probabilities_by_hand() -> None:
    mask = torch.full((1, 1, 4, 4), -100.0)
    mask[..., :2] = 100.0  # half of the cell
    parsing = torch.zeros(1, 3, 1, 1)
    parsing[0, :, 0, 0] = torch.tensor([50.0, 0.0, 1.0])  # background's own logit does not count
    found = to_probabilities(MaskOutput(mask - 1, mask, parsing, parsing))
    arm = 0.5 / (1 + torch.e)
    torch.testing.assert_close(found.amodal_parsing.flatten(), torch.tensor([0.5, arm, 0.5 - arm]))
    empty = to_probabilities(MaskOutput(*[mask * 0 - 100] * 2, parsing, parsing))
    torch.testing.assert_close(empty.amodal_parsing.flatten(), torch.tensor([1.0, 0.0, 0.0]))


def test_a_config_survives_json() -> None:
    import json

    config = MaskCompletionConfig.paper()
    values = json.loads(json.dumps(config.to_dict()))
    assert MaskCompletionConfig(**values | {"widths": tuple(values["widths"])}) == config
