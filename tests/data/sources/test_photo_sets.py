"""Photo sets: masks lie on the people, whole people are marked, and each person is in one split."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

from datafolder import write_picture
from deocclude.data.sources.layers import PersonPhoto
from deocclude.data.sources.library import SourceWeights, load_library
from deocclude.data.sources.photo_sets import PHOTO_SETS, read_coco, read_pelota, read_small, read_teachers, read_voc
from deocclude.data.sources.real_photos import read_coco_people
from deocclude.data.sources.skeletons import read_coco_skeletons
from deocclude.errors import InputError
from photosets import draw_coco, draw_pelota, draw_small, draw_teachers, draw_voc


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "set" / "photos").mkdir(parents=True)
    return tmp_path / "set"


def red_share(person: PersonPhoto, mask: np.ndarray) -> float:
    return float((person.rgb[mask][:, 0].astype(int) - person.rgb[mask][:, 1] > 80).mean())


def assert_lies_on_the_body(person: PersonPhoto, box_xyxy: tuple[int, ...], loose_px: int = 1) -> None:
    assert np.abs(np.subtract(person.box_xyxy, box_xyxy)).max() <= loose_px
    assert red_share(person, person.mask) > 0.95


def test_voc_reader_keeps_pieces_in_the_box_and_skips_merged_people(root: Path) -> None:
    (person,) = read_voc(draw_voc(root))
    assert person.name == "voc/2008_000001" and person.whole and person.has_background
    # half of 60 px is kept around the box from (30, 20) to (70, 80): all of the photo
    assert person.rgb.shape == (100, 100, 3)
    assert_lies_on_the_body(person, (30, 20, 70, 80))


def test_coco_polygons_are_scaled_to_the_photo_and_eroded(root: Path) -> None:
    (person,) = read_coco(draw_coco(root))
    assert person.name == "coco/000000000042" and person.whole
    # from (31, 21) to (69, 79) in the photo, of which half of 58 px is kept around: from column 2 on
    assert person.rgb.shape == (100, 96, 3)
    assert_lies_on_the_body(person, (29, 21, 67, 79), loose_px=0)
    (small,) = read_coco(root, max_px=29)
    assert max(small.box_xyxy[3] - small.box_xyxy[1], small.box_xyxy[2] - small.box_xyxy[0]) == pytest.approx(29, abs=1)


def test_pelota_separates_whole_and_truncated_players(root: Path) -> None:
    whole, cut = read_pelota(draw_pelota(root))
    assert (whole.name, whole.whole) == ("pelota/15-0", True)
    assert (cut.name, cut.whole) == ("pelota/15-2", False)
    # surroundings of half of the 160 px are kept, from (-60, 20) on
    assert whole.rgb.shape == (320, 160, 3)
    assert_lies_on_the_body(whole, (20, 80, 80, 240))
    assert cut.mask[-1].any(), "the photo's edge stays the edge"


def test_teachers_are_cropped_to_the_letterbox(root: Path) -> None:
    whole, cut = read_teachers(draw_teachers(root))
    assert (whole.name, whole.whole) == ("teachers/t064", True)
    assert (cut.name, cut.whole) == ("teachers/t071", False)
    # the box from (60, 60) to (120, 140), the photo from row 40 on, 40 px kept around
    assert_lies_on_the_body(whole, (40, 20, 100, 100))
    assert cut.mask[-1].any() and red_share(cut, cut.mask) > 0.95
    assert min(cut.rgb[:, 0].mean(), whole.rgb[:, 0].mean()) > 100, "no bar is left"


def test_small_cutouts_with_several_people_are_skipped(root: Path) -> None:
    (person,) = read_small(draw_small(root))
    assert person.name == "small/fg_010" and person.whole and not person.has_background


def test_splits_are_assigned_by_photo_or_series() -> None:
    held = {name: photos.is_held_out for name, photos in PHOTO_SETS.items()}
    for name in ("voc", "coco"):
        assert np.mean([held[name](f"{name}/{n:012d}") for n in range(3000)]) == pytest.approx(1 / 6, abs=0.02)
    assert held["coco"]("x/000000000042") == held["voc"]("y/000000000042"), "by the photo's id, whatever the source"
    tens = [{held["pelota"](f"pelota/{ten}{one}-{k}") for one in range(10) for k in (0, 1)} for ten in range(1, 99)]
    assert all(len(sides) == 1 for sides in tens) and {True} in tens and {False} in tens
    assert [n for n in range(1, 219) if held["teachers"](f"teachers/t{n:03d}")] == list(range(35, 70))
    with pytest.raises(InputError, match="pelota/abc: expected a number"):
        held["pelota"]("pelota/abc")


def test_each_person_is_in_exactly_one_split(data_root: Path, tmp_path: Path) -> None:
    for name in ("cutouts", "backgrounds"):
        shutil.copytree(data_root / name, tmp_path / name)
    folder = tmp_path / "coco_people"
    (folder / "photos").mkdir(parents=True)
    ids = tuple(f"{n:012d}" for n in range(12))
    draw_coco(folder, ids)
    weights = SourceWeights(0, 0, 0, 0, coco=1.0)
    sides = [{p.name for p in load_library(tmp_path, split, weights).people} for split in ("train", "val")]
    assert not sides[0] & sides[1] and sides[0] | sides[1] == {f"coco/{i}" for i in ids}
    assert sides[1] == {f"coco/{i}" for i in ids if PHOTO_SETS["coco"].is_held_out(f"coco/{i}")} != set()


def test_error_names_the_missing_or_invalid_file(root: Path) -> None:
    for read in (read_voc, read_coco, read_pelota, read_teachers):
        with pytest.raises(InputError, match=f"not found: looked for {root / 'people.json'}"):
            list(read(root))
    (root / "people.json").write_text("[]")
    with pytest.raises(InputError, match=r'people\.json: expected "whole", an object'):
        list(read_voc(root))
    for read in (read_pelota, read_teachers):
        with pytest.raises(InputError, match=r"people\.json: expected an object with an entry for each photo"):
            list(read(root))
    draw_coco(root)
    (root / "photos" / "000000000042.webp").unlink()
    with pytest.raises(InputError, match=r"image not found: looked for .*000000000042\.webp"):
        list(read_coco(root))


@pytest.mark.parametrize(
    ("read", "entries"),
    [
        (read_voc, {"whole": {"b": [1, 2, 3]}}),
        (read_coco, {"whole": ["b"], "people": {"b": []}, "size": {}}),
        (read_coco_people, {"people": {"b": [{"segmentation": [[1, 2, 3, 4, 5, 6]]}]}, "size": {"b": [100]}}),
        (read_coco_skeletons, {"whole": [], "people": {"b": [{"keypoints": [1, 2]}]}, "size": {}}),
        (read_teachers, {"b": {"people": 3}}),
    ],
)
def test_error_names_the_invalid_entry(root: Path, read: Callable[[Path], Iterable[object]], entries: object) -> None:
    # the photo b is held out of no set
    write_picture(root / "photos" / "b.webp", np.zeros((100, 100, 3), np.uint8))
    write_picture(root / "parts" / "b.png", np.zeros((100, 100), np.uint8))
    (root / "people.json").write_text(json.dumps(entries))
    with pytest.raises(InputError, match=r"people\.json: b: the entry is invalid"):
        list(read(root))


def test_photos_of_pelota_must_be_numbered(root: Path) -> None:
    (root / "people.json").write_text('{"final": {}}')
    with pytest.raises(InputError, match=r"people\.json: ids of photos must be numbers, got 'final'"):
        list(read_pelota(root))
