"""SBD: segmented objects of 11 355 photos of PASCAL VOC 2011, the people and the other things.

Hariharan et al., "Semantic Contours from Inverse Detectors", ICCV 2011: img/ID.jpg, inst/ID.mat (GTinst: Segmentation
with numbers of objects, Categories with the class of each), train.txt, val.txt; all in benchmark_RELEASE/dataset.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from deocclude.data.datasets.each_photo import EachPhoto
from deocclude.data.datasets.files import (
    photo_size_hw,
    read_id_lists,
    read_matlab,
    require_split_folders,
    sorted_files,
    split_folders,
    tell_left_out,
)
from deocclude.data.datasets.record import PersonRecord, PhotoRecord, Rle, ThingRecord
from deocclude.data.datasets.voc import PERSON, class_name
from deocclude.errors import InputError

_MARKS = ("img", "inst")


def matches(path: Path) -> bool:
    """Whether a folder, or one below it (benchmark_RELEASE/dataset), has SBD's photos and instances."""
    return path.is_dir() and bool(split_folders(path, *_MARKS))


def read(path: Path) -> Iterator[PhotoRecord]:
    """Every segmented photo, with its people; of names in the lists that have no labels a warning tells.

    Raises InputError naming a folder that is wrong, and PhotoError naming a photo, after which the next one is read.
    """
    for folder in split_folders(path, *_MARKS):
        labelled = {label.stem for label in sorted_files(folder / "inst", ".mat")}
        unlabelled = _lists(folder).keys() - labelled
        tell_left_out(folder, unlabelled, "photos of its lists left out, without labels in inst")
    return EachPhoto(_labels(path), lambda label: _record(*label))


def splits(path: Path) -> Iterator[str | None]:
    """Each photo's split, by the lists."""
    return (split for _, split in _labels(path))


def _labels(path: Path) -> Iterator[tuple[Path, str | None]]:
    """(label, split) of each photo."""
    for folder in require_split_folders(path, "SBD", *_MARKS):
        splits = _lists(folder)
        for label in sorted_files(folder / "inst", ".mat"):
            yield label, splits.get(label.stem)


def _lists(folder: Path) -> dict[str, str]:
    """The split of each photo that the lists name."""
    return read_id_lists(folder, ("train", "val"))


def _record(label: Path, split: str | None) -> PhotoRecord:
    photo = label.parent.parent / "img" / f"{label.stem}.jpg"
    size_hw = photo_size_hw(photo)
    objects, classes = _instances(label, size_hw)
    people = (
        PersonRecord(id=str(number), visible=Rle.of(objects == number))
        for number, kind in enumerate(classes, start=1)
        if kind == PERSON
    )
    things = (
        ThingRecord(name=class_name(kind), visible=Rle.of(objects == number))
        for number, kind in enumerate(classes, start=1)
        if kind != PERSON
    )
    return PhotoRecord(
        image=str(photo),
        size_hw=size_hw,
        source="sbd",
        id=label.stem,
        split=split,
        people=tuple(people),
        things=tuple(things),
    )


def _instances(path: Path, size_hw: tuple[int, int]) -> tuple[np.ndarray, list[int]]:
    """(H, W) numbers of objects from 1, and the class of each. MATLAB's struct is a (1, 1) array of fields."""
    try:
        truth = read_matlab(path, "GTinst")[0, 0]
        objects, classes = truth["Segmentation"], [int(kind) for kind in truth["Categories"].ravel()]
    except (IndexError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: GTinst must have Segmentation and Categories ({type(error).__name__})") from error
    if objects.shape != size_hw:
        raise InputError(f"{path}: must have the photo's size {size_hw} (HxW), got {objects.shape}")
    return objects, classes
