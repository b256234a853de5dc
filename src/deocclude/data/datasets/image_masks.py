"""Photos in images/ with masks of the same name in masks/: NAME.png, or NAME_1.png, NAME_2.png, ... for several people.

The same names as `deocclude run --mask FOLDER` takes. Such a folder does not state whether people are fully visible,
so that there are two formats: `masks` for visible masks, `whole-masks` for people without occlusion or truncation.
A whole person is one connected component; there a mask of several components is a crowd.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from deocclude.data.datasets.each_photo import EachPhoto
from deocclude.data.datasets.files import (
    IMAGE_SUFFIXES,
    image_files,
    photo_size_hw,
    require,
    split_folders,
    warn_of_left_out,
)
from deocclude.data.datasets.record import PersonRecord, PhotoRecord, Rle, whole_person
from deocclude.errors import InputError
from deocclude.imaging.arrays import Mask
from deocclude.imaging.masks import connected_components
from deocclude.io.images import load_mask

_SUBFOLDERS = ("images", "masks")
ONE_PIECE_SHARE = 0.97  # of a single person's mask: least share of the pixels in the largest connected component
_NUMBERED = re.compile(r"(.+)_(\d+)")  # NAME_1.png: one of several masks of the photo NAME


def matches(path: Path) -> bool:
    """Whether a folder has images/ and masks/; beside a persons.json, masks hold person numbers and do not match."""
    return path.is_dir() and split_folders(path, *_SUBFOLDERS) == [path] and not (path / "persons.json").exists()


def read(path: Path) -> EachPhoto[Path]:
    """Every photo with the visible masks of its people; masks without a photo are left out with a warning.

    Raises:
        InputError: a folder is missing, or two photos have one name.
        PhotoError: a photo or mask cannot be used, or two masks have one number; the next photo can still be read.
    """
    return _read(path, whole=False)


def read_whole(path: Path) -> EachPhoto[Path]:
    """Every photo with its fully visible people. Raises as `read` does."""
    return _read(path, whole=True)


def _read(path: Path, *, whole: bool) -> EachPhoto[Path]:
    """Every photo with its people. whole: masks of one component are fully visible people, others are crowds."""
    photos = image_files(path / "images", "images of an image + mask folder")
    for first, second in namesakes(photos):
        raise InputError(f"{first} and {second} have one name, so that their masks are ambiguous")
    masks_folder = require(path / "masks", "masks of an image + mask folder")
    by_photo = masks_by_photo(masks_folder, {photo.stem for photo in photos})
    used = {file for masks in by_photo.values() for _, file in masks}
    unused = (file.name for file in _image_files_unsorted(masks_folder) if file not in used)
    warn_of_left_out(masks_folder, unused, "masks left out, without a photo of their name")

    def record_of(photo: Path) -> PhotoRecord:
        masks = by_photo.get(photo.stem)
        if not masks:
            raise InputError(f"{photo}: has no mask: looked for {path / 'masks' / photo.stem}.png")
        for first, second in masks_of_one_number(masks):
            raise InputError(f"{photo}: {first} and {second} are masks of one number")
        size_hw = photo_size_hw(photo)
        numbered = ((number, _read_mask(file, size_hw)) for number, file in masks)
        people = tuple(
            whole_person(number, mask)
            if whole and is_one_piece(mask)
            else PersonRecord(id=number, visible=Rle.of(mask), iscrowd=whole)
            for number, mask in numbered
        )
        source = "whole-masks" if whole else "masks"
        return PhotoRecord(image=str(photo), size_hw=size_hw, source=source, id=photo.stem, people=people)

    return EachPhoto(photos, record_of)


def namesakes(photos: Iterable[Path]) -> Iterator[tuple[Path, Path]]:
    """Pairs of photos whose names differ only in the suffix, such as a.jpg and a.png."""
    by_stem: dict[str, Path] = {}
    for photo in photos:
        first = by_stem.setdefault(photo.stem, photo)
        if first != photo:
            yield first, photo


def masks_of_one_number(masks: Iterable[tuple[str, Path]]) -> Iterator[tuple[Path, Path]]:
    """Pairs of mask files of a photo that would be one person, such as a.png and a_1.png.

    masks: (person number, mask file) pairs, as `masks_by_photo` gives them.
    """
    by_number: dict[str, Path] = {}
    for number, file in masks:
        first = by_number.setdefault(number, file)
        if first != file:
            yield first, file


def masks_by_photo(folder: Path, stems: set[str]) -> dict[str, list[tuple[str, Path]]]:
    """(person number, mask file) pairs by photo, sorted by number.

    Args:
        folder: the masks' folder.
        stems: file names of all photos, without suffix. Masks of no photo are left out.
    """
    found: dict[str, list[tuple[int, Path]]] = {}
    for file in _image_files_unsorted(folder):
        numbered = _NUMBERED.fullmatch(file.stem)
        # A photo's own name may end in a number as well.
        if file.stem in stems:
            found.setdefault(file.stem, []).append((1, file))
        elif numbered and numbered[1] in stems:
            found.setdefault(numbered[1], []).append((int(numbered[2]), file))
    return {stem: [(str(number), file) for number, file in sorted(masks)] for stem, masks in found.items()}


def _image_files_unsorted(folder: Path) -> Iterator[Path]:
    """Image files of a folder, maybe none."""
    return (path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)


def is_one_piece(mask: Mask, min_share: float = ONE_PIECE_SHARE) -> bool:
    """Whether the largest connected component of an (H, W) bool mask has at least `min_share` of its pixels."""
    return bool(connected_components(mask).areas_px.max(initial=0) >= min_share * np.count_nonzero(mask))


def _read_mask(path: Path, size_hw: tuple[int, int]) -> Mask:
    """(H, W) bool mask of a file. Raises InputError where its size is not the photo's."""
    mask = load_mask(path)
    if mask.shape != size_hw:
        raise InputError(f"{path}: must have the photo's size {size_hw} (HxW), got {mask.shape}")
    return mask
