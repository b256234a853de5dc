"""The record, and the file of records: what is checked, what is relative, and that it is whole or not there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from datasetfolder import FIRST, SECOND, SECOND_WHOLE, SIZE_HW, box, part_labels, write_labels
from deocclude.data.datasets import records_file
from deocclude.data.datasets.parsing_groups import UNKNOWN
from deocclude.data.datasets.record import VERSION, Parsing, PersonRecord, PhotoRecord, Rle, ThingRecord, whole_person
from deocclude.errors import DeoccludeError, InputError


def a_record(folder: Path, number: int = 1) -> PhotoRecord:
    parsing = Parsing(taxonomy="lip-20", file=str(folder / "labels" / "x.png"))
    people = (
        PersonRecord(id="a", visible=Rle.of(SECOND), amodal=Rle.of(SECOND_WHOLE), parsing=parsing, depth_order=2),
        PersonRecord(id="b", visible=Rle.of(FIRST), iscrowd=True, ignore=True),
    )
    return PhotoRecord(
        image=str(folder / "photos" / f"{number}.jpg"), size_hw=SIZE_HW, source="test", id=str(number), licence="CC0",
        split="train", people=people,
    )  # fmt: skip


def test_rle_mask_round_trip() -> None:
    for mask in (FIRST, ~FIRST, np.zeros(SIZE_HW, bool)):
        np.testing.assert_array_equal(Rle.of(mask).mask(), mask)
    with pytest.raises(InputError, match="run lengths"):
        Rle(size=(4, 4), counts="99").mask()


def test_parsing_is_restricted_to_the_persons_mask(tmp_path: Path) -> None:
    """Outside the person is 0, and where a person has no part is unknown."""
    path = write_labels(tmp_path / "x.png", np.where(box(0, 0, 16, 6), part_labels(), 0), palette=True)
    parsing = Parsing(taxonomy="lip-20", file=str(path))
    person = PersonRecord(id="a", visible=Rle.of(SECOND), amodal=Rle.of(SECOND_WHOLE), parsing=parsing)
    expected = np.where(SECOND_WHOLE, UNKNOWN, 0)
    seen = SECOND_WHOLE & box(0, 0, 16, 6)
    expected[seen] = part_labels()[seen]
    np.testing.assert_array_equal(person.parsing_labels(), expected)


def test_parsing_as_part_masks_round_trip() -> None:
    labels = np.where(FIRST, np.where(box(0, 0, 16, 4), 3, 6), 0).astype(np.uint8)
    person = whole_person("1", FIRST, Parsing.of(labels, "deocclude-12"))
    assert set(person.parsing.parts) == {"face", "upper_clothes"}
    np.testing.assert_array_equal(person.parsing_labels(), labels)
    with pytest.raises(InputError, match="person 2 has no parsing"):
        whole_person("2", FIRST).parsing_labels()


def test_record_rejects_invalid_fields() -> None:
    rle = Rle.of(FIRST)
    both = {"file": "x.png", "parts": {"face": rle}}
    for wrong in ({}, both, {"parts": {"wing": rle}}, {"parts": {"background": rle}}):
        with pytest.raises(ValidationError):
            Parsing(taxonomy="lip-20", **wrong)
    with pytest.raises(ValidationError, match="person a has not the photo's size"):
        PhotoRecord(image="x", size_hw=(3, 3), source="s", id="1", people=(PersonRecord(id="a", visible=rle),))
    with pytest.raises(ValidationError, match="the mask of a car has not the photo's size"):
        PhotoRecord(image="x", size_hw=(3, 3), source="s", id="1", things=(ThingRecord(name="car", visible=rle),))


def test_records_file_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "sets" / "train" / "records.jsonl"
    records = [a_record(tmp_path, number) for number in (1, 2)]
    records_file.write(iter(records), path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["version"] for line in lines] == [VERSION, VERSION]
    assert lines[0]["image"] == "../../photos/1.jpg"
    assert lines[0]["people"][0]["parsing"]["file"] == "../../labels/x.png"
    assert "\\" not in lines[0]["image"]
    back = list(records_file.read(path))
    assert [record.with_paths(lambda name: str(Path(name).resolve())) for record in back] == [
        record.with_paths(lambda name: str(Path(name).resolve())) for record in records
    ]


def test_things_round_trip_and_are_optional(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    thing = ThingRecord(name="car", visible=Rle.of(FIRST), depth_order=1)
    records_file.write([a_record(tmp_path).model_copy(update={"things": (thing,)})], path)
    (record,) = records_file.read(path)
    assert record.things == (thing,)
    line = json.loads(path.read_text())
    del line["things"]
    path.write_text(json.dumps(line) + "\n")
    (older,) = records_file.read(path)
    assert older == record.model_copy(update={"things": ()})


def test_records_are_streamed(tmp_path: Path) -> None:
    path, taken = tmp_path / "records.jsonl", []

    def many() -> Iterator[PhotoRecord]:
        for number in range(50):
            taken.append(number)
            yield a_record(tmp_path, number)

    records_file.write(many(), path)
    with path.open("a") as file:
        file.write("nonsense\n")
    reading = records_file.read(path)
    assert next(reading).id == "0", "the bad last line has not been looked at"
    with pytest.raises(InputError, match="line 51: expected a record, but it is not JSON"):
        list(reading)


@pytest.mark.parametrize("error", [InputError("photo 2 is broken"), KeyboardInterrupt("photo 2 is broken")])
def test_records_file_is_written_atomically(tmp_path: Path, error: BaseException) -> None:
    def breaks() -> Iterator[PhotoRecord]:
        yield a_record(tmp_path)
        raise error

    path = tmp_path / "out" / "records.jsonl"
    with pytest.raises(type(error), match="photo 2 is broken"):
        records_file.write(breaks(), path)
    assert list(path.parent.iterdir()) == []
    (tmp_path / "taken").touch()
    with pytest.raises(DeoccludeError, match="is not a folder"):
        records_file.write([], tmp_path / "taken" / "records.jsonl")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "line 1: expected a record of version 1, got 2"),
        ({"version": None}, "line 1: expected a record of version 1, got None"),
        ({"image": 3}, "line 1: image: Input should be a valid string"),
        ({"colour": "red"}, "line 1: colour: Extra inputs are not permitted"),
        ({"size_hw": [3, 3]}, "line 1: Value error, a mask of person a has not the photo's size"),
    ],
)
def test_error_names_the_invalid_record(tmp_path: Path, change: dict, message: str) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text(json.dumps(json.loads(a_record(tmp_path).model_dump_json()) | change) + "\n")
    with pytest.raises(InputError, match=message) as caught:
        list(records_file.read(path))
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_non_object_lines_and_binary_files_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text("[1]\n")
    with pytest.raises(InputError, match="expected a record, an object with version 1, got list"):
        list(records_file.read(path))
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read as a records file"):
        list(records_file.read(path))
