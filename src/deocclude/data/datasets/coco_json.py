"""Shared by the formats of the COCO family: a JSON file with `images`, each listed once, and `annotations`.

Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014; cocodataset.org, "Data format". Such a file is read
into memory completely, since annotations have no order; its records are made one at a time.
"""

from __future__ import annotations

import logging
import mmap
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deocclude.data.datasets.each_photo import EachPhoto
from deocclude.data.datasets.files import photo_size_hw
from deocclude.data.datasets.record import PersonRecord, PhotoRecord, Rle, ThingRecord
from deocclude.errors import InputError, kind_of, shown
from deocclude.io.coco import (
    ID,
    NAME,
    NUMBER,
    as_id,
    entries_of,
    read_json,
    relative_path,
    segmentation_to_mask,
    value_of,
)
from deocclude.io.coco_crowds import CrowdRule, crowd_form

_log = logging.getLogger(__name__)
# A split in a file's name, such as instances_val2017.json.
_SPLIT = re.compile(r"(?<![a-z])(train|val|test)\d{0,4}(?![a-z])")


@dataclass(frozen=True)
class Entry:
    """One of a file's `images` and its annotations. No photo is opened yet.

    Attributes:
        where: position in the file, for error messages.
        image: the entry of `images`.
        licence: name or URL of its licence; None where the file states none.
        annotations: each with its position in the file.
    """

    where: str
    image: Mapping[str, Any]
    licence: str | None
    annotations: tuple[tuple[str, Mapping[str, Any]], ...]


@dataclass(frozen=True)
class ListedPhoto:
    """A listed photo that exists and has the listed size. annotations: each with its position in the file."""

    path: Path
    size_hw: tuple[int, int]
    id: str
    licence: str | None
    annotations: tuple[tuple[str, Mapping[str, Any]], ...]


