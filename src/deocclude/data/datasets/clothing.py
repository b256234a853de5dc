"""Clothing Co-Parsing: photos of one whole person each; the 59 garments become the project's parsing groups.

Yang et al., "Clothing Co-Parsing by Joint Image Segmentation and Labeling", CVPR 2014: photos/ID.jpg,
annotations/pixel-level/ID.mat (groundtruth), label_list.mat; optionally splits.json as in docs/data.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from deocclude.data.datasets.each_photo import EachPhoto
from deocclude.data.datasets.files import photo_size_hw, read_matlab, require, sorted_files
from deocclude.data.datasets.parsing_groups import garment_table, to_groups
from deocclude.data.datasets.record import Parsing, PhotoRecord, whole_person
from deocclude.errors import InputError

# 0183 = 0730, 0594 = 0722 and 0692 = 0732 are the same photo; 0536 has an empty label
EXCLUDED_IDS = frozenset({"0536", "0730", "0722", "0732"})


def matches(path: Path) -> bool:
    """Whether a folder has Clothing Co-Parsing's label names."""
    return (path / "label_list.mat").is_file()


def read(path: Path) -> EachPhoto[Path]:
    """Every labelled photo except those of EXCLUDED_IDS, sorted by id.

    Raises:
        InputError: a folder or the label names are missing or wrong.
        PhotoError: a photo or its label cannot be used; the next photo can still be read.
    """
    return _read(path, sorted_files(_labels_folder(path), ".mat"))


def read_split(path: Path, split: str) -> EachPhoto[Path]:
    """The photos of one split, in the order of splits.json, except those of EXCLUDED_IDS.

    Args:
        path: the dataset's folder.
        split: a key of splits.json.

    Raises:
        InputError: as `read`; or splits.json is missing or has no such split.
        PhotoError: as `read`; or a listed photo has no label.
    """
    folder, file = _labels_folder(path), require(path / "splits.json", "Clothing Co-Parsing splits")
    lists = _split_lists(file)
    if split not in lists:
        raise InputError(f"{file} has no split {split!r}: it has {', '.join(lists)}")
    return _read(path, (folder / f"{photo_id}.mat" for photo_id in lists[split]))


def splits(path: Path) -> Iterable[str]:
    """The split of each photo that splits.json lists."""
    return _split_by_id(path / "splits.json").values()


def _read(path: Path, labels: Iterable[Path]) -> EachPhoto[Path]:
    """The photos of these label files, ID.mat, except those of EXCLUDED_IDS. path: the dataset's folder."""
    names, split_by_id = _garment_names(path), _split_by_id(path / "splits.json")

    def record_of(label: Path) -> PhotoRecord:
        photo = path / "photos" / f"{label.stem}.jpg"
        size_hw = photo_size_hw(photo)
        garments = read_matlab(require(label, "Clothing Co-Parsing label"), "groundtruth")
        if garments.shape != size_hw:
            raise InputError(f"{label}: labels must have the photo's size {size_hw} (HxW), got {garments.shape}")
        if garments.dtype.kind not in "ui":
            raise InputError(f"{label}: labels must be whole numbers, got {garments.dtype}")
        wrong = garments[(garments < 0) | (garments >= len(names))]
        if wrong.size:
            raise InputError(f"{label}: label {wrong[0]} is not in label_list.mat, which has {len(names)} names")
        groups = to_groups(garments, names)
        return PhotoRecord(
            image=str(photo),
            size_hw=size_hw,
            source="ccp",
            id=label.stem,
            split=split_by_id.get(label.stem),
            people=(whole_person("1", groups > 0, Parsing.of(groups, "deocclude-12")),),
        )

    return EachPhoto((label for label in labels if label.stem not in EXCLUDED_IDS), record_of)


def _labels_folder(path: Path) -> Path:
    """The folder of the label files. Raises InputError where it or the photos' folder is missing."""
    require(path / "photos", "Clothing Co-Parsing photos")
    return require(path / "annotations" / "pixel-level", "Clothing Co-Parsing pixel labels")


def _garment_names(path: Path) -> list[str]:
    """Names of the garments; the index in the list is the label."""
    cells = read_matlab(require(path / "label_list.mat", "Clothing Co-Parsing label names"), "label_list")
    names = [str(name[0]) for name in cells.ravel()]
    try:
        garment_table(names)
    except ValueError as error:
        raise InputError(f"{path / 'label_list.mat'}: {error}") from error
    if "skin" not in names:
        raise InputError(f"{path / 'label_list.mat'}: no name is skin")
    return names


def _split_by_id(file: Path) -> dict[str, str]:
    """The split of each photo id that splits.json lists; empty where there is no such file."""
    if not file.is_file():
        return {}
    return {photo_id: split for split, ids in _split_lists(file).items() for photo_id in ids}


def _split_lists(file: Path) -> dict[str, list[str]]:
    """Photo ids by split, from splits.json. A value that is not a list is a comment and is skipped.

    Raises InputError for a file that is missing or invalid.
    """
    try:
        lists = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: not valid JSON: {error}") from error
    if not isinstance(lists, dict):
        raise InputError(f"{file}: expected an object with a list of ids for each split")
    return {split: [str(photo_id) for photo_id in ids] for split, ids in lists.items() if isinstance(ids, list)}
