"""Configs: valid values are read with types, errors name the wrong key."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deocclude.checkpoints.files import load_weights
from deocclude.checkpoints.history import weights_table
from deocclude.data.samples.person_samples import CropConfig
from deocclude.data.sources.library import SourceWeights
from deocclude.data.synthesis.config import SynthesisConfig
from deocclude.data.synthesis.multi_person import CrowdConfig
from deocclude.errors import ConfigError
from deocclude.inference.runtime import BUNDLED_WEIGHTS
from deocclude.models.content_recovery import ContentRecoveryConfig
from deocclude.models.mask_completion import MaskCompletionConfig
from deocclude.train import content_stage, mask_stage
from deocclude.train.config import (
    Phase,
    Schedule,
    TrainConfig,
    check_losses,
    check_resumable,
    load_config,
    plain_values,
    save_config,
    with_fields,
)  # fmt: skip
from deocclude.train.content_losses import ContentCriterion
from deocclude.train.detector_methods import find_detector
from deocclude.train.mask_losses import MaskCriterion
from deocclude.train.methods import PROMPTED_METHODS
from repository import ROOT

CONFIGS = ROOT / "configs"
# ablations.yaml is a list of configs, checked in tests/ablation/test_run.py
FILES = [path for path in sorted(CONFIGS.rglob("*.yaml")) if path.name != "ablations.yaml"]
HISTORY = sorted((CONFIGS / "history").glob("*.yaml"))
# weights of runs that were never committed: named by where their config's result lies
UNCOMMITTED = {
    "content-08": "runs/content-07/best.safetensors",
    "mask-14": "runs/mask-13/best.safetensors",
    "mask-content-01": "runs/mask/best.safetensors",
    "people-02": "runs/people-01/best.safetensors",
}


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return path


def refused(path: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_every_config_key_is_valid(path: Path) -> None:
    config = load_config(path)
    stages = {
        "mask": (MaskCompletionConfig, MaskCriterion, mask_stage.DEFAULT_LOSSES),
        "content": (ContentRecoveryConfig, ContentCriterion, content_stage.DEFAULT_LOSSES),
        "people": (None, None, None),
    }
    assert any(getattr(config, name) is not None for name in (*stages, "prompted"))
    if config.prompted is not None:
        method = PROMPTED_METHODS["prompted_head"]
        with_fields(
            method.preset(config.prompted.preset, "prompted.preset"), config.prompted.network, "prompted.network"
        )
        assert method.check_losses(config.prompted.losses, "prompted.losses")
    for name, (network, criterion, losses) in stages.items():
        section = getattr(config, name)
        if section is None:
            continue
        if name == "people":
            detector = find_detector(section.model)
            sizes, criterion, losses = detector.config, detector.criterion, dict(detector.losses)
        else:
            sizes = getattr(network, section.preset)()
        with_fields(sizes, section.network, f"{name}.network")
        check_losses(section.losses or losses, criterion.TERMS, f"{name}.losses")
    sections = [section for name in (*stages, "prompted") if (section := getattr(config, name)) is not None]
    for section in sections:
        data = section.data or config.data
        with_fields(SourceWeights(), data.sources, "data.sources")
        with_fields(SynthesisConfig(), data.synthesis, "data.synthesis")
        with_fields(CropConfig(), data.crop, "data.crop")
        with_fields(CrowdConfig(), data.crowds, "data.crowds")


def test_configs_folder_has_eight_top_level_files() -> None:
    assert [path.stem for path in sorted(CONFIGS.glob("*.yaml"))] == [
        "ablations", "base", "box_segmenter", "joint", "paper", "people", "prompted_head", "tiny",
    ]  # fmt: skip


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_no_config_reads_weights_from_the_package(path: Path) -> None:
    """What lies there changes. A config of history names its weights by sha256, each known to `fetch-history`."""
    config = load_config(path)
    keys = ("init", "parsing_weights", "box_segmenter", "stage1", "perceptual")
    sections = [
        section for name in ("mask", "content", "people", "single", "prompted") if (section := getattr(config, name))
    ]
    named = {str(value) for section in sections for key in keys if (value := getattr(section, key)) is not None}
    digests = {name.removeprefix("sha256:") for name in named if name.startswith("sha256:")}
    assert all(any(sha.startswith(digest) for sha in weights_table()) for digest in digests)
    others = {name for name in named - {"imagenet"} if not name.startswith("sha256:")}
    assert not any("deocclude/weights" in name for name in others)
    if path in HISTORY:
        assert others <= {UNCOMMITTED.get(path.stem)}


@pytest.mark.parametrize(
    ("top", "last", "stage"),
    [("base", "mask-15", "mask"), ("base", "content-16", "content"),
     ("box_segmenter", "box_segmenter-03", "mask")],
)  # fmt: skip
def test_recipe_matches_the_last_run_of_the_shipped_weights(top: str, last: str, stage: str) -> None:
    """Network, losses and data; the schedule, and what it starts from, are a run's own."""
    one, ended = load_config(CONFIGS / f"{top}.yaml"), load_config(CONFIGS / "history" / f"{last}.yaml")
    own = {"schedule": None, "init": None, "box_segmenter": None, "parsing_weights": None, "data": None}
    section, shipped = getattr(one, stage), getattr(ended, stage)
    assert section.model_copy(update=own) == shipped.model_copy(update=own)
    assert one.data_of(section) == ended.data_of(shipped)
    assert section.schedule.phases[-1].sizes_px == shipped.schedule.phases[-1].sizes_px
    assert section.init is None, "from nothing, or from ImageNet's weights"


