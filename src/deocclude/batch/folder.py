"""Photos among the inputs of a run, and the files of a folder that are left out, each with the reason."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from deocclude.errors import DeoccludeError, UsageError
from deocclude.io.images import can_open, photo_suffixes
from deocclude.io.request_stamp import read_stamp
from deocclude.io.results import OUTPUT_NAME

STREAM = "-"
"""Standard input as a photo, and standard output as a target."""

# Reasons to leave a file or folder out.
TWICE = "photos given twice, done once"
_OUTPUT = "files with the name of an output"
_NO_PHOTO = "files that are no photos"
_LINKED = "linked folders (--follow-links searches them)"

_HEIC = frozenset({".heic", ".heif", ".hif"})
# Suffixes of photos that Pillow cannot open: raw files of cameras, and JPEG XL.
_OTHER_PHOTOS = frozenset(
    {".arw", ".cr2", ".cr3", ".dng", ".jxl", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".srw"}
)
_NAMED = 5  # so many files are named in a line of the summary; the others are counted


@dataclass(frozen=True)
class LeftOut:
    """A file of a folder that is no input of the run.

    Attributes:
        path: the file, or the linked folder.
        reason: why it is left out, in the plural: "files that are no photos".
        is_photo: whether it is or may be a photo, so that the run is not complete.
    """

    path: Path
    reason: str
    is_photo: bool = False


@dataclass(frozen=True)
class Source:
    """A photo of a run.

    Attributes:
        path: the photo's path, or - for standard input.
        relative: the photo's path below `root`; the bare name of a photo that is given alone.
        root: the given folder, the folder before a pattern's first wildcard, or the folder where a list's path begins.
    """

    path: str
    relative: Path
    root: Path


@dataclass
class Found:
    """The photos of a run in order, and what is left out."""

    photos: list[Source] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)


def find_photos(
    inputs: Sequence[str], *, recursive: bool = False, follow_links: bool = False, not_photos: Sequence[Path] = ()
) -> Found:
    """The photos among the inputs.

    In a folder, a photo is any file that Pillow can open, whatever its suffix. Left out are files of other kinds,
    hidden files and folders, folders that are not searched, and a photo that is given twice. Outputs of earlier runs
    and the files of `not_photos` are no inputs and are not reported.

    A pattern takes files as a folder does, but no folders. A list, a file whose name ends in .txt, names one photo a
    line, from the current folder on; a photo that it names is an input whatever it is.

    Args:
        inputs: photos, folders, patterns with *, ?, [...] or **, lists, or - for standard input.
        recursive: search folders inside folders.
        follow_links: search linked folders too, each real folder once.
        not_photos: folders of masks and outputs.

    Raises:
        UsageError: an empty name; a folder, pattern or list without photos; a list that is no text.
        DeoccludeError: a list or a given folder that cannot be read.
    """
    found, seen = Found(), dict[str, int]()
    for name in inputs:
        if not name:
            raise UsageError("a photo's name is empty: expected a file, a folder, or - for standard input")
        root = Path(name)
        if name != STREAM and root.suffix.lower() == ".txt" and root.is_file():
            for source in _photos_of_list(root):
                _add(found, seen, source)
            continue
        is_pattern = name != STREAM and glob.has_magic(name) and not root.exists()
        if name == STREAM or not (root.is_dir() or is_pattern):
            # a missing file is a failure of that photo, not of the batch
            _add(found, seen, Source(name, Path("stdin" if name == STREAM else root.name), root.parent))
            continue
        left_out_before = len(found.left_out)
        any_photo = False
        skipped = {os.path.realpath(folder) for folder in not_photos} - {os.path.realpath(root)}
        if is_pattern:
            root, paths = _match_pattern(name, follow_links, skipped, found.left_out)
        else:
            paths = _walk(root, recursive, follow_links, skipped, found.left_out)
        for path in paths:
            left = _left_out(path)
            if left is None:
                any_photo = True
                _add(found, seen, Source(str(path), path.relative_to(root), root))
            elif left.reason:
                found.left_out.append(left)
        if not any_photo:
            others = found.left_out[left_out_before:]
            raise UsageError(_no_match(name, others) if is_pattern else _no_photo_in(root, others))
    return found


def left_out_lines(left_out: Sequence[LeftOut], *, every: bool = False) -> list[str]:
    """What was left out of a folder's photos, a line for each reason.

    Args:
        left_out: the files.
        every: name all files; otherwise the first five of each reason.
    """
    by_reason: dict[str, list[str]] = {}
    for file in left_out:
        by_reason.setdefault(file.reason, []).append(str(file.path))
    lines = []
    for reason, names in by_reason.items():
        shown = names if every else names[:_NAMED]
        more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
        lines.append(f"left out: {len(names)} {reason}: {', '.join(shown)}{more}")
    return lines


def _add(found: Found, seen: dict[str, int], source: Source) -> None:
    """Add a photo, or leave it out where the same file is among the photos already. A file takes the place of a link.

    seen: places of the photos by their real paths.
    """
    real = os.path.realpath(source.path)
    if source.path == STREAM or real not in seen:
        seen[real] = len(found.photos)
        found.photos.append(source)
        return
    place = seen[real]
    if os.path.islink(found.photos[place].path) and not os.path.islink(source.path):
        source, found.photos[place] = found.photos[place], source
    found.left_out.append(LeftOut(Path(source.path), TWICE))


def _photos_of_list(path: Path) -> Iterator[Source]:
    """The photos of a list: one path a line, from the current folder on. Raises as `find_photos`."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DeoccludeError(f"cannot read the list {path}: {error.strerror or error}") from error
    if b"\0" in content:
        raise UsageError(f"{path}: expected a list with the path of a photo in each line, got a file that is no text")
    # file names may be no UTF-8: surrogateescape keeps their bytes
    lines = [line.strip() for line in content.decode("utf-8-sig", "surrogateescape").splitlines()]
    if not any(lines):
        raise UsageError(f"{path}: the list names no photo: expected the path of a photo in each line")
    for line in filter(None, lines):
        given = Path(os.path.normpath(line))
        # below -o FOLDER the photo's folders are mirrored, without .. and the root
        names = [part for part in given.parts if part not in (os.pardir, given.anchor)]
        # in a list "-" is the name of a file, not standard input
        yield Source(f".{os.sep}-" if line == STREAM else line, Path(*names), Path(given.anchor or os.curdir))


