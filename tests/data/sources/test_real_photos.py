"""Real photos: reading, crops, and mosaics."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from datafolder import WILD
from deocclude.data.samples.detector_samples import (
    MAX_PEOPLE,
    PeopleSample,
    crop_boxed,
    crop_wild,
    mosaic,
    to_batch,
    whole_wild,
)
from deocclude.data.sources.real_photos import (
    BoxedPhoto,
    WildPhoto,
    read_boxed_photos,
    read_jointed_people,
    read_wild,
    visible_people,
)
from deocclude.data.sources.splits import held_out, is_for_tuning
from deocclude.errors import InputError


def test_photos_are_split_by_name(data_root: Path) -> None:
    everything = list(read_wild(data_root / "wild"))
    assert [p.name for p in everything] == [f"wild/{name}" for name in WILD]
    assert [p.name for p in read_wild(data_root / "wild", "val")] == ["wild/street5"]
    assert [p.name for p in read_wild(data_root / "wild", "train")] == [f"wild/{name}" for name in WILD[:3]]
    first, second = everything[:2]
    assert first.rgb.shape == (96, 128, 3) and first.instances.shape == (96, 128)
    assert set(np.unique(first.instances)) == {0, 1, 2} and set(first.boxes_xyxy) == {1, 2}
    assert first.ignore.sum() == 30 * 28 and not second.ignore.any()


def photo() -> WildPhoto:
    """40 x 80, one person of 20 x 30 at (10, 5), a crowd in the right quarter."""
    instances = np.zeros((40, 80), np.uint8)
    instances[5:35, 10:30] = 3
    ignore = np.zeros((40, 80), bool)
    ignore[:, 60:] = True
    rgb = np.zeros((40, 80, 3), np.uint8)
    rgb[instances == 3] = 250
    return WildPhoto("wild/x", rgb, instances, ignore, {3: (10.0, 5.0, 30.0, 36.0)})


def test_whole_photo_is_letterboxed_as_in_inference() -> None:
    sample = whole_wild(photo(), 160)
    assert sample.boxes_xyxy.tolist() == [[20, 10, 60, 72]] and sample.counted.tolist() == [True]
    assert sample.photo.shape == (160, 160, 3) and (sample.photo[80:] == 128).all()
    assert sample.owner.sum() == 40 * 60 and (sample.owner[10:70, 20:60] == 1).all()
    assert sample.ignore.sum() == 80 * 40 and sample.ignore[:80, 120:].all()


def test_random_crops_keep_boxes_and_masks_aligned() -> None:
    mirrored = cut = 0
    for seed in range(300):
        sample = crop_wild(photo(), np.random.default_rng(seed), 96)
        assert sample.photo.shape == (96, 96, 3) and sample.owner.shape == (96, 96)
        assert len(sample.boxes_xyxy) == (1 if sample.owner.any() else 0)
        for x0, y0, x1, y1 in sample.boxes_xyxy.astype(int):
            assert sample.owner[y0:y1, x0:x1].all() and sample.owner.sum() == (y1 - y0) * (x1 - x0)
            cut += not sample.counted[0]
            if sample.ignore.any():  # the crowd is on the person's right, or the photo is mirrored
                mirrored += np.flatnonzero(sample.ignore.any(0))[-1] < x0
    assert 60 < mirrored < 150 and cut >= 1
    a, b = (crop_wild(photo(), np.random.default_rng(1), 96) for _ in range(2))
    np.testing.assert_array_equal(a.photo, b.photo)


def test_stretched_crops_keep_boxes_and_masks_aligned() -> None:
    shapes = set()
    for seed in range(60):
        sample = crop_wild(photo(), np.random.default_rng(seed), 96, stretch=0.3)
        for x0, y0, x1, y1 in sample.boxes_xyxy.astype(int):
            assert sample.owner[y0:y1, x0:x1].all() and sample.owner.sum() == (y1 - y0) * (x1 - x0)
            if sample.counted[0]:
                shapes.add(round((x1 - x0) / (y1 - y0), 1))
    assert min(shapes) < 0.6 and max(shapes) > 0.75, "a person of 20 x 30 is 0.67 as wide as high"


def test_visible_people_are_cut_out_of_real_photos() -> None:
    one = photo()
    large = WildPhoto(
        "wild/y",
        *(np.kron(array, np.ones((3, 3, 1)[: array.ndim], array.dtype)) for array in (one.rgb, one.instances)),
        np.kron(one.ignore, np.ones((3, 3), bool)),
        {3: (30.0, 15.0, 90.0, 105.0)},
    )
    (layer,) = visible_people([one, large])
    assert layer.name == "wild/y/3", "whoever is small is left out"
    x0, y0, x1, y1 = layer.box_xyxy
    assert (x1 - x0, y1 - y0) == pytest.approx((58, 88), abs=1), "less a pixel of the rim"
    assert (layer.rgb[layer.alpha >= 200] == 250).all()


def test_mosaic_combines_four_samples() -> None:
    parts = [whole_wild(photo(), 40) for _ in range(3)]
    is_negative = WildPhoto("wild/n", photo().rgb, np.zeros((40, 80), np.uint8), np.zeros((40, 80), bool), {})
    parts.insert(1, whole_wild(is_negative, 40))
    together = mosaic(parts)
    assert together.photo.shape == (80, 80, 3) and together.counted.tolist() == [True] * 3
    first = parts[0].boxes_xyxy[0]
    np.testing.assert_allclose(together.boxes_xyxy - first, [[0, 0, 0, 0], [0, 40, 0, 40], [40, 40, 40, 40]])
    for number, (x0, y0, x1, y1) in enumerate(together.boxes_xyxy.round().astype(int), start=1):
        assert (together.owner[y0 + 1 : y1 - 1, x0 + 1 : x1 - 1] == number).all()
    np.testing.assert_array_equal(together.ignore[40:, 40:], parts[3].ignore)
    assert not together.ignore[:40, 40:].any()
    assert to_batch([together])["boxes_xyxy"].shape == (1, MAX_PEOPLE, 4)


def test_mosaic_limits_people_to_255() -> None:
    count = 100
    owner = np.zeros((10, 10), np.uint8)
    owner.ravel()[:] = np.arange(1, count + 1)
    boxes = np.array([[x, y, x + 1, y + 1] for y in range(10) for x in range(10)], np.float32)
    part = PeopleSample(np.zeros((10, 10, 3), np.uint8), boxes, np.ones(count, bool), owner, np.zeros((10, 10), bool))
    together = mosaic([part] * 4)
    assert together.counted.sum() == 255 and together.owner.max() == 255 and (together.owner[10:, 10:] == 0).all()


def test_error_names_the_invalid_annotation(data_root: Path, tmp_path: Path) -> None:
    def folder(name: str) -> Path:
        return Path(shutil.copytree(data_root / "wild", tmp_path / name))

    def refused(root: Path) -> str:
        with pytest.raises(InputError) as caught:
            list(read_wild(root))
        return str(caught.value)

    root = folder("no-list")
    (root / "persons.json").unlink()
    assert refused(root) == f"people of the wild photos not found: looked for {root / 'persons.json'}"
    root = folder("not-a-list")
    (root / "persons.json").write_text('[{"id": "street0"}]')
    assert "persons.json: expected a list of people with id, inst and bbox (KeyError('bbox'))" in refused(root)
    root = folder("many")
    people = json.loads((root / "persons.json").read_text())
    people[0]["inst"] = 300
    (root / "persons.json").write_text(json.dumps(people))
    assert "inst must be from 1 to 254, got 300" in refused(root)
    root = folder("unlisted")
    people = json.loads((root / "persons.json").read_text())
    (root / "persons.json").write_text(json.dumps(people[1:]))
    assert "street0.jpg: person 1 of the instance mask is not in persons.json" in refused(root)
    root = folder("no-mask")
    (root / "masks" / "street1.png").unlink()
    assert "instance mask not found" in refused(root) and "street1.png" in refused(root)
    root = folder("size")
    shutil.copy(root / "images" / "street1.jpg", root / "images" / "street2.jpg")
    cv2.imwrite(str(root / "masks" / "street2.png"), np.zeros((5, 6), np.uint8))
    assert "street2.jpg: instance mask must have the photo's size (96, 128) (HxW), got (5, 6)" in refused(root)


def write_jointed_people(root: Path) -> None:
    """Two photos of half the annotated size, of one outlined person and of two people, of whom one is low."""
    joints = [[10 * i, 100, 2 - i % 2] for i in range(10)] + [[0, 0, 0]] * 7
    keypoints = [value for joint in joints for value in joint]
    outline = [[0, 0, 100, 0, 100, 200, 0, 200]]
    one = {"bbox": [0, 0, 100, 200], "keypoints": keypoints, "segmentation": outline}
    several = [{"bbox": [20, 0, 50, h], "keypoints": keypoints, "segmentation": outline} for h in (180, 120)]
    few = {"bbox": [0, 0, 100, 200], "keypoints": keypoints[:24] + [0] * 27}
    people = {"1": [one], "2": several, "3": [few]}
    (root / "photos").mkdir(parents=True)
    for name in people:
        rgb = np.full((120, 160, 3), 40 * int(name), np.uint8)
        cv2.imwrite(str(root / "photos" / f"{name}.webp"), rgb, [cv2.IMWRITE_WEBP_QUALITY, 101])
    size = {name: [320, 240] for name in people}
    (root / "people.json").write_text(json.dumps({"people": people, "size": size}))


def test_jointed_people_are_read_in_pixels_of_the_stored_photo(tmp_path: Path) -> None:
    write_jointed_people(tmp_path)
    outlined, plain = read_jointed_people(tmp_path)
    assert outlined.rgb[0, 0, 0] == 40 and outlined.box_xyxy == (0, 0, 50, 100)
    assert outlined.visible is not None and outlined.visible[:99, :49].all() and not outlined.visible[102:, 52:].any()
    np.testing.assert_array_equal(outlined.covered_xy, [(5.0 * i, 50) for i in range(1, 10, 2)])
    np.testing.assert_array_equal(outlined.seen_xy, [(5.0 * i, 50) for i in range(0, 10, 2)])
    assert plain.visible is None and plain.box_xyxy == (10, 0, 35, 90)
    assert len(list(read_jointed_people(tmp_path, min_height_px=60.0))) == 3
    assert len(list(read_jointed_people(tmp_path, min_joints=8))) == 3


def test_jointed_people_are_split_by_photo(tmp_path: Path) -> None:
    write_jointed_people(tmp_path)
    count = {split: len(list(read_jointed_people(tmp_path, split))) for split in ("train", "val")}
    assert count["val"] == sum(held_out(name) for name in ("1", "2")) and sum(count.values()) == 2


def write_boxed_people(root: Path, ids: tuple[str, ...] = ("1",), people: int = 2) -> None:
    """Photos of 160 x 120, annotated at twice that size: people, an unmarked crowd, a marked one and a small person."""
    joints = [50, 50, 2] + [0, 0, 0] * 16
    entries = [{"bbox": [20 + 40 * i, 40, 30, 100], "keypoints": joints} for i in range(people)]
    entries += [
        {"bbox": [160, 0, 160, 60], "keypoints": [0] * 51}, {"bbox": [0, 200, 100, 40], "iscrowd": 1},
        {"bbox": [300, 220, 10, 8]},
    ]  # fmt: skip
    (root / "photos").mkdir(parents=True)
    rgb = np.full((120, 160, 3), 90, np.uint8)
    rgb[20:70, 10:25] = rgb[20:70, 30:45] = 250
    for name in ids:
        cv2.imwrite(str(root / "photos" / f"{name}.webp"), rgb, [cv2.IMWRITE_WEBP_QUALITY, 101])
    document = {"people": {name: entries for name in ids}, "size": {name: [320, 240] for name in ids}}
    (root / "people.json").write_text(json.dumps(document))


def test_boxes_without_joints_that_are_wide_and_large_are_crowds(tmp_path: Path) -> None:
    write_boxed_people(tmp_path)
    (photo,) = read_boxed_photos(tmp_path)
    assert photo.rgb().shape == (120, 160, 3)
    pixels = (160, 120, 160, 120)
    np.testing.assert_allclose(
        photo.boxes_xyxy * pixels, [(10, 20, 25, 70), (30, 20, 45, 70), (150, 110, 155, 114)]
    )  # fmt: skip
    np.testing.assert_allclose(photo.crowds_xyxy * pixels, [(80, 0, 160, 30), (0, 100, 50, 120)])


def test_photos_for_tuning_are_in_no_other_split(tmp_path: Path) -> None:
    ids = tuple(str(number) for number in range(60))
    write_boxed_people(tmp_path, ids)
    names = {
        split: [p.photo_id for p in read_boxed_photos(tmp_path, split)] for split in ("train", "tune", "val")
    }  # fmt: skip
    assert all(names.values()) and sorted(name for of_split in names.values() for name in of_split) == sorted(ids)
    assert set(names["val"]) == {i for i in ids if held_out(i)}
    assert set(names["tune"]) == {i for i in ids if is_for_tuning(i)}


def test_crop_of_a_boxed_photo_has_boxes_around_its_people(tmp_path: Path) -> None:
    write_boxed_people(tmp_path)
    (photo,) = read_boxed_photos(tmp_path)
    shown = 0
    for seed in range(40):
        sample = crop_boxed(photo, np.random.default_rng(seed), 96, 0.2)
        assert sample.photo.shape == (96, 96, 3) and not sample.owner.any()
        for box, counted in zip(sample.boxes_xyxy, sample.counted, strict=True):
            x0, y0, x1, y1 = box.round().astype(int)
            if counted and x1 - x0 > 6 and y1 - y0 > 20:
                shown += 1
                inside, beside = sample.photo[y0 + 2 : y1 - 2, x0 + 2 : x1 - 2], sample.photo[:, : max(0, x0 - 2)]
                assert np.median(inside) > 150, seed
                assert not beside.size or np.median(beside) < 150
        again = crop_boxed(photo, np.random.default_rng(seed), 96, 0.2)
        assert np.array_equal(sample.photo, again.photo) and np.array_equal(sample.boxes_xyxy, again.boxes_xyxy)
    assert shown > 40


def test_cut_people_are_not_counted_and_crowds_are_ignored(tmp_path: Path) -> None:
    write_boxed_people(tmp_path)
    (photo,) = read_boxed_photos(tmp_path)
    one = BoxedPhoto(photo.root, photo.photo_id, np.array([[0.1, 0.1, 0.9, 0.9]]), np.array([[0.0, 0.5, 1.0, 1.0]]))
    counted = set()
    for seed in range(200):
        sample = crop_boxed(one, np.random.default_rng(seed), 64)
        counted |= {bool(c) for c in sample.counted}
        assert not len(sample.boxes_xyxy) or (sample.boxes_xyxy[:, 2:] > sample.boxes_xyxy[:, :2]).all()
    assert counted == {True, False}
    assert any(crop_boxed(one, np.random.default_rng(seed), 64).ignore.any() for seed in range(9))
