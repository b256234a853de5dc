"""The training configuration: one YAML file, checked before anything is read or computed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from deocclude.errors import ConfigError

if TYPE_CHECKING:
    from deocclude.data.library import Places


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataSection(_Strict):
    """Where people, occluders and backgrounds come from, and how scenes and crops are drawn from them."""

    root: Path = Path("../shared/data")
    # share of each source; one that is not named is not read
    sources: dict[
        Literal["ccp", "cutouts", "full", "upper", "built", "folder"], Annotated[float, Field(ge=0)]
    ] = {"ccp": 0.42, "cutouts": 0.3, "full": 0.12, "upper": 0.16}  # fmt: skip
    built: str | None = None  # source `built`: a set that `deocclude data build` wrote, a path or a URL
    folder: Path | None = None  # source `folder`: photos in images/, masks of whole people in masks/
    occluders: Path | None = None  # RGBA pictures of things; none: the data folder's, or made from the people's photos
    backgrounds: Path | None = None  # photos without people; none: as for occluders
    synthesis: dict[str, Any] = {}  # fields of data.synthesis.SynthesisConfig
    crop: dict[str, Any] = {}  # fields of data.dataset.CropConfig
    crowds: dict[str, Any] = {}  # people detector: fields of data.crowds.CrowdConfig
    p_wild: float = Field(default=0.35, ge=0, le=1)  # people detector: share of real photos; 0: `wild` is not read

    @property
    def places(self) -> Places:
        """Where the sources with a path of their own lie."""
        # a config is read before anything heavy is imported
        from deocclude.data.library import Places

        return Places(self.built, self.folder, self.occluders, self.backgrounds)


class Phase(_Strict):
    """A part of the schedule at one crop size."""

    until: float = Field(gt=0, le=1)  # share of all steps at which the phase ends
    size_px: int = Field(gt=0, multiple_of=32)
    batch_size: int = Field(gt=0)


class Schedule(_Strict):
    """steps optimiser steps in phases; learning rate: linear warm-up, then half a cosine down to final_share."""

    steps: int = Field(gt=0)
    phases: tuple[Phase, ...] = (Phase(until=1.0, size_px=256, batch_size=16),)
    learning_rate: float = Field(default=2e-3, gt=0)
    discriminator_share: float = Field(default=0.1, gt=0)  # of the learning rate, the parent project's 0.1
    warmup_steps: int = Field(default=300, ge=0)
    final_share: float = Field(default=0.01, ge=0, le=1)
    weight_decay: float = Field(default=0.02, ge=0)
    clip_norm: float = Field(default=5.0, gt=0)
    ema_decay: float = Field(default=0.999, ge=0, lt=1)

    @model_validator(mode="after")
    def _phases_in_order(self) -> Schedule:
        ends = [p.until for p in self.phases]
        if ends != sorted(set(ends)) or ends[-1:] != [1.0]:
            raise ValueError(f"phases must end in rising order, the last at 1.0, got {ends}")
        return self


class StageSection(_Strict):
    """One stage: its network, its losses, its schedule."""

    preset: Literal["base", "paper"] = "base"  # sizes of the network
    network: dict[str, Any] = {}  # fields of the network's config that differ from the preset
    losses: dict[str, float] = {}  # weight of each term of the criterion
    schedule: Schedule
    init: Path | None = None  # .safetensors to start from
    poses: Path | None = None  # stage 1: typical poses from `deocclude data poses`; none: computed at the start
    # stage 1's .safetensors: parser of stage 2, trunk of the people detector, encoder behind the perceptual terms
    features: Path | None = None
    perceptual: Path | None = None  # VGG-16 .safetensors for the perceptual terms instead of our own encoder
    data: DataSection | None = None  # what differs from the common one; what it does not name is as there


class TrainConfig(_Strict):
    """The whole file. `mask` and `content` are the two stages, `people` is the detector."""

    seed: int = Field(default=0, ge=0)
    device: str = "auto"  # auto, cpu, cuda
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # auto: bfloat16 where the device computes in it
    threads: int | None = Field(default=None, gt=0)  # CPU threads; none: all cores
    workers: int = Field(default=1, ge=0)  # processes that draw samples
    validate_every: int = Field(default=1000, gt=0)
    validation_samples: int = Field(default=96, gt=0)
    data: DataSection = DataSection()
    mask: StageSection | None = None
    content: StageSection | None = None
    people: StageSection | None = None

    def data_of(self, section: StageSection) -> DataSection:
        """The data of a stage: the common section, with what the stage's own names in its place."""
        own = section.data
        return self.data.model_copy(update={key: getattr(own, key) for key in own.model_fields_set} if own else {})


def load_config(path: Path, overrides: list[str] | tuple[str, ...] = ()) -> TrainConfig:
    """Read a YAML file, apply `a.b=c` overrides, check everything.

    Raises ConfigError naming the file and the key that is wrong.
    """
    if not path.is_file():
        raise ConfigError(f"config not found: looked for {path}")
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected a mapping at the top, got {type(raw).__name__}")
    for override in overrides:
        _apply(raw, override)
    try:
        return TrainConfig.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{path}: {describe(error)}") from error


def describe(error: ValidationError) -> str:
    """The first fault of a pydantic error as one line that names the key."""
    # a misspelt key comes with "field required" for the right one; the misspelt one is what to name
    faults = sorted(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
    first = faults[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"unknown key {key}"
    return f"{key}: {first['msg'][0].lower()}{first['msg'][1:]}, got {first.get('input')!r}"


def build(base: Any, values: dict[str, Any], where: str) -> Any:
    """A frozen config dataclass with some fields replaced by plain values; ConfigError names the key that is wrong."""
    cls = type(base)
    fields = cls.__dataclass_fields__
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise ConfigError(f"unknown key {where}.{unknown[0]}: {cls.__name__} has {', '.join(fields)}")
    try:
        return TypeAdapter(cls).validate_python({name: getattr(base, name) for name in fields} | values)
    except ValidationError as error:
        raise ConfigError(f"{where}.{describe(error)}") from error


def check_losses(losses: dict[str, float], terms: tuple[str, ...], where: str) -> dict[str, float]:
    """`losses` as they are; ConfigError names one that is no term of the criterion."""
    unknown = sorted(set(losses) - set(terms))
    if unknown:
        raise ConfigError(f"unknown key {where}.{unknown[0]}: the terms are {', '.join(terms)}")
    return losses


def _apply(raw: dict, override: str) -> None:
    key, sep, value = override.partition("=")
    if not sep or not key:
        raise ConfigError(f"--set expects a.b=c, got {override!r}")
    *path, last = key.split(".")
    at = raw
    for part in path:
        at = at.setdefault(part, {})
        if not isinstance(at, dict):
            raise ConfigError(f"--set {key}: {part} is a value, not a section")
    try:
        at[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {key}: {value!r} is not a YAML value") from error
