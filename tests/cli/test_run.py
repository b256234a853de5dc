"""`deocclude run` from the outside: exit codes, one-line errors, streams, and every kind of bad input."""

from __future__ import annotations

import csv
import io
import json
import os
import pickle
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image, ImageCms
from typer.testing import CliRunner

from deocclude.cli.app import app
from deocclude.cli.run import parse_finding, rate_text
from deocclude.errors import MissingExtraError
from deocclude.imaging.rle import encode_rle
from deocclude.io.request_stamp import read_stamp
from deocclude.people.prompts import Prompt


class Desk:
    """A folder with photo.png and mask.png, and the command run against tiny networks."""

    def __init__(self, folder: Path, weights: Path) -> None:
        self.folder, self.weights = folder, weights
        self.photo, self.mask = folder / "photo.png", folder / "mask.png"

    def run(self, *arguments: object, stdin: bytes | None = None):
        command = ["run", "--weights", str(self.weights), "--device", "cpu", *map(str, arguments)]
        return CliRunner().invoke(app, command, input=stdin)

    def fails(self, code: int, *arguments: object) -> str:
        """Run, expect the exit code and exactly one line on stderr; returns that line."""
        before = sorted(self.folder.rglob("*"))
        result = self.run(*arguments)
        assert result.exit_code == code, result.output
        assert result.stdout == ""
        assert sorted(self.folder.rglob("*")) == before, "a failure must leave nothing behind"
        (line,) = result.stderr.strip().splitlines()
        assert line.startswith("error: ")
        return line


@pytest.fixture
def desk(tmp_path: Path, weights_dir: Path, person) -> Desk:
    desk = Desk(tmp_path, weights_dir)
    Image.fromarray(person.photo).save(desk.photo)
    Image.fromarray(person.visible).save(desk.mask)
    return desk


def test_run_prints_one_line_per_person_and_writes_an_image(desk: Desk, person) -> None:
    result = desk.run(desk.photo, "--mask", desk.mask, "--box", "265,60,375,230")
    assert result.exit_code == 0, result.output
    first, second = result.stdout.splitlines()
    assert "person 1: " in first and "% of the body hidden" in first and ", score 0." in first and " s, cpu" in first
    assert "person 2: " in second
    content = np.asarray(Image.open(desk.folder / "photo.deoccluded.png"))
    assert content.shape == person.photo.shape
    assert (content != person.photo).any()
    assert result.stderr == ""


def test_report_lists_the_occlusion_order(desk: Desk) -> None:
    result = desk.run(desk.photo, "--box", "100,60,200,300", "--box", "180,200,280,420", "--save", "json", "-v")
    first, second = result.stdout.splitlines()
    assert "% of the body hidden (behind person 2), " in first
    assert "(behind" not in second
    coco = json.loads((desk.folder / "photo.deoccluded.json").read_text())
    assert [(pair["front"], pair["behind"]) for pair in coco["occlusions"]] == [(2, 1)]
    report = json.loads(
        desk.run(
            desk.photo, "--box", "100,60,200,300", "--box", "180,200,280,420", "--overwrite", "--json"
        ).stdout
    )  # fmt: skip
    assert [person["hidden_by"] for person in report["people"]] == [[2], []]


def test_run_reads_people_from_a_coco_file(desk: Desk, person) -> None:
    height, width = person.photo.shape[:2]
    image = {"id": 1, "file_name": "photo.png", "width": width, "height": height}
    row = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [265, 60, 110, 370]}
    people = desk.folder / "people.json"
    people.write_text(json.dumps({"images": [image], "annotations": [row]}))
    result = desk.run(desk.photo, "--segmenter", f"coco:{people}", "--person", "largest", "-o", desk.folder / "out")
    assert result.exit_code == 0 and "person 1: " in result.stdout
    people.write_text(json.dumps({"images": [image], "annotations": []}))
    result = desk.run(desk.photo, "--segmenter", f"coco:{people}", "--overwrite", "-o", desk.folder / "out")
    assert (
        result.exit_code == 0
        and f"photo.png: no people found: {desk.folder / 'out' / 'photo.deoccluded.png'} equals the photo, "
        in result.stdout
    )
    found = ["--segmenter", f"coco:{people}", "--person", "largest", "--save", "rgba"]
    result = desk.run(desk.photo, *found, "-o", "-")
    assert result.exit_code == 0 and "no people found" in result.stderr and result.stdout_bytes == b""


def test_run_says_what_it_leaves_out_of_a_coco_file(desk: Desk, person, caplog: pytest.LogCaptureFixture) -> None:
    height, width = person.photo.shape[:2]
    image = {"id": 1.0, "file_name": "photo.png", "width": width, "height": height}
    brush = {"id": 1, "image_id": 1, "iscrowd": 1, "segmentation": encode_rle(person.visible)}
    crowd = {"id": 2, "image_id": 1, "iscrowd": 1, "bbox": [0, 0, 90, 90]}
    broken = {"id": 3, "image_id": 1, "segmentation": [[60, 40, 200, 250]], "bbox": [60, 40, -5, 9]}
    people = desk.folder / "people.json"

    def arguments(*annotations: dict) -> list[object]:
        people.write_text(json.dumps({"images": [image], "annotations": annotations}))
        return [desk.photo, "--segmenter", f"coco:{people}", "-o", desk.folder / "out"]

    result = desk.run(*arguments(brush, crowd, broken))
    assert result.exit_code == 0 and len(result.stdout.splitlines()) == 1 and "person 1: " in result.stdout
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith(f"{people}: annotation 2 of photo.png: left out as a crowd")
    assert second.startswith(f"{people}: annotation 3 of photo.png: left out: a polygon must be")
    (desk.folder / "out" / "photo.deoccluded.png").unlink()
    line = desk.fails(1, *arguments(broken))
    assert f"{people}: no usable person: annotation 3 of photo.png: left out: a polygon must be" in line


