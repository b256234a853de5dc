import io
import os
import stat
import sys
import threading
import warnings

import numpy as np
import pytest
from PIL import Image, ImageCms

from deocclude.errors import DeoccludeError, InputError
from deocclude.io import images
from deocclude.io.decoder import DecodeError
from deocclude.io.files import save_text
from deocclude.io.images import load_image, load_mask, load_photo, save_image


@pytest.fixture
def picture() -> np.ndarray:
    """(30, 40, 3) uint8 with a red top left corner."""
    photo = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    photo[:10, :10] = (255, 0, 0)
    return photo


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def test_every_kind_of_source_gives_the_same_pixels(picture, tmp_path):
    path = save_image(picture, tmp_path / "photo.png")
    for source in (path, str(path), path.read_bytes(), memoryview(path.read_bytes()), Image.open(path), picture):
        photo = load_image(source)
        assert np.array_equal(photo, picture)
        assert photo.dtype == np.uint8
        assert not photo.flags.writeable


def test_an_array_is_copied(picture):
    photo = load_image(picture)
    picture[:] = 0
    assert photo.any()


@pytest.mark.parametrize(("orientation", "corner"), [(1, (0, 0)), (3, (-1, -1)), (6, (0, -1)), (8, (-1, 0))])
def test_exif_rotation_is_applied(picture, orientation, corner):
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = load_image(encoded(Image.fromarray(picture), "PNG", exif=exif))
    assert photo.shape[:2] == ((30, 40) if orientation in (1, 3) else (40, 30))
    assert tuple(photo[corner]) == (255, 0, 0)


def test_grey_palette_and_cmyk():
    grey = np.full((5, 6), 77, np.uint8)
    assert (load_image(encoded(Image.fromarray(grey), "PNG")) == 77).all()
    palette = Image.fromarray(np.ones((5, 6), np.uint8))
    palette.putpalette([0, 0, 0, 9, 8, 7])
    assert tuple(load_image(encoded(palette, "PNG"))[0, 0]) == (9, 8, 7)
    cmyk = Image.new("CMYK", (6, 5), (0, 255, 255, 0))
    assert np.abs(load_image(encoded(cmyk, "TIFF"))[0, 0].astype(int) - (255, 0, 0)).max() < 3
    assert load_image(encoded(cmyk, "JPEG")).shape == (5, 6, 3)


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "HSV", "I", "F"]
)
def test_every_mode_of_pillow_is_read(mode):
    # Pillow reaches premultiplied grey by way of grey with alpha alone.
    picture = Image.new("RGB", (6, 5), "white").convert("LA" if mode == "La" else mode).convert(mode)
    photo = load_image(picture)
    assert photo.shape == (5, 6, 3) and photo.min() >= 253


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 257, 65535]], np.uint16), [0, 1, 255]),
        (np.array([[0, 128, 255]], np.int32), [0, 128, 255]),
        (np.array([[0, 257 * 9, 65535]], np.int32), [0, 9, 255]),
        (np.array([[0, 0.2, 1]], np.float32), [0, 51, 255]),
    ],
)
def test_high_bit_depth_grey_is_scaled_to_eight_bits(values, expected):
    photo = load_image(encoded(Image.fromarray(values), "TIFF"))
    assert photo[0, :, 0].tolist() == expected
    assert (photo == photo[..., :1]).all()


def test_transparency_is_composited_on_white():
    rgba = np.zeros((1, 3, 4), np.uint8)
    rgba[0, :, 3] = (0, 51, 255)
    assert load_image(encoded(Image.fromarray(rgba), "PNG"))[0, :, 0].tolist() == [255, 204, 0]


