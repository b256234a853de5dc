"""Each rule on people drawn to pass or to fail it, and it alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from datafolder import draw_figure
from datasetfolder import write_json, write_photo
from deocclude.data.datasets import coco_instances
from deocclude.data.datasets.record import PersonRecord, PhotoRecord, Rle, ThingRecord, whole_person
from deocclude.data.sources.selection import (
    RULES,
    Thresholds,
    candidates,
    failed_rules,
    is_occluder,
    read_limits,
    read_rules,
)
from deocclude.errors import UsageError
from deocclude.imaging.rle import encode_rle

SIZE_HW = (200, 260)
EVERY = tuple(RULES)


def body(top: int = 20, left: int = 40) -> np.ndarray:
    """(200, 260) bool: a standing figure 134 px high and 57 wide, 7 px below `top`, 22 px right of `left`."""
    figure = draw_figure(np.random.default_rng(0), (150, 100)).mask
    padded = np.zeros((400, 500), bool)
    padded[100 + top : 250 + top, 100 + left : 200 + left] = figure
    return padded[100:300, 100:360]


def failed(
    person: PersonRecord,
    *others: PersonRecord,
    rules: tuple[str, ...] = EVERY,
    background: bool = True,
    **limits: float,
) -> tuple[str, ...]:
    """The rules that the first of these people fails."""
    photo = PhotoRecord(
        image="a.jpg", size_hw=SIZE_HW, source="test", id="a", has_background=background, people=(person, *others)
    )
    return failed_rules(candidates(photo)[0], rules, Thresholds(**limits))


def seen(mask: np.ndarray, person_id: str = "1", **more) -> PersonRecord:
    """A person with a visible mask only."""
    return PersonRecord(id=person_id, visible=Rle.of(mask), **more)


def test_whole_standing_person_passes_all_rules() -> None:
    assert failed(seen(body())) == failed(whole_person("1", body())) == ()


def test_crowds_and_ignored_people_fail_the_crowd_rule() -> None:
    assert failed(seen(body(), iscrowd=True)) == failed(seen(body(), ignore=True)) == ("crowd",)


def test_hidden_rule_uses_the_amodal_mask() -> None:
    mask = body()
    seen_part = mask.copy()
    seen_part[100:104] = False
    part = PersonRecord(id="1", visible=Rle.of(seen_part), amodal=Rle.of(mask))
    assert failed(part, min_piece=0.1) == ("hidden",)
    assert failed(part, min_piece=0.1, min_seen=0.9) == ()


@pytest.mark.parametrize(("top", "left"), [(-7, 40), (60, 40), (20, -22), (20, 180)])
def test_edge_rule_rejects_truncated_people(top: int, left: int) -> None:
    cut = seen(body(top, left))
    assert failed(cut) == ("edge",)
    assert failed(cut, background=False) == (), "a cut-out fills its picture"
    assert failed(cut, rules=tuple(rule for rule in RULES if rule != "edge")) == ()


def test_overlap_rule_uses_contact_and_depth_order() -> None:
    near = np.zeros(SIZE_HW, bool)
    near[60:120, 118:160] = True  # along the figure's right arm, which ends at column 118
    apart = np.roll(near, 20, axis=1)
    assert failed(seen(body()), seen(near, "2")) == ("overlap",)
    assert failed(seen(body()), seen(near, "2", iscrowd=True)) == ("overlap",), "a crowd is somebody too"
    assert failed(seen(body()), seen(apart, "2")) == ()
    assert failed(seen(body(), depth_order=1), seen(near, "2", depth_order=2)) == (), "who is behind hides nothing"
    assert failed(seen(body(), depth_order=2), seen(near, "2", depth_order=1)) == ("overlap",)
    corner = np.zeros(SIZE_HW, bool)
    corner[55:62, 118:160] = True  # a sleeve
    assert failed(seen(body()), seen(corner, "2")) == ()


def test_object_in_front_of_the_feet_is_an_overlap(tmp_path: Path) -> None:
    car = np.zeros(SIZE_HW, bool)
    car[140:180, 40:160] = True  # the figure ends at row 161
    apart = np.roll(car, 30, axis=0)

    def fails(depths: tuple[int | None, int | None], car: np.ndarray) -> tuple[str, ...]:
        photo = PhotoRecord(
            image="a.jpg", size_hw=SIZE_HW, source="t", id="a", people=(seen(body() & ~car, depth_order=depths[0]),),
            things=(ThingRecord(name="car", visible=Rle.of(car), depth_order=depths[1]),),
        )  # fmt: skip
        return failed_rules(candidates(photo)[0], ("overlap",), Thresholds())

    assert fails((None, None), car) == fails((2, 1), car) == ("overlap",)
    assert fails((1, 2), car) == fails((None, None), apart) == ()
    write_photo(tmp_path / "a.jpg", SIZE_HW)
    image = {"id": 1, "file_name": "a.jpg", "height": SIZE_HW[0], "width": SIZE_HW[1]}
    masks = {1: body() & ~car, 3: car}
    content = {
        "images": [image], "categories": [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}],
        "annotations": [
            {"id": kind, "image_id": 1, "category_id": kind, "segmentation": encode_rle(mask)}
            for kind, mask in masks.items()
        ],
    }  # fmt: skip
    (photo,) = coco_instances.read(write_json(tmp_path / "coco.json", content))
    assert failed_rules(candidates(photo)[0], ("overlap",), Thresholds()) == ("overlap",)


def test_size_rule_compares_with_min_side_px() -> None:
    assert failed(seen(body()), min_side_px=134) == ()
    assert failed(seen(body()), min_side_px=135) == ("size",)


def test_pieces_rule_rejects_split_masks() -> None:
    mask = body()
    mask[90:94] = False  # something thin lies across
    assert failed(seen(mask)) == ("pieces",)
    specks = body()
    specks[100, 200:206] = True
    assert failed(seen(specks), rules=("pieces",)) == ()


def test_solid_rule_rejects_boxes_and_scattered_limbs() -> None:
    box = np.zeros(SIZE_HW, bool)
    box[20:160, 60:110] = True
    assert failed(seen(box), rules=("solid",)) == ("solid",)
    limbs = np.zeros(SIZE_HW, bool)
    limbs[20:160, 60:64] = True
    limbs[20:24, 60:150] = True
    assert failed(seen(limbs), rules=("solid",)) == ("solid",)
    # a right triangle of legs 2 fills 3 of the 3.5 pixels of its hull
    triangle = np.zeros(SIZE_HW, bool)
    triangle[50, 50], triangle[51, 50:52] = True, True
    assert failed(seen(triangle), rules=("solid",), min_solid=3 / 3.5 - 1e-6) == ()
    assert failed(seen(triangle), rules=("solid",), min_solid=3 / 3.5 + 1e-6) == ("solid",)


def test_shape_rule_rejects_rings_and_poles() -> None:
    ring = np.zeros(SIZE_HW, bool)
    ys, xs = np.mgrid[: SIZE_HW[0], : SIZE_HW[1]]
    distance = np.hypot(ys - 100, xs - 130)
    ring[(distance < 60) & (distance > 50)] = True
    assert failed(seen(ring), rules=("shape",)) == ("shape",)
    pole = np.zeros(SIZE_HW, bool)
    pole[10:190, 100:120] = True
    assert failed(seen(pole), rules=("shape",)) == ("shape",)


def test_empty_mask_fails_without_a_crash() -> None:
    assert failed(seen(np.zeros(SIZE_HW, bool))) == ("edge", "size", "pieces", "solid", "shape")


def test_fully_occluded_person_fails_the_size_rule() -> None:
    hidden = PersonRecord(id="1", visible=Rle.of(np.zeros(SIZE_HW, bool)), amodal=Rle.of(body()))
    assert failed(hidden, rules=("crowd",)) == failed(hidden, rules=("crowd",), min_side_px=0) == ("size",)


def test_rejected_people_may_still_serve_as_occluders() -> None:
    assert is_occluder(("edge", "overlap", "shape", "hidden")) and is_occluder(())
    assert not any(is_occluder((rule, "edge")) for rule in ("crowd", "size", "pieces", "solid"))


def test_rules_are_switched_by_name() -> None:
    assert read_rules("all") == EVERY
    assert read_rules("size, edge") == ("edge", "size")
    assert read_rules("no-shape,no-edge") == tuple(rule for rule in RULES if rule not in ("edge", "shape"))
    for wrong, message in (
        ("sise", "got 'sise'"),
        ("", "got nothing"),
        ("no-all", "got 'all'"),
        ("edge,no-size", "either"),
    ):
        with pytest.raises(UsageError, match=message):
            read_rules(wrong)


def test_limits_are_set_by_name() -> None:
    assert read_limits(["min_side_px=64", "min_solid=0.5"]) == Thresholds(min_side_px=64, min_solid=0.5)
    for wrong in ("min_side_px", "min_side_px=half", "side=3", "min_solid=-1", "min_solid=nan"):
        with pytest.raises(UsageError, match=f"--set {wrong}"):
            read_limits([wrong])
    with pytest.raises(UsageError, match=r"min_side_px must be a whole number, got '64\.5'"):
        read_limits(["min_side_px=64.5"])
