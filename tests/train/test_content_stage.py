"""Stage 2 in training, on drawn people: it learns, it resumes exactly, and it measures what it says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deocclude.checkpoints.files import load_state
from deocclude.errors import ConfigError, MissingExtraError, WeightsError
from deocclude.export.to_onnx import build_network
from deocclude.models.content_recovery import ContentRecoveryNet
from deocclude.models.features import ImageNetFeatures, Vgg16Features
from deocclude.train import content_stage
from deocclude.train.config import load_config
from deocclude.train.content_stage import DEFAULT_LOSSES, ContentStage
from deocclude.train.engine import fit, to_float

SIZE = "content.schedule.phases=[{until: 1.0, size_px: 64, batch_size: 4}]"


class SameBatch:
    """Always the first batch of a stream."""

    def __init__(self, stream) -> None:
        self.stream = stream

    def batch(self, index: int, batch_size: int, size_px: int, part: int = 0) -> dict[str, Tensor]:
        return self.stream.batch(0, batch_size, size_px)


def test_training_overfits_a_small_batch(write_config, tmp_path: Path) -> None:
    shallow = "content.network={widths: [8, 8, 8, 8, 8], kernels: [3, 3, 3, 3, 3], key_channels: 4}"
    settings = [SIZE, shallow, "precision=bfloat16", "content.schedule.steps=30", "content.schedule.learning_rate=0.01"]
    config = load_config(write_config(), settings)
    stage = ContentStage(config)
    stage.stream = SameBatch(stage.stream)
    batch = to_float(stage.stream.batch(0, 4, 64), torch.device("cpu"))
    hidden = batch["amodal"] * (1 - batch["visible"])
    assert (hidden.sum((1, 2, 3)) > 0).all(), "stage 2 sees nobody of whom nothing is hidden"

    def losses() -> dict[str, float]:
        stage.network.train()
        with torch.no_grad():
            terms, person = stage.weighted_terms(batch, np.random.default_rng(0))
        assert torch.equal(person * (1 - hidden), batch["truth"] * batch["visible"])
        return {name: value.item() for name, value in terms.items()}

    before = losses()
    assert before.keys() == DEFAULT_LOSSES.keys()
    outcome = fit(stage, config, config.content, tmp_path / "run", quiet=True)
    after = losses()
    assert after["hidden_l1"] < 0.75 * before["hidden_l1"]
    network, metadata = build_network(outcome.best_weights)
    assert isinstance(network, ContentRecoveryNet) and network.config == stage.config
    assert metadata["network"] == "content_recovery"


def test_an_interrupted_run_ends_with_the_same_weights(write_config, interrupt, tmp_path: Path) -> None:
    """Though the stage draws at random which rims it drops and which labels it shows; the discriminator too."""
    config = load_config(write_config(), [SIZE, "content.losses={hidden_l1: 1.0, style: 30.0, adversarial: 0.02}"])
    content_stage.main(config, tmp_path / "straight", quiet=True)
    broken = ContentStage(config)
    interrupt(broken, 2)
    with pytest.raises(KeyboardInterrupt):
        fit(broken, config, config.content, tmp_path / "broken", quiet=True)
    torch.manual_seed(99)  # what else the process draws does not matter
    content_stage.main(config, tmp_path / "broken", quiet=True)
    first, second = (load_state(tmp_path / name / "last.pt") for name in ("straight", "broken"))
    assert second["step"] == 6
    for part in ("network", "ema", "discriminator"):
        assert all(torch.equal(value, second[part][key]) for key, value in first[part].items()), part


class Painter(nn.Module):
    """Returns the given contents, batch after batch."""

    def __init__(self, contents: list[Tensor]) -> None:
        super().__init__()
        self.here = nn.Parameter(torch.zeros(1))
        self.contents = iter(contents)

    def forward(self, *inputs: Tensor) -> Tensor:
        return next(self.contents)


def test_validation_scores_of_truth_and_flat_grey(write_config) -> None:
    stage = ContentStage(load_config(write_config(), [SIZE]))
    truths = [to_float(raw, torch.device("cpu"))["truth"] for raw in stage.validation]
    best = stage.validate(Painter(truths))
    assert best["l1"] == 0 and best["psnr"] == pytest.approx(80)
    assert best["gradient_ratio"] == pytest.approx(1) and best["score"] == 0
    off = stage.validate(Painter([t + 0.1 for t in truths]))
    assert off["l1"] == pytest.approx(25.5, abs=1e-3) and off["psnr"] == pytest.approx(20, abs=1e-3)
    fog = stage.validate(Painter([torch.full_like(t, 0.5) for t in truths]))
    assert fog["gradient_ratio"] < 0.01 and fog["score"] == -fog["l1"]


def test_validation_without_occluded_people_has_a_score(write_config) -> None:
    stage = ContentStage(load_config(write_config(), [SIZE]))
    stage.validation = [raw | {"visible": raw["amodal"]} for raw in stage.validation]
    assert stage.validate(stage.network.eval()) == {"score": 0.0}


def test_true_labels_sometimes_replace_predicted_parsing(write_config) -> None:
    stage = ContentStage(load_config(write_config(), [SIZE, "data.sources={ccp: 0.5, cutouts: 0.5}"]))
    batch = to_float(stage.stream.batch(0, 24, 64), torch.device("cpu"))
    labels = batch["parsing"][:, 2::4, 2::4]
    labelled = ((labels > 0) & (labels < 255)).flatten(1).any(1)
    assert labelled.any() and not labelled.all()
    guess, shown = stage._parsing(batch), stage._parsing(batch, np.random.default_rng(2))
    replaced = torch.tensor([not torch.equal(a, b) for a, b in zip(guess[1], shown[1], strict=True)])
    assert 0 < replaced.sum() < labelled.sum() and not (replaced & ~labelled).any()
    one = int(replaced.nonzero()[0])
    assert ((shown[1][one].argmax(0) == labels[one]) | (labels[one] == 255)).all()
    assert torch.equal(shown[1], stage._parsing(batch, np.random.default_rng(2))[1])


def test_stage_1_and_feature_network_stay_frozen(write_config) -> None:
    stage = ContentStage(load_config(write_config(), [SIZE]))
    assert not any(p.requires_grad for p in (*stage.parser.parameters(), *stage.criterion.features.parameters()))
    before = {k: v.clone() for k, v in stage.parser.state_dict().items()}
    stage.network.train()
    batch = to_float(stage.stream.batch(0, 2, 64), torch.device("cpu"))
    terms, _ = stage.weighted_terms(batch, np.random.default_rng(0))
    torch.stack(list(terms.values())).sum().backward()
    assert all(torch.equal(v, before[k]) for k, v in stage.parser.state_dict().items())
    assert not stage.parser.training and not stage.criterion.features.training


def test_perceptual_terms_can_use_vgg16(write_config, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    widths = ((0, 3, 64), (2, 64, 64), (5, 64, 128), (7, 128, 128), (10, 128, 256), (12, 256, 256), (14, 256, 256))
    state = {f"features.{n}.weight": torch.zeros(b, a, 3, 3) for n, a, b in widths}
    state |= {f"features.{n}.bias": torch.zeros(b) for n, _, b in widths}
    save_file(state, tmp_path / "vgg.safetensors", {"format": "pt"})
    path = write_config()
    stage = ContentStage(load_config(path, [SIZE, f"content.perceptual={tmp_path / 'vgg.safetensors'}"]))
    assert isinstance(stage.criterion.features, Vgg16Features)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("content.network.depth=3", "unknown key content.network.depth"),
        (
            "precision=bfloat16",
            "content.schedule.phases.0: every crop size must be above 64 px with precision bfloat16, got 32",
        ),
        ("content.losses.l2=1.0", "unknown key content.losses.l2: the terms are hidden_l1"),
        ("content.parsing_weights=null", "content.parsing_weights: name stage 1's .safetensors"),
    ],
)
def test_invalid_config_is_rejected(write_config, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        ContentStage(load_config(write_config(), [override]))


def test_missing_stage_1_weights_are_rejected(write_config, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=f"weights not found: looked for {tmp_path / 'none'}"):
        ContentStage(load_config(write_config(), [f"content.parsing_weights={tmp_path / 'none'}"]))


def test_perceptual_terms_can_use_imagenet_features(write_config) -> None:
    config = load_config(write_config(), [SIZE, "content.perceptual=imagenet"])
    features = ContentStage(config).criterion.features
    assert isinstance(features, ImageNetFeatures)
    truth = torch.rand(2, 3, 64, 64, requires_grad=True)
    found = features(truth)
    assert [f.shape[-1] for f in found] == [32, 16, 8, 4]
    for feature in found:
        torch.testing.assert_close(feature.norm(dim=1), torch.ones_like(feature[:, 0]), atol=1e-3, rtol=0)
    found[0].sum().backward()
    assert truth.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in features.parameters())


def test_missing_imagenet_weights_name_the_setting(write_config, monkeypatch) -> None:
    monkeypatch.setattr("deocclude.train.pretrained_backbone.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=re.escape("perceptual: imagenet needs the extra [train]")):
        ContentStage(load_config(write_config(), [SIZE, "content.perceptual=imagenet"]))
