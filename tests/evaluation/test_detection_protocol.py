"""Photos of several people: the evaluation set, and metrics of detection, masks and order on known predictions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from deocclude.data.evalsets.scenes import SceneSample, SceneSet, is_scene_set, write_scene_set
from deocclude.errors import InputError, UsageError
from deocclude.evaluation import draw_scene_sheet, evaluate_scenes, scenes_to_markdown, summarise_scenes
from deocclude.evaluation.baselines import grabcut_people, whole_photo

SIZE_HW = (240, 320)


def body(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros(SIZE_HW, bool)
    mask[y0:y1, x0:x1] = True
    return mask


FAR, NEAR, SMALL = body(40, 20, 100, 220), body(80, 30, 150, 230), body(250, 100, 262, 160)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> SceneSet:
    """Two people, the nearer hiding a part of the other, with a small one beside them; then a photo without people."""
    nothing = np.zeros(SIZE_HW, bool)
    grey = np.full((*SIZE_HW, 3), 90, np.uint8)
    crowded = grey.copy()
    crowded[NEAR] = 200
    samples = [
        SceneSample("a", crowded, np.array([FAR & ~NEAR, NEAR, SMALL]), np.array([FAR, NEAR, SMALL]), nothing),
        SceneSample("b", grey, np.zeros((0, *SIZE_HW), bool), np.zeros((0, *SIZE_HW), bool), nothing),
    ]
    folder = tmp_path_factory.mktemp("scenes") / "set"
    return write_scene_set(folder, samples, name="drawn", seed=5, source="code")


@dataclass
class Person:
    id: int
    visible_mask: np.ndarray
    amodal_mask: np.ndarray
    score: float = 0.9


@dataclass
class Found:
    people: list[Person]
    back_to_front: list[Person]


def answering(*people: Person, empty: tuple[Person, ...] = (), turned: bool = False):
    """A predictor: `people` where the photo has any, back to front unless `turned`, `empty` where it has none."""

    def predictor(photo: np.ndarray) -> Found:
        there = list(people if (photo > 90).any() else empty)
        return Found(there, there[::-1] if turned else there)

    return predictor


PERFECT = (Person(2, FAR & ~NEAR, FAR), Person(1, NEAR, NEAR), Person(3, SMALL, SMALL))


def figures(scenes: SceneSet, predictor) -> dict:
    return summarise_scenes(evaluate_scenes(scenes, predictor, baselines=False))["methods"]["deocclude"]


def test_scene_set_round_trip(scenes: SceneSet) -> None:
    assert is_scene_set(scenes.folder) and (scenes.name, scenes.seed) == ("drawn", 5)
    assert [(r.id, r.people, r.has_amodal) for r in scenes.records] == [("a", 3, True), ("b", 0, True)]
    sample = scenes.load(scenes.records[0])
    np.testing.assert_array_equal(sample.visible, [FAR & ~NEAR, NEAR, SMALL])
    np.testing.assert_array_equal(sample.amodal, [FAR, NEAR, SMALL])
    assert scenes.load(scenes.records[1]).visible.shape == (0, *SIZE_HW)


def test_invalid_scene_set_is_rejected(scenes: SceneSet, tmp_path: Path) -> None:
    assert not is_scene_set(tmp_path)
    with pytest.raises(InputError, match="not an evaluation set of scenes"):
        SceneSet.open(tmp_path)
    (tmp_path / "set.json").write_text(json.dumps({"format": 1, "kind": "scenes", "name": "x"}))
    with pytest.raises(InputError, match="does not describe a set of scenes"):
        SceneSet.open(tmp_path)
    (tmp_path / "set.json").write_text(json.dumps({"format": 1, "kind": "people"}))
    with pytest.raises(InputError, match="expected a set of scenes"):
        SceneSet.open(tmp_path)
    with pytest.raises(UsageError, match="already"):
        write_scene_set(scenes.folder, [], name="x", seed=0, source="")


def test_perfect_predictions_score_perfectly(scenes: SceneSet) -> None:
    row = figures(scenes, answering(*PERFECT))
    assert row["recall"] == row["precision"] == row["visible_iou"] == row["amodal_iou"] == row["order_accuracy"] == 1
    assert (row["people"], row["pairs"], row["pairs_found"]) == (2, 1, 1), "the small one is under 96 px"
    assert row["recall_by_height"]["40-96 px"] == {"people": 1, "recall": 1.0}
    assert row["recall_by_height"]["192-384 px"] == {"people": 2, "recall": 1.0}
    assert (row["photos_without_people"], row["found_in_photos_without_people"]) == (1, 0)


def test_each_error_affects_its_own_metric(scenes: SceneSet) -> None:
    assert figures(scenes, answering(*PERFECT, turned=True))["order_accuracy"] == 0
    missing = figures(scenes, answering(PERFECT[1]))
    assert (missing["recall"], missing["precision"], missing["order_accuracy"]) == (0.5, 1, None)
    assert (missing["pairs"], missing["pairs_found"]) == (1, 0)
    wall = Person(4, body(180, 10, 240, 200), body(180, 10, 240, 200), 0.4)
    extra = figures(scenes, answering(*PERFECT, wall, empty=(wall,)))
    assert extra["precision"] == pytest.approx(2 / 4) and extra["recall"] == 1
    assert extra["found_in_photos_without_people"] == 1
    shorter = Person(1, NEAR, body(80, 30, 150, 130))
    assert figures(scenes, answering(PERFECT[0], shorter))["amodal_iou"] == pytest.approx(0.75)


def test_recall_and_precision_without_people_are_unknown(tmp_path: Path) -> None:
    nobody = np.zeros((0, *SIZE_HW), bool)
    empty = SceneSample("x", np.zeros((*SIZE_HW, 3), np.uint8), nobody, nobody, np.zeros(SIZE_HW, bool))
    photos = write_scene_set(tmp_path / "set", [empty], name="nobody", seed=0, source="")
    row = figures(photos, answering())
    assert (row["people"], row["recall"], row["precision"], row["found_in_photos_without_people"]) == (0, None, None, 0)
    assert row["recall_by_height"]["40-96 px"] == {"people": 0, "recall": None}
    wall = Person(4, body(180, 10, 240, 200), body(180, 10, 240, 200), 0.4)
    assert figures(photos, answering(empty=(wall,)))["precision"] == 0


def test_baselines_and_tables(scenes: SceneSet) -> None:
    summary = summarise_scenes(evaluate_scenes(scenes, answering(*PERFECT)), model="base")
    assert list(summary["methods"]) == ["deocclude", "box of the whole photo", "GrabCut foreground"]
    assert summary["methods"]["box of the whole photo"]["recall"] == 0
    text = scenes_to_markdown(summary)
    assert text.startswith("# base on drawn: 3 people, 2 photos\n") and "| deocclude " in text and text.endswith("\n")


def test_grabcut_finds_what_stands_out() -> None:
    photo = np.random.default_rng(0).integers(80, 100, (*SIZE_HW, 3)).astype(np.uint8)
    photo[body(120, 60, 200, 200)] = (220, 30, 30)
    (largest, *_) = grabcut_people(photo)
    shared = (largest & body(120, 60, 200, 200)).sum() / (largest | body(120, 60, 200, 200)).sum()
    assert shared > 0.9 and whole_photo(photo).all() and whole_photo(photo).shape == SIZE_HW


@pytest.mark.parametrize("size_hw", [(1, 1), (6, 9), (9, 300)])
def test_grabcut_takes_the_smallest_photos(size_hw: tuple[int, int]) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (*size_hw, 3)).astype(np.uint8)
    assert all(mask.shape == size_hw for mask in grabcut_people(photo))


class Drawn(Found):
    """A result that a contact sheet can draw."""

    def overlay(self) -> np.ndarray:
        return np.zeros((*SIZE_HW, 3), np.uint8)


def test_contact_sheet_leaves_out_completely_hidden_people(tmp_path: Path) -> None:
    grey, nothing = np.full((*SIZE_HW, 3), 90, np.uint8), np.zeros(SIZE_HW, bool)
    masks = np.array([nothing, NEAR]), np.array([body(90, 40, 120, 200), NEAR])
    photos = write_scene_set(tmp_path / "set", [SceneSample("a", grey, *masks, nothing)], name="x", seed=0, source="")
    sheet = np.asarray(draw_scene_sheet(photos, lambda photo: Drawn([], [])))
    assert len(np.unique(sheet[:, 328:648].reshape(-1, 3), axis=0)) > 2, "the box of the visible person"


def test_contact_sheet_without_photos_is_refused(tmp_path: Path) -> None:
    empty = write_scene_set(tmp_path / "set", [], name="x", seed=0, source="")
    with pytest.raises(InputError, match=r"no contact sheet: .* has no photos"):
        draw_scene_sheet(empty, lambda photo: Drawn([], []))
