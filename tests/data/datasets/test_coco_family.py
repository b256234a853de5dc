"""COCO, COCO-amodal and KINS: JSON files as their authors publish them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from datasetfolder import (
    FIRST,
    SECOND,
    SECOND_WHOLE,
    SIZE_HW,
    box,
    coco_image,
    make_coco,
    make_cocoa,
    make_kins,
    polygon,
    write_json,
    write_photo,
)
from deocclude.data.datasets import coco_amodal, coco_instances, kins
from deocclude.data.datasets.each_photo import UnusablePhoto, with_unusable
from deocclude.data.datasets.record import PersonRecord, PhotoRecord, Rle
from deocclude.errors import InputError
from deocclude.imaging.rle import encode_rle


def test_coco_gives_visible_masks(tmp_path: Path) -> None:
    one, empty = coco_instances.read(make_coco(tmp_path))
    assert (one.image, one.size_hw, one.source, one.id, one.split, one.licence) == (
        str(tmp_path / "val2017" / "000000000009.jpg"), SIZE_HW, "coco", "9", "val", "Attribution License",
    )  # fmt: skip
    person, crowd = one.people
    np.testing.assert_array_equal(person.visible.mask(), box(2, 1, 7, 4) | box(2, 6, 7, 11))
    assert (person.id, person.amodal, person.parsing, person.depth_order) == ("501", None, None, None)
    assert not person.iscrowd
    np.testing.assert_array_equal(crowd.visible.mask(), box(13, 0, 16, 12))
    assert crowd.iscrowd
    (dog,) = one.things
    assert (dog.name, dog.depth_order) == ("dog", None)
    np.testing.assert_array_equal(dog.visible.mask(), box(0, 0, 2, 2))
    assert (empty.id, empty.people, empty.things) == ("25", (), ())


@pytest.mark.parametrize(
    ("mark", "shape", "from_coco", "is_crowd"),
    [
        ("0", "polygon", True, False),
        ("1", "polygon", False, True),
        (0.0, "run lengths", True, False),
        (1, "run lengths", False, False),  # another tool's mark of the encoding
        (1, "run lengths", True, True),
    ],
)
def test_iscrowd_is_read_by_the_rule_of_coco_crowds(
    tmp_path: Path, mark: object, shape: str, from_coco: bool, is_crowd: bool
) -> None:
    path = make_coco(tmp_path)
    content = json.loads(path.read_text())
    one = content["annotations"][0] | {"id": 1, "iscrowd": mark}
    if shape == "run lengths":
        one["segmentation"] = encode_rle(FIRST)
    content["annotations"] = [one, content["annotations"][1]]
    content["info"] = {"description": "COCO 2017 Dataset" if from_coco else "CVAT"}
    (person,) = next(coco_instances.read(write_json(path, content))).people
    assert person.iscrowd is is_crowd


def test_another_value_of_iscrowd_makes_its_photo_unusable(tmp_path: Path) -> None:
    path = make_coco(tmp_path)
    content = json.loads(path.read_text())
    content["annotations"][0]["iscrowd"] = "yes"
    with pytest.raises(InputError, match=r"annotations\[0\]: iscrowd must be 0 or 1, got 'yes'"):
        next(coco_instances.read(write_json(path, content)))


@pytest.mark.parametrize("licence", [{"id": 0, "name": "", "url": ""}, {"id": 0}, {"name": "CC0"}])
def test_nameless_licence_is_none(tmp_path: Path, licence: dict[str, object]) -> None:
    """CVAT writes such an entry of its own accord; an entry without an id is no photo's licence."""
    path = make_coco(tmp_path)
    content = json.loads(path.read_text())
    content["licenses"] = [licence]
    for image in content["images"]:
        image.pop("license", None)
        if "id" in licence:
            image["license"] = 0
    assert [photo.licence for photo in coco_instances.read(write_json(path, content))] == [None, None]


@pytest.mark.parametrize("key", ["visible_segmentation", "visible_mask"])
def test_coco_with_visible_mask_also_gives_amodal_mask(tmp_path: Path, key: str) -> None:
    path = make_coco(tmp_path)
    content = json.loads(path.read_text())
    front, back = content["annotations"][0], content["annotations"][1]
    front |= {"segmentation": encode_rle(FIRST), key: encode_rle(FIRST), "depth": 1}
    back |= {"category_id": 1, "segmentation": encode_rle(SECOND_WHOLE), key: encode_rle(SECOND), "depth": 0}
    first, second, _ = next(coco_instances.read(write_json(path, content))).people
    np.testing.assert_array_equal(second.visible.mask(), SECOND)
    np.testing.assert_array_equal(second.amodal.mask(), SECOND_WHOLE)
    assert first.visible == first.amodal
    if key == "visible_segmentation":
        assert first.depth_order < second.depth_order, "the lowest is nearest"


