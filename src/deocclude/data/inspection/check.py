"""Checks of datasets and sets before training: each fault is reported, and the check continues."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from deocclude.data.datasets import image_masks
from deocclude.data.datasets.annotation_fixes import note_on
from deocclude.data.datasets.each_photo import UnusablePhoto, with_unusable
from deocclude.data.datasets.files import UNREADABLE, image_files, upright_size_hw
from deocclude.data.datasets.record import PersonRecord, PhotoRecord
from deocclude.data.datasets.records_file import parse_line
from deocclude.data.sources.perceptual_hash import NearDuplicates, dhash
from deocclude.data.sources.shard_rows import decode, decode_rgb
from deocclude.data.sources.shard_state import STATE_FILE
from deocclude.data.sources.shards import ShardedRows
from deocclude.data.storage import Folder, is_url, read_bytes, read_lines
from deocclude.data.trainsets.build import open_records
from deocclude.errors import InputError, first_line
from deocclude.io.images import load_mask

FaultKind = Literal["unreadable", "size", "empty", "outside", "duplicate", "licence"]
"""unreadable: also a mask file without a photo, or an invalid record. size: not the photo's, or not the record's.
empty: a photo without a mask too. outside: visible pixels outside the amodal mask, or labels outside the person.
duplicate: similar photos in two splits, or files of one name or number. licence: none is stated."""


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        kind: the kind of fault.
        where: the file, row or person concerned.
        what: what is wrong, in a line.
    """

    kind: FaultKind
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.where}: {self.what}"


@dataclass
class Check:
    """A check of data at a path or URL.

    Attributes:
        place: a built set, records file, image + mask folder or other dataset.
        source_format: the format's name, or None to recognise it.
        images: the folder of the photos that a JSON file lists; None to search for it.
        photos: photos checked so far by `run`; a built set has one for each person.
        people: people checked so far.
        backgrounds: backgrounds of a built set checked so far.
    """

    place: str
    source_format: str | None = None
    images: Path | None = None
    photos: int = 0
    people: int = 0
    backgrounds: int = 0
    _near_duplicates: NearDuplicates = field(default_factory=NearDuplicates)
    # by source, the number of photos and backgrounds without a licence
    _unlicensed: dict[str, Counter[str]] = field(default_factory=dict)

    def run(self) -> Iterator[Fault]:
        """The faults of a built set, a records file, a folder of photos with masks, or any other dataset.

        An error of the dataset as a whole ends its reader; after the first photo it becomes a fault.
        Raises InputError and UsageError where nothing can be read at the path, or its format cannot be recognised.
        """
        try:
            yield from self._faults()
        except InputError as error:
            if not self.photos:
                raise
            yield Fault(_fault_kind(str(error)), self.place, f"{error}; photos after it are not checked")
        for source, counts in sorted(self._unlicensed.items()):
            unlicensed = " and ".join(f"{counts[what]} {what}" for what in ("photos", "backgrounds") if counts[what])
            yield Fault("licence", self.place, f"none is stated for {unlicensed} of {source}")

    def _faults(self) -> Iterator[Fault]:
        """All faults but missing licences, which are counted."""
        if self.images is not None:
            return self._faults_of_dataset()  # the reader refuses `images` for formats that contain their photos
        if self.source_format is None and Folder(self.place).has(STATE_FILE):
            return self._faults_of_built_set()
        if self.source_format in (None, "records") and self.place.endswith(".jsonl"):
            return self._faults_of_records_file()
        may_be_masks = self.source_format in (None, "masks", "whole-masks") and not is_url(self.place)
        if may_be_masks and image_masks.matches(Path(self.place)):
            return self._faults_of_folder(Path(self.place))
        return self._faults_of_dataset()

    def _faults_of_records_file(self) -> Iterator[Fault]:
        folder = self.place.rpartition("/")[0] if is_url(self.place) else str(Path(self.place).parent)
        for number, line in enumerate(read_lines(self.place), start=1):
            if not line.strip():
                continue
            try:
                photo = parse_line(line, f"line {number}").below(folder)
            except InputError as error:
                yield Fault("unreadable", self.place, str(error))
            else:
                yield from self._faults_of_photo(photo)

    def _faults_of_dataset(self) -> Iterator[Fault]:
        for photo in with_unusable(open_records(self.place, self.source_format, self.images)):
            if isinstance(photo, UnusablePhoto):
                self.photos += 1
                yield Fault(_fault_kind(photo.what), self.place, photo.what)
            else:
                yield from self._faults_of_photo(photo)

    def _faults_of_photo(self, photo: PhotoRecord) -> Iterator[Fault]:
        self.photos += 1
        self.people += len(photo.people)
        if photo.licence is None:
            self._count_unlicensed(photo.source, "photos")
        try:
            size_hw, code = _size_and_hash(read_bytes(photo.image))
        except InputError as error:
            yield Fault("unreadable", photo.image, _without_prefix(photo.image, error))
        else:
            if size_hw != tuple(photo.size_hw):
                yield Fault("size", photo.image, f"its record says {photo.size_hw} (HxW), the photo is {size_hw}")
            yield from self._near_duplicate(code, photo.image, photo.split)
        for note in photo.notes:
            yield Fault(note.kind, f"{photo.image}: person {note.person}", note.what)
        for person in photo.people:
            yield from _faults_of_person(person, f"{photo.image}: person {person.id}")
        for number, thing in enumerate(photo.things):
            try:
                thing.visible.mask()
            except InputError as error:
                yield Fault("unreadable", f"{photo.image}: things[{number}]", str(error))

    def _count_unlicensed(self, source: str, what: Literal["photos", "backgrounds"]) -> None:
        self._unlicensed.setdefault(source, Counter())[what] += 1

    def _near_duplicate(self, code: int | None, name: str, split: str | None) -> Iterator[Fault]:
        """A fault for a photo that looks like an earlier one of another split. code: the photo's hash, or None."""
        other = None if code is None else self._near_duplicates.add(code, name, split)
        if other is not None:
            yield Fault("duplicate", name, f"{split or 'of no'} split, looks like {other}")

    def _faults_of_folder(self, folder: Path) -> Iterator[Fault]:
        """Faults of an image + mask folder: of its images, and of file names that do not match."""
        photos = image_files(folder / "images", "images of an image + mask folder")
        for first, second in image_masks.namesakes(photos):
            yield Fault("duplicate", str(second), f"has the name of {first}: its masks are ambiguous")
        masks = image_masks.masks_by_photo(folder / "masks", {photo.stem for photo in photos})
        for photo in photos:
            self.photos += 1
            size_hw = None
            try:
                size_hw, code = _size_and_hash(read_bytes(str(photo)))
            except InputError as error:
                yield Fault("unreadable", str(photo), _without_prefix(str(photo), error))
            else:
                yield from self._near_duplicate(code, str(photo), None)
            if photo.stem not in masks:
                yield Fault("empty", str(photo), f"has no mask: looked for {folder / 'masks' / photo.stem}.png")
            for first, second in image_masks.masks_of_one_number(masks.get(photo.stem, ())):
                yield Fault("duplicate", str(second), f"has the number of {first}: both would be one person")
            for _, file in masks.get(photo.stem, ()):
                self.people += 1
                yield from _faults_of_mask_file(file, size_hw)
        used = {file for files in masks.values() for _, file in files}
        for file in sorted(path for path in (folder / "masks").iterdir() if path.is_file() and path not in used):
            yield Fault("unreadable", str(file), "no photo of its name")

    def _faults_of_built_set(self) -> Iterator[Fault]:
        rows = ShardedRows(self.place)
        for number in range(len(rows)):
            row = rows[number]
            is_background = row["kind"] == "background"
            if is_background:
                self.backgrounds += 1
            else:
                self.photos += 1
                self.people += 1
            if row["licence"] is None:
                self._count_unlicensed(row["source"], "backgrounds" if is_background else "photos")
            try:
                yield from self._faults_of_row(row)
            except InputError as error:
                yield Fault(_fault_kind(str(error)), row["id"], _without_prefix(row["id"], error))

    def _faults_of_row(self, row: dict[str, Any]) -> Iterator[Fault]:
        if row["kind"] == "background":
            decode_rgb(row)
            return
        cut = decode(row)
        if not cut.mask.any():
            yield Fault("empty", row["id"], "the mask is empty")
        if cut.parsing is not None and (cut.parsing[~cut.mask] > 0).any():
            yield Fault("outside", row["id"], "parsing labels reach outside the mask")
        if row["kind"] == "person":
            _, code = _size_and_hash(row["photo"]["bytes"])
            yield from self._near_duplicate(code, row["id"], row["split"])


