"""The people of a run, read once a process: several runs one after the other, as in `deocclude ablate`, share them."""

from __future__ import annotations

from functools import lru_cache

from deocclude.data.sources import library

# both splits of one choice of sources; the same arguments give the same object, which nobody may change
load_library = lru_cache(maxsize=2)(library.load_library)