def test_uncrop_reports_the_photo_position_in_the_extended_image(desk: Desk, person) -> None:
    Image.fromarray(person.photo[:200]).save(desk.folder / "cut.png")
    Image.fromarray(person.amodal[:200]).save(desk.folder / "cut-mask.png")
    arguments = [desk.folder / "cut.png", "--mask", desk.folder / "cut-mask.png", "--uncrop", "-o", desk.folder / "out"]
    result = desk.run(*arguments)
    assert "truncated at the bottom" in result.stdout and ", the photo at 0,0" in result.stdout
    report = json.loads(desk.run(*arguments, "--overwrite", "--json").stdout)
    assert report["photo_bbox"] == [0, 0, 640, 200] and report["size_wh"][0] == 640 and report["size_wh"][1] > 204


def test_run_reads_people_from_a_transformers_model(
    desk: Desk, hf_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deocclude.people import hf_segmenter

    opened = []
    read = hf_segmenter._open_model
    monkeypatch.setattr(hf_segmenter, "_open_model", lambda *given: opened.append(given) or read(*given))
    found = ["--segmenter", f"hf:{hf_folder}", "--offline", "--person", "largest", "--min-score", 0.3]
    out = desk.folder / "out"
    result = desk.run(desk.photo, *found, "-o", out)
    assert result.exit_code == 0 and result.stdout.startswith(f"{desk.photo}: person "), result.output
    assert opened == [(str(hf_folder), "cpu", True)], "loaded once, on the requested device"
    assert "already done" in desk.run(desk.photo, *found, "-o", out).stderr
    assert len(opened) == 1, "nothing to do, nothing to read"
    Image.open(desk.photo).save(desk.folder / "again.png")
    result = desk.run(desk.photo, desk.folder / "again.png", *found, "-o", out, "-j", 2, "--overwrite")
    assert result.exit_code == 0, result.output
    assert [line.partition(" person ")[0] for line in result.stdout.splitlines()] == [
        f"{desk.photo}:", f"{desk.folder / 'again.png'}:",
    ]  # fmt: skip
    assert result.stderr.strip() == "2 photos: 2 done"
    assert len(opened) == 1, "the model is opened in the worker processes"
    # Without --min-score only scores of 0.5 and more; this model never reaches it.
    strict = desk.run(desk.photo, "--segmenter", f"hf:{hf_folder}", "-o", desk.folder / "sure")
    assert "no people found" in strict.stdout


def test_files_of_a_folder_that_are_left_out_are_named_at_the_end(desk: Desk) -> None:
    photos = desk.folder / "photos"
    photos.mkdir()
    Image.open(desk.photo).save(photos / "a.jfif", "JPEG")
    (photos / "notes.txt").write_text("no photo")
    arguments = (photos, "--mask", desk.folder / "masks", "-o", desk.folder / "out")
    (desk.folder / "masks").mkdir()
    Image.open(desk.mask).save(desk.folder / "masks" / "a.png")
    result = desk.run(*arguments)
    assert result.exit_code == 0, result.output
    assert result.stderr.strip() == f"left out: 1 files that are no photos: {photos / 'notes.txt'}"
    assert desk.run(*arguments, "--quiet", "--overwrite").stderr == ""

    (photos / "b.NEF").write_bytes(b"raw")
    result = desk.run(*arguments, "--overwrite", "--quiet")
    assert result.exit_code == 5 and "cannot open (convert them to PNG or JPEG)" in result.stderr
    assert str(photos / "b.NEF") in result.stderr and "notes.txt" not in result.stderr
    rows = [json.loads(line) for line in desk.run(*arguments, "--json").stdout.splitlines()]
    assert [(Path(row["source"]).name, row["status"]) for row in rows] == [
        ("a.jfif", "skipped"), ("b.NEF", "left_out"), ("notes.txt", "left_out"),
    ]  # fmt: skip


def test_output_of_another_program_is_kept(desk: Desk) -> None:
    (desk.folder / "photo.deoccluded.png").write_bytes(b"mine!")
    line = desk.fails(2, desk.photo, "--mask", desk.mask)
    assert line.endswith("is no output of a run: name another place with -o, or replace it with --overwrite")
    assert desk.run(desk.photo, "--mask", desk.mask, "--overwrite").exit_code == 0


def write_with_metadata(desk: Desk, orientation: int) -> Path:
    """desk's photo as a JPEG that is stored rotated, with a copyright, a place and a resolution."""
    exif = Image.Exif()
    exif[0x0112], exif[0x8298], exif[0x8825] = orientation, "(c) Ana", {1: "N", 2: (52.0, 30.0, 15.5)}
    photo = Image.open(desk.photo)
    stored = photo.transpose(Image.Transpose.ROTATE_90) if orientation == 6 else photo
    stored.save(desk.folder / "taken.jpg", exif=exif, dpi=(300, 200), quality=95)
    return desk.folder / "taken.jpg"


@pytest.mark.parametrize("orientation", [1, 6])
def test_metadata_of_the_photo_is_kept_in_its_pictures(desk: Desk, orientation: int) -> None:
    taken = write_with_metadata(desk, orientation)
    arguments = [taken, "--mask", desk.mask, "--save", "content,rgba,overlay,amodal"]
    result = desk.run(*arguments)
    assert result.exit_code == 0 and result.stderr == "", result.output
    for name in ("taken.deoccluded.png", "taken.overlay.png", "taken.person1.rgba.png"):
        with Image.open(desk.folder / name) as picture:
            exif = picture.getexif()
            assert picture.size == (640, 480) and exif.get(0x0112, 1) == 1, name
            assert exif[0x8298] == "(c) Ana" and exif.get_ifd(0x8825)[2] == (52.0, 30.0, 15.5), name
            assert tuple(map(round, picture.info["dpi"])) == ((300, 200) if orientation == 1 else (200, 300)), name
    with Image.open(desk.folder / "taken.person1.amodal.png") as mask:
        assert 0x8298 not in mask.getexif(), "a mask is no picture of the photo"
    assert "already done" in desk.run(*arguments).stderr
    streamed = desk.run(taken, "--mask", desk.mask, "-o", "-")
    with Image.open(io.BytesIO(streamed.stdout_bytes)) as picture:
        assert picture.getexif()[0x8298] == "(c) Ana" and 0x0131 not in picture.getexif()


def test_damaged_exif_is_named_and_the_photo_is_done(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    photo = desk.folder / "odd.png"
    Image.open(desk.photo).save(photo, exif=b"Exif\0\0garbage")
    assert desk.run(photo, "--mask", desk.mask).exit_code == 0
    assert [record.getMessage() for record in caplog.records] == [f"{photo}: its EXIF is damaged and is not kept"]
    assert (desk.folder / "odd.deoccluded.png").is_file()


@pytest.mark.parametrize(
    ("name", "suffix", "kind"), [("jpeg", "jpg", "JPEG"), ("jpg", "jpg", "JPEG"), ("webp", "webp", "WEBP")]
)
def test_format_of_content_and_overlay(desk: Desk, name: str, suffix: str, kind: str) -> None:
    taken = write_with_metadata(desk, 1)
    content, overlay = (desk.folder / f"taken.{label}.{suffix}" for label in ("deoccluded", "overlay"))
    arguments = [taken, "--mask", desk.mask, "--save", "content,overlay,rgba", "--format", name]
    result = desk.run(*arguments)
    assert result.exit_code == 0, result.output
    for path in (content, overlay):
        with Image.open(path) as picture:
            assert (picture.format, picture.size) == (kind, (640, 480)) and picture.getexif()[0x8298] == "(c) Ana"
    assert Image.open(desk.folder / "taken.person1.rgba.png").mode == "RGBA", "a cut-out stays PNG"
    before = content.stat().st_mtime_ns
    assert "already done" in desk.run(*arguments).stderr and content.stat().st_mtime_ns == before
    small = desk.run(*arguments, "--quality", 20)
    assert small.exit_code == 0 and "already done" not in small.stderr, "another quality is another request"
    assert "already done" in desk.run(*arguments, "--quality", 20).stderr
    content.write_bytes(content.read_bytes()[:-20])
    assert "already done" not in desk.run(*arguments, "--quality", 20).stderr, "a file that was cut off is done again"


def test_quality_changes_the_size_and_png_stays_exact(desk: Desk) -> None:
    sizes = {}
    for quality in (20, 90):
        out = desk.folder / f"q{quality}.jpg"
        assert desk.run(desk.photo, "--mask", desk.mask, "-o", out, "--quality", quality).exit_code == 0
        sizes[quality] = out.stat().st_size
    assert sizes[20] < sizes[90] / 2
    streamed = desk.run(desk.photo, "--mask", desk.mask, "-o", "-", "--format", "jpeg", "--quality", 20)
    assert Image.open(io.BytesIO(streamed.stdout_bytes)).format == "JPEG"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--format", "gif"], "--format takes png, jpeg, webp, got gif"),
        (["--format", "jpeg", "--uncrop"], "--uncrop leaves transparent surroundings, which JPEG cannot hold"),
        (["--uncrop", "-o", "x.jpg"], "--uncrop leaves transparent surroundings, which JPEG cannot hold"),
        (["--format", "jpeg", "--save", "rgba"], "JPEG cannot hold the transparency of a cut-out"),
        (["--format", "webp", "--save", "amodal,visible"], "is for content and overlay, not for amodal, visible"),
        (["--format", "webp", "-o", "x.jpg"], "-o names a .jpg file, but --format is webp"),
        (["--quality", "80"], "--quality goes with --format jpeg or webp"),
        (["--quality", "80", "-o", "x.png"], "--quality goes with --format jpeg or webp"),
        (["--quality", "80", "--format", "png"], "PNG loses nothing"),
    ],
)
def test_format_options_that_cannot_hold_are_refused(desk: Desk, arguments: list[str], words: str) -> None:
    assert words in desk.fails(2, desk.photo, "--mask", desk.mask, *arguments)


