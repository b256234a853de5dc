import numpy as np
import pytest

from deocclude.errors import InputError
from deocclude.imaging.crop import MIN_SIDE_PX, Region, SquareCrop


def ramps(height: int, width: int) -> np.ndarray:
    """(H, W, 2) float32: the x and y coordinate of each pixel's centre."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32) + 0.5
    return np.stack([columns, rows], axis=-1)


def test_from_box():
    crop = SquareCrop.from_box_xyxy((10, 20, 50, 40), scale=1.5, size_px=64)
    assert crop == SquareCrop((30, 30), 60, 64)
    assert crop.left_top == (0, 0)
    assert SquareCrop.from_box_xyxy((3, 3, 4, 4), 1.25, 64).side_px == MIN_SIDE_PX
    with pytest.raises(InputError, match="x0 < x1"):
        SquareCrop.from_box_xyxy((10, 20, 10, 40), 1, 64)


@pytest.mark.parametrize("center", [(30, 30), (5, 50), (75, 0), (40, 30)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, bool])
def test_crop_and_paste_round_trip_at_scale_one(center, dtype):
    photo = np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype(np.uint8)
    photo = photo > 127 if dtype is bool else photo.astype(dtype)
    crop = SquareCrop(center, 40, 40)
    region, pixels = crop.to_photo(crop.extract(photo, fill=0), photo.shape[:2])
    assert pixels.dtype == dtype
    assert np.array_equal(pixels, photo[region.slices])
    left, top = center[0] - 20, center[1] - 20
    assert region == Region(max(0, top), max(0, left), min(60, top + 40), min(80, left + 40))


@pytest.mark.parametrize(("side", "size"), [(100, 256), (200, 64), (250.3, 64), (123.4, 128), (290, 16)])
def test_crop_pixels_match_the_geometry(side, size):
    crop = SquareCrop((201.3, 152.2), side, size)
    crop_pixels = crop.extract(ramps(300, 400))
    left, top = crop.left_top
    centres = (np.arange(size) + 0.5) * side / size
    # Where the photo ends a kernel's reach beyond it, so that no fill is mixed in.
    inner = slice(1, -1)
    assert np.allclose(crop_pixels[inner, inner, 0], (left + centres[None])[:, inner], atol=0.15)
    assert np.allclose(crop_pixels[inner, inner, 1], (top + centres[:, None])[inner], atol=0.15)


@pytest.mark.parametrize(("side", "size"), [(100, 256), (200, 64), (250.3, 64), (123.4, 128)])
def test_pasted_pixels_return_to_their_position(side, size):
    photo = ramps(300, 400)
    crop = SquareCrop((201.3, 152.2), side, size)
    region, pixels = crop.to_photo(crop.extract(photo), (300, 400))
    # Half a crop pixel at the window's border has no neighbour to interpolate with.
    edge = int(np.ceil(crop.scale))
    inner = (slice(edge, -edge), slice(edge, -edge))
    assert np.allclose(pixels[inner], photo[region.slices][inner], atol=0.15)


def test_half_pixel_shift_averages_neighbours():
    row = np.zeros((4, 40), np.float32)
    row[:, 10] = 1
    # The window's left edge is at 10.5, 10 and 9.5; the bright pixel covers 10 to 11.
    assert SquareCrop((20.5, 2), 20, 20).extract(row)[9, :3] == pytest.approx([0.5, 0, 0])
    assert SquareCrop((20, 2), 20, 20).extract(row)[9, :3] == pytest.approx([1, 0, 0])
    assert SquareCrop((19.5, 2), 20, 20).extract(row)[9, :3] == pytest.approx([0.5, 0.5, 0])


def test_shrinking_averages_everything():
    photo = np.random.default_rng(1).integers(0, 256, (640, 640), dtype=np.uint8)
    crop_pixels = SquareCrop((320, 320), 640, 8).extract(photo)
    # Each crop pixel is the mean of thousands: a mean of a few pixels would differ from 127 by tens.
    assert np.abs(crop_pixels[1:-1, 1:-1] - 127.0).max() < 4


def test_outside_is_filled_and_edge_blocks_are_weighted_by_area():
    photo = np.full((100, 100, 3), 200, np.uint8)
    crop_pixels = SquareCrop((100, 50), 200, 50).extract(photo, fill=50)
    assert (crop_pixels[14:36, 1:24] == 200).all()
    assert (crop_pixels[14:36, 26:] == 50).all()
    assert (crop_pixels[:11] == 50).all()
    # Blocks that the photo's edge cuts: as much light as the photo has, spread over the window.
    crop_pixels = SquareCrop((51, 47), 203, 17).extract(np.full((100, 100), 1, np.float32))
    assert crop_pixels.mean() == pytest.approx(100 * 100 / 203**2, rel=0.01)


def test_window_that_misses_the_photo():
    crop = SquareCrop((500, 500), 40, 32)
    assert (crop.extract(np.zeros((50, 50, 3), np.uint8), fill=128) == 128).all()
    region, pixels = crop.to_photo(np.ones((32, 32), np.float32), (50, 50))
    assert region.is_empty
    assert pixels.size == 0


def test_within_returns_the_same_values_for_a_part():
    rng = np.random.default_rng(2)
    crop = SquareCrop((70.3, 61.8), 111.7, 32)
    values = rng.random((32, 32)).astype(np.float32)
    region, whole = crop.to_photo(values, (120, 150))
    part = Region(40, 50, 75, 90)
    region_part, pixels = crop.to_photo(values, (120, 150), part)
    assert region_part == part
    shown = whole[part.top - region.top : part.bottom - region.top, part.left - region.left : part.right - region.left]
    assert np.allclose(pixels, shown, atol=1e-5)


def test_strips_join_without_a_seam(monkeypatch):
    crop = SquareCrop((70.3, 61.8), 111.7, 32)
    photo = ramps(120, 150)
    whole = crop.extract(photo), crop.to_photo(photo[:32, :32], (120, 150))[1]
    monkeypatch.setattr("deocclude.imaging.crop._STRIP_PX", 500)
    strips = crop.extract(photo), crop.to_photo(photo[:32, :32], (120, 150))[1]
    for one, many in zip(whole, strips, strict=True):
        assert np.allclose(one, many, atol=1e-4)


def test_a_coarser_grid_covers_the_same_window():
    crop = SquareCrop((32, 32), 64, 64)
    quarters = np.zeros((2, 2), np.float32)
    quarters[0, 1] = 1
    _, pixels = crop.to_photo(quarters, (64, 64))
    assert pixels[8, 56] == 1
    assert pixels[8, 8] == 0
    assert pixels[31, 32] == pytest.approx(0.5 * (1 + 1 / 32) * 0.5 * (1 + 1 / 32), abs=0.02)


def test_inside_photo():
    inside = SquareCrop((0, 2), 8, 4).inside_photo((3, 100))
    # Crop pixel centres: x = -3, -1, 1, 3 and y = -1, 1, 3, 5 in a photo 3 high.
    assert np.array_equal(inside, np.array([[0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]], bool))


def test_crop_boxes_map_back_to_photo_pixels():
    crop = SquareCrop((50, 40), 60, 30)
    assert crop.to_photo_xyxy((0, 0, 30, 30)) == (20, 10, 80, 70)
    assert crop.to_photo_xyxy((5, 10, 6, 11)) == (30, 30, 32, 32)


def test_region_growth_stops_at_the_photo():
    assert Region(1, 2, 5, 6).grow(3, (7, 100)) == Region(0, 0, 7, 9)
    assert Region(0, 0, 4, 4).intersect(Region(4, 0, 8, 4)).is_empty


def test_a_crisp_paste_keeps_more_detail_and_joins_strips(monkeypatch):
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::4] = stripes[:, 1::4] = 200
    crop = SquareCrop((150, 150), 160, 64)
    kept = {}
    for crisp in (False, True):
        region, grown = crop.to_photo(stripes, (300, 300), crisp=crisp)
        kept[crisp] = np.abs(np.diff(crop.extract(grown_in(grown, region)).astype(int), axis=1))[8:-8, 8:-8].mean()
    assert kept[True] > 1.05 * kept[False]
    _, whole = crop.to_photo(stripes, (300, 300), crisp=True)
    monkeypatch.setattr("deocclude.imaging.crop._STRIP_PX", 160 * 7)
    _, stripped = crop.to_photo(stripes, (300, 300), crisp=True)
    assert np.abs(whole.astype(int) - stripped).max() <= 1


def test_extracting_a_crisp_paste_recovers_the_crop():
    """Waves of 8, 4 and 3 crop pixels a period keep their height; a cubic alone leaves 0.94, 0.73 and 0.55 of it."""
    crop = SquareCrop((150, 150), 60 * 4.0, 60)
    for period, least in ((8, 0.98), (4, 0.88), (3, 0.74)):
        wave = np.rint(128 + 60 * np.sin(2 * np.pi * np.arange(60) / period)).astype(np.uint8)
        colours = np.repeat(np.broadcast_to(wave, (60, 60))[..., None], 3, axis=2)
        region, grown = crop.to_photo(colours, (300, 300), crisp=True)
        again = crop.extract(grown_in(grown, region))[4:-4, 4:-4]
        height = again.astype(float).std() / colours[4:-4, 4:-4].std()
        assert least < height < 1.01, period
    flat = np.full((60, 60, 3), 77, np.uint8)
    assert (crop.to_photo(flat, (300, 300), crisp=True)[1] == 77).all()


def grown_in(grown, region):
    picture = np.zeros((300, 300, 3), np.uint8)
    picture[region.slices] = grown
    return picture


@pytest.mark.parametrize("side_px", [40.0, 90.5, 300.0])
def test_extract_within_a_region_equals_that_part_of_the_crop(side_px):
    crop, part = SquareCrop((250.3, 199.8), side_px, 64), Region(10, 20, 50, 33)
    array = ramps(400, 500)
    # to a thirtieth of a crop's pixel: averaged blocks may be counted from elsewhere
    np.testing.assert_allclose(crop.extract(array, within=part), crop.extract(array)[part.slices], atol=crop.scale / 30)


def test_resampling_from_another_crop_covers_only_the_overlap():
    values = np.random.default_rng(3).random((16, 16)).astype(np.float32)
    one = SquareCrop((20.0, 30.0), 32.0, 16)
    assert np.allclose(one.resampled_from(one, values), values, atol=1e-6)
    right = SquareCrop((28.0, 30.0), 32.0, 16)  # 8 pixels of the photo are 4 of the crop
    assert np.allclose(right.resampled_from(one, values)[:, :12], values[:, 4:], atol=1e-6)
    assert not right.resampled_from(one, values)[:, 12:].any()
    assert not SquareCrop((200.0, 30.0), 32.0, 16).resampled_from(one, values).any()
    assert np.allclose(one.resampled_from(one, np.full((16, 16), 0.5, np.float32), 24), 0.5)
