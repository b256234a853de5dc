"""Digest of a folder's file listing, to detect changes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from deocclude.data.sources.shard_state import STATE_FILE


def listing_digest(folder: Path) -> str:
    """SHA-256 of the names and sizes of all files below a folder; no file is opened, links are followed.

    Times are not included, since copying changes them: a replacement of the same size is not detected. Hidden files and
    built sets below the folder are not included.
    """
    digest, visited = hashlib.sha256(), set[str]()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in visited or STATE_FILE in files:
            folders.clear()
            continue
        visited.add(real)  # a link may lead back to a folder above it
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        relative = os.path.relpath(place, folder)
        for name in sorted(files):
            path = os.path.join(place, name)
            if not name.startswith(".") and os.path.isfile(path):
                digest.update(os.fsencode(f"{relative}/{name}\0{os.path.getsize(path)}\n"))
    return digest.hexdigest()