def test_outputs_of_every_format_are_no_inputs(desk: Desk) -> None:
    folder = desk.folder / "photos"
    folder.mkdir()
    Image.open(desk.photo).save(folder / "a.jpg")
    arguments = [folder, "--segmenter", "coco:{}".format(desk.folder / "people.json"), "--save", "content,overlay"]
    image = {"id": 1, "file_name": "a.jpg", "width": 640, "height": 480}
    row = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [265, 60, 110, 370]}
    (desk.folder / "people.json").write_text(json.dumps({"images": [image], "annotations": [row]}))
    for name in ("jpeg", "webp"):
        result = desk.run(*arguments, "--format", name)
        assert result.exit_code == 0 and len(result.stdout.splitlines()) == 1, result.output
    assert {path.name for path in folder.iterdir()} == {
        "a.jpg", "a.deoccluded.jpg", "a.overlay.jpg", "a.deoccluded.webp", "a.overlay.webp",
    }  # fmt: skip


def test_save_all_writes_every_kind(desk: Desk) -> None:
    assert desk.run(desk.photo, "--mask", desk.mask, "--save", "all", "-o", desk.folder / "out").exit_code == 0
    each = desk.folder / "each"
    kinds = "content,rgba,amodal,visible,invisible,parsing,overlay,layers,coco"
    assert desk.run(desk.photo, "--mask", desk.mask, "--save", kinds, "-o", each).exit_code == 0
    written = {path.name: path.read_bytes() for path in (desk.folder / "out").iterdir()}
    assert written == {path.name: path.read_bytes() for path in each.iterdir()} and len(written) == 9
    assert "all" in desk.fails(2, desk.photo, "--mask", desk.mask, "--save", "everything")


def test_min_score_of_a_segmenter() -> None:
    default = parse_finding("hf:some/model", "all", None, 0, False)
    assert (default.finder.min_score, default.min_score) == (0.5, 0.0)
    given = parse_finding("hf:some/model", "all", 0.3, 0, False)
    assert (given.finder.min_score, given.min_score) == (0.3, 0.3)
    strict = parse_finding("hf:some/model", "all", 0.8, 0, False)
    assert (strict.finder.min_score, strict.min_score) == (0.5, 0.8)  # filtered after the people are numbered


def test_missing_transformers_model_is_reported_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.open(desk.photo).save(desk.folder / "again.png")
    there = ["--segmenter", f"hf:{desk.folder / 'none'}"]
    assert "none: no such folder" in desk.fails(3, desk.photo, desk.folder / "again.png", *there)
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert 'pip install "deocclude[segment]"' in desk.fails(4, desk.photo, *there)


