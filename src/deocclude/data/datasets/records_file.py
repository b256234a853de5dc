"""records.jsonl: one photo a line, read and written one at a time."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from deocclude.data.datasets.record import VERSION, PhotoRecord
from deocclude.data.storage import is_url, read_lines
from deocclude.errors import DeoccludeError, InputError, kind_of, shown
from deocclude.io.files import write_whole


def matches(path: Path) -> bool:
    """Whether this is a records file, by its suffix."""
    return path.is_file() and path.suffix == ".jsonl"


def read(path: Path | str) -> Iterator[PhotoRecord]:
    """Records of a file by path or URL, with paths that can be opened. Raises InputError naming file and line."""
    place = str(path)
    folder = place.rpartition("/")[0] if is_url(place) else str(Path(place).parent)
    for number, line in enumerate(read_lines(place), start=1):
        if line.strip():
            yield parse_line(line, f"{place}: line {number}").below(folder)


def splits(path: Path | str) -> Iterator[str | None]:
    """The stated split of each line. Invalid lines are skipped here and reported by `read`."""
    for line in read_lines(str(path)):
        try:
            content = json.loads(line)
        except ValueError:
            continue
        stated = content.get("split") if isinstance(content, dict) else None
        yield stated if isinstance(stated, str) else None


def write(records: Iterable[PhotoRecord], path: Path) -> int:
    """Write records one at a time, with paths relative to the file's folder. The file appears complete or not at all.

    Returns the number of people that this format cannot represent: 0. Raises DeoccludeError where writing fails.
    """
    folder = path.parent.resolve()

    def fill(file: Any) -> None:
        for record in records:
            file.write(record.with_paths(lambda name: relative_to(name, folder)).model_dump_json().encode() + b"\n")

    write_whole(path, fill)
    return 0


def relative_to(name: str, folder: Path) -> str:
    """A path relative to a resolved folder, with forward slashes."""
    try:
        return Path(os.path.relpath(os.path.abspath(name), folder)).as_posix()
    except ValueError as error:  # the paths are on two drives of Windows
        raise DeoccludeError(f"{name} has no path relative to {folder}: write the records to its drive") from error


def parse_line(line: str, where: str) -> PhotoRecord:
    """The record of a line. Raises InputError, naming `where`, for an invalid line."""
    try:
        content = json.loads(line)
    except ValueError as error:
        raise InputError(f"{where}: expected a record, but it is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise InputError(f"{where}: expected a record, an object with version {VERSION}, got {kind_of(content)}")
    if content.get("version") != VERSION:
        raise InputError(f"{where}: expected a record of version {VERSION}, got {shown(content.get('version'))}")
    try:
        return PhotoRecord.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{where}: {key + ': ' if key else ''}{first['msg']}") from error
