"""Whether a folder is still as it was: which files lie below it, and how large they are."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from deocclude.data.sources.shard_state import STATE_FILE


def listing_digest(folder: Path) -> str:
    """A digest of the names and sizes of all files below a folder; nothing is opened. Links are followed.

    Not of their times, which copying changes: a file that is replaced by one of the same size is not seen. Hidden
    files, and built sets below the folder, among them the one that is built from it, do not count.
    """
    digest, met = hashlib.sha256(), set[str]()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in met or STATE_FILE in files:
            folders.clear()
            continue
        met.add(real)  # a link may lead back to a folder above it
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = os.path.relpath(place, folder)
        for name in sorted(files):
            path = os.path.join(place, name)
            if not name.startswith(".") and os.path.isfile(path):
                digest.update(os.fsencode(f"{below}/{name}\0{os.path.getsize(path)}\n"))
    return digest.hexdigest()
