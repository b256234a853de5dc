"""Photos and masks in and out of files: upright RGB arrays inside, whole files or none outside."""

from __future__ import annotations

import io
import os
import secrets
import struct
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from deocclude.errors import DeoccludeError, InputError

# The largest photo that is opened: a small file can unpack to far more memory than a machine has.
MAX_PIXELS = 200_000_000

ImageSource = str | os.PathLike | bytes | bytearray | memoryview | Image.Image | np.ndarray

# What Pillow's readers raise on files that are cut short or damaged.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, IndexError, KeyError, TypeError, OverflowError)
_ORIENTATION_TAG = 0x0112
_open_lock = threading.Lock()


class Photo(NamedTuple):
    """A photo's pixels, and the ICC profile that says what colours they are; None: sRGB is meant."""

    pixels: ImageU8  # (H, W, 3) uint8, upright, read-only
    icc_profile: bytes | None = None


def load_photo(source: ImageSource) -> Photo:
    """`load_image` with the colour profile, so that what is written can look as the photo does."""
    profile = None
    if isinstance(source, np.ndarray):
        pixels = _check_array(source).copy()
    else:
        image = _open_upright(source)
        pixels = np.asarray(_to_rgb(image))
        profile = image.info.get("icc_profile")
    pixels.flags.writeable = False
    # bytes 16 to 19 name the colours that a profile describes: one of CMYK or grey means nothing for RGB pixels
    return Photo(pixels, profile if profile and profile[16:20] == b"RGB " else None)


def load_image(source: ImageSource) -> np.ndarray:
    """A photo as an upright (H, W, 3) uint8 RGB array, read-only.

    `source`: a path, the bytes of a file, a Pillow image, or an (H, W, 3) uint8 RGB array (copied). EXIF rotation
    is applied; grey, palette, CMYK and 16-bit pictures are converted; a transparent one is laid on white; of an
    animated one the first frame is taken. Raises InputError, naming the file, for what cannot be read or has more
    than MAX_PIXELS pixels.
    """
    return load_photo(source).pixels


def load_mask(source: ImageSource, *, of_full_scale: bool = False) -> np.ndarray:
    """A mask as an upright (H, W) bool array, True = person.

    Of a cut-out with transparency the alpha is taken, of any other picture the brightness; a pixel counts when it
    has at least half of the picture's highest value, so that 0/255, 0/1 and soft masks all read well.
    of_full_scale: half of 255 (65535 in 16 bits) instead, unless the picture holds 0 and 1 alone, so that a soft mask
    that is sure of nothing is empty. Raises InputError as `load_image` does.
    """
    if isinstance(source, np.ndarray):
        raise InputError("load_mask reads files; pass a mask array as it is")
    image = _open_upright(source)
    if _has_alpha(image):
        alpha = np.asarray(image.convert("RGBA").getchannel("A"))
        if alpha.min() < 255:
            return _upper_half(alpha, of_full_scale)
    if image.mode == "1":
        # Pillow's own bool array holds 255 for True, which breaks arithmetic on its bytes.
        return np.asarray(image.convert("L")) > 0
    if image.mode in ("L", "I", "F") or image.mode.startswith("I;16"):
        return _upper_half(np.asarray(image), of_full_scale)
    return _upper_half(np.asarray(image.convert("RGB")).max(axis=2), of_full_scale)


def save_image(
    pixels: ImageU8, path: str | Path, palette: np.ndarray | None = None, icc_profile: bytes | None = None,
    exif: Image.Exif | None = None,
) -> Path:  # fmt: skip
    """Write pixels to `path` in the format of its ending; missing folders are made. Returns the path.

    `pixels`: (H, W) bool or uint8, (H, W, 3) or (H, W, 4) uint8. `palette`: (N, 3) uint8 colours to store (H, W)
    uint8 as labels. `icc_profile`: what colours RGB pixels are. `exif`: what to say of the file. The file
    appears whole or not at all. Raises DeoccludeError, naming the file, when it cannot be written.
    """
    path = Path(path)
    file_format = Image.registered_extensions().get(path.suffix.lower())
    if file_format is None:
        raise InputError(
            f"cannot write {path}: an image name must end in .png, .jpg, .webp or the like, got '{path.suffix}'"
        )
    image = to_image(pixels, palette)
    # Photos hardly shrink with more effort, and at 12 megapixels the default level of PNG takes seconds.
    options = {"PNG": {"compress_level": 1}, "JPEG": {"quality": 95}, "WEBP": {"quality": 95}}.get(file_format, {})
    if icc_profile:
        options["icc_profile"] = icc_profile
    if exif:
        options["exif"] = exif
    return write_whole(path, lambda file: image.save(file, format=file_format, **options))


def to_image(pixels: ImageU8, palette: np.ndarray | None = None) -> Image.Image:
    """What `save_image` writes of these arrays, as a Pillow image. Raises InputError for another array."""
    whole = pixels.dtype in (np.uint8, np.bool_) and pixels.ndim == 2
    if not (whole or (pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] in (3, 4))):
        raise InputError(
            f"a picture must be (H, W) bool or uint8, or (H, W, 3 or 4) uint8, got {pixels.shape} {pixels.dtype}"
        )
    if pixels.dtype == bool:
        pixels = np.where(pixels, np.uint8(255), np.uint8(0))
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if palette is not None:
        image.putpalette(palette.tobytes())
    return image