def _match_pattern(
    pattern: str, follow_links: bool, skipped: set[str], left_out: list[LeftOut]
) -> tuple[Path, Iterator[Path]]:
    """The folder before a pattern's first wildcard, and the matching files below by their sorted paths.

    Hidden folders and files match only where the pattern names them. Folders that match are added to `left_out`, except
    with **, which reaches the files inside.
    """
    parts = Path(pattern).parts
    first = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    root, rest = Path(*parts[:first]), parts[first:]
    skipped = skipped - {os.path.realpath(root)}

    def files() -> Iterator[Path]:
        """The matching files, sorted."""
        if "**" in rest:
            for path in _walk(root, True, follow_links, skipped, left_out) if root.is_dir() else ():
                if _parts_match(path.relative_to(root).parts, rest):
                    yield path
            return
        for path in sorted(Path(name) for name in glob.iglob(pattern)):
            if path.is_dir():
                left_out.append(LeftOut(path, "folders that a pattern matches (** reaches the files inside)"))
            elif os.path.realpath(path.parent) not in skipped:
                yield path

    return root, files()


def _parts_match(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether the parts of a path match those of a pattern; ** stands for any number of folders."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        if len(pattern) == 1:
            return bool(parts)
        return any(_parts_match(parts[skip:], pattern[1:]) for skip in range(len(parts)))
    return bool(parts) and fnmatch(parts[0], pattern[0]) and _parts_match(parts[1:], pattern[1:])


def _walk(
    root: Path, recursive: bool, follow_links: bool, skipped: set[str], left_out: list[LeftOut]
) -> Iterator[Path]:
    """Files below a folder by their sorted paths; folders that are not searched are added to `left_out`.

    skipped: real paths of folders of masks and outputs. Raises DeoccludeError where `root` cannot be read.
    """
    files: list[Path] = []
    pending, searched = [root], {os.path.realpath(root)}
    while pending:
        folder = pending.pop()
        try:
            entries = sorted(folder.iterdir())
        except OSError as error:
            if folder == root:
                raise DeoccludeError(f"cannot read the folder {root}: {error.strerror or error}") from error
            left_out.append(LeftOut(folder, "folders that cannot be read", is_photo=True))
            continue
        for path in entries:
            if not path.is_dir():
                files.append(path)
                continue
            real = os.path.realpath(path)
            if real in skipped or real in searched:
                continue
            if reason := _why_not_searched(path, recursive, follow_links):
                left_out.append(LeftOut(path, reason))
                continue
            searched.add(real)
            pending.append(path)
    yield from (path for path in sorted(files) if os.path.realpath(path.parent) not in skipped)


def _why_not_searched(path: Path, recursive: bool, follow_links: bool) -> str:
    """Why a folder inside a folder is not searched; empty for one that is."""
    if path.name.startswith("."):
        return "hidden folders"
    if not recursive:
        return "folders (--recursive searches them)"
    return _LINKED if path.is_symlink() and not follow_links else ""


def left_out_by_name(path: Path) -> LeftOut | None:
    """Why a file is no input, as far as its name tells; None for a photo's name."""
    suffix = path.suffix.lower()
    if path.name.startswith("."):
        return LeftOut(path, "hidden files")
    if OUTPUT_NAME.search(path.name):
        return LeftOut(path, _OUTPUT)
    if suffix in photo_suffixes():
        return None
    if suffix in _HEIC:
        return LeftOut(path, 'photos in HEIC, which needs pip install "deocclude[heif]"', is_photo=True)
    if suffix in _OTHER_PHOTOS:
        return LeftOut(path, "photos of a kind that Pillow cannot open (convert them to PNG or JPEG)", is_photo=True)
    return LeftOut(path, _NO_PHOTO)


def _left_out(path: Path) -> LeftOut | None:
    """Why a file of a folder is no input; None for a photo, an empty reason for what is not reported."""
    left = left_out_by_name(path)
    if path.name.startswith(".") or path.is_file():
        if left is None or (left.reason == _NO_PHOTO and can_open(path)):
            return None
        is_ours = left.reason == _OUTPUT and (path.suffix.lower() == ".ora" or read_stamp(path) is not None)
        return LeftOut(path, "") if is_ours else left
    return LeftOut(path, "links to nothing" if path.is_symlink() else "pipes and devices")


def _no_match(pattern: str, left_out: Sequence[LeftOut]) -> str:
    """The message for a pattern without photos."""
    also = "".join(f"; {line}" for line in left_out_lines(left_out))
    return f"no photos: no file is named {pattern}, and none matches it as a pattern{also}"


def _no_photo_in(root: Path, left_out: Sequence[LeftOut]) -> str:
    """The message for a folder without photos."""
    return f"no photos in {root}" + "".join(f"; {line}" for line in left_out_lines(left_out))
