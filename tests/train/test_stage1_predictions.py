"""Stage 2 on predictions of stage 1: its inputs, its gradients, and joint runs that resume exactly."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deocclude.checkpoints.files import load_state
from deocclude.errors import ConfigError, WeightsError
from deocclude.export.to_onnx import build_network
from deocclude.models.mask_completion import MaskCompletionNet, MaskOutput, to_probabilities
from deocclude.train import content_stage
from deocclude.train.config import load_config
from deocclude.train.content_stage import ContentStage
from deocclude.train.engine import fit, to_float
from deocclude.train.stage1_predictions import as_at_inference
from repository import ROOT

SIZE = "content.schedule.phases=[{until: 1.0, size_px: 64, batch_size: 4}]"
CONFIGS = ROOT / "configs"
ADVERSARIAL = "content.losses={hidden_l1: 1.0, style: 30.0, adversarial: 0.02}"
OWN_TERMS_OFF = "content.stage1_losses={amodal_ce: 0.0}"


def joint(parser_weights: Path, *more: str) -> list[str]:
    return [SIZE, f"content.stage1={parser_weights}", "content.p_predicted=1.0", "content.joint=true", *more]


def logits(probability: list[float]) -> Tensor:
    """A row of four mask pixels, one above the other three times: (1, 1, 4, 4)."""
    return torch.logit(torch.tensor(probability)).expand(1, 1, 4, 4).clone()


def output_of(visible: list[float], amodal: list[float]) -> MaskOutput:
    parsing = torch.zeros(1, 3, 1, 1)
    return MaskOutput(logits(visible), logits(amodal), parsing, parsing)


def test_stage_2_gets_hard_masks_and_soft_parsing() -> None:
    output = output_of([0.9, 0.51, 0.49, 0.1], [0.2, 0.8, 0.6, 0.3])
    found = as_at_inference(output, torch.zeros(1, 1, 4, 4))
    assert found.visible[0, 0, 0].tolist() == [1, 1, 0, 0]
    assert found.amodal[0, 0, 0].tolist() == [1, 1, 1, 0], "what is seen is part of the whole"
    soft = to_probabilities(output)
    assert torch.equal(found.visible_parsing, soft.visible_parsing)
    assert torch.equal(found.amodal_parsing, soft.amodal_parsing)


def test_empty_stage_1_prediction_keeps_the_initial_mask() -> None:
    nobody, somebody = (
        output_of([0.4] * 4, [0.4, 0.45, 0.7, 0.4]),
        output_of([0.6, 0.1, 0.1, 0.1], [0.6, 0.6, 0.1, 0.1]),
    )
    both = MaskOutput(*(torch.cat(pair) for pair in zip(nobody, somebody, strict=True)))
    initial = torch.zeros(2, 1, 4, 4)
    initial[..., 3] = 1
    found = as_at_inference(both, initial)
    assert found.visible[:, 0, 0].tolist() == [[0, 0, 0, 1], [1, 0, 0, 0]]
    assert found.amodal[:, 0, 0].tolist() == [[0, 0, 1, 1], [1, 1, 0, 0]]


def test_the_gradient_of_a_hard_mask_is_that_of_its_probability() -> None:
    output = output_of([0.9, 0.6, 0.4, 0.1], [0.9, 0.7, 0.6, 0.2])
    for tensor in output:
        tensor.requires_grad_(True)
    found = as_at_inference(output, torch.zeros(1, 1, 4, 4))
    (found.visible.sum() * 2).backward()
    p = torch.tensor([0.9, 0.6, 0.4, 0.1])
    torch.testing.assert_close(output.visible.grad[0, 0, 0], 2 * p * (1 - p))


def step_gradients(write_config, settings: list[str]) -> ContentStage:
    stage = ContentStage(load_config(write_config(), settings))
    stage.network.train()
    batch = to_float(stage.stream.batch(0, 4, 64), torch.device("cpu"))
    terms, _ = stage.weighted_terms(batch, np.random.default_rng(0))
    torch.stack(list(terms.values())).sum().backward()
    return stage


def test_gradient_reaches_a_trainable_stage_1(write_config, parser_weights: Path) -> None:
    stage = step_gradients(write_config, joint(parser_weights, OWN_TERMS_OFF))
    heads = [stage.stage1.network.visible_head.mask[2].weight, stage.stage1.network.amodal_head.mask[2].weight]
    assert all(torch.isfinite(w.grad).all() and w.grad.abs().sum() > 0 for w in heads), "through either mask"
    assert all(p.grad is None for p in stage.parser.parameters())


def test_no_gradient_reaches_a_stage_1_that_is_frozen(write_config, parser_weights: Path) -> None:
    frozen = [SIZE, f"content.stage1={parser_weights}", "content.p_predicted=1.0"]
    stage = step_gradients(write_config, frozen)
    assert stage.stage1 is None
    assert all(p.grad is None and not p.requires_grad for p in stage.predictor.parameters())
    assert not stage.predictor.network.training
    assert any(p.grad is not None for p in stage.network.parameters())


def test_own_losses_reach_stage_1_though_stage_2_gets_true_masks(write_config, parser_weights: Path) -> None:
    """Both in one batch: the own terms are those of stage 1 alone."""
    settings = joint(parser_weights, "content.stage1_losses={amodal_ce: 2.0}", "content.p_predicted=0.0001")
    stage = ContentStage(load_config(write_config(), settings))
    batch = to_float(stage.stream.batch(0, 4, 64), torch.device("cpu"))
    terms, _ = stage.weighted_terms(batch, np.random.default_rng(0))
    own = {name for name in terms if name.startswith("stage1_")}
    assert own == {"stage1_amodal_ce"}
    sum(term for name, term in terms.items() if name not in own).backward(retain_graph=True)
    assert all(p.grad is None for p in stage.stage1.network.parameters()), "true masks tell stage 1 nothing"
    terms["stage1_amodal_ce"].backward()
    assert stage.stage1.network.amodal_head.mask[2].weight.grad.abs().sum() > 0


class Given(nn.Module):
    """Notes the masks that it is given."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.seen = network, []

    def forward(self, *inputs: Tensor) -> Tensor:
        self.seen.append(inputs)
        return self.network(*inputs)


