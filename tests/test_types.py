import json
import pickle
import zipfile
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from bodies import make_person
from deocclude.errors import DeoccludeError, UsageError
from deocclude.imaging.compositing import draw_labels
from deocclude.imaging.crop import Region
from deocclude.imaging.rle import decode_rle
from deocclude.io.request_stamp import is_whole, read_stamp
from deocclude.io.results import PERSON_KINDS, SAVE_KINDS, output_name, read_kinds, write
from deocclude.types import PARSING_NAMES, Result


@pytest.fixture
def photo() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (20, 30, 3), dtype=np.uint8)


@pytest.fixture
def result(photo) -> Result:
    return Result(photo, (make_person(photo), make_person(photo, 2, left=18)), {"total": 0.5}, "cpu", "base")


def test_coco_is_an_alias_of_the_json_kind():
    assert read_kinds(["coco", "rgba", "json"]) == ["json", "rgba"]
    with pytest.raises(UsageError, match=r"cannot save 'depth': choose from content, .*, coco"):
        read_kinds(["content", "depth"])


def test_names_are_the_twelve_groups_in_order():
    assert len(PARSING_NAMES) == 12
    assert PARSING_NAMES[0] == "background"
    assert PARSING_NAMES[6] == "upper_clothes"
    assert PARSING_NAMES[11] == "carried"


def test_person_arrays_have_the_photos_size_and_values(photo):
    person = make_person(photo)
    expected = np.zeros((20, 30), bool)
    expected[2:14, 4:10] = True
    assert np.array_equal(person.amodal_mask, expected)
    assert np.array_equal(person.visible_mask | person.invisible_mask, expected)
    assert not (person.visible_mask & person.invisible_mask).any()
    assert person.invisible_mask.sum() == 36
    assert person.amodal_prob.dtype == np.float32
    assert np.allclose(person.amodal_prob, expected * 0.8)
    assert np.array_equal(person.parsing, expected * 6)
    assert person.parsing_names == PARSING_NAMES
    assert person.rgba.shape == (20, 30, 4)
    assert person.box_xyxy == (4, 2, 10, 14)
    assert person.hidden_fraction == 0.5


def test_content_changes_invisible_pixels_only(photo):
    person = make_person(photo)
    changed = (person.content != photo).any(axis=2)
    assert changed.any()
    assert not (changed & ~person.invisible_mask).any()
    assert (person.content[9:12, 5:9] == 100).all()


def test_rgba_shows_photo_and_recovered_pixels(photo):
    rgba = make_person(photo).rgba
    assert np.array_equal(rgba[4:7, 5:9, :3], photo[4:7, 5:9])
    assert (rgba[9:13, 5:9] == (100, 100, 100, 255)).all()
    assert not rgba[:, 12:].any()


def test_a_person_with_nothing_hidden(photo):
    person = make_person(photo, hidden_from=14)
    assert person.hidden_fraction == 0
    assert np.array_equal(person.content, photo)
    assert np.array_equal(person.rgba[5, 6, :3], photo[5, 6])


def test_a_person_is_frozen(photo):
    person = make_person(photo)
    with pytest.raises(FrozenInstanceError):
        person.id = 3
    with pytest.raises(ValueError, match="read-only"):
        person.amodal_part[:] = False


def test_inconsistent_person_fields_are_rejected(photo):
    person = make_person(photo)
    for change, words in [
        ({"visible_part": ~person.visible_part}, "subset"),
        ({"visible_part": person.visible_part.astype(np.uint8)}, "must be bool"),
        ({"amodal_part": np.zeros_like(person.amodal_part)}, "at least one pixel"),
        ({"parsing_part": person.parsing_part[1:]}, "parsing_part must be"),
        ({"region": Region(-1, 2, 15, 12)}, "must lie in the photo"),
        ({"hidden_rgb": person.hidden_rgb[1:]}, "hidden_rgb must be"),
    ]:
        with pytest.raises(DeoccludeError, match=words):
            replace(person, **change)


