import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

import cloth as cloth_module
import deocclude.imaging.exemplar_synthesis as exemplar
from cloth import SIZE, cloth
from deocclude.imaging.exemplar_synthesis import compose, window_all
from deocclude.imaging.masks import dilate


def test_window_all_and_dilate_by_hand():
    mask = np.zeros((7, 7), bool)
    mask[2:6, 1:6] = True
    inside, touching = window_all(mask, 1), dilate(mask, 1)
    assert inside.sum() == 2 * 3 and inside[3:5, 2:5].all()
    assert touching.sum() == 6 * 7 and touching[1:7].all()
    assert not window_all(np.ones((4, 4), bool), 1)[0].any()  # beyond the edge is outside


def test_known_pixels_stay_and_hidden_ones_get_cloth_texture():
    image, known, region, guide = cloth()
    found = compose(image, known, region, guide)
    assert np.array_equal(found.rgb[known], image[known])
    hidden = region & ~known
    assert 15 < found.rgb[hidden][:, 0].std() < 32  # of the cloth 30, of the guide 0
    assert np.abs(found.rgb[hidden].mean(axis=0) - image[known].mean(axis=0)).max() < 8
    assert np.isfinite(found.error[hidden]).all()


def test_unknown_pixels_are_never_a_source():
    image, known, region, guide = cloth()
    marked = image.copy()
    marked[~known] = (0, 255, 255)
    found, marked_found = (compose(picture, known, region, guide) for picture in (image, marked))
    assert np.array_equal(found.rgb[region], marked_found.rgb[region])
    sources = found.source_yx[found.source_yx[..., 0] >= 0]
    assert known[sources[:, 0], sources[:, 1]].all()


def test_source_map_points_to_the_copied_pixels():
    image, known, region, guide = cloth()
    found = compose(image, known, region, guide)
    copied = found.source_yx[..., 0] >= 0
    assert copied.sum() > 0.9 * (region & ~known).sum()
    source = found.source_yx[copied]
    # votes of overlapping patches mix; most pixels resemble their source
    difference = np.abs(found.rgb[copied] - image[source[:, 0], source[:, 1]])[:, 0]
    strangers = np.abs(found.rgb[copied] - image[source[::-1, 0], source[::-1, 1]])[:, 0]
    assert difference.mean() < 0.7 * strangers.mean()


def test_mirrored_patches_are_used_as_sources():
    # brighter and brighter to the middle, then darker and darker; of the right half nothing is known
    tent = 40 + 3 * np.minimum(np.arange(SIZE), np.arange(SIZE)[::-1])
    image = np.broadcast_to(tent[None, :, None], (SIZE, SIZE, 3)).astype(np.uint8)
    region = np.ones((SIZE, SIZE), bool)
    known = region.copy()
    known[:, 64:] = False
    found = compose(image, known, region, image)
    far = np.s_[8:-8, 76:-8]
    assert found.mirrored[far].mean() > 0.95
    assert np.abs(found.rgb - image)[far].mean() < 4
    assert np.abs(found.source_yx[far][..., 1] - (SIZE - 1 - np.arange(SIZE)[76:-8])).mean() < 2


def test_equal_distances_take_the_first_source():
    image = np.full((SIZE, SIZE, 3), 77, np.uint8)
    _, known, region, _ = cloth()
    found = compose(image, known, region, image)
    hidden = region & ~known
    assert (np.abs(found.rgb[hidden] - 77) < 1e-3).all()
    assert not found.mirrored.any()
    # the topmost, leftmost patch that lies in the body: its centre is three pixels in
    top, left = np.argwhere(known)[0]
    assert np.abs(found.source_yx[hidden] - (top + 3, left + 3)).max() <= 2


@pytest.mark.parametrize("known_part", [np.s_[60:64, 60:64], np.s_[60, 20:100], np.s_[64:65, 64:65]])
def test_less_than_a_patch_gives_no_result(known_part):
    image, _, region, guide = cloth()
    known = np.zeros_like(region)
    known[known_part] = True
    assert compose(image, known, region, guide) is None


def test_nothing_hidden_gives_no_result():
    image, _, region, guide = cloth()
    assert compose(image, region, region, guide) is None


def test_parts_decide_between_equal_colours():
    # two cloths of one mean colour, one plain and one striped; the hidden part's body part is the striped one
    image, known, region, guide = cloth()
    image[:] = 120
    image[:, 64:] = np.where((np.arange(SIZE) // 3) % 2, 90, 150)[:, None, None]
    guide[:] = 120
    known_parts = np.zeros((3, 32, 32), np.float32)
    known_parts[1, :, :16] = known_parts[2, :, 16:] = 1
    for part, spread in ((1, (0, 8)), (2, (12, 40))):
        region_parts = np.zeros_like(known_parts)
        region_parts[part] = 1
        found = compose(image, known, region, guide, known_parts, region_parts)
        middle = found.rgb[58:72, 46:58]
        assert spread[0] <= middle.std() <= spread[1], part


def test_products_are_exact_in_float32():
    limit = 2**24  # whole numbers up to here are exact, in any order of summing
    white = np.full((1, 49, 3), 255, np.uint8)
    checkered = white * (np.arange(49) % 2)[None, :, None].astype(np.uint8)
    assert np.abs(white.reshape(1, -1) @ np.abs(exemplar._basis())).max() < limit
    guide = exemplar._guide_descriptors(np.full((1, 3), 255.0), 1.0)
    for patch in (white, checkered):
        described = exemplar._patch_descriptors(patch)
        assert np.array_equal(described, np.rint(described))
        # -2 t.s + s.s, with parts
        assert 3 * ((described**2).sum() + (guide**2).sum()) + 2 * exemplar._PART_SCALE**2 < limit


_HASH = """
import hashlib, sys
sys.path.insert(0, {tests!r})
from cloth import cloth
from deocclude.imaging.exemplar_synthesis import compose
found = compose(*cloth(3))
print(hashlib.sha256(found.rgb.tobytes() + found.source_yx.tobytes() + found.error.tobytes()).hexdigest())
"""


def test_threads_do_not_change_a_bit():
    code = _HASH.format(tests=os.path.dirname(cloth_module.__file__))
    hashes = set()
    for threads in ("1", "2"):
        settings = {name: threads for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        done = subprocess.run(
            [sys.executable, "-c", code], env=os.environ | settings, capture_output=True, text=True, check=True
        )
        hashes.add(done.stdout.strip())
    found = compose(*cloth(3))
    here = hashlib.sha256(found.rgb.tobytes() + found.source_yx.tobytes() + found.error.tobytes()).hexdigest()
    assert hashes == {here}


@pytest.mark.parametrize("colours", ["flat", "grey", "black", "white"])
def test_plain_pictures_stay_finite(colours):
    image, known, region, guide = cloth()
    image = {
        "flat": np.full_like(image, (10, 200, 90)),
        "grey": np.repeat(image[..., :1], 3, axis=2),
        "black": np.zeros_like(image),
        "white": np.full_like(image, 255),
    }[colours]
    with np.errstate(all="raise"):
        found = compose(image, known, region, guide)
    assert np.isfinite(found.rgb).all()
    assert found.rgb.min() >= 0 and found.rgb.max() <= 255.001