def test_p_predicted_sets_the_fraction_of_predicted_batches(write_config, parser_weights: Path) -> None:
    settings = [SIZE, f"content.stage1={parser_weights}", "content.p_predicted=0.4", "data.crop.p_exact=0.0"]
    stage = ContentStage(load_config(write_config(), settings))
    stage.network = Given(stage.network)
    batch = to_float(stage.stream.batch(0, 4, 64), torch.device("cpu"))
    for step in range(20):
        with torch.no_grad():
            stage.weighted_terms(batch, np.random.default_rng(step))
    wanted = as_at_inference(stage.predictor.network(batch["photo"], batch["initial"]), batch["initial"])
    predicted = 0
    for _, visible, amodal, visible_parsing, amodal_parsing in stage.network.seen:
        if torch.equal(amodal, batch["amodal"]):
            assert (visible <= batch["visible"]).all()
        else:
            predicted += 1
            assert torch.equal(amodal, wanted.amodal) and (visible <= wanted.visible).all()
            assert torch.equal(visible_parsing, wanted.visible_parsing)
            assert torch.equal(amodal_parsing, wanted.amodal_parsing)
    assert 4 <= predicted <= 12


def test_p_predicted_zero_changes_nothing(write_config, parser_weights: Path, tmp_path: Path) -> None:
    path = write_config()
    for name, more in (("without", []), ("with", [f"content.stage1={parser_weights}", "content.p_predicted=0.0"])):
        config = load_config(path, [SIZE, ADVERSARIAL, "content.schedule.steps=3", *more])
        content_stage.main(config, tmp_path / name, quiet=True)
    first, second = (load_state(tmp_path / name / "last.pt") for name in ("without", "with"))
    assert first["best"] == second["best"] and second["step"] == 3
    for part in ("network", "ema", "discriminator"):
        assert all(torch.equal(value, second[part][key]) for key, value in first[part].items()), part


