"""A folder of RGBA cut-outs: one whole person an image, without a background."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from deocclude.data.datasets.each_photo import EachPhoto
from deocclude.data.datasets.files import IMAGE_SUFFIXES, UNREADABLE, image_files
from deocclude.data.datasets.record import PhotoRecord, whole_person
from deocclude.errors import InputError, first_line

OPAQUE = 128  # least alpha, of 255, of a pixel that belongs to the person


def matches(path: Path) -> bool:
    """Whether a folder has images, the first of which, by name, has transparency."""
    if not path.is_dir():
        return False
    first = min((file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES), default=None)
    try:
        return first is not None and _read_rgba(first) is not None
    except InputError:
        return False


def read(path: Path) -> EachPhoto[Path]:
    """Every image as one wholly visible person.

    Raises:
        InputError: there is no image in the folder.
        PhotoError: an image shows no person or cannot be read; the next image can still be read.
    """
    return EachPhoto(image_files(path, "cut-out people"), _record)


def read_rgba(path: Path) -> np.ndarray:
    """(H, W, 4) uint8 RGBA of a cut-out, alpha 255 = opaque. Raises InputError for an image without transparency."""
    rgba = _read_rgba(path)
    if rgba is None:
        raise InputError(f"{path}: expected an RGBA image")
    return rgba


def opaque_mask(rgba: np.ndarray, path: Path) -> np.ndarray:
    """(H, W) bool: pixels of at least half alpha. Raises InputError, naming `path`, where there is none."""
    mask = rgba[..., 3] >= OPAQUE
    if not mask.any():
        raise InputError(f"{path}: the cut-out is wholly transparent")
    return mask


def _record(file: Path) -> PhotoRecord:
    """The record of an image: one wholly visible person."""
    mask = opaque_mask(read_rgba(file), file)
    height, width = mask.shape
    return PhotoRecord(
        image=str(file),
        size_hw=(height, width),
        source="cutouts",
        id=file.stem,
        has_background=False,
        people=(whole_person("1", mask),),
    )


def _read_rgba(path: Path) -> np.ndarray | None:
    """(H, W, 4) uint8; None for an image without transparency. Raises InputError where it cannot be read."""
    try:
        with Image.open(path) as image:
            if "A" not in image.getbands() and "transparency" not in image.info:
                return None
            return np.asarray(image.convert("RGBA"))
    except UNREADABLE as error:
        raise InputError(f"{path}: not a readable picture ({first_line(error)})") from error
