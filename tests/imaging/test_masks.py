import numpy as np
import pytest
from pycocotools import mask as coco_mask

from deocclude.errors import InputError
from deocclude.imaging.boxes import box_to_mask, mask_to_box_xyxy
from deocclude.imaging.masks import connected_components, dilate, erode, find_holes, keep_large_components, mask_iou
from deocclude.imaging.rle import decode_rle, decode_rle_counts, encode_rle, encode_rle_counts


def drawn(*rows: str) -> np.ndarray:
    """A mask from text, "#" = True."""
    return np.array([[letter == "#" for letter in row] for row in rows])


def test_iou_by_hand():
    left, right = drawn("##..", "##.."), drawn(".##.", "....")
    assert mask_iou(left, right) == 1 / 5
    assert mask_iou(left, left) == 1
    assert mask_iou(left, ~left) == 0
    assert mask_iou(np.zeros((2, 2), bool), np.zeros((2, 2), bool)) == 1


def test_box_of_mask_excludes_its_end():
    assert mask_to_box_xyxy(drawn("....", ".##.", "..#.")) == (1, 1, 3, 3)
    with pytest.raises(InputError, match="empty"):
        mask_to_box_xyxy(np.zeros((3, 3), bool))


def test_box_to_mask_is_the_inverse_of_mask_to_box():
    box = (2, 1, 7, 4)
    mask = box_to_mask(box, (6, 9))
    assert mask.sum() == 15
    assert mask_to_box_xyxy(mask) == box


@pytest.mark.parametrize(
    ("box", "columns"), [((0.4, 0, 2.6, 1), 3), ((0.6, 0, 2.4, 1), 1), ((-5, 0, 99, 1), 4), ((1.5, 0, 2.5, 1), 1)]
)
def test_box_to_mask_takes_pixels_whose_centre_is_inside(box, columns):
    assert box_to_mask(box, (1, 4)).sum() == columns


def test_dilate_and_erode_by_hand():
    point = np.zeros((7, 7), bool)
    point[3, 3] = True
    assert mask_to_box_xyxy(dilate(point, 2)) == (1, 1, 6, 6)
    assert dilate(point, 2).sum() == 25
    assert np.array_equal(erode(dilate(point, 2), 2), point)
    assert erode(np.ones((5, 5), bool), 2).all()


@pytest.mark.parametrize("radius_px", [0, 1, 2, 3, 5, 8, 13, 40])
def test_dilate_equals_the_naive_loop(radius_px):
    mask = np.random.default_rng(radius_px).random((24, 31)) > 0.99
    naive = np.zeros_like(mask)
    for y, x in zip(*np.nonzero(mask), strict=True):
        naive[max(0, y - radius_px) : y + radius_px + 1, max(0, x - radius_px) : x + radius_px + 1] = True
    assert np.array_equal(dilate(mask, radius_px), naive)


def test_components_by_hand():
    mask = drawn(
        "##..#",
        "#..#.",
        ".....",
        "#.###",
    )
    diagonal, straight = connected_components(mask), connected_components(mask, diagonal=False)
    assert sorted(diagonal.areas_px) == [1, 2, 3, 3]
    assert sorted(straight.areas_px) == [1, 1, 1, 3, 3]
    assert np.array_equal(diagonal.paint(np.ones(4, bool)), mask)
    assert np.array_equal(diagonal.paint(diagonal.areas_px == 2), drawn("....#", "...#.", ".....", "....."))


def test_components_join_across_a_winding_shape():
    mask = drawn(
        "#.#.#.#",
        "#.#.#.#",
        "#.###.#",
        "#.....#",
        "#######",
    )
    assert sorted(connected_components(mask).areas_px) == [7, 15]


@pytest.mark.parametrize("diagonal", [True, False])
def test_components_agree_with_flood_fill(diagonal):
    mask = np.random.default_rng(3).random((40, 33)) > 0.55
    reach = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy or dx) and (diagonal or not (dy and dx))]
    left, areas = set(zip(*np.nonzero(mask), strict=True)), []
    while left:
        stack, area = [left.pop()], 0
        while stack:
            y, x = stack.pop()
            area += 1
            near = {(y + dy, x + dx) for dy, dx in reach} & left
            left -= near
            stack += near
        areas.append(area)
    assert sorted(connected_components(mask, diagonal).areas_px) == sorted(areas)


