"""People truncated by the image border: detection of the truncation, and the canvas for whole bodies."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deocclude.batch.plan import plan_jobs
from deocclude.errors import UsageError
from deocclude.imaging.crop import BEYOND_RGB, Region
from deocclude.imaging.truncation import Canvas, Truncation, find_truncation

SIZE_HW = (100, 80)


def body(region: Region) -> np.ndarray:
    return np.ones(region.size_hw, bool)


@pytest.mark.parametrize(
    ("region", "edges"),
    [
        (Region(20, 20, 90, 40), ()),
        (Region(20, 20, 100, 40), ("bottom",)),
        (Region(0, 0, 50, 20), ("top", "left")),
        (Region(10, 60, 50, 80), ("right",)),
    ],
)
def test_truncating_edges_are_found(region: Region, edges: tuple[str, ...]) -> None:
    truncation = find_truncation(body(region), region, SIZE_HW)
    assert truncation.edges == edges and bool(truncation) == bool(edges)


def test_person_slightly_touching_the_border_is_not_truncated() -> None:
    region = Region(20, 20, 100, 60)
    standing = body(region)
    standing[-1, 4:] = False  # a toe at the frame
    assert not find_truncation(standing, region, SIZE_HW)
    assert not find_truncation(np.zeros((3, 3), bool), Region(0, 0, 3, 3), SIZE_HW)


def test_canvas_extends_only_beyond_truncating_edges() -> None:
    region = Region(20, 20, 100, 40)
    canvas = Canvas.around([(body(region), Truncation(bottom=True))], SIZE_HW)
    assert canvas.photo_region == Region(0, 0, 100, 80) and canvas.size_hw == (228, 80)
    photo = np.full((*SIZE_HW, 3), 7, np.uint8)
    picture = canvas.lay_out(photo)
    assert (picture[:100] == 7).all() and (picture[100:] == BEYOND_RGB).all()
    trimmed, left, top = canvas.trimmed([Region(90, 10, 150, 30)], margin_px=2)
    assert (trimmed.size_hw, trimmed.photo_region, left, top) == ((152, 80), Region(0, 0, 100, 80), 0, 0)
    canvas = Canvas.around([(body(region), Truncation(top=True, left=True))], SIZE_HW)
    assert canvas.photo_region == Region(128, 128, 228, 208)
    trimmed, left, top = canvas.trimmed([Region(100, 140, 200, 160)], margin_px=2)
    assert (trimmed.photo_region, left, top) == (Region(30, 0, 130, 80), 128, 98)
    canvas = Canvas.around([(body(region), Truncation(top=True, bottom=True, left=True))], SIZE_HW)
    assert canvas.photo_region == Region(64, 128, 164, 208), "beyond opposite edges half as far each"
    assert canvas.size_hw == (228, 208)


@pytest.fixture(scope="module")
def cut_photo(person) -> tuple[np.ndarray, np.ndarray]:
    """The drawn person's photo ends at the hips."""
    return person.photo[:200], person.amodal[:200]


def test_uncrop_extends_the_body_beyond_the_border(pipe, cut_photo, tmp_path: Path) -> None:
    photo, mask = cut_photo
    inside = pipe(photo, masks=[mask])
    assert inside.people[0].truncated_by == ("bottom",) and inside.photo_region is None
    assert inside.people[0].cut_by == ("bottom",), "the earlier name still works"
    assert (inside.alpha == 255).all() and inside.image.shape == photo.shape
    result = pipe(photo, masks=[mask], uncrop=True)
    one, region = result.people[0], result.photo_region
    assert region == Region(0, 0, 200, 640) and result.image.shape[0] > 204
    np.testing.assert_array_equal(result.image[region.slices], photo)
    assert one.invisible_mask[200:].any() and not one.visible_mask[200:].any()
    assert (result.alpha[:200] == 255).all()
    np.testing.assert_array_equal(result.alpha[200:] > 0, one.rgba[200:, :, 3] > 0)
    # the shirt's colour continues, and the fill colour of the canvas appears nowhere
    assert np.abs(result.content[200:][one.amodal_mask[200:]].astype(int) - (200, 30, 40)).max() < 12
    (path,) = result.save(tmp_path, what=["content"])
    assert Image.open(path).mode == "RGBA"
    result.save(tmp_path, what=["layers"])
    record = result.to_coco("x.jpg")
    assert record["images"][0]["photo_bbox"] == [0, 0, 640, 200] and result.photo_bbox == (0, 0, 640, 200)
    assert record["annotations"][0]["cut_by"] == ["bottom"], "the photo's edge, not the canvas's"
    assert inside.photo_bbox is None
    json.dumps(record)


def test_uncrop_changes_only_truncated_people(pipe, cut_photo, person) -> None:
    photo, mask = cut_photo
    whole = pipe(person.photo, masks=[person.visible], uncrop=True)
    assert whole.photo_region is None and whole.image.shape == person.photo.shape
    other = np.zeros_like(mask)
    other[20:90, 30:60] = True
    together = pipe(photo, masks=[mask, other], uncrop=True)
    alone = pipe(photo, masks=[other])
    np.testing.assert_array_equal(together.people[1].amodal_mask[:200], alone.people[0].amodal_mask)
    with pytest.raises(UsageError, match="needs complete auto or always, got never"):
        pipe(photo, masks=[mask], uncrop=True, complete="never")
    with pytest.raises(UsageError, match="needs complete auto or always, got never"):
        plan_jobs(["a.jpg"], uncrop=True, complete="never")


def test_uncrop_keeps_what_is_left_out_inside_the_photo(pipe, cut_photo) -> None:
    photo, mask = cut_photo
    holed = mask & ((np.arange(200) < 110) | (np.arange(200) > 150))[:, None]
    inside = pipe(photo, masks=[holed], complete="always").people[0].invisible_mask
    likely, everything = (
        pipe(photo, masks=[holed], uncrop=True, **options)
        for options in ({"min_hidden_probability": 1.0}, {"complete": "always"})
    )
    in_photo, beyond = likely.photo_region.slices, slice(likely.photo_region.bottom, None)
    assert (everything.people[0].invisible_mask[everything.photo_region.slices] & inside).any()
    assert not (likely.people[0].invisible_mask[in_photo] & inside).any()
    assert likely.people[0].invisible_mask[beyond].any()


def test_uncrop_requires_a_format_with_transparency() -> None:
    with pytest.raises(UsageError, match="JPEG"):
        plan_jobs(["a.jpg"], output="b.jpg", uncrop=True)
    assert plan_jobs(["a.jpg"], output="b.png", uncrop=True)[0].uncrop