def test_missing_extra_comes_out_of_a_worker_process_as_it_was() -> None:
    error = pickle.loads(pickle.dumps(MissingExtraError("training", "train")))
    assert str(error) == 'training needs the extra [train]: pip install "deocclude[train]"' and error.exit_code == 4


def draw_photos(desk: Desk, person, names: str) -> list[Path]:
    """Photos of one person each, in `in/`, and their masks in `masks/`."""
    for folder in ("in", "masks"):
        (desk.folder / folder).mkdir()
    for number, name in enumerate(names):
        photo = person.photo.copy()
        photo[:9, :9] = number
        Image.fromarray(photo).save(desk.folder / "in" / f"{name}.png")
        Image.fromarray(person.visible).save(desk.folder / "masks" / f"{name}.png")
    return sorted((desk.folder / "in").iterdir())


def test_run_killed_halfway_is_resumed_with_nothing_lost_or_half_written(desk: Desk, person) -> None:
    photos = draw_photos(desk, person, "abcdefgh")
    given = [desk.folder / "in", "--mask", desk.folder / "masks", "--save", "content,rgba", "-j", "2"]
    assert desk.run(*given, "-o", desk.folder / "whole").exit_code == 0
    whole = {path.name: path.read_bytes() for path in (desk.folder / "whole").iterdir()}
    assert len(whole) == 2 * len(photos)

    out = desk.folder / "out"
    command = [sys.executable, "-m", "deocclude", "run", "--weights", str(desk.weights), "--device", "cpu"]
    main = subprocess.Popen([*command, *map(str, given), "-o", str(out)], stdout=subprocess.PIPE, text=True)
    assert main.stdout is not None and "person 1" in main.stdout.readline()
    main.kill()
    main.wait()
    main.stdout.close()
    written = [path for path in out.iterdir() if path.suffix == ".png"]
    assert written and all(path.read_bytes() == whole[path.name] for path in written)
    result = desk.run(*given, "-o", out, "--json")
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["source"] for row in rows] == [str(path) for path in photos]
    assert rows[0]["status"] == "skipped"
    assert {path.name: path.read_bytes() for path in out.iterdir()} == whole


def test_shards_together_do_what_one_run_does(desk: Desk, person) -> None:
    draw_photos(desk, person, "abcde")
    given = [desk.folder / "in", "--mask", desk.folder / "masks"]
    assert desk.run(*given, "-o", desk.folder / "whole").exit_code == 0
    done: list[str] = []
    for number in (1, 2, 3):
        result = desk.run(*given, "-o", desk.folder / "out", "--shard", f"{number}/3", "--json")
        assert result.exit_code == 0, result.output
        rows = [json.loads(line) for line in result.stdout.splitlines()]
        assert f"shard {number}/3: {len(rows)} of 5 photos" in result.stderr
        assert all(row["status"] == "done" for row in rows)
        done += [Path(row["source"]).name for row in rows]
    assert sorted(done) == [f"{letter}.png" for letter in "abcde"]
    whole, parts = ({p.name: p.read_bytes() for p in (desk.folder / n).iterdir()} for n in ("whole", "out"))
    assert whole == parts
    empty = [
        n for n in range(1, 51) if "0 of 5" in desk.run(*given, "-o", desk.folder / "out", "--shard", f"{n}/50").stderr
    ]
    assert len(empty) >= 45, "a shard without photos is no error"
    assert "--shard takes I/N" in desk.fails(2, *given, "--shard", "4/3")


