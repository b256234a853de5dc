"""Light, colour and camera: the same for photo and truth, reproducible, in range."""

from __future__ import annotations

import numpy as np

from datafolder import draw_background
from deocclude.data.synthesis.photometric import camera, photometric


def picture() -> np.ndarray:
    return draw_background(np.random.default_rng(0), (24, 32))


def test_photo_and_truth_get_the_same_photometric_change() -> None:
    image = picture()
    other = image.copy()
    other[:8] = (10, 200, 30)
    for seed in range(12):
        a, b = photometric([image, other], np.random.default_rng(seed))
        assert a.dtype == np.uint8 and a.shape == image.shape
        np.testing.assert_array_equal(a[8:], b[8:])
        np.testing.assert_array_equal(a, photometric([image], np.random.default_rng(seed))[0])


def test_brightness_order_is_kept_and_some_images_turn_grey() -> None:
    ramp = np.repeat(np.arange(0, 256, 8, dtype=np.uint8)[None, :, None], 3, axis=2).repeat(4, axis=0)
    colour = np.zeros((4, 4, 3), np.uint8)
    colour[..., 0] = 200
    grey = 0
    for seed in range(150):
        out, red = photometric([ramp, colour], np.random.default_rng(seed))
        assert (np.diff(out.astype(int).sum(axis=-1), axis=1) >= -3).all()
        grey += (red == red[..., :1]).all()
    assert 1 <= grey <= 25


def test_camera_degradation_is_reproducible_and_sometimes_identity() -> None:
    image = picture()
    out = [camera([image.copy()], np.random.default_rng(seed))[0] for seed in range(40)]
    for seed in range(12):
        first, second = camera([image.copy(), image.copy()], np.random.default_rng(seed))
        np.testing.assert_array_equal(out[seed], first)
        np.testing.assert_array_equal(first, second, "photo and truth go through the same camera")
    assert all(o.dtype == np.uint8 and o.shape == image.shape for o in out)
    same = np.mean([(o == image).all() for o in out])
    assert 0.2 < same < 0.7  # 0.75 * 0.85 * 0.7
    assert all(abs(o.astype(int).mean() - image.mean()) < 6 for o in out)
