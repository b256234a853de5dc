"""Files on disk: complete or absent, several of them together or none, links and pipes kept."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import BinaryIO

from deocclude.errors import DeoccludeError

try:
    import fcntl
    import resource
except ImportError:  # Windows, where an open file cannot be removed anyway
    fcntl = resource = None  # type: ignore[assignment]

# Temporary names are short, and not derived from the file's name, which may have the longest allowed length.
_TEMPORARY = re.compile(r"\.deocclude-[0-9a-f]{8}\.tmp")

# Enough for every output of a photo of 100 people. macOS allows no more, but begins with 256, Linux often with 1,024.
_MOST_OPEN_FILES = 10_240

_staged: ContextVar[list[tuple[BinaryIO, Path, Path]] | None] = ContextVar("_staged", default=None)
"""Finished temporary files that wait for `all_or_none`: each open file, its path, and the path that it will have."""


def save_text(text: str, path: str | Path) -> Path:
    """Save text as UTF-8. Missing folders are created; the file is complete or absent.

    Raises:
        DeoccludeError: the file cannot be written; the message names it.
    """
    return write_whole(Path(path), lambda file: file.write(text.encode("utf-8")))


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> Path:
    """Write a file completely or not at all: `write` fills a temporary file beside `path`, which is then renamed.

    A link stays a link: its target is written. A pipe or device is written into.

    Raises:
        DeoccludeError: the file cannot be written; the message names it.
    """
    try:
        target = Path(os.path.realpath(path)) if path.is_symlink() else path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise DeoccludeError(f"cannot write {path}: {target.parent} is not a folder") from error
        if target.exists() and not target.is_file() and not target.is_dir():
            _write_into(target, write)
        else:
            _write_beside(target, write)
    except (OSError, ValueError) as error:
        raise DeoccludeError(f"cannot write {path}: {_reason(error)}") from error
    return path


@contextlib.contextmanager
def all_or_none() -> Iterator[None]:
    """Files that `write_whole` writes in this context appear together at its end; after an error, none of them does.

    Former files keep their content after an error.

    Raises:
        DeoccludeError: a file cannot be put into its place; the message names it.
    """
    staged: list[tuple[BinaryIO, Path, Path]] = []
    token = _staged.set(staged)
    try:
        yield
        for file, temporary, path in staged:
            try:
                _put(file, temporary, path)
                file.close()
            except OSError as error:
                raise DeoccludeError(f"cannot write {path}: {_reason(error)}") from error
    finally:
        _staged.reset(token)
        for file, temporary, _ in staged:
            _discard(file, temporary)


def sweep(folder: Path) -> int:
    """Remove temporary files that killed runs left in a folder; those of a running process are locked and stay.

    Returns:
        The number of removed files.
    """
    removed = 0
    try:
        strays = [path for path in folder.iterdir() if _TEMPORARY.fullmatch(path.name)]
    except OSError:  # no such folder yet, or one that cannot be read: writing into it will say so
        return 0
    for path in strays:
        with contextlib.suppress(OSError):  # locked, or removed by another run
            with open(path, "rb") as file:
                _lock(file)
                path.unlink()
            removed += 1
    return removed


def _write_beside(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Fill a temporary file and rename it, at once or at the end of `all_or_none`."""
    file, temporary = _open_temporary(path.parent)
    staged = _staged.get()
    try:
        write(file)
        file.flush()
        if staged is None:
            _put(file, temporary, path)
        elif path.is_dir():
            raise IsADirectoryError(None, "is a folder")
    except BaseException:
        _discard(file, temporary)
        raise
    if staged is None:
        file.close()
    else:
        staged.append((file, temporary, path))


def _discard(file: BinaryIO, temporary: Path) -> None:
    """Close a temporary file and remove it, where it has not got its path."""
    with contextlib.suppress(OSError):  # on a full disk, what its buffer holds cannot be written either
        file.close()
    temporary.unlink(missing_ok=True)


def _put(file: BinaryIO, temporary: Path, path: Path) -> None:
    """Rename a finished temporary file to its path. It stays locked until then, where open files can be renamed."""
    if fcntl is None:
        file.close()
    os.replace(temporary, path)


def _write_into(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write into a pipe or device, which cannot be renamed and cannot seek."""
    with io.BytesIO() as content:
        write(content)
        with open(path, "wb") as file:
            file.write(content.getbuffer())


def _open_temporary(folder: Path) -> tuple[BinaryIO, Path]:
    """A new, locked file in a folder, and its path. Another run that sweeps sees it unlocked for a moment only."""
    while True:
        path = folder / f".deocclude-{secrets.token_hex(4)}.tmp"
        try:
            file = open(path, "xb")  # noqa: SIM115  closed by the caller
        except FileExistsError:
            continue
        except OSError as error:
            if error.errno == errno.EMFILE and _allow_more_open_files():
                continue
            raise
        with contextlib.suppress(OSError):  # a file system without locks, where nothing is swept either
            _lock(file)
        if not _was_removed(file):
            return file, path
        file.close()


def _allow_more_open_files() -> bool:
    """Raise this process's limit of open files, up to _MOST_OPEN_FILES; False where that is not possible."""
    if resource is None:
        return False
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_OPEN_FILES)
    if soft >= wanted:
        return False
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):
        return False
    return True


def _was_removed(file: BinaryIO) -> bool:
    """Whether a sweep removed an open file before it was locked."""
    try:
        return os.fstat(file.fileno()).st_nlink == 0
    except OSError:  # nothing is known: the write will say so
        return False


def _lock(file: BinaryIO) -> None:
    """Lock an open file until it is closed. Raises OSError where another process holds it."""
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _reason(error: Exception) -> object:
    return error.strerror if isinstance(error, OSError) and error.strerror else error
