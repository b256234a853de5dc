"""Box prompts replaced by masks of the box segmenter: which prompts change, into what, and which network learns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deocclude.checkpoints.files import WEIGHTS_NAME
from deocclude.errors import ConfigError, WeightsError
from deocclude.export.to_onnx import build_network
from deocclude.models.box_segmenter import BoxSegmenter
from deocclude.models.mask_completion import MaskOutput
from deocclude.train.box_prompt_masks import load_box_segmenter, predict_box_masks
from deocclude.train.config import load_config
from deocclude.train.engine import fit, to_float
from deocclude.train.mask_stage import MaskStage
from deocclude.train.two_pass_prompts import are_boxes

SIZE = 32


class UpperHalf(nn.Module):
    """Predicts a person in the upper half of every photo, and no person in a black photo."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def forward(self, photo: Tensor, initial: Tensor) -> MaskOutput:
        self.asked += len(photo)
        logits = torch.full_like(initial, -20.0)
        logits[..., : SIZE // 2, :] = 20.0
        logits = torch.where(photo.amax((1, 2, 3), keepdim=True) > 0, logits, -20.0)
        return MaskOutput(logits, logits)


def boxes_and_a_mask() -> dict[str, Tensor]:
    """Two boxes, the second without a person, and a mask that is no box."""
    initial = torch.zeros(3, 1, SIZE, SIZE)
    initial[:, 0, 8:24, 8:16] = 1
    initial[2, 0, 8, 8] = 0
    photo = torch.ones(3, 3, SIZE, SIZE)
    photo[1] = 0
    return {"photo": photo, "initial": initial}


@pytest.fixture(scope="module")
def box_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained box segmenter, as a training stores it."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("boxes")
    BoxSegmenter().save_pretrained(folder)
    return folder / WEIGHTS_NAME


def test_box_prompt_becomes_a_mask_unless_the_prediction_is_empty() -> None:
    network, given = UpperHalf(), boxes_and_a_mask()
    prompts = predict_box_masks(network, given, 1.0)
    assert network.asked == 2
    assert prompts[0, 0, : SIZE // 2].eq(1).all() and prompts[0, 0, SIZE // 2 :].eq(0).all()
    for i in (1, 2):
        assert torch.equal(prompts[i], given["initial"][i])
    assert torch.equal(given["initial"], boxes_and_a_mask()["initial"]), "what was given is changed"


def test_replaced_prompts_are_drawn_with_the_given_rng() -> None:
    box = boxes_and_a_mask()["initial"][:1]
    many = {"photo": torch.ones(200, 3, SIZE, SIZE), "initial": box.expand(200, -1, -1, -1)}

    def changed(seed: int) -> list[bool]:
        prompts = predict_box_masks(UpperHalf(), many, 0.5, np.random.default_rng(seed))
        return (prompts != many["initial"]).flatten(1).any(1).tolist()

    assert changed(1) == changed(1) != changed(2)
    assert 70 < sum(changed(1)) < 130


def test_stage_1_trains_on_box_masks_of_a_frozen_box_segmenter(write_config, box_weights: Path, tmp_path: Path) -> None:
    settings = ["mask.schedule.steps=4", "data.crop={p_box: 1.0, p_exact: 0.0}", "mask.p_box_prompt=1.0"]
    config = load_config(write_config(), [*settings, f"mask.box_segmenter={box_weights}"])
    stage = MaskStage(config)
    before = {key: value.clone() for key, value in stage.box_segmenter.state_dict().items()}
    given: list[Tensor] = []
    stage.network.register_forward_pre_hook(lambda _, inputs: given.append(inputs[1]) if _.training else None)
    outcome = fit(stage, config, config.mask, tmp_path / "run", quiet=True)
    assert len(given) == 4 and not all(are_boxes(prompt).all() for prompt in given)
    assert all(((prompt == 0) | (prompt == 1)).all() for prompt in given)
    assert all(torch.equal(value, before[key]) for key, value in stage.box_segmenter.state_dict().items())
    assert build_network(outcome.best_weights)[1]["network"] == "mask_completion"


def test_validation_runs_the_box_segmenter_on_every_box(write_config, box_weights: Path) -> None:
    settings = ["mask.p_box_prompt=0.1", "mask.p_refinement_pass=0.5", f"mask.box_segmenter={box_weights}"]
    stage = MaskStage(load_config(write_config(), settings))
    asked: list[int] = []
    stage.box_segmenter.register_forward_pre_hook(lambda _, inputs: asked.append(len(inputs[0])))
    stage.validate(stage.network.eval())
    boxes = sum(int(are_boxes(to_float(raw, torch.device("cpu"))["initial"]).sum()) for raw in stage.validation)
    assert boxes and sum(asked) == boxes


def test_invalid_box_prompt_settings_are_rejected(write_config, box_weights: Path) -> None:
    with pytest.raises(ConfigError, match=r"mask\.box_segmenter: name the \.safetensors of a box segmenter"):
        MaskStage(load_config(write_config(), ["mask.p_box_prompt=0.5"]))
    other = [
        "mask.p_box_prompt=0.5", f"mask.box_segmenter={box_weights}", "mask.model=box", "mask.losses={}",
        "mask.network={}",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match=r"p_box_prompt is for networks that refine masks, model is 'box'"):
        MaskStage(load_config(write_config(), other))


def test_missing_box_segmenter_weights_are_rejected(tmp_path: Path) -> None:
    missing = tmp_path / "no.safetensors"
    with pytest.raises(WeightsError, match=r"no\.safetensors"):
        load_box_segmenter(missing)
