"""Files of evaluation sets: a folder that appears complete or not at all, its set.json and images."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deocclude.errors import DeoccludeError, InputError, UsageError
from deocclude.imaging.arrays import Array

SET_FILE = "set.json"


def check_target(folder: Path, overwrite: bool) -> None:
    """Raise UsageError unless an evaluation set may be written to this folder."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / SET_FILE).is_file():
        raise UsageError(f"{folder} holds something else than an evaluation set and is left as it is")
    if not overwrite:
        raise UsageError(f"{folder} is an evaluation set already: --overwrite replaces it")


@contextmanager
def new_set(folder: Path, *, overwrite: bool) -> Iterator[Path]:
    """A temporary folder that replaces `folder` at the end and is removed after an error. A link to a folder stays one.

    A set that is overwritten is first moved aside, to the temporary folder's name with ".replaced": it is whole until
    the new one has its place.

    Raises:
        UsageError: the folder is not empty, and either is no evaluation set or `overwrite` is False.
        DeoccludeError: a file cannot be written.
    """
    check_target(folder, overwrite)
    partial: Path | None = None
    try:
        target = folder.resolve()  # "." has no name
        target.parent.mkdir(parents=True, exist_ok=True)
        # A sibling, so that the last step is a rename within one disk.
        partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        yield partial
        partial.chmod(0o755)  # mkdtemp makes it private
        _replace(target, partial)
    except OSError as error:
        raise DeoccludeError(f"cannot write an evaluation set to {folder}: {error.strerror or error}") from error
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)


def _replace(folder: Path, new: Path) -> None:
    """Move a folder to the place of another, which is deleted afterwards; after an error the other is back there."""
    if not folder.exists():
        os.replace(new, folder)
        return
    replaced = new.with_name(f"{new.name}.replaced")
    os.replace(folder, replaced)
    try:
        os.replace(new, folder)
    except OSError:
        os.replace(replaced, folder)
        raise
    shutil.rmtree(replaced)


def write_index(folder: Path, content: dict[str, Any]) -> None:
    """Write set.json; keys keep their order."""
    (folder / SET_FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_picture(path: Path, mode: str, size_hw: tuple[int, ...] | None = None) -> NDArray[np.uint8]:
    """Pixels of an image file, converted to Pillow's `mode`: (H, W, 3) for "RGB", (H, W) for "L".

    Raises InputError, naming the file, where it cannot be read or has not the photo's size (H, W).
    """
    try:
        with Image.open(path) as image:
            array = np.asarray(image.convert(mode))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # what Pillow raises
        raise InputError(f"{path} cannot be read as a picture: {error}") from error
    if size_hw is not None and array.shape[:2] != tuple(size_hw):
        raise InputError(f"{path} must have its photo's size {_hw(size_hw)} (HxW), got {_hw(array.shape[:2])}")
    return array


def _hw(size: tuple[int, ...]) -> str:
    """(H, W) as text, such as "480x640"."""
    return f"{size[0]}x{size[1]}"


def write_picture(path: Path, array: Array) -> None:
    """Write a PNG of (H, W) or (H, W, 3) uint8, or of a bool mask as 0 and 255; its folder is created."""
    pixels = array.astype(np.uint8) * 255 if array.dtype == np.bool_ else array
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, format="PNG", compress_level=4)