def crossing(photo: np.ndarray) -> Result:
    """Two people: the second, columns 8 to 14, occludes the right of the first, columns 4 to 10."""
    behind, front = make_person(photo, 1, left=4, hidden_from=14), make_person(photo, 2, left=8)
    visible = behind.visible_part.copy()
    visible[2:8, 6:8] = False  # where the person in front is visible
    visible[8:14] = False  # and below row 8 both are hidden by something else
    hidden = Region(2, 4, 14, 10)
    behind = replace(
        behind, visible_part=visible, hidden_region=hidden, hidden_rgb=np.full((*hidden.size_hw, 3), 50, np.uint8)
    )
    return Result(photo, (behind, front), {"total": 0.5}, "cpu", "base")


def test_result_order_lists_occlusions(photo, result):
    (pair,) = crossing(photo).order
    assert (pair.front, pair.behind, pair.area_px) == (2, 1, 12)
    assert [person.id for person in crossing(photo).back_to_front] == [1, 2]
    assert result.order == () and [person.id for person in result.back_to_front] == [1, 2]


def test_content_composes_people_back_to_front(photo):
    result = crossing(photo)
    content, front = result.content, result.people[1]
    assert np.array_equal(content[front.visible_mask], photo[front.visible_mask])
    assert (content[10:12, 5:7] == 50).all()  # hidden by an object
    assert (content[10:12, 9:13] == 100).all()  # of what both have there, the one in front
    assert (result.people[0].content[4:7, 8:9] == 50).all()  # alone, behind the other one too


def test_coco_contains_depth_and_occlusions(photo):
    coco = crossing(photo).to_coco()
    assert coco["occlusions"] == [{"front": 2, "behind": 1, "area_px": 12}]
    assert [annotation["depth"] for annotation in coco["annotations"]] == [0, 1]


def test_pycocotools_reads_the_to_coco_output(photo, tmp_path, capsys):
    result = crossing(photo)
    file = tmp_path / "photo.deoccluded.json"
    file.write_text(json.dumps(result.to_coco("photo.png")))
    coco = COCO(file)
    capsys.readouterr()  # it tells what it does
    assert coco.loadImgs(1)[0]["file_name"] == "photo.png"
    annotations = coco.loadAnns(coco.getAnnIds(imgIds=1, catIds=coco.getCatIds(catNms=["person"])))
    assert len(annotations) == len(result.people) == 2
    for annotation, person in zip(annotations, result.people, strict=True):
        forms = [annotation["segmentation"], annotation["visible_segmentation"]]
        assert all(form["size"] == [20, 30] and isinstance(form["counts"], str) for form in forms), "compressed"
        assert np.array_equal(coco.annToMask(annotation), person.amodal_mask)
        assert np.array_equal(coco_mask.decode(annotation["visible_segmentation"]), person.visible_mask)
        assert annotation["area"] == coco_mask.area(annotation["segmentation"])
        assert annotation["bbox"] == coco_mask.toBbox(annotation["segmentation"]).tolist()


def test_result_content_holds_every_person(result, photo):
    hidden = np.logical_or.reduce([person.invisible_mask for person in result.people])
    assert np.array_equal(result.content[~hidden], photo[~hidden])
    assert (result.content[9:12, 5:9] == 100).all()
    assert (result.content[9:12, 19:23] == 100).all()
    assert np.array_equal(result.image, photo)


def test_result_refuses_a_person_of_another_photo(photo):
    with pytest.raises(DeoccludeError, match="result's photo"):
        Result(photo[:-1], (make_person(photo),), {}, "cpu", "base")


def test_timings_cannot_be_changed(result):
    with pytest.raises(TypeError):
        result.timings["total"] = 0