def test_first_frame_of_an_animation(picture):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    photo = load_image(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert tuple(photo[0, 0]) == (255, 0, 0)


def test_error_names_the_damaged_file(picture, tmp_path):
    whole = encoded(Image.fromarray(picture), "PNG")
    cases = {
        "cut.png": (whole[: len(whole) // 2], "damaged"),
        "noise.jpg": (os.urandom(500), "not an image"),
        "empty.png": (b"", "empty file"),
        "text.png": (b"hello", "not an image"),
        "cut.jpg": (encoded(Image.fromarray(picture), "JPEG")[:300], "damaged"),
    }
    for name, (content, words) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=words) as caught:
            load_image(tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.png: no such file"):
        load_image(tmp_path / "nowhere.png")
    with pytest.raises(InputError, match="got a folder"):
        load_image(tmp_path)
    with pytest.raises(InputError, match="got int"):
        load_image(7)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"x\.png: cannot be read: Not a directory"):
        load_image(tmp_path / "file" / "x.png")
    with pytest.raises(InputError, match="cannot be read: File name too long") as raised:
        load_image("a" * 5000 + ".png")
    assert len(str(raised.value)) < 300
    with pytest.raises(InputError, match=r"'a\\x00\.png': not the name of a file"):
        load_image("a\0.png")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes of POSIX")
def test_a_pipe_is_read(picture, tmp_path):
    content = encoded(Image.fromarray(picture), "PNG")
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(content,))
    writer.start()
    np.testing.assert_array_equal(load_image(tmp_path / "pipe"), picture)
    writer.join()


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 4), (0, 4, 3)])
def test_arrays_of_another_shape_are_refused(shape):
    with pytest.raises(InputError, match=r"\(H, W, 3\) uint8"):
        load_image(np.zeros(shape, np.uint8))


def test_float_arrays_are_refused():
    with pytest.raises(InputError, match="float64"):
        load_image(np.zeros((4, 4, 3)))


def test_pixel_limit(picture, monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 1000)
    for source in (picture, Image.fromarray(picture), encoded(Image.fromarray(picture), "PNG")):
        with pytest.raises(InputError, match="40x30 is over the limit"):
            load_image(source)


def test_decompression_bomb_is_refused_before_decoding():
    bomb = bytearray(encoded(Image.new("L", (8, 8)), "BMP"))
    bomb[18:26] = (30_000).to_bytes(4, "little") * 2
    limit = Image.MAX_IMAGE_PIXELS
    with pytest.raises(InputError, match="30000x30000 is over the limit of 200 megapixels"):
        load_image(bytes(bomb))
    assert limit == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("scale", [1, 255, 38])
def test_masks_with_any_top_value(scale):
    values = np.zeros((6, 7), np.uint8)
    values[2:4, 3:6] = scale
    assert np.array_equal(load_mask(encoded(Image.fromarray(values), "PNG")), values > 0)


def test_error_of_a_mask_without_a_path_is_of_the_mask():
    with pytest.raises(InputError, match=r"^the mask: expected an image, got an empty file"):
        load_mask(b"")


def test_soft_mask_is_thresholded_at_half():
    values = np.array([[0, 127, 128, 255]], np.uint8)
    assert load_mask(encoded(Image.fromarray(values), "PNG")).tolist() == [[False, False, True, True]]


@pytest.mark.parametrize(
    ("values", "counts"),
    [
        (np.array([[0, 76, 127]], np.uint8), [False, False, False]),
        (np.array([[0, 127, 128]], np.uint8), [False, False, True]),
        (np.array([[0, 1, 1]], np.uint8), [False, True, True]),
        (np.array([[0, 32767, 32768]], np.uint16), [False, False, True]),
    ],
)
def test_full_scale_mask_is_thresholded_at_half_of_the_range(values, counts):
    assert load_mask(encoded(Image.fromarray(values), "PNG"), of_full_scale=True).tolist() == [counts]


def test_masks_from_cutout_palette_and_one_bit_images():
    rgba = np.full((3, 4, 4), 255, np.uint8)
    rgba[:, :2, 3] = 0
    expected = rgba[..., 3] > 0
    assert np.array_equal(load_mask(encoded(Image.fromarray(rgba), "PNG")), expected)
    palette = Image.fromarray(expected.astype(np.uint8))
    palette.putpalette([0, 0, 0, 128, 0, 0])
    assert np.array_equal(load_mask(encoded(palette, "PNG")), expected)
    one_bit = load_mask(encoded(Image.fromarray(expected), "PNG"))
    assert np.array_equal(one_bit, expected)
    assert one_bit.view(np.uint8).max() == 1
    assert not load_mask(encoded(Image.new("L", (4, 3)), "PNG")).any()


@pytest.mark.parametrize("shape", [(9, 8), (9, 8, 3), (9, 8, 4)])
def test_saved_png_round_trip(tmp_path, shape):
    pixels = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    path = save_image(pixels, tmp_path / "new" / "folder" / "x.png")
    assert np.array_equal(np.asarray(Image.open(path)), pixels)


def test_palette_png_keeps_label_numbers(tmp_path):
    labels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    colours = np.arange(36, dtype=np.uint8).reshape(12, 3)
    with Image.open(save_image(labels, tmp_path / "x.png", palette=colours)) as image:
        assert image.mode == "P"
        assert np.array_equal(np.asarray(image), labels)
        assert tuple(np.asarray(image.convert("RGB"))[0, 1]) == (3, 4, 5)


