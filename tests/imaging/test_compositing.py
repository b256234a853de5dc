import re

import numpy as np
import pytest

from deocclude.imaging.compositing import (
    PARSING_PALETTE,
    cut_out,
    draw_labels,
    extend_colours,
    paste_hidden,
    soft_edge,
    tint_person,
)
from deocclude.types import PARSING_NAMES
from repository import ROOT


def scene():
    """A 12 x 14 photo of noise, a body of 8 x 8, hidden in its lower half; hidden colours are all 100."""
    photo = np.random.default_rng(0).integers(0, 256, (12, 14, 3), dtype=np.uint8)
    amodal = np.zeros((12, 14), bool)
    amodal[2:10, 3:11] = True
    invisible = amodal.copy()
    invisible[:6] = False
    return photo, np.full_like(photo, 100), invisible, amodal


def test_soft_edge_by_hand():
    mask = np.zeros((5, 6), bool)
    mask[:, 3:] = True
    assert soft_edge(mask)[2].tolist() == [0, 0, 85, 170, 255, 255]
    assert (soft_edge(np.ones((4, 4), bool)) == 255).all()


def test_paste_changes_invisible_pixels_only():
    photo, hidden, invisible, amodal = scene()
    picture = photo.copy()
    paste_hidden(picture, hidden, invisible, amodal)
    assert np.array_equal(picture[~invisible], photo[~invisible])
    # Towards the visible body (row 6) and inside, the paint is full; at the outer edge 6/9 of it, in a corner 4/9.
    assert (picture[6:9, 4:10] == 100).all()
    assert np.array_equal(picture[9, 5], np.rint((100.0 * 170 + photo[9, 5].astype(float) * 85) / 255))
    assert np.array_equal(picture[9, 3], (100 * 113 + photo[9, 3].astype(int) * 142 + 127) // 255)


def test_extend_colours_takes_the_mean_of_known_neighbours():
    rgb = np.zeros((3, 4, 3), np.uint8)
    known = np.zeros((3, 4), bool)
    rgb[0, 0], rgb[2, 0] = 40, 80
    known[[0, 2], 0] = True
    once = extend_colours(rgb, known)
    assert once[1, 0, 0] == once[1, 1, 0] == 60
    assert once[0, 1, 0] == 40
    assert (once[:, 2:] == 0).all()
    assert (extend_colours(rgb, known, steps=3)[:, 3] > 0).all()
    assert np.array_equal(once[known], rgb[known])


def test_cut_out_has_the_body_colours_under_its_soft_edge():
    photo, hidden, invisible, amodal = scene()
    photo[amodal] = 50
    rgba = cut_out(photo, hidden, invisible, amodal)
    assert (rgba[amodal & ~invisible, :3] == 50).all()
    assert (rgba[invisible, :3] == 100).all()
    rim = (rgba[..., 3] > 0) & ~amodal
    assert rim.sum() == 36
    assert set(np.unique(rgba[rim, :3])) <= set(range(50, 101))
    assert (rgba[rgba[..., 3] == 0] == 0).all()
    assert rgba[5, 7, 3] == 255


def test_tint_leaves_the_rest_alone():
    photo, _, invisible, amodal = scene()
    picture = photo.copy()
    tint_person(picture, amodal & ~invisible, invisible)
    assert np.array_equal(picture[~amodal], photo[~amodal])
    assert (picture[2, 3:11] == 255).all()
    assert (picture[7, 5, 0] > picture[7, 5, 2]) or photo[7, 5, 2] > photo[7, 5, 0]


def test_every_part_has_its_own_colour():
    assert len({tuple(colour) for colour in PARSING_PALETTE}) == len(PARSING_NAMES)


def labelled(size_hw, texts, boxes_xyxy):
    """A mid-grey image with labels, and the (top, left, bottom, right) of all changed pixels."""
    picture = np.full((*size_hw, 3), 128, np.uint8)
    draw_labels(picture, texts, boxes_xyxy)
    rows, columns = np.nonzero((picture != 128).any(axis=2))
    return picture, (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)


@pytest.mark.parametrize(("size_hw", "least_px", "most_px"), [((150, 200), 7, 12), ((3000, 4000), 45, 80)])
def test_labels_are_legible_on_small_and_large_photos(size_hw, least_px, most_px):
    height, width = size_hw
    box = (0.3 * width, 0.4 * height, 0.6 * width, 0.9 * height)
    picture, (top, left, bottom, right) = labelled(size_hw, ["#1: 0.98"], [box])
    text = (picture[top:bottom, left:right] > 200).all(axis=2)
    assert least_px <= np.count_nonzero(text.any(axis=1)) <= most_px, "height of the digits"
    assert picture[top, left].max() < 40, "on dark ground, whatever the photo shows"
    # above the box, and centred on it
    assert bottom == round(box[1]) and abs((left + right) / 2 - (box[0] + box[2]) / 2) <= 1
    other, _ = labelled(size_hw, ["#1: 0.96"], [box])
    assert (other != picture).any()


def test_labels_stay_inside_the_image_and_do_not_cover_each_other():
    boxes = [(0, 0, 10, 100), (0, 0, 12, 100), (195, 0, 200, 150)]
    alone = [labelled((150, 200), ["#1: 0.98"], [box])[1] for box in boxes]
    assert alone[0][:2] == (0, 0) and alone[2][3] == 200
    label_px = alone[0][2]
    _, both = labelled((150, 200), ["#1: 0.98", "#2: 0.98"], boxes[:2])
    assert both[:2] == (0, 0) and both[2] == 2 * label_px


def test_a_label_larger_than_the_image_is_not_drawn():
    picture = np.full((20, 30, 3), 128, np.uint8)
    draw_labels(picture, ["#1: 0.98"], [(5, 5, 10, 10)])
    assert (picture == 128).all()


def test_the_page_lists_the_colours_of_parsing():
    page = (ROOT / "docs" / "cli.md").read_text()
    listed = re.findall(r"^\| (\d+) \| `(\w+)` \| [\w -]+ `#([0-9a-f]{6})` \|$", page, flags=re.M)
    assert listed == [
        (str(label), name, bytes(PARSING_PALETTE[label].tolist()).hex()) for label, name in enumerate(PARSING_NAMES)
    ]
