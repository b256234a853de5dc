"""Shards: every photo is in exactly one, whatever else there is."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from deocclude.batch.shard import Shard
from deocclude.errors import UsageError

PHOTOS = [Path(f"day{number % 7}/photo{number}.jpg") for number in range(600)]


@pytest.mark.parametrize("count", [1, 2, 5, 16])
def test_shards_take_every_photo_once_in_about_equal_parts(count: int) -> None:
    parts = [[photo for photo in PHOTOS if Shard(number, count).takes(photo)] for number in range(1, count + 1)]
    assert sorted(photo for part in parts for photo in part) == sorted(PHOTOS)
    assert all(0.5 * len(PHOTOS) / count < len(part) < 1.6 * len(PHOTOS) / count for part in parts)


def test_shard_of_a_photo_never_changes() -> None:
    digest = hashlib.sha256(b"a/b.jpg").digest()
    number = int.from_bytes(digest[:8], "big") % 10 + 1
    assert [n for n in range(1, 11) if Shard(n, 10).takes(Path("a/b.jpg"))] == [number]
    assert [Shard(n, 7).takes(Path("caf\u00e9.jpg")) for n in range(1, 8)] == [
        Shard(n, 7).takes(Path("cafe\u0301.jpg")) for n in range(1, 8)
    ]


def test_shard_is_read_from_text() -> None:
    assert Shard.parse("3/8") == Shard(3, 8)
    for text in ("", "3", "3/", "9/8", "-1/8", "1/0", "a/b", "1.5/2"):
        with pytest.raises(UsageError, match="--shard takes I/N with I from 1 to N, got"):
            Shard.parse(text)
    with pytest.raises(UsageError, match="got 0/8: add 1 to an index that counts from 0"):
        Shard.parse("0/8")