def test_empty_mask_has_no_components():
    empty = np.zeros((3, 4), bool)
    assert connected_components(empty).count == 0
    assert not keep_large_components(empty, 0.5).any()


def test_keep_large_components_drops_by_share_and_keeps_the_largest():
    mask = drawn("####..#", "####...", "......#", ".......")
    assert np.array_equal(keep_large_components(mask, 0.2), drawn("####...", "####...", ".......", "......."))
    assert np.array_equal(keep_large_components(mask, 0.1), mask)
    specks = drawn("#.#.#")
    assert np.array_equal(keep_large_components(specks, 0.9), specks)


def test_holes():
    mask = drawn(
        "######.",
        "#.##.#.",
        "####.##",
        "######.",
        ".#####.",
    )
    assert sorted(hole.sum() for hole in find_holes(mask)) == [1, 2]
    (small,) = find_holes(mask, 1.5 / mask.sum())
    assert np.argwhere(small).tolist() == [[1, 1]]
    assert not any(hole[0, 6] for hole in find_holes(mask)), "what touches the edge is no hole"


def test_diagonal_background_pixels_are_two_holes():
    assert len(find_holes(drawn("####", "#.##", "##.#", "####"))) == 2


def test_rle_counts_are_column_major_and_start_with_zeros():
    assert encode_rle_counts(drawn(".#.", "##.")) == [1, 3, 2]
    assert encode_rle_counts(drawn("#.", "..")) == [0, 1, 3]
    assert encode_rle_counts(np.zeros((2, 2), bool)) == [4]
    assert encode_rle_counts(np.ones((2, 2), bool)) == [0, 4]


def test_rle_strings_by_hand():
    # Five bits a letter from "0", low ones first, +32 when more follow: 6 -> "6", 1 -> "1", 40 = 8 + 1 * 32 -> "X1".
    assert encode_rle(box_to_mask((1, 0, 2, 1), (6, 1 + 1)))["counts"] == "615"
    mask = np.zeros((40, 3), bool)
    mask[0, 1] = True
    # counts 40, 1, 79; the third is stored as it is: 79 = 15 + 2 * 32.
    assert encode_rle(mask) == {"size": [40, 3], "counts": "X11_2"}
    # A fourth count is stored as its difference from the second: 1 - 3 = -2, five bits 11110 with the sign, "N".
    assert encode_rle(drawn("...###..#"))["counts"] == "332N"


@pytest.mark.parametrize("seed", range(4))
def test_rle_round_trip(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((37, 53)) > rng.random()
    mask[5:30, 10:40] = seed % 2
    assert np.array_equal(decode_rle(encode_rle(mask)), mask)
    assert np.array_equal(decode_rle({"size": [37, 53], "counts": encode_rle_counts(mask)}), mask)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32])
def test_rle_of_numbers_is_that_of_their_nonzero_pixels(dtype):
    mask = np.random.default_rng(0).random((7, 5)) < 0.5
    ours = encode_rle(mask.astype(dtype) * 255)
    assert ours == encode_rle(mask)
    assert np.array_equal(coco_mask.decode(ours), mask)


def test_rle_of_another_size_is_refused():
    with pytest.raises(InputError, match="2x2 pixels, got 5"):
        decode_rle_counts([2, 3], (2, 2))
    # each "o" says that five more bits follow: a number that never ends
    with pytest.raises(InputError, match="a run length has more than 60 bits"):
        decode_rle({"size": [2, 2], "counts": "o" * 50})


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ([5, -2, 1], "run lengths must be 0 or more, got -2"),
        ("4R", "the last run length is incomplete"),
        ("4\u00e9", "must be ASCII letters"),
    ],
)
def test_damaged_rle_is_refused(counts, words):
    with pytest.raises(InputError, match=words):
        decode_rle({"size": [2, 2], "counts": counts})


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 7), (9, 1), (13, 21), (200, 150)])
@pytest.mark.parametrize("share", [0, 0.01, 0.5, 1])
def test_rle_matches_pycocotools(size_hw, share):
    mask = np.random.default_rng(size_hw).random(size_hw) < share
    theirs = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    ours = encode_rle(mask)
    assert ours == {"size": list(size_hw), "counts": theirs["counts"].decode()}
    assert np.array_equal(coco_mask.decode(ours), mask)
    assert np.array_equal(decode_rle(ours), mask)
