"""Probabilities follow the photo's edges where it has some, and are left alone where it has none."""

import numpy as np
import pytest
from PIL import Image

from deocclude.imaging.crop import Region
from deocclude.imaging.guided_filter import FLATNESS, RADIUS_PX, _mean_around, _solve, follow_edges, grow
from deocclude.imaging.masks import mask_iou

S, T = 64, 192


def slanted(size: int, shift: float = 0.0) -> np.ndarray:
    """(size, size) bool: a half plane with a slanted edge; `shift` moves it, in shares of the side."""
    y, x = (np.mgrid[:size, :size] + 0.5) / size
    return x + 0.4 * y < 0.7 + shift


def shrink(picture: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).resize((S, S), Image.Resampling.BOX))


def painted(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    photo = np.where(mask[..., None], [170, 60, 50], [60, 90, 160]) + rng.normal(0, 6, (*mask.shape, 3))
    return photo.clip(0, 255).astype(np.uint8)


def blurred_probability(mask: np.ndarray) -> np.ndarray:
    """As a network predicts it: soft, on the coarse grid."""
    coarse = shrink(mask.astype(np.uint8) * np.uint8(255)).astype(np.float32) / 255
    padded = np.pad(coarse, 2, mode="edge")
    return np.mean([padded[i : i + S, j : j + S] for i in range(5) for j in range(5)], axis=0, dtype=np.float32)


def test_shifted_contour_moves_to_the_photos_edge():
    truth = slanted(T)
    finer = painted(truth, np.random.default_rng(0))
    off = blurred_probability(slanted(T, shift=1.2 / S))  # more than a network pixel beside the edge
    out = follow_edges(shrink(finer), off[None], finer)[0]
    before, after = mask_iou(grow(off, (T, T)) >= 0.5, truth), mask_iou(out >= 0.5, truth)
    assert before < 0.97
    assert 1 - after < 0.4 * (1 - before)


def test_flat_photo_changes_nothing():
    # a limb of two network pixels: the mean of a window would wipe it out
    limb = np.zeros((S, S), np.float32)
    limb[:, 30:32] = 1
    flat = np.full((T, T, 3), 90, np.uint8)
    out = follow_edges(shrink(flat), limb[None], flat)[0]
    np.testing.assert_allclose(out, grow(limb, (T, T)), atol=1e-3)


def test_maps_are_filtered_independently():
    truth = slanted(T)
    finer = painted(truth, np.random.default_rng(1))
    one, other = blurred_probability(truth), blurred_probability(~slanted(T, shift=-0.2))
    both = follow_edges(shrink(finer), np.stack([one, other]), finer)
    alone = follow_edges(shrink(finer), other[None], finer)
    np.testing.assert_allclose(both[1], alone[0], atol=1e-5)


def test_filtered_part_equals_the_whole_there():
    truth = slanted(T)
    finer = painted(truth, np.random.default_rng(6))
    maps = np.stack([blurred_probability(truth)] * 2)
    part, rim = Region(30, 8, T - 20, T - 40), 2 * T // S
    whole, there = follow_edges(shrink(finer), maps, finer, (None, part))
    assert there.shape == part.size_hw
    np.testing.assert_allclose(there[rim:-rim, rim:-rim], whole[part.slices][rim:-rim, rim:-rim], atol=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_constant_map_stays_constant_on_any_photo(value):
    finer = np.random.default_rng(2).integers(0, 256, (T, T, 3), dtype=np.uint8)
    (out,) = follow_edges(shrink(finer), np.full((1, S, S), value, np.float32), finer)
    np.testing.assert_allclose(out, value, atol=2e-3)
    assert out.min() >= 0 and out.max() <= 1


def test_upscaled_part_equals_the_whole_there() -> None:
    plane = np.random.default_rng(3).random((20, 20)).astype(np.float32)
    whole, part = grow(plane, (130, 90)), Region(40, 15, 100, 80)
    grown = grow(plane, (130, 90), within=part)
    assert grown.shape == part.size_hw
    rim = 7  # 130 / 20 pixels: as wide as a place
    np.testing.assert_allclose(grown[rim:-rim, rim:-rim], whole[part.slices][rim:-rim, rim:-rim], atol=1e-5)


@pytest.mark.parametrize("size_hw", [(1, 1), (2, 40), (23, 9)])
def test_window_means_repeat_the_border(size_hw):
    planes = np.random.default_rng(0).random((3, *size_hw)).astype(np.float32)
    padded = np.pad(planes, [(0, 0), (RADIUS_PX, RADIUS_PX), (RADIUS_PX, RADIUS_PX)], mode="edge")
    side = 2 * RADIUS_PX + 1
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(1, 2))
    assert np.allclose(_mean_around(planes), windows.mean(axis=(-2, -1)), atol=1e-6)


def plain_pictures(size: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Pictures that leave a fit little or nothing to go by, (size, size, 3) uint8 each."""
    columns = np.arange(size)[None, :, None]
    half, line = columns < size // 2, columns == size // 2
    one, other = rng.integers(0, 256, (2, 3))
    noise = rng.integers(0, 254, (size, size, 1))
    walk = np.cumsum(rng.integers(-3, 4, (size, size, 1)), axis=1) % 256
    off_by_one = rng.random((size, size, 3)) < 0.02
    pictures = {
        "black": np.zeros((1, 1, 3)), "white": np.full((1, 1, 3), 255), "flat": one[None, None],
        "grey": noise, "smooth grey": walk, "nearly grey": (walk + off_by_one).clip(0, 255),
        "tinted": noise + np.array([0, 1, 2]), "black and white": 255 * (noise > 127),
        "nearly black and white": abs(255 * (noise > 127) - rng.integers(0, 2, (size, size, 3))),
        "two colours": np.where(half, one, other), "one pixel wide": np.where(line, one, other),
        "black beside white": 255 * half, "saturated": 255 * (rng.random((size, size, 3)) > 0.5),
    }  # fmt: skip
    return {name: np.broadcast_to(p, (size, size, 3)).astype(np.uint8) for name, p in pictures.items()}


def plain_maps(size: int) -> np.ndarray:
    """(4, size, size) float32: all 0, all 1, one pixel, one half."""
    maps = np.zeros((4, size, size), np.float32)
    maps[1], maps[2, size // 2, size // 2], maps[3, :, size // 2 :] = 1, 1, 1
    return maps


@pytest.mark.parametrize("size", [1, 2, 7, 128])
def test_probabilities_stay_finite_on_uninformative_colours(size):
    for seed in range(4):
        for name, picture in plain_pictures(size, np.random.default_rng(seed)).items():
            with np.errstate(over="raise", divide="raise", invalid="raise"):
                out = np.stack(follow_edges(picture, plain_maps(size), picture.repeat(2, 0).repeat(2, 1)))
            assert np.isfinite(out).all() and out.min() >= 0 and out.max() <= 1, (name, seed)


@pytest.mark.parametrize("name", plain_pictures(2, np.random.default_rng(0)))
def test_slopes_match_double_precision(name):
    colours = np.moveaxis(plain_pictures(S, np.random.default_rng(4))[name], -1, 0).astype(np.float32) / 255
    values = np.random.default_rng(5).random((2, S, S)).astype(np.float32)
    mean_colour = _mean_around(colours)

    def shared_with_colours(planes: np.ndarray) -> np.ndarray:
        pairs = zip(colours, mean_colour, strict=True)
        return np.stack([_mean_around(one * planes) - mean * _mean_around(planes) for one, mean in pairs])

    spread = shared_with_colours(colours) + FLATNESS * np.eye(3, dtype=np.float32)[..., None, None]
    shared = shared_with_colours(values)
    slopes = _solve([spread[a, b] for a, b in [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]], shared)
    systems, sides = (np.moveaxis(terms.astype(np.float64), (0, 1), (-2, -1)) for terms in (spread, shared))
    exact = np.moveaxis(np.linalg.solve(systems, sides), (-2, -1), (0, 1))
    # float32's 6e-8 times the condition of the systems, up to 0.75 / FLATNESS, is 1.5e-3
    np.testing.assert_allclose(slopes, exact, atol=1e-3 * max(1, np.abs(exact).max()))
