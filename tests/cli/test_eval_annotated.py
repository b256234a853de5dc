"""`deocclude eval` on really occluded people: masks are scored, and unobserved appearance is not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from annotated_people import write_annotated
from deocclude.cli.app import app

UNTOLD = "no unoccluded truth of 4 of 4 pictures: their appearance is not measured"


def deocclude(*args: object) -> Result:
    return CliRunner().invoke(app, [*map(str, args)])


@pytest.fixture(scope="module")
def eval_set_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `data build` writes it: two photos of an unoccluded person with an occluded one behind."""
    folder = tmp_path_factory.mktemp("annotated")
    source = write_annotated(folder, photos=2)
    done = deocclude("data", "build", "-o", folder / "set", "--people", "records", "--data", source)
    assert (done.exit_code, done.stdout) == (0, f"{folder / 'set'}: 4 records of 4 people\n"), done.output
    return folder / "set"


def test_masks_are_measured_and_the_appearance_is_not(tmp_path: Path, eval_set_dir: Path, weights_dir: Path) -> None:
    sheet = tmp_path / "sheet.png"
    done = deocclude("eval", eval_set_dir, "--weights", weights_dir, "-o", tmp_path / "out", "--sheet", sheet)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("# base on drawn: 4 people, 4 pictures")
    assert f"- note: {UNTOLD}\n" in done.stdout and "Recovered appearance" not in done.stdout
    summary = json.loads((tmp_path / "out" / "eval.json").read_text())
    assert summary["content"] == {} and summary["records"]["content"] == []
    exact = summary["masks"]["exact"]
    assert exact["deocclude"]["pictures"] == exact["deocclude"]["unoccluded_pictures"] == 2
    assert exact["initial mask"]["full_iou"] == pytest.approx(2 / 3)
    # The tiny network grows the mask on all sides: into the person in front.
    assert exact["deocclude"]["invisible_iou"] > 0.02
    assert list(summary["by_occluder"]["exact"]) == ["unknown"]
    # The last column, the person without the occluder, is blank.
    assert (np.asarray(Image.open(sheet))[20:, -180:-10] == 255).mean() > 0.99


def test_no_content_option_suppresses_the_missing_truth_note(eval_set_dir: Path, weights_dir: Path) -> None:
    done = deocclude(
        "eval", eval_set_dir, "--weights", weights_dir, "--no-content", "--initial", "box", "--limit", 3, "--json"
    )
    assert done.exit_code == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["set"]["records"] == 3 and not any("truth" in note for note in summary["notes"])


def test_saved_predictions_reproduce_the_run_scores(tmp_path: Path, eval_set_dir: Path, weights_dir: Path) -> None:
    common = ("--initial", "exact", "-q")
    run = deocclude(
        "eval", eval_set_dir, "--weights", weights_dir, *common, "--save-pred", tmp_path / "it", "-o", tmp_path / "run"
    )
    read = deocclude("eval", eval_set_dir, "--pred", tmp_path / "it", *common, "-o", tmp_path / "read")
    assert (run.exit_code, read.exit_code) == (0, 0), run.stderr + read.stderr
    ours, theirs = (json.loads((tmp_path / name / "eval.json").read_text()) for name in ("run", "read"))
    assert theirs["masks"]["exact"]["predictions"] == ours["masks"]["exact"]["deocclude"]
    assert UNTOLD in theirs["notes"] and theirs["content"] == {}


def test_lpips_option_is_rejected_without_unoccluded_truth(eval_set_dir: Path) -> None:
    done = deocclude("eval", eval_set_dir, "--lpips", "distance.onnx")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == f"error: {eval_set_dir} has no unoccluded truth: it takes no --lpips\n"
