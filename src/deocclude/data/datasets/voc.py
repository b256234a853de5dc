"""PASCAL VOC 2012: the people among its segmented objects, and the other objects as things.

Everingham et al., "The PASCAL Visual Object Classes Challenge 2012", development kit, section 3.2: JPEGImages/ID.jpg,
SegmentationClass/ID.png and SegmentationObject/ID.png (palette pictures of class and object numbers; 255 is an edge
that is nobody's), ImageSets/Segmentation/{train,val}.txt.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from deocclude.data.datasets.each_photo import EachPhoto
from deocclude.data.datasets.files import (
    photo_size_hw,
    read_id_lists,
    read_labels,
    require_split_folders,
    sorted_files,
    split_folders,
    tell_left_out,
)
from deocclude.data.datasets.record import PersonRecord, PhotoRecord, Rle, ThingRecord

CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
PERSON = CLASSES.index("person")
_EDGE = 255
_MARKS = ("JPEGImages", "SegmentationClass", "SegmentationObject")


def matches(path: Path) -> bool:
    """Whether a folder, or one below it (VOCdevkit/VOC2012), has VOC's folders of segmentations."""
    return path.is_dir() and bool(split_folders(path, *_MARKS))


def read(path: Path) -> Iterator[PhotoRecord]:
    """Every segmented photo, with its people; of names in the lists that have no labels a warning tells.

    Raises InputError naming a folder that is wrong, and PhotoError naming a photo, after which the next one is read.
    """
    for folder in split_folders(path, *_MARKS):
        labelled = {label.stem for label in sorted_files(folder / "SegmentationObject", ".png")}
        unlabelled = _lists(folder).keys() - labelled
        tell_left_out(folder, unlabelled, "photos of its lists left out, without labels in SegmentationObject")
    return EachPhoto(_labels(path), lambda label: _record(*label))


def splits(path: Path) -> Iterator[str | None]:
    """Each photo's split, by the lists."""
    return (split for _, split in _labels(path))


def _labels(path: Path) -> Iterator[tuple[Path, str | None]]:
    """(label, split) of each photo."""
    for folder in require_split_folders(path, "PASCAL VOC with segmentations", *_MARKS):
        splits = _lists(folder)
        for label in sorted_files(folder / "SegmentationObject", ".png"):
            yield label, splits.get(label.stem)


def _lists(folder: Path) -> dict[str, str]:
    """The split of each photo that the lists name."""
    return read_id_lists(folder / "ImageSets" / "Segmentation", ("train", "val"))


def _record(label: Path, split: str | None) -> PhotoRecord:
    folder = label.parent.parent
    photo = folder / "JPEGImages" / f"{label.stem}.jpg"
    size_hw = photo_size_hw(photo)
    objects = read_labels(label, size_hw)
    classes = read_labels(folder / "SegmentationClass" / label.name, size_hw)
    someones = (objects > 0) & (objects != _EDGE)
    numbers = np.unique(objects[(classes == PERSON) & someones])
    people = (PersonRecord(id=str(number), visible=Rle.of(objects == number)) for number in numbers)
    others = np.setdiff1d(objects[someones], numbers)
    things = (
        ThingRecord(name=class_name(classes[objects == number][0]), visible=Rle.of(objects == number))
        for number in others
    )
    return PhotoRecord(
        image=str(photo),
        size_hw=size_hw,
        source="voc",
        id=label.stem,
        split=split,
        people=tuple(people),
        things=tuple(things),
    )


def class_name(number: int) -> str:
    """What VOC calls a class; the number itself of one that it does not have."""
    return CLASSES[number] if 0 <= number < len(CLASSES) else str(number)