@dataclass(frozen=True)
class CocoDocument:
    """A file, its parsed content, and `images`, the folder of its photos."""

    path: Path
    content: dict[str, Any]
    images: Path

    def entries(self) -> Iterator[Entry]:
        """Every listed photo, in the file's order. Raises InputError naming the file and the invalid entry."""
        by_image: dict[int | str, list[tuple[str, Mapping[str, Any]]]] = {}
        for number, annotation in enumerate(entries_of(self.content, "annotations", self.path)):
            where = f"{self.path}: annotations[{number}]"
            by_image.setdefault(value_of(annotation, "image_id", ID, where), []).append((where, annotation))
        licences = {  # tools write an entry without a name for an unknown licence
            str(licence["id"]): str(licence.get("name") or licence.get("url"))
            for licence in self._optional("licenses")
            if "id" in licence and (licence.get("name") or licence.get("url"))
        }
        images = entries_of(self.content, "images", self.path)
        self._check_listed_once(images)
        self._warn_of_unlisted(by_image, images)
        for number, image in enumerate(images):
            image_id = as_id(image.get("id"))
            annotations = () if image_id is None else by_image.get(image_id, ())
            licence = licences.get(str(image.get("license")))
            yield Entry(f"{self.path}: images[{number}]", image, licence, tuple(annotations))

    def _check_listed_once(self, images: list[dict[str, Any]]) -> None:
        """Raise InputError for two entries of one id, since both would get all of its people."""
        places: dict[int | str, int] = {}
        for number, image in enumerate(images):
            image_id = as_id(image.get("id"))
            if image_id is not None and (first := places.setdefault(image_id, number)) != number:
                both = f"images[{first}] and images[{number}] have the id {shown(image_id)}"
                raise InputError(f"{self.path}: {both}: a photo must be listed once")

    def _warn_of_unlisted(self, by_image: Mapping[int | str, list[Any]], images: list[dict[str, Any]]) -> None:
        """Warn of annotations of unlisted photos; a number and its text are different ids."""
        listed = {as_id(image.get("id")) for image in images}
        unlisted = [image_id for image_id in by_image if image_id not in listed]
        if unlisted:
            count = sum(len(by_image[image_id]) for image_id in unlisted)
            left_out = f"{count} annotations left out, of photos that it does not list: image_id {shown(unlisted[0])}"
            _log.warning("%s: %s", self.path, left_out)

    def photo(self, entry: Entry) -> ListedPhoto:
        """The photo of an entry. Raises InputError naming the entry or the missing photo."""
        path = self.images / relative_path(value_of(entry.image, "file_name", NAME, entry.where))
        size_hw = photo_size_hw(path)
        listed = tuple(value_of(entry.image, key, NUMBER, entry.where) for key in ("height", "width"))
        if listed != size_hw:
            raise InputError(
                f"{entry.where}: {path} must have the size {list(listed)} (H, W), but has {list(size_hw)} upright"
            )
        image_id = value_of(entry.image, "id", ID, entry.where)
        return ListedPhoto(path, size_hw, str(image_id), entry.licence, entry.annotations)

    def record(
        self, photo: ListedPhoto, source: str, people: tuple[PersonRecord, ...], things: tuple[ThingRecord, ...]
    ) -> PhotoRecord:
        """The record of a photo with its people and things."""
        return PhotoRecord(
            image=str(photo.path),
            size_hw=photo.size_hw,
            source=source,
            id=photo.id,
            split=split_of(self.path),
            licence=photo.licence,
            people=people,
            things=things,
        )

    def categories(self) -> dict[str, str]:
        """Category names by id as text, since files write 1 and "1" for one id; empty without categories."""
        where = f"{self.path}: categories"
        return {
            str(value_of(category, "id", ID, where)): str(category.get("name", ""))
            for category in self._optional("categories")
        }

    def warn_of_uncategorised(self, categories: Mapping[str, str]) -> None:
        """Warn of annotations of unlisted categories: they may be people under another name."""
        annotations = entries_of(self.content, "annotations", self.path)
        given = (annotation["category_id"] for annotation in annotations if "category_id" in annotation)
        unknown = [category for category in given if str(as_id(category)) not in categories]
        if unknown:
            taken = f"{len(unknown)} annotations are taken for things, of categories that it does not list"
            _log.warning("%s: %s: category_id %s", self.path, taken, shown(unknown[0]))

    def category_ids(self, names: frozenset[str]) -> frozenset[str] | None:
        """Ids of the categories with one of these lower-case names; None for a file without categories.

        All annotations of a file without categories are people. Raises InputError where no category has such a name.
        """
        categories = self.categories()
        if not categories:
            return None
        found = frozenset(number for number, name in categories.items() if name.strip().lower() in names)
        if not found:
            others = ", ".join(list(categories.values())[:8])
            raise InputError(f"{self.path}: no category {' or '.join(sorted(names))}, only {others}")
        return found

    def _optional(self, key: str) -> list[dict[str, Any]]:
        """The entries of a list that a file need not have; empty where it has none."""
        return entries_of(self.content, key, self.path) if self.content.get(key) is not None else []


def split_of(path: Path) -> str | None:
    """train, val or test, if the file's name contains it."""
    found = _SPLIT.search(path.stem)
    return found[1] if found else None


def splits(path: Path) -> tuple[str | None]:
    """The one split of all photos of a file."""
    return (split_of(path),)


