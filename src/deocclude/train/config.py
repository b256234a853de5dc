"""The training configuration: one YAML file, checked before anything is read or computed."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator

from deocclude.checkpoints.history import digits_of
from deocclude.errors import ConfigError, UsageError

T = TypeVar("T")

CONFIG_FILE = "config.yaml"  # beside the weights: the whole config that they are trained with
# Keys that may change when a run is resumed. _FREE: they change results by rounding at most. _FREE_IN_STAGE: those of a
# stage that are read at the start only, or the number of steps. _FREE_IN_DATA: paths of the data section.
_FREE = ("device", "threads", "workers", "validate_every", "log_every", "tensorboard")
_FREE_IN_STAGE = ("init", "poses", "schedule.steps")
_FREE_IN_DATA = ("root", "built", "folder", "labelled", "occluders", "backgrounds")

if TYPE_CHECKING:
    from deocclude.data.sources.library import Places


class _Strict(BaseModel):
    """A frozen section of the config, in which unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DataSection(_Strict):
    """Sources of people, occluders and backgrounds, and settings of synthetic scenes and crops."""

    root: Path = Path("../shared/data")
    # sampling weight of each source; a source without weight is not read
    sources: dict[
        Literal[
            "ccp", "cutouts", "full", "upper", "built", "folder", "labelled", "voc", "coco", "pelota", "teachers",
            "small",
        ],
        Annotated[float, Field(ge=0)],
    ] = {"ccp": 0.42, "cutouts": 0.3, "full": 0.12, "upper": 0.16}  # fmt: skip
    built: str | None = None  # source `built`: output of `deocclude data build-trainset`, a path or a URL
    folder: Path | None = None  # source `folder`: photos in images/, amodal masks in masks/
    labelled: Path | None = None  # source `labelled`: output of `deocclude data label`
    occluders: Path | None = None  # RGBA images of objects; None: the data folder's, or made from the people's photos
    backgrounds: Path | None = None  # photos without people; None: as for occluders
    # longest side of a person in memory; None: 360, which is too few pixels for crops of 384 px and more
    person_max_px: int | None = Field(default=None, gt=0)
    synthesis: dict[str, Any] = {}  # fields of data.synthesis.config.SynthesisConfig
    crop: dict[str, Any] = {}  # fields of data.samples.person_samples.CropConfig
    crowds: dict[str, Any] = {}  # people detector: fields of data.synthesis.multi_person.CrowdConfig
    # people detector: fraction of photos of `real` among those that are not of `p_boxed`
    p_wild: float = Field(default=0.35, ge=0, le=1)
    p_boxed: float = Field(default=0.0, ge=0, le=1)  # NanoDet, MoveNet: fraction of coco_people's photos, boxes alone
    p_real: float = Field(default=0.0, ge=0, le=1)  # stage 1: fraction of people of `real`, with visible masks only
    real: dict[Literal["wild", "voc", "coco"], Annotated[float, Field(gt=0)]] = Field(
        default={"wild": 1.0}, min_length=1
    )  # sets of real photos of `p_real` and `p_wild`, with their relative frequency

    @property
    def max_px(self) -> int:
        """Longest side of a person in memory, in pixels. Raises ConfigError if set for the source `built`."""
        from deocclude.data.sources.layers import PERSON_MAX_PX

        if self.person_max_px is not None and self.sources.get("built"):
            raise ConfigError(
                "data.person_max_px has no effect on the source built: `data build-trainset` fixed its people's size"
            )
        return self.person_max_px or PERSON_MAX_PX

    @property
    def places(self) -> Places:
        """Paths of the sources outside the data folder."""
        # imported late: reading a config must stay fast
        from deocclude.data.sources.library import Places

        return Places(self.built, self.folder, self.occluders, self.backgrounds, self.labelled)


_SizePx = Annotated[int, Field(gt=0, multiple_of=32)]


