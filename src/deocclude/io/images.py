"""Photos and masks in and out of files: upright RGB arrays inside, complete files or none outside."""

from __future__ import annotations

import io
import os
import warnings
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from deocclude.errors import InputError, MissingExtraError, short_name
from deocclude.imaging.arrays import Array, ImageU8, Mask
from deocclude.io.decoder import DecodeError, UnknownFormatError, decode, open_image, reading
from deocclude.io.files import write_whole
from deocclude.io.mask_labels import has_alpha, people_of, upper_half
from deocclude.io.photo_metadata import Metadata, exif_for_tiff, read_metadata

# Largest photo in pixels: a small file can decompress to more memory than a machine has.
MAX_PIXELS = 200_000_000

ImageSource = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image.Image | NDArray[np.uint8]
"""A path, the bytes of a file, a file opened for reading bytes, a Pillow image, or an array."""
MaskSource = ImageSource | Mask
"""A mask: an (H, W) array, or whatever `load_mask` reads."""

_ORIENTATION_TAG = 0x0112  # of EXIF
# Bytes 8 to 11 of a HEIC file.
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})


class Photo(NamedTuple):
    """A photo with what its file says of it.

    Attributes:
        pixels: (H, W, 3) uint8 RGB, upright, read-only.
        icc_profile: ICC profile of the pixels; None: sRGB.
        metadata: EXIF, copyright and resolution.
        name: file name without its folder; "" for an array or bytes.
    """

    pixels: ImageU8
    icc_profile: bytes | None = None
    metadata: Metadata = Metadata()
    name: str = ""


# Formats of Pillow that hold no photo, or that it only recognises and hands on to other programs.
_NO_PHOTOS = frozenset({"BUFR", "EPS", "FITS", "GRIB", "HDF5", "MCIDAS", "MPEG", "WMF"})


@cache
def photo_suffixes() -> frozenset[str]:
    """Suffixes of photos: of every format that Pillow opens, and of HEIC where pillow-heif is installed."""
    has_heif = _register_heif()
    suffixes = Image.registered_extensions()  # loads every plugin
    return frozenset(
        suffix
        for suffix, name in suffixes.items()
        if name in Image.OPEN and name not in _NO_PHOTOS and (has_heif or name != "HEIF")
    )


def can_open(path: Path) -> bool:
    """Whether Pillow recognises a file as a photo, whatever its suffix; its pixels are not read."""
    photo_suffixes()
    try:
        with open_image(path) as image:
            return image.format not in _NO_PHOTOS
    except (DecodeError, MemoryError):
        return False


def load_photo(source: ImageSource | Photo) -> Photo:
    """`load_image` with what output images are saved with: colour profile, EXIF, copyright and resolution.

    The source is read once; a loaded Photo is returned as it is.

    Raises:
        InputError: see `load_image`.
    """
    if isinstance(source, Photo):
        return source
    if isinstance(source, np.ndarray):
        pixels = _check_array(source).copy()
        pixels.flags.writeable = False
        return Photo(pixels)
    image = _open(source)
    upright = _turn_upright(image)
    pixels = np.asarray(_to_rgb(upright))
    pixels.flags.writeable = False
    profile = upright.info.get("icc_profile")
    # bytes 16 to 19 name the profile's colour space: a CMYK or grey profile does not describe RGB pixels
    profile = profile if profile and profile[16:20] == b"RGB " else None
    return Photo(pixels, profile, read_metadata(image), photo_name(source))


def photo_name(source: object) -> str:
    """The file name of a photo without its folder, as far as the source has one; "" otherwise.

    Args:
        source: an ImageSource. Paths have a name, and so have open files and Pillow images of a path.
    """
    if isinstance(source, Image.Image):
        source = getattr(source, "filename", "")  # Pillow sets it where a path was opened
    elif hasattr(source, "read"):
        source = getattr(source, "name", "")  # a number for a file opened by its descriptor
    return Path(source).name if isinstance(source, (str, os.PathLike)) else ""


