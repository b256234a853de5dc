"""Which format a path is, and `deocclude data convert` from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from datasetfolder import (
    FIRST,
    make_ahp,
    make_cihp,
    make_coco,
    make_cocoa,
    make_cutouts,
    make_kins,
    make_lip,
    make_masks,
    make_sbd,
    make_voc,
    polygon,
    write_json,
    write_labels,
)
from deocclude.cli.app import app
from deocclude.data.datasets import coco_amodal, records_file
from deocclude.data.datasets.convert import DETAILS
from deocclude.data.datasets.registry import FORMATS, reader
from deocclude.errors import UsageError

MAKERS: dict[str, Callable[[Path], Path]] = {
    "ahp": make_ahp, "cihp": make_cihp, "coco": make_coco, "coco-amodal": make_cocoa, "cutouts": make_cutouts,
    "kins": make_kins, "lip": make_lip, "sbd": make_sbd, "voc": make_voc,
}  # fmt: skip


def convert(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["data", "convert", *map(str, arguments)])


@pytest.mark.parametrize("name", MAKERS)
def test_format_is_detected(tmp_path: Path, name: str) -> None:
    assert reader(None, MAKERS[name](tmp_path)).name == name


def test_clothing_co_parsing_is_detected(data_root: Path) -> None:
    assert reader(None, data_root / "ccp").name == "ccp"


def test_ambiguous_format_asks_for_the_from_option(tmp_path: Path, data_root: Path) -> None:
    with pytest.raises(UsageError, match="may be masks or whole-masks: say which with --from"):
        reader(None, make_masks(tmp_path / "a"))
    for unknown in (data_root / "wild", tmp_path):
        with pytest.raises(UsageError, match=r"cannot tell the format of .*: name it with --from, one of records, ahp"):
            reader(None, unknown)
    assert reader("whole-masks", tmp_path / "a") is FORMATS["whole-masks"]


def test_convert_into_records(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = convert(make_ahp(tmp_path / "AHP"), out)
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{out / 'records.jsonl'}: 2 photos, 2 people, 2 of them whole, 1 with parsing\n"
    first, second = records_file.read(out / "records.jsonl")
    assert Path(first.image).is_file() and second.id == "b2"
    assert first.people[0].parsing_labels().any()
    assert json.loads((out / "records.jsonl").read_text().splitlines()[0])["image"] == "../AHP/train/JPEGImages/a1.jpg"


@pytest.mark.parametrize("name", [*MAKERS, "masks", "whole-masks"])
def test_every_format_converts(tmp_path: Path, name: str) -> None:
    source = MAKERS.get(name, make_masks)(tmp_path / "in")
    images = ["--images", tmp_path / "in" / "image_2"] if name == "kins" else []
    done = convert(source, tmp_path / "r.jsonl", "--from", name, *images, "-q")
    assert (done.exit_code, done.stdout) == (0, ""), done.output
    records = list(records_file.read(tmp_path / "r.jsonl"))
    assert records and all(record.source == name and Path(record.image).is_file() for record in records)


def test_convert_to_coco_amodal_and_back(tmp_path: Path) -> None:
    records, amodal, again = tmp_path / "r.jsonl", tmp_path / "deep" / "amodal.json", tmp_path / "again.jsonl"
    assert convert(make_cocoa(tmp_path / "COCO"), records).exit_code == 0
    done = convert(records, amodal, "--to", "coco-amodal")
    assert done.exit_code == 0, done.output
    assert done.stdout == (
        f"{amodal}: 1 photos, 2 people, 2 of them whole, 0 with parsing, 1 crowds, "
        "1 left out: crowds, or the whole is not known; "
        "dropped, as the format cannot hold it: things, split, photo ids, person ids\n"
    )
    assert convert(amodal, again, "--from", "coco-amodal").exit_code == 0
    (before,), (after,) = records_file.read(records), records_file.read(again)
    assert Path(before.image).resolve() == Path(after.image).resolve()
    assert [(p.visible, p.amodal, p.depth_order) for p in before.people[:2]] == [
        (p.visible, p.amodal, p.depth_order) for p in after.people
    ]


def test_fields_dropped_by_coco_amodal_are_reported(tmp_path: Path) -> None:
    done = convert(make_ahp(tmp_path / "AHP"), tmp_path / "ahp.json", "--to", "coco-amodal")
    line = "; dropped, as the format cannot hold it: parsing, licence, split, photo ids, person ids\n"
    assert done.exit_code == 0 and done.stdout.endswith(f"1 with parsing{line}"), done.output
    done = convert(make_cutouts(tmp_path / "cutouts"), tmp_path / "cutouts.json", "--to", "coco-amodal")
    assert done.stdout.endswith(": cut-out, photo ids, person ids\n"), "what is not told is not dropped"
    (photo,) = coco_amodal.read(tmp_path / "cutouts.json")
    assert (photo.has_background, photo.licence, photo.people[0].parsing) == (True, None, None)
    for name in FORMATS.values():
        assert name.writer is None or set(name.writer.cannot_hold) <= set(DETAILS)


def test_people_left_out_or_repaired_are_counted(tmp_path: Path) -> None:
    source = make_coco(tmp_path / "COCO")
    content = json.loads(source.read_text())
    content["annotations"][0]["visible_mask"] = [polygon(2, 1, 7, 11)]
    done = convert(write_json(source, content), tmp_path / "r.jsonl")
    assert done.exit_code == 0 and "1 people, 1 of them whole" in done.stdout, done.output
    empty, outside = done.stderr.splitlines()
    assert empty == "1 people left out: the mask is empty; data check names them"
    assert outside.startswith("1 people repaired: visible pixels lie outside the amodal mask")
    (person, _), empty = (record.people for record in records_file.read(tmp_path / "r.jsonl"))
    assert (person.amodal, empty) == (person.visible, ())
    assert "notes" not in json.loads((tmp_path / "r.jsonl").read_text().splitlines()[0])


def test_existing_output_is_kept_without_overwrite(tmp_path: Path) -> None:
    source, out = make_ahp(tmp_path / "AHP"), tmp_path / "records.jsonl"
    out.write_text("mine")
    done = convert(source, out)
    assert (done.exit_code, done.stderr) == (2, f"error: {out} is there already: --overwrite replaces it\n")
    assert out.read_text() == "mine"
    assert convert(source, out, "--overwrite").exit_code == 0
    again = convert(out, out, "--overwrite")
    assert again.exit_code == 2 and "over itself" in again.stderr


def test_bad_input_gives_a_one_line_error_and_no_output(tmp_path: Path) -> None:
    source = make_ahp(tmp_path / "AHP")
    write_labels(source / "train" / "Annotations" / "b2.png", FIRST[:5] * 255)
    done = convert(source, tmp_path / "out")
    label = source / "train" / "Annotations" / "b2.png"
    assert (done.exit_code, done.stderr) == (
        1, f"error: {label}: must have the photo's size (12, 16) (HxW), got (5, 16)\n",
    )  # fmt: skip
    assert not list((tmp_path / "out").iterdir())


def test_missing_photo_of_a_record_is_reported(tmp_path: Path) -> None:
    records, out = tmp_path / "records.jsonl", tmp_path / "out.jsonl"
    assert convert(make_ahp(tmp_path / "AHP"), records).exit_code == 0
    photo = tmp_path / "AHP" / "train" / "JPEGImages" / "b2.jpg"
    photo.unlink()
    done = convert(records, out)
    assert (done.exit_code, done.stderr) == (1, f"error: photo not found: looked for {photo}\n")
    assert not out.exists()


def test_dataset_without_people_or_photos_is_an_error(tmp_path: Path) -> None:
    source = make_ahp(tmp_path / "AHP")
    for file in (source / "train" / "Annotations").iterdir():
        write_labels(file, FIRST * 0)
    done = convert(source, tmp_path / "out")
    assert (done.exit_code, done.stderr) == (1, f"error: {source}: no person in its 2 photos\n")
    for file in (source / "train" / "Annotations").iterdir():
        file.unlink()
    done = convert(source, tmp_path / "out")
    assert (done.exit_code, done.stderr) == (1, f"error: {source}: no photo of the format ahp in it\n")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("{out}/nowhere", "{out}/x"), 1, "no such file or folder"),
        (("{source}", "{out}/x", "--from", "pdf"), 2, "no format 'pdf' to read: there are records, ahp"),
        (("{source}", "{out}/x", "--to", "ahp"), 2, "no format 'ahp' to write: there are records, coco-amodal"),
        (("{source}", "{out}/x.json"), 2, "records is written to a .jsonl file or into a folder"),
        (("{source}", "{out}/x", "--images", "{out}"), 2, "--images is for formats that are a JSON file"),
        (("{source}", "{out}/x", "--from", "voc"), 1, "not PASCAL VOC with segmentations"),
        (("{source}", "{out}/taken/x"), 1, "cannot write to the folder"),
    ],
)
def test_convert_errors_give_one_line_and_exit_code(tmp_path: Path, arguments: tuple, code: int, message: str) -> None:
    places = {"source": make_ahp(tmp_path / "AHP"), "out": tmp_path}
    (tmp_path / "taken").touch()
    done = convert(*(argument.format(**places) for argument in arguments))
    assert done.exit_code == code and message in done.stderr, done.output
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "x" / "records.jsonl").exists()


def test_help_names_every_format() -> None:
    text = " ".join(CliRunner().invoke(app, ["data", "convert", "--help"], env={"COLUMNS": "200"}).stdout.split())
    assert f"Formats: {', '.join(sorted(FORMATS))};" in text