def test_missing_photo_of_a_list_fails_alone(desk: Desk, person, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_photos(desk, person, "ab")
    monkeypatch.chdir(desk.folder)
    Path("list.txt").write_text("in/a.png\nin/gone.png\nin/b.png\n")
    Image.fromarray(person.visible).save("masks/gone.png")
    Path("masks").rename("m")
    Path("masks/").mkdir()
    Path("m").rename("masks/in")
    result = desk.run("list.txt", "--mask", "masks", "-o", "out")
    assert result.exit_code == 5
    assert "error: in/gone.png: no such file" in result.stderr and "2 done, 1 failed" in result.stderr
    assert sorted(path.name for path in Path("out/in").iterdir()) == ["a.deoccluded.png", "b.deoccluded.png"]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_manifest_has_a_row_for_each_photo(desk: Desk, person, suffix: str) -> None:
    photos = draw_photos(desk, person, "ab")
    (desk.folder / "in" / "c.png").write_bytes(b"no picture")
    (desk.folder / "in" / "notes.md").write_text("no photo")
    Image.fromarray(person.visible).save(desk.folder / "masks" / "c.png")
    manifest = desk.folder / "made" / f"run{suffix}"
    given = [desk.folder / "in", "--mask", desk.folder / "masks", "-o", desk.folder / "out", "--manifest", manifest]
    assert desk.run(*given, "--save", "visible").exit_code == 5
    first = read_manifest(manifest)
    assert [(Path(row["photo"]).name, row["status"], row["people"]) for row in first] == [
        ("a.png", "done", 1), ("b.png", "done", 1), ("c.png", "failed", None), ("notes.md", "left_out", None),
    ]  # fmt: skip
    assert [row["outputs"] for row in first] == [
        *([str(desk.folder / "out" / f"{path.stem}.person1.visible.png")] for path in photos), [], [],
    ]  # fmt: skip
    for row in first[:2]:
        assert row["seconds"] > 0 and row["device"] == "cpu" and row["reason"] == ""
        assert row["stamp"] == read_stamp(Path(row["outputs"][0]))
    assert "c.png" in first[2]["reason"] and first[3]["reason"] == "files that are no photos"
    assert desk.run(*given, "--save", "visible").exit_code == 5
    again = read_manifest(manifest)
    assert [(row["status"], row["people"], row["stamp"]) for row in again[:2]] == [
        ("skipped", 1, row["stamp"]) for row in first[:2]
    ]
    assert [path.name for path in manifest.parent.iterdir()] == [manifest.name]


def read_manifest(path: Path) -> list[dict]:
    if path.suffix == ".parquet":
        return pytest.importorskip("pyarrow.parquet").read_table(path).to_pylist()
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    with open(path, newline="") as file:
        return [
            {
                **row, "outputs": json.loads(row["outputs"]), "seconds": float(row["seconds"]),
                "people": int(row["people"]) if row["people"] else None,
            }
            for row in csv.DictReader(file)
        ]  # fmt: skip


def test_manifest_that_cannot_be_written_is_one_line(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    given = [desk.photo, "--mask", desk.mask, "--manifest"]
    assert "expected a name in .csv, .jsonl, .parquet" in desk.fails(2, *given, desk.folder / "run.xlsx")
    for name, content in (("run.jsonl", '{"mine": 1}'), ("run.csv", "mine\n"), ("run.parquet", "mine")):
        (desk.folder / name).write_text(content)
        assert "exists and is no manifest" in desk.fails(2, *given, desk.folder / name)
        assert (desk.folder / name).read_text() == content
    (desk.folder / "folder.csv").mkdir()
    assert "expected a file, got a folder" in desk.fails(2, *given, desk.folder / "folder.csv", "--overwrite")
    assert desk.run(*given, desk.folder / "run.csv", "--overwrite").exit_code == 0
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    line = desk.fails(4, *given, desk.folder / "new.parquet")
    assert line == 'error: a manifest in Parquet needs the extra [data]: pip install "deocclude[data]"'


def test_manifest_of_an_interrupted_run_says_what_was_not_tried(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object, **options: object) -> None:
        assert (desk.folder / "run.jsonl.part").read_bytes() == b""
        raise KeyboardInterrupt

    monkeypatch.setattr("deocclude.pipeline.Deoccluder.__call__", interrupt)
    result = desk.run(desk.photo, "--mask", desk.mask, "--manifest", desk.folder / "run.jsonl")
    assert result.exit_code == 130
    (row,) = read_manifest(desk.folder / "run.jsonl")
    assert (row["photo"], row["status"]) == (str(desk.photo), "not_tried")


def test_shards_have_manifests_of_their_own(desk: Desk, person) -> None:
    draw_photos(desk, person, "abcd")
    given = [desk.folder / "in", "--mask", desk.folder / "masks", "-o", desk.folder / "out"]
    for number in (1, 2):
        options = ["--shard", f"{number}/2", "--manifest", desk.folder / "m" / "run.jsonl"]
        assert desk.run(*given, *options).exit_code == 0
    parts = sorted((desk.folder / "m").iterdir())
    assert [path.name for path in parts] == ["run.1-of-2.jsonl", "run.2-of-2.jsonl"]
    rows = [row for path in parts for row in read_manifest(path)]
    assert sorted(Path(row["photo"]).name for row in rows) == [f"{letter}.png" for letter in "abcd"]


def test_rate_and_time_left_follow_the_photos_that_were_worked_on() -> None:
    assert rate_text(0, 9, 5.0) == "" == rate_text(3, 0, 0.0)
    assert rate_text(20, 10, 8.0) == "2.5 photos/s, 0:00:04 left"
    assert rate_text(2, 1000, 8.0) == "4.0 s/photo, 1:06:40 left"


def test_time_limit_ends_a_photo_and_names_it(desk: Desk) -> None:
    line = desk.fails(1, desk.photo, "--mask", desk.mask, "--time-limit", "0.001")
    assert line == f"error: {desk.photo}: took longer than the time limit of 0.001 s"
    assert desk.run(desk.photo, "--mask", desk.mask, "--time-limit", "600").exit_code == 0
    for seconds in ("0", "-1", "nan", "inf"):
        line = desk.fails(2, desk.photo, "--mask", desk.mask, "--overwrite", "--time-limit", seconds)
        assert line == f"error: --time-limit takes seconds above 0, got {seconds}"
    assert "standard input and output have none" in desk.fails(2, "-", "--mask", desk.mask, "--time-limit", "9")


def test_invalid_segmenter_option_lists_accepted_forms(desk: Desk) -> None:
    for other in ("magic", "magic:x", "hf:", "coco:"):
        line = desk.fails(2, desk.photo, "--segmenter", other)
        assert line == f"error: --segmenter takes coco:FILE.json or hf:MODEL, got {other}"
    assert "no such file" in desk.fails(1, desk.photo, "--segmenter", f"coco:{desk.folder / 'none.json'}")
    assert "--segmenter" in desk.fails(2, desk.photo, "--mask", desk.mask, "--person", "1")
    assert "largest" in desk.fails(2, desk.photo, "--segmenter", "coco:x.json", "--person", "nobody")


def test_complete_option_forces_or_disables_completion(desk: Desk) -> None:
    lines = [
        desk.run(desk.photo, "--mask", desk.mask, "--overwrite", "--complete", c).stdout for c in ("always", "never")
    ]
    assert ": 0% of the body hidden" not in lines[0] and ": 0% of the body hidden" in lines[1]
    assert "equals the photo" not in lines[0]
    told = f"{desk.photo}: nothing hidden was recovered: {desk.folder / 'photo.deoccluded.png'} equals the photo, "
    assert told in lines[1]
    with Image.open(desk.photo) as photo, Image.open(desk.folder / "photo.deoccluded.png") as written:
        np.testing.assert_array_equal(np.asarray(written), np.asarray(photo))
    assert "complete must be auto, always or never" in desk.fails(2, desk.photo, "--complete", "sometimes")


def test_layers_are_written_to_a_separate_file(desk: Desk) -> None:
    assert desk.run(desk.photo, "--mask", desk.mask, "--save", "layers").exit_code == 0
    named = desk.folder / "out" / "mine.ora"
    assert desk.run(desk.photo, "--mask", desk.mask, "--save", "layers", "-o", named).exit_code == 0
    assert (desk.folder / "photo.deoccluded.ora").read_bytes() == named.read_bytes()


def test_canvas_layers_are_as_large_as_the_photo(desk: Desk) -> None:
    assert desk.run(desk.photo, "--mask", desk.mask, "--save", "layers").exit_code == 0
    trimmed = layer_boxes(desk.folder / "photo.deoccluded.ora")
    # another layer size is another request: the finished photo is done again
    desk.run(desk.photo, "--mask", desk.mask, "--save", "layers", "--layer-size", "canvas")
    canvas = layer_boxes(desk.folder / "photo.deoccluded.ora")
    width, height = Image.open(desk.photo).size
    assert list(canvas) == list(trimmed) and set(canvas.values()) == {(0, 0, width, height)}
    assert trimmed["photo"] == trimmed["background"] == (0, 0, width, height)
    (person,) = (box for name, box in trimmed.items() if name.startswith("person 1"))
    assert person[2] < width or person[3] < height


def layer_boxes(path: Path) -> dict[str, tuple[int, int, int, int]]:
    """x, y, width and height of each layer of an OpenRaster file, by name."""
    with zipfile.ZipFile(path) as archive:
        rows = list(ElementTree.fromstring(archive.read("stack.xml")).iter("layer"))
        sizes = [Image.open(archive.open(row.get("src", ""))).size for row in rows]
    return {
        row.get("name", ""): (int(row.get("x", "")), int(row.get("y", "")), *size)
        for row, size in zip(rows, sizes, strict=True)
    }


def test_layer_size_is_for_layers(desk: Desk) -> None:
    other = desk.fails(2, desk.photo, "--mask", desk.mask, "--save", "layers", "--layer-size", "full")
    assert other == "error: layer size must be trimmed or canvas, got 'full'"
    assert "add layers to --save" in desk.fails(2, desk.photo, "--mask", desk.mask, "--layer-size", "canvas")


def test_layers_are_rejected_for_image_names_and_stdout(desk: Desk) -> None:
    assert ".ora" in desk.fails(2, desk.photo, "--mask", desk.mask, "--save", "layers", "-o", desk.folder / "x.png")
    assert ".png" in desk.fails(2, desk.photo, "--mask", desk.mask, "--save", "overlay", "-o", desk.folder / "x.ora")
    assert "content" in desk.fails(2, desk.photo, "--mask", desk.mask, "-o", desk.folder / "x.ora")
    assert "file" in desk.fails(2, desk.photo, "--mask", desk.mask, "--save", "layers", "-o", "-")


def test_model_without_detector_is_reported_and_exits_with_2(desk: Desk) -> None:
    line = desk.fails(2, desk.photo)
    assert "cannot find people" in line and "masks" in line


def test_run_without_prompt_uses_the_detector(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deocclude.pipeline.Deoccluder._people_prompts", lambda *_: [Prompt((400, 60, 500, 300), 0.8)])
    result = desk.run(desk.photo, "--save", "rgba,content")
    assert result.exit_code == 0 and "person 1:" in result.stdout
    assert (desk.folder / "photo.person1.rgba.png").is_file() and (desk.folder / "photo.deoccluded.png").is_file()
    monkeypatch.setattr("deocclude.pipeline.Deoccluder._people_prompts", lambda *_: [])
    result = desk.run(desk.photo, "--save", "rgba", "--overwrite")
    assert result.exit_code == 0 and "no people found" in result.stdout


def test_json_option_prints_a_report(desk: Desk) -> None:
    result = desk.run(desk.photo, "--mask", desk.mask, "--json")
    report = json.loads(result.stdout)
    assert report["status"] == "done"
    assert report["device"] == "cpu"
    assert report["outputs"] == [str(desk.folder / "photo.deoccluded.png")]
    assert 0 < report["people"][0]["hidden_fraction"] < 1


def test_finished_photo_is_skipped(desk: Desk) -> None:
    assert desk.run(desk.photo, "--mask", desk.mask).exit_code == 0
    output = desk.folder / "photo.deoccluded.png"
    stamp = output.stat().st_mtime_ns
    again = desk.run(desk.photo, "--mask", desk.mask)
    assert again.exit_code == 0 and "already done" in again.stderr and again.stdout == ""
    assert output.stat().st_mtime_ns == stamp
    assert desk.run(desk.photo, "--mask", desk.mask, "--overwrite").exit_code == 0
    assert output.stat().st_mtime_ns > stamp
    changed = desk.run(desk.photo, "--mask", desk.mask, "--complete", "always")
    assert changed.exit_code == 0 and "already done" not in changed.stderr
    assert "already done" in desk.run(desk.photo, "--mask", desk.mask, "--complete", "always").stderr


def test_stdin_to_stdout(desk: Desk) -> None:
    result = desk.run("-", "--mask", desk.mask, stdin=desk.photo.read_bytes())
    assert result.exit_code == 0, result.stderr
    streamed = np.asarray(Image.open(io.BytesIO(result.stdout_bytes)))
    desk.run(desk.photo, "--mask", desk.mask)
    np.testing.assert_array_equal(streamed, np.asarray(Image.open(desk.folder / "photo.deoccluded.png")))
    assert "person 1: " in result.stderr, "the report must not be mixed into the picture"


def test_stdin_to_a_file_and_a_file_to_stdout(desk: Desk) -> None:
    out = desk.folder / "named.png"
    assert desk.run("-", "--mask", desk.mask, "-o", out, stdin=desk.photo.read_bytes()).exit_code == 0
    streamed = desk.run(desk.photo, "--mask", desk.mask, "-o", "-")
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(streamed.stdout_bytes))), np.asarray(Image.open(out)))
    assert "--json" in desk.fails(2, desk.photo, "--mask", desk.mask, "-o", "-", "--json")


