"""Ablation studies: train and measure ablations and baselines with the same data, seed and number of steps.

A YAML file names a config, settings of all rows, and the rows of each stage with their own settings. A row is trained
unless that is done, and measured on one evaluation set; the table is rewritten after each row. Rows with the same
training config share the training, so that a switch of inference needs no second one.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deocclude.ablation.table import summarise_rows, to_markdown
from deocclude.checkpoints.files import rebuild
from deocclude.data.evalsets.folder import SET_FILE
from deocclude.data.evalsets.persons import EvalSet
from deocclude.data.samples.typical_poses import write_poses
from deocclude.errors import ConfigError, DeoccludeError, InputError, UsageError
from deocclude.evaluation import evaluate, summarise
from deocclude.evaluation.torch_predictor import open_trained
from deocclude.io.files import save_text
from deocclude.models.blocks import count_parameters
from deocclude.models.network_kinds import PERSON_NETWORK_KINDS
from deocclude.train.config import StageSection, TrainConfig, describe, load_config, read_yaml, with_fields
from deocclude.train.content_stage import ContentStage
from deocclude.train.engine import STATE_FILE, WEIGHTS_FILE, choose_device, fit
from deocclude.train.mask_stage import MaskStage, draw_poses
from deocclude.train.methods import STAGES, Method, find_method
from deocclude.train.single_stage import SingleStage

_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")  # of a variant
# What trains a variant, by the stage that it changes.
_STAGES = {"mask": MaskStage, "content": ContentStage, "single": SingleStage}
_TIGHT_CROP = "tight_crop"  # the only key of a row that is not a key of the training config
# config keys left out of a row's fingerprint: where it runs, and sections of stages; the row's own section counts
_NOT_IN_FINGERPRINT = {"device", "threads", "workers", *STAGES, "people", "prompted"}

Rows = dict[str, dict[str, Any]]


class _AnotherRunError(UsageError):
    """A folder holds the training of another config. The whole call stops, so that nothing is overwritten."""


class AblationFile(BaseModel):
    """The YAML file. Keys of `set` and of rows are those of `--set`: `mask.network.templates: 16`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    config: Path  # the common training config, relative to the file
    # evaluation set to measure on, as `deocclude data build-evalset` makes it; relative to the working directory
    data: Path | None = None
    limit: int | None = Field(default=None, gt=0)  # at most this many of its pictures
    initial: tuple[Literal["exact", "degraded", "box"], ...] = ("exact", "box")
    set: dict[str, Any] = Field(default_factory=dict)  # for all rows
    mask: Rows = Field(default_factory=dict)
    content: Rows = Field(default_factory=dict)
    single: Rows = Field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        name: of the row and its folder.
        stage: mask, content or single.
        changes: the row's own settings.
        config: the whole training config.
        method: of the stage.
        tight_crop: see `MaskCompletion`.
        fingerprint: hash of the training config.
    """

    name: str
    stage: str
    changes: Mapping[str, Any]
    config: TrainConfig
    method: Method
    tight_crop: bool
    fingerprint: str

    @property
    def section(self) -> StageSection:
        """The stage's section of the config."""
        return getattr(self.config, self.stage)

    @property
    def size_px(self) -> int:
        """Side of the crops when measured: that of the last training phase."""
        return self.section.schedule.phases[-1].size_px


@dataclass(frozen=True)
class Ablation:
    """Validated rows, and the evaluation set to measure on."""

    path: Path
    rows: tuple[Row, ...]
    data: Path
    limit: int | None
    initial: tuple[str, ...]

    @classmethod
    def read(cls, path: Path, settings: Sequence[str] = (), data: Path | None = None) -> Ablation:
        """Read the file.

        Args:
            path: the YAML file.
            settings: `a.b=c`, applied last to every row.
            data: evaluation set, instead of the file's.

        Raises:
            ConfigError: names the file, the row and the wrong key.
        """
        try:
            listed = AblationFile.model_validate(read_yaml(path))
        except ValidationError as error:
            raise ConfigError(f"{path}: {describe(error)}") from error
        rows = []
        for stage in STAGES:
            for name, changes in getattr(listed, stage).items():
                if not _NAME.fullmatch(name) or name in {row.name for row in rows}:
                    raise ConfigError(f"{path}: {stage}.{name}: names must be unique, of a-z, 0-9 and -")
                try:
                    rows.append(_read_row(name, stage, path.parent / listed.config, listed.set, changes, settings))
                except ConfigError as error:
                    raise ConfigError(f"{path}: {stage}.{name}: {error}") from error
        if not rows:
            raise ConfigError(f"{path}: no rows: name some under {', '.join(STAGES)}")
        if (data or listed.data) is None:
            raise ConfigError(f"{path}: data: name an evaluation set to measure on, here or with --data")
        return cls(path, tuple(rows), data or listed.data, listed.limit, listed.initial)

    @cached_property
    def set_digest(self) -> str:
        """SHA-256 of the list of the evaluation set, to detect a rebuilt set."""
        return hashlib.sha256((self.data / SET_FILE).read_bytes()).hexdigest()

    def pick(self, names: Sequence[str]) -> tuple[Row, ...]:
        """The rows of these names, all rows for no names. Raises UsageError for an unknown name."""
        known = {row.name for row in self.rows}
        for name in names:
            if name not in known:
                raise UsageError(f"--only {name}: {self.path} has {', '.join(row.name for row in self.rows)}")
        return tuple(row for row in self.rows if not names or row.name in names)

    def trains_in(self, row: Row) -> str:
        """Name of the first row with the same training; its folder holds the training."""
        return next(one.name for one in self.rows if one.fingerprint == row.fingerprint)


