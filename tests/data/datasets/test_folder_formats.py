"""Datasets that are folders: AHP, LIP, CIHP, VOC, SBD, Clothing Co-Parsing, masks and cut-outs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import loadmat, savemat

from datafolder import CCP_TRAIN, CCP_VAL, GARMENTS
from datasetfolder import (
    FIRST,
    SECOND,
    SECOND_WHOLE,
    SIZE_HW,
    box,
    make_ahp,
    make_cihp,
    make_cutouts,
    make_lip,
    make_masks,
    make_sbd,
    make_voc,
    part_labels,
    people_numbers,
    write_labels,
    write_photo,
)
from deocclude.data.datasets import ahp, cihp, clothing, cutouts, image_masks, lip, sbd, voc
from deocclude.data.datasets.each_photo import UnusablePhoto, with_unusable
from deocclude.data.datasets.parsing_groups import to_groups
from deocclude.data.datasets.record import PhotoRecord
from deocclude.data.datasets.taxonomies import CIHP_20, LIP_20
from deocclude.data.inspection.check import Check
from deocclude.errors import InputError
from deocclude.types import PARSING_NAMES


def test_ahp_gives_amodal_masks(tmp_path: Path) -> None:
    for root in (make_ahp(tmp_path), tmp_path / "train"):
        first, second = ahp.read(root)
    assert (first.image, first.split) == (str(tmp_path / "train" / "JPEGImages" / "a1.jpg"), "train")
    (person,) = first.people
    assert person.visible == person.amodal
    np.testing.assert_array_equal(person.visible.mask(), FIRST)
    np.testing.assert_array_equal(person.parsing_labels(), FIRST * part_labels())
    np.testing.assert_array_equal(second.people[0].amodal.mask(), SECOND_WHOLE)
    assert second.people[0].parsing is None


def test_split_of_the_working_folder_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_ahp(tmp_path / "ahp")
    make_cihp(tmp_path / "cihp")
    for module, folder in (
        (ahp, tmp_path / "ahp" / "train"),
        (cihp, tmp_path / "cihp" / "instance-level_human_parsing" / "Training"),
    ):
        monkeypatch.chdir(folder)
        assert list(module.splits(Path())) == ["train"]
        assert {photo.split for photo in module.read(Path())} == {"train"}


def test_ahp_masks_may_have_any_image_mode(tmp_path: Path) -> None:
    root = make_ahp(tmp_path)
    label = root / "train" / "Annotations" / "a1.png"
    for mode in ("1", "P", "RGB", "LA", "RGBA"):
        Image.fromarray(FIRST.astype(np.uint8) * 255).convert(mode).save(label)
        np.testing.assert_array_equal(next(ahp.read(root)).people[0].amodal.mask(), FIRST)
    white = np.full((*SIZE_HW, 3), 255, np.uint8)
    Image.fromarray(np.dstack([white, FIRST.astype(np.uint8) * 255])).save(label)
    np.testing.assert_array_equal(next(ahp.read(root)).people[0].amodal.mask(), FIRST, "a cut-out")


def test_invalid_ahp_parsing_is_rejected(tmp_path: Path) -> None:
    root = make_ahp(tmp_path)
    label = root / "train" / "PseudoParsingAnnotations" / "a1.png"
    write_labels(label, FIRST * 77)
    with pytest.raises(InputError, match=r"Pseudo.*a1\.png: labels of lip-20 are 0 to 19, got 77"):
        list(ahp.read(root))
    write_labels(label, np.zeros((5, 5)))
    with pytest.raises(InputError, match=r"Pseudo.*a1\.png: must have the photo's size \(12, 16\)"):
        list(ahp.read(root))


def test_lip_gives_visible_masks_with_parsing(tmp_path: Path) -> None:
    train, val = lip.read(make_lip(tmp_path))
    assert (train.id, train.split, val.id, val.split) == ("77_1", "train", "78_2", "val")
    (person,) = train.people
    np.testing.assert_array_equal(person.visible.mask(), FIRST)
    assert (person.amodal, person.parsing.taxonomy) == (None, "lip-20")
    names = {LIP_20[label] for label in np.unique(person.parsing_labels())}
    assert names == {"background", "face", "jumpsuits"}


def test_invalid_lip_labels_are_rejected(tmp_path: Path) -> None:
    root = make_lip(tmp_path)
    label = root / "TrainVal_parsing_annotations" / "val_segmentations" / "78_2.png"
    write_labels(label, FIRST * 20)
    with pytest.raises(InputError, match=r"78_2\.png: labels of lip-20 are 0 to 19, got 20"):
        list(lip.read(root))
    write_labels(label, np.zeros((5, 5)))
    with pytest.raises(InputError, match=r"78_2\.png: must have the photo's size \(12, 16\) \(HxW\), got \(5, 5\)"):
        list(lip.read(root))
    Image.new("RGB", SIZE_HW[::-1]).save(label)
    with pytest.raises(InputError, match=r"labels must be whole numbers .*, got 3 channels"):
        list(lip.read(root))
    label.write_bytes(b"\x89PNG\r\n\x1a\nshort")
    with pytest.raises(InputError, match=r"78_2\.png: not a readable picture"):
        list(lip.read(root))
    with pytest.raises(InputError, match="not LIP"):
        list(lip.read(tmp_path / "TrainVal_images"))


def test_cihp_separates_people(tmp_path: Path) -> None:
    (photo,) = cihp.read(make_cihp(tmp_path))
    assert (photo.id, photo.split) == ("0000001", "train")
    assert [person.id for person in photo.people] == ["1", "2"]
    for person, mask in zip(photo.people, (FIRST, SECOND), strict=True):
        np.testing.assert_array_equal(person.visible.mask(), mask)
        # The file has both people's parts; a person's own are within the mask.
        np.testing.assert_array_equal(person.parsing_labels(), mask * part_labels())
    assert CIHP_20[10] == "torso_skin" and photo.people[0].parsing.taxonomy == "cihp-20"


def test_voc_gives_its_people(tmp_path: Path) -> None:
    first, second = voc.read(make_voc(tmp_path))
    assert (first.id, first.split, second.split) == ("2007_000032", "train", "val")
    assert [person.id for person in first.people] == ["1", "2"]
    np.testing.assert_array_equal(first.people[0].visible.mask(), FIRST)
    np.testing.assert_array_equal(first.people[1].visible.mask(), SECOND)
    assert first.people[0].amodal is None
    (horse,) = first.things
    assert horse.name == "horse"
    np.testing.assert_array_equal(horse.visible.mask(), box(13, 0, 16, 1))


def test_sbd_gives_its_people(tmp_path: Path) -> None:
    root = make_sbd(tmp_path)
    (photo,) = sbd.read(root)
    assert (photo.id, photo.split) == ("2008_000003", "val")
    assert [person.id for person in photo.people] == ["1", "2"]
    np.testing.assert_array_equal(photo.people[1].visible.mask(), SECOND)
    (chair,) = photo.things
    assert chair.name == "chair"
    np.testing.assert_array_equal(chair.visible.mask(), box(13, 0, 16, 1))
    label = root / "benchmark_RELEASE" / "dataset" / "inst" / "2008_000003.mat"
    savemat(label, {"GTinst": people_numbers()})
    with pytest.raises(InputError, match=r"2008_000003\.mat: GTinst must have Segmentation and Categories"):
        list(sbd.read(root))
    savemat(label, {"other": 1})
    with pytest.raises(InputError, match=r"not a readable \.mat file with GTinst"):
        list(sbd.read(root))


def test_clothing_co_parsing_gives_parsing_groups(data_root: Path) -> None:
    photos = list(clothing.read(data_root / "ccp"))
    assert [(p.id, p.split) for p in photos] == [*((i, "train") for i in CCP_TRAIN), *((i, "val") for i in CCP_VAL)]
    for photo in photos:
        (record,) = photo.people
        garments = loadmat(data_root / "ccp" / "annotations" / "pixel-level" / f"{photo.id}.mat")["groundtruth"]
        assert record.visible == record.amodal
        np.testing.assert_array_equal(record.amodal.mask(), garments > 0)
        np.testing.assert_array_equal(record.parsing_labels(), to_groups(garments, list(GARMENTS)))
    assert set(photos[0].people[0].parsing.parts) <= set(PARSING_NAMES)


def test_clothing_co_parsing_splits_may_contain_notes(tmp_path: Path, data_root: Path) -> None:
    root = Path(shutil.copytree(data_root / "ccp", tmp_path / "ccp"))
    (root / "splits.json").write_text(json.dumps({"train": [CCP_TRAIN[0]], "note": "bags count as the person"}))
    assert [photo.split for photo in clothing.read(root)] == ["train", *[None] * (len(CCP_TRAIN + CCP_VAL) - 1)]
    (root / "splits.json").write_text("[]")
    with pytest.raises(InputError, match=r"splits\.json: expected an object with a list of ids for each split"):
        list(clothing.read(root))


def test_clothing_co_parsing_names_labels_that_it_cannot_group(tmp_path: Path, data_root: Path) -> None:
    root = Path(shutil.copytree(data_root / "ccp", tmp_path / "ccp"))
    names = [*GARMENTS, "toga"]
    for listed, message in (
        (names, "label_list.mat: garments without a parsing group: toga"),
        ([name for name in GARMENTS if name != "skin"], "label_list.mat: no name is skin"),
        (["null", "skin"], r"\.mat: label \d+ is not in label_list\.mat, which has 2 names"),
    ):
        savemat(root / "label_list.mat", {"label_list": np.array([listed], dtype=object)})
        with pytest.raises(InputError, match=message):
            list(clothing.read(root))


def test_masks_by_name_and_number(tmp_path: Path) -> None:
    root = make_masks(tmp_path)
    (tmp_path / "masks" / "a_1.txt").write_text("notes")
    first, second = image_masks.read(root)
    assert [person.id for person in first.people] == ["1", "2"]
    np.testing.assert_array_equal(first.people[1].visible.mask(), SECOND)
    assert first.people[0].amodal is None
    assert (second.id, len(second.people)) == ("b_2", 1), "a photo's own number is no person's"
    for photo in image_masks.read_whole(root):
        assert all(person.amodal == person.visible and not person.iscrowd for person in photo.people)
    write_labels(root / "masks" / "b_2.png", (box(0, 0, 3, 9) | box(9, 0, 12, 9)) * 255)
    (group,) = list(image_masks.read_whole(root))[1].people
    assert group.iscrowd and group.amodal is None, "two pieces are two people"
    assert not list(image_masks.read(root))[1].people[0].iscrowd, "what hides somebody may cut them in two"
    write_photo(root / "images" / "c.jpg")
    with pytest.raises(InputError, match=r"c\.jpg: has no mask: looked for .*c\.png"):
        list(image_masks.read(root))
    write_labels(root / "masks" / "c.png", np.ones((3, 3)) * 255)
    with pytest.raises(InputError, match=r"c\.png: must have the photo's size \(12, 16\)"):
        list(image_masks.read(root))


def test_masks_without_a_photo_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = make_masks(tmp_path)
    for name in ("z.png", "lost_1.png"):
        write_labels(root / "masks" / name, FIRST * 255)
    assert [photo.id for photo in image_masks.read(root)] == ["a", "b_2"]
    told = "2 masks left out, without a photo of their name, such as lost_1.png"
    assert caplog.messages == [f"{root / 'masks'}: {told}"]


@pytest.mark.parametrize(("first", "second"), [("p", "p_1"), ("p_02", "p_2")])
def test_masks_of_one_number_are_rejected(tmp_path: Path, first: str, second: str) -> None:
    """Two people of one id would be one row of a built set."""
    write_photo(tmp_path / "images" / "p.jpg")
    for name in (first, second):
        write_labels(tmp_path / "masks" / f"{name}.png", FIRST * 255)
    with pytest.raises(InputError, match=rf"p\.jpg: .*{first}\.png and .*{second}\.png are masks of one number"):
        list(image_masks.read(tmp_path))
    assert ("duplicate", str(tmp_path / "masks" / f"{second}.png")) in {
        (fault.kind, fault.where) for fault in Check(str(tmp_path)).run()
    }


def test_photos_with_the_same_stem_are_rejected(tmp_path: Path) -> None:
    root = make_masks(tmp_path)
    write_photo(root / "images" / "a.png")
    with pytest.raises(InputError, match=r"images/a\.jpg and .*images/a\.png have one name"):
        list(image_masks.read(root))


@pytest.mark.parametrize(("make", "module", "labels"), [(make_voc, voc, "Object"), (make_sbd, sbd, "inst")])
def test_listed_photos_without_labels_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, make: Callable, module, labels: str
) -> None:
    root = make(tmp_path)
    good = list(module.read(root))
    assert not caplog.messages
    names = next(root.glob("**/val.txt"))
    names.write_text(f"{names.read_text()}2009_000007\n")
    assert list(module.read(root)) == good
    (message,) = caplog.messages
    assert "1 photos of its lists left out, without labels in" in message and labels in message
    assert message.endswith(", such as 2009_000007")


def test_photos_of_ahp_without_an_annotation_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = make_ahp(tmp_path)
    (root / "train" / "Annotations" / "b2.png").unlink()
    assert [photo.id for photo in ahp.read(root)] == ["a1"]
    photos = root / "train" / "JPEGImages"
    assert caplog.messages == [f"{photos}: 1 photos left out, without an annotation, such as b2.jpg"]


def test_photos_of_cihp_without_labels_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = make_cihp(tmp_path)
    (photos,) = root.rglob("Images")
    (photos / "0000002.jpg").write_bytes((photos / "0000001.jpg").read_bytes())
    assert [photo.id for photo in cihp.read(root)] == ["0000001"]
    assert caplog.messages == [f"{photos}: 1 photos left out, without labels, such as 0000002.jpg"]


def test_cutouts_are_amodal_people_without_background(tmp_path: Path) -> None:
    root = make_cutouts(tmp_path)
    (photo,) = cutouts.read(root)
    assert not photo.has_background
    np.testing.assert_array_equal(photo.people[0].amodal.mask(), FIRST)
    write_photo(root / "q2.png")
    with pytest.raises(InputError, match=r"q2\.png: expected an RGBA image"):
        list(cutouts.read(root))


def test_exif_rotated_photo_has_its_upright_size(tmp_path: Path) -> None:
    root = make_masks(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", SIZE_HW).save(root / "images" / "a.jpg", exif=exif)
    assert next(image_masks.read(root)).size_hw == SIZE_HW


@pytest.mark.parametrize("module", [ahp, cihp, voc, sbd])
def test_folder_of_another_format_is_rejected(tmp_path: Path, module) -> None:
    with pytest.raises(InputError, match=r"no folder with .* in it"):
        list(module.read(tmp_path))


@pytest.mark.parametrize(
    ("make", "read"),
    [
        (make_ahp, ahp.read),
        (make_cihp, cihp.read),
        (make_cutouts, cutouts.read),
        (make_lip, lip.read),
        (make_masks, image_masks.read),
        (make_masks, image_masks.read_whole),
        (make_sbd, sbd.read),
        (make_voc, voc.read),
    ],
)
def test_unusable_photo_does_not_stop_reading(tmp_path: Path, make: Callable, read: Callable) -> None:
    root = make(tmp_path)
    good = list(read(root))
    Path(good[0].image).write_bytes(b"no photo")
    bad, *others = with_unusable(read(root))
    assert isinstance(bad, UnusablePhoto) and "not a readable p" in bad.what and good[0].image in bad.what
    assert others == good[1:]


def test_garment_label_of_wrong_size_does_not_stop_reading(tmp_path: Path, data_root: Path) -> None:
    root = Path(shutil.copytree(data_root / "ccp", tmp_path / "ccp"))
    savemat(root / "annotations" / "pixel-level" / f"{CCP_TRAIN[0]}.mat", {"groundtruth": np.ones((3, 3), np.uint8)})
    found = list(with_unusable(clothing.read(root)))
    (bad,) = (one for one in found if isinstance(one, UnusablePhoto))
    assert "labels must have the photo's size" in bad.what and len(found) == len(CCP_TRAIN + CCP_VAL)


@pytest.mark.parametrize("labels", [np.float64([[0.5]]), np.int16([[-1]])])
def test_garment_labels_that_are_none_do_not_stop_reading(tmp_path: Path, data_root: Path, labels: np.ndarray) -> None:
    root = Path(shutil.copytree(data_root / "ccp", tmp_path / "ccp"))
    label = next((root / "annotations" / "pixel-level").iterdir())
    size_hw = loadmat(label)["groundtruth"].shape
    savemat(label, {"groundtruth": np.broadcast_to(labels, size_hw)})
    (unusable,) = (photo for photo in with_unusable(clothing.read(root)) if isinstance(photo, UnusablePhoto))
    assert f"{label}: label" in unusable.what


def test_missing_image_folder_stops_reading(tmp_path: Path) -> None:
    root = make_lip(tmp_path)
    shutil.rmtree(next(root.glob("**/val_images")))
    reader = with_unusable(lip.read(root))
    assert isinstance(next(reader), PhotoRecord)
    with pytest.raises(InputError, match="no folder val_images"):
        next(reader)


def test_missing_photo_is_reported(tmp_path: Path) -> None:
    root = make_ahp(tmp_path)
    (root / "train" / "JPEGImages" / "b2.jpg").unlink()
    with pytest.raises(InputError, match=r"photo not found: looked for .*b2\.jpg"):
        list(ahp.read(root))
