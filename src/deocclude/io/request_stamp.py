"""Request stamps: outputs hold a digest of their request, so that a changed request is done again.

A stamp is a short digest of the request, with the ids of the people of the result: before detection their number is
unknown. Images hold it as EXIF's Software, JSON under `info`, OpenRaster as the archive's comment. A file without a
stamp (written by hand, by an editor, by another program) is not ours and is never replaced unasked.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from deocclude.io.decoder import DecodeError, decode, open_image, reading

SOFTWARE = 0x0131  # EXIF tag: the program that wrote a file
# Text of `stamp_text`: the stamp and the ids; files of the first versions lack the ids.
_STAMP_TEXT = re.compile(r"deocclude, request ([0-9a-f]{16})(?:, people((?: \d+)*))?")

# Errors of files that are no output: of images, JSON and OpenRaster. Deeply nested JSON is a RecursionError.
_UNREADABLE = (
    OSError, ValueError, RecursionError, NotImplementedError, MemoryError, zipfile.BadZipFile, DecodeError,
)  # fmt: skip


def make_stamp(request: dict[str, Any]) -> str:
    """16 hexadecimal digits of a request of plain values."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:16]


def file_digest(path: Path) -> str | None:
    """sha256 of a file's contents.

    Returns:
        None where the file cannot be read; the later use of the file reports the error. None for a pipe, such as a
        shell's <(...): it can be read once only.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
    except OSError:
        return None


def folder_state(folder: Path) -> list[Any] | None:
    """Names, sizes and times of a folder's files, as plain values that change with the files.

    Returns:
        None where there is no such folder.
    """
    if not folder.is_dir():
        return None
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [[str(path.relative_to(folder)), path.stat().st_size, path.stat().st_mtime_ns] for path in files]


def stamp_text(stamp: str, ids: Sequence[int]) -> str:
    """The text that a file holds: the stamp and the ids of all people of the result."""
    return f"deocclude, request {stamp}, people{''.join(f' {number}' for number in ids)}"


def is_stamp(text: str) -> bool:
    """Whether a text is that of `stamp_text`, of this or of an earlier version."""
    return _STAMP_TEXT.fullmatch(text) is not None


def stamp_exif(stamp: str, ids: Sequence[int]) -> Image.Exif:
    """EXIF that holds the stamp's text alone."""
    exif = Image.Exif()
    exif[SOFTWARE] = stamp_text(stamp, ids)
    return exif


def read_stamp(path: Path) -> str | None:
    """The stamp of an output; None for a file without a stamp."""
    found = _match_stamp(path)
    return found[1] if found else None


def read_ids(path: Path) -> list[int] | None:
    """Ids of all people of the result that an output belongs to; None for a file without them."""
    found = _match_stamp(path)
    return None if found is None or found[2] is None else [int(number) for number in found[2].split()]


def is_whole(path: Path) -> bool:
    """Whether an output's file reaches its end: a copy that was cut off is to be done again.

    Checked is the mark that each format ends with, not every byte before it.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(12)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 12))
            tail = file.read()
    except OSError:
        return False
    if head.startswith(b"\x89PNG"):
        return tail[4:8] == b"IEND"
    if head.startswith(b"\xff\xd8"):
        return tail.endswith(b"\xff\xd9")
    if head.startswith(b"RIFF"):
        return size >= int.from_bytes(head[4:8], "little") + 8
    return _can_be_read(path)  # JSON, OpenRaster and TIFF have no such mark: they are read


def _can_be_read(path: Path) -> bool:
    """Whether the reader of an output's format reads the file to its end."""
    try:
        _READ.get(path.suffix.lower(), _decode_picture)(path)
    except _UNREADABLE:
        return False
    return True


def _software_of_json(path: Path) -> str | None:
    """The text that says which program wrote a JSON file, where it is a stamp's."""
    # searched as text, not parsed: the stamp of a file that was cut off after it is found too
    found = re.search(rf'"software": "({_STAMP_TEXT.pattern})"', path.read_text(encoding="utf-8"))
    return found[1] if found else None


def _software_of_openraster(path: Path) -> str:
    """The comment of an OpenRaster file, which holds the stamp's text."""
    with zipfile.ZipFile(path) as archive:
        return archive.comment.decode()


def _software_of_picture(path: Path) -> str | None:
    """EXIF's Software of an image file, which holds the stamp's text."""
    with reading(), open_image(path) as image:
        # a PNG holds the stamp before its pixels; to look for EXIF behind them, Pillow would decode it all
        return image.getexif().get(SOFTWARE) if image.format != "PNG" or "exif" in image.info else None


def _decode_picture(path: Path) -> None:
    with open_image(path) as image:
        decode(image)


# For output kinds that are no pictures, by suffix: what reads the stamp's text, and what fails on a cut-off file.
_SOFTWARE_OF: dict[str, Callable[[Path], str | None]] = {
    ".json": _software_of_json, ".ora": _software_of_openraster,
}  # fmt: skip
_READ: dict[str, Callable[[Path], object]] = {
    ".json": lambda path: json.loads(path.read_text(encoding="utf-8")),
    ".ora": lambda path: zipfile.ZipFile(path).close(),  # its list of files is its end
}


def _match_stamp(path: Path) -> re.Match[str] | None:
    """The match of _STAMP_TEXT in an output: stamp and ids are its groups 1 and 2; None for a file without a stamp."""
    try:
        text = _SOFTWARE_OF.get(path.suffix.lower(), _software_of_picture)(path)
    except _UNREADABLE:
        return None
    return _STAMP_TEXT.fullmatch(text) if isinstance(text, str) else None
