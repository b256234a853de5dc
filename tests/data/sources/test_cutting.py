"""Cut-outs and backgrounds without people: sizes, contents, labels."""

from __future__ import annotations

import numpy as np
import pytest

from deocclude.data.sources.cutting import MIN_BACKGROUND_PX, background_without_people, cut_out, free_region


def photo_of(size_hw: tuple[int, int]) -> np.ndarray:
    """A photo whose red is its row and green its column, both modulo 256."""
    rows, columns = np.mgrid[: size_hw[0], : size_hw[1]]
    return np.stack([rows, columns, np.zeros_like(rows)], axis=-1).astype(np.uint8)


def test_cutout_keeps_a_margin_around_the_person() -> None:
    mask = np.zeros((200, 150), bool)
    mask[60:100, 70:90] = True
    cut = cut_out(photo_of(mask.shape), mask, max_px=None)
    # three quarters of 40 px and two more, on each side
    np.testing.assert_array_equal(cut.rgb, photo_of(mask.shape)[28:132, 38:122])
    np.testing.assert_array_equal(cut.mask, mask[28:132, 38:122])
    assert cut.parsing is None


def test_cutout_is_downscaled_with_parsing_matching_its_mask() -> None:
    mask = np.zeros((200, 150), bool)
    mask[40:161, 30:100] = True
    labels = np.where(mask, np.uint8(7), np.uint8(0))
    labels[40:50] = 0  # labelled as background, though it is the person
    cut = cut_out(photo_of(mask.shape), mask, max_px=60, parsing=labels)
    rows, columns = np.flatnonzero(cut.mask.any(1)), np.flatnonzero(cut.mask.any(0))
    assert np.ptp(rows) + 1 == pytest.approx(60, abs=1) and np.ptp(columns) + 1 == pytest.approx(70 * 60 / 121, abs=1)
    np.testing.assert_array_equal(cut.parsing > 0, cut.mask)
    assert set(np.unique(cut.parsing)) == {0, 7, 255}


def test_cutout_converts_to_person_and_layer() -> None:
    mask = np.zeros((60, 60), bool)
    mask[20:40, 20:40] = True
    cut = cut_out(photo_of(mask.shape), mask, max_px=None)
    person = cut.to_person("a", has_background=True, whole=False)
    np.testing.assert_array_equal(person.mask, cut.mask)
    assert (person.name, person.whole, person.has_background) == ("a", False, True)
    lost = cut.mask.sum() - (cut.to_layer("b").alpha >= 128).sum()
    assert 70 <= lost <= 90, "its outermost pixels, of which there are 76"


def test_free_region_is_the_largest_part_without_people() -> None:
    first, second = np.zeros((2, 300, 400), bool)
    first[100:200, 40:80] = True
    second[100:200, 90:140] = True
    assert free_region((300, 400), [first, second]) == (slice(0, 300), slice(145, 400))
    np.testing.assert_array_equal(
        background_without_people(photo_of((300, 400)), [first, second]), photo_of((300, 400))[:, 145:]
    )
    assert free_region((300, 400), []) == (slice(0, 300), slice(0, 400))
    second[:, 290:] = True
    assert free_region((300, 400), [first, second]) is None
    assert free_region((MIN_BACKGROUND_PX - 1, 400), []) is None


def test_large_background_is_downscaled() -> None:
    assert background_without_people(photo_of((1000, 1440)), []).shape == (500, 720, 3)
