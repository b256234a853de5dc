"""What an output was made from, kept in the output itself: so that a changed request is seen, and done again.

A stamp is a short digest of the request, with the ids of the people whom it brought: nobody knows before how many will
be found. Pictures hold it as EXIF's Software, JSON under info, OpenRaster as the archive's comment. A file without one
(written by hand, by an editor, by an earlier version) says nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

_SOFTWARE = 0x0131  # EXIF tag
_WRITTEN = re.compile(r"deocclude, request ([0-9a-f]{16})(?:, people((?: \d+)*))?")


def make_stamp(request: dict[str, Any]) -> str:
    """16 hexadecimal digits of a request given as plain values."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:16]


def file_digest(path: Path) -> str | None:
    """sha256 of a file; None where it cannot be read, which whoever needs the file will say better.

    None of a pipe too, a shell's <(...): what is read here, nobody could read again.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
    except OSError:
        return None


def folder_state(folder: Path) -> list[Any] | None:
    """Names, sizes and times of a folder's files, as plain values: they differ once a file was changed. None of no
    folder."""
    if not folder.is_dir():
        return None
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [[str(path.relative_to(folder)), path.stat().st_size, path.stat().st_mtime_ns] for path in files]


def stamp_text(stamp: str, ids: Sequence[int]) -> str:
    """How a stamp, and the ids of all people of the result, are written into a file."""
    return f"deocclude, request {stamp}, people{''.join(f' {number}' for number in ids)}"


def stamp_exif(stamp: str, ids: Sequence[int]) -> Image.Exif:
    """EXIF that says it and nothing else."""
    exif = Image.Exif()
    exif[_SOFTWARE] = stamp_text(stamp, ids)
    return exif


def read_stamp(path: Path) -> str | None:
    """The stamp of an output; None for a file that has none, or that is nothing of ours."""
    found = _read(path)
    return found[1] if found else None


def read_ids(path: Path) -> list[int] | None:
    """Ids of all people of the result that an output is of; None for a file that does not say."""
    found = _read(path)
    return None if found is None or found[2] is None else [int(number) for number in found[2].split()]


def _read(path: Path) -> re.Match[str] | None:
    try:
        if path.suffix.lower() == ".json":
            text = json.loads(path.read_text(encoding="utf-8"))["info"]["software"]
        elif path.suffix.lower() == ".ora":
            with zipfile.ZipFile(path) as archive:
                text = archive.comment.decode()
        else:
            with Image.open(path) as image:
                # Pillow would decode all of a PNG to look for EXIF behind its pixels; ours stands before them
                text = image.getexif().get(_SOFTWARE) if image.format != "PNG" or "exif" in image.info else None
    except (OSError, SyntaxError, ValueError, KeyError, TypeError, zipfile.BadZipFile, Image.DecompressionBombError):
        return None
    return _WRITTEN.fullmatch(text) if isinstance(text, str) else None