def test_closed_stream_is_reported(desk: Desk) -> None:
    command = [sys.executable, "-m", "deocclude", "run", "--weights", str(desk.weights), "--mask", str(desk.mask)]
    for arguments, closed, code in ((["-", "-o", "x.png"], "<&-", 1), ([str(desk.photo), "-o", "-"], ">&-", 2)):
        line = f"{shlex.join([*command, *arguments])} {closed}"
        done = subprocess.run(["sh", "-c", line], cwd=desk.folder, stderr=subprocess.PIPE, text=True)
        assert done.returncode == code
        assert done.stderr.startswith("error: standard") and done.stderr.count("\n") == 1


def test_damaged_stdin_is_reported(desk: Desk) -> None:
    result = desk.run("-", "--mask", desk.mask, stdin=b"not a picture")
    assert result.exit_code == 1
    assert "standard input" in result.stderr and result.stdout_bytes == b""


def write_truncated(path: Path) -> None:
    picture = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8)).save(picture, "JPEG")
    path.write_bytes(picture.getvalue()[:20_000])


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("truncated.jpg", write_truncated),
        ("corrupt.png", lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(400))),
        ("text.jpg", lambda path: path.write_text("hello")),
        ("empty.jpg", lambda path: path.touch()),
        ("missing.jpg", lambda path: None),
    ],
)
def test_error_names_the_bad_photo(desk: Desk, name: str, write) -> None:
    write(desk.folder / name)
    assert name in desk.fails(1, desk.folder / name, "--mask", desk.mask)


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (np.ones((512, 512), bool), ("640x480", "512x512")),
        (np.zeros((480, 640), bool), ("empty",)),
        (None, ("no such file",)),
    ],
)
def test_error_names_the_bad_mask(desk: Desk, mask: np.ndarray | None, words: tuple[str, ...]) -> None:
    path = desk.folder / "bad_mask.png"
    if mask is not None:
        Image.fromarray(mask).save(path)
    line = desk.fails(1, desk.photo, "--mask", path)
    assert "bad_mask.png" in line
    for word in words:
        assert word in line


