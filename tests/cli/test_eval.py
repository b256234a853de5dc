"""`deocclude eval` from end to end, on a drawn person and the tiny networks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from deocclude.cli.app import app
from deocclude.data.evalsets.persons import EvalSample, write_eval_set
from deocclude.data.evalsets.scenes import SceneSample, write_scene_set
from tiny_metrics import save_channel_means, save_mean_distance


@pytest.fixture(scope="module")
def eval_set_dir(tmp_path_factory: pytest.TempPathFactory, person) -> Path:
    """The drawn person behind the bar, and without it."""
    truth = np.where(person.amodal[..., None], np.uint8([200, 30, 40]), person.photo)
    folder = tmp_path_factory.mktemp("frozen") / "set"
    samples = [
        EvalSample("ann-low", "ann", "low", person.photo, truth, person.visible, person.amodal),
        EvalSample("ann-none", "ann", "none", truth, truth, person.amodal, person.amodal),
    ]
    write_eval_set(folder, samples, name="drawn", seed=1, source="drawn by code")
    return folder


def deocclude(*args: object) -> Result:
    return CliRunner().invoke(app, ["eval", *map(str, args)])


def test_eval_writes_tables_json_and_contact_sheet(tmp_path: Path, eval_set_dir: Path, weights_dir: Path) -> None:
    out, sheet = tmp_path / "figures" / "base", tmp_path / "pictures" / "sheet.png"
    done = deocclude(eval_set_dir, "--weights", weights_dir, "-o", out, "--sheet", sheet, "--sheet-rows", 4)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("# base on drawn: 1 people, 2 pictures")
    assert done.stderr == ""
    assert (out / "eval.md").read_text() == done.stdout
    summary = json.loads((out / "eval.json").read_text())
    assert list(summary["masks"]) == ["exact", "degraded", "box"]
    exact = summary["masks"]["exact"]
    # The tiny network grows the mask on all sides: into the bar, and far beyond the body.
    assert exact["deocclude"]["invisible_iou"] > 0.02
    assert exact["initial mask"]["invisible_iou"] == 0.0
    assert exact["deocclude"]["false_completion"] > 0.05
    assert exact["initial mask"]["false_completion"] == 0.0
    # The tiny network fills in the body's one colour.
    assert summary["content"]["deocclude, true masks"]["l1"] < 3
    assert Image.open(sheet).width > 1000
    assert sorted(path.name for path in out.iterdir()) == ["eval.json", "eval.md"]


def test_json_option_prints_the_summary_of_a_subset(eval_set_dir: Path, weights_dir: Path) -> None:
    done = deocclude(
        eval_set_dir, "--weights", weights_dir, "--initial", "box,exact", "--no-content", "--limit", 1, "--json"
    )
    assert done.exit_code == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["set"]["records"] == 1
    assert list(summary["masks"]) == ["box", "exact"]
    assert summary["content"] == {}


def test_quiet_prints_nothing(tmp_path: Path, eval_set_dir: Path, weights_dir: Path) -> None:
    done = deocclude(eval_set_dir, "--weights", weights_dir, "--initial", "exact", "--no-content", "-q", "-o", tmp_path)
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "eval.md").is_file()


def test_saved_predictions_reproduce_the_run_scores(tmp_path: Path, eval_set_dir: Path, weights_dir: Path) -> None:
    common = ("--initial", "box", "-q")
    run = deocclude(
        eval_set_dir, "--weights", weights_dir, *common, "--save-pred", tmp_path / "theirs", "-o", tmp_path / "run"
    )
    read = deocclude(eval_set_dir, "--pred", tmp_path / "theirs", *common, "-o", tmp_path / "read")
    assert (run.exit_code, read.exit_code) == (0, 0), run.stderr + read.stderr
    ours, theirs = (json.loads((tmp_path / name / "eval.json").read_text()) for name in ("run", "read"))
    assert theirs["model"] == "theirs"
    assert theirs["masks"]["box"]["predictions"] == ours["masks"]["box"]["deocclude"]
    predicted = ", predicted masks"
    assert theirs["content"]["predictions" + predicted] == ours["content"]["deocclude" + predicted]
    compared = deocclude("--compare", tmp_path / "run" / "eval.json", tmp_path / "read" / "eval.json", "--json")
    assert compared.exit_code == 0, compared.stderr
    assert {(row["difference"], row["better"]) for row in json.loads(compared.stdout)["rows"]} == {(0.0, None)}


def test_missing_predictions_fail_unless_allowed(tmp_path: Path, eval_set_dir: Path, person) -> None:
    Image.fromarray(person.amodal).save(tmp_path / "ann-low.amodal.png")
    done = deocclude(eval_set_dir, "--pred", tmp_path)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "lacks 1 of 2 amodal pictures, the first ann-none.amodal.png; --allow-missing" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    done = deocclude(eval_set_dir, "--pred", tmp_path, "--allow-missing", "--json")
    assert done.exit_code == 0, done.stderr
    figures = json.loads(done.stdout)["masks"]["exact"]["predictions"]
    assert (figures["full_iou"], figures["invisible_iou"], figures["visible_iou"]) == (1.0, 1.0, None)


def test_perceptual_metric_networks_fill_the_appearance_table(
    tmp_path: Path, eval_set_dir: Path, weights_dir: Path
) -> None:
    inception, lpips = save_channel_means(tmp_path / "features.onnx"), save_mean_distance(tmp_path / "distance.onnx")
    run = (eval_set_dir, "--weights", weights_dir, "--initial", "exact")
    plain = deocclude(*run)
    assert plain.stdout.count("not computed") == 6 * 5
    judged = deocclude(*run, "--inception", inception, "--lpips", lpips, "-o", tmp_path / "out")
    assert judged.exit_code == 0, judged.stderr
    assert "not computed" not in judged.stdout
    appearance = json.loads((tmp_path / "out" / "eval.json").read_text())["appearance"]
    assert appearance["networks"]["inception"]["file"] == "features.onnx"
    # One occluded picture: a distance to its truth, but no distribution.
    assert appearance["fid"]["working crop"]["deocclude, true masks"] is None
    assert appearance["lpips"]["working crop"]["deocclude, true masks"]["mean"] < 0.01


def test_against_option_compares_with_another_weights_folder(
    tmp_path: Path, eval_set_dir: Path, weights_dir: Path
) -> None:
    older = tmp_path / "older"
    older.symlink_to(weights_dir)
    done = deocclude(eval_set_dir, "--weights", weights_dir, "--initial", "exact", "--against", older, "--json")
    assert done.exit_code == 0, done.stderr
    content = json.loads(done.stdout)["content"]
    assert content["older, true masks"]["l1"] == content["deocclude, true masks"]["l1"]


def test_against_option_compares_with_saved_recovered_photos(
    tmp_path: Path, eval_set_dir: Path, weights_dir: Path
) -> None:
    saved = tmp_path / "another-build"
    assert deocclude(eval_set_dir, "--weights", weights_dir, "--save-recovered", saved).exit_code == 0
    run = (eval_set_dir, "--weights", weights_dir, "--initial", "exact", "--against", saved, "--json")
    done = deocclude(*run)
    assert done.exit_code == 0, done.stderr
    content = json.loads(done.stdout)["content"]
    assert content["another-build, true masks"]["l1"] == content["deocclude, true masks"]["l1"]
    next(saved.iterdir()).rename(saved / "stranger.png")
    done = deocclude(*run)
    assert done.exit_code == 1 and "lacks 1 of" in done.stderr


def test_compare_writes_markdown_and_json(tmp_path: Path, eval_set_dir: Path, weights_dir: Path) -> None:
    made = deocclude(eval_set_dir, "--weights", weights_dir, "--initial", "exact", "--no-content", "-q", "-o", tmp_path)
    assert made.exit_code == 0, made.stderr
    result = tmp_path / "eval.json"
    done = deocclude("--compare", result, result, "-o", tmp_path / "both")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("# A and B on drawn\n")
    assert (tmp_path / "both" / "compare.md").read_text() == done.stdout
    assert json.loads((tmp_path / "both" / "compare.json").read_text())["set"] == "drawn"


def test_scene_set_rejects_the_pred_option(tmp_path: Path) -> None:
    nobody = np.zeros((0, 40, 50), bool)
    sample = SceneSample("a", np.zeros((40, 50, 3), np.uint8), nobody, nobody, np.zeros((40, 50), bool))
    write_scene_set(tmp_path / "set", [sample], name="scenes", seed=0, source="code")
    done = deocclude(tmp_path / "set", "--pred", tmp_path)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "is a set of scenes: it takes no --pred" in done.stderr


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        ([], 2, "error: name an evaluation set, or two eval.json with --compare"),
        (["SET", "--compare", "a.json", "b.json"], 2, "error: --compare reads two eval.json: it takes no EVAL_SET"),
        (["--compare", "a.json", "b.json"], 1, "error: a.json: cannot be read: No such file or directory"),
        (["SET", "--pred", "nowhere"], 1, "error: no predictions: looked for a folder nowhere"),
        (["SET", "--pred", "WEIGHTS"], 1, "error: no predictions of this set: looked for "),
        (["SET", "--pred", "WEIGHTS", "-m", "paper"], 2, "error: --pred reads another system's files: it takes no -m"),
        (["SET", "--pred", "x", "--initial", "exact,box"], 2, "one kind of initial mask, got exact, box"),
        (["SET", "--allow-missing"], 2, "error: --allow-missing goes with --pred DIR"),
        (["SET", "--save-pred", "WEIGHTS", "--weights", "WEIGHTS"], 2, "error: predictions go to a new or an empty"),
        (["SET", "--no-content", "--lpips", "x.onnx"], 2, "--no-content measures masks only: it takes no --lpips"),
        (["SET", "--no-content", "--against", "WEIGHTS"], 2, "--no-content measures masks only: it takes no --against"),
        (
            ["SET", "--against", "old/deocclude"],
            2,
            "--against: the folder's name is that of its row; deocclude is that of",
        ),
        (["SET", "--weights", "WEIGHTS", "--initial", "exact", "--against", "nowhere"], 3, "nowhere/manifest.json"),
        (
            ["--compare", "a.json", "b.json", "--against", "x"],
            2,
            "--compare reads two eval.json: it takes no --against",
        ),
        (["--compare", "a.json", "b.json", "-m", "paper"], 2, "--compare reads two eval.json: it takes no -m"),
        (
            ["SET", "--completion-prompts", "--trained", "x"],
            2,
            "--completion-prompts measures masks of a model: it takes",
        ),
        (["SET", "--completion-prompts", "--against", "x"], 2, "a model: it takes no --against"),
        (["SET", "--completion-prompts", "--sheet", "x.png"], 2, "a model: it takes no --sheet"),
        (["--completion-prompts", "--compare", "a.json", "b.json"], 2, "a model: it takes no --compare"),
        (["SET", "--inception", "nowhere.onnx"], 3, "error: nowhere.onnx: cannot read the network: No such file"),
        (["nowhere"], 1, "error: no evaluation set: looked for a folder nowhere"),
        (
            ["SET", "--initial", "exact,scribble"],
            2,
            "error: --initial takes any of exact, degraded, box, photo, got 'scribble'",
        ),
        (["SET", "--sheet", "sheet.jpg"], 2, "error: --sheet must name a .png file, got sheet.jpg"),
        (["SET", "--weights", "nowhere"], 3, "nowhere/manifest.json"),
        (["SET", "-m", "huge", "--weights", "WEIGHTS"], 2, "'huge'"),
        (["SET", "-o", "/proc/figures"], 1, "error: cannot make the output folder /proc/figures"),
    ],
)
def test_invalid_input_gives_a_one_line_error(
    eval_set_dir: Path, weights_dir: Path, args: list[str], code: int, message: str
) -> None:
    known = {"SET": str(eval_set_dir), "WEIGHTS": str(weights_dir)}
    done = deocclude(*[known.get(arg, arg) for arg in args])
    assert done.exit_code == code
    assert done.stdout == ""
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
