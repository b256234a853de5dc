import pickle

import numpy as np
import pytest
from PIL import Image

from deocclude.errors import InputError, UsageError
from deocclude.imaging.boxes import box_to_mask
from deocclude.people.choice import Choice, keep, left_to_right
from deocclude.people.instances import Instance, as_instances

SIZE_HW = (10, 20)


def boxed(*box_xyxy: int, score: float = 1.0, size_hw: tuple[int, int] = SIZE_HW) -> Instance:
    """A person who is a filled box."""
    return Instance(box_to_mask(box_xyxy, size_hw), score)


def drawn(*rows: str) -> np.ndarray:
    """A mask from text, "#" = True."""
    return np.array([[letter == "#" for letter in row] for row in rows])


# --- instances -------------------------------------------------------------------------------------------------------


def test_instance_has_box_area_and_score():
    one = Instance(drawn(".....", ".##..", ".#..."), np.float32(0.5))
    assert one.box_xyxy == (1, 1, 3, 3)
    assert one.area_px == 3
    assert one.score == 0.5
    assert pickle.loads(pickle.dumps(one)).box_xyxy == one.box_xyxy


def test_instance_of_a_one_bit_image_holds_ones():
    mask = drawn(".....", ".##..", ".#...")
    one_bit = np.asarray(Image.fromarray(mask))
    assert one_bit.view(np.uint8).max() == 255
    one = Instance(one_bit)
    assert one.mask.view(np.uint8).max() == 1 and np.array_equal(one.mask, mask)


def test_instance_is_read_only_without_copying_the_mask():
    mask = np.ones((2, 3), bool)
    one = Instance(mask)
    with pytest.raises(ValueError, match="read-only"):
        one.mask[0, 0] = False
    assert mask.flags.writeable
    assert np.shares_memory(one.mask, mask)


@pytest.mark.parametrize(
    ("mask", "score", "words"),
    [
        ([[True]], 1, "mask must be a bool array, got list"),
        (np.ones((2, 2), np.uint8), 1, "mask must be a bool array, got uint8"),
        (np.ones((2, 2, 1), bool), 1, r"two dimensions \(H, W\), got shape \(2, 2, 1\)"),
        (np.zeros((2, 2), bool), 1, "mask is empty"),
        (np.ones((2, 2), bool), 1.5, "score must be a number from 0 to 1, got 1.5"),
        (np.ones((2, 2), bool), -0.1, "got -0.1"),
        (np.ones((2, 2), bool), float("nan"), "got nan"),
        (np.ones((2, 2), bool), None, "got None"),
    ],
)
def test_bad_instances(mask, score, words):
    with pytest.raises(InputError, match=words):
        Instance(mask, score)


def test_what_a_segmenter_may_return():
    mask = box_to_mask((1, 2, 4, 9), SIZE_HW)
    one_bit = np.asarray(Image.fromarray(mask))
    assert one_bit.view(np.uint8).max() == 255
    given = Instance(mask, 0.3)
    found = [given, (mask, 0.5), [mask, np.float64(0.25)], mask, mask * np.uint8(255), mask * np.uint8(1), one_bit]
    instances = as_instances(found, SIZE_HW)
    assert [one.score for one in instances] == [0.3, 0.5, 0.25, 1, 1, 1, 1]
    assert instances[0] is given
    for one in instances:
        assert one.mask.dtype == bool
        assert one.mask.view(np.uint8).max() == 1
        assert np.array_equal(one.mask, mask)


def test_a_stack_of_masks_and_a_generator_will_do():
    masks = np.stack([box_to_mask((x, 0, x + 2, 3), SIZE_HW) for x in (4, 1)])
    assert [one.box_xyxy for one in as_instances(masks, SIZE_HW)] == [(4, 0, 6, 3), (1, 0, 3, 3)]
    assert len(as_instances(((mask, 0.5) for mask in masks), SIZE_HW)) == 2


def test_empty_masks_are_left_out():
    empty = np.zeros(SIZE_HW, bool)
    assert as_instances([empty, (empty, 0.9), empty.astype(np.uint8)], SIZE_HW) == []
    assert as_instances([], SIZE_HW) == []