def test_photo_folder_can_be_given_separately(tmp_path: Path) -> None:
    path = make_coco(tmp_path)
    (tmp_path / "val2017").rename(tmp_path / "photos")
    with pytest.raises(InputError, match=r"its photo 000000000009\.jpg was not found in .*val2017: say where with"):
        list(coco_instances.read(path))
    assert len(list(coco_instances.read(path, tmp_path / "photos"))) == 2
    (tmp_path / "photos" / "000000000025.jpg").unlink()
    with pytest.raises(InputError, match="000000000025"):
        list(coco_instances.read(path, tmp_path / "photos"))


@pytest.mark.parametrize(
    ("make", "module", "folder"),
    [(make_coco, coco_instances, "val2017"), (make_cocoa, coco_amodal, "train2014"), (make_kins, kins, "image_2")],
)
def test_unusable_photo_does_not_stop_reading(tmp_path: Path, make: Callable, module: ModuleType, folder: str) -> None:
    path, images = make(tmp_path), tmp_path / folder
    content = json.loads(path.read_text())
    first, annotation = content["images"][0], content["annotations"][0]
    write_photo(images / "more.jpg")
    content["images"].append(coco_image(7, "more.jpg"))
    content["annotations"].append({**annotation, "image_id": 7})
    good = list(module.read(write_json(path, content), images))
    assert len(good) == len(content["images"])
    photo = images / first["file_name"]

    def first_is_named(*words: str) -> None:
        bad, *others = with_unusable(module.read(path, images))
        assert isinstance(bad, UnusablePhoto) and all(word in bad.what for word in words), bad
        assert others == good[1:]

    photo.rename(tmp_path / "kept")
    first_is_named("photo not found", first["file_name"])
    photo.write_bytes(b"no photo")
    first_is_named("not a readable photo", first["file_name"])
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", SIZE_HW[::-1]).save(photo, exif=exif)  # listed as it is stored, not as it is seen
    first_is_named("images[0]", "must have the size [12, 16] (H, W), but has [16, 12] upright")
    (tmp_path / "kept").rename(photo)
    del first["height"]
    write_json(path, content)
    first_is_named("images[0]", 'expected "height"')


def test_invalid_annotation_skips_only_its_photo(tmp_path: Path) -> None:
    path = make_coco(tmp_path)
    content = json.loads(path.read_text())
    content["annotations"][0]["segmentation"] = "abc"
    bad, empty = with_unusable(coco_instances.read(write_json(path, content)))
    assert isinstance(bad, UnusablePhoto) and "annotations[0]: segmentation must be a list" in bad.what
    assert empty.id == "25"


def test_float_ids_are_read_as_integers(tmp_path: Path) -> None:
    path = make_coco(tmp_path)
    content = json.loads(path.read_text())
    expected = list(coco_instances.read(path))
    for entry in [*content["images"], *content["annotations"], *content["categories"]]:
        entry |= {key: float(entry[key]) for key in ("id", "image_id", "category_id") if key in entry}
    found = list(coco_instances.read(write_json(path, content)))
    assert [(record.id, len(record.people)) for record in found] == [
        (record.id, len(record.people)) for record in expected
    ]


def test_invalid_coco_file_error_names_the_problem(tmp_path: Path) -> None:
    path = make_coco(tmp_path)
    content = json.loads(path.read_text())

    def fails(match: str, **changes: object) -> None:
        with pytest.raises(InputError, match=match) as caught:
            list(coco_instances.read(write_json(path, content | changes)))
        assert "\n" not in str(caught.value)

    fails(r"no category person, only cat", categories=[{"id": 1, "name": "cat"}])
    fails("lists no photo", images=[])
    wide = [coco_image(9, "000000000009.jpg") | {"width": 17}]
    fails(r"images\[0\].*must have the size \[12, 17\] \(H, W\), but has \[12, 16\]", images=wide)
    broken = [{**content["annotations"][0], "segmentation": "abc"}]
    fails(r"annotations\[0\]: segmentation must be a list of polygons", annotations=broken)
    fails(r"annotations\[0\]: expected \"image_id\"", annotations=[{"id": 1}])
    path.write_text("[1, 2]")
    with pytest.raises(InputError, match="expected an object with images"):
        list(coco_instances.read(path))


