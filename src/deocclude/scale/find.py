"""Photos in object stores, beside those on a disk."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from deocclude.batch.folder import TWICE, Found, LeftOut, Source, find_photos, left_out_by_name, left_out_lines
from deocclude.data.storage import is_url
from deocclude.errors import UsageError
from deocclude.scale.store import names_below, shown, url_of


def find_anywhere(
    inputs: Sequence[str], *, recursive: bool = False, follow_links: bool = False, not_photos: Sequence[Path] = ()
) -> Found:
    """The photos of inputs that may be URLs. A URL names a photo, or a prefix, which is searched as a folder is.

    In a store, a photo is a file with a photo's suffix: no file is opened to see what it is. A list may name URLs.

    Args:
        inputs: as for `find_photos`, and URLs.
        recursive: search prefixes inside prefixes too.
        follow_links: search linked folders on a disk too.
        not_photos: folders and prefixes of masks and outputs.

    Raises:
        UsageError: a prefix without photos, or as `find_photos`.
        StoreError: a store that cannot be listed.
    """
    found, seen = Found(), set[str]()
    for name in inputs:
        if is_url(name):
            found_here = _find_in_store(name.rstrip("/"), recursive, not_photos)
        else:
            found_here = find_photos([name], recursive=recursive, follow_links=follow_links, not_photos=not_photos)
        found.left_out += found_here.left_out
        for photo in map(_with_mirrored_path, found_here.photos):
            real = photo.path if is_url(photo.path) else os.path.realpath(photo.path)
            if real in seen:
                found.left_out.append(LeftOut(Path(photo.path), TWICE))
            else:
                seen.add(real)
                found.photos.append(photo)
    return found


def _find_in_store(url: str, recursive: bool, not_photos: Sequence[Path]) -> Found:
    """The photos below a URL, or the photo that it names."""
    names = names_below(url, recursive=recursive)
    if names == [""]:
        folder, _, name = url.rpartition("/")
        return Found([Source(url, Path(name), Path(folder))])
    found = Found()
    # as on a disk, outputs in the searched prefix itself, or in one around it, leave its photos inputs
    skipped = [prefix for path in not_photos if not f"{url}/".startswith(prefix := f"{shown(path)}/")]
    for name in names:
        whole = f"{url}/{name}"
        if any(whole.startswith(prefix) for prefix in skipped):
            continue
        left = left_out_by_name(Path(whole))
        if left is None:
            found.photos.append(Source(whole, _relative_path(name), Path(url)))
        else:
            found.left_out.append(left)
    if not found.photos:
        hint = "" if recursive else " (prefixes inside it are searched with --recursive)"
        raise UsageError("; ".join([f"no photos in {url}{hint}", *left_out_lines(found.left_out)]))
    return found


def _with_mirrored_path(photo: Source) -> Source:
    """The photo. For a URL in a list, `relative` becomes the path below the store's name."""
    if not is_url(photo.path) or url_of(photo.root) is not None:
        return photo
    store, _, name = photo.path.partition("://")
    return replace(photo, relative=_relative_path(name), root=Path(f"{store}://"))


def _relative_path(name: str) -> Path:
    """A name in a store as a relative path without `.` and `..`, which are ordinary names in a store."""
    return Path(*(part for part in name.split("/") if part not in ("", ".", "..")))
