"""Building an evaluation set from a data folder: kinds, truth and seed."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from datafolder import CCP_VAL
from deocclude.data.evalsets.build import build_eval_set, build_scene_set
from deocclude.data.evalsets.persons import EvalSet
from deocclude.data.sources.real_photos import read_wild
from deocclude.errors import InputError, UsageError


@pytest.fixture(scope="module")
def ccp_set(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> EvalSet:
    folder = tmp_path_factory.mktemp("frozen") / "ccp"
    build_eval_set(folder, data_root, seed=3)
    return EvalSet.open(folder)


def test_each_person_has_three_occluders_and_one_unoccluded_record(ccp_set: EvalSet) -> None:
    assert (ccp_set.name, ccp_set.seed) == ("ccp-val", 3)
    assert [(r.person_id, r.occluder_kind) for r in ccp_set] == [
        (f"ccp-{i}", kind) for i in CCP_VAL for kind in ("object", "person", "low", "none")
    ]
    for record in ccp_set:
        assert record.id == f"{record.person_id}-{record.occluder_kind}"
        assert record.hidden_fraction == 0 if record.occluder_kind == "none" else 0.03 <= record.hidden_fraction < 1


def test_truth_is_the_photo_and_changes_cover_hidden_pixels(ccp_set: EvalSet, data_root: Path) -> None:
    for record in ccp_set:
        sample = ccp_set.load(record)
        path = data_root / "ccp" / "photos" / f"{record.person_id[4:]}.jpg"
        np.testing.assert_array_equal(sample.truth, cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB))
        hidden = sample.amodal & ~sample.visible
        changed = (sample.photo != sample.truth).any(axis=-1)
        assert changed.any() == (record.occluder_kind != "none")
        assert not hidden.any() or changed[hidden].mean() > 0.95
        np.testing.assert_array_equal(sample.parsing > 0, sample.amodal)
        assert 6 in sample.parsing, "labels of Clothing Co-Parsing"


def test_same_seed_same_pictures(ccp_set: EvalSet, data_root: Path, tmp_path: Path) -> None:
    again = build_eval_set(tmp_path / "again", data_root, seed=3)
    other = build_eval_set(tmp_path / "other", data_root, seed=4)
    differ = 0
    for a, b, c in zip(ccp_set, again, other, strict=True):
        assert a == b
        np.testing.assert_array_equal(ccp_set.load(a).photo, again.load(b).photo)
        differ += (ccp_set.load(a).photo != other.load(c).photo).any()
    assert differ >= 5


def test_cutouts_get_a_background(data_root: Path, tmp_path: Path) -> None:
    eval_set = build_eval_set(tmp_path / "set", data_root, people="cutouts", unoccluded=False)
    assert [r.id for r in eval_set] == [f"cutout-person17-{kind}" for kind in ("object", "person", "low")]
    truths = [eval_set.load(record) for record in eval_set]
    for sample in truths:
        assert sample.photo.shape == (512, 512, 3)
        np.testing.assert_array_equal(sample.truth, truths[0].truth)
        rows = np.flatnonzero(sample.amodal.any(axis=1))
        assert np.ptp(rows) + 1 == pytest.approx(512 / 2.4, abs=4), "the longer side of the person"
        assert set(np.unique(sample.parsing)) == {0, 255}


def test_existing_set_is_not_overwritten(ccp_set: EvalSet, data_root: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="already"):
        build_eval_set(ccp_set.folder, data_root, seed=3)
    with pytest.raises(InputError, match=f"looked for {tmp_path / 'nowhere'}"):
        build_eval_set(tmp_path / "set", tmp_path / "nowhere")
    assert not (tmp_path / "set").exists()


def test_person_that_cannot_be_occluded_is_an_error(data_root: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("deocclude.data.evalsets.build._MIN_HIDDEN", 1.1)
    monkeypatch.setattr("deocclude.data.evalsets.build._MAX_DRAWS", 3)
    with pytest.raises(InputError, match=r"ccp/\d+: in 3 scenes no occluder \(object\)"):
        build_eval_set(tmp_path / "set", data_root)
    assert not (tmp_path / "set").exists()


def test_people_of_one_name_are_an_error(data_root: Path, tmp_path: Path, monkeypatch) -> None:
    """A built set of records with repeated ids has such people."""
    monkeypatch.setattr("deocclude.data.evalsets.build.folder_name", lambda _: "same")
    with pytest.raises(InputError, match=rf"person ccp/{CCP_VAL[1]} comes twice"):
        build_eval_set(tmp_path / "set", data_root)


def test_crowd_scenes_are_reproducible_with_disjoint_visible_masks(data_root: Path, tmp_path: Path) -> None:
    scenes = build_scene_set(tmp_path / "crowds", data_root, kind="crowds", count=6, seed=2)
    again = build_scene_set(tmp_path / "again", data_root, kind="crowds", count=6, seed=2)
    assert scenes.records == again.records and len(scenes.records) == 6
    for record in scenes.records:
        sample = scenes.load(record)
        np.testing.assert_array_equal(sample.photo, again.load(record).photo)
        assert max(sample.photo.shape) == 640 and (sample.visible.sum(0) <= 1).all(), "visible masks are disjoint"
        assert not (sample.visible & ~sample.amodal).any()


def test_wild_scenes_are_the_held_out_photos(data_root: Path, tmp_path: Path) -> None:
    scenes = build_scene_set(tmp_path / "wild", data_root, kind="wild")
    assert [r.id for r in scenes.records] == [p.name.replace("/", "-") for p in read_wild(data_root / "wild", "val")]
    assert scenes.records and not any(record.has_amodal for record in scenes.records)