def test_coco_without_licences_or_segmentations_is_read(tmp_path: Path) -> None:
    path = make_coco(tmp_path)
    content = json.loads(path.read_text())
    content["licenses"] = None
    del content["annotations"][0]["segmentation"]
    content["annotations"][3]["segmentation"] = None
    one, empty = coco_instances.read(write_json(path, content))
    assert (one.licence, [person.id for person in one.people], empty.people) == (None, ["503"], ())
    assert [(note.kind, note.person) for note in (*one.notes, *empty.notes)] == [
        ("empty", "501"),
        ("empty", "504"),
    ]


def test_annotations_of_photos_that_are_not_listed_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = make_coco(tmp_path)
    content = json.loads(path.read_text())
    assert len(list(coco_instances.read(path))) == 2 and not caplog.messages
    for annotation, image_id in zip(content["annotations"], ("9", 9, 77, "9"), strict=True):
        annotation["image_id"] = image_id
    assert [photo.people for photo in coco_instances.read(write_json(path, content))] == [(), ()]
    assert caplog.messages == [f"{path}: 3 annotations left out, of photos that it does not list: image_id '9'"]


def test_category_id_may_be_number_or_text(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = make_coco(tmp_path)
    content = json.loads(path.read_text())
    content["annotations"][0]["category_id"] = "1"
    content["categories"][1]["id"] = "18"
    photo = next(coco_instances.read(write_json(path, content)))
    assert [person.id for person in photo.people] == ["501", "503"]
    assert [thing.name for thing in photo.things] == ["dog"] and not caplog.messages
    content["annotations"][0]["category_id"] = "person"
    photo = next(coco_instances.read(write_json(path, content)))
    assert [thing.name for thing in photo.things] == ["person", "dog"]
    told = "1 annotations are taken for things, of categories that it does not list: category_id 'person'"
    assert caplog.messages == [f"{path}: {told}"]


def test_duplicate_photo_id_is_rejected(tmp_path: Path) -> None:
    path = make_coco(tmp_path)
    content = json.loads(path.read_text())
    content["images"].append(content["images"][0])
    with pytest.raises(InputError, match=r"images\[0\] and images\[2\] have the id 9: a photo must be listed once"):
        list(coco_instances.read(write_json(path, content)))


def test_every_annotation_is_a_person_without_categories(tmp_path: Path) -> None:
    path = make_coco(tmp_path)
    content = json.loads(path.read_text())
    del content["categories"]
    photo = next(coco_instances.read(write_json(path, content)))
    assert ([p.id for p in photo.people], photo.things) == (["501", "502", "503"], ())


def test_coco_amodal_gives_people_with_depth_order(tmp_path: Path) -> None:
    (photo,) = coco_amodal.read(make_cocoa(tmp_path))
    assert (photo.id, photo.split, photo.source) == ("81", "train", "coco-amodal")
    woman, man, group = photo.people
    assert [p.depth_order for p in photo.people] == [1, 2, 4]
    np.testing.assert_array_equal(woman.visible.mask(), FIRST)
    assert woman.amodal == woman.visible, "nothing hidden: the format leaves the masks out"
    np.testing.assert_array_equal(man.visible.mask(), SECOND)
    np.testing.assert_array_equal(man.amodal.mask(), SECOND_WHOLE)
    assert (group.iscrowd, group.amodal) == (True, None)
    assert [(thing.name, thing.depth_order) for thing in photo.things] == [("man's hat", 3)], "the sky is no thing"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Man in black", "one"), ("person1", "one"), ("little girl", "one"), ("man walking a dog", "one"),
        ("people", "group"), ("three men", "group"), ("man's hat", None), ("hat of man", None), ("baby stroller", None),
        ("painting of a woman", None), ("", None), ("tree", None),
    ],
)  # fmt: skip
def test_region_names_are_classified_as_person_or_group(name: str, expected: str | None) -> None:
    assert coco_amodal.is_person(name) == expected