def _read_row(
    name: str, stage: str, config_path: Path, common: Mapping[str, Any], changes: Mapping[str, Any],
    settings: Sequence[str],
) -> Row:  # fmt: skip
    """A validated row. Raises ConfigError.

    common: settings of all rows; changes: the row's own, which override them; settings: `a.b=c`, applied last.
    """
    training_changes = {key: value for key, value in changes.items() if key != _TIGHT_CROP}
    tight_crop = changes.get(_TIGHT_CROP, True)
    if not isinstance(tight_crop, bool):
        raise ConfigError(f"{_TIGHT_CROP}: true or false, got {tight_crop!r}")
    overrides = [f"{key}={json.dumps(value)}" for key, value in (*common.items(), *training_changes.items())]
    config = load_config(config_path, [*overrides, *settings])
    section = getattr(config, stage)
    if section is None:
        raise ConfigError(f"{config_path} has no section {stage}")
    method = find_method(stage, section.model)
    with_fields(method.preset(section.preset, f"{stage}.preset"), section.network, f"{stage}.network")
    method.check_losses(section.losses, f"{stage}.losses")
    if stage == "content" and section.parsing_weights is None:
        raise ConfigError("content.parsing_weights: name stage 1's .safetensors, for masks and parts when measured")
    fingerprinted = config.model_dump(mode="json", exclude=_NOT_IN_FINGERPRINT - {stage})
    fingerprinted["data"].pop("root")
    digest = hashlib.sha256(json.dumps(fingerprinted, sort_keys=True).encode()).hexdigest()
    return Row(name, stage, changes, config, method, tight_crop, digest)


