"""Evaluation sets of single people: round trips, and errors that name what is broken."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deocclude.data.evalsets.persons import EvalSample, EvalSet, write_eval_set
from deocclude.errors import DeoccludeError, InputError, UsageError


def sample(number: int = 0, *, person: str = "ann", kind: str = "object", hidden_rows: int = 4) -> EvalSample:
    """A body of rows 2-12 and columns 3-9 (60 px), the lowest `hidden_rows` of it hidden; noise for colours."""
    truth = np.random.default_rng(len(person)).integers(0, 256, (16, 12, 3)).astype(np.uint8)
    amodal = np.zeros((16, 12), bool)
    amodal[2:12, 3:9] = True
    visible = amodal.copy()
    visible[12 - hidden_rows : 12] = False
    photo = truth.copy()
    photo[12 - hidden_rows : 12] = number
    parsing = np.where(amodal, np.uint8(6), np.uint8(0))
    return EvalSample(f"{person}-{number}", person, kind, photo, truth, visible, amodal, parsing)


def write(folder: Path, samples: list[EvalSample] | None = None, **changes: object) -> EvalSet:
    samples = [sample(0), sample(1, hidden_rows=6)] if samples is None else samples
    return write_eval_set(folder, samples, **{"name": "drawn", "seed": 7, "source": "drawn by code", **changes})


def test_eval_set_round_trip(tmp_path: Path) -> None:
    samples = [sample(0), sample(1, kind="low", hidden_rows=6), sample(2, person="bob", kind="none", hidden_rows=0)]
    write(tmp_path / "deep" / "set", samples)
    eval_set = EvalSet.open(tmp_path / "deep" / "set")
    assert (eval_set.name, eval_set.seed, eval_set.source, len(eval_set)) == ("drawn", 7, "drawn by code", 3)
    assert [record.hidden_fraction for record in eval_set] == [0.4, 0.6, 0.0]
    assert [record.occluder_kind for record in eval_set] == ["object", "low", "none"]
    for record, expected in zip(eval_set, samples, strict=True):
        loaded = eval_set.load(record)
        assert (loaded.id, loaded.person_id) == (expected.id, expected.person_id)
        for name in ("photo", "truth", "visible", "amodal", "parsing"):
            np.testing.assert_array_equal(getattr(loaded, name), getattr(expected, name))


def test_pictures_of_one_person_are_stored_once(tmp_path: Path) -> None:
    eval_set = write(tmp_path / "set")
    first, second = eval_set.records
    assert first.files.truth == second.files.truth == "people/ann/truth.png"
    assert first.files.photo != second.files.photo
    assert len(list((tmp_path / "set").rglob("*.png"))) == 3 + 2 * 2


def test_person_shifted_in_one_record_stores_both_truths(tmp_path: Path) -> None:
    moved = sample(1)
    moved = replace(
        moved, truth=moved.truth[::-1].copy(), amodal=moved.amodal[::-1].copy(), visible=moved.visible[::-1].copy()
    )
    eval_set = write(tmp_path / "set", [sample(0), moved])
    assert eval_set.records[1].files.truth == "records/ann-1/truth.png"
    assert eval_set.records[1].files.parsing == "people/ann/parsing.png"
    np.testing.assert_array_equal(eval_set.load(eval_set.records[0]).truth, sample(0).truth)
    np.testing.assert_array_equal(eval_set.load(eval_set.records[1]).truth, moved.truth)


def test_missing_parsing_is_read_as_unknown(tmp_path: Path) -> None:
    eval_set = write(tmp_path / "set", [replace(sample(), parsing=None)])
    assert (eval_set.load(eval_set.records[0]).parsing == 255).all()


def test_missing_truth_is_none(tmp_path: Path) -> None:
    eval_set = write(tmp_path / "set", [replace(sample(), truth=None, occluder_kind="unknown")])
    assert (eval_set.has_truth, eval_set.records[0].files.truth) == (False, None)
    assert eval_set.load(eval_set.records[0]).truth is None
    assert not list((tmp_path / "set").rglob("truth.png"))
    assert json.loads((tmp_path / "set" / "set.json").read_text())["records"][0]["files"]["truth"] is None
    assert write(tmp_path / "other").has_truth


def test_a_photo_of_two_people_is_stored_once(tmp_path: Path) -> None:
    first, second = sample(0), replace(sample(0, person="bob"), photo=sample(0).photo)
    eval_set = write(tmp_path / "set", [first, second])
    assert eval_set.records[1].files.photo == eval_set.records[0].files.photo == "records/ann-0/photo.png"
    np.testing.assert_array_equal(eval_set.load(eval_set.records[1]).photo, first.photo)


def test_overwrite_replaces_only_an_evaluation_set(tmp_path: Path) -> None:
    write(tmp_path / "set")
    with pytest.raises(UsageError, match="already"):
        write(tmp_path / "set")
    assert len(write(tmp_path / "set", [sample(5)], overwrite=True)) == 1
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.txt").write_text("keep")
    with pytest.raises(UsageError, match="something else"):
        write(tmp_path / "photos", overwrite=True)
    assert (tmp_path / "photos" / "mine.txt").read_text() == "keep"


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="comes twice"):
        write(tmp_path / "set", [sample(0), sample(0)])
    with pytest.raises(ValueError, match="at least one"):
        write(tmp_path / "set", [])
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(DeoccludeError, match="cannot write"):
        write(tmp_path / "file" / "set")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": "ccp/0001"}, "so as to name a folder, got 'ccp/0001'"),
        ({"person_id": ".."}, "person_id must be"),
        ({"occluder_kind": "tree"}, "occluder_kind must be one of object, person, low, unknown, none, got tree"),
        ({"amodal": np.zeros((16, 12), bool), "visible": np.zeros((16, 12), bool)}, "amodal mask is empty"),
        ({"visible": np.ones((16, 12), bool)}, "reaches outside"),
        ({"visible": np.zeros((16, 11), bool)}, r"visible must be \(16, 12\) bool, got \(16, 11\) bool"),
        ({"occluder_kind": "none"}, "nothing occludes"),
    ],
)
def test_invalid_sample_is_rejected(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write(tmp_path / "set", [replace(sample(), **changes)])


def test_error_names_the_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"looked for a folder {tmp_path / 'nowhere'}"):
        EvalSet.open(tmp_path / "nowhere")
    with pytest.raises(InputError, match=f"looked for {tmp_path / 'set.json'}"):
        EvalSet.open(tmp_path)
    eval_set = write(tmp_path / "set")
    lost = tmp_path / "set" / eval_set.records[1].files.visible
    lost.unlink()
    with pytest.raises(InputError, match=f"record ann-1 lacks its visible: looked for {lost}"):
        EvalSet.open(tmp_path / "set")


def test_error_names_the_damaged_image(tmp_path: Path) -> None:
    eval_set = write(tmp_path / "set")
    record = eval_set.records[0]
    photo = tmp_path / "set" / record.files.photo
    photo.write_bytes(photo.read_bytes()[:60])
    with pytest.raises(InputError, match=r"photo\.png cannot be read"):
        eval_set.load(record)
    eval_set = write(tmp_path / "other")
    Image.new("L", (12, 15)).save(tmp_path / "other" / record.files.amodal)
    with pytest.raises(InputError, match=r"amodal\.png must have its photo's size 16x12 \(HxW\), got 15x12"):
        eval_set.load(record)
    Image.new("L", (12, 16)).save(tmp_path / "other" / record.files.amodal)
    with pytest.raises(InputError, match=r"set\.json: record ann-0: the amodal mask is empty"):
        eval_set.load(record)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda index: index.update(format=2), "format must be 1, got 2"),
        (lambda index: index.pop("seed"), "seed must be int, got nothing"),
        (lambda index: index.update(records={}), "records must be list, got dict"),
        (lambda index: index.update(records=[]), "lists no records"),
        (
            lambda index: index["records"][1].update(hidden_fraction="half"),
            "record 1: hidden_fraction must be int or float",
        ),
        (lambda index: index["records"][0].update(occluder_kind="tree"), "record 0: occluder_kind must be one of"),
        (lambda index: index["records"][0]["files"].pop("truth"), "record 0: files: truth must be str, got nothing"),
        (lambda index: index["records"][0]["files"].update(photo="../../x.png"), "inside the set's folder"),
    ],
)
def test_invalid_index_error_names_the_field(tmp_path: Path, change, message: str) -> None:
    write(tmp_path / "set")
    path = tmp_path / "set" / "set.json"
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))
    with pytest.raises(InputError, match=message):
        EvalSet.open(tmp_path / "set")


def test_index_that_is_not_json_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "set.json").write_text("{")
    with pytest.raises(InputError, match=r"set\.json cannot be read as JSON"):
        EvalSet.open(tmp_path)
    (tmp_path / "set.json").write_text("[]")
    with pytest.raises(InputError, match="must hold a JSON object, got list"):
        EvalSet.open(tmp_path)
