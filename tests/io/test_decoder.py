"""Whatever Pillow's readers raise is one error of one line, and its warnings and limit stay out of the way."""

import warnings

import numpy as np
import pytest
from PIL import Image

from deocclude.errors import InputError
from deocclude.io import decoder
from deocclude.io.decoder import DecodeError, UnknownFormatError, open_image, quiet_pillow, reading
from deocclude.io.images import can_open, load_image, load_masks, save_image
from deocclude.io.request_stamp import is_whole, read_stamp, stamp_exif

STAMP = "0123456789abcdef"


@pytest.fixture
def written(tmp_path):
    """A TIFF with a stamp, which is whole."""
    return save_image(np.full((20, 30, 3), 200, np.uint8), tmp_path / "photo.tif", exif=stamp_exif(STAMP, [1]))


# What Pillow's plugins for DDS, AVIF and others raise for damaged files.
RAISED = [RuntimeError("frame 0"), NotImplementedError("format 7"), AttributeError("size"), ZeroDivisionError()]


@pytest.mark.parametrize("raised", RAISED, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("step", ["open", "load"])
def test_any_error_of_a_reader_is_a_damaged_photo(written, monkeypatch, raised, step):
    def fail(*_, **__):
        raise raised

    assert read_stamp(written) == STAMP and is_whole(written) and can_open(written)
    monkeypatch.setattr(*((Image, "open", fail) if step == "open" else (Image.Image, "load", fail)))
    monkeypatch.setattr("PIL.TiffImagePlugin.TiffImageFile.load", fail)
    for read in (load_image, load_masks):
        with pytest.raises(InputError, match=rf"photo\.tif: damaged .*\({str(raised) or 'ZeroDivisionError'}\)$"):
            read(written)
    assert not is_whole(written)
    assert can_open(written) == (step == "load")
    assert read_stamp(written) == (None if step == "open" else STAMP)


def test_want_of_memory_is_no_damage(written, monkeypatch):
    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr("PIL.TiffImagePlugin.TiffImageFile.load", fail)
    with pytest.raises(MemoryError):
        load_image(written)
    assert not is_whole(written)  # the photo is then done again, and says what is wrong
    monkeypatch.setattr(Image, "open", fail)
    assert read_stamp(written) is None and not can_open(written)


def test_errors_are_one_line_and_unknown_formats_their_own_kind(tmp_path):
    with pytest.raises(DecodeError, match=r"^first$"), reading():
        raise OSError("first\nsecond")
    text = tmp_path / "text.png"
    text.write_text("no image")
    with pytest.raises(UnknownFormatError, match=r"^not an image in a known format$"):
        open_image(text)


def test_outputs_of_large_photos_are_recognised_without_a_warning(written, monkeypatch):
    # Pillow warns above its limit and refuses twice as much: a photo of 600 pixels is far above this one
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    monkeypatch.setattr(decoder, "_LARGE_PX", 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_stamp(written) == STAMP
        assert is_whole(written) and can_open(written)
        assert load_image(written).shape == (20, 30, 3)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_warnings_of_pillow_alone_are_hidden():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        quiet_pillow()
        for module in ("PIL.TiffImagePlugin", "numpy"):
            warnings.warn_explicit(f"from {module}", UserWarning, f"{module}.py", 1, module=module)
    assert [str(one.message) for one in seen] == ["from numpy"]
