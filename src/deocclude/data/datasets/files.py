"""Shared by dataset readers: photo sizes, label images, and folder layouts."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from deocclude.data.storage import is_url, read_bytes
from deocclude.errors import InputError, first_line
from deocclude.imaging.arrays import Array, Mask

_log = logging.getLogger(__name__)

# What Pillow raises for files that are damaged, incomplete or too large.
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
_ORIENTATION_TAG = 0x0112
_EXIF_KEYS = {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"}  # of Pillow's `info`
_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations rotated by 90 or 270 degrees


def photo_size_hw(path: Path) -> tuple[int, int]:
    """(H, W) of a photo after EXIF rotation, from its header. Raises InputError naming the file."""
    try:
        with Image.open(require(path, "photo")) as image:
            return upright_size_hw(image)
    except UNREADABLE as error:
        raise InputError(f"{path}: not a readable photo ({first_line(error)})") from error


def upright_size_hw(image: Image.Image) -> tuple[int, int]:
    """(H, W) of an opened image after EXIF rotation."""
    width, height = image.size
    # EXIF is read only where the header announces it: for a PNG without it Pillow would decode the whole image.
    is_sideways = bool(_EXIF_KEYS & set(image.info)) and image.getexif().get(_ORIENTATION_TAG) in _SIDEWAYS
    return (width, height) if is_sideways else (height, width)


def read_labels(path: Path | str, size_hw: tuple[int, int]) -> Array:
    """(H, W) integer labels of a grey or palette image of that size; palette indices, not colours.

    Raises InputError, naming the file, for other images and sizes.
    """
    labels = _pixels(path, size_hw)
    if labels.ndim != 2 or labels.dtype.kind not in "ui":
        got = _pixel_type(labels)
        raise InputError(f"{path}: labels must be whole numbers in a grey or palette picture, got {got}")
    return labels


def read_above_zero(path: Path, size_hw: tuple[int, int]) -> Mask:
    """(H, W) bool: where an image of that size is above 0 in any channel, and not transparent.

    Raises InputError, naming the file, for other sizes and unreadable files.
    """
    values = _pixels(path, size_hw)
    if values.ndim == 2:
        return values > 0
    # the last of 2 or 4 channels is alpha
    colours = values.shape[2] - 1 if values.shape[2] in (2, 4) else values.shape[2]
    return np.asarray((values > 0)[..., :colours].any(axis=2) & (values > 0)[..., colours:].all(axis=2))


def _pixels(path: Path | str, size_hw: tuple[int, int]) -> Array:
    """(H, W) or (H, W, channels) of an image as it is stored, on disk or at a URL. Raises InputError."""
    try:
        file = io.BytesIO(read_bytes(str(path))) if is_url(str(path)) else require(Path(path), "labels")
        with Image.open(file) as image:
            pixels = np.asarray(image)
    except UNREADABLE as error:
        raise InputError(f"{path}: not a readable picture of labels ({first_line(error)})") from error
    if pixels.shape[:2] != tuple(size_hw):
        raise InputError(f"{path}: must have the photo's size {size_hw} (HxW), got {pixels.shape[:2]}")
    return pixels


def _pixel_type(pixels: Array) -> str:
    """The number type of (H, W) pixels, the number of channels of others, for error messages."""
    return f"{pixels.dtype} numbers" if pixels.ndim == 2 else f"{pixels.shape[2]} channels"


def split_folders(root: Path, *subfolders: str) -> list[Path]:
    """Folders that contain all `subfolders`, sorted.

    They are searched at `root`, then one level below, then two; the first level that has any is used.
    """
    for pattern in ("", "*", "*/*"):
        folders = [root] if not pattern else sorted(root.glob(pattern + "/"))
        found = [folder for folder in folders if all((folder / name).is_dir() for name in subfolders)]
        if found:
            return found
    return []


def folder_name(folder: Path) -> str:
    """The name of a folder, also of one that is given as "." or ".."; a link keeps its own name."""
    return Path(os.path.abspath(folder)).name


def require_split_folders(root: Path, what: str, *subfolders: str) -> list[Path]:
    """`split_folders`; raises InputError where there is none. what: name of the dataset in the message."""
    found = split_folders(root, *subfolders)
    if not found:
        raise InputError(f"{root}: not {what}: no folder with {' and '.join(subfolders)} in it")
    return found


def sorted_files(folder: Path, suffix: str) -> Iterator[Path]:
    """Files of a folder with that suffix, sorted by name."""
    return iter(sorted(path for path in folder.iterdir() if path.suffix.lower() == suffix))


def read_id_lists(folder: Path, names: tuple[str, ...]) -> dict[str, str]:
    """The split of each id, from the existing lists `folder`/NAME.txt, one id a line. Raises InputError."""
    splits: dict[str, str] = {}
    for name in names:
        path = folder / f"{name}.txt"
        if path.is_file():
            try:
                lines = path.read_text().splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise InputError(f"{path}: not a readable list of ids ({first_line(error)})") from error
            splits |= {words[0]: name for line in lines if (words := line.split())}
    return splits


def warn_of_left_out(where: Path, names: Iterable[str], what: str) -> None:
    """Warn of files that become no record: their number, `what` they are, and the first by name."""
    found = sorted(names)
    if found:
        _log.warning("%s: %d %s, such as %s", where, len(found), what, found[0])


def warn_of_unlabelled(photos: Path, labels: Path, what: str = "without labels") -> None:
    """Warn of the .jpg photos of a folder that have no .png of their name in `labels`."""
    labelled = {label.stem for label in sorted_files(labels, ".png")}
    unlabelled = (photo.name for photo in sorted_files(photos, ".jpg") if photo.stem not in labelled)
    warn_of_left_out(photos, unlabelled, f"photos left out, {what}")


IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def require(path: Path, what: str) -> Path:
    """`path`; raises InputError where it does not exist. what: its name in the message."""
    if not path.exists():
        raise InputError(f"{what} not found: looked for {path}")
    return path


def image_files(folder: Path, what: str) -> list[Path]:
    """Sorted image files of a folder. Raises InputError where there is none. what: their name in the message."""
    files = sorted(p for p in require(folder, what).iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise InputError(f"{what}: no image ({', '.join(IMAGE_SUFFIXES)}) in {folder}")
    return files


def read_matlab(path: Path, key: str) -> Array:
    """One variable of a .mat file. Raises InputError naming the file."""
    try:
        variable: Array = loadmat(path)[key]
    except (OSError, ValueError, KeyError, TypeError, MatReadError) as error:
        raise InputError(f"{path}: not a readable .mat file with {key} ({type(error).__name__})") from error
    return variable
