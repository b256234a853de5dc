"""Shards: a stable part of the photos, so that the jobs of an array together take every photo once."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from deocclude.errors import UsageError


@dataclass(frozen=True)
class Shard:
    """Part `number` of `count` parts.

    Attributes:
        number: 1 to count.
        count: number of parts, 1 or more.
    """

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read I/N.

        Raises:
            UsageError: not two whole numbers with 1 <= I <= N.
        """
        match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text.strip())
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            hint = ": add 1 to an index that counts from 0" if match is not None and int(match[1]) == 0 else ""
            raise UsageError(f"--shard takes I/N with I from 1 to N, got {text}{hint}")
        return cls(int(match[1]), int(match[2]))

    def name_of(self, path: Path) -> Path:
        """A file's own name for this part: `run.jsonl` becomes `run.3-of-20.jsonl`."""
        return path.with_name(f"{path.stem}.{self.number}-of-{self.count}{path.suffix}")

    def takes(self, relative: Path) -> bool:
        """Whether a photo belongs to this part: by a hash of its path in the given folder, and of nothing else.

        The parts are of about equal size. Other photos, their order, and the place of the folder change nothing.
        """
        # NFC: one file system stores accented letters composed, another one decomposed
        name = unicodedata.normalize("NFC", relative.as_posix()).encode("utf-8", "surrogateescape")
        return int.from_bytes(hashlib.sha256(name).digest()[:8], "big") % self.count == self.number - 1