def test_box_outside_the_photo_is_rejected(desk: Desk) -> None:
    line = desk.fails(1, desk.photo, "--box", "600,400,900,700")
    assert "photo.png" in line and "600, 400, 900, 700" in line


@pytest.mark.parametrize("box", ["1,2,3", "a,b,c,d", "9,9,1,1", "0,0,nan,9", "0,0,inf,9", ""])
def test_malformed_box_is_rejected(desk: Desk, box: str) -> None:
    assert "x0,y0,x1,y1" in desk.fails(2, desk.photo, "--box", box)


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ("0.1,0.2,0.5,0.9", "got (0.1, 0.2, 0.5, 0.9), which looks like fractions of the photo's size"),
        ("200,100,50,80", "if that is x, y, width, height, the box is (200, 100, 250, 180)"),
        ("10,20,12,200", "must be at least 4 px wide and high, got (10, 20, 12, 200)"),
    ],
)
def test_box_that_is_a_slip_is_named(desk: Desk, box: str, words: str) -> None:
    assert words in desk.fails(2, desk.photo, "--box", box)


def test_label_file_has_one_person_a_label(desk: Desk, person) -> None:
    labels = person.visible.astype(np.uint8)
    labels[300:400, 40:100], labels[300:400, 500:560] = 2, 3
    Image.fromarray(labels).save(desk.mask)
    out = desk.folder / "out"
    result = desk.run(desk.photo, "--mask", desk.mask, "--save", "visible", "-o", out)
    assert [line.split(": ")[1] for line in result.stdout.splitlines()] == ["person 1", "person 2", "person 3"]
    first, second, third = (np.asarray(Image.open(out / f"photo.person{i}.visible.png")) > 0 for i in (1, 2, 3))
    assert first[150, 320] and second[350, 70] and third[350, 530]
    assert not (first & (second | third)).any()
    picked = desk.run(desk.photo, "--mask", desk.mask, "--mask-label", "3", "--save", "visible", "-o", out)
    assert [line.split(": ")[1] for line in picked.stdout.splitlines()] == ["person 1"]
    assert [path.name for path in out.iterdir()] == ["photo.person1.visible.png"]
    assert (np.asarray(Image.open(out / "photo.person1.visible.png")) > 0)[350, 530]


def test_class_map_and_wrong_mask_labels_are_one_line(desk: Desk, person) -> None:
    classes = person.visible.astype(np.uint8) * 15
    classes[300:400, 40:100] = 2
    Image.fromarray(classes).save(desk.mask)
    line = desk.fails(1, desk.photo, "--mask", desk.mask)
    assert "mask.png: " in line and f"2 (6000 px), 15 ({np.count_nonzero(person.visible)} px)" in line
    assert "--mask-label N" in line
    assert "found labels 0 (" in desk.fails(1, desk.photo, "--mask", desk.mask, "--mask-label", "7")
    assert "name one with --mask" in desk.fails(2, desk.photo, "--mask-label", "1")
    assert "name one with --mask" in desk.fails(2, desk.photo, "--mask-label", "1", "--box", "9,9,90,90")


def as_16_bit(rgb: np.ndarray) -> Image.Image:
    return Image.fromarray(rgb[..., 0].astype(np.uint16) * 257)


@pytest.mark.parametrize(
    ("name", "convert"),
    [
        ("cmyk.jpg", lambda rgb: Image.fromarray(rgb).convert("CMYK")),
        ("palette.png", lambda rgb: Image.fromarray(rgb).quantize(64)),
        ("grey.png", lambda rgb: Image.fromarray(rgb).convert("L")),
        ("deep.png", as_16_bit),
        ("alpha.png", lambda rgb: Image.fromarray(rgb).convert("RGBA")),
    ],
)
def test_unusual_pixels_are_read(desk: Desk, person, name: str, convert) -> None:
    convert(person.photo).save(desk.folder / name)
    result = desk.run(desk.folder / name, "--mask", desk.mask)
    assert result.exit_code == 0, result.stderr
    output = Image.open(desk.folder / f"{Path(name).stem}.deoccluded.png")
    assert output.mode == "RGB" and output.size == (640, 480)


def test_first_frame_of_an_animated_picture(desk: Desk, person) -> None:
    frames = [Image.fromarray(person.photo), Image.new("RGB", (640, 480))]
    frames[0].save(desk.folder / "moving.webp", save_all=True, append_images=frames[1:], lossless=True)
    assert desk.run(desk.folder / "moving.webp", "--mask", desk.mask).exit_code == 0
    content = np.asarray(Image.open(desk.folder / "moving.deoccluded.png"))
    assert (content[:, :40] == person.photo[:, :40]).all()


def test_exif_rotation_gives_an_upright_picture(desk: Desk, person) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    lying = Image.fromarray(np.rot90(person.photo))
    lying.save(desk.folder / "turned.png", exif=exif)
    assert desk.run(desk.folder / "turned.png", "--mask", desk.mask).exit_code == 0
    desk.run(desk.photo, "--mask", desk.mask)
    turned, plain = (np.asarray(Image.open(desk.folder / f"{n}.deoccluded.png")) for n in ("turned", "photo"))
    np.testing.assert_array_equal(turned, plain)