def _size_and_hash(content: bytes) -> tuple[tuple[int, int], int | None]:
    """A photo's (H, W) after EXIF rotation, and its perceptual hash. Raises InputError for an incomplete file."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            return upright_size_hw(image), dhash(image)
    except UNREADABLE as error:
        raise InputError(f"not a readable photo ({first_line(error)})") from error


def _faults_of_person(person: PersonRecord, where: str) -> Iterator[Fault]:
    try:
        note, beyond = note_on(person), _parts_beyond_px(person)
        if person.parsing is not None:
            person.parsing_labels()
    except InputError as error:
        yield Fault("unreadable", where, str(error))
        return
    if note is not None:
        yield Fault(note.kind, where, note.what)
    if beyond:
        yield Fault("outside", where, f"{beyond} pixels of body parts lie outside the mask")


def _parts_beyond_px(person: PersonRecord) -> int:
    """Number of pixels of a person's part masks outside the person. A label image may show other people too."""
    if person.parsing is None or not person.parsing.parts:
        return 0
    parts = np.any([part.mask() for part in person.parsing.parts.values()], axis=0)
    return int(np.count_nonzero(parts & ~(person.amodal or person.visible).mask()))


def _faults_of_mask_file(file: Path, size_hw: tuple[int, int] | None) -> Iterator[Fault]:
    try:
        mask = load_mask(file)
    except InputError as error:
        yield Fault("unreadable", str(file), _without_prefix(str(file), error))
        return
    if size_hw is not None and mask.shape != size_hw:
        yield Fault("size", str(file), f"must have the photo's size {size_hw} (HxW), got {mask.shape}")
    if not mask.any():
        yield Fault("empty", str(file), "the mask is empty")


def _fault_kind(message: str) -> FaultKind:
    """The kind of fault that an error message of a reader stands for."""
    if "must have the photo's size" in message or "must have the size" in message:
        return "size"
    return "empty" if "wholly transparent" in message or "has no mask" in message else "unreadable"


def _without_prefix(name: str, error: InputError) -> str:
    """An error's message without the name that is reported beside it."""
    return str(error).removeprefix(f"{name}: ")