def load_image(source: ImageSource) -> ImageU8:
    """Load a photo as an upright RGB array.

    EXIF rotation is applied. Grey, palette, CMYK and 16-bit images are converted, transparent ones are composited on
    white, and of an animation the first frame is used.

    Args:
        source: a path, the bytes of a file, a file opened for reading bytes, a Pillow image, or an (H, W, 3) uint8 RGB
            array, which is copied.

    Returns:
        (H, W, 3) uint8 RGB, read-only.

    Raises:
        InputError: the photo cannot be read or has more than MAX_PIXELS pixels; the message names the file.
    """
    return load_photo(source).pixels


def load_mask(source: ImageSource, *, of_full_scale: bool = False, label: int | None = None) -> Mask:
    """Load the mask of one person as an upright array.

    The alpha channel is used where an image has transparency, else the brightness. A pixel is True from half of the
    image's highest value on: 0/255, 0/1 and soft masks are all accepted. `load_masks` reads files of several people.

    Args:
        source: a path, the bytes of a file, a file opened for reading bytes, or a Pillow image.
        of_full_scale: True from half of 255 (of 65535 in 16 bits) on, unless the image holds 0 and 1 alone. A soft mask
            without certain pixels is then empty. Labels are not looked for.
        label: as in `load_masks`.

    Returns:
        (H, W) bool, True = person.

    Raises:
        InputError: see `load_image`; or the file has several people, or it is refused by `load_masks`.
    """
    if of_full_scale:
        return upper_half(_mask_values(open_mask(source)), of_full_scale=True)
    masks = load_masks(source, label=label)
    if len(masks) > 1:
        pixels = ", ".join(f"{np.count_nonzero(mask)}" for mask in masks)
        raise InputError(
            f"{_name_of(source, 'the mask')}: expected the mask of one person, got {len(masks)} people of {pixels} px: "
            "load_masks reads all of them, label=N one"
        )
    return masks[0]


def load_masks(source: ImageSource, *, label: int | None = None) -> list[Mask]:
    """Load the masks of the people that one file marks: a mask as in `load_mask`, or labels.

    Several people: labels 1, 2, 3, ... in a grey or palette image, in the order of the labels; or flat colours on black
    in an RGB image, from left to right. 255 beside smaller labels (the void rim of PASCAL VOC) is ignored. Labels with
    gaps, such as class 15 beside class 2, are refused without `label`; so are grey levels that fill areas, and photos.
    `io/mask_labels.py` has the rules.

    Args:
        source: a path, the bytes of a file, a file opened for reading bytes, or a Pillow image.
        label: the person's label alone: a grey value, a palette index, or the number of a flat colour from the left.

    Returns:
        (H, W) bool masks, True = person. An image without any person gives one empty mask.

    Raises:
        InputError: see `load_image`; or the file is not plainly one mask or one label a person. The message lists the
            labels found with their pixels.
    """
    return people_of(open_mask(source), _name_of(source, "the mask"), label)


def save_image(
    pixels: Array, path: str | Path, palette: ImageU8 | None = None, icc_profile: bytes | None = None,
    exif: Image.Exif | bytes | None = None, dpi: tuple[float, float] | None = None, quality: int | None = None,
) -> Path:  # fmt: skip
    """Save an image in the format of the path's suffix. Missing folders are created; the file is complete or absent.

    Args:
        pixels: (H, W) bool or uint8, (H, W, 3) or (H, W, 4) uint8.
        path: the file.
        palette: (N, 3) uint8 colours, to store (H, W) uint8 as labels.
        icc_profile: colour profile of RGB pixels.
        exif: metadata of the file.
        dpi: horizontal and vertical resolution in pixels per inch.
        quality: of JPEG and WebP, 1 to 100; None: 95.

    Returns:
        The path.

    Raises:
        InputError: a suffix without a format that Pillow writes, or an array that is no image.
        DeoccludeError: the file cannot be written; the message names it.
    """
    path = Path(path)
    file_format = Image.registered_extensions().get(path.suffix.lower())
    if file_format is None or file_format not in Image.SAVE:  # Pillow only opens some formats, such as .psd
        raise InputError(
            f"cannot write {path}: an image name must end in .png, .jpg, .webp or the like, got '{path.suffix}'"
        )
    image = to_image(pixels, palette)
    options = save_options(file_format, icc_profile=icc_profile, exif=exif, dpi=dpi, quality=quality)
    return write_whole(path, lambda file: image.save(file, format=file_format, **options))


