"""Imperfect initial masks: each kind does what its name says, and none empties the mask."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from datafolder import draw_figure
from deocclude.data.synthesis.mask_corruption import (
    DEGRADATIONS,
    BoxJitter,
    corrupt_mask,
    draw_box,
    draw_initial_mask,
    subtract_neighbor,
)


@pytest.fixture(scope="module")
def mask() -> np.ndarray:
    """A figure of 84 x 36 px in a picture of 110 x 80."""
    out = np.zeros((110, 80), bool)
    out[10:100, 10:70] = draw_figure(np.random.default_rng(3)).mask
    return out


def degraded(mask: np.ndarray, kind: str, times: int = 12) -> list[np.ndarray]:
    return [corrupt_mask(mask, np.random.default_rng(seed), kind) for seed in range(times)]


@pytest.mark.parametrize("kind", sorted(DEGRADATIONS))
def test_same_seed_same_mask(mask: np.ndarray, kind: str) -> None:
    before = mask.copy()
    for first, second in zip(degraded(mask, kind, 4), degraded(mask, kind, 4), strict=True):
        assert first.dtype == bool and first.shape == mask.shape
        np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(mask, before)


@pytest.mark.parametrize("kind", sorted(DEGRADATIONS))
def test_no_corruption_empties_the_mask(kind: str) -> None:
    speck, corner = np.zeros((20, 30), bool), np.zeros((20, 30), bool)
    speck[10, 15] = True
    corner[0, 29] = True
    bar = np.zeros((20, 30), bool)
    bar[7] = True
    for small in (speck, corner, bar, np.ones((20, 30), bool)):
        assert all(m.any() for m in degraded(small, kind, 20))
    empty = np.zeros((20, 30), bool)
    assert not corrupt_mask(empty, np.random.default_rng(0), kind).any()


def test_eroded_masks_shrink_and_dilated_masks_grow(mask: np.ndarray) -> None:
    assert all((m == mask).all() for m in degraded(mask, "exact"))
    assert all((m <= mask).all() and m.sum() < mask.sum() for m in degraded(mask, "eroded"))
    assert all((m >= mask).all() and m.sum() > mask.sum() for m in degraded(mask, "dilated"))


def test_holes_shrink_and_blobs_grow_the_mask(mask: np.ndarray) -> None:
    assert all((m <= mask).all() and m.sum() < mask.sum() for m in degraded(mask, "holes"))
    assert all((m >= mask).all() and m.sum() > mask.sum() for m in degraded(mask, "blobs"))


def test_coarse_mask_stays_close_to_the_original(mask: np.ndarray) -> None:
    box = ndimage.find_objects(mask.astype(int))[0]
    for m in degraded(mask, "coarse"):
        outside = m.copy()
        outside[box] = False
        assert not outside.any()
        assert 0.6 < (m & mask).sum() / (m | mask).sum() < 1


def test_shifted_mask_is_a_translated_copy(mask: np.ndarray) -> None:
    moved = 0
    for m in degraded(mask, "shifted"):
        (y, x), (y0, x0) = np.argwhere(m).min(axis=0), np.argwhere(mask).min(axis=0)
        assert max(abs(y - y0), abs(x - x0)) <= np.ceil(0.05 * 84)
        np.testing.assert_array_equal(m, np.roll(mask, (y - y0, x - x0), (0, 1)))
        moved += (y, x) != (y0, x0)
    assert moved >= 8


def test_box_corruption_is_a_filled_rectangle_near_the_mask(mask: np.ndarray) -> None:
    ys, xs = np.nonzero(mask)
    truth = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
    size = np.array([np.ptp(xs) + 1, np.ptp(ys) + 1] * 2)
    by_hand = []
    for m in degraded(mask, "box", 30):
        rows, columns = np.flatnonzero(m.any(axis=1)), np.flatnonzero(m.any(axis=0))
        assert m.sum() == len(rows) * len(columns)
        assert m[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        found = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        off = abs(found - truth)
        assert (off <= 0.175 * size + 1).all()
        by_hand.append((off <= 0.05 * size + 1).all())
    assert 0.5 < np.mean(by_hand) < 1, "most boxes are near, some as far off as a detector's"


def test_box_jitter_matches_the_requested_spread(mask: np.ndarray) -> None:
    ys, xs = np.nonzero(mask)
    truth = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
    size = np.array([truth[2] - truth[0], truth[3] - truth[1]] * 2)

    def off(spread: tuple[float, float]) -> np.ndarray:
        found = []
        for seed in range(200):
            rows, columns = (
                np.flatnonzero(draw_box(mask, np.random.default_rng(seed), BoxJitter(spread)).any(i)) for i in (1, 0)
            )
            found.append((np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) - truth) / size)
        return np.abs(found)

    near, far = off((0.001, 0.002)), off((0.05, 0.15))
    assert (near * size <= 1).all() and 0.04 < far.mean() < 0.12 and far.max() > 0.15
    assert not draw_box(np.zeros((20, 20), bool), np.random.default_rng(0), BoxJitter((0.01, 0.1))).any()
    default = draw_box(mask, np.random.default_rng(3))
    np.testing.assert_array_equal(default, corrupt_mask(mask, np.random.default_rng(3), "box"))


def _sides(box: np.ndarray) -> np.ndarray:
    rows, columns = (np.flatnonzero(box.any(i)) for i in (1, 0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


def test_box_jittered_outside_the_image_falls_back_to_the_mask() -> None:
    corner = np.zeros((20, 30), bool)
    corner[0, 29] = True
    boxes = [draw_box(corner, np.random.default_rng(seed), BoxJitter((1.9, 2.0))) for seed in range(60)]
    assert all(box.any() for box in boxes) and any((box == corner).all() for box in boxes)


def test_height_share_reduces_vertical_box_jitter(mask: np.ndarray) -> None:
    errors = BoxJitter((0.08, 0.081), height_share=0.25)
    off = np.array([_sides(draw_box(mask, np.random.default_rng(seed), errors)) for seed in range(300)]) - _sides(mask)
    shares = np.abs(off).mean(0) / np.tile(_sides(mask)[2:] - _sides(mask)[:2], 2)
    assert (shares[[0, 2]] > 0.05).all() and (shares[[1, 3]] < 0.025).all()


def test_box_jitter_is_biased_towards_an_overlapping_neighbour(mask: np.ndarray) -> None:
    near, far = np.zeros_like(mask), np.zeros_like(mask)
    x0, y0, x1, y1 = _sides(mask)
    near[y0 + 10 : y1, x0 + 10 : x1 + 8] = True  # shares much with the box, and goes on to the right
    far[y0:y1, : x0 + 2] = True

    def mean_off(*others: np.ndarray) -> np.ndarray:
        errors = BoxJitter((0.01, 0.011), bias=0.5)
        drawn = [_sides(draw_box(mask, np.random.default_rng(seed), errors, others)) for seed in range(300)]
        return np.mean(drawn, 0) - (x0, y0, x1, y1)

    left, top, right, bottom = mean_off(far, near)
    # a normal number of deviation 0.5, cut to 0..1, is 0.19 in the mean
    assert 0.12 * 8 < right < 0.26 * 8 and np.abs([left, top, bottom]).max() < 0.3
    assert np.abs(mean_off()).max() < 0.3, "nobody there to lean to"
    away = np.zeros_like(mask)
    away[0:5, 0:5] = True
    assert np.abs(mean_off(away, np.zeros_like(mask))).max() < 0.3, "nobody close, or nothing seen of them"


def test_neighbour_is_subtracted_from_the_box(mask: np.ndarray) -> None:
    box = draw_box(mask, np.random.default_rng(0), BoxJitter((0.001, 0.002)))
    other, small = np.zeros_like(mask), np.zeros_like(mask)
    other[60:100, 30:75] = True
    small[12:16, 12:40] = True
    other, small = other & ~mask, small & ~mask
    for seed in range(20):
        left, is_negative = subtract_neighbor(box, mask, [small, other], np.random.default_rng(seed))
        assert not is_negative and not (left & ~box).any()
        gone = box & ~left
        assert (gone & other).sum() > 0.5 * (box & other).sum() > 0.5 * (gone & ~other).sum()
        assert (left & mask).sum() >= 0.5 * (box & mask).sum(), "whoever is meant is still there"


def test_subtraction_without_a_neighbour_gives_a_negative_box(mask: np.ndarray) -> None:
    box = draw_box(mask, np.random.default_rng(0), BoxJitter((0.001, 0.002)))
    away = np.zeros_like(mask)
    away[:6, :6] = True
    lost = []
    for seed in range(40):
        left, is_negative = subtract_neighbor(box, mask, [away], np.random.default_rng(seed))
        assert is_negative and not (left & ~box).any() and left.any()
        lost.append(1 - (left & mask).sum() / mask.sum())
    # most of the person, or all that an inexact mask of it holds
    assert min(lost) > 0.35 and np.mean(lost) > 0.75 and np.mean(np.array(lost) < 0.9) > 0.2
    nothing = np.zeros_like(mask)
    for empty in ((nothing, mask), (box, nothing)):
        left, is_negative = subtract_neighbor(*empty, [away], np.random.default_rng(0))
        assert not is_negative and (left == empty[0]).all()


def test_draw_initial_mask_uses_the_box_jitter_spread(mask: np.ndarray) -> None:
    def drawn(spread: tuple[float, float] | None) -> list[np.ndarray]:
        rng = np.random.default_rng(0)
        return [draw_initial_mask(mask, rng, p_exact=0.0, p_box=1.0, errors=BoxJitter(spread)) for _ in range(60)]

    sizes, loose = (np.std([m.sum() for m in drawn(spread)]) for spread in (None, (0.15, 0.16)))
    assert loose > 1.5 * sizes


def test_unknown_corruption_kind_is_rejected(mask: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"kind must be one of exact, eroded, .*, got 'wobbly'"):
        corrupt_mask(mask, np.random.default_rng(0), "wobbly")


def test_default_corruption_is_imperfect_and_never_a_box(mask: np.ndarray) -> None:
    ys, xs = np.nonzero(mask)
    area = (np.ptp(ys) + 1) * (np.ptp(xs) + 1)
    drawn = [corrupt_mask(mask, np.random.default_rng(seed)) for seed in range(60)]
    assert all(m.sum() < 0.95 * area for m in drawn), "a box never comes of itself"
    assert np.mean([(m != mask).any() for m in drawn]) > 0.9


def test_initial_masks_follow_p_exact_and_p_box(mask: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_initial_mask(mask, rng, p_exact=0.5, p_box=0.25) for _ in range(400)]
    assert np.mean([(m == mask).all() for m in drawn]) == pytest.approx(0.5, abs=0.08)

    def is_box(m: np.ndarray) -> bool:
        rows, columns = m.any(axis=1), m.any(axis=0)
        return bool(m.sum() == rows.sum() * columns.sum())

    assert np.mean([is_box(m) for m in drawn]) == pytest.approx(0.25, abs=0.08)
    assert all((draw_initial_mask(mask, rng, p_exact=1.0, p_box=0.0) == mask).all() for _ in range(5))


def test_box_jittered_far_beyond_the_image_border_does_not_wrap_around() -> None:
    """An end below 0 once counted from the far side: the box filled most of the frame."""
    corner = np.zeros((60, 60), bool)
    corner[:6, :6] = True
    for seed in range(200):
        box = draw_box(corner, np.random.default_rng(seed), BoxJitter((2.0, 2.0)))
        assert not box[40:].any() and not box[:, 40:].any(), seed
