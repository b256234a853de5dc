"""Difference hashes by hand, and near-duplicate photos."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from deocclude.data.sources.perceptual_hash import NearDuplicates, dhash


def test_dhash_bits_encode_brightness_increase_to_the_right() -> None:
    rising = np.tile(np.arange(9, dtype=np.uint8) * 20, (8, 1))
    assert dhash(Image.fromarray(rising)) == 2**64 - 1
    assert dhash(Image.fromarray(np.ascontiguousarray(rising[:, ::-1]))) == 0
    one_step = np.zeros((8, 9), np.uint8)
    one_step[0, 1:] = 200  # the first bit of the first row alone
    assert dhash(Image.fromarray(one_step)) == 2**63
    assert dhash(Image.new("RGB", (90, 80), (30, 60, 90))) is None


def test_dhash_matches_a_recompressed_copy_but_not_another_photo() -> None:
    rng = np.random.default_rng(0)
    photos = [Image.fromarray(rng.integers(0, 256, (8, 9, 3), dtype=np.uint8)).resize((450, 400)) for _ in range(2)]
    with io.BytesIO() as file:
        photos[0].resize((300, 260)).save(file, format="JPEG", quality=60)
        copy = dhash(Image.open(io.BytesIO(file.getvalue())))
    first, second = (dhash(photo) for photo in photos)
    assert (first ^ copy).bit_count() <= 3 < (first ^ second).bit_count()


def test_near_duplicates_count_only_across_splits() -> None:
    met = NearDuplicates()
    code = 0x0123456789ABCDEF
    assert met.add(code, "a", "train") is None
    assert met.add(code ^ 0b111, "b", "train") is None, "twice in one split harms no figure"
    assert met.add(code ^ (1 << 63 | 1 << 40 | 1), "c", "val") == "a", "three bits in three bands"
    assert met.add(code ^ 0xF0, "d", "val") is None, "four bits away from a, more from the others"
    assert met.add(code, "e", None) == "a", "whose split is not known yet may end in any"
    assert met.add(~code & (2**64 - 1), "f", "val") is None