def save_options(
    file_format: str,
    *,
    icc_profile: bytes | None = None,
    exif: Image.Exif | bytes | None = None,
    dpi: tuple[float, float] | None = None,
    quality: int | None = None,
) -> dict[str, Any]:
    """Options of Pillow's `save` for a format, such as "JPEG"; the others are as in `save_image`."""
    options: dict[str, Any] = {}
    if file_format == "PNG":
        # Photos hardly shrink at higher levels, and PNG's default level takes seconds at 12 megapixels.
        options["compress_level"] = 1
    elif file_format in ("JPEG", "WEBP"):
        options["quality"] = 95 if quality is None else quality
    if exif and file_format == "TIFF" and isinstance(exif, bytes):
        exif = exif_for_tiff(exif)
    given = {"icc_profile": icc_profile, "exif": exif, "dpi": dpi}
    return options | {name: value for name, value in given.items() if value}


def to_image(pixels: Array, palette: ImageU8 | None = None) -> Image.Image:
    """Convert an array to a Pillow image, as `save_image` saves it.

    Args:
        pixels: (H, W) bool or uint8, (H, W, 3) or (H, W, 4) uint8.
        palette: (N, 3) uint8 colours of labels.

    Raises:
        InputError: another array.
    """
    is_single_channel = pixels.dtype in (np.uint8, np.bool_) and pixels.ndim == 2
    if not (is_single_channel or (pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] in (3, 4))):
        raise InputError(
            f"an image must be (H, W) bool or uint8, or (H, W, 3 or 4) uint8, got {pixels.shape} {pixels.dtype}"
        )
    if pixels.dtype == bool:
        pixels = np.where(pixels, np.uint8(255), np.uint8(0))
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if palette is not None:
        image.putpalette(palette.tobytes())
    return image


def _check_array(array: Array) -> ImageU8:
    """Check a photo array: (H, W, 3) uint8 with at most MAX_PIXELS pixels."""
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise InputError(f"a photo array must be (H, W, 3) uint8 RGB, got {array.shape} {array.dtype}")
    if array.shape[0] * array.shape[1] > MAX_PIXELS:
        raise InputError(_too_large("the photo", array.shape[1], array.shape[0]))
    return array


def _content_of(file: Any) -> bytes:
    """The rest of an open file, from its position on. Raises InputError for a file of text."""
    content = file.read()
    if not isinstance(content, bytes):
        raise InputError(f'a photo\'s file must be opened for bytes, "rb", got one of {type(content).__name__}')
    return content


