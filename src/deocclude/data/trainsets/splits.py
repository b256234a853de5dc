"""Which photos of a dataset are held out, with all of their people: for training no model sees them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from deocclude.data.datasets import records_file
from deocclude.data.datasets.record import PhotoRecord
from deocclude.data.datasets.registry import reader
from deocclude.data.sources.holdout import ONE_IN, every_sixth
from deocclude.data.storage import is_url

# keep: the dataset's own train and val, and every sixth photo that is in neither. holdout: every sixth photo, whatever
# the dataset says. train, val: everyone.
Split = Literal["keep", "holdout", "train", "val"]

_OWN = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val"}


def choose_split(source: str, source_format: str | None = None) -> Split:
    """`keep` for a dataset that has a validation split of its own, else `holdout`.

    source: a path, or a records file at a URL. Only names, lists and lines are looked at, before a photo is opened; a
    format that cannot tell is kept as it is. Raises InputError and UsageError as the reader does.
    """
    if is_url(source):
        stated = records_file.splits(source)
    else:
        row = reader(source_format, Path(source))
        if row.splits is None:
            return "keep"
        stated = row.splits(Path(source))
    return "keep" if any(_own(split) == "val" for split in stated) else "holdout"


def split_of(photo: PhotoRecord, number: int, split: Split) -> str:
    """Which split photo `number` of its dataset, from 0, belongs to: "train" or "val"."""
    if split in ("train", "val"):
        return split
    own = _own(photo.split) if split == "keep" else None
    return own or ("val" if every_sixth(number) else "train")


def missing_splits(kept: Mapping[str, int], split: Split, photos: int) -> list[str]:
    """A line for train and for val where nobody is in it: such a set does not train by itself.

    kept: people by their split. photos: how many the build has looked at. Whoever asks for train or val alone knows.
    """
    why = {
        "keep": "the dataset's own splits are kept; --split holdout makes every sixth photo val, the others train",
        "holdout": "every sixth photo is val, the others train",
    }
    missing = [name for name in ("train", "val") if split in why and not kept.get(name)]
    few = f"every sixth photo is held out, which takes {ONE_IN} photos or more, got {photos}"
    return [f"no {name} people: {few if name == 'val' and photos < ONE_IN else why[split]}" for name in missing]


def _own(stated: str | None) -> str | None:
    """train or val, by whatever name a dataset has for it."""
    return _OWN.get((stated or "").lower())