def test_recipe_of_the_detector_is_the_run_that_ships() -> None:
    run = TrainConfig.model_validate(
        load_weights(BUNDLED_WEIGHTS / "people_detector_base.safetensors")[1]["train_config"]
    )
    recipe = load_config(CONFIGS / "people.yaml")
    assert recipe.people is not None and run.people is not None
    assert recipe.people == run.people.model_copy(update={"init": None}) and recipe.seed == run.seed
    assert recipe.data == run.data.model_copy(update={"root": recipe.data.root})


def test_every_config_is_in_the_readme() -> None:
    readme = (CONFIGS / "README.md").read_text()
    assert [path.name for path in FILES if path.parent.name != "baselines" and f"`{path.name}`" not in readme] == []


def test_values_and_defaults(tmp_path: Path) -> None:
    text = """
seed: 4
mask:
  schedule:
    steps: 100
    phases:
      - {until: 0.5, size_px: 64, batch_size: 2}
      - {until: 1, size_px: 96, other_sizes_px: [64], batch_size: 1}
"""
    config = load_config(written(tmp_path, text))
    assert (config.seed, config.device, config.precision, config.content) == (4, "auto", "auto", None)
    assert config.mask.schedule.phases == (
        Phase(until=0.5, size_px=64, batch_size=2), Phase(until=1.0, size_px=96, other_sizes_px=(64,), batch_size=1),
    )  # fmt: skip
    assert config.mask.schedule.learning_rate == 2e-3


def test_config_extends_another_config(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "base.yaml").write_text("seed: 4\ndata: {root: a, p_wild: 0.1}\nmask: {schedule: {steps: 100}}")
    (tmp_path / "deep" / "middle.yaml").write_text("extends: ../base.yaml\nmask: {losses: {amodal_ce: 1.0}}")
    (tmp_path / "deep" / "top.yaml").write_text("extends: middle.yaml\nseed: 5\ndata: {root: b}")
    config = load_config(tmp_path / "deep" / "top.yaml", ["mask.schedule.steps=7"])
    assert (config.seed, config.data.root, config.data.p_wild) == (5, Path("b"), 0.1)
    assert (config.mask.schedule.steps, config.mask.losses) == (7, {"amodal_ce": 1.0})