FULL = np.ones(SIZE_HW, bool)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (None, "must return a list with one entry a person, got NoneType"),
        (FULL, "got a single mask: put it in a list"),
        ([FULL, FULL[:5]], r"the mask of instance 2 must have the photo's size 10x20 \(HxW\), got 5x20"),
        ([FULL, boxed(0, 0, 1, 1, size_hw=(3, 3))], "the mask of instance 2 .* got 3x3"),
        ([FULL, FULL.astype(np.float32)], "the mask of instance 2 must be a bool or 0/255 uint8 array, got float32"),
        ([FULL, (FULL, 0.5, 1)], "the mask of instance 2 must be a bool or 0/255 uint8 array, got tuple"),
        ([FULL, FULL[None]], r"the mask of instance 2 must have two dimensions \(H, W\), got shape \(1, 10, 20\)"),
        ([FULL, FULL * np.uint8(7)], "the mask of instance 2 must hold only 0 and 255, got other values up to 7"),
        ([FULL, np.where(np.eye(10, 20) > 0, 255, 9).astype(np.uint8)], "must hold only 0 and 255"),
        ([FULL, (FULL, 2)], "instance 2: .* from 0 to 1, got 2"),
        ([FULL, (FULL, "sure")], "instance 2: .* from 0 to 1, got 'sure'"),
    ],
)
def test_invalid_segmenter_results_are_rejected(found, words):
    with pytest.raises(InputError, match=words) as caught:
        as_instances(found, SIZE_HW)
    assert "\n" not in str(caught.value)


# --- which of them, in which order -----------------------------------------------------------------------------------


def test_left_to_right_by_the_centre_then_top_down():
    wide, low, high, right = boxed(0, 0, 20, 10), boxed(2, 6, 4, 8), boxed(2, 0, 4, 2), boxed(18, 0, 20, 1)
    for given in ([wide, low, high, right], [right, high, wide, low]):
        assert left_to_right(given) == [high, low, wide, right]
    inner, outer = boxed(4, 4, 6, 6), boxed(2, 2, 8, 8)
    assert left_to_right([inner, outer]) == left_to_right([outer, inner]) == [outer, inner]


def test_keep_by_score_and_height():
    small, unsure, good = boxed(0, 0, 9, 2), boxed(0, 0, 1, 9, score=0.2), boxed(5, 1, 6, 4, score=0.5)
    assert keep([small, unsure, good]) == [small, unsure, good]
    assert keep([small, unsure, good], min_score=0.5) == [small, good]
    assert keep([small, unsure, good], min_height_px=3) == [unsure, good]
    assert keep([small, unsure, good], 0.5, 3) == [good]


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("all", Choice("all")),
        (" Largest ", Choice("largest")),
        ("3", Choice("number", number=3)),
        ("120,80", Choice("pixel", pixel_xy=(120, 80))),
        ("0, 7", Choice("pixel", pixel_xy=(0, 7))),
    ],
)
def test_person_choice_is_parsed(text, choice):
    assert Choice.parse(text) == choice


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "first", "1,2,3", "1,", "-1,2", "all,1", "²", "9" * 50])
def test_invalid_person_choice_is_rejected(text):
    with pytest.raises(UsageError, match=r"by all, largest, a number from the left .* or a pixel x,y, got '"):
        Choice.parse(text)


def test_picking_all_largest_number_and_pixel():
    right, left, middle = boxed(14, 0, 19, 3), boxed(0, 0, 3, 4), boxed(1, 0, 15, 10)
    people = [right, left, middle]

    def picked(text: str) -> list[Instance]:
        return Choice.parse(text).pick(people, SIZE_HW)

    assert picked("all") == [left, middle, right]
    assert picked("largest") == [middle]
    assert [picked(text) for text in ("1", "2", "3")] == [[left], [middle], [right]]
    assert picked("2,3") == [left], "both are there: the smaller is meant"
    assert picked("2,4") == [middle]
    assert picked("14,2") == [right]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("3", "person 3 from the left was asked for, but 2 people were found"),
        ("19,9", "nobody is at pixel 19,9: 2 people were found elsewhere"),
        ("20,0", "pixel 20,0 must lie in the photo of 20x10 pixels"),
        ("0,10", "pixel 0,10 must lie in the photo of 20x10 pixels"),
    ],
)
def test_picking_a_missing_person_is_an_error(text, words):
    with pytest.raises(InputError, match=words):
        Choice.parse(text).pick([boxed(0, 0, 2, 2), boxed(5, 0, 7, 2)], SIZE_HW)


def test_picking_from_an_empty_list():
    assert Choice.parse("all").pick([], SIZE_HW) == []
    assert Choice.parse("largest").pick([], SIZE_HW) == []
    with pytest.raises(InputError, match="but no people were found"):
        Choice.parse("1").pick([], SIZE_HW)
    with pytest.raises(InputError, match="but 1 person was found"):
        Choice.parse("2").pick([boxed(0, 0, 2, 2)], SIZE_HW)
