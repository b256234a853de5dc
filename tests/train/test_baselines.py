"""Every baseline is trained by the command that trains ours, from its config to weights that open again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from deocclude.checkpoints.files import load_state, rebuild
from deocclude.errors import ConfigError
from deocclude.models.network_kinds import PERSON_NETWORK_KINDS
from deocclude.train import content_stage, mask_stage, single_stage
from deocclude.train.config import load_config, with_fields
from deocclude.train.content_stage import ContentStage
from deocclude.train.engine import fit, to_float
from deocclude.train.mask_stage import MaskStage
from deocclude.train.methods import STAGES, find_method
from deocclude.train.single_stage import SingleStage
from repository import ROOT

CONFIGS = sorted((ROOT / "configs" / "baselines").glob("*.yaml"))
MAINS = {"mask": mask_stage.main, "content": content_stage.main, "single": single_stage.main}
TINY = {
    ("mask", "unet"): "{widths: [4, 8]}", ("mask", "pcnet_m"): "{widths: [4, 8]}",
    ("mask", "pix2pix"): "{widths: [4, 8, 8]}", ("mask", "vae"): "{widths: [4, 8, 8], latent: 6}",
    ("content", "pconv_unet"): "{widths: [4, 8, 8], kernels: [3, 3, 3]}",
    ("content", "pcnet_c"): "{widths: [4, 8, 8], kernels: [3, 3, 3]}", ("content", "pix2pix"): "{widths: [4, 8, 8]}",
    ("content", "gated"): "{width: 4, dilations: [2]}", ("single", "one"): "{widths: [4, 8]}",
    ("single", "segan"): "{widths: [4, 8], reduced: 2, mask_cells: 16, painter: [4, 8, 8]}",
}  # fmt: skip


def settings(stage: str, model: str, steps: int = 2, rate: float = 0.003) -> list[str]:
    own = [f"{stage}.model={model}", f"{stage}.network={TINY[stage, model]}", f"{stage}.preset=small", "mask.init=null"]
    schedule = f"{{steps: {steps}, phases: [{{until: 1.0, size_px: 32, batch_size: 4}}], warmup_steps: 1"
    return [*own, f"{stage}.schedule={schedule}, learning_rate: {rate}}}"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_baseline_configs_share_data_and_schedule_of_the_first_run(path: Path) -> None:
    config, first = load_config(path), load_config(path.parents[1] / "history" / "mask-content-01.yaml")
    named = [stage for stage in STAGES if (section := getattr(config, stage)) and section.model]
    assert named or path.stem == "one-stage"
    assert config.data == first.data and config.seed == first.seed
    for stage in ("mask", "content"):
        assert getattr(config, stage).schedule == getattr(first, stage).schedule
    if config.single:
        assert config.single.schedule == first.mask.schedule
    for stage in named:
        section = getattr(config, stage)
        method = find_method(stage, section.model)
        with_fields(method.preset(section.preset, stage), section.network, stage)
        method.check_losses(section.losses, stage)


def test_every_baseline_has_a_config() -> None:
    configs = [load_config(path) for path in CONFIGS]
    told = {(stage, s.model or "one") for c in configs for stage in STAGES if (s := getattr(c, stage)) is not None}
    assert TINY.keys() <= told


@pytest.mark.parametrize(("stage", "model"), TINY, ids=["-".join(key) for key in TINY])
def test_baseline_trains_and_its_weights_load(write_config, tmp_path: Path, stage: str, model: str) -> None:
    config = load_config(write_config(), settings(stage, model) + ([f"single.parsing_weights={_features(write_config)}"]
                         if stage == "single" else []))  # fmt: skip
    outcome = MAINS[stage](config, tmp_path / "run", quiet=True)
    assert np.isfinite(outcome.best_score)
    network, metadata = rebuild(outcome.best_weights, PERSON_NETWORK_KINDS)
    assert metadata["network"] == find_method(stage, model).kind and metadata["step"] == 2
    assert network.config == type(network.config)(**{
        k: tuple(v) if isinstance(v, list) else v for k, v in metadata["config"].items()
    })  # fmt: skip


def _features(write_config) -> str:
    return load_config(write_config()).content.parsing_weights


class SameBatch:
    """Always the first batch of a stream."""

    def __init__(self, stream) -> None:
        self.stream = stream

    def batch(self, index: int, batch_size: int, size_px: int, part: int = 0) -> dict[str, Tensor]:
        return self.stream.batch(0, batch_size, size_px)


@pytest.mark.parametrize(
    ("kind", "stage", "model", "term"),
    [
        (MaskStage, "mask", "vae", "whole_ce"),
        (ContentStage, "content", "pconv_unet", "hidden_l1"),
        (SingleStage, "single", "one", "amodal_ce"),
    ],
)
def test_training_overfits_a_small_batch(write_config, tmp_path: Path, kind, stage: str, model: str, term: str) -> None:
    config = load_config(write_config(), settings(stage, model, steps=30, rate=0.02))
    training = kind(config)
    training.stream = SameBatch(training.stream)
    batch = to_float(training.stream.batch(0, 4, 32), torch.device("cpu"))

    def value() -> float:
        training.network.train()
        with torch.no_grad():
            return training.weighted_terms(batch, np.random.default_rng(0))[0][term].item()

    before = value()
    fit(training, config, getattr(config, stage), tmp_path / "run", quiet=True)
    assert value() < 0.7 * before


def test_method_randomness_is_identical_after_resuming(write_config, tmp_path: Path) -> None:
    """PCNet-M draws erasers, the VAE noise: by the step's own generator."""
    for model in ("pcnet_m", "vae"):
        whole = load_config(write_config(), settings("mask", model, steps=4))
        mask_stage.main(whole, tmp_path / model / "whole", quiet=True)
        broken = MaskStage(whole)
        terms_of, count = broken.weighted_terms, iter(range(9))

        def interrupted(batch, rng, terms_of=terms_of, count=count):
            if next(count) == 2:
                raise KeyboardInterrupt
            return terms_of(batch, rng)

        broken.weighted_terms = interrupted
        with pytest.raises(KeyboardInterrupt):
            fit(broken, whole, whole.mask, tmp_path / model / "broken", quiet=True)
        mask_stage.main(whole, tmp_path / model / "broken", quiet=True)
        one, two = (load_state(tmp_path / model / name / "last.pt") for name in ("whole", "broken"))
        assert all(torch.equal(value, two["network"][key]) for key, value in one["network"].items()), model


def test_only_baselines_with_parsing_input_need_stage_1(write_config) -> None:
    plain = [*settings("content", "pix2pix"), "content.parsing_weights=null"]
    assert ContentStage(load_config(write_config(), plain)).parser is None
    named = r"content\.parsing_weights: name stage 1's \.safetensors for perceptual, style"
    with pytest.raises(ConfigError, match=named):
        ContentStage(load_config(write_config(), [*settings("content", "pconv_unet"), "content.parsing_weights=null"]))
    with pytest.raises(ConfigError, match=r"single\.parsing_weights: name stage 1's \.safetensors for style"):
        SingleStage(load_config(write_config(), [*settings("single", "one"), "single.losses={style: 1.0}"]))


def test_unsupported_loss_terms_are_rejected(write_config) -> None:
    wrong = [*settings("mask", "vae"), "mask.losses={visible_ce: 1.0}"]
    with pytest.raises(ConfigError, match=r"unknown key mask\.losses\.visible_ce: the terms are .* with ShapeVae"):
        MaskStage(load_config(write_config(), wrong))
