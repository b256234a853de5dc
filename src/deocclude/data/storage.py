"""A folder on a disk or in an object store: complete files are read and written, through fsspec.

A "place" is a path or a URL.
"""

from __future__ import annotations

import io
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deocclude.errors import DeoccludeError, InputError, MissingPackageError, UsageError
from deocclude.io.files import write_whole
from deocclude.io.offline import is_offline

_LOCAL_PROTOCOLS = frozenset({"file", "local", "memory"})  # fsspec's protocols that need no network
# gcsfs logs each error that it raises, with its traceback; without any handler Python prints that on stderr.
logging.getLogger("gcsfs").addHandler(logging.NullHandler())


def is_url(place: str) -> bool:
    """Whether a place is a URL such as s3://bucket/people, not a path."""
    return "://" in place


def join(place: str, name: str) -> str:
    """The path or URL of `name` in the folder `place`; `name` itself if it is a URL or an absolute path."""
    if is_url(name) or not is_url(place):
        return name if is_url(name) else str(Path(place) / name)
    return name if name.startswith("/") else f"{place.rstrip('/')}/{name}"


def read_bytes(place: str) -> bytes:
    """Content of a file on a disk or in an object store. Raises InputError naming it."""
    try:
        if not is_url(place):
            return Path(place).read_bytes()
        fs, path = file_system(place)
        content: bytes = fs.cat_file(path)
        return content
    except OSError as error:
        # errors of object stores have no `strerror`
        reason = error.strerror or ("no such file" if isinstance(error, FileNotFoundError) else error)
        raise InputError(f"{place}: cannot be read: {reason}") from error


def size_of(place: str) -> int | None:
    """Size in bytes of a file on a disk or in an object store; None where it is missing or the store has no size."""
    try:
        if not is_url(place):
            return Path(place).stat().st_size
        fs, path = file_system(place)
        size: int | None = fs.info(path).get("size")
        return size
    except OSError:
        return None


def read_lines(place: str) -> Iterator[str]:
    """Lines of a UTF-8 text file on a disk or in an object store, one at a time. Raises InputError naming it."""
    try:
        if not is_url(place):
            with open(place, encoding="utf-8") as file:
                yield from file
            return
        fs, path = file_system(place)
        with fs.open(path, "rb") as file:
            yield from io.TextIOWrapper(file, encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{place}: cannot be read as a records file: {reason}") from error


class Folder:
    """A folder by path or URL. Written files appear complete or not at all.

    On a disk a complete file is renamed to its name; an object store gives the same guarantee.
    """

    def __init__(self, place: str) -> None:
        """Creates nothing yet. Raises UsageError for a URL that no installed package can open."""
        self.place = place.rstrip("/") if is_url(place) else place
        # fsspec's file system, None on a disk; and the folder's path in it
        self._fs: Any | None
        self._fs, self._root = file_system(self.place) if is_url(place) else (None, place)

    def at(self, name: str) -> str:
        """The path or URL of a file in the folder."""
        return join(self.place, name)

    def has(self, name: str) -> bool:
        """Whether a file of that name exists."""
        return self._fs.isfile(f"{self._root}/{name}") if self._fs else Path(self.place, name).is_file()

    def is_empty(self) -> bool:
        """Whether the folder is empty or does not exist."""
        if self._fs:
            return not self._fs.exists(self._root) or not self._fs.ls(self._root)
        folder = Path(self.place)
        return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))

    def read(self, name: str) -> bytes:
        """A file's content. Raises InputError naming it."""
        return read_bytes(self.at(name))

    def write(self, name: str, content: bytes) -> None:
        """Write a file. Raises DeoccludeError naming it."""
        if self._fs is None:
            write_whole(Path(self.place, name), lambda file: file.write(content))
            return
        try:
            self._fs.makedirs(self._root, exist_ok=True)
            self._fs.pipe_file(f"{self._root}/{name}", content)
        except OSError as error:
            raise DeoccludeError(f"cannot write {self.at(name)}: {error.strerror or error}") from error

    def remove_folder(self, name: str) -> None:
        """Remove a subfolder and its content, where it exists; only on a disk."""
        if self._fs is None:
            shutil.rmtree(Path(self.place, name), ignore_errors=True)

    def remove(self, name: str) -> None:
        """Remove an existing file."""
        if self._fs:
            self._fs.rm_file(f"{self._root}/{name}")
        else:
            Path(self.place, name).unlink()


def file_system(url: str) -> tuple[Any, str]:
    """fsspec's file system of a URL, and the URL's path in it.

    Raises:
        MissingPackageError: the file system needs a package that is not installed.
        UsageError: the URL is invalid, or needs the network in offline mode.
    """
    if is_offline() and url.partition("://")[0] not in _LOCAL_PROTOCOLS:
        raise UsageError(f"{url}: the network is not used with --offline, or DEOCCLUDE_OFFLINE in the environment")
    from fsspec.core import url_to_fs

    try:
        fs_and_path: tuple[Any, str] = url_to_fs(url)
    except ImportError as error:
        raise MissingPackageError(f"{url}: needs another package: {error}") from error
    except ValueError as error:
        raise UsageError(f"{url}: {error}") from error
    return fs_and_path
