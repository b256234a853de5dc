"""Box prompts refined by a first pass: which prompts change, into what, and that nothing else does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deocclude.errors import ConfigError
from deocclude.export.to_onnx import build_network
from deocclude.models.mask_completion import MaskOutput
from deocclude.train.config import load_config
from deocclude.train.engine import fit, to_float
from deocclude.train.mask_stage import MaskStage
from deocclude.train.two_pass_prompts import are_boxes, refinement_prompts

SIZE = 32


def masks() -> Tensor:
    """A box, a box at the edge, two boxes, a box with a bite, nothing, everything."""
    out = torch.zeros(6, 1, SIZE, SIZE)
    out[0, 0, 4:20, 8:16] = 1
    out[1, 0, 0:5, 30:] = 1
    out[2, 0, 4:8, 4:8] = out[2, 0, 4:8, 20:24] = 1
    out[3, 0, 4:20, 8:16] = 1
    out[3, 0, 4, 8] = 0
    out[5] = 1
    return out


class LeftHalf(nn.Module):
    """Predicts a person in the left half of every photo; a batch norm shows whether it learned from that."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.asked: list[int] = []

    def forward(self, photo: Tensor, initial: Tensor) -> MaskOutput:
        self.norm(photo)
        self.asked.append(len(photo))
        logits = torch.full_like(initial, -20.0)
        logits[..., : SIZE // 2] = 20.0
        return MaskOutput(logits, logits)


def batch() -> dict[str, Tensor]:
    return {"photo": torch.rand(6, 3, SIZE, SIZE), "initial": masks()}


def test_boxes_are_distinguished_from_other_masks() -> None:
    assert are_boxes(masks()).tolist() == [True, True, False, False, False, True]


def test_box_prompt_becomes_the_mean_of_box_and_visible_mask() -> None:
    network = LeftHalf().train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    given = batch()
    prompts = refinement_prompts(network, given, 1.0)
    assert network.asked == [3] and network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items()), "it learned something"
    seen = torch.zeros(SIZE, SIZE)
    seen[:, : SIZE // 2] = 1
    away = torch.ones(SIZE, dtype=torch.bool)
    away[SIZE // 2 - 2 : SIZE // 2 + 2] = False  # a first pass is coarser: its edge is soft
    for i in (0, 1, 5):
        wanted = (masks()[i, 0] + seen) / 2
        assert torch.allclose(prompts[i, 0][:, away], wanted[:, away], atol=1e-6), i
    for i in (2, 3, 4):
        assert torch.equal(prompts[i], masks()[i])
    assert torch.equal(given["initial"], masks()), "what was given is changed"
    assert not prompts.requires_grad


def test_refined_prompts_are_drawn_by_rng_and_only_for_boxes() -> None:
    many = {"photo": torch.rand(200, 3, SIZE, SIZE), "initial": masks()[:1].expand(200, -1, -1, -1)}

    def changed(seed: int, share: float) -> list[bool]:
        prompts = refinement_prompts(LeftHalf(), many, share, np.random.default_rng(seed))
        return (prompts != many["initial"]).flatten(1).any(1).tolist()

    assert changed(1, 0.5) == changed(1, 0.5) != changed(2, 0.5)
    assert 70 < sum(changed(1, 0.5)) < 130 and sum(changed(1, 1.0)) == 200
    network = LeftHalf()
    none = {"photo": torch.rand(2, 3, SIZE, SIZE), "initial": masks()[2:4]}
    assert refinement_prompts(network, none, 1.0) is none["initial"] and not network.asked


def test_stage_1_trains_on_refinement_prompts_and_records_it(write_config, tmp_path: Path) -> None:
    settings = ["mask.schedule.steps=4", "data.crop={p_box: 0.9, p_exact: 0.05}"]
    given: list[Tensor] = []

    def run(p: float) -> dict:
        config = load_config(write_config(), [*settings, f"mask.p_refinement_pass={p}"])
        stage = MaskStage(config)
        stage.network.register_forward_pre_hook(lambda _, inputs: given.append(inputs[1]) if _.training else None)
        outcome = fit(stage, config, config.mask, tmp_path / str(p), quiet=True)
        return build_network(outcome.best_weights)[1]

    assert run(0.0)["second_pass"] is False
    assert all(((prompt == 0) | (prompt == 1)).all() for prompt in given)
    given.clear()
    assert run(1.0)["second_pass"] is True
    assert len(given) == 4 and all(((prompt > 0) & (prompt < 1)).any() for prompt in given)


def test_validation_runs_the_second_pass_on_boxes(write_config) -> None:
    config = load_config(write_config(), ["mask.p_refinement_pass=0.5"])
    stage = MaskStage(config)
    asked: list[Tensor] = []
    stage.network.register_forward_pre_hook(lambda _, inputs: asked.append(inputs[1]))
    stage.validate(stage.network.eval())
    boxes = sum(int(are_boxes(to_float(raw, torch.device("cpu"))["initial"]).sum()) for raw in stage.validation)
    assert boxes and sum(len(a) for a in asked) == sum(len(raw["photo"]) for raw in stage.validation) + boxes


def test_refinement_pass_requires_the_hourglass_model(write_config) -> None:
    config = load_config(
        write_config(),
        ["mask.p_refinement_pass=0.5", "mask.model=unet", "mask.losses={}", "mask.network={widths: [4, 8]}"],
    )
    with pytest.raises(ConfigError, match=r"p_refinement_pass is for model hourglass, got 'unet'"):
        MaskStage(config)