def test_result_pickle_round_trip(result):
    copy = pickle.loads(pickle.dumps(result))
    assert np.array_equal(copy.content, result.content) and copy.timings == result.timings
    assert np.array_equal(copy.people[0].rgba, result.people[0].rgba)
    with pytest.raises(TypeError):
        copy.timings["total"] = 0


def test_overlay_marks_people_only(result, photo):
    overlay = result.overlay()
    bodies = np.logical_or.reduce([person.amodal_mask for person in result.people])
    assert overlay.shape == photo.shape
    assert np.array_equal(overlay[~bodies], photo[~bodies])
    assert (overlay[2, 4:10] == 255).all()


def test_overlay_has_a_label_with_id_and_score():
    photo = np.full((120, 160, 3), 90, np.uint8)
    people = (make_person(photo, 1, left=20), make_person(photo, 2, left=120))
    overlay = Result(photo, people, {}, "cpu", "base").overlay()
    expected = photo.copy()
    draw_labels(expected, ["#1: 0.75", "#2: 0.75"], [person.box_xyxy for person in people])
    labels = (expected != photo).any(axis=2)
    assert labels[:, :80].sum() > 300 and labels[:, 80:].sum() > 300
    assert np.array_equal(overlay[labels], expected[labels])


def test_coco_masks_decode_to_the_masks(result):
    coco = result.to_coco("a.jpg")
    assert coco["images"] == [{"id": 1, "file_name": "a.jpg", "width": 30, "height": 20}]
    assert [row["id"] for row in coco["annotations"]] == [1, 2]
    for row, person in zip(coco["annotations"], result.people, strict=True):
        assert np.array_equal(decode_rle(row["segmentation"]), person.amodal_mask)
        assert np.array_equal(decode_rle(row["visible_segmentation"]), person.visible_mask)
        assert row["area"] == 72
        assert row["hidden_fraction"] == 0.5
    assert coco["annotations"][1]["bbox"] == [18, 2, 6, 12]
    assert json.loads(json.dumps(coco)) == coco


def test_save_writes_the_requested_kinds(result, tmp_path):
    paths = result.save(tmp_path / "out", what=SAVE_KINDS, stem="a")
    assert {path.name for path in paths} == {
        "a.deoccluded.png",
        "a.overlay.png",
        "a.deoccluded.ora",
        "a.deoccluded.json",
        *(f"a.person{i}.{kind}.png" for i in (1, 2) for kind in ("rgba", "amodal", "visible", "invisible", "parsing")),
    }
    assert {path.name for path in (tmp_path / "out").iterdir()} == {path.name for path in paths}
    assert len(result.save(tmp_path / "again", what=(kind for kind in SAVE_KINDS))) == len(paths)
    person = result.people[1]
    for kind, expected in [
        ("rgba", person.rgba),
        ("amodal", person.amodal_mask * np.uint8(255)),
        ("visible", person.visible_mask * np.uint8(255)),
        ("parsing", person.parsing),
    ]:
        assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / f"a.person2.{kind}.png")), expected)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "a.deoccluded.png")), result.content)
    assert json.loads((tmp_path / "out" / "a.deoccluded.json").read_text())["info"]["model"] == "base"


def test_layers_are_the_background_and_each_person_by_depth(photo, tmp_path):
    crossing(photo).save(tmp_path, what="layers")
    with zipfile.ZipFile(tmp_path / "photo.deoccluded.ora") as archive:
        stack = ElementTree.fromstring(archive.read("stack.xml"))
        top = stack.find("stack/layer")
        pixels = np.asarray(Image.open(archive.open(top.get("src"))))
        merged = np.asarray(Image.open(archive.open("mergedimage.png")))
    names = [layer.get("name") for layer in stack.iter("layer")]
    assert names == ["person 2 (50 % hidden)", "person 1 (67 % hidden)", "background", "photo"]
    front = crossing(photo).people[1]
    assert (int(top.get("x")), int(top.get("y"))) == (front.region.left, front.region.top)
    assert np.array_equal(pixels, front.rgba_part)
    assert np.array_equal(merged[9:13, 9:13], crossing(photo).content[9:13, 9:13])  # inside the soft edges


