"""A folder of whole people as pictures with transparency, without a background."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from deocclude.data.datasets.each_photo import EachPhoto
from deocclude.data.datasets.files import IMAGE_SUFFIXES, image_files
from deocclude.data.datasets.record import PhotoRecord, whole_person
from deocclude.errors import InputError

_OPAQUE = 128  # of 255, as `data.formats` cuts people out


def matches(path: Path) -> bool:
    """Whether a folder has pictures of which the first has transparency."""
    if not path.is_dir():
        return False
    first = min((file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES), default=None)
    try:
        return first is not None and _alpha(first) is not None
    except InputError:
        return False


def read(path: Path) -> Iterator[PhotoRecord]:
    """Every picture as one wholly visible person.

    Raises InputError where there is no picture, and PhotoError naming one that has no person in it, after which the
    next one is read.
    """
    return EachPhoto(image_files(path, "cut-out people"), _record)


def _record(file: Path) -> PhotoRecord:
    alpha = _alpha(file)
    if alpha is None:
        raise InputError(f"{file}: expected a picture with transparency")
    mask = alpha >= _OPAQUE
    if not mask.any():
        raise InputError(f"{file}: the cut-out is wholly transparent")
    height, width = mask.shape
    return PhotoRecord(
        image=str(file),
        size_hw=(height, width),
        source="cutouts",
        id=file.stem,
        has_background=False,
        people=(whole_person("1", mask),),
    )


def _alpha(path: Path) -> np.ndarray | None:
    """(H, W) uint8, 255 = opaque; None for a picture without transparency."""
    try:
        with Image.open(path) as image:
            if "A" not in image.getbands() and "transparency" not in image.info:
                return None
            return np.asarray(image.convert("RGBA").getchannel("A"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: not a readable picture ({str(error).splitlines()[0]})") from error
