"""The people of a run, read once a process: several runs one after the other, as in `deocclude ablate`, share them."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from deocclude.data.library import SourceWeights, load_library
from deocclude.data.synthesis import Library


@lru_cache(maxsize=2)  # both splits of one choice of sources
def open_library(root: Path, split: str, weights: SourceWeights) -> Library:
    """As `load_library`; the same arguments give the same object, which nobody may change."""
    return load_library(root, split, weights)
