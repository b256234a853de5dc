"""AHP: photos of one whole, fully visible person each.

Zhou et al., "Human De-occlusion: Invisible Perception and Recovery for Humans", CVPR 2021. The training split:
JPEGImages/ID.jpg, Annotations/ID.png (person where above 0), PseudoParsingAnnotations/ID.png (LIP's labels, predicted
by a network). The occluded test photos have another layout and are not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from deocclude.data.datasets.each_photo import EachPhoto
from deocclude.data.datasets.files import (
    folder_name,
    photo_size_hw,
    read_above_zero,
    read_labels,
    require_split_folders,
    sorted_files,
    split_folders,
    warn_of_unlabelled,
)
from deocclude.data.datasets.record import Parsing, PhotoRecord, whole_person
from deocclude.data.datasets.taxonomies import check_labels

_SUBFOLDERS = ("JPEGImages", "Annotations", "PseudoParsingAnnotations")


def matches(path: Path) -> bool:
    """Whether a folder, or one up to two levels below it, has AHP's three folders."""
    return path.is_dir() and bool(split_folders(path, *_SUBFOLDERS))


def read(path: Path) -> Iterator[PhotoRecord]:
    """Every annotated photo of AHP/train; a warning names photos without an annotation.

    Raises:
        InputError: a folder is missing or wrong.
        PhotoError: a photo or its label cannot be used; the next photo can still be read.
    """
    folders = require_split_folders(path, "AHP's training split", *_SUBFOLDERS)
    for folder in folders:
        warn_of_unlabelled(folder / "JPEGImages", folder / "Annotations", "without an annotation")
    return EachPhoto((label for folder in folders for label in sorted_files(folder / "Annotations", ".png")), _record)


def splits(path: Path) -> Iterator[str]:
    """The names of the split folders."""
    return (folder_name(folder) for folder in split_folders(path, *_SUBFOLDERS))


def _record(label: Path) -> PhotoRecord:
    """The photo and person of an annotation, Annotations/ID.png, with parsing where the dataset has it."""
    folder = label.parent.parent
    photo = folder / "JPEGImages" / f"{label.stem}.jpg"
    parsing = folder / "PseudoParsingAnnotations" / label.name
    size_hw = photo_size_hw(photo)
    mask = read_above_zero(label, size_hw)
    parts = None
    if parsing.is_file():
        check_labels(read_labels(parsing, size_hw), "lip-20", str(parsing))
        parts = Parsing(taxonomy="lip-20", file=str(parsing))
    return PhotoRecord(
        image=str(photo),
        size_hw=size_hw,
        source="ahp",
        id=label.stem,
        split=folder_name(folder),
        licence="non-commercial",
        people=(whole_person("1", mask, parts),),
    )
