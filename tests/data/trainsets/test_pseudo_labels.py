"""Masks of people with joints: kept where both agree, written as a set that training reads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import deocclude
from deocclude.data.sources.library import Places, SourceWeights, load_library
from deocclude.data.sources.skeletons import SkeletonPerson, read_coco_skeletons, read_sport_people
from deocclude.data.sources.splits import held_out
from deocclude.data.trainsets import pseudo_labels
from deocclude.data.trainsets.pseudo_labels import SegmentedPerson, disagreements, label_people
from deocclude.errors import InputError, UsageError
from deocclude.imaging.masks import mask_iou
from deocclude.inference.runtime import find_model, open_networks

# An upright body in a photo of 160 x 200, in the order of Leeds Sports Pose.
JOINTS = np.array([
    (60, 180), (62, 145), (66, 110), (94, 110), (98, 145), (100, 180), (40, 112), (48, 86), (62, 60), (98, 60),
    (112, 86), (120, 112), (80, 54), (80, 22),
], float)  # fmt: skip
BONES = [(0, 1), (1, 2), (5, 4), (4, 3), (6, 7), (7, 8), (11, 10), (10, 9), (8, 9), (2, 3), (12, 13), (8, 2), (9, 3)]
COCO_LIMBS = [9, 8, 10, 7, 11, 6, 3, 2, 4, 1, 5, 0]  # joints 5 to 16 of COCO, as places in JOINTS


def body_mask(joints: np.ndarray = JOINTS, width_px: int = 13) -> np.ndarray:
    """(200, 160) bool: thick bones, a filled trunk and a head."""
    mask = np.zeros((200, 160), np.uint8)
    for a, b in BONES:
        cv2.line(mask, tuple(map(int, joints[a])), tuple(map(int, joints[b])), 1, width_px)
    cv2.fillConvexPoly(mask, joints[[8, 9, 3, 2]].astype(np.int32), 1)
    cv2.circle(mask, tuple(map(int, joints[13] + (0, 8))), 13, 1, -1)
    return mask.astype(bool)


def person(joints: np.ndarray = JOINTS, name: str = "sport-im1") -> SkeletonPerson:
    rgb = np.full((200, 160, 3), 90, np.uint8)
    rgb[body_mask()] = 200
    return SkeletonPerson(name, rgb, (30, 10, 130, 190), joints, np.array([[joints[a], joints[b]] for a, b in BONES]))


def moved(number: int, xy: tuple[float, float]) -> np.ndarray:
    joints = JOINTS.copy()
    joints[number] = xy
    return joints


def with_blob(box: tuple[int, int, int, int]) -> np.ndarray:
    mask = body_mask()
    x0, y0, x1, y1 = box
    mask[y0:y1, x0:x1] = True
    return mask


def without(rows: slice) -> np.ndarray:
    mask = body_mask()
    mask[rows] = False
    return mask


def test_mask_of_the_body_agrees_with_its_joints() -> None:
    assert disagreements(SegmentedPerson(person(), body_mask(), 0.2)) == ()


@pytest.mark.parametrize(
    ("one", "rule"),
    [
        (SegmentedPerson(person(moved(6, (8, 112))), body_mask(), 0.2), "joints"),
        (SegmentedPerson(person(), without(slice(118, 140)), 0.2), "bones"),
        (SegmentedPerson(person(), with_blob((108, 40, 158, 80)), 0.2), "stray"),
        (SegmentedPerson(person(), with_blob((78, 0, 83, 30)), 0.2), "border"),
        (SegmentedPerson(person(), with_blob((4, 4, 30, 40)), 0.2), "pieces"),
        (SegmentedPerson(person(), body_mask(), 0.9), "uncertain"),
        (SegmentedPerson(person(), np.zeros((200, 160), bool), 0.2), "empty"),
    ],
)
def test_mask_that_disagrees_names_its_rule(one: SegmentedPerson, rule: str) -> None:
    assert rule in disagreements(one)


def test_one_joint_just_outside_the_mask_is_forgiven() -> None:
    one = moved(13, (80, 8))
    assert disagreements(SegmentedPerson(person(one), body_mask(), 0.2)) == ()
    one[6] = (24, 112)
    assert "joints" in disagreements(SegmentedPerson(person(one), body_mask(), 0.2))


def test_small_body_breaks_the_size_rule() -> None:
    small = person(JOINTS / 2)
    mask = cv2.resize(body_mask().astype(np.uint8), (80, 100)) > 0
    rgb = cv2.resize(small.rgb, (80, 100))
    assert "size" in disagreements(SegmentedPerson(replace(small, rgb=rgb), mask, 0.2))


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    """sport_poses of 122 athletes, the last with a joint outside the photo."""
    root = tmp_path / "data"
    joints = {f"im{n:05d}": JOINTS.tolist() for n in range(122)}
    joints["im00121"] = moved(6, (-4, 112)).tolist()
    for name in joints:
        save_photo(root / "sport_poses" / "photos" / f"{name}.webp")
    (root / "sport_poses" / "joints.json").write_text(json.dumps({"order": [], "joints": joints}))
    return root


def save_photo(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(person().rgb).save(path, quality=90)


def coco_people(root: Path, visibility: int = 2) -> list[str]:
    """people.json with six photos of one person each; the names of those of the training split."""
    ids = [f"{n:012d}" for n in range(1, 13)]
    face = [[80, 30, 2], *[[0, 0, 0]] * 4]
    limbs = [[*JOINTS[at], 2] for at in COCO_LIMBS]
    limbs[-1][2] = visibility
    keypoints = [value for joint in (*face, *limbs) for value in joint]
    entry = {"bbox": [30, 10, 100, 180], "keypoints": keypoints, "iscrowd": 0}
    for name in ids:
        save_photo(root / "coco_people" / "photos" / f"{name}.webp")
    document = {"whole": [], "people": {i: [entry] for i in ids}, "size": {i: [160, 200] for i in ids}}
    (root / "coco_people" / "people.json").write_text(json.dumps(document))
    return [i for i in ids if not held_out(i) and not held_out(i, 3)]


def test_athletes_with_joints_inside_the_photo_are_read(data_root: Path) -> None:
    people = list(read_sport_people(data_root / "sport_poses"))
    assert [one.name for one in people] == [f"sport-im{n:05d}" for n in range(121)]
    np.testing.assert_array_equal(people[0].joints_xy, JOINTS)


def test_coco_people_of_training_photos_with_all_joints_seen_are_read(data_root: Path) -> None:
    trained = coco_people(data_root)
    assert 0 < len(trained) < 12
    people = list(read_coco_skeletons(data_root / "coco_people"))
    assert [one.name for one in people] == [f"coco-{i}-0" for i in trained]
    assert disagreements(SegmentedPerson(people[0], body_mask(), 0.2)) == ()


def test_coco_person_with_a_covered_joint_is_left_out(data_root: Path) -> None:
    coco_people(data_root, visibility=1)
    assert list(read_coco_skeletons(data_root / "coco_people")) == []


def test_broken_joints_file_is_named(data_root: Path) -> None:
    path = data_root / "sport_poses" / "joints.json"
    path.write_text('{"joints": {"im00000": [[1, 2]]}}')
    with pytest.raises(InputError, match="14 points a photo"):
        list(read_sport_people(path.parent))


def test_set_of_agreeing_people_is_written_and_trained_on(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drawn(_: object, one: SkeletonPerson) -> SegmentedPerson:
        mask = with_blob((4, 4, 30, 40)) if one.name == "sport-im00003" else body_mask()
        return SegmentedPerson(one, mask, 0.2)

    monkeypatch.setattr(pseudo_labels, "segment", drawn)
    folder = tmp_path / "labelled"
    seen: list[int] = []
    report = label_people(folder, data_root, sets=["sport"], on_person=seen.append)
    assert seen[-1] == 121
    assert report["sets"]["sport"] == {"people": 121, "kept": 120, "refused": 1, "pieces": 1, "stray": 1}
    assert json.loads((folder / "report.json").read_text()) == report
    assert (folder / "sheet.jpg").is_file()

    places = Places(labelled=folder)
    weights = SourceWeights(0, 0, 0, 0, labelled=1)
    train, val = (load_library(tmp_path / "none", split, weights, places) for split in ("train", "val"))
    assert (len(train.people), len(val.people)) == (100, 20), "every sixth series of twenty is held out"
    alpha = train.people[0].alpha
    assert np.count_nonzero(alpha >= 128) == pytest.approx(np.count_nonzero(body_mask()), rel=0.02)


def test_interrupted_overwriting_leaves_no_set_that_looks_complete(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pseudo_labels, "segment", lambda _, one: SegmentedPerson(one, body_mask(), 0.2))
    folder = tmp_path / "labelled"
    label_people(folder, data_root, sets=["sport", "sport"])
    assert json.loads((folder / "report.json").read_text())["sets"]["sport"]["people"] == 121, "read once"
    with pytest.raises(InputError, match="people with joints of sport not found"):
        label_people(folder, tmp_path / "none", sets=["sport"], overwrite=True)
    assert len(list((folder / "images").iterdir())) == 121 and (folder / "report.json").is_file()

    def stop(done: int) -> None:
        if done == 50:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        label_people(folder, data_root, sets=["sport"], overwrite=True, on_person=stop)
    with pytest.raises(InputError, match="deocclude data label"):
        load_library(tmp_path, "train", SourceWeights(0, 0, 0, 0, labelled=1), Places(labelled=folder))
    with pytest.raises(UsageError, match="exists"):
        label_people(folder, data_root, sets=["sport"])
    label_people(folder, data_root, sets=["sport"], overwrite=True)
    assert sorted(path.name for path in folder.iterdir()) == ["images", "masks", "report.json", "sheet.jpg"]


def test_existing_folder_is_kept(data_root: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="exists"):
            label_people(tmp_path / "mine", data_root, sets=["sport"], overwrite=overwrite)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"


def test_unknown_set_is_named(data_root: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="sport, coco, got 'dance'"):
        label_people(tmp_path / "out", data_root, sets=["dance"])


def test_labelled_source_requires_its_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="deocclude data label"):
        load_library(tmp_path, "train", SourceWeights(0, 0, 0, 0, labelled=1), Places(labelled=tmp_path))


def test_segmenter_outlines_the_person_of_the_box() -> None:
    photo = np.asarray(Image.open(Path(deocclude.__file__).parent / "assets" / "astronaut.jpg").convert("RGB"))
    truth = np.asarray(Image.open(Path(deocclude.__file__).parent / "assets" / "astronaut_mask.png")) > 0
    rows, columns = np.flatnonzero(truth.any(1)), np.flatnonzero(truth.any(0))
    box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
    networks, _ = open_networks(find_model("base"), "cpu", 1)
    found = pseudo_labels.segment(
        networks["mask_box"], SkeletonPerson("one", photo, box, np.zeros((0, 2)), np.zeros((0, 2, 2)))
    )
    whole_box = np.zeros_like(truth)
    whole_box[box[1] : box[3], box[0] : box[2]] = True
    assert mask_iou(found.mask, truth) > 0.75 > 0.7 > mask_iou(whole_box, truth)
    assert 0 < found.uncertain < 0.3, "most pixels are certain"
