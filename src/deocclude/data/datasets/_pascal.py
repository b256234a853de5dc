"""What PASCAL VOC and SBD share: segmented objects of 20 classes; persons become people, the rest things."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deocclude.data.datasets.each_photo import EachPhoto
from deocclude.data.datasets.files import (
    photo_size_hw,
    read_id_lists,
    require_split_folders,
    sorted_files,
    split_folders,
    warn_of_left_out,
)
from deocclude.data.datasets.record import PersonRecord, PhotoRecord, Rle, ThingRecord

CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
PERSON = CLASSES.index("person")

Instances = tuple[np.ndarray, Mapping[int, int]]
"""(H, W) object number of each pixel, and the class number of each object. Other numbers are no object."""


@dataclass(frozen=True)
class PascalFormat:
    """The layout of one of the two datasets, with its reader.

    Attributes:
        source: the records' `source`.
        title: what error messages call the dataset.
        folders: names of the folders that a dataset must have.
        photos: the folder of ID.jpg.
        labels: the folder of label files.
        suffix: ending of the label files.
        lists: the folder of train.txt and val.txt, relative to the dataset.
        read_instances: objects of a label file, given the photo's (H, W). Raises InputError naming the file.
    """

    source: str
    title: str
    folders: tuple[str, ...]
    photos: str
    labels: str
    suffix: str
    lists: str
    read_instances: Callable[[Path, tuple[int, int]], Instances]

    def matches(self, path: Path) -> bool:
        """Whether a folder, or one up to two levels below it, has the format's folders."""
        return path.is_dir() and bool(split_folders(path, *self.folders))

    def read(self, path: Path) -> EachPhoto[tuple[Path, str | None]]:
        """Every segmented photo with its people and things; a warning names listed photos without labels.

        Raises:
            InputError: a folder is missing or wrong.
            PhotoError: a photo or its label cannot be used; the next photo can still be read.
        """
        for folder in split_folders(path, *self.folders):
            labelled = {label.stem for label in sorted_files(folder / self.labels, self.suffix)}
            unlabelled = self._split_by_id(folder).keys() - labelled
            warn_of_left_out(folder, unlabelled, f"photos of its lists left out, without labels in {self.labels}")
        return EachPhoto(self._labels_and_splits(path), lambda label: self._record(*label))

    def splits(self, path: Path) -> Iterator[str | None]:
        """The split of each labelled photo, by train.txt and val.txt; None where neither lists it."""
        return (split for _, split in self._labels_and_splits(path))

    def _labels_and_splits(self, path: Path) -> Iterator[tuple[Path, str | None]]:
        """(label file, split) of each photo."""
        for folder in require_split_folders(path, self.title, *self.folders):
            split_by_id = self._split_by_id(folder)
            for label in sorted_files(folder / self.labels, self.suffix):
                yield label, split_by_id.get(label.stem)

    def _split_by_id(self, folder: Path) -> dict[str, str]:
        """The split, train or val, of each photo id that train.txt or val.txt lists."""
        return read_id_lists(folder / self.lists, ("train", "val"))

    def _record(self, label: Path, split: str | None) -> PhotoRecord:
        """The photo of a label file, with its people and its other objects."""
        photo = label.parent.parent / self.photos / f"{label.stem}.jpg"
        size_hw = photo_size_hw(photo)
        numbers, classes = self.read_instances(label, size_hw)
        people, things = [], []
        for number, class_number in classes.items():
            mask = Rle.of(numbers == number)
            if class_number == PERSON:
                people.append(PersonRecord(id=str(number), visible=mask))
            else:
                things.append(ThingRecord(name=_class_name(class_number), visible=mask))
        return PhotoRecord(
            image=str(photo),
            size_hw=size_hw,
            source=self.source,
            id=label.stem,
            split=split,
            people=tuple(people),
            things=tuple(things),
        )


def _class_name(number: int) -> str:
    """The name of a class, or its number as text where CLASSES has no such number."""
    return CLASSES[number] if 0 <= number < len(CLASSES) else str(number)
