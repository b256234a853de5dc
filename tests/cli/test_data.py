"""`deocclude data`: evaluation sets and typical poses from a drawn folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from datafolder import draw_data_folder
from datasetfolder import make_kins
from deocclude.cli.app import app
from deocclude.data.evalsets.persons import EvalSet
from deocclude.train import mask_stage
from drawn_photos import draw_photos


def data(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["data", *map(str, arguments)])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_data_folder(tmp_path_factory.mktemp("drawn") / "data")


def test_build_evalset_writes_a_set_that_opens(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "val"
    done = data("build-evalset", "--data", root, "-o", out, "--seed", 5)
    assert (done.exit_code, done.stdout) == (0, f"{out}: 8 records of 2 people\n"), done.output
    eval_set = EvalSet.open(out)
    assert (eval_set.name, eval_set.seed, len(eval_set)) == ("ccp-val", 5, 8)
    again = data("build-evalset", "--data", root, "-o", out)
    assert again.exit_code == 2 and "already" in again.stderr
    smaller = data(
        "build-evalset", "--data", root, "-o", out, "--people", "full", "--no-unoccluded", "--overwrite", "-q"
    )
    assert (smaller.exit_code, smaller.stdout) == (0, "")
    assert {r.occluder_kind for r in EvalSet.open(out)} == {"object", "person", "low"}
    training = data("build-evalset", "--data", root, "-o", tmp_path / "train", "--split", "train", "--limit", 1)
    assert training.exit_code == 0 and EvalSet.open(tmp_path / "train").name == "ccp-train"
    held_out_people = {r.person_id for r in eval_set}
    assert not held_out_people & {r.person_id for r in EvalSet.open(tmp_path / "train")}


def test_poses_command_writes_file_and_contact_sheet(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    centres = np.random.default_rng(0).random((4, 2, 32, 32)).astype(np.float32)
    monkeypatch.setattr(mask_stage, "typical_poses", lambda *_, count: centres[:count])
    config = tmp_path / "config.yaml"
    config.write_text(f"{{data: {{root: {root}}}, mask: {{network: {{templates: 3}}, schedule: {{steps: 1}}}}}}")
    out, sheet = tmp_path / "poses.npz", tmp_path / "poses.png"
    done = data("poses", "-c", config, "-o", out, "--sheet", sheet)
    assert (done.exit_code, done.stdout) == (0, f"{out}: 3 typical poses\n"), done.output
    np.testing.assert_array_equal(np.load(out)["centres"], centres[:3])
    assert Image.open(sheet).size == (8 * 128, 128)
    config.write_text("seed: 1")
    none = data("poses", "-c", config, "-o", out)
    assert (none.exit_code, none.stderr) == (2, f"error: {config}: no section mask\n")


def test_build_evalset_errors_give_one_line_and_exit_code(root: Path, tmp_path: Path) -> None:
    done = data("build-evalset", "--data", tmp_path / "nowhere", "-o", tmp_path / "val")
    assert done.exit_code == 1
    assert done.stderr == f"error: data folder not found: looked for {tmp_path / 'nowhere'}\n"
    done = data("build-evalset", "--data", root, "-o", tmp_path / "val", "--people", "dogs")
    assert done.exit_code == 2
    known = "ccp, cutouts, full, built, folder, voc, coco, pelota, teachers, small, records, crowds, wild or nobody"
    assert done.stderr == f"error: --people must be {known}, got 'dogs'\n"
    done = data("build-evalset", "--data", root, "-o", tmp_path / "val", "--seed", "-1")
    assert done.exit_code == 2 and "--seed" in done.stderr


def test_unwritable_output_is_reported_before_the_work_starts(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_) -> None:
        raise AssertionError("the work had begun")

    monkeypatch.setattr(mask_stage, "draw_poses", never)
    config, taken = tmp_path / "config.yaml", tmp_path / "taken"
    config.write_text(f"{{data: {{root: {root}}}, mask: {{schedule: {{steps: 1}}}}}}")
    taken.touch()
    done = data("poses", "-c", config, "-o", taken / "poses.npz")
    assert (done.exit_code, done.stderr) == (1, f"error: cannot write to the folder {taken}: {taken} is a file\n")
    done = data("poses", "-c", config, "-o", tmp_path / "poses.npz", "--sheet", "poses.xyz")
    assert (done.exit_code, done.stderr) == (2, "error: --sheet must name a .png file, got poses.xyz\n")
    done = data("build-evalset", "--data", root, "-o", taken / "val")
    assert (done.exit_code, done.stderr) == (1, f"error: cannot write to the folder {taken}: {taken} is a file\n")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("keep")
    done = data("build-evalset", "--data", root, "-o", tmp_path / "notes", "--overwrite")
    assert done.exit_code == 2 and "something else" in done.stderr
    assert [p.name for p in (tmp_path / "notes").iterdir()] == ["mine.txt"]
    assert not (tmp_path / "val").exists()


def test_build_trainset_check_and_show_work_end_to_end(tmp_path: Path) -> None:
    photos, out = draw_photos(tmp_path / "photos", 6), tmp_path / "set"
    built = ("build-trainset", photos, "--from", "masks", "-o", out, "--parser", "none", "-j", 1)
    done = data(*built, "--rules", "no-shape", "--set", "min_side_px=50", "--licence", "CC0")
    assert (done.exit_code, done.stdout) == (0, f"{out}: 6 people of 6 in 6 photos kept: 5 train, 1 val\n"), done.output
    assert '"min_side_px": 50' in (out / "report.json").read_text()
    other = data(*built)
    assert other.exit_code == 2 and "--overwrite replaces it" in other.stderr
    checked = data("check", out)
    assert (checked.exit_code, checked.stdout) == (0, f"{out}: 6 photos, 6 people, 6 backgrounds, no faults\n")
    useless = data("check", out, "--images", photos)
    assert useless.exit_code == 2 and f"the built set {out} has its photos in it" in useless.stderr
    shown = data("show", out, "-o", tmp_path / "pages" / "set.html", "--limit", 4)
    assert (shown.exit_code, shown.stdout) == (0, f"{tmp_path / 'pages' / 'set.html'}: 4 pictures\n")
    eval_set = data("build-evalset", "--people", "built", "--data", out, "-o", tmp_path / "val")
    assert (eval_set.exit_code, eval_set.stdout) == (0, f"{tmp_path / 'val'}: 4 records of 1 people\n"), eval_set.output


def test_check_prints_faults_and_exits_with_1(tmp_path: Path) -> None:
    photos = draw_photos(tmp_path / "photos", 2)
    mask = photos / "masks" / "photo00.png"
    mask.unlink()
    done = data("check", photos)
    line = f"empty: {photos / 'images' / 'photo00.jpg'}: has no mask: looked for {mask}\n"
    assert (done.exit_code, done.stdout) == (1, f"{line}{photos}: 2 photos, 1 people, 1 faults: 1 empty\n")


def test_json_option_prints_the_same_results_as_json(tmp_path: Path) -> None:
    def told(*arguments: object, exit_code: int = 0) -> list[dict]:
        done = data(*arguments, "--json")
        assert done.exit_code == exit_code, done.output
        return [json.loads(line) for line in done.stdout.splitlines()]

    photos, page, built = draw_photos(tmp_path / "photos", 2), tmp_path / "page.html", tmp_path / "set"
    assert told("show", photos, "-o", page) == [{"page": str(page), "pictures": 2}]
    (converted,) = told("convert", photos, tmp_path, "--from", "masks")
    assert converted["file"] == str(tmp_path / "records.jsonl")
    assert (converted["photos"], converted["people"], converted["left_out"]) == (2, 2, 0)
    (kept,) = told("build-trainset", photos, "--from", "masks", "-o", built, "--parser", "none", "-j", 1)
    assert (kept["set"], kept["photos"], kept["kept"]) == (str(built), 2, 2) and sum(kept["by_split"].values()) == 2
    (photos / "masks" / "photo00.png").unlink()
    fault, total = told("check", photos, exit_code=1)
    assert fault["kind"] == "empty" and fault["where"].endswith("photo00.jpg")
    assert total == {"data": str(photos), "photos": 2, "people": 1, "faults": 1}


def test_images_option_locates_photos_of_a_json_dataset(tmp_path: Path) -> None:
    source, page = make_kins(tmp_path / "kins"), tmp_path / "page.html"
    images = ("--images", tmp_path / "elsewhere")
    (tmp_path / "kins" / "image_2").rename(tmp_path / "elsewhere")
    for verb, more in (("check", ()), ("show", ("-o", page))):
        lost = data(verb, source, *more)
        assert lost.exit_code == 1 and lost.stderr.endswith(": say where with --images\n")
        nowhere = data(verb, source, *more, "--images", tmp_path / "none")
        assert (nowhere.exit_code, nowhere.stderr) == (1, f"error: --images: no such folder: {tmp_path / 'none'}\n")
        useless = data(verb, draw_photos(tmp_path / verb, 1), "--from", "masks", *more, *images)
        assert useless.exit_code == 2 and "and masks has its photos in it" in useless.stderr
    checked = data("check", source, *images)
    assert checked.exit_code == 1 and checked.stdout.endswith("1 photos, 2 people, 1 faults: 1 licence\n")
    shown = data("show", source, *images, "-o", page)
    assert (shown.exit_code, shown.stdout) == (0, f"{page}: 1 pictures\n"), shown.output


def test_unusable_photos_are_reported_and_exit_code_is_5(tmp_path: Path) -> None:
    photos = draw_photos(tmp_path / "photos", 3)
    assert data("convert", photos, tmp_path, "--from", "masks").exit_code == 0
    (photos / "images" / "photo01.jpg").write_bytes(b"no photo")
    done = data("build-trainset", tmp_path / "records.jsonl", "-o", tmp_path / "set", "--parser", "none", "-j", 1)
    assert done.exit_code == 5 and "2 people of 2 in 3 photos kept" in done.stdout
    assert done.stderr.startswith("left out: ") and "photo01.jpg" in done.stderr


def test_dataset_with_an_unusable_photo_is_built_from_the_rest(tmp_path: Path) -> None:
    photos = draw_photos(tmp_path / "photos", 3)
    (photos / "masks" / "photo01.png").unlink()
    for jobs in (1, 2):
        out = tmp_path / f"set{jobs}"
        done = data(
            "build-trainset", photos, "--from", "masks", "-o", out, "--parser", "none", "-j", jobs, "--split", "train"
        )
        assert done.exit_code == 5 and "2 people of 2 in 3 photos kept" in done.stdout, done.output
        left_out, count = done.stderr.splitlines()
        assert left_out.startswith(f"left out: {photos / 'images' / 'photo01.jpg'}: has no mask")
        assert count == "1 of 3 photos could not be used"
    stopped = data("convert", photos, tmp_path, "--from", "masks")
    assert stopped.exit_code == 1 and "photo01.jpg: has no mask" in stopped.stderr
    for photo in (photos / "images").iterdir():
        photo.write_bytes(b"no photo")
    nobody = data("build-trainset", photos, "--from", "masks", "-o", tmp_path / "none", "--parser", "none", "-j", 1)
    assert nobody.exit_code == 1 and "3 photos cannot be used" in nobody.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["DATASET", "--rules", "tall"], "--rules takes some of crowd, "),
        (["DATASET", "--set", "tall=1"], "--set tall=1: the thresholds are edge_px, "),
        (["DATASET", "--parser", "theirs"], "--parser must be own, none or hf:MODEL, got 'theirs'"),
        (["DATASET", "--split", "test"], "--split must be auto, keep, holdout, train or val, got 'test'"),
        (["DATASET", "--images", "."], "--images is for formats that are a JSON file"),
        (["s3://bucket/photos"], "s3://bucket/photos: of a URL only a records file"),
        (["--people", "crowds", "--limit", "3"], "--limit is for sets of single people"),
        (["--people", "wild", "--no-unoccluded"], "--unoccluded or --no-unoccluded is for sets of single people"),
        (["--people", "records"], "--people records: name the dataset, or records file, with --dataset"),
        (["--people", "built"], "--people built: name the built set with --dataset"),
        (["--people", "folder"], "--people folder: name the folder of photos and masks with --dataset"),
        (["--people", "records", "--dataset", ".", "--from", "mine"], "no format 'mine' to read: there are "),
        (["--people", "full", "--from", "kins"], "--from is for --people records"),
        (["--people", "full", "--split", "all"], "--split must be train or val, got 'all'"),
        (["--people", "crowds", "--split", "train"], "--split is for sets of single people"),
        (["--people", "records", "--dataset", ".", "--split", "train"], "--split is not for --people records"),
    ],
)
def test_invalid_options_give_one_line_errors(tmp_path: Path, arguments: list[str], message: str) -> None:
    command = "build-evalset" if "--people" in arguments else "build-trainset"
    done = data(command, *_with_photos(tmp_path, arguments), "-o", tmp_path / "set")
    assert done.exit_code == 2 and done.stderr.startswith(f"error: {message}") and done.stderr.count("\n") == 1
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["DATASET", "--people", "ccp"], "--people is for evaluation sets: leave it out, or leave out "),
        (["DATASET", "--seed", "0"], "--seed is for evaluation sets"),
        (["DATASET", "--data", "."], "--data is for evaluation sets"),
        (["DATASET", "--no-unoccluded"], "--no-unoccluded is for evaluation sets"),
        (["--rules", "all"], "--rules is for training sets: name the dataset, `data build-trainset DATASET -o "),
        (["--from", "kins"], "--from is for training sets: name the dataset"),
    ],
)
def test_legacy_data_build_rejects_mixed_options(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = data("build", *_with_photos(tmp_path, arguments), "-o", tmp_path / "set")
    assert done.exit_code == 2 and done.stderr.startswith(f"error: {message}") and done.stderr.count("\n") == 1
    assert not (tmp_path / "set").exists()


def test_legacy_data_build_reports_which_command_it_runs(root: Path, tmp_path: Path) -> None:
    photos = draw_photos(tmp_path / "photos", 6)
    trainset = ("--from", "masks", "--parser", "none", "-j", 1)
    says = "data build: writes a training set, as `data build-trainset` does\n"
    for command, told in (("build", says), ("build-trainset", "")):
        done = data(command, photos, *trainset, "-o", tmp_path / f"train-{command}")
        assert (done.exit_code, done.stderr) == (0, told), done.output
    says = "data build: writes an evaluation set, as `data build-evalset` does\n"
    for command, told in (("build", says), ("build-evalset", "")):
        done = data(command, "--data", root, "--people", "full", "-o", tmp_path / f"val-{command}")
        assert (done.exit_code, done.stderr) == (0, told), done.output
    assert data("build", "--data", root, "--people", "full", "-o", tmp_path / "quiet", "-q").output == ""
    for pattern in ("train-*", "val-*"):
        earlier, named = (_shown(folder) for folder in sorted(tmp_path.glob(pattern)))
        assert earlier and earlier == named
    assert "No such option" in data("build-evalset", "-o", tmp_path / "x", "--rules", "all").stderr
    assert "No such option" in data("build-trainset", photos, "-o", tmp_path / "x", "--seed", 1).stderr


def _shown(folder: Path) -> dict[str, bytes]:
    """The images and shards of a set, by their place in it."""
    files = (file for suffix in ("png", "parquet") for file in folder.rglob(f"*.{suffix}"))
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def _with_photos(folder: Path, arguments: list[str]) -> list[str]:
    """The arguments with a drawn dataset in the place of DATASET."""
    photos = draw_photos(folder / "photos", 1)
    given = [str(photos) if word == "DATASET" else word for word in arguments]
    return [*given, *(["--from", "masks"] if "DATASET" in arguments else [])]
