"""Clothing Co-Parsing: photos of one whole person each; the 59 garments become the project's parsing groups.

Yang et al., "Clothing Co-Parsing by Joint Image Segmentation and Labeling", CVPR 2014: photos/ID.jpg,
annotations/pixel-level/ID.mat (groundtruth), label_list.mat; and, where it is there, splits.json as in docs/data.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from deocclude.data.datasets.each_photo import EachPhoto
from deocclude.data.datasets.files import CCP_LEFT_OUT, ccp_garments, photo_size_hw, read_matlab, require, sorted_files
from deocclude.data.datasets.parsing_groups import to_groups
from deocclude.data.datasets.record import Parsing, PhotoRecord, whole_person
from deocclude.errors import InputError
from deocclude.io.coco import read_json


def matches(path: Path) -> bool:
    """Whether a folder has Clothing Co-Parsing's names of labels."""
    return (path / "label_list.mat").is_file()


def read(path: Path) -> Iterator[PhotoRecord]:
    """Every labelled photo but the known doubles.

    Raises InputError naming a folder that is wrong, and PhotoError naming a photo, after which the next one is read.
    """
    labels = require(path / "annotations" / "pixel-level", "Clothing Co-Parsing pixel labels")
    names, splits = ccp_garments(path), _splits(path / "splits.json")

    def record(label: Path) -> PhotoRecord:
        photo = path / "photos" / f"{label.stem}.jpg"
        size_hw = photo_size_hw(photo)
        garments = read_matlab(label, "groundtruth")
        if garments.shape != size_hw:
            raise InputError(f"{label}: labels must have the photo's size {size_hw} (HxW), got {garments.shape}")
        groups = to_groups(garments, names)
        return PhotoRecord(
            image=str(photo),
            size_hw=size_hw,
            source="ccp",
            id=label.stem,
            split=splits.get(label.stem),
            people=(whole_person("1", groups > 0, Parsing.of(groups, "deocclude-12")),),
        )

    return EachPhoto((label for label in sorted_files(labels, ".mat") if label.stem not in CCP_LEFT_OUT), record)


def splits(path: Path) -> Iterable[str]:
    """The splits that splits.json has photos of."""
    return _splits(path / "splits.json").values()


def _splits(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    lists = read_json(path)
    if not isinstance(lists, dict):
        raise InputError(f"{path}: expected an object with a list of ids for each split")
    # What is no list is a note.
    return {str(photo_id): split for split, ids in lists.items() if isinstance(ids, list) for photo_id in ids}
