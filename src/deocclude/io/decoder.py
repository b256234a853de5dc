"""Pillow's readers of image files, with one error for whatever they raise.

The readers of some forty formats raise errors of any class for damaged files: OSError, SyntaxError, struct.error,
RuntimeError, NotImplementedError and more. Their classes are no contract, so that a list of them is never complete.
"""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections.abc import Iterator
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from deocclude.errors import first_line

_LARGE_PX = 80_000_000  # a little below Pillow's limit: images up to here are decoded without another limit
_limit_lock = threading.Lock()


class DecodeError(Exception):
    """An image file, or its metadata, that Pillow cannot read. The message is the reader's own, on one line."""


class UnknownFormatError(DecodeError):
    """A file that no reader of Pillow recognises."""


def open_image(source: str | os.PathLike[str] | BinaryIO) -> Image.Image:
    """Open an image of any number of pixels; `decode` decodes them.

    Pillow's own limit, which warns on stderr from 89 megapixels on and refuses from 179 on, is not applied: callers
    have their own.

    Args:
        source: a path, or a file that is open for reading bytes and can seek.

    Raises:
        DecodeError: the file cannot be read.
        MemoryError: passed on.
    """
    with reading(), _pillow_limit(None):
        return Image.open(source)


def decode(image: Image.Image) -> None:
    """Decode an opened image of any number of pixels; one with over twice the pixels that it states is damaged.

    Large images are decoded by one thread at a time.

    Raises:
        DecodeError: the pixels cannot be read.
        MemoryError: passed on.
    """
    pixels = image.width * image.height
    with reading(), _pillow_limit(pixels) if pixels > _LARGE_PX else contextlib.nullcontext():
        image.load()


@contextlib.contextmanager
def _pillow_limit(pixels: int | None) -> Iterator[None]:
    """A context with another pixel limit of Pillow. The limit is a global variable: one thread at a time."""
    with _limit_lock:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, pixels
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def quiet_pillow() -> None:
    """Keep Pillow's warnings of damaged metadata off stderr: for the command's own processes, not for a library."""
    warnings.filterwarnings("ignore", module=r"PIL\.")


@contextlib.contextmanager
def reading() -> Iterator[None]:
    """A context for calls of Pillow's readers: any error becomes a DecodeError, except a MemoryError."""
    try:
        yield
    except (DecodeError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise UnknownFormatError("not an image in a known format") from error
    except Exception as error:  # readers raise errors of any class for damaged files
        raise DecodeError(first_line(error)) from error