def test_invalid_extends_is_rejected(tmp_path: Path) -> None:
    path = written(tmp_path, "extends: nowhere.yaml")
    assert refused(path) == f"config not found: looked for {tmp_path / 'nowhere.yaml'} (extended by {path})"
    assert refused(written(tmp_path, "extends: config.yaml")).startswith(f"{path}: circular extends by")
    assert refused(written(tmp_path, "extends: [a]")) == f"{path}: extends must name a file, got ['a']"


def test_overrides(tmp_path: Path) -> None:
    path = written(tmp_path, "mask: {schedule: {steps: 100}}")
    config = load_config(
        path, ["mask.schedule.steps=7", "data.sources.ccp=0.25", "mask.network.widths=[8, 8]", "seed=3"]
    )
    assert config.mask.schedule.steps == 7 and config.seed == 3
    assert config.data.sources == {"ccp": 0.25}
    assert config.mask.network == {"widths": [8, 8]}
    assert load_config(path, ["mask.init=null"]).mask.init is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sed: 1", "unknown key sed"),
        ("mask: {schedule: {steps: 5, lr: 0.1}}", "unknown key mask.schedule.lr"),
        ("mask: {schedul: {steps: 5}}", "unknown key mask.schedul"),
        ("mask: {network: {}}", "mask.schedule: field required"),
        ("mask: {schedule: {steps: many}}", "mask.schedule.steps: input should be a valid integer"),
        ("mask: {schedule: {steps: 0}}", "mask.schedule.steps: input should be greater than 0, got 0"),
        ("seed: -1", "seed: input should be greater than or equal to 0, got -1"),
        ("threads: 0", "threads: input should be greater than 0, got 0"),
        ("precision: float16", "precision: input should be 'auto', 'float32' or 'bfloat16', got 'float16'"),
        ("data: {sources: {cpp: 1.0}}", "data.sources.cpp"),
        ("data: {sources: {ccp: -1.0}}", "data.sources.ccp: input should be greater than or equal to 0"),
        (
            "mask: {schedule: {steps: 5, phases: [{until: 1, size_px: 50, batch_size: 1}]}}",
            "mask.schedule.phases.0.size_px: input should be a multiple of 32, got 50",
        ),
        ("mask: {schedule: {steps: 5, phases: [{until: 1.0, size_px: 64}]}}", "phases.0.batch_size: field required"),
        (
            "mask: {schedule: {steps: 5, accumulate: 3}}",
            "mask.schedule: batch_size must be a multiple of accumulate 3, got 16",
        ),
        ("mask: {schedule: {steps: 5, accumulate: 0}}", "mask.schedule.accumulate: input should be greater than 0"),
        ("content: {schedule: {steps: 5}, p_predicted: 1.5}", "content.p_predicted: input should be less than"),
        ("on: true", "keys should be strings, got True"),
        ("mask: {schedule: {steps: 5}, losses: {1: 0.5}}", "mask.losses.1"),
        ("- 1", "expected a mapping at the top, got list"),
        ("a: [1, ", "not valid YAML"),
    ],
)  # fmt: skip
def test_invalid_config_error_names_the_key(tmp_path: Path, text: str, message: str) -> None:
    said = refused(written(tmp_path, text))
    assert message in said and str(tmp_path / "config.yaml") in said
    assert "\n" not in said


@pytest.mark.parametrize("ends", [[0.5, 0.3, 1.0], [0.5], [0.5, 0.5, 1.0], []])
def test_phases_must_increase_up_to_one(tmp_path: Path, ends: list[float]) -> None:
    phases = ", ".join(f"{{until: {e}, size_px: 32, batch_size: 1}}" for e in ends)
    said = refused(written(tmp_path, f"mask: {{schedule: {{steps: 5, phases: [{phases}]}}}}"))
    assert "mask.schedule" in said and f"phases must end in rising order, the last at 1.0, got {ends}" in said


