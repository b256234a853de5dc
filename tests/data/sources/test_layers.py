"""Layers: their box, their pyramid and their feathered edge."""

from __future__ import annotations

import numpy as np

from deocclude.data.sources.layers import Layer, PersonPhoto, feather_alpha


def test_layer_box_encloses_pixels_with_alpha_above_half() -> None:
    alpha = np.zeros((20, 30), np.uint8)
    alpha[4:9, 10:25] = 255
    alpha[3, 10:25] = 127
    assert Layer("a", np.zeros((20, 30, 3), np.uint8), alpha).box_xyxy == (10, 4, 25, 9)


def test_pyramid_averages_areas() -> None:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (8, 12, 3)).astype(np.uint8)
    alpha = rng.integers(0, 256, (8, 12)).astype(np.uint8)
    levels = Layer("a", rgb, alpha).pyramid
    assert [level[0].shape for level in levels] == [(8, 12, 3), (4, 6, 3), (2, 3, 3)]
    means = alpha.reshape(4, 2, 6, 2).mean(axis=(1, 3))
    assert np.abs(levels[1][1] - means).max() <= 1
    tiny = Layer("tiny", rgb[:1, :1], alpha[:1, :1]).pyramid
    assert [level[1].shape for level in tiny] == [(1, 1)] * 3


def test_feathering_erodes_and_softens_the_edge() -> None:
    mask = np.zeros((21, 21), bool)
    mask[5:16, 5:16] = True
    np.testing.assert_array_equal(feather_alpha(mask, 0, 0.0), mask * np.uint8(255))
    eroded = feather_alpha(mask, 2, 0.0)
    expected = np.zeros_like(mask)
    expected[7:14, 7:14] = True
    np.testing.assert_array_equal(eroded == 255, expected)
    soft = feather_alpha(mask, 0, 1.0)
    assert soft[10, 10] == 255 and 128 <= soft[10, 5] < 255 and 0 < soft[10, 4] < 128 and soft[10, 0] == 0
    # the half-way line of a straight edge stays where it was
    np.testing.assert_array_equal((soft >= 128)[10], mask[10])


def test_feathering_leaves_an_opaque_pixel_of_a_thin_mask() -> None:
    line = np.zeros((9, 30), bool)
    line[4, 5:25] = True
    for erode_px, sigma_px in ((1, 0.7), (0, 0.8), (1, 0.0)):
        opaque = feather_alpha(line, erode_px, sigma_px) >= 128
        assert opaque.any() and not (opaque & ~line).any()
    assert not feather_alpha(np.zeros_like(line), 1, 0.7).any()


def test_person_mask_is_alpha_thresholded_at_half() -> None:
    alpha = np.array([[0, 127, 128, 255]], np.uint8)
    person = PersonPhoto("p", np.zeros((1, 4, 3), np.uint8), alpha)
    assert person.mask.tolist() == [[False, False, True, True]]
    assert person.whole and not person.has_background and person.parsing is None