def test_files_are_named_as_the_photo(photo):
    named = Result(photo, (), {}, "cpu", "base", name="a.b.jpg")
    assert (named.name, named.id, named.stem) == ("a.b.jpg", 1, "a.b")
    assert Result(photo, (), {}, "cpu", "base").stem == "photo"
    assert replace(named, stem="a_2").stem == "a_2"


def test_save_without_a_stem_uses_the_results(photo, tmp_path):
    result = Result(photo, (), {}, "cpu", "base", name="a.jpg")
    assert [path.name for path in result.save(tmp_path, "content")] == ["a.deoccluded.png"]
    (path,) = replace(result, id=4).save(tmp_path, "json")
    assert json.loads(path.read_text())["images"] == [{"id": 4, "file_name": "a.jpg", "width": 30, "height": 20}]
    assert [path.name for path in result.save(tmp_path, "content", "b")] == ["b.deoccluded.png"]


def test_box_of_each_mask(photo):
    person = make_person(photo)
    assert person.box_xyxy == (4, 2, 10, 14) and person.visible_box_xyxy == (4, 2, 10, 8)
    unseen = replace(person, visible_part=np.zeros_like(person.visible_part), hidden_region=person.region,
                     hidden_rgb=np.zeros((*person.region.size_hw, 3), np.uint8))  # fmt: skip
    assert unseen.visible_box_xyxy == (0, 0, 0, 0) and unseen.box_xyxy == (4, 2, 10, 14)


def test_place_of_the_photo_in_corners_and_as_coco(photo):
    extended = Result(photo, (), {}, "cpu", "base", photo_region=Region(2, 3, 12, 23))
    assert extended.photo_bbox == (3, 2, 20, 10) and extended.photo_box_xyxy == (3, 2, 23, 12)
    plain = Result(photo, (), {}, "cpu", "base")
    assert plain.photo_bbox is None and plain.photo_box_xyxy is None


def test_repr_has_figures_and_no_arrays(photo):
    person = make_person(photo)
    shown = "Person(id=1, score=0.75, hidden_fraction=0.50, hidden_probability=0.88, box_xyxy=(4, 2, 10, 14))"
    assert repr(person) == shown
    low = replace(person, truncating_edges=("bottom",), left_alone="low")
    assert repr(low) == shown[:-1] + ", truncated_by=('bottom',), left_alone='low')"
    result = Result(photo, (person,), {}, "cpu", "base", name="a.jpg", id=2)
    assert repr(result) == (
        f"Result(name='a.jpg', id=2, size_hw=(20, 30), people=[{shown}], model='base', device='cpu')"
    )
    crowd = replace(result, people=tuple(replace(person, id=number) for number in range(1, 12)))
    assert repr(crowd).count("Person(") == 8 and "box_xyxy=(4, 2, 10, 14)), and 3 more]" in repr(crowd)


def test_save_rejects_unknown_kinds(result, tmp_path):
    with pytest.raises(UsageError, match=r"'depth'.*choose from content, rgba"):
        result.save(tmp_path / "out", what=("content", "depth"))
    assert not (tmp_path / "out").exists()
    assert [path.name for path in result.save(tmp_path, what="overlay")] == ["photo.overlay.png"]


@pytest.mark.parametrize("kind", SAVE_KINDS)
def test_every_kind_of_output_holds_a_stamp_that_is_read_again(kind: str, result: Result, tmp_path: Path) -> None:
    person = result.people[0] if kind in PERSON_KINDS else None
    path = write(result, kind, tmp_path / output_name("a", kind, 1 if person else 0), person, stamp="0" * 16)
    assert read_stamp(path) == "0" * 16 and is_whole(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert not is_whole(path)