class Phase(_Strict):
    """A part of the schedule at one crop size, or at several sizes in alternating steps."""

    until: float = Field(gt=0, le=1)  # fraction of all steps at which the phase ends
    size_px: _SizePx  # validation uses the last phase's
    other_sizes_px: tuple[_SizePx, ...] = ()
    batch_size: int = Field(gt=0)

    @property
    def sizes_px(self) -> tuple[int, ...]:
        """Every crop size of the phase, in the order of the steps."""
        return (self.size_px, *self.other_sizes_px)

    def size_at(self, step: int) -> int:
        """The crop size of a step of the run."""
        return self.sizes_px[step % len(self.sizes_px)]


class Schedule(_Strict):
    """Optimiser steps in phases. Learning rate: linear warm-up, then half a cosine down to min_lr_ratio of it."""

    steps: int = Field(gt=0)
    phases: tuple[Phase, ...] = (Phase(until=1.0, size_px=256, batch_size=16),)
    # micro batches per step, for a device with too little memory for the whole batch
    accumulate: int = Field(default=1, gt=0)
    learning_rate: float = Field(default=2e-3, gt=0)
    discriminator_lr_scale: float = Field(default=0.1, gt=0)  # multiplier of the learning rate
    # steps are relative to the size of the weights, for networks whose batch norms are folded into the convolutions
    relative_steps: bool = False
    warmup_steps: int = Field(default=300, ge=0)
    min_lr_ratio: float = Field(default=0.01, ge=0, le=1)
    weight_decay: float = Field(default=0.02, ge=0)
    clip_norm: float = Field(default=5.0, gt=0)
    ema_decay: float = Field(default=0.999, ge=0, lt=1)

    @model_validator(mode="after")
    def _check_phases(self) -> Schedule:
        ends = [p.until for p in self.phases]
        if ends != sorted(set(ends)) or ends[-1:] != [1.0]:
            raise ValueError(f"phases must end in rising order, the last at 1.0, got {ends}")
        for phase in self.phases:
            if phase.batch_size % self.accumulate:
                raise ValueError(
                    f"batch_size must be a multiple of accumulate {self.accumulate}, got {phase.batch_size}"
                )
        return self


class StageSection(_Strict):
    """One stage: network, losses, schedule and data."""

    # name of network and method in train/methods.py, of a detector in train/detector_methods.py; None: the first
    model: str | None = None
    preset: Literal["small", "base", "paper"] = "base"  # sizes of the network
    network: dict[str, Any] = {}  # fields of the network's config that override the preset
    losses: dict[str, float] = {}  # weight of each term of the criterion
    schedule: Schedule
    # weights: a path, or `sha256:PREFIX` for a file of the package or the cache (checkpoints/history.py)
    init: Path | None = None  # .safetensors to start from
    poses: Path | None = None  # stage 1: typical poses from `deocclude data poses`; None: computed at the start
    # stage 1's .safetensors: parser of stage 2, backbone of the people detector, encoder of the perceptual terms
    parsing_weights: Path | None = None
    # people detector, box segmenter: an ImageNet-pretrained backbone. Where weights of `init` replace it (always for
    # NanoDet and MoveNet), the next two settings apply to theirs
    pretrained_backbone: bool = False
    frozen_stages: int = Field(default=0, ge=0)  # pretrained_backbone: how many of its stages are frozen
    backbone_lr_scale: float = Field(default=1.0, gt=0, le=1)  # pretrained_backbone: for its other stages
    # encoder of the perceptual terms instead of stage 1's: VGG-16 .safetensors, or ImageNet's EfficientNet-Lite0
    perceptual: Literal["imagenet"] | Path | None = None
    # stage 1: fraction of boxes averaged with the network's own first prediction (iterative refinement)
    p_refinement_pass: float = Field(default=0.0, ge=0, le=1)
    # stage 1: fraction of boxes replaced by the masks of a box segmenter, before any refinement pass
    p_box_prompt: float = Field(default=0.0, ge=0, le=1)
    box_segmenter: Path | None = None  # .safetensors of that network (model: box)
    stage1: Path | None = None  # .safetensors of the stage 1 that predicts, or whose features a prompted head reads
    # stage 2: fraction of the batches with masks and parsing that stage 1 predicts, as at inference
    p_predicted: float = Field(default=0.0, ge=0, le=1)
    # stage 2: also train stage 1, on its own losses and on those of stage 2, whose gradients pass through the masks
    joint: bool = False
    stage1_losses: dict[str, float] = {}  # joint: weight of each term of stage 1's criterion
    stage1_lr_scale: float = Field(default=0.1, gt=0)  # joint: multiplier of the learning rate
    data: DataSection | None = None  # keys that override the common section

    @field_validator("init", "parsing_weights", "box_segmenter", "stage1", "perceptual")
    @classmethod
    def _check_digest(cls, weights: Path | str | None) -> Path | str | None:
        try:
            digits_of(weights or "")
        except UsageError as error:
            raise ValueError(str(error)) from error
        return weights

    @model_validator(mode="after")
    def _check_backbone(self) -> StageSection:
        if not self.pretrained_backbone and (self.frozen_stages or self.backbone_lr_scale != 1.0):
            raise ValueError("frozen_stages and backbone_lr_scale need pretrained_backbone: true")
        return self


