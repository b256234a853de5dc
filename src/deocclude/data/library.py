"""Which people, occluders and backgrounds a run trains on: from a data folder to a synthesis Library."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deocclude.data.formats import read_backgrounds, read_ccp, read_cutout_people, read_image_mask_folder, read_layers
from deocclude.data.records import PersonPhoto
from deocclude.data.synthesis import Library
from deocclude.errors import InputError

PERSON_MAX_PX = 360  # longest side of a person kept in memory for training at up to 256 px


@dataclass(frozen=True)
class SourceWeights:
    """Share of training subjects from each source; a source of weight 0 is not read."""

    ccp: float = 0.42
    cutouts: float = 0.3
    full: float = 0.12
    upper: float = 0.16


def held_out(name: str, one_in: int = 6) -> bool:
    """Whether a cut-out, photo or background is kept for validation: a fixed share, by a hash of its name."""
    return zlib.crc32(name.encode()) % one_in == 0


def load_library(root: Path, split: str, weights: SourceWeights, *, max_px: int | None = PERSON_MAX_PX) -> Library:
    """Everything of `root` (the layout of docs/data.md) that belongs to `split`: "train" or "val".

    Clothing Co-Parsing is split by its splits.json; the other sources by `held_out`.
    """
    if not root.is_dir():
        raise InputError(f"data folder not found: looked for {root}")

    def mine(name: str) -> bool:
        return held_out(name) == (split == "val")

    groups: list[tuple[float, list[PersonPhoto]]] = []
    if weights.ccp:
        groups.append((weights.ccp, list(read_ccp(root / "ccp", split, max_px=max_px))))
    if weights.cutouts:
        people = read_cutout_people(root / "cutouts" / "people", max_px=max_px)
        groups.append((weights.cutouts, [p for p in people if mine(p.name)]))
    if weights.full:
        people = read_image_mask_folder(root / "mixed_people" / "full", whole=True, max_px=max_px)
        groups.append((weights.full, [p for p in people if mine(p.name)]))
    if weights.upper:
        people = read_image_mask_folder(root / "mixed_people" / "upper", whole=False, max_px=max_px)
        groups.append((weights.upper, [p for p in people if mine(p.name)]))
    people, shares = [], []
    for weight, group in groups:
        people += group
        shares += [weight / max(1, len(group))] * len(group)
    if not people:
        raise InputError(f"no person of split {split!r} in {root}")
    occluders = [o for o in read_layers(root / "cutouts" / "objects", max_px=max_px) if mine(o.name)]
    files = read_backgrounds(root / "backgrounds", max_px=None if max_px is None else 2 * max_px)
    backgrounds = [b for i, b in enumerate(files) if held_out(f"background/{i}") == (split == "val")]
    for what, found, folder in (("occluder", occluders, "cutouts/objects"), ("background", backgrounds, "backgrounds")):
        if not found:
            raise InputError(f"no {what} of split {split!r} in {root / folder}: a few dozen are needed for both splits")
    return Library(people, np.array(shares) / sum(shares), occluders, backgrounds, [p for p in people if p.whole])
