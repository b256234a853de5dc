"""CIHP: photos of several people, with 19 parts and the person of each pixel.

Gong et al., "Instance-level Human Parsing via Part Grouping Network", ECCV 2018. In each of Training and Validation:
Images/ID.jpg, Category_ids/ID.png (part labels), Human_ids/ID.png (person numbers).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from deocclude.data.datasets.each_photo import EachPhoto
from deocclude.data.datasets.files import (
    folder_name,
    photo_size_hw,
    read_labels,
    require_split_folders,
    sorted_files,
    split_folders,
    warn_of_unlabelled,
)  # fmt: skip
from deocclude.data.datasets.record import Parsing, PersonRecord, PhotoRecord, Rle
from deocclude.data.datasets.taxonomies import check_labels

_SUBFOLDERS = ("Images", "Category_ids", "Human_ids")
_SPLITS = {"training": "train", "validation": "val"}  # the dataset's name of a split: ours


def matches(path: Path) -> bool:
    """Whether a folder, or one up to two levels below it, has CIHP's three folders."""
    return path.is_dir() and bool(split_folders(path, *_SUBFOLDERS))


def read(path: Path) -> Iterator[PhotoRecord]:
    """Every labelled photo of all splits in the folder; a warning names photos without labels.

    Raises:
        InputError: a folder is missing or wrong.
        PhotoError: a photo or its label cannot be used; the next photo can still be read.
    """
    folders = require_split_folders(path, "CIHP", *_SUBFOLDERS)
    for folder in folders:
        warn_of_unlabelled(folder / "Images", folder / "Category_ids")
    return EachPhoto((label for folder in folders for label in sorted_files(folder / "Category_ids", ".png")), _record)


def splits(path: Path) -> Iterator[str]:
    """The splits of the existing folders."""
    return (_split(folder) for folder in split_folders(path, *_SUBFOLDERS))


def _split(folder: Path) -> str:
    """train or val for CIHP's Training and Validation; another folder's name in lower case."""
    name = folder_name(folder).lower()
    return _SPLITS.get(name, name)


def _record(label: Path) -> PhotoRecord:
    """The photo and people of a part label, Category_ids/ID.png."""
    folder = label.parent.parent
    photo = folder / "Images" / f"{label.stem}.jpg"
    size_hw = photo_size_hw(photo)
    check_labels(read_labels(label, size_hw), "cihp-20", str(label))
    humans = read_labels(folder / "Human_ids" / label.name, size_hw)
    parsing = Parsing(taxonomy="cihp-20", file=str(label))
    people = (
        PersonRecord(id=str(number), visible=Rle.of(humans == number), parsing=parsing)
        for number in np.unique(humans[humans > 0])
    )
    return PhotoRecord(
        image=str(photo), size_hw=size_hw, source="cihp", id=label.stem, split=_split(folder), people=tuple(people)
    )