class TrainConfig(_Strict):
    """The whole file. `mask` and `content` are the two stages, `people` the detector, `single` a one-stage baseline.

    `prompted` is the head of stage 1 for completion prompts.
    """

    seed: int = Field(default=0, ge=0)
    device: str = "auto"  # auto, cpu, cuda
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # auto: bfloat16 if the device supports it natively
    threads: int | None = Field(default=None, gt=0)  # CPU threads; None: all cores
    workers: int = Field(default=1, ge=0)  # processes that draw samples
    validate_every: int = Field(default=1000, gt=0)
    validation_samples: int = Field(default=96, gt=0)
    log_every: int = Field(default=50, gt=0)  # steps per line of log.jsonl, which holds mean losses
    tensorboard: bool = False  # also write the log and pictures of held-out people for TensorBoard
    data: DataSection = DataSection()
    mask: StageSection | None = None
    content: StageSection | None = None
    people: StageSection | None = None
    single: StageSection | None = None
    prompted: StageSection | None = None

    def data_of(self, section: StageSection) -> DataSection:
        """The data section of a stage: the common section, overridden by the stage's own keys."""
        own = section.data
        return self.data.model_copy(update={key: getattr(own, key) for key in own.model_fields_set} if own else {})


def read_yaml(path: Path, _extended_by: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read a YAML file and merge it key by key into the file that it `extends`. Raises ConfigError.

    Keys and model names of earlier versions are renamed, with a warning. _extended_by: the files read before, each of
    which extends the next.
    """
    if not path.is_file():
        extended = f" (extended by {_extended_by[-1]})" if _extended_by else ""
        raise ConfigError(f"config not found: looked for {path}{extended}")
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected a mapping at the top, got {type(raw).__name__}")
    raw = with_current_names(raw, str(path))
    base = raw.pop("extends", None)
    if base is None:
        return raw
    if not isinstance(base, str):
        raise ConfigError(f"{path}: extends must name a file, got {base!r}")
    chain = (*_extended_by, path.resolve())
    parent = path.parent / base
    if parent.resolve() in chain:
        raise ConfigError(f"{path}: circular extends by {parent}")
    return _merged(read_yaml(parent, chain), raw)


_log = logging.getLogger(__name__)
# Keys of earlier versions -> their names now. Old keys are dotted paths from the top of the file, `*` for any section;
# new ones are the last part alone.
_RENAMED_KEYS = {
    "base": "extends",
    **{
        f"*.{old}": new
        for old, new in {
            "features": "parsing_weights", "imagenet": "pretrained_backbone", "trunk_share": "backbone_lr_scale",
            "p_second_look": "p_refinement_pass", "p_box_mask": "p_box_prompt", "box_masks": "box_segmenter",
            "stage1_share": "stage1_lr_scale", "schedule.discriminator_share": "discriminator_lr_scale",
            "schedule.final_share": "min_lr_ratio",
        }.items()
    },
    **{
        f"{data}.{old}": new
        for data in ("data", "*.data")
        for old, new in {
            "crop.p_taken": "p_subtract_neighbor", "crop.box_spread": "box_jitter",
            "crop.box_lean": "box_jitter_bias", "crop.box_height_share": "box_jitter_height",
            "synthesis.p_nobody": "p_negative", "crowds.p_nobody": "p_negative",
        }.items()
    },
}  # fmt: skip
_RENAMED_MODELS = {"mask": "hourglass", "content": "pconv_attention"}  # new name of the model `ours` of each stage


def with_current_names(raw: dict[str, Any], where: str) -> dict[str, Any]:
    """Rename keys and model names of earlier versions in a config's plain values, with a warning for each.

    where: the file or option, for the warnings.
    """

    def renamed(values: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
        result = {}
        for key, value in values.items():
            name = str(key)  # YAML reads `on` as true, for one; the schema refuses such keys
            here, in_any_section = ".".join((*path, name)), ".".join(("*", *path[1:], name)) if path else name
            new = _RENAMED_KEYS.get(here) or _RENAMED_KEYS.get(in_any_section) or key
            if new != key:
                _log.warning("%s: %s is now called %s", where, here, new)
            result[new] = renamed(value, (*path, name)) if isinstance(value, dict) else value
        return result

    current = renamed(raw, ())
    for stage, name in _RENAMED_MODELS.items():
        section = current.get(stage)
        if isinstance(section, dict) and section.get("model") == "ours":
            _log.warning("%s: %s.model ours is now called %s", where, stage, name)
            current[stage] = section | {"model": name}
    return current


def _merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Merge `over` into `under`, key by key where both hold a mapping."""
    return under | {
        key: _merged(under[key], value) if isinstance(value, dict) and isinstance(under.get(key), dict) else value
        for key, value in over.items()
    }


def load_config(path: Path, overrides: list[str] | tuple[str, ...] = ()) -> TrainConfig:
    """Read and validate a config.

    Args:
        path: a YAML file. Its `extends: FILE`, relative to itself, names a file whose keys it overrides.
        overrides: `a.b=c` settings, applied last.

    Raises:
        ConfigError: names the file and the wrong key.
    """
    raw = read_yaml(path)
    for override in overrides:
        _apply_override(raw, override)
    raw = with_current_names(raw, f"{path} with --set")  # `read_yaml` renamed the file's own
    try:
        return TrainConfig.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{path}: {describe(error)}") from error


def plain_values(config: TrainConfig) -> dict[str, Any]:
    """The whole config as plain values, defaults included; the inverse of `TrainConfig.model_validate`."""
    values = config.model_dump(mode="json")
    for name, section in config:
        # a stage's data section holds overrides only: unset keys must stay unset
        if isinstance(section, StageSection) and section.data is not None:
            values[name]["data"] = section.data.model_dump(mode="json", exclude_unset=True)
    return values


def save_config(path: Path, config: TrainConfig) -> None:
    """Write the whole config as YAML for `load_config`; the file is replaced atomically."""
    part = path.with_name(path.name + ".tmp")
    part.write_text(yaml.safe_dump(plain_values(config), sort_keys=False, allow_unicode=True), encoding="utf-8")
    os.replace(part, path)


def check_resumable(path: Path, config: TrainConfig, stage: str) -> None:
    """Raise ConfigError with the first key of a stage that differs from the config in `path` and changes results."""
    before, now = (_relevant_values(c, stage) for c in (load_config(path), config))
    for key in {**before, **now}:
        if before.get(key) != now.get(key):
            was, got = (json.dumps(values.get(key)) for values in (before, now))
            raise ConfigError(
                f"{path}: this run was started with {key} {was}, not {got}: set it back to resume, or start anew with "
                "--overwrite"
            )


def _relevant_values(config: TrainConfig, stage: str) -> dict[str, Any]:
    """Every value that the results of a stage depend on, by its dotted key; unset values are left out."""
    values = plain_values(config)
    section = getattr(config, stage)
    common = {k: v for k, v in values.items() if k != "data" and not isinstance(getattr(config, k), StageSection)}
    own = {k: v for k, v in values[stage].items() if k != "data"} if section else {}
    data = config.data_of(section).model_dump(mode="json") if section else {}
    parts = (("", common, _FREE), (f"{stage}.", own, _FREE_IN_STAGE), ("data.", data, _FREE_IN_DATA))
    return {
        prefix + key: value
        for prefix, part, free in parts
        for key, value in _flatten(part)
        if key not in free and value is not None
    }


def _flatten(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of every value in nested sections."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def describe(error: ValidationError, where: str = "") -> str:
    """The first fault of a pydantic error in one line with its key; where: the section of the faulty value."""
    # a misspelt key comes with "field required" for the right one; name the misspelt one
    faults = sorted(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
    first = faults[0]
    key = ".".join(str(part) for part in ((where, *first["loc"]) if where else first["loc"]))
    if first["type"] == "extra_forbidden":
        return f"unknown key {key}"
    if first["type"] == "value_error":  # a check of this module; its message includes the value
        return f"{key}: {first['ctx']['error']}" if key else str(first["ctx"]["error"])
    return f"{key}: {first['msg'][0].lower()}{first['msg'][1:]}, got {first.get('input')!r}"


def with_fields(defaults: Any, values: dict[str, Any], key: str) -> Any:
    """A frozen dataclass of sizes or settings with fields from a config.

    Args:
        defaults: the dataclass with its default values.
        values: plain values by field; they are validated against the fields' types.
        key: of `values` in the config, for errors.

    Raises:
        ConfigError: an unknown field or an invalid value, named by its whole key.
    """
    cls = type(defaults)
    fields = cls.__dataclass_fields__
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise ConfigError(f"unknown key {key}.{unknown[0]}: {cls.__name__} has {', '.join(fields)}")
    try:
        return TypeAdapter(cls).validate_python({name: getattr(defaults, name) for name in fields} | values)
    except ValidationError as error:
        raise ConfigError(describe(error, key)) from error


def chosen_model(models: Mapping[str, T], model: str | None, key: str) -> T:
    """The model of that name, the first for None. Raises ConfigError with the available names; key: of the config."""
    if model is None:
        return next(iter(models.values()))
    if model not in models:
        raise ConfigError(f"{key}: choose from {', '.join(models)}, got {model!r}")
    return models[model]


def check_losses(losses: dict[str, float], terms: tuple[str, ...], where: str) -> dict[str, float]:
    """Return `losses`. Raises ConfigError for a name that is not among `terms`; where: key of the losses, for it."""
    unknown = sorted(set(losses) - set(terms))
    if unknown:
        raise ConfigError(f"unknown key {where}.{unknown[0]}: the terms are {', '.join(terms)}")
    return losses


def _apply_override(raw: dict, override: str) -> None:
    """Set the key of one `a.b=c` setting in a config's plain values, in place. Raises ConfigError."""
    key, sep, value = override.partition("=")
    if not sep or not key:
        raise ConfigError(f"--set expects a.b=c, got {override!r}")
    *path, last = key.split(".")
    section = raw
    for part in path:
        section = section.setdefault(part, {})
        if not isinstance(section, dict):
            raise ConfigError(f"--set {key}: {part} is a value, not a section")
    try:
        section[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {key}: {value!r} is not a YAML value") from error