def run(
    ablation: Ablation, out: Path, *, only: Sequence[str] = (), overwrite: bool = False, quiet: bool = True,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:  # fmt: skip
    """Train and measure the rows that are not done; write ablation.json and ablation.md after each.

    A failed row is entered with its error, and the others go on. An interrupted call resumes when repeated.

    Args:
        ablation: the rows.
        out: folder of the table, with a folder per row.
        only: names of rows; empty for all.
        overwrite: repeat rows that are done.
        quiet: show no progress bars.
        tell: called with one line per event.

    Returns:
        The table, see `table.summarise_rows`.

    Raises:
        UsageError: a folder in `out` holds a run of another config.
        InputError: the evaluation set cannot be read, or lacks the unoccluded truth for rows of stage 2.
    """
    eval_set = EvalSet.open(ablation.data)
    todo = ablation.pick(only)
    if not eval_set.has_truth and any(row.stage == "content" for row in todo):
        raise InputError(f"{ablation.data} has no unoccluded truth: rows of stage 2 cannot be measured on it")
    started: set[str] = set()  # folders that were trained in this call
    for number, row in enumerate(todo, start=1):
        place = f"{number}/{len(todo)} {row.name}"
        try:
            if not overwrite and _is_done(ablation, row, out):
                tell(f"{place}: done before")
                continue
            trained_in = ablation.trains_in(row)
            tell(f"{place}: {row.section.schedule.steps} steps")
            run_folder = out / trained_in
            _train(row, run_folder, out, anew=overwrite and trained_in not in started, quiet=quiet)
            started.add(trained_in)
            tell(f"{place}: measuring")
            _measure(ablation, row, run_folder, out / row.name, eval_set)
        except _AnotherRunError:
            raise
        except (DeoccludeError, RuntimeError) as error:  # RuntimeError: from torch, above all out of memory
            reason = str(error).partition("\n")[0]
            tell(f"{place}: failed: {reason}")
            _write_json(out / row.name / "row.json", _row_description(ablation, row) | {"error": reason})
        _write_table(ablation, out)
    return _write_table(ablation, out)


def _is_done(ablation: Ablation, row: Row, out: Path) -> bool:
    """Whether row.json holds a result of these settings and no error."""
    known = _read_json(out / row.name / "row.json")
    return "error" not in known and known.get("key") == _result_key(ablation, row)


def _result_key(ablation: Ablation, row: Row) -> str:
    """Hash of everything that the figures of a row depend on."""
    measured = [row.fingerprint, row.tight_crop, ablation.set_digest, ablation.limit, ablation.initial]
    return hashlib.sha256(json.dumps(measured).encode()).hexdigest()


def _train(row: Row, folder: Path, out: Path, *, anew: bool, quiet: bool) -> None:
    """Train a row in its folder unless done; run.json there holds fingerprint, state and seconds."""
    known = _read_json(folder / "run.json")
    if known and known["fingerprint"] != row.fingerprint and not anew:
        raise _AnotherRunError(
            f"{folder} was trained with another config: retrain it with --overwrite, or name another folder"
        )
    if known.get("done") and not anew:
        return
    resumed = not anew and (folder / STATE_FILE).is_file()
    config = _with_poses(row, out)
    stage = _STAGES[row.stage](config)
    about = {"fingerprint": row.fingerprint, "done": False, "seconds": None}
    _write_json(folder / "run.json", about)  # after the config is checked, before the first step
    started = time.monotonic()
    fit(stage, config, row.section, folder, resume=not anew, quiet=quiet)
    seconds = None if resumed else round(time.monotonic() - started, 1)  # of a resumed run only a part is timed
    _write_json(folder / "run.json", about | {"done": True, "seconds": seconds})


def _with_poses(row: Row, out: Path) -> TrainConfig:
    """The row's config with typical poses from a file, shared by rows of equal data and number of poses."""
    section = row.section
    if row.stage != "mask" or section.poses or section.init:
        return row.config
    network = with_fields(row.method.preset(section.preset, "mask.preset"), section.network, "mask.network")
    if not getattr(network, "pose_guidance", False):
        return row.config
    data = row.config.data_of(section).model_dump_json()
    digest = hashlib.sha256(f"{data} {row.config.seed}".encode()).hexdigest()[:8]
    path = out / f"poses-{network.templates}-{digest}.npz"
    if not path.is_file():
        write_poses(path, draw_poses(row.config))
    return row.config.model_copy(update={"mask": section.model_copy(update={"poses": path})})


def _measure(ablation: Ablation, row: Row, run_folder: Path, folder: Path, eval_set: EvalSet) -> None:
    """Measure a trained row; writes eval.json in the format of `deocclude eval`."""
    weights, section = run_folder / WEIGHTS_FILE, row.section
    predictor = open_trained(
        weights, size_px=row.size_px, device=choose_device(row.config.device), tight=row.tight_crop,
        parser=section.parsing_weights if row.stage == "content" else None,
    )  # fmt: skip
    content = row.stage != "mask"
    # masks of a stage 2 row are those of stage 1: one kind of initial mask is enough
    kinds = ablation.initial[:1] if row.stage == "content" else ablation.initial
    evaluation = evaluate(eval_set, predictor, initial_kinds=kinds, content=content, limit=ablation.limit)
    summary = summarise(evaluation, model=row.name)
    save_text(json.dumps(summary) + "\n", folder / "eval.json")
    network, metadata = rebuild(weights, PERSON_NETWORK_KINDS)
    about = {
        "parameters": count_parameters(network), "best_step": metadata.get("step"),
        "seconds": _read_json(run_folder / "run.json").get("seconds"),
    }  # fmt: skip
    _write_json(folder / "row.json", _row_description(ablation, row) | about)


def _row_description(ablation: Ablation, row: Row) -> dict[str, Any]:
    """The part of row.json that is known before the training."""
    return {
        "name": row.name, "stage": row.stage, "model": row.section.model or "", "changes": dict(row.changes),
        "key": _result_key(ablation, row), "steps": row.section.schedule.steps, "size_px": row.size_px,
        "batch_size": row.section.schedule.phases[-1].batch_size,
    }  # fmt: skip


def _write_table(ablation: Ablation, out: Path) -> dict[str, Any]:
    """Write ablation.json and ablation.md of all measured and failed rows, in the order of the file."""
    done = [
        (known, out / row.name / "eval.json") for row in ablation.rows if (known := _stored_result(ablation, row, out))
    ]
    table = summarise_rows(done)
    table |= {"file": ablation.path.name, "missing": _unfinished(ablation.rows, done)}
    _write_json(out / "ablation.json", table)
    save_text(to_markdown(table), out / "ablation.md")
    return table


def _stored_result(ablation: Ablation, row: Row, out: Path) -> dict[str, Any]:
    """row.json of a row; empty without one, or if it belongs to other settings."""
    known = _read_json(out / row.name / "row.json")
    return known if known.get("key") == _result_key(ablation, row) else {}


def _unfinished(rows: Iterable[Row], done: Sequence[tuple[dict[str, Any], Path]]) -> list[str]:
    """Names of the rows without an entry in `done`, which pairs row.json and the path of eval.json."""
    names = {known["name"] for known, _ in done}
    return [row.name for row in rows if row.name not in names]


def _read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; empty without a file."""
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{path}: not written by `deocclude ablate`: {error}") from error


def _write_json(path: Path, value: dict[str, Any]) -> None:
    save_text(json.dumps(value, indent=1) + "\n", path)