def test_each_annotator_of_coco_amodal_has_a_record(tmp_path: Path) -> None:
    path = make_cocoa(tmp_path)
    content = json.loads(path.read_text())
    content["annotations"] *= 2
    assert [photo.id for photo in coco_amodal.read(write_json(path, content))] == ["81", "81#2"]


def test_amodal_mask_includes_the_visible_mask(tmp_path: Path) -> None:
    """Drawn by hand, a visible mask may extend beyond the amodal polygon."""
    path = make_cocoa(tmp_path)
    content = json.loads(path.read_text())
    content["annotations"][0]["regions"][1]["segmentation"] = polygon(4, 3, 11, 10)
    (photo,) = coco_amodal.read(write_json(path, content))
    np.testing.assert_array_equal(photo.people[1].amodal.mask(), SECOND_WHOLE)


def test_coco_amodal_round_trip(tmp_path: Path) -> None:
    ragged = np.random.default_rng(0).random(SIZE_HW) < 0.4
    ragged_seen = ragged & box(0, 0, 8, 12)
    photo = write_photo(tmp_path / "photos" / "x.jpg")
    people = (
        PersonRecord(id="far", visible=Rle.of(SECOND), amodal=Rle.of(SECOND_WHOLE), depth_order=7),
        PersonRecord(id="near", visible=Rle.of(ragged_seen), amodal=Rle.of(ragged), depth_order=-2),
        PersonRecord(id="crowd", visible=Rle.of(FIRST), iscrowd=True),
    )
    record = PhotoRecord(image=str(photo), size_hw=SIZE_HW, source="x", id="x", people=people)
    unknown = record.model_copy(update={"people": (PersonRecord(id="seen", visible=Rle.of(FIRST)),)})
    path = tmp_path / "out" / "amodal.json"
    assert coco_amodal.write(iter([record, unknown]), path) == 2
    assert [file.name for file in path.parent.iterdir()] == ["amodal.json"]
    content = json.loads(path.read_text())
    assert content["images"][0]["file_name"] == "../photos/x.jpg"
    regions = content["annotations"][0]["regions"]
    assert [region["order"] for region in regions] == [1, 2]
    assert content["annotations"][0]["depth_constraint"] == "1-2"
    assert regions[1]["occlude_rate"] == round((SECOND_WHOLE & FIRST).sum() / SECOND_WHOLE.sum(), 6)
    assert all(isinstance(number, int) for number in regions[0]["segmentation"]), "one flat polygon"

    near, far = next(coco_amodal.read(path)).people
    assert (near.visible, near.amodal, near.depth_order) == (people[1].visible, people[1].amodal, 1)
    assert (far.visible, far.amodal, far.depth_order) == (people[0].visible, people[0].amodal, 2)


def test_missing_depth_order_is_not_invented(tmp_path: Path) -> None:
    photo = write_photo(tmp_path / "x.jpg")
    people = (PersonRecord(id="1", visible=Rle.of(FIRST), amodal=Rle.of(FIRST)),)
    record = PhotoRecord(image=str(photo), size_hw=SIZE_HW, source="x", id="x", people=people)
    coco_amodal.write([record], tmp_path / "amodal.json")
    annotation = json.loads((tmp_path / "amodal.json").read_text())["annotations"][0]
    assert "depth_constraint" not in annotation
    assert not {"order", "visible_mask", "invisible_mask"} & set(annotation["regions"][0])


def test_missing_depth_order_of_one_person_keeps_the_others(tmp_path: Path) -> None:
    photo = write_photo(tmp_path / "x.jpg")
    masks = {"unknown": FIRST, "far": SECOND_WHOLE, "near": FIRST}
    orders = {"unknown": None, "far": 7, "near": -2}
    people = tuple(
        PersonRecord(id=name, visible=Rle.of(mask), amodal=Rle.of(mask), depth_order=orders[name])
        for name, mask in masks.items()
    )
    record = PhotoRecord(image=str(photo), size_hw=SIZE_HW, source="x", id="x", people=people)
    coco_amodal.write([record], tmp_path / "amodal.json")
    annotation = json.loads((tmp_path / "amodal.json").read_text())["annotations"][0]
    assert annotation["depth_constraint"] == "1-2"
    (photo,) = coco_amodal.read(tmp_path / "amodal.json")
    assert [person.depth_order for person in photo.people] == [1, 2, None]
    assert [person.visible for person in photo.people] == [Rle.of(FIRST), Rle.of(SECOND_WHOLE), Rle.of(FIRST)]


