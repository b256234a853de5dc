"""Training of the prompted head: stage 1 stays as it is, the head learns, sizes are checked."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from deocclude.checkpoints.files import save_weights
from deocclude.errors import ConfigError
from deocclude.export.to_onnx import build_network
from deocclude.models.features import load_mask_completion
from deocclude.models.mask_completion import MaskCompletionNet
from deocclude.models.prompted_head import PromptedHead
from deocclude.train.config import load_config
from deocclude.train.engine import fit, to_float
from deocclude.train.prompted_stage import PromptedStage

HEAD = {"stem_width": 8, "feature_width": 8, "pose_channels": 8, "widths": [8, 8, 8, 8], "head_width": 8}
SCHEDULE = {
    "steps": 24, "phases": [{"until": 1.0, "size_px": 64, "batch_size": 4}], "warmup_steps": 2, "learning_rate": 0.01,
}  # fmt: skip


class SameBatch:
    """Always the first batch of a stream."""

    def __init__(self, stream) -> None:
        self.stream = stream

    def batch(self, index: int, batch_size: int, size_px: int, part: int = 0) -> dict[str, torch.Tensor]:
        return self.stream.batch(0, batch_size, size_px)


def config_of(write_config, parser_weights: Path, **section: object) -> Path:
    return write_config(prompted={"stage1": str(parser_weights), "network": HEAD, "schedule": SCHEDULE, **section})


def loss_of(stage: PromptedStage, raw: dict[str, torch.Tensor]) -> float:
    stage.network.train()
    with torch.no_grad():
        terms, _ = stage.weighted_terms(to_float(raw, torch.device("cpu")), np.random.default_rng(0))
    return sum(value.item() for value in terms.values())


def test_head_learns_and_stage_1_stays(write_config, parser_weights, tmp_path):
    config = load_config(config_of(write_config, parser_weights))
    stage = PromptedStage(config)
    frozen = {name: value.clone() for name, value in stage.completion.state_dict().items()}
    stage.stream = SameBatch(stage.stream)
    raw = stage.stream.batch(0, 4, 64)
    before = loss_of(stage, raw)
    outcome = fit(stage, config, config.prompted, tmp_path / "run", quiet=True)
    assert loss_of(stage, raw) < 0.9 * before
    assert all(torch.equal(value, frozen[name]) for name, value in stage.completion.state_dict().items())
    network, metadata = build_network(outcome.best_weights)
    assert isinstance(network, PromptedHead) and metadata["size_px"] == 64
    assert metadata["validation"]["score"] == outcome.best_score


def test_validation_names_what_prompts_bring(write_config, parser_weights):
    stage = PromptedStage(load_config(config_of(write_config, parser_weights), ["validation_samples=32"]))
    measured = stage.validate(stage.network.eval())
    assert measured["score"] == pytest.approx(np.mean([measured[n] for n in ("extent", "clicked", "hypotheses")]))
    # a new head says what stage 1 says, whatever the prompts
    assert measured["extent"] == pytest.approx(measured["without"], abs=0.01)


def test_each_hypothesis_learns_its_own_answer(write_config, parser_weights, tmp_path):
    """The losses of all terms reach the hypotheses; the likelihood learns from what was the best."""
    stage = PromptedStage(load_config(config_of(write_config, parser_weights)))
    torch.nn.init.normal_(stage.network.join.weight)
    raw = to_float(stage.stream.batch(0, 8, 64), torch.device("cpu"))
    terms, _ = stage.weighted_terms(raw, np.random.default_rng(0))
    assert set(terms) == {"amodal_ce", "amodal_parsing_ce", "invisible_dice", "amodal_dice", "hypothesis_ce"}
    terms.pop("hypothesis_ce").backward(retain_graph=True)
    assert stage.network.likelihood.weight.grad.abs().sum() > 0
    stage.network.hypothesis.weight.grad = None
    sum(terms.values()).backward()
    assert stage.network.hypothesis.weight.grad.abs().sum() > 0
    assert stage.network.training, "telling the best hypothesis leaves the network in training"


def test_stage_1_must_be_named_and_fit(write_config, parser_weights):
    with pytest.raises(ConfigError, match=r"prompted\.stage1"):
        PromptedStage(load_config(config_of(write_config, parser_weights, stage1=None)))
    with pytest.raises(ConfigError, match=r"prompted\.network\.stem_width: stage 1 has 8, got 24"):
        PromptedStage(load_config(config_of(write_config, parser_weights, network={})))
    with pytest.raises(ConfigError, match=r"prompted\.network\.parsing_classes: stage 1 has 12, got 5"):
        PromptedStage(load_config(config_of(write_config, parser_weights), ["prompted.network.parsing_classes=5"]))
    with pytest.raises(ConfigError, match=r"prompted\.network\.hypotheses must be at least 1, got 0"):
        PromptedStage(load_config(config_of(write_config, parser_weights), ["prompted.network.hypotheses=0"]))


def test_stage_1_without_parsing_guidance_is_refused(write_config, parser_weights, tmp_path):
    stage1 = load_mask_completion(parser_weights)
    sizes = dataclasses.replace(stage1.config, parsing_guidance=False)
    metadata = {"network": "mask_completion", "config": sizes.to_dict()}
    save_weights(tmp_path / "plain.safetensors", MaskCompletionNet(sizes).state_dict(), metadata)
    with pytest.raises(ConfigError, match=r"prompted\.stage1: the head needs a stage 1 with parsing_guidance"):
        PromptedStage(load_config(config_of(write_config, tmp_path / "plain.safetensors")))