def test_unwritable_output_is_reported(desk: Desk) -> None:
    # A file in place of a folder is an error for root too, which ignores permissions.
    (desk.folder / "taken").touch()
    line = desk.fails(1, desk.photo, "--mask", desk.mask, "-o", f"{desk.folder}/taken/out/")
    assert "cannot write" in line and "taken" in line
    line = desk.fails(1, desk.photo, "--mask", desk.mask, "-o", f"{desk.folder}/taken/")
    assert line.endswith("taken is a file")


def test_input_mask_is_never_overwritten(desk: Desk) -> None:
    before = desk.mask.read_bytes()
    line = desk.fails(2, desk.photo, "--mask", desk.mask, "-o", desk.mask, "--overwrite")
    assert "mask.png is an input" in line
    assert desk.mask.read_bytes() == before


def test_two_photos_of_one_name_get_two_outputs(desk: Desk, person) -> None:
    Image.fromarray(person.photo).save(desk.folder / "photo.jpg")
    (desk.folder / "masks").mkdir()
    Image.open(desk.mask).save(desk.folder / "masks" / "photo.png")
    result = desk.run(desk.photo, desk.folder / "photo.jpg", "--mask", desk.folder / "masks", "-o", desk.folder / "out")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (desk.folder / "out").iterdir()) == [
        "photo.jpg.deoccluded.png", "photo.png.deoccluded.png",
    ]  # fmt: skip


def test_partly_failed_batch_exits_with_5(desk: Desk, person) -> None:
    (desk.folder / "masks").mkdir()
    (desk.folder / "bad.png").touch()
    for name in ("photo", "bad"):
        Image.fromarray(person.visible).save(desk.folder / "masks" / f"{name}.png")
    result = desk.run(desk.folder / "bad.png", desk.photo, "--mask", desk.folder / "masks", "-j", 2)
    assert result.exit_code == 5
    assert "bad.png" in result.stderr and "1 done, 1 failed" in result.stderr
    assert "photo.png: person 1" in result.stdout
    assert (desk.folder / "photo.deoccluded.png").exists()

    stopped = desk.run(
        desk.folder / "bad.png", desk.photo, "--mask", desk.folder / "masks", "--fail-fast", "--overwrite"
    )
    assert stopped.exit_code == 5
    assert "1 failed, 1 not tried" in stopped.stderr


def test_missing_weights_exit_with_3(desk: Desk, tmp_path: Path) -> None:
    desk.weights = tmp_path / "nowhere"
    assert "manifest.json" in desk.fails(3, desk.photo, "--mask", desk.mask)


def test_unknown_model_exits_with_2_and_absent_device_with_4(desk: Desk) -> None:
    assert "base" in desk.fails(2, desk.photo, "--mask", desk.mask, "-m", "huge")
    assert "cuda" in desk.fails(4, desk.photo, "--mask", desk.mask, "--device", "cuda")


def test_quiet_and_verbose(desk: Desk) -> None:
    quiet = desk.run(desk.photo, "--mask", desk.mask, "-q")
    assert quiet.exit_code == 0 and quiet.output == ""
    verbose = desk.run(desk.photo, "--mask", desk.mask, "-v", "--overwrite")
    assert "complete" in verbose.stderr and "photo.deoccluded.png" in verbose.stderr


def test_interrupt_exits_with_130(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("deocclude.pipeline.Deoccluder.__call__", interrupt)
    result = desk.run(desk.photo, "--mask", desk.mask)
    assert result.exit_code == 130
    assert result.stderr.strip() == "interrupted"
    assert not list(desk.folder.glob("*.deoccluded.png"))


def test_outputs_keep_the_photos_icc_profile(desk: Desk) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    with Image.open(desk.photo) as photo:
        photo.save(desk.photo, icc_profile=profile)
    folder = desk.photo.parent / "out"
    assert desk.run(desk.photo, "--mask", desk.mask, "-o", folder, "--save", "content,rgba,amodal").exit_code == 0
    kept = {path.name.split(".")[-2]: Image.open(path).info.get("icc_profile") for path in folder.iterdir()}
    assert kept == {"deoccluded": profile, "rgba": profile, "amodal": None}
    streamed = desk.run("-", "--mask", desk.mask, stdin=desk.photo.read_bytes())
    assert Image.open(io.BytesIO(streamed.stdout_bytes)).info["icc_profile"] == profile
    assert "a photo's name is empty" in desk.fails(2, "", "--mask", desk.mask)


@pytest.mark.parametrize("kind", ["parsing", "amodal"])
def test_stdout_stream_equals_the_written_file(desk: Desk, kind: str) -> None:
    out = desk.folder / "named.png"
    assert desk.run(desk.photo, "--mask", desk.mask, "--save", kind, "-o", out).exit_code == 0
    streamed = desk.run(desk.photo, "--mask", desk.mask, "--save", kind, "-o", "-")
    with Image.open(out) as file, Image.open(io.BytesIO(streamed.stdout_bytes)) as stream:
        assert file.mode == stream.mode and file.getpalette() == stream.getpalette()
        assert np.array_equal(np.asarray(file), np.asarray(stream))


def test_unencodable_file_name_does_not_stop_the_run(desk: Desk) -> None:
    photo = desk.photo.rename(desk.folder / "名.png")
    command = [
        sys.executable,
        "-m",
        "deocclude",
        "run",
        "--weights",
        str(desk.weights),
        str(photo),
        "--mask",
        desk.mask,
    ]
    done = subprocess.run(command, env=os.environ | {"PYTHONIOENCODING": "latin-1"}, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert b"\\u540d.png: person 1: " in done.stdout and (desk.folder / "名.deoccluded.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--engine", "spark"], "--engine takes processes or ray, got spark"),
        (["--address", "127.0.0.1:6379"], "add --engine ray"),
        (["-o", "s3://bucket/out"], "s3://bucket/out: photos and results in a store need --engine ray"),
        (["--engine", "ray", "--time-limit", "5"], "--time-limit ends a process of this machine"),
        (["--engine", "ray", "--device", "cuda"], "--engine ray computes on CPUs"),
    ],
)
def test_engine_options_that_cannot_hold_are_refused(desk: Desk, arguments: list[str], words: str) -> None:
    assert words in desk.fails(2, desk.photo, *arguments)
