"""Detail of the photo: it follows copies block by block, from visible pixels alone, and only where it belongs."""

import numpy as np

from deocclude.imaging.appearance import Appearance, hidden_on_photo
from deocclude.imaging.crop import Region, SquareCrop
from deocclude.imaging.detail_transfer import Copied
from deocclude.imaging.exemplar_synthesis import Composed


def test_repeated_source_transfers_detail_block_by_block():
    size = 64
    image = np.random.default_rng(3).integers(100, 104, (size, size, 3)).astype(np.uint8)
    known = np.zeros((size, size), bool)
    known[:, :32] = True
    source_yx = np.full((size, size, 2), -1, np.int32)
    source_yx[:, 32:] = (20, 16)
    composed = Composed(image.astype(np.float32), source_yx, np.zeros_like(known), np.zeros(known.shape, np.float32))
    found = Copied.of(composed, image, known, (~known).astype(np.float32))
    block = found.source_yx[16:24, 40:48]
    assert (np.diff(block[..., 0], axis=0) == 1).all() and (np.diff(block[..., 1], axis=1) == 1).all()
    assert abs(block - (20, 16)).max() <= 4
    assert (found.source_yx[known] == -1).all() and found.weight[known].max() == 0
    assert found.weight[~known].mean() > 0.5


def test_fold_in_the_source_adds_no_detail_to_even_cloth():
    size = 64
    image = np.full((size, size, 3), 100, np.uint8)
    image[20] = 160  # the fold
    known = np.zeros((size, size), bool)
    known[:, :32] = True
    source_yx = np.full((size, size, 2), -1, np.int32)
    source_yx[:, 32:] = (20, 16)
    rgb = np.full((size, size, 3), 100, np.float32)
    composed = Composed(rgb, source_yx, np.zeros_like(known), np.zeros(known.shape, np.float32))
    found = Copied.of(composed, image, known, (~known).astype(np.float32))
    from_fold = found.source_yx[..., 0] == 20
    assert from_fold.any() and found.weight[from_fold].max() == 0


def test_isolated_bright_pixels_are_not_transferred():
    scale, size = 4, 64
    photo = np.full((size * scale, size * scale, 3), 128, np.uint8)
    photo += np.random.default_rng(0).integers(0, 5, photo.shape, dtype=np.uint8)
    photo[::32, ::32] = 250
    crop = SquareCrop((size * scale / 2, size * scale / 2), size * scale, size)
    visible = np.zeros(photo.shape[:2], bool)
    visible[:, : 32 * scale] = True
    rows, columns = np.indices((size, size), dtype=np.int32)
    source_yx = np.where(columns[..., None] >= 32, np.stack([rows, columns - 32], -1), np.int32(-1))
    copied = Copied(crop.extract(photo), source_yx, np.zeros((size, size), bool), (columns >= 32).astype(np.float32))
    even = Appearance(np.full((size, size, 3), 130, np.uint8), copied)
    _, colours = hidden_on_photo(even, crop, photo, visible, ~visible, Region(0, 0, *photo.shape[:2]))
    assert colours.std() > 0.5 and np.abs(colours.astype(int) - 130).max() <= 12


def test_photo_detail_follows_the_copied_source():
    scale, size = 4, 64
    noise = np.random.default_rng(0).integers(-40, 41, (size * scale, size * scale))
    photo = np.repeat((128 + noise)[..., None], 3, axis=2).astype(np.uint8)
    crop = SquareCrop((size * scale / 2, size * scale / 2), size * scale, size)
    visible = np.zeros(photo.shape[:2], bool)
    visible[:, : 32 * scale] = True
    hidden = ~visible
    hidden[:, 52 * scale :] = False
    source_yx = np.full((size, size, 2), -1, np.int32)
    places = np.argwhere(np.ones((size, size), bool)).reshape(size, size, 2)
    source_yx[:, 32:52] = places[:, 32:52] - (0, 26)
    image = crop.extract(photo)
    moved = image[:, (np.arange(size) - 26) % size]
    mirrored = np.zeros((size, size), bool)
    weight = (source_yx[..., 0] >= 0).astype(np.float32)
    copied = Copied(image, source_yx, mirrored, weight)
    box, colours = hidden_on_photo(
        Appearance(moved, copied), crop, photo, visible, hidden, Region(0, 0, *photo.shape[:2])
    )
    expected = photo[box.top : box.bottom, box.left - 26 * scale : box.right - 26 * scale]
    error = np.abs(colours.astype(int) - expected)[4:-4, 4:-4]
    assert np.median(error) <= 1 and error.mean() < 2
    plain = hidden_on_photo(Appearance(moved), crop, photo, visible, hidden, Region(0, 0, *photo.shape[:2]))[1]
    assert np.abs(plain.astype(int) - expected).mean() > 10
    # a pixel that is not visible gives no detail, whatever it is
    photo[hidden], blind = 255, photo.copy()
    box, colours = hidden_on_photo(Appearance(moved, copied), crop, blind, visible, hidden, Region(0, 0, 256, 256))
    photo[hidden] = 0
    again = hidden_on_photo(Appearance(moved, copied), crop, photo, visible, hidden, Region(0, 0, 256, 256))[1]
    assert np.array_equal(colours, again)
