"""A folder's digest: equal for equal names and sizes, different otherwise, and safe against link cycles."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from deocclude.data.sources.shard_state import STATE_FILE
from deocclude.data.trainsets.listing import listing_digest


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def test_digest_depends_only_on_names_and_sizes(tmp_path: Path) -> None:
    folder = fill(tmp_path / "a", "images/1.jpg", "images/2.jpg", "masks/1.png")
    before = listing_digest(folder)
    assert listing_digest(fill(tmp_path / "b", "masks/1.png", "images/2.jpg", "images/1.jpg")) == before
    (folder / "empty").mkdir()
    os.utime(folder / "masks" / "1.png", (0, 0))
    fill(folder, ".DS_Store", ".cache/rows.arrow", "set/" + STATE_FILE, "set/people-00000.parquet")
    assert listing_digest(folder) == before
    (folder / "masks" / "1.png").write_text("longer than it was")
    larger = listing_digest(folder)
    (folder / "masks" / "1.png").rename(folder / "masks" / "2.png")
    renamed = listing_digest(folder)
    fill(folder, "images/3.jpg")
    assert len({before, larger, renamed, listing_digest(folder)}) == 4


def test_links_are_followed_once(tmp_path: Path) -> None:
    real, folder = fill(tmp_path / "real", "1.jpg"), tmp_path / "folder"
    folder.mkdir()
    (folder / "images").symlink_to(real)
    (folder / "up").symlink_to(folder)
    (folder / "lost.jpg").symlink_to(tmp_path / "nowhere.jpg")
    before = listing_digest(folder)
    fill(real, "2.jpg")
    assert listing_digest(folder) != before
    shutil.rmtree(real)
    assert len(listing_digest(folder)) == 64
