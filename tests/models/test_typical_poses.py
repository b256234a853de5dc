"""Typical poses: weights that sum to 1, and guidance that moves with the person."""

from __future__ import annotations

import pytest
import torch

from deocclude.models.typical_poses import TypicalPoses, _into_frame, _out_of_frame, person_frame


def body(height: int = 16, width: int = 6) -> torch.Tensor:
    """(height, width) probabilities that are larger in the middle."""
    y = torch.linspace(-1, 1, height)[:, None]
    x = torch.linspace(-1, 1, width)[None]
    return 1 - 0.4 * (y.square() + x.square())


def placed(y: int, x: int, size: int = 64) -> torch.Tensor:
    out = torch.zeros(1, 1, size, size)
    out[0, 0, y : y + 16, x : x + 6] = body()
    return out


@pytest.fixture
def poses() -> TypicalPoses:
    torch.manual_seed(0)
    module = TypicalPoses(count=5, channels=3).eval()
    module.centres.copy_(torch.rand(5, 2, 32, 32))
    return module


def test_affinities_sum_to_one(poses: TypicalPoses) -> None:
    weights = poses.affinity(torch.rand(7, 1, 32, 32))
    assert weights.shape == (7, 5) and (weights > 0).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(7))


def test_matching_pose_has_the_largest_affinity_at_any_size(poses: TypicalPoses) -> None:
    small, large = torch.zeros(32, 32), torch.zeros(32, 32)
    small[14:18, 15:17] = 1
    large[4:28, 6:26] = 1
    poses.centres[:, 0] = torch.stack([small, large, large.roll(6, 1), small.roll(9, 0), 1 - large])
    assert poses.affinity(small[None, None]).argmax() == 0
    assert poses.affinity(large[None, None]).argmax() == 1
    # a mask half as sure is the same mask
    torch.testing.assert_close(poses.affinity(0.5 * small[None, None]), poses.affinity(small[None, None]))


def test_affinity_by_hand() -> None:
    module = TypicalPoses(count=2, channels=1)
    module.centres[0, 0, 0, :2] = torch.tensor([3.0, 4.0])
    module.centres[1, 0, 0, 1] = 7.0
    with torch.no_grad():
        module.log_sharpness.fill_(torch.tensor(2.0).log())
    seen = torch.zeros(1, 1, 32, 32)
    seen[0, 0, 0, 0] = 5.0
    # cosines 0.6 and 0, sharpness 2
    expected = torch.softmax(torch.tensor([[1.2, 0.0]]), 1)
    torch.testing.assert_close(module.affinity(seen), expected)


def test_guidance_moves_with_the_person(poses: TypicalPoses) -> None:
    with torch.no_grad():
        here, there = poses(placed(20, 25)), poses(placed(28, 33))
    # compared where both are inside the picture
    torch.testing.assert_close(there[..., 8:, 8:], here[..., :-8, :-8], atol=1e-4, rtol=1e-4)
    assert here.abs().max() > 0.01


def test_guidance_grows_with_the_person() -> None:
    """Of twice the size, the same person has the same guidance at every second pixel, nearly."""
    torch.manual_seed(0)
    module = TypicalPoses(count=3, channels=2).eval()
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    blob = torch.exp(-((y - 15.5) ** 2 + (x - 15.5) ** 2) / 30)
    module.centres.copy_(torch.stack([blob, blob.square(), blob.sqrt()])[:, None].expand(3, 2, 32, 32))
    small = placed(24, 29)
    large = torch.nn.functional.interpolate(small, scale_factor=2.0, mode="nearest")
    with torch.no_grad():
        a, b = module(small), module(large)
    pooled = torch.nn.functional.avg_pool2d(b, 2)
    assert (pooled - a).abs().max() < 0.05 * a.abs().max()


def test_person_frame_by_hand() -> None:
    mask = torch.zeros(1, 1, 20, 30)
    mask[..., 4:8, 10:20] = 1
    centre, side = person_frame(mask)
    assert centre.tolist() == [[14.5, 5.5]]
    # variances (10^2 - 1) / 12 and (4^2 - 1) / 12
    assert side.item() == pytest.approx(8 * (8.25 + 1.25) ** 0.5)
    centre, side = person_frame(torch.zeros(1, 1, 20, 30))
    assert torch.isfinite(centre).all() and side.item() == 8


def test_frame_round_trip() -> None:
    mask = torch.nn.functional.avg_pool2d(placed(22, 28), 5, 1, 2)
    centre, side = person_frame(mask)
    back = _out_of_frame(_into_frame(mask, centre, side), centre, side, (64, 64))
    assert (back - mask).abs().mean() < 0.01 and (back - mask).abs().max() < 0.35
    torch.testing.assert_close(back.sum(), mask.sum(), rtol=0.05, atol=0)
    far = back.clone()
    far[..., 16:44, 22:40] = 0
    assert far.abs().max() == 0


def test_visible_mask_gets_no_gradient_but_mixing_weights_do(poses: TypicalPoses) -> None:
    visible = placed(20, 25).requires_grad_()
    poses(visible).square().sum().backward()
    assert visible.grad is None
    assert poses.mix.weight.grad.abs().sum() > 0 and poses.log_sharpness.grad != 0
    assert "centres" in poses.state_dict() and not poses.centres.requires_grad