def test_unreadable_config_is_rejected(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.yaml") == f"config not found: looked for {tmp_path / 'none.yaml'}"
    (tmp_path / "picture.yaml").write_bytes(b"\xff\xd8\xff\xe0")
    assert "not valid YAML" in refused(tmp_path / "picture.yaml")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "--set expects a.b=c, got 'seed'"),
        ("=3", "--set expects a.b=c, got '=3'"),
        ("seed.deep=3", "--set seed.deep: seed is a value, not a section"),
        ("mask.schedule.stepz=3", "unknown key mask.schedule.stepz"),
        ("mask.network.widths=[8", "--set mask.network.widths: '[8' is not a YAML value"),
    ],
)
def test_invalid_overrides_are_rejected(tmp_path: Path, override: str, message: str) -> None:
    assert message in refused(written(tmp_path, "{seed: 1, mask: {schedule: {steps: 5}}}"), override)


def test_dataclass_fields_are_validated() -> None:
    config = with_fields(MaskCompletionConfig.base(), {"widths": [8, 16], "pose_guidance": False}, "mask.network")
    assert config.widths == (8, 16) and not config.pose_guidance
    assert config.stem_width == MaskCompletionConfig.base().stem_width
    for values, message in (
        ({"width": 8}, "unknown key mask.network.width: MaskCompletionConfig has stem_width, widths"),
        ({"widths": 8}, "mask.network.widths: input should be a valid tuple, got 8"),
        ({"blocks": "two"}, "mask.network.blocks: input should be a valid integer"),
    ):
        with pytest.raises(ConfigError, match=re.escape(message)):
            with_fields(MaskCompletionConfig.base(), values, "mask.network")
    with pytest.raises(ConfigError, match=re.escape("data.crop.wide_scale.1: field required")):
        with_fields(CropConfig(), {"wide_scale": [1.5]}, "data.crop")


def test_loss_terms_are_checked() -> None:
    assert check_losses({"amodal_ce": 1.0}, MaskCriterion.TERMS, "mask.losses") == {"amodal_ce": 1.0}
    with pytest.raises(ConfigError, match=r"unknown key mask\.losses\.amodal: the terms are visible_ce, "):
        check_losses({"amodal": 1.0}, MaskCriterion.TERMS, "mask.losses")


def test_default_schedule_has_one_phase() -> None:
    assert Schedule(steps=5).phases == (Phase(until=1.0, size_px=256, batch_size=16),)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_data_root_applies_to_every_stage(path: Path) -> None:
    config = load_config(path, ["data.root=/my/data"])
    sections = [
        section for section in (config.mask, config.content, config.people, config.prompted) if section is not None
    ]
    assert {config.data_of(section).root for section in sections} == {Path("/my/data")}


def test_stage_data_overrides_only_the_named_keys(tmp_path: Path) -> None:
    text = """
data: {root: /a, sources: {ccp: 1.0}, crop: {p_box: 0.5}}
mask: {schedule: {steps: 1}}
content: {schedule: {steps: 1}, data: {sources: {full: 1.0}}}
"""
    config = load_config(written(tmp_path, text))
    assert config.data_of(config.mask) == config.data
    content = config.data_of(config.content)
    assert (content.root, content.sources, content.crop) == (Path("/a"), {"full": 1.0}, {"p_box": 0.5})


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_saved_config_round_trip(path: Path, tmp_path: Path) -> None:
    """Also for a stage whose own data section names only some keys."""
    config = load_config(path)
    save_config(tmp_path / "config.yaml", config)
    again = load_config(tmp_path / "config.yaml")
    assert again == config and plain_values(again) == plain_values(config)
    for name in ("mask", "content", "people"):
        section = getattr(config, name)
        if section is not None:
            assert again.data_of(getattr(again, name)) == config.data_of(section)
            check_resumable(tmp_path / "config.yaml", config, name)


