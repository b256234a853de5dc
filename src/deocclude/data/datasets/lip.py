"""LIP: crops of COCO photos around one person, with 19 parts of the visible mask.

Gong et al., "Look into Person: Self-supervised Structure-sensitive Learning and a New Benchmark for Human Parsing",
CVPR 2017. SPLIT_images/ID.jpg and SPLIT_segmentations/ID.png, at any depth that the archives unpack to.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from deocclude.data.datasets.each_photo import EachPhoto
from deocclude.data.datasets.files import photo_size_hw, read_labels, sorted_files
from deocclude.data.datasets.record import Parsing, PersonRecord, PhotoRecord, Rle
from deocclude.data.datasets.taxonomies import check_labels
from deocclude.errors import InputError

_SPLITS = ("train", "val")
_LEVELS = ("", "*/", "*/*/", "*/*/*/")  # glob patterns of the folders above the one that is searched


def matches(path: Path) -> bool:
    """Whether a folder has one of LIP's label folders, at any depth that its archives unpack to."""
    return path.is_dir() and any(_find_folder(path, f"{split}_segmentations") for split in _SPLITS)


def read(path: Path) -> Iterator[PhotoRecord]:
    """Every labelled photo, training split first.

    Raises:
        InputError: a folder is missing or wrong.
        PhotoError: a photo or its label cannot be used; the next photo can still be read.
    """
    return EachPhoto(_labelled_photos(path), lambda files: _record(*files))


def splits(path: Path) -> Iterator[str]:
    """The splits of the existing label folders."""
    return (split for split in _SPLITS if _find_folder(path, f"{split}_segmentations"))


def _labelled_photos(path: Path) -> Iterator[tuple[Path, Path, str]]:
    """(photo, label, split) of each photo. Raises InputError naming a missing folder."""
    found_any = False
    for split in _SPLITS:
        labels = _find_folder(path, f"{split}_segmentations")
        if labels is None:
            continue
        found_any = True
        photos = _find_folder(path, f"{split}_images")
        if photos is None:
            raise InputError(f"{path}: {labels} is there, but no folder {split}_images")
        for label in sorted_files(labels, ".png"):
            yield photos / f"{label.stem}.jpg", label, split
    if not found_any:
        raise InputError(f"{path}: not LIP: no folder train_segmentations or val_segmentations in it")


def _record(photo: Path, label: Path, split: str) -> PhotoRecord:
    """The photo of a label file and its one person."""
    size_hw = photo_size_hw(photo)
    mask = check_labels(read_labels(label, size_hw), "lip-20", str(label)) > 0
    person = PersonRecord(id="1", visible=Rle.of(mask), parsing=Parsing(taxonomy="lip-20", file=str(label)))
    return PhotoRecord(
        image=str(photo),
        size_hw=size_hw,
        source="lip",
        id=label.stem,
        split=split,
        people=(person,),
    )


def _find_folder(root: Path, name: str) -> Path | None:
    """The folder of that name in `root` or up to three levels deeper, the least deep one; None where there is none."""
    return next((folder for level in _LEVELS for folder in sorted(root.glob(level + name)) if folder.is_dir()), None)
