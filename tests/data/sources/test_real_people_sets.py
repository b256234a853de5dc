"""Real photos of single people: visible masks of voc_parts and coco_people, and COCO's covered joints."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deocclude.data.samples.person_samples import CropConfig
from deocclude.data.samples.real_people import RealMixture, RealPeople
from deocclude.data.sources.real_photos import covered_joints, read_coco_people, read_voc_people
from deocclude.data.sources.splits import held_out
from deocclude.errors import InputError

SIZE = 64
NAMES = [f"{number:06d}" for number in range(40, 52)]


def write_photo(folder: Path, name: str) -> None:
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((60, 80, 3), 90, np.uint8)).save(folder / "photos" / f"{name}.webp", lossless=True)


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Photos stored at half the annotated size; a polygon, a seen joint inside it and a covered one below it."""
    folder = tmp_path / "coco_people"
    joints = [60, 40, 2] + [0, 0, 0] * 15 + [60, 108, 1]
    person = {"segmentation": [[40, 20, 80, 20, 80, 100, 40, 100]], "keypoints": joints}
    for name in NAMES:
        write_photo(folder, name)
    people = {name: [person] for name in NAMES} | {"pair": [person, person], "box": [{"bbox": [1, 2, 3, 4]}]}
    sizes = {name: [160, 120] for name in people}
    (folder / "people.json").write_text(json.dumps({"people": people, "size": sizes, "whole": []}))
    return folder


def test_polygons_and_joints_are_in_pixels_of_the_stored_photo(coco: Path) -> None:
    photos = list(read_coco_people(coco))
    assert [p.name for p in photos] == [f"coco/{name}" for name in NAMES], "single people with a polygon"
    expected = np.zeros((60, 80), np.uint8)
    expected[10:50, 20:40] = 1
    assert (photos[0].instances != expected).sum() <= 2 * (40 + 20), "up to a pixel of the contour"
    np.testing.assert_allclose(photos[0].covered_xy[1], [[30, 54]])
    split = {name: [p.name for p in read_coco_people(coco, name)] for name in ("train", "val")}
    assert split["val"] == [f"coco/{name}" for name in NAMES if held_out(name)] and split["val"]
    assert sorted(split["train"] + split["val"]) == [p.name for p in photos]


def test_a_covered_joint_belongs_to_the_amodal_mask(coco: Path) -> None:
    people = RealPeople(list(read_coco_people(coco))[:1])
    grown = 0
    for seed in range(20):
        sample = people.draw(np.random.default_rng(seed), CropConfig(p_wide=1.0), SIZE)
        beyond = sample["amodal"] & ~sample["visible"]
        assert (sample["visible"] <= sample["amodal"]).all()
        np.testing.assert_array_equal(sample["known"], sample["amodal"])
        assert (sample["parsing"][beyond] == 255).all()
        if beyond.any():
            grown += 1
            assert np.nonzero(beyond)[0].min() >= np.nonzero(sample["visible"])[0].max(), "the joint is below"
            assert beyond.sum() < 0.1 * sample["visible"].sum()
    assert grown >= 18


def test_covered_joints_are_those_of_visibility_one() -> None:
    np.testing.assert_array_equal(covered_joints([1, 2, 2, 3, 4, 1, 0, 0, 0]), [[3, 4]])
    assert covered_joints(()).shape == (0, 2)


def test_voc_single_people_use_the_union_of_parts_as_mask(tmp_path: Path) -> None:
    folder = tmp_path / "voc_parts"
    (folder / "parts").mkdir(parents=True)
    parts = np.zeros((60, 80), np.uint8)
    parts[5:50, 30:45], parts[5:12, 30:45] = 2, 4
    for name in NAMES[:2]:
        write_photo(folder, name)
        Image.fromarray(parts).save(folder / "parts" / f"{name}.png")
    listed = {name: [30, 5, 15, 45] for name in NAMES[:2]}
    (folder / "people.json").write_text(json.dumps({"one_head": listed, "whole": {}}))
    photos = list(read_voc_people(folder))
    assert len(photos) == 2 and photos[0].boxes_xyxy == {1: (30, 5, 45, 50)} and not photos[0].covered_xy
    np.testing.assert_array_equal(photos[0].instances, parts > 0)
    Image.fromarray(parts[:30]).save(folder / "parts" / f"{NAMES[0]}.png")
    with pytest.raises(InputError, match="the mask must have the photo's size"):
        list(read_voc_people(folder))
    (folder / "people.json").write_text("[]")
    with pytest.raises(InputError, match='expected "one_head"'):
        list(read_voc_people(folder))


def test_mixture_draws_each_set_by_its_weight() -> None:
    class Marked:
        def __init__(self, value: int) -> None:
            self.value = value

        def draw(self, rng: np.random.Generator, crop: CropConfig, size_px: int) -> dict[str, np.ndarray]:
            return {"photo": np.full((size_px, size_px, 3), self.value, np.uint8)}

    mixture = RealMixture([Marked(1), Marked(2)], [3.0, 1.0])
    rng = np.random.default_rng(0)
    drawn = [mixture.draw(rng, CropConfig(), 4)["photo"][0, 0, 0] for _ in range(400)]
    assert 0.68 < np.mean(np.array(drawn) == 1) < 0.82
