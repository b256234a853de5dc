"""Faults put into data, one of each kind, and found where they are."""

from __future__ import annotations

import json
import shutil
from functools import reduce
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from datafolder import draw_background, write_picture
from datasetfolder import (
    make_ahp,
    make_coco,
    make_cocoa,
    make_kins,
    make_lip,
    make_sbd,
    people_numbers,
    polygon,
    write_json,
    write_labels,
)
from deocclude.data.datasets.record import Parsing, PersonRecord, PhotoRecord, Rle, ThingRecord, whole_person
from deocclude.data.datasets.records_file import write
from deocclude.data.inspection.check import Check
from deocclude.data.sources.shard_rows import encode, features
from deocclude.data.sources.shard_state import BuildState, Shard
from deocclude.data.trainsets.build import build, open_records
from deocclude.data.trainsets.photo import BuildSettings
from deocclude.errors import InputError, UsageError
from drawn_photos import draw_photos

SIZE_HW = (40, 60)


def box(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros(SIZE_HW, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def textured(seed: int) -> np.ndarray:
    """A photo that is like no other: cells of random brightness."""
    cells = np.random.default_rng(seed).integers(0, 256, (8, 12), dtype=np.uint8)
    return np.repeat(np.kron(cells, np.ones((5, 5), np.uint8))[..., None], 3, axis=2)


def faults_of(place: object, **more) -> list[tuple[str, str]]:
    """(kind, the rest of the line) of each fault."""
    return [(fault.kind, str(fault).partition(": ")[2]) for fault in Check(str(place), **more).run()]


def test_check_finds_faults_in_records(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 1), ("c", 0), ("d", 2), ("e", 3), ("f", 4)):
        write_picture(tmp_path / f"{name}.png", textured(seed))
    (tmp_path / "broken.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    good = whole_person("1", box(5, 5, 20, 30))
    empty = PersonRecord(id="2", visible=Rle.of(box(0, 0, 0, 0)))
    hidden = PersonRecord(id="3", visible=Rle.of(box(0, 0, 0, 0)), amodal=Rle.of(box(1, 1, 5, 5)))
    outside = PersonRecord(id="4", visible=Rle.of(box(5, 5, 20, 30)), amodal=Rle.of(box(6, 5, 20, 30)))

    def photo(name: str, *people: PersonRecord, split: str | None = "train", **more) -> PhotoRecord:
        facts = {"image": str(tmp_path / name), "source": "test", "id": name, "split": split, "licence": "CC0"}
        return PhotoRecord(**{"size_hw": SIZE_HW, "people": people, **facts, **more})

    records = tmp_path / "records.jsonl"
    half = Rle.of(np.ones((20, 30), bool))
    write(
        [
            photo("a.png", good, hidden),
            photo("b.png", empty, outside),
            photo("c.png", good, split="val"),
            photo("d.png", size_hw=(20, 30), people=(PersonRecord(id="1", visible=half),)),
            photo("e.png", good, licence=None),
            photo("broken.png", good),
            photo("none.png"),
            photo("f.png", things=(ThingRecord(name="car", visible=Rle(size=SIZE_HW, counts="9")),)),
        ],
        records,
    )
    records.write_text(records.read_text() + '{"version": 1}\n')
    assert faults_of(records) == [
        ("empty", f"{tmp_path}/b.png: person 2: the mask is empty"),
        ("outside", f"{tmp_path}/b.png: person 4: 25 visible pixels lie outside the whole (amodal) mask"),
        ("duplicate", f"{tmp_path}/c.png: val split, looks like {tmp_path}/a.png"),
        ("size", f"{tmp_path}/d.png: its record says (20, 30) (HxW), the photo is (40, 60)"),
        (
            "unreadable",
            f"{tmp_path}/broken.png: not a readable photo (image file is truncated)",
        ),
        ("unreadable", f"{tmp_path}/none.png: cannot be read: No such file or directory"),
        ("unreadable", f"{tmp_path}/f.png: things[0]: run lengths must add up to 40x60 pixels, got 9"),
        ("unreadable", f"{records}: line 9: image: Field required"),
        ("licence", f"{records}: none is stated for 1 photos of test"),
    ]


def test_fault_of_a_records_file_as_a_whole_is_the_last_but_for_licences(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", textured(0))
    record = PhotoRecord(image=str(tmp_path / "a.png"), size_hw=SIZE_HW, source="test", id="a")
    write([record], tmp_path / "records.jsonl")
    records = tmp_path / "records.jsonl"
    records.write_bytes(records.read_bytes() * 9000 + b"\xff\n")  # longer than what is decoded at once
    found = faults_of(records)
    assert [kind for kind, _ in found] == ["unreadable", "licence"]
    assert "cannot be read as a records file" in found[0][1] and "photos after it are not checked" in found[0][1]


def test_folder_with_a_photos_name_is_a_fault(tmp_path: Path) -> None:
    folder = draw_photos(tmp_path, 2)
    (folder / "images" / "photo00.jpg").unlink()
    (folder / "images" / "photo00.jpg").mkdir()
    assert ("unreadable", f"{folder}/images/photo00.jpg: cannot be read: Is a directory") in faults_of(folder)


def test_parsing_outside_the_mask_is_a_fault(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", textured(0))
    body, whole = box(5, 5, 20, 30), box(5, 5, 25, 30)
    labels = np.where(box(5, 5, 22, 30), np.uint8(3), np.uint8(0))  # two columns beyond what is seen
    parts = Parsing.of(labels, "deocclude-12")
    people = (
        PersonRecord(id="1", visible=Rle.of(body), parsing=parts),
        PersonRecord(id="2", visible=Rle.of(body), amodal=Rle.of(whole), parsing=parts),
    )
    photo = PhotoRecord(
        image=str(tmp_path / "a.png"), size_hw=SIZE_HW, source="t", id="a", licence="CC0", people=people
    )  # fmt: skip
    write([photo], tmp_path / "records.jsonl")
    assert faults_of(tmp_path / "records.jsonl") == [
        ("outside", f"{tmp_path}/a.png: person 1: 50 pixels of body parts lie outside the mask")
    ]


def test_people_skipped_by_folder_readers_are_reported(tmp_path: Path) -> None:
    empty = np.zeros((12, 16), np.uint8)
    ahp, lip, sbd = make_ahp(tmp_path / "ahp"), make_lip(tmp_path / "lip"), make_sbd(tmp_path / "sbd")
    write_labels(ahp / "train" / "Annotations" / "b2.png", empty)
    write_labels(next(lip.glob("**/78_2.png")), empty)
    (objects,) = sbd.glob("**/2008_000003.mat")
    savemat(objects, {"GTinst": {"Segmentation": people_numbers() % 2, "Categories": np.array([[15], [15]])}})
    for root, name, person in ((ahp, "b2.jpg", 1), (lip, "78_2.jpg", 1), (sbd, "2008_000003.jpg", 2)):
        (photo,) = root.glob(f"**/{name}")
        assert ("empty", f"{photo}: person {person}: the mask is empty") in faults_of(root)


def test_masks_repaired_by_json_readers_are_reported(tmp_path: Path) -> None:
    coco, cocoa, kins = make_coco(tmp_path / "coco"), make_cocoa(tmp_path / "cocoa"), make_kins(tmp_path / "kins")
    changes = {
        coco: ("annotations", 0, {"visible_mask": [polygon(2, 1, 7, 11)]}),
        cocoa: ("annotations", 0, "regions", 1, {"segmentation": polygon(4, 3, 11, 10)}),
        kins: ("annotations", 1, {"a_segm": [polygon(4, 3, 10, 10)]}),
    }
    found = {}
    for path, (*way, change) in changes.items():
        content = json.loads(path.read_text())
        reduce(lambda at, key: at[key], way, content).update(change)
        write_json(path, content)
        images = path.parent / "image_2" if path is kins else None
        found[path] = [rest.partition("person ")[2] for _, rest in faults_of(path, images=images) if "person " in rest]
    text = "visible pixels lie outside the whole (amodal) mask"
    assert found == {
        coco: [f"501: 10 {text}", "504: the mask is empty"], cocoa: [f"1: 7 {text}"], kins: [f"2: 14 {text}"],
    }  # fmt: skip


def test_photos_with_the_same_stem_are_a_fault(tmp_path: Path) -> None:
    images = draw_photos(tmp_path / "photos", 2) / "images"
    write_picture(images / "photo00.png", np.random.default_rng(0).integers(0, 256, (180, 320, 3), np.uint8))
    assert faults_of(tmp_path / "photos") == [
        ("duplicate", f"{images}/photo00.png: has the name of {images}/photo00.jpg: its masks are ambiguous"),
    ]


def test_check_finds_faults_in_image_mask_folders(tmp_path: Path) -> None:
    folder = draw_photos(tmp_path / "photos", 3)
    assert faults_of(folder) == []
    images, masks = folder / "images", folder / "masks"
    write_picture(masks / "photo00.png", np.zeros((20, 20), np.uint8))
    (masks / "photo01.png").rename(masks / "other.png")
    (images / "photo03.jpg").write_bytes((images / "photo02.jpg").read_bytes())
    write_picture(masks / "photo03.png", np.full((180, 320), 255, np.uint8))
    assert faults_of(folder) == [
        ("size", f"{masks}/photo00.png: must have the photo's size (180, 320) (HxW), got (20, 20)"),
        ("empty", f"{masks}/photo00.png: the mask is empty"),
        ("empty", f"{images}/photo01.jpg: has no mask: looked for {masks}/photo01.png"),
        ("duplicate", f"{images}/photo03.jpg: of no split, looks like {images}/photo02.jpg"),
        ("unreadable", f"{masks}/other.png: no photo of its name"),
    ]


def test_check_finds_faults_in_a_built_set(tmp_path: Path) -> None:
    import datasets

    def row(number: int, seed: int, mask: np.ndarray, split: str = "train", parsing: np.ndarray | None = None):
        facts = {"photo_id": f"t/{number}", "source": "t", "split": split, "licence": "CC0", "whole": True}
        return encode("person", f"t/{number}/1", textured(seed), mask, parsing, has_background=True, **facts)

    body = box(5, 5, 20, 30)
    rows = [
        row(0, 0, body, parsing=body * np.uint8(3)),
        row(1, 1, box(0, 0, 0, 0)),
        row(2, 2, body, parsing=np.full(SIZE_HW, 3, np.uint8)),
        row(3, 0, body, split="val"),
        row(4, 4, np.ones((3, 3), bool)),
        row(5, 5, body) | {"mask": {"bytes": b"no picture", "path": None}, "licence": None},
    ]
    datasets.Dataset.from_list(rows, features=features()).to_parquet(tmp_path / "people-00000.parquet")
    state = BuildState(source={}, settings={}, shards=[Shard(file="people-00000.parquet", rows=6)], done=True)
    (tmp_path / "build.json").write_text(state.model_dump_json())
    assert faults_of(tmp_path) == [
        ("empty", "t/1/1: the mask is empty"),
        ("outside", "t/2/1: parsing labels reach outside the mask"),
        ("duplicate", "t/3/1: val split, looks like t/0/1"),
        ("size", "t/4/1: mask must have the photo's size (40, 60) (HxW), got (3, 3)"),
        ("unreadable", "t/5/1: mask is not a readable picture"),
        ("licence", f"{tmp_path}: none is stated for 1 photos of t"),
    ]


def test_missing_licences_are_counted_by_photo_and_background(tmp_path: Path) -> None:
    photos = draw_photos(tmp_path / "photos", 6)
    build(open_records(str(photos), "masks"), str(tmp_path / "set"), BuildSettings(parser="none"), source=str(photos))
    checking = Check(str(tmp_path / "set"))
    (fault,) = checking.run()
    assert (checking.photos, checking.backgrounds) == (6, 6)
    assert fault.what == "none is stated for 6 photos and 6 backgrounds of masks"


def test_check_continues_after_an_unusable_photo(tmp_path: Path) -> None:
    root = make_ahp(tmp_path / "ahp")
    assert faults_of(root) == [], "grey photos have no hash"
    write_picture(root / "train" / "Annotations" / "b2.png", draw_background(np.random.default_rng(0), (5, 5))[..., 0])
    (root / "train" / "JPEGImages" / "a1.jpg").unlink()
    photo, label = (root / "train" / name for name in ("JPEGImages/a1.jpg", "Annotations/b2.png"))
    assert faults_of(root) == [
        ("unreadable", f"{root}: photo not found: looked for {photo}"),
        ("size", f"{root}: {label}: must have the photo's size (12, 16) (HxW), got (5, 5)"),
    ]
    with pytest.raises(InputError, match="no such file or folder"):
        faults_of(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="cannot tell the format"):
        faults_of(root / "train" / "Annotations")


def test_missing_photo_is_reported_and_others_are_checked(tmp_path: Path) -> None:
    for lost in ("000000000009.jpg", "000000000025.jpg"):  # the first and the last
        source = make_coco(tmp_path / lost)
        photo = tmp_path / lost / "val2017" / lost
        photo.unlink()
        checking = Check(str(source))
        faults = [str(fault) for fault in checking.run()]
        assert f"unreadable: {source}: photo not found: looked for {photo}" in faults
        assert not any("not checked" in fault for fault in faults) and checking.photos == 2


def test_photos_after_a_reader_error_are_reported_unchecked(tmp_path: Path) -> None:
    root = make_lip(tmp_path)
    photos = next(root.glob("**/val_images"))
    shutil.rmtree(photos)
    (fault, _) = faults_of(root)
    assert fault[0] == "unreadable"
    assert fault[1].endswith("is there, but no folder val_images; photos after it are not checked")
