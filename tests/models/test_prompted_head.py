"""The prompted head starts as stage 1, and prompts change what it says."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import torch

from deocclude.inference.prompt_maps import PROMPT_MAPS, place_pose
from deocclude.models.mask_completion import MaskCompletionConfig, MaskCompletionNet
from deocclude.models.prompted_head import PromptedHead, PromptedHeadConfig, run_prompted
from deocclude.models.typical_poses import placed_poses


def networks() -> tuple[MaskCompletionNet, PromptedHead]:
    torch.manual_seed(0)
    stage1 = MaskCompletionNet(MaskCompletionConfig.small()).eval()
    head = PromptedHead(PromptedHeadConfig.small())
    head.start_from_stage1(stage1.amodal_head)
    return stage1, head.eval()


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    initial = torch.zeros(2, 1, 64, 64)
    initial[:, :, 20:40, 24:40] = 1
    return torch.rand(2, 3, 64, 64), initial


def test_features_do_not_change_the_answer():
    stage1, _ = networks()
    given = inputs()
    output, features = stage1.with_features(*given)
    for one, other in zip(output, stage1(*given), strict=True):
        torch.testing.assert_close(one, other)
    assert features.stem.shape == (2, 16, 32, 32) and features.whole.shape == (2, 24, 16, 16)
    assert features.poses.shape == (2, 16, 16, 16)


@torch.no_grad()
def test_a_new_head_says_what_stage_1_says():
    stage1, head = networks()
    output, features = stage1.with_features(*inputs())
    answer, likelihood = run_prompted(head, output, features, torch.zeros(2, PROMPT_MAPS, 64, 64))
    assert likelihood.shape == (2, 4)
    torch.testing.assert_close(answer.amodal, output.amodal)
    torch.testing.assert_close(answer.amodal_parsing, output.amodal_parsing)
    torch.testing.assert_close(torch.sigmoid(answer.visible), torch.sigmoid(output.visible), atol=1e-5, rtol=0)


def test_prompts_reach_every_pixel():
    stage1, head = networks()
    torch.nn.init.normal_(head.join.weight)
    for parameter in head.hourglass.parameters():  # the residual blocks of a new network equal their shortcuts
        if parameter.ndim == 1:
            torch.nn.init.uniform_(parameter, 0.5, 1.0)
    with torch.no_grad():
        output, features = stage1.with_features(*inputs())
    prompts = torch.rand(2, PROMPT_MAPS, 64, 64, requires_grad=True)
    run_prompted(head, output, features, prompts)[0].amodal[:, :, 60:].sum().backward()
    assert prompts.grad is not None and prompts.grad[:, :, :8].abs().sum() > 0
    with torch.no_grad():
        found = [
            run_prompted(head, output, features, prompts, wanted.repeat(2, 1))[0].amodal for wanted in torch.eye(4)
        ]
    assert all((one - other).abs().max() > 1e-3 for one, other in combinations(found, 2))


def test_numpy_places_poses_like_torch():
    stage1, _ = networks()
    rng = np.random.default_rng(0)
    stage1.typical_poses.centres.copy_(torch.from_numpy(rng.random((64, 2, 32, 32), np.float32)))
    visible = np.zeros((96, 96), np.float32)
    visible[10:60, 30:50] = rng.random((50, 20))
    placed = placed_poses(stage1.typical_poses, torch.from_numpy(visible)[None, None])[0].numpy()
    for number in (0, 17):
        twin = place_pose(stage1.typical_poses.centres[number, 1].numpy(), visible)
        np.testing.assert_allclose(twin, placed[number], atol=1e-4)