def test_error_names_the_mask_that_cannot_be_written(tmp_path: Path) -> None:
    empty, short = Rle.of(np.zeros(SIZE_HW, bool)), Rle(size=SIZE_HW, counts="9")
    for amodal, message in ((empty, "person 7 has no pixel"), (short, "person 7: run lengths must add up")):
        people = (PersonRecord(id="7", visible=empty, amodal=amodal),)
        record = PhotoRecord(image="x.jpg", size_hw=SIZE_HW, source="x", id="x", people=people)
        with pytest.raises(InputError, match=rf"x\.jpg: {message}"):
            coco_amodal.write([record], tmp_path / "amodal.json")
        assert not list(tmp_path.iterdir())


def test_invalid_depth_order_is_rejected(tmp_path: Path) -> None:
    path = make_cocoa(tmp_path)
    content = json.loads(path.read_text())
    content["annotations"][0]["regions"][0]["order"] = "first"
    with pytest.raises(InputError, match=r"annotations\[0\]\.regions\[0\]: order must be a whole number, got 'first'"):
        list(coco_amodal.read(write_json(path, content)))


def test_invalid_depth_constraint_is_rejected(tmp_path: Path) -> None:
    path = make_cocoa(tmp_path)
    content = json.loads(path.read_text())
    for pairs in ("", "1-2", "1-2, 10-3", None):
        content["annotations"][0]["depth_constraint"] = pairs
        assert len(list(coco_amodal.read(write_json(path, content)))) == 1, pairs
    for pairs in ("1-x", "1-2,3", "1-2 3-4", [[1, 2]]):
        content["annotations"][0]["depth_constraint"] = pairs
        with pytest.raises(InputError, match=r"annotations\[0\]: depth_constraint must be pairs of orders such as"):
            list(coco_amodal.read(write_json(path, content)))


@pytest.mark.parametrize("keys", [("a_segm", "i_segm"), ("segmentation", "inmodal_seg")])
def test_kins_gives_visible_and_amodal_masks(tmp_path: Path, keys: tuple[str, str]) -> None:
    path = make_kins(tmp_path, keys=keys)
    (photo,) = kins.read(path, tmp_path / "image_2")
    assert [person.id for person in photo.people] == ["1", "2"]
    np.testing.assert_array_equal(photo.people[1].visible.mask(), SECOND)
    np.testing.assert_array_equal(photo.people[1].amodal.mask(), SECOND_WHOLE)
    (car,) = photo.things
    assert car.name == "car"
    np.testing.assert_array_equal(car.visible.mask(), box(0, 0, 2, 1))
    assert kins.matches(path) and not coco_instances.matches(path)


def test_fully_occluded_pedestrian_is_read(tmp_path: Path) -> None:
    path = make_kins(tmp_path)
    content = json.loads(path.read_text())
    content["annotations"][1]["i_segm"] = []
    (photo,) = kins.read(write_json(path, content), tmp_path / "image_2")
    hidden = photo.people[1]
    assert not hidden.visible.mask().any() and photo.notes == ()
    np.testing.assert_array_equal(hidden.amodal.mask(), SECOND_WHOLE)


def test_fully_occluded_coco_person_has_an_empty_visible_mask(tmp_path: Path) -> None:
    path = make_coco(tmp_path)
    content = json.loads(path.read_text())
    content["annotations"][0] |= {"segmentation": encode_rle(FIRST), "visible_mask": []}
    hidden, _ = next(coco_instances.read(write_json(path, content))).people
    assert not hidden.visible.mask().any() and hidden.amodal == Rle.of(FIRST)


def test_kins_without_visible_mask_is_rejected(tmp_path: Path) -> None:
    path = make_kins(tmp_path)
    content = json.loads(path.read_text())
    del content["annotations"][1]["i_segm"]
    with pytest.raises(InputError, match=r"annotations\[1\]: expected a_segm and i_segm"):
        list(kins.read(write_json(path, content), tmp_path / "image_2"))


def test_kins_visible_mask_is_not_used_as_amodal_mask(tmp_path: Path) -> None:
    path = make_kins(tmp_path)
    content = json.loads(path.read_text())
    second = content["annotations"][1]
    del second["a_segm"]
    second["segmentation"] = second["i_segm"]
    with pytest.raises(InputError, match=r"annotations\[1\]: expected a_segm and i_segm"):
        list(kins.read(write_json(path, content), tmp_path / "image_2"))
