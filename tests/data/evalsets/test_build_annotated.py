"""Evaluation sets of people as a dataset annotates them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from annotated_people import BACK, BACK_SEEN, FRONT, write_annotated
from datasetfolder import SECOND, SECOND_WHOLE, make_cocoa, make_kins, make_masks
from deocclude.data.datasets import records_file
from deocclude.data.datasets.parsing_groups import PARSING_NAMES
from deocclude.data.evalsets.build_annotated import build_annotated_set
from deocclude.errors import InputError, UsageError
from repository import ROOT

DATA_PAGE = ROOT / "docs" / "data.md"


def test_records_match_the_annotations(tmp_path: Path) -> None:
    source = write_annotated(tmp_path / "drawn")
    eval_set = build_annotated_set(tmp_path / "set", str(source), seed=4)
    assert (eval_set.name, eval_set.seed, eval_set.has_truth) == ("drawn", 4, False)
    # Without the person of unknown amodal mask, the crowd, the ignored person, and the fully occluded one.
    assert [(r.id, r.person_id, r.occluder_kind) for r in eval_set] == [
        ("records-p0-front", "records-p0-front", "none"),
        ("records-p0-back", "records-p0-back", "unknown"),
    ]
    front, back = (eval_set.load(record) for record in eval_set)
    assert eval_set.records[1].hidden_fraction == pytest.approx(8 / 24, abs=1e-6)
    np.testing.assert_array_equal(front.amodal, FRONT)
    np.testing.assert_array_equal(back.visible, BACK_SEEN)
    np.testing.assert_array_equal(back.amodal, BACK)
    np.testing.assert_array_equal(back.photo, np.asarray(Image.open(tmp_path / "drawn" / "p0.png")))
    assert back.truth is None and (front.parsing == 255).all()
    # Labels as our groups, unknown in the rest of the amodal mask, background outside.
    assert set(back.parsing[BACK_SEEN][:1]) == {PARSING_NAMES.index("face")}
    assert (back.parsing[BACK & ~BACK_SEEN] == 255).all() and (back.parsing[~BACK] == 0).all()


def test_limit_samples_evenly_and_unoccluded_people_can_be_excluded(tmp_path: Path) -> None:
    source = str(write_annotated(tmp_path / "drawn", photos=6))
    hidden = build_annotated_set(tmp_path / "hidden", source, unoccluded=False, limit=3)
    assert [record.id for record in hidden] == [f"records-p{number}-back" for number in (0, 2, 4)]
    assert len(build_annotated_set(tmp_path / "all", source, limit=99)) == 12


@pytest.mark.parametrize(("make", "images"), [(make_kins, "image_2"), (make_cocoa, None)])
def test_formats_with_visible_and_amodal_masks_are_read(tmp_path: Path, make, images: str | None) -> None:
    source = make(tmp_path / "source")
    folder = None if images is None else tmp_path / "source" / images
    eval_set = build_annotated_set(tmp_path / "set", str(source), images=folder, unoccluded=False)
    assert len(eval_set) == 1
    sample = eval_set.load(eval_set.records[0])
    np.testing.assert_array_equal(sample.visible, SECOND)
    np.testing.assert_array_equal(sample.amodal, SECOND_WHOLE)


def test_unusable_dataset_gives_an_error_and_no_output(tmp_path: Path) -> None:
    out = tmp_path / "set"
    photos = make_masks(tmp_path / "photos")
    message = r"photos: none of 3 people in 2 photos has both a visible and an amodal mask"
    with pytest.raises(InputError, match=rf"{message}$"):
        build_annotated_set(out, str(photos), source_format="masks")
    with pytest.raises(InputError, match=rf"{message} and is partly occluded$"):
        build_annotated_set(out, str(photos), source_format="whole-masks", unoccluded=False)
    source = write_annotated(tmp_path / "drawn")
    with pytest.raises(UsageError, match="--images is for formats that are a JSON file"):
        build_annotated_set(out, str(source), images=tmp_path)
    source.write_text(source.read_text() * 2)
    with pytest.raises(InputError, match="person front of photo records/p0 comes twice"):
        build_annotated_set(out, str(source))
    Image.new("RGB", (30, 20)).save(tmp_path / "drawn" / "p0.png")
    with pytest.raises(InputError, match=r"p0\.png: its record says \(96, 120\) \(HxW\), the photo is \(20, 30\)"):
        build_annotated_set(out, str(source))
    assert not out.exists()


def test_amodal_mask_includes_the_visible_mask(tmp_path: Path) -> None:
    source = write_annotated(tmp_path / "drawn")
    record = next(records_file.read(source))
    back = record.people[1]
    wrong = back.model_copy(update={"visible": back.amodal, "amodal": back.visible})
    records_file.write([record.model_copy(update={"people": (wrong,)})], source)
    eval_set = build_annotated_set(tmp_path / "set", str(source))
    assert eval_set.records[0].occluder_kind == "none"
    np.testing.assert_array_equal(eval_set.load(eval_set.records[0]).amodal, BACK)


def test_data_page_code_writes_custom_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pictures = {"visible": BACK_SEEN, "whole": BACK, "photos": np.zeros((*BACK.shape, 3), np.uint8)}
    for folder, pixels in pictures.items():
        Path(folder).mkdir()
        for name in ("0001", "0002"):
            Image.fromarray(pixels).save(f"{folder}/{name}.{'jpg' if folder == 'photos' else 'png'}")
    (block,) = re.findall(r"^```python\n(.*?)^```", DATA_PAGE.read_text(), flags=re.S | re.M)
    exec(compile(block, "docs/data.md", "exec"), {})
    eval_set = build_annotated_set(Path("set"), "mine.jsonl")
    assert [(r.id, r.occluder_kind) for r in eval_set] == [("mine-0001-1", "unknown"), ("mine-0002-1", "unknown")]
    np.testing.assert_array_equal(eval_set.load(eval_set.records[0]).amodal, BACK)
