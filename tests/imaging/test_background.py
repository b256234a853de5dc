import tracemalloc

import numpy as np
import pytest

from deocclude.errors import InputError
from deocclude.imaging.background import fill_background, join_seam, rim_px


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)


def hole_at(size_hw: tuple[int, int], rows: slice, columns: slice) -> np.ndarray:
    hole = np.zeros(size_hw, bool)
    hole[rows, columns] = True
    return hole


def test_rim_is_a_400th_of_the_longer_side():
    assert [rim_px(size) for size in ((10, 20), (480, 640), (3000, 4000))] == [1, 2, 10]


# The second size is worked on at half its resolution, and neither side is a multiple of two.
@pytest.mark.parametrize("size_hw", [(61, 47), (1151, 903)])
def test_uniform_background_is_filled_uniformly(size_hw):
    hole = hole_at(size_hw, slice(5, size_hw[0] - 9), slice(3, size_hw[1] - 3))
    photo = np.empty((*size_hw, 3), np.uint8)
    photo[:] = (7, 128, 251)
    expected = photo.copy()
    photo[hole] = 99
    filled = fill_background(photo, hole)
    assert np.array_equal(filled[~hole], expected[~hole])
    assert np.abs(filled.astype(int) - expected).max() <= 1  # colours at the edge are means of 8 bits


@pytest.mark.parametrize("scale", [1, 4])
def test_ramp_continues_roughly_in_the_hole(scale):
    rows, columns = np.mgrid[: 300 * scale, : 240 * scale] / scale
    ramp = np.stack([0.8 * rows, 255 - columns, (rows + columns) / 3], axis=-1).round().astype(np.uint8)
    hole = hole_at(ramp.shape[:2], slice(90 * scale, 210 * scale), slice(70 * scale, 160 * scale))
    photo = ramp.copy()
    photo[hole] = 0
    error = np.abs(fill_background(photo, hole).astype(int) - ramp)[hole]
    # Across the hole the ramps rise by 96, 90 and 70. No patch around it has the colours of its middle; the mean colour
    # of the surroundings would be off by nearly twice as much.
    mean_colour = np.abs(ramp[~hole].mean(axis=0) - ramp)[hole]
    assert error.mean() < 0.6 * mean_colour.mean()


@pytest.mark.parametrize("size_hw", [(70, 50), (900, 1300)])
def test_pixels_outside_the_hole_are_untouched(size_hw):
    photo = noise(*size_hw)
    before = photo.copy()
    hole = np.zeros(size_hw, bool)
    hole[0, 0] = hole[10:40, 7:23] = hole[-20:, -9:] = True
    filled = fill_background(photo, hole)
    assert np.array_equal(filled[~hole], photo[~hole])
    assert (filled[20:30, 10:20] != photo[20:30, 10:20]).any()
    assert np.array_equal(photo, before)


def test_ring_around_the_hole_is_no_source_and_stays_unchanged():
    photo = np.full((80, 80, 3), 60, np.uint8)
    photo[27:53, 27:53] = 255  # the person; the hole misses three pixels on each side
    hole = hole_at((80, 80), slice(30, 50), slice(30, 50))
    assert (fill_background(photo, hole, grow_px=3)[hole] == 60).all()
    assert (fill_background(photo, hole, grow_px=3)[27:30, 27:53] == 255).all()
    assert (fill_background(photo, hole, grow_px=0)[hole] > 60).any()


def test_ring_is_used_when_no_other_source_exists():
    photo = np.full((4, 4, 3), 30, np.uint8)
    hole = hole_at((4, 4), slice(1, 3), slice(1, 3))
    photo[hole] = 200
    assert (fill_background(photo, hole, grow_px=5) == 30).all()


def test_hole_covering_everything_gives_mid_grey():
    photo = noise(12, 17)
    assert (fill_background(photo, np.ones((12, 17), bool)) == 128).all()


def test_no_hole_gives_a_copy():
    photo = noise(12, 17)
    photo.flags.writeable = False
    filled = fill_background(photo, np.zeros((12, 17), bool))
    assert np.array_equal(filled, photo)
    filled[0, 0] = 1


def test_memory_is_bounded():
    photo = np.zeros((1500, 2000, 3), np.uint8)
    hole = hole_at((1500, 2000), slice(200, 1400), slice(300, 1700))
    tracemalloc.start()
    fill_background(photo, hole)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # the copy is 9 MB, and one float picture of the photo's size would be 36 MB
    assert peak_bytes < 80e6


def test_invalid_arguments_are_rejected():
    photo, hole = noise(6, 8), np.zeros((6, 8), bool)
    for arguments, words in [
        ((photo[..., 0], hole), "photo array must be"),
        ((photo / 255, hole), "float64"),
        ((photo, hole[:-1]), r"photo's size \(6, 8\), got bool \(5, 8\)"),
        ((photo, hole.astype(np.uint8)), "must be bool"),
        ((photo, hole, -1), "0 or more, got -1"),
    ]:
        with pytest.raises(InputError, match=words):
            fill_background(*arguments)


def test_texture_goes_on_in_the_hole():
    photo = (100 + 100 * np.random.default_rng(5).integers(0, 2, (60, 80))).astype(np.uint8)
    photo = np.repeat(photo.repeat(4, 0).repeat(4, 1)[..., None], 3, axis=2)
    hole = hole_at((240, 320), slice(80, 150), slice(120, 170))
    spread = photo[~hole].std()
    photo[hole] = (0, 255, 0)
    filled = fill_background(photo, hole)[hole].astype(float)
    assert 0.6 * spread < filled.std() < 1.1 * spread  # a smooth filling has a tenth
    assert np.ptp(filled, axis=1).max() <= 2  # grey as all around


def test_pixels_of_hole_and_ring_are_never_copied():
    photo = noise(200, 260) // 2  # no channel above 127
    hole = hole_at((200, 260), slice(60, 140), slice(90, 150))
    photo[55:145, 85:155] = (255, 0, 255)
    filled = fill_background(photo, hole, grow_px=5)
    assert filled[hole].max() < 160  # patches and detail of different places may add up
    assert (filled[55:60, 85:155] == (255, 0, 255)).all()


def test_seam_correction_fades_with_distance():
    rgb = np.zeros((1, 40, 3), np.uint8)
    known = np.zeros((1, 40), bool)
    known[0, :4] = True
    rgb[known] = 100
    joined = join_seam(rgb, known, np.ones_like(known))[0, :, 0]
    # 0.65 of the step of 100, falling to 0 over 24 pixels
    assert joined.tolist() == [100] * 4 + np.rint(65 * (1 - np.arange(24) / 24)).tolist() + [0] * 12