def save_text(text: str, path: str | Path) -> Path:
    """Write text (UTF-8) to `path`, whole or not at all. Folders and errors as in `save_image`."""
    return write_whole(Path(path), lambda file: file.write(text.encode("utf-8")))


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> Path:
    """Let `write` fill a temporary file, then rename it: beside `path`, since only on one disk renaming is one step."""
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")  # short: a file's name may be as long as names can be
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise DeoccludeError(f"cannot write {path}: {path.parent} is not a folder") from error
        try:
            with open(temporary, "xb") as file:
                write(file)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DeoccludeError(f"cannot write {path}: {reason}") from error
    return path


def _check_array(array: np.ndarray) -> np.ndarray:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise InputError(f"a photo array must be (H, W, 3) uint8 RGB, got {array.shape} {array.dtype}")
    if array.shape[0] * array.shape[1] > MAX_PIXELS:
        raise InputError(_too_large("the photo", array.shape[1], array.shape[0]))
    return array


def _open_upright(source: ImageSource) -> Image.Image:
    """The first frame of a picture, decoded in full and turned as its EXIF says. Raises InputError naming the file."""
    name = "the photo" if isinstance(source, (bytes, bytearray, memoryview, Image.Image)) else str(source)
    try:
        if isinstance(source, Image.Image):
            return _decode(source, name)
        if isinstance(source, (bytes, bytearray, memoryview)):
            return _decode_file(io.BytesIO(source), name)
        if not isinstance(source, (str, os.PathLike)):
            raise InputError(f"a photo must be a path, bytes, a Pillow image or an array, got {type(source).__name__}")
        with open(source, "rb") as file:
            # A pipe, such as a shell's <(...), cannot be read twice.
            return _decode_file(file if file.seekable() else io.BytesIO(file.read()), name)
    except FileNotFoundError as error:
        raise InputError(f"{name}: no such file") from error
    except IsADirectoryError as error:
        raise InputError(f"{name}: expected a picture, got a folder") from error
    except PermissionError as error:
        raise InputError(f"{name}: no permission to read it") from error
    except OSError as error:
        raise InputError(f"{_shortened(name)}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # a path with a null byte
        raise InputError(f"{name!r}: not the name of a file: {error}") from error


def _decode_file(file: BinaryIO, name: str) -> Image.Image:
    if file.seek(0, io.SEEK_END) == 0:
        raise InputError(f"{name}: expected a picture, got an empty file")
    file.seek(0)
    try:
        # Our own limit, checked below, replaces Pillow's: that one warns on stderr from 89 megapixels on.
        with _open_lock:
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                image = Image.open(file)
            finally:
                Image.MAX_IMAGE_PIXELS = limit
    except UnidentifiedImageError as error:
        raise InputError(f"{name}: not a picture in a known format") from error
    except _DAMAGED as error:
        raise InputError(f"{name}: damaged picture ({_one_line(error)})") from error
    return _decode(image, name)


def _decode(image: Image.Image, name: str) -> Image.Image:
    width, height = image.size
    if width == 0 or height == 0:
        raise InputError(f"{name}: expected a picture with pixels, got {width}x{height}")
    if width * height > MAX_PIXELS:
        raise InputError(_too_large(name, width, height))
    try:
        image.load()
    except (*_DAMAGED, Image.DecompressionBombError) as error:
        raise InputError(f"{name}: damaged or cut short picture ({_one_line(error)})") from error
    upright = _turn_upright(image)
    # Pillow turns premultiplied grey into nothing but straight grey.
    return upright.convert("LA") if upright.mode == "La" else upright


def _turn_upright(image: Image.Image) -> Image.Image:
    """The picture as its EXIF says; as it is where that cannot be read, since the pixels are whole."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of half-broken EXIF
        try:
            # exif_transpose copies a photo even when there is nothing to turn.
            return image if image.getexif().get(_ORIENTATION_TAG, 1) == 1 else ImageOps.exif_transpose(image)
        except _DAMAGED:
            return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = Image.fromarray(_to_8_bit(np.asarray(image)))
    if _has_alpha(image):
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_8_bit(values: Float32) -> np.ndarray:
    """Grey values of 16 bits (or 32 that hold 16), or floats from 0 to 1, as uint8."""
    top = float(values.max())
    if values.dtype.kind == "f":
        scale = 255.0 if top <= 1 else 1.0
    else:
        scale = 1.0 if values.dtype == np.int32 and top <= 255 else 255 / 65535
    return np.rint(np.clip(np.nan_to_num(values.astype(np.float32)) * scale, 0, 255)).astype(np.uint8)


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in image.info


def _upper_half(values: Float32, of_full_scale: bool) -> np.ndarray:
    top = values.max()
    if top <= 0:
        return np.zeros(values.shape, dtype=bool)
    if of_full_scale and top > 1:
        top = 255 if top <= 255 else 65535
    return values >= (top / 2 if values.dtype.kind == "f" else (int(top) + 1) // 2)


def _too_large(name: str, width: int, height: int) -> str:
    return f"{name}: {width}x{height} is over the limit of {MAX_PIXELS // 1_000_000} megapixels"


def _shortened(name: str) -> str:
    return name if len(name) <= 300 else f"{name[:100]}...{name[-50:]}"


def _one_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