def open_document(path: Path, images: Path | None) -> CocoDocument:
    """Read a file and find its photos: in `images`, else beside it, or in COCO's own folder layout.

    Raises InputError, naming the file, where it is no COCO file or the photos' folder is not found.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected an object with images and annotations, got {kind_of(content)}")
    listed = entries_of(content, "images", path)
    if not listed:
        raise InputError(f"{path}: lists no photo")
    if images is not None:
        return CocoDocument(path, content, images)
    names = [relative_path(name) for image in listed if isinstance(name := image.get("file_name"), NAME) and name]
    if not names:
        raise InputError(f"{path}: no photo that it lists has a file_name")
    split = _SPLIT.search(path.stem)
    # annotations/instances_val2017.json has its photos in val2017, beside annotations.
    folders = [path.parent, path.parent / "images", *([path.parent.parent / split[0]] if split else [])]
    # Any listed photo identifies the folder: the first one may be missing.
    found = next((folder for name in names for folder in folders if (folder / name).is_file()), None)
    if found is None:
        looked = ", ".join(str(folder) for folder in folders)
        raise InputError(f"{path}: its photo {names[0]} was not found in {looked}: say where with --images")
    return CocoDocument(path, content, found)


def read_people(
    path: Path,
    images: Path | None,
    source: str,
    categories: frozenset[str],
    person_of: Callable[[Mapping[str, Any], tuple[int, int], str], PersonRecord],
) -> Iterator[PhotoRecord]:
    """Every photo of a file that has an annotation for each instance.

    Args:
        path: the JSON file.
        images: the photos' folder, or None to search for it.
        source: the records' `source`.
        categories: lower-case names of the categories that are people; the others are things.
        person_of: reads a person or thing, given the annotation, the photo's (H, W) and the annotation's position. The
            `iscrowd` of a person is a bool, by the rule of `io/coco_crowds.py`.

    Raises:
        InputError: the file is invalid as a whole.
        PhotoError: a photo or annotation cannot be used; the next photo can still be read.
    """

    def entries() -> Iterator[tuple[CocoDocument, _Categories, Entry]]:
        document = open_document(path, images)
        rule = CrowdRule.of(document.content.get("info"), entries_of(document.content, "annotations", path))
        categories_of_file = _Categories(document.categories(), document.category_ids(categories), rule)
        if categories_of_file.names:
            document.warn_of_uncategorised(categories_of_file.names)
        yield from ((document, categories_of_file, entry) for entry in document.entries())

    def record(document: CocoDocument, categories_of_file: _Categories, entry: Entry) -> PhotoRecord:
        photo = document.photo(entry)
        people, others = [], []
        from_coco = categories_of_file.crowds.marks_crowds(entry.image)
        for where, annotation in photo.annotations:
            name = categories_of_file.thing_name(annotation, where)
            if name is None:
                with_crowd = {**annotation, "iscrowd": _is_crowd(annotation, from_coco, where)}
                people.append(person_of(with_crowd, photo.size_hw, where))
            else:
                others.append((name, where, annotation))
        # Things of a photo without people occlude nobody and are skipped; most photos may be such.
        things = (make_thing(name, person_of(thing, photo.size_hw, where)) for name, where, thing in others if people)
        return document.record(photo, source, tuple(people), tuple(things))

    return EachPhoto(entries(), lambda item: record(*item))


@dataclass(frozen=True)
class _Categories:
    """Which annotations of a file are people, things and crowds.

    Attributes:
        names: category names by id.
        people: ids of the categories of people; None for a file without categories, where all annotations are people.
        crowds: how the file marks crowds.
    """

    names: Mapping[str, str]
    people: frozenset[str] | None
    crowds: CrowdRule

    def thing_name(self, annotation: Mapping[str, Any], where: str) -> str | None:
        """The category name of a thing, or the id of an unlisted category; None for a person.

        Raises InputError where the annotation has no category.
        """
        if self.people is None:
            return None
        category = str(value_of(annotation, "category_id", ID, where))
        return None if category in self.people else self.names.get(category, category)


def _is_crowd(annotation: Mapping[str, Any], from_coco: bool, where: str) -> bool:
    """Whether a person's annotation is a crowd, by `crowd_form`. Raises InputError naming `where`."""
    try:
        return bool(crowd_form(annotation, from_coco))
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def mask_of(segmentation: Any, size_hw: tuple[int, int], where: str) -> np.ndarray:
    """(H, W) bool mask of a segmentation in any of COCO's encodings, maybe empty; None is an empty mask.

    Raises InputError naming `where`.
    """
    try:
        return segmentation_to_mask([] if segmentation is None else segmentation, size_hw)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def make_person(
    person_id: str, visible: np.ndarray, amodal: np.ndarray | None, depth_order: int | None = None
) -> PersonRecord:
    """A person, from (H, W) bool masks as annotated.

    Masks may be empty, and visible pixels may lie outside the amodal mask: `annotation_fixes.repaired` mends both.
    """
    whole = None if amodal is None else Rle.of(amodal)
    return PersonRecord(id=person_id, visible=Rle.of(visible), amodal=whole, depth_order=depth_order)


def make_thing(name: str, instance: PersonRecord) -> ThingRecord:
    """A thing, from an annotation that was read like a person's."""
    return ThingRecord(name=name, visible=instance.visible, depth_order=instance.depth_order)


def file_has(path: Path, *keys: str) -> bool:
    """Whether a JSON file contains one of these keys; it is searched, not parsed, which is fast for large files."""
    if path.suffix != ".json" or not path.is_file() or path.stat().st_size == 0:
        return False
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return any(content.find(f'"{key}"'.encode()) >= 0 for key in keys)
