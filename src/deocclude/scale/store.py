"""Files in an object store, s3://bucket/name, through fsspec: listed as they are now, written at once or not at all.

Plans hold paths. A URL survives as one: `Path("s3://bucket/a.png")` is `s3:/bucket/a.png`, and `url_of` gives the URL
back.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deocclude.data.storage import file_system
from deocclude.errors import DeoccludeError, MissingExtraError, MissingPackageError

# a scheme has two letters or more, since C: is a drive of Windows
_PATH_OF_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)", re.DOTALL)


class StoreError(DeoccludeError):
    """A file of a store that cannot be listed, read, written or removed."""


def url_of(path: Path) -> str | None:
    """The URL that a path was made from; None for a file on a disk."""
    match = _PATH_OF_URL.fullmatch(path.as_posix())
    if match is None:
        return None
    return f"{match[1]}://{'/' if match[1] in ('file', 'local') else ''}{match[2]}"


def shown(path: Path) -> str:
    """A path as text, a URL as it was given."""
    return url_of(path) or str(path)


def names_below(url: str, *, recursive: bool = True) -> list[str]:
    """The files below a URL, by sorted names relative to it; [""] for the URL of a file, none where nothing is there.

    Asks the store anew: fsspec keeps former listings.

    Raises:
        StoreError: the store does not answer, or refuses.
        MissingPackageError: the package of this kind of store is not installed.
    """
    fs, root = _open(url)
    root = root.rstrip("/")
    with _as_store_error("list", url):
        fs.invalidate_cache()
        try:
            found = fs.find(root, detail=True).values() if recursive else fs.ls(root, detail=True, refresh=True)
        except FileNotFoundError:
            return []
    names = (str(entry["name"]) for entry in found if entry["type"] == "file" and not entry["name"].endswith("/"))
    return sorted(name[len(root) :].lstrip("/") for name in names if name.startswith(root))


def read(url: str) -> bytes:
    """The content of a file. Raises StoreError naming it."""
    fs, path = _open(url)
    with _as_store_error("read", url):
        content: bytes = fs.cat_file(path)
    return content


def write(url: str, content: bytes) -> None:
    """Write a file in one request: a writer that dies leaves the former file or none. Raises StoreError naming it."""
    fs, path = _open(url)
    with _as_store_error("write", url):
        if not _is_object_store(fs):
            fs.makedirs(fs._parent(path), exist_ok=True)
        fs.pipe_file(path, content)


def remove(url: str) -> None:
    """Remove a file; one that is gone already is no error. Raises StoreError naming it."""
    fs, path = _open(url)
    with _as_store_error("remove", url), contextlib.suppress(FileNotFoundError):
        fs.rm_file(path)


def _open(url: str) -> tuple[Any, str]:
    """fsspec's file system of a URL, and the path in it."""
    try:
        return file_system(url)
    except MissingPackageError as error:
        if "s3fs" in str(error):
            raise MissingExtraError(url, "scale") from error
        raise


def _is_object_store(fs: Any) -> bool:
    """Whether files need no folder before them. There a folder is not made: S3 would be asked for its buckets."""
    protocols = fs.protocol if isinstance(fs.protocol, (tuple, list)) else (fs.protocol,)
    return not {"s3", "gs", "gcs", "abfs", "az"}.isdisjoint(protocols)


@contextlib.contextmanager
def _as_store_error(verb: str, url: str) -> Iterator[None]:
    """Turn any error into a StoreError: each kind of store has errors of its own. verb: what failed, such as "read"."""
    try:
        yield
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        if verb == "read" and isinstance(error, FileNotFoundError):
            reason = "no such file"
        raise StoreError(f"cannot {verb} {url}: {' '.join(str(reason).split())}") from error