def test_saved_config_contains_defaults(tmp_path: Path) -> None:
    save_config(tmp_path / "saved.yaml", load_config(written(tmp_path, "mask: {schedule: {steps: 5}}")))
    text = (tmp_path / "saved.yaml").read_text()
    assert "learning_rate: 0.002" in text and "accumulate: 1" in text and "ema_decay: 0.999" in text


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("mask.schedule.accumulate=2", "mask.schedule.accumulate 1, not 2"),
        ("mask.schedule.phases=[{until: 1, size_px: 64, batch_size: 4}]", "mask.schedule.phases"),
        ("mask.data.sources={ccp: 0.5}", "data.sources.ccp 1.0, not 0.5"),
        ("mask.network.stem_width=8", "mask.network.stem_width null, not 8"),
        ("validation_samples=7", "validation_samples 96, not 7"),
    ],
)
def test_resume_rejects_settings_that_change_results(tmp_path: Path, override: str, says: str) -> None:
    text = "{data: {sources: {ccp: 1.0}}, mask: {schedule: {steps: 5}}, content: {schedule: {steps: 5}}}"
    path = written(tmp_path, text)
    with pytest.raises(ConfigError, match=re.escape(f"{path}: this run was started with {says}")) as caught:
        check_resumable(path, load_config(path, [override]), "mask")
    assert str(caught.value).endswith("set it back to resume, or start anew with --overwrite")
    if override.startswith("mask"):
        check_resumable(path, load_config(path, [override]), "content")


@pytest.mark.parametrize(
    "override",
    ["device=cuda", "workers=3", "tensorboard=true", "log_every=7", "validate_every=9", "data.root=/moved",
     "mask.schedule.steps=9", "mask.init=null", "content.schedule.learning_rate=0.1", "people=null"],
)  # fmt: skip
def test_resume_accepts_settings_that_do_not_change_results(tmp_path: Path, override: str) -> None:
    stages = ", ".join(
        f"{name}: {{schedule: {{steps: 5}}, init: a.safetensors}}" for name in ("mask", "content", "people")
    )
    path = written(tmp_path, f"{{{stages}}}")
    check_resumable(path, load_config(path, [override]), "mask")


def test_renamed_keys_are_accepted_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "first.yaml").write_text(
        "data: {crop: {p_taken: 0.1}, synthesis: {p_nobody: 0.2}}\n"
        "mask: {model: ours, p_second_look: 0.5, data: {crop: {box_lean: 0.3}},\n"
        "       schedule: {steps: 1, final_share: 0.1}}\n"
        "people: {imagenet: true, trunk_share: 0.3, schedule: {steps: 1, discriminator_share: 0.2}}\n"
    )
    (tmp_path / "next.yaml").write_text("base: first.yaml\ncontent: {model: ours, schedule: {steps: 1}}\n")
    config = load_config(tmp_path / "next.yaml", ["mask.p_box_mask=0.25", "content.features=stage1.safetensors"])
    assert config.mask and config.people and config.content
    assert (config.mask.model, config.content.model) == ("hourglass", "pconv_attention")
    assert (config.mask.p_refinement_pass, config.mask.p_box_prompt, config.mask.schedule.min_lr_ratio) == (
        0.5,
        0.25,
        0.1,
    )
    assert config.people.pretrained_backbone and config.people.backbone_lr_scale == 0.3
    assert config.people.schedule.discriminator_lr_scale == 0.2
    assert config.data.crop == {"p_subtract_neighbor": 0.1} and config.data.synthesis == {"p_negative": 0.2}
    assert config.mask.data and config.mask.data.crop == {"box_jitter_bias": 0.3}
    assert config.content.parsing_weights == Path("stage1.safetensors")
    warned = caplog.text
    assert "mask.p_second_look is now called p_refinement_pass" in warned and "mask.model ours is now called" in warned
    assert len(caplog.records) == 13


def test_current_keys_give_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "config.yaml").write_text("mask: {model: hourglass, schedule: {steps: 1, min_lr_ratio: 0.1}}\n")
    load_config(tmp_path / "config.yaml")
    assert not caplog.records