def test_failed_write_keeps_only_the_old_file(tmp_path):
    path = tmp_path / "x.jpg"
    path.write_bytes(b"old")
    with pytest.raises(DeoccludeError, match="cannot write"):
        save_image(np.zeros((4, 4, 4), np.uint8), path)  # JPEG has no transparency
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_unwritable_targets(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "x.png", tmp_path / "dir.png"):
        (tmp_path / "dir.png").mkdir(exist_ok=True)
        with pytest.raises(DeoccludeError, match=f"cannot write {path}"):
            save_image(np.zeros((4, 4), np.uint8), path)
    for name in ("x.xyz", "x.psd"):  # an unknown format, and one that Pillow only opens
        with pytest.raises(InputError, match=f"must end in .*, got '{name[1:]}'"):
            save_image(np.zeros((4, 4), np.uint8), tmp_path / name)


def test_new_files_have_the_usual_permissions(tmp_path):
    (tmp_path / "plain").write_text("")
    path = save_text("é", tmp_path / "x.json")
    assert path.read_text(encoding="utf-8") == "é"
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def test_rgb_colour_profile_is_kept(tmp_path):
    profile = srgb_profile()
    Image.new("RGB", (4, 4), "red").save(tmp_path / "red.jpg", icc_profile=profile)
    pixels, kept, _, name = load_photo(tmp_path / "red.jpg")
    assert name == "red.jpg" and kept == profile
    assert pixels.shape == (4, 4, 3) and not pixels.flags.writeable
    for name in ("copy.png", "copy.jpg", "copy.webp", "copy.tif"):
        with Image.open(save_image(pixels, tmp_path / name, icc_profile=kept)) as copy:
            assert copy.info["icc_profile"] == profile, name
    of_inks = profile[:16] + b"CMYK" + profile[20:]
    Image.new("CMYK", (4, 4)).save(tmp_path / "inks.jpg", icc_profile=of_inks)
    assert load_photo(tmp_path / "inks.jpg").icc_profile is None
    assert load_photo(np.zeros((2, 2, 3), np.uint8)).icc_profile is None


@pytest.mark.parametrize("file_format", ["PNG", "JPEG"])
def test_unreadable_exif_is_ignored(picture, file_format, recwarn):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, file_format, exif=b"Exif\0\0garbage")
    assert load_image(file.getvalue()).shape == picture.shape
    assert not recwarn.list


def test_longest_file_name_is_accepted(tmp_path, picture):
    path = tmp_path / ("x" * 251 + ".png")
    assert np.array_equal(load_image(save_image(picture, path)), picture)


def test_invalid_pixel_arrays_are_not_written(tmp_path):
    for pixels in (np.zeros((4, 4)), np.zeros((4, 4, 2), np.uint8), np.zeros((4, 4, 3), bool)):
        with pytest.raises(InputError, match=r"an image must be \(H, W\) bool or uint8"):
            save_image(pixels, tmp_path / "a.png")
    assert not any(tmp_path.iterdir())


def test_floats_that_are_no_numbers_or_too_large_leave_the_others(tmp_path):
    values = np.full((4, 5), 0.5, np.float32)
    values[0, :3] = np.nan, np.inf, 1e38
    path = tmp_path / "floats.tif"
    Image.fromarray(values[:, :1]).save(path)
    assert load_image(path)[:, 0, 0].tolist() == [0, 128, 128, 128]  # NaN is black, the scale is that of the others
    Image.fromarray(values).save(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_image(path)[0, :3, 0].tolist() == [0, 255, 255]


@pytest.mark.parametrize("suffix", ["PNG", "JPEG", "HEIF"])
def test_stated_size_is_read_from_the_header(suffix, monkeypatch):
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    content = encoded(Image.new("RGB", (40, 24)), suffix)
    if suffix == "HEIF":  # as in a process that has read none yet
        monkeypatch.delitem(Image.OPEN, "HEIF")
        monkeypatch.setattr(Image, "ID", [name for name in Image.ID if name != "HEIF"])
        images.photo_suffixes.cache_clear()
        images._register_heif.cache_clear()
    assert images.stated_size(content) == (40, 24)
    with pytest.raises(DecodeError):
        images.stated_size(b"no image")


def test_stated_size_keeps_no_photo_in_memory():
    content = encoded(Image.new("RGB", (40, 24)), "PNG")
    before = sys.getrefcount(content)
    images.stated_size(content)
    assert sys.getrefcount(content) == before