def test_resumed_joint_run_ends_with_the_same_weights(
    write_config, interrupt, parser_weights: Path, tmp_path: Path
) -> None:
    settings = ["content.p_predicted=0.6", ADVERSARIAL, "log_every=1", "content.schedule.steps=4"]
    config = load_config(write_config(), joint(parser_weights, *settings))
    content_stage.main(config, tmp_path / "straight", quiet=True)
    broken = ContentStage(config)
    interrupt(broken, 2)
    with pytest.raises(KeyboardInterrupt):
        fit(broken, config, config.content, tmp_path / "broken", quiet=True)
    content_stage.main(config, tmp_path / "broken", quiet=True)
    first, second = (load_state(tmp_path / name / "last.pt") for name in ("straight", "broken"))
    assert (first["step"], first["best"]) == (second["step"], second["best"])
    for part in ("network", "ema", "discriminator", "stage1", "stage1_ema"):
        assert all(torch.equal(value, second[part][key]) for key, value in first[part].items()), part
    one, other = ((tmp_path / name / "log.jsonl").read_text() for name in ("straight", "broken"))
    assert re.sub(r'"samples_per_s": [\d.]+', "", one) == re.sub(r'"samples_per_s": [\d.]+', "", other)
    assert '"stage1_amodal_ce"' in one and '"predicted_l1"' in one
    network, metadata = build_network(tmp_path / "broken" / "best_stage1.safetensors")
    assert isinstance(network, MaskCompletionNet) and metadata["step"] == 4
    before = build_network(parser_weights)[0].state_dict()
    assert any(not torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_validation_scores_stage_2_on_predicted_masks(write_config, parser_weights: Path) -> None:
    plain = ContentStage(load_config(write_config(), [SIZE]))
    stage = ContentStage(load_config(write_config(), joint(parser_weights)))
    stage.network.load_state_dict(plain.network.state_dict())
    told, alone = stage.validate(stage.network.eval()), plain.validate(plain.network.eval())
    assert {k: v for k, v in told.items() if not k.startswith("predicted_")} == alone | {"score": told["score"]}
    assert told["score"] == told["predicted_score"] != alone["score"]
    blind = build_network(parser_weights)[0].eval()
    with torch.no_grad():
        blind.amodal_head.mask[2].bias.fill_(50.0)  # everything is body
    assert stage.validate(stage.network, blind)["predicted_l1"] != told["predicted_l1"]
    assert stage.validate(stage.network, blind)["l1"] == told["l1"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["content.joint=true"],
            "content.joint: stage 1 learns through the masks it predicts, so content.p_predicted must",
        ),
        (["content.p_predicted=0.5"], "content.stage1: name stage 1's .safetensors"),
        (
            ["content.p_predicted=0.5", "content.stage1=WEIGHTS", "content.stage1_losses={adversarial: 1.0}"],
            "unknown key content.stage1_losses.adversarial: the terms are visible_ce, amodal_ce",
        ),
    ],
)
def test_invalid_config_is_rejected(write_config, parser_weights: Path, settings: list[str], message: str) -> None:
    settings = [setting.replace("WEIGHTS", str(parser_weights)) for setting in settings]
    with pytest.raises(ConfigError, match=re.escape(message)):
        ContentStage(load_config(write_config(), settings))


def test_missing_weights_are_rejected(write_config, tmp_path: Path) -> None:
    settings = ["content.p_predicted=0.5", f"content.stage1={tmp_path / 'none'}"]
    with pytest.raises(WeightsError, match=f"weights not found: looked for {tmp_path / 'none'}"):
        ContentStage(load_config(write_config(), settings))


def test_joint_config_runs(data_root: Path, parser_weights: Path, tmp_path: Path) -> None:
    """configs/joint.yaml as it is, but for its size, its data and its weights."""
    small = ["content.network={widths: [8, 8, 8, 8, 8], kernels: [3, 3, 3, 3, 3], key_channels: 4}", SIZE]
    settings = [f"content.{key}={parser_weights}" for key in ("features", "stage1")]
    settings += [f"data.root={data_root}", "content.init=null", "content.schedule.steps=2", "validation_samples=8"]
    config = load_config(CONFIGS / "joint.yaml", [*settings, *small, "device=cpu", "workers=0", "threads=1"])
    outcome = content_stage.main(config, tmp_path, quiet=True)
    assert outcome.best_weights.is_file() and (tmp_path / "best_stage1.safetensors").is_file()
    assert (tmp_path / "tensorboard").is_dir()
