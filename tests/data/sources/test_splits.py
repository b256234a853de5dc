"""Train and val: as the dataset states it, known before a photo is opened, or every sixth photo held out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from datasetfolder import make_ahp, make_cihp, make_coco, make_cocoa, make_kins, make_lip, make_sbd, make_voc
from deocclude.cli.app import app
from deocclude.data.datasets.record import PhotoRecord
from deocclude.data.datasets.records_file import write
from deocclude.data.datasets.registry import FORMATS, reader
from deocclude.data.sources.splits import choose_split, missing_splits, split_of
from deocclude.data.trainsets.build import open_records
from deocclude.errors import InputError
from drawn_photos import draw_photos

MAKERS: dict[str, Callable[[Path], Path]] = {
    "ahp": make_ahp, "cihp": make_cihp, "coco": make_coco, "coco-amodal": make_cocoa, "kins": make_kins,
    "lip": make_lip, "sbd": make_sbd, "voc": make_voc,
}  # fmt: skip


def photo(number: int, split: str | None) -> PhotoRecord:
    return PhotoRecord(image=f"{number}.jpg", size_hw=(8, 8), source="test", id=str(number), split=split)


def build_set(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["data", "build-trainset", *map(str, arguments), "--parser", "none", "-j", "1"])


@pytest.mark.parametrize("name", MAKERS)
def test_format_splits_match_the_splits_of_the_records(tmp_path: Path, name: str) -> None:
    source = MAKERS[name](tmp_path)
    images = tmp_path / "image_2" if name == "kins" else None
    stated = {record.split for record in open_records(str(source), images=images)}
    assert FORMATS[name].splits is not None and set(FORMATS[name].splits(source)) == stated


def test_clothing_co_parsing_splits_are_detected(data_root: Path) -> None:
    assert set(reader(None, data_root / "ccp").splits(data_root / "ccp")) == {"train", "val"}
    assert choose_split(str(data_root / "ccp")) == "keep"


def test_single_split_dataset_uses_holdout_unless_it_is_val(tmp_path: Path) -> None:
    assert choose_split(str(make_ahp(tmp_path / "ahp"))) == "holdout"
    assert choose_split(str(make_lip(tmp_path / "lip"))) == "keep"
    val = make_coco(tmp_path / "coco")
    assert choose_split(str(val)) == "keep", "nobody of it gets into training unasked"
    shutil.copy(val, val.with_name("instances_train2017.json"))
    assert choose_split(str(val.with_name("instances_train2017.json"))) == "holdout"
    assert choose_split(str(draw_photos(tmp_path / "photos", 1)), "masks") == "keep"
    with pytest.raises(InputError, match="no such file or folder"):
        choose_split(str(tmp_path / "nowhere"))


def test_records_file_is_scanned_to_its_end(tmp_path: Path) -> None:
    file = tmp_path / "records.jsonl"
    write([photo(number, "train") for number in range(20)], file)
    file.write_text(file.read_text() + "no record\n[]\n")
    assert choose_split(str(file)) == "holdout"
    write([photo(number, "train") for number in range(20)] + [photo(20, "validation")], file)
    assert choose_split(str(file)) == "keep"


def test_split_of_assigns_train_and_val() -> None:
    stated = ["train", "val", None, "test", "train", "train", "Training", "valid", None, None, None, None]
    photos = [photo(number, split) for number, split in enumerate(stated)]

    def val(split: str) -> list[int]:
        return [number for number, one in enumerate(photos) if split_of(one, number, split) == "val"]

    assert val("keep") == [1, 7, 11]
    assert val("holdout") == [5, 11]
    assert (val("train"), val("val")) == ([], list(range(12)))


def test_empty_split_is_reported() -> None:
    assert missing_splits({"train": 5, "val": 1}, "keep", 6) == []
    assert missing_splits({"train": 5}, "train", 5) == missing_splits({"val": 5}, "val", 5) == []
    (line,) = missing_splits({"val": 5}, "keep", 5)
    assert line.startswith("no train people: ") and "--split holdout" in line
    (line,) = missing_splits({"train": 5}, "holdout", 6)
    assert line == "no val people: every sixth photo is val, the others train"
    for split in ("keep", "holdout"):
        (line,) = missing_splits({"train": 5}, split, 5)
        assert line == "no val people: every sixth photo is held out, which takes 6 photos or more, got 5"


def test_chosen_split_is_recorded_and_empty_val_is_reported(tmp_path: Path) -> None:
    photos, file = draw_photos(tmp_path / "photos", 6), tmp_path / "records.jsonl"
    records = [record.model_copy(update={"split": "train"}) for record in open_records(str(photos), "masks")]
    write(records, file)
    done = build_set(file, "-o", tmp_path / "auto")
    assert (done.exit_code, done.stderr) == (0, "") and done.stdout.endswith("kept: 5 train, 1 val\n"), done.output
    assert json.loads((tmp_path / "auto" / "build.json").read_text())["settings"]["split"] == "holdout"
    kept = build_set(file, "-o", tmp_path / "kept", "--split", "keep")
    assert kept.exit_code == 0 and kept.stdout.endswith("kept: 6 train\n")
    assert kept.stderr.startswith("no val people: ") and "--split holdout" in kept.stderr
    few = build_set(photos, "-o", tmp_path / "few", "--from", "masks", "--limit", 3)
    told = "no val people: every sixth photo is held out, which takes 6 photos or more, got 3\n"
    assert (few.exit_code, few.stderr) == (0, told)
