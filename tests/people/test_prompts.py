"""User prompts: which masks and boxes are accepted, and which slip an error names."""

import io

import numpy as np
import pytest
from PIL import Image

from deocclude.errors import InputError
from deocclude.people.prompts import MIN_BOX_SIDE_PX, box_problem, checked_prompts

SIZE_HW = (480, 640)


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((0, 0, 1, 1), "fractions of the photo's size"),
        ((0.1, 0.2, 0.5, 0.9), r"must be in pixels .* got \(0.1, 0.2, 0.5, 0.9\), which looks like fractions"),
        ((-0.02, 0.1, 1.04, 1.1), "fractions of the photo's size"),
        ((0.5, 0.5, 0.2, 0.3), "fractions of the photo's size"),
        ((10, 20, 13.9, 40), r"must be at least 4 px wide and high, got \(10, 20, 13.9, 40\)"),
        ((10, 20, 40, 22), r"at least 4 px .* if that is x, y, width, height, the box is \(10, 20, 50, 42\)"),
        (
            (200, 100, 50, 80),
            r"must have x0 < x1 and y0 < y1, got \(200, 100, 50, 80\); if that is x, y, width, height",
        ),
        ((200, 100, 50, 180), r"the box is \(200, 100, 250, 280\)"),
        ((2, 2, 2, 2), r"must have x0 < x1 and y0 < y1, got \(2, 2, 2, 2\)$"),
    ],
)
def test_box_that_is_a_slip_is_refused_in_one_line(box, words):
    with pytest.raises(InputError, match=words) as caught:
        checked_prompts(SIZE_HW, None, [box])
    assert str(caught.value).startswith("box 1 must ") and "\n" not in str(caught.value)


@pytest.mark.parametrize("box", [np.zeros(SIZE_HW), [1, 2, 3] * 1000, (0, 0, 10**400, 5)])
def test_other_value_in_place_of_a_box_is_refused_in_one_short_line(box):
    with pytest.raises(InputError, match="box 1 must be four") as caught:
        checked_prompts(SIZE_HW, None, [box])
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 150


@pytest.mark.parametrize("box", [(0, 0, MIN_BOX_SIDE_PX, 4), (-1, -1, 3, 3), (636, 476, 641, 481), (0.5, 0.5, 200, 9)])
def test_smallest_boxes_are_accepted(box):
    assert box_problem(box) is None
    (prompt,) = checked_prompts(SIZE_HW, None, [box])
    assert prompt.area == box and prompt.mask(SIZE_HW).any()


# --- masks -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def mask():
    mask = np.zeros(SIZE_HW, bool)
    mask[100:300, 200:280] = True
    return mask


def test_mask_is_an_array_a_file_or_an_image(mask, tmp_path):
    path = tmp_path / "person.png"
    Image.fromarray(mask).save(path)
    rgba = np.dstack([np.full((*SIZE_HW, 3), 90, np.uint8), mask * np.uint8(255)])
    sources = [
        mask, path, str(path), path.read_bytes(), bytearray(path.read_bytes()), memoryview(path.read_bytes()),
        io.BytesIO(path.read_bytes()), Image.open(path),
        Image.fromarray(mask * np.uint8(255)), Image.fromarray(rgba),
    ]  # fmt: skip
    prompts = checked_prompts(SIZE_HW, sources, None)
    assert len(prompts) == 10 and all(np.array_equal(prompt.area, mask) for prompt in prompts)
    assert all(prompt.area.dtype == bool for prompt in prompts)


def test_mask_file_is_turned_upright(mask, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored a quarter turn to the left
    Image.fromarray(np.rot90(mask).copy()).save(tmp_path / "turned.png", exif=exif)
    (prompt,) = checked_prompts(SIZE_HW, [tmp_path / "turned.png"], None)
    assert np.array_equal(prompt.area, mask)


def test_error_names_the_mask_file(mask, tmp_path):
    people = mask.astype(np.uint8)
    people[:, 400:450] = 2
    for name, pixels in (("small", mask[:-80]), ("empty", np.zeros_like(mask)), ("two", people)):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    for name, words in [
        ("small", r"mask 2 \(.*small.png\) must have the photo's size 480x640 \(HxW\), got 400x640"),
        ("empty", r"mask 2 \(.*empty.png\) is empty"),
        ("two", r"mask 2 \(.*two.png\) has the labels of 2 people: give one mask a person"),
        ("none", r"none.png: no such file"),
    ]:
        with pytest.raises(InputError, match=words) as caught:
            checked_prompts(SIZE_HW, [mask, tmp_path / f"{name}.png"], None)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "single",
    ["person.png", b"content", bytearray(b"content"), memoryview(b"c"), io.BytesIO(b"content"), np.ones(SIZE_HW, bool)],
)
def test_single_mask_is_to_be_put_in_a_list(single):
    with pytest.raises(InputError, match="masks must be a list with one entry a person, got a single one: put it in"):
        checked_prompts(SIZE_HW, single, None)


def test_pillow_image_alone_is_no_list_of_masks(mask):
    with pytest.raises(InputError, match="masks must be a list with one entry a person, got Image"):
        checked_prompts(SIZE_HW, Image.fromarray(mask), None)
