"""Whether anything of a person is hidden: the probability, its calibration, and the completion that follows from it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from deocclude.cli.app import app
from deocclude.data.evalsets.persons import EvalSample, EvalSet, write_eval_set
from deocclude.errors import UsageError
from deocclude.evaluation.calibration import calibrate
from deocclude.inference import mask_completion
from deocclude.inference.occlusion_probability import (
    HIDDEN_SHARE,
    UNCALIBRATED,
    probable_share,
)
from deocclude.pipeline import load


def test_uncalibrated_five_percent_share_has_even_odds() -> None:
    assert UNCALIBRATED.probability(HIDDEN_SHARE, 0.9) == pytest.approx(0.5)
    assert UNCALIBRATED.probability(0.0, 0.0) < 0.01 < 0.9 < UNCALIBRATED.probability(0.2, 0.0)


def test_probable_share_by_hand() -> None:
    visible, amodal = np.array([[1.0, 0.0, 0.5]]), np.array([[1.0, 0.5, 0.5]])
    assert probable_share(visible, amodal) == pytest.approx(0.5 / 2)
    assert probable_share(visible * 0, amodal * 0) == 0


def test_complete_never_returns_the_visible_mask(pipe, person) -> None:
    always, auto, never = (pipe(person.photo, masks=[person.visible], complete=c).people[0] for c in CHOICES)
    assert always.hidden_fraction > HIDDEN_SHARE and always.hidden_probability == auto.hidden_probability > 0.5
    np.testing.assert_array_equal(auto.amodal_mask, always.amodal_mask)
    np.testing.assert_array_equal(never.amodal_mask, always.visible_mask)
    np.testing.assert_array_equal(never.content, person.photo)
    assert never.hidden_fraction == 0 and not never.parsing[~never.visible_mask].any()
    assert (never.amodal_prob[~never.visible_mask] < 0.5).all()
    with pytest.raises(UsageError, match="complete must be auto, always or never, got 'maybe'"):
        pipe(person.photo, masks=[person.visible], complete="maybe")


CHOICES = ("always", "auto", "never")


def test_auto_uses_the_calibration_of_the_manifest(weights_dir: Path, tmp_path: Path, person) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(weights_dir, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["models"]["base"]["networks"]["mask_completion"]["hidden_calibration"] = [-20.0, 0.0, 0.0]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    one = load("base", device="cpu", weights_dir=folder, threads=1)(person.photo, masks=[person.visible]).people[0]
    assert one.hidden_fraction == 0 and one.hidden_probability < 1e-6


def write_hidden_and_whole(folder: Path, person) -> None:
    """An evaluation set of two pictures: a person whose lower part is hidden, and the same with nothing in front."""
    truth = np.where(person.amodal[..., None], np.uint8([200, 30, 40]), person.photo)
    upper = person.amodal & (np.arange(480) < 300)[:, None]
    samples = [
        EvalSample("ann-low", "ann", "low", person.photo, truth, upper, person.amodal),
        EvalSample("ann-none", "ann", "none", truth, truth, person.amodal, person.amodal),
    ]
    write_eval_set(folder, samples, name="drawn", seed=1, source="code")


def test_calibrating_writes_into_the_manifest(weights_dir: Path, tmp_path: Path, person) -> None:
    folder, eval_set = tmp_path / "weights", tmp_path / "set"
    shutil.copytree(weights_dir, folder)
    write_hidden_and_whole(eval_set, person)
    done = CliRunner().invoke(app, ["calibrate", str(eval_set), "--weights", str(folder), "--device", "cpu"])
    assert done.exit_code == 0, done.stderr
    row = json.loads((folder / "manifest.json").read_text())["models"]["base"]["networks"]["mask_completion"]
    assert len(row["hidden_calibration"]) == 3 and row["calibrated_on"] == ["drawn"]
    assert done.stdout.startswith("base: probability that more than 5 % is occluded")
    load("base", device="cpu", weights_dir=folder, threads=1)


def test_calibration_uses_the_second_pass_as_run_does(
    weights_dir: Path, tmp_path: Path, person, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, eval_set = tmp_path / "weights", tmp_path / "set"
    shutil.copytree(weights_dir, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["models"]["base"]["networks"]["mask_completion"]["second_pass"] = True
    (folder / "manifest.json").write_text(json.dumps(manifest))
    write_hidden_and_whole(eval_set, person)
    predict, again = mask_completion.CropPredictions.__call__, []

    def noted(*args, first=None, **options):
        again.append(first is not None)
        return predict(*args, first=first, **options)

    monkeypatch.setattr(mask_completion.CropPredictions, "__call__", noted)
    calibrate([EvalSet.open(eval_set)], weights_dir=folder, device="cpu")
    assert any(again) and not all(again)
    again.clear()
    load("base", device="cpu", weights_dir=folder, threads=1)(person.photo, boxes_xyxy=[(100, 60, 200, 300)])
    assert again == [False, True]
