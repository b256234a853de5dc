"""`deocclude eval --blind`, `--blind-score` and `--save-recovered` on a drawn person and the tiny networks."""

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
from deocclude.pipeline import Deoccluder


@pytest.fixture(scope="module")
def eval_set_dir(tmp_path_factory: pytest.TempPathFactory, person) -> Path:
    """The drawn person behind the bar, without an unoccluded truth."""
    folder = tmp_path_factory.mktemp("frozen") / "set"
    samples = [
        EvalSample("ann-low", "ann", "unknown", person.photo, None, person.visible, person.amodal),
        EvalSample("ann-none", "ann", "none", person.photo, None, person.amodal, person.amodal),
    ]
    write_eval_set(folder, samples, name="drawn", seed=1, source="drawn by code")
    return folder


def deocclude(*args: object) -> Result:
    return CliRunner().invoke(app, ["eval", *map(str, args)])


def test_blind_comparison_goes_from_images_to_score(tmp_path: Path, eval_set_dir: Path, weights_dir: Path) -> None:
    folder, against = tmp_path / "blind", ("--blind-against", "mean-colour", "--blind-against", "inpainting")
    done = deocclude(eval_set_dir, "--weights", weights_dir, "--blind", folder, *against, "--seed", 3)
    assert done.exit_code == 0, done.stderr
    assert done.stdout == (
        f"{folder}: 2 pictures, base against mean-colour, inpainting; the key, which judges must not see, is "
        f"{tmp_path / 'blind-key.json'}\n1 skipped: less than 5 % or all of the person is occluded\n"
    )
    key = json.loads((tmp_path / "blind-key.json").read_text())
    assert (key["seed"], key["model"], key["against"]) == (3, "base", ["mean-colour", "inpainting"])
    answers = folder / "answers.csv"
    lines = answers.read_text().splitlines()
    places = {row["picture"]: row["model_is"] for row in key["pictures"] if row["opponent"] == "inpainting"}
    (name,) = places
    answers.write_text("\n".join(line.replace(",,", f",{places[name]},") if name in line else line for line in lines))
    scored = deocclude("--blind-score", answers, "-o", tmp_path / "out")
    assert scored.exit_code == 0, scored.stderr
    assert (tmp_path / "out" / "blind.md").read_text() == scored.stdout
    score = json.loads((tmp_path / "out" / "blind.json").read_text())
    assert [(row["preferred"], row["pictures"]) for row in score["rows"]] == [(0, 0), (1, 1)]
    assert len(score["unanswered"]) == 1
    named = deocclude("--blind-score", answers, "--blind-key", tmp_path / "blind-key.json", "--json")
    assert json.loads(named.stdout)["rows"] == score["rows"]


def test_blind_comparison_accepts_saved_photos_of_another_build(
    tmp_path: Path, eval_set_dir: Path, weights_dir: Path, pipe: Deoccluder, person
) -> None:
    saved = tmp_path / "saved"
    done = deocclude(eval_set_dir, "--weights", weights_dir, "--save-recovered", saved, "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout) == {"folder": str(saved), "people": 1, "skipped": 1}
    expected = pipe.recover(person.photo, person.visible, person.amodal)
    np.testing.assert_array_equal(np.asarray(Image.open(saved / "ann-low.png")), expected)
    run = (eval_set_dir, "--weights", weights_dir, "--blind", tmp_path / "blind", "--blind-against", saved, "-q")
    done = deocclude(*run)
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "")
    picture = np.asarray(Image.open(tmp_path / "blind" / "pictures" / "0001.png"))
    width = round((picture.shape[1] - 4 * 8) * 2 / 5)  # the person as given has half of it
    second, first = (picture[20:, picture.shape[1] - 8 - width - shift :][:, :width] for shift in (0, width + 8))
    np.testing.assert_array_equal(first, second)  # the same build twice


def test_scene_set_rejects_the_blind_option(tmp_path: Path) -> None:
    nobody = np.zeros((0, 40, 50), bool)
    sample = SceneSample("a", np.zeros((40, 50, 3), np.uint8), nobody, nobody, np.zeros((40, 50), bool))
    write_scene_set(tmp_path / "set", [sample], name="scenes", seed=0, source="code")
    done = deocclude(tmp_path / "set", "--blind", tmp_path / "blind")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "is a set of scenes: it takes no --blind" in done.stderr


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["SET", "--blind-against", "inpainting"], 2, "error: --blind-against goes with --blind DIR"),
        (["SET", "--seed", "0"], 2, "error: --seed goes with --blind DIR"),
        (["SET", "--save-recovered", "x", "--seed", "0"], 2, "error: --seed goes with --blind DIR"),
        (["SET", "--blind-key", "x"], 2, "error: --blind-key goes with --blind-score ANSWERS"),
        (["--blind", "x"], 2, "error: name an evaluation set"),
        (["SET", "--blind", "x", "--save-recovered", "y"], 2, "--blind does not measure: it takes no --save-recovered"),
        (["SET", "--blind", "x", "-o", "y"], 2, "--blind does not measure: it takes no -o"),
        (["SET", "--blind", "x", "--pred", "y"], 2, "--blind does not measure: it takes no --pred"),
        (["SET", "--blind", "x", "--against", "y"], 2, "--blind does not measure: it takes no --against"),
        (["SET", "--blind", "x", "--completion-prompts"], 2, "--blind does not measure: it takes no --completion-pr"),
        (["SET", "--save-recovered", "x", "--no-content"], 2, "--save-recovered does not measure: it takes no --no-co"),
        (["SET", "--blind-score", "x"], 2, "--blind-score does not measure: it takes no EVAL_SET"),
        (["--blind-score", "x", "--limit", "3"], 2, "--blind-score does not measure: it takes no --limit"),
        (["--blind-score", "nowhere/answers.csv"], 1, "error: no key of a blind comparison: looked for "),
        (["SET", "--blind", "WEIGHTS", "--weights", "WEIGHTS"], 2, "error: pictures go to a new or an empty folder"),
    ],
)
def test_invalid_input_gives_a_one_line_error(
    eval_set_dir: Path, weights_dir: Path, args: list[str], code: int, message: str
) -> None:
    known = {"SET": str(eval_set_dir), "WEIGHTS": str(weights_dir)}
    done = deocclude(*[known.get(arg, arg) for arg in args])
    assert (done.exit_code, done.stdout) == (code, "")
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
