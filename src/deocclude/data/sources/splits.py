"""Which photos are held out for validation, with all of their people, so that no network trains on them.

The dataset's own split where it has one; else a fixed share of one in six, the same in every run.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from deocclude.data.datasets import records_file
from deocclude.data.datasets.record import PhotoRecord
from deocclude.data.datasets.registry import reader
from deocclude.data.storage import is_url

ONE_IN = 6  # one photo in so many is for validation

# What is held out. keep: the dataset's own val, and every sixth photo that is in neither its train nor its val.
# holdout: every sixth photo, whatever the dataset states. train: nothing. val: all photos.
Split = Literal["keep", "holdout", "train", "val"]

# How datasets call a split: ours.
_NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val"}


def held_out(name: str, one_in: int = ONE_IN) -> bool:
    """Whether a cut-out, photo or background is held out: a share of 1 / `one_in`, by the CRC-32 of its name."""
    return zlib.crc32(name.encode()) % one_in == 0


def is_for_tuning(name: str) -> bool:
    """Whether a photo of the training split serves the choice of thresholds alone: one in twelve, by the CRC-32."""
    return zlib.crc32(name.encode()) % (2 * ONE_IN) == 1


def every_sixth(number: int) -> bool:
    """Whether photo `number` of a dataset, from 0 in its own order, is held out: the last of each six."""
    return number % ONE_IN == ONE_IN - 1


def choose_split(source: str, source_format: str | None = None) -> Split:
    """`keep` for a dataset that has a validation split of its own, else `holdout`.

    Only names, lists and lines are read, no photo is opened. A format that cannot state its splits that way is `keep`.

    Args:
        source: a path, or a records file at a URL.
        source_format: the format's name in the registry, or None to recognise it.

    Raises:
        InputError: nothing is there, or it cannot be read.
        UsageError: the format is unknown or ambiguous.
    """
    stated: Iterable[str | None]
    if is_url(source):
        stated = records_file.splits(source)
    else:
        found_format = reader(source_format, Path(source))
        if found_format.splits is None:
            return "keep"
        stated = found_format.splits(Path(source))
    return "keep" if any(_known_split(split) == "val" for split in stated) else "holdout"


def split_of(photo: PhotoRecord, number: int, split: Split) -> str:
    """The split, "train" or "val", of photo `number` of its dataset, counted from 0."""
    if split in ("train", "val"):
        return split
    own = _known_split(photo.split) if split == "keep" else None
    return own or ("val" if every_sixth(number) else "train")


def missing_splits(kept: Mapping[str, int], split: Split, photos: int) -> list[str]:
    """A line for each of train and val without people: training needs both.

    Args:
        kept: number of people by split.
        split: how the set was split; "train" and "val" alone were asked for and give no line.
        photos: how many photos the build has read.
    """
    why = {
        "keep": "the dataset's own splits are kept; --split holdout makes every sixth photo val, the others train",
        "holdout": "every sixth photo is val, the others train",
    }
    missing = [name for name in ("train", "val") if split in why and not kept.get(name)]
    few = f"every sixth photo is held out, which takes {ONE_IN} photos or more, got {photos}"
    return [f"no {name} people: {few if name == 'val' and photos < ONE_IN else why[split]}" for name in missing]


def _known_split(stated: str | None) -> str | None:
    """train or val, by any of the names that datasets give them; None for another split."""
    return _NAMES.get((stated or "").lower())