def _open(source: ImageSource, otherwise: str = "the photo") -> Image.Image:
    """The first frame of an image, decoded, as it is stored. Raises InputError naming the file, or `otherwise`."""
    name = _name_of(source, otherwise)
    try:
        if isinstance(source, Image.Image):
            return _decode(source, name)
        if isinstance(source, (bytes, bytearray, memoryview)):
            return _decode_file(io.BytesIO(source), name)
        if hasattr(source, "read"):
            return _decode_file(io.BytesIO(_content_of(source)), name)
        if not isinstance(source, (str, os.PathLike)):
            raise InputError(
                f"a photo must be a path, bytes, an open file, a Pillow image or an array, got {type(source).__name__}"
            )
        with open(source, "rb") as file:
            # a pipe, such as a shell's <(...), cannot be read twice
            return _decode_file(file if file.seekable() else io.BytesIO(file.read()), name)
    except FileNotFoundError as error:
        raise InputError(f"{name}: no such file") from error
    except IsADirectoryError as error:
        raise InputError(f"{name}: expected an image, got a folder") from error
    except PermissionError as error:
        raise InputError(f"{name}: no permission to read it") from error
    except OSError as error:
        raise InputError(f"{short_name(name)}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # a path with a null byte
        raise InputError(f"{name!r}: not the name of a file: {error}") from error


def stated_size(content: bytes) -> tuple[int, int]:
    """Width and height that an image file states, in pixels; nothing is decoded.

    Raises:
        DecodeError: no reader of Pillow knows the file.
    """
    photo_suffixes()  # registers HEIC where that can be read
    with open_image(io.BytesIO(content)) as image:
        return image.width, image.height


@cache
def _register_heif() -> bool:
    """Make Pillow read HEIC. False where pillow-heif (the extra [heif]) is not installed."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def _decode_file(file: BinaryIO, name: str) -> Image.Image:
    """The first frame of an open image file, decoded. Raises InputError; MissingExtraError: HEIC without [heif]."""
    if file.seek(0, io.SEEK_END) == 0:
        raise InputError(f"{name}: expected an image, got an empty file")
    file.seek(0)
    head = file.read(12)
    file.seek(0)
    is_heic = head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS
    has_heif = is_heic and _register_heif()
    try:
        image = open_image(file)
    except UnknownFormatError as error:
        if is_heic and not has_heif:
            raise MissingExtraError(f"{name}: HEIC", "heif") from error
        raise InputError(f"{name}: {error}") from error
    except DecodeError as error:
        raise InputError(f"{name}: damaged image ({error})") from error
    return _decode(image, name)


def _decode(image: Image.Image, name: str) -> Image.Image:
    """Check an opened image's size and decode its pixels, in place. Raises InputError."""
    width, height = image.size
    if width == 0 or height == 0:
        raise InputError(f"{name}: expected an image with pixels, got {width}x{height}")
    if width * height > MAX_PIXELS:
        raise InputError(_too_large(name, width, height))
    try:
        decode(image)
    except DecodeError as error:
        raise InputError(f"{name}: damaged or truncated image ({error})") from error
    return image


def _turn_upright(image: Image.Image) -> Image.Image:
    """An image rotated by its EXIF, with straight alpha in place of premultiplied grey."""
    upright = _rotated(image)
    # From premultiplied grey (La), Pillow converts to straight grey (LA) and to no other mode.
    return upright.convert("LA") if upright.mode == "La" else upright


def _rotated(image: Image.Image) -> Image.Image:
    """An image rotated by its EXIF; the image itself where its EXIF cannot be read: its pixels are complete."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's warnings of damaged EXIF
        try:
            with reading():
                # exif_transpose copies an image even without a rotation.
                return image if image.getexif().get(_ORIENTATION_TAG, 1) == 1 else ImageOps.exif_transpose(image)
        except DecodeError:
            return image


def _to_rgb(image: Image.Image) -> Image.Image:
    """An image of any mode as 8-bit RGB, transparent pixels on white."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = Image.fromarray(_to_8_bit(np.asarray(image)))
    if has_alpha(image):
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_8_bit(values: Array) -> NDArray[np.uint8]:
    """(H, W) grey values as uint8.

    The values' range is 0 to 65535 for 16 bits, and for 32 bits with a value above 255; 0 to 1 for floats up to 1; else
    0 to 255. Values outside are limited.
    """
    finite = np.nan_to_num(values)
    top = float(finite.max())
    if values.dtype.kind == "f":
        scale = 255.0 if top <= 1 else 1.0
    else:
        scale = 1.0 if values.dtype == np.int32 and top <= 255 else 255 / 65535
    # limited before it is scaled: damaged floats are as large as floats can be
    limited = np.clip(finite.astype(np.float32), 0, 255 / scale) * scale
    grey: NDArray[np.uint8] = np.rint(limited).astype(np.uint8)
    return grey


def open_mask(source: ImageSource) -> Image.Image:
    """The upright Pillow image of a mask file. Raises InputError for an array, and as `load_image`."""
    if isinstance(source, np.ndarray):
        raise InputError("load_mask reads files: pass a mask array to the pipeline directly")
    return _turn_upright(_open(source, "the mask"))


def _mask_values(image: Image.Image) -> Array:
    """(H, W) alpha of an image with transparency, else its brightness."""
    if has_alpha(image):
        alpha = np.asarray(image.convert("RGBA").getchannel("A"))
        if alpha.min() < 255:
            return alpha
    if image.mode == "1":
        return np.asarray(image.convert("L"))
    if image.mode in ("L", "I", "F") or image.mode.startswith("I;16"):
        return np.asarray(image)
    brightness: Array = np.asarray(image.convert("RGB")).max(axis=2)
    return brightness


def _name_of(source: ImageSource, otherwise: str = "the photo") -> str:
    """How error messages call a source: its path, or `otherwise`."""
    has_path = isinstance(source, (str, os.PathLike))
    return str(source) if has_path else otherwise


def _too_large(name: str, width: int, height: int) -> str:
    return f"{name}: {width}x{height} is over the limit of {MAX_PIXELS // 1_000_000} megapixels"
