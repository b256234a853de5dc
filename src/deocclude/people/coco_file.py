"""COCO instance files as prompts: the people that a file lists for each photo.

Such files come from many tools. What cannot be read is named in a warning and left out; the rest of the file is used.
`io/coco_crowds.py` says which annotations are crowds.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from deocclude.errors import InputError, kind_of, short_name, shown
from deocclude.imaging.arrays import Mask
from deocclude.imaging.boxes import box_to_mask
from deocclude.io.coco import (
    ID,
    NAME,
    NUMBER,
    as_id,
    finite_numbers,
    keys_of,
    list_of,
    read_json,
    relative_path,
    segmentation_to_mask,
    value_of,
)
from deocclude.io.coco_crowds import CrowdRule, crowd_form
from deocclude.people.choice import left_to_right
from deocclude.people.instances import Instance
from deocclude.people.prompts import FRACTIONS, are_fractions

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_MAX_NESTING = 20  # levels of an annotation, which has four; hundreds cannot be handed to worker processes
_MAX_WARNINGS = 10  # lines for one file or photo; a last line counts the others


@dataclass(frozen=True)
class CocoImage:
    """A photo of a COCO file, and its people.

    Attributes:
        file_name: relative path with forward slashes.
        size_hw: in pixels, as the file has it; None where the file has none.
        from_coco: crowds of this photo are marked as in COCO's own files.
        annotations: of people and crowds, as the file has them.
    """

    file_name: str
    size_hw: tuple[float, float] | None
    from_coco: bool
    annotations: tuple[Mapping[str, Any], ...] = field(repr=False)

    @property
    def shown_name(self) -> str:
        """The name for messages."""
        return short_name(self.file_name)


@dataclass(frozen=True, eq=False)
class CocoFile:
    """A COCO instances JSON: the people of many photos. Read once; threads may share it."""

    path: Path
    images: tuple[CocoImage, ...] = field(repr=False)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> CocoFile:
        """Read a file with `images` (id, file_name, width, height) and `annotations`.

        Annotations of the category "person" are used, or all annotations where `categories` name none or a single other
        one. Entries that cannot be used are named in warnings and left out; an image without a size is used, and its
        size is not checked.

        Raises:
            InputError: the file cannot be read, has several categories without person, none of its images or
                annotations can be used, or its annotations belong to none of its images; the message names the file.
        """
        path = Path(path)
        document = read_json(path)
        if not isinstance(document, dict):
            raise InputError(
                f'{path}: expected a COCO file, an object with "images" and "annotations", got {kind_of(document)}'
            )
        person_ids, known_ids = _category_ids(document, path)

        def read_annotation(annotation: dict[str, Any], where: str) -> tuple[str, bool, dict[str, Any]]:
            image_id = str(value_of(annotation, "image_id", ID, where))
            is_person = True
            if person_ids:
                category_id = str(value_of(annotation, "category_id", ID, where))
                if category_id not in known_ids:
                    raise InputError(f"{where}: category_id {short_name(category_id)} is in no category")
                is_person = category_id in person_ids
            if is_person and _is_nested(annotation, _MAX_NESTING):
                raise InputError(f"{where}: lists and objects inside each other, more than {_MAX_NESTING} deep")
            return image_id, is_person, annotation

        by_image: dict[str, list[dict[str, Any]]] = {}
        for image_id, is_person, annotation in _read_each(document, "annotations", path, read_annotation):
            if is_person:
                by_image.setdefault(image_id, []).append(annotation)
        rule = CrowdRule.of(document.get("info"), (one for people in by_image.values() for one in people))

        unsized: list[str] = []

        def read_image_entry(image: dict[str, Any], where: str) -> tuple[str, CocoImage]:
            """The id of one entry of "images", and what the entry says, with its people."""
            image_id = str(value_of(image, "id", ID, where))
            name = relative_path(value_of(image, "file_name", NAME, where))
            size_hw = None
            try:
                size_hw = value_of(image, "height", NUMBER, where), value_of(image, "width", NUMBER, where)
            except InputError as error:
                unsized.append(f"{error}: used without a check of the photo's size")
            people = tuple(by_image.get(image_id, ()))
            return image_id, CocoImage(name, size_hw, rule.marks_crowds(image), people)

        images = _read_each(document, "images", path, read_image_entry)
        _warn(path, unsized)
        image_ids = {image_id for image_id, _ in images}
        unlisted = [image_id for image_id in by_image if image_id not in image_ids]
        if images and unlisted:
            shown_id = short_name(unlisted[0])
            if len(unlisted) == len(by_image):
                raise InputError(f"{path}: no annotation's image_id is an image's id, such as {shown_id} of the first")
            count = sum(len(by_image[image_id]) for image_id in unlisted)
            _warn(path, [f"people with an image_id that no image has, such as {shown_id}: {count} left out"])
        return cls(path, tuple(image for _, image in images))

    def prompts_for(
        self, name: str | os.PathLike[str], size_hw: tuple[int, int], source: str | os.PathLike[str] | None = None
    ) -> list[Instance]:
        """The people of one photo, left to right; an empty list where the file lists the photo without people.

        A mask is the annotation's `visible_segmentation` where there is one (`Result.to_coco` writes it), else its
        `segmentation` (united polygons, or run lengths). Its filled `bbox` takes the place of a segmentation that is
        missing, cannot be read, or has no pixel in the photo. Scores are the file's, or 1. Crowds, and annotations
        without a usable mask or box, are named in warnings and left out.

        Args:
            name: the photo's path. Where it and the file's path differ in length, the shorter must be the end of the
                longer.
            size_hw: the upright photo's size.
            source: the photo's full path, which resolves ambiguous names.

        Raises:
            InputError: the photo is not listed, is listed more than once, or has another size; or no person is left,
                and an annotation cannot be read. The message names the file and what was left out.
        """
        image = self._find(relative_path(os.fspath(name)), None if source is None else relative_path(os.fspath(source)))
        if image.size_hw is not None and image.size_hw != tuple(size_hw):
            listed = "x".join(map(shown, reversed(image.size_hw)))
            raise InputError(
                f"{self.path}: lists {image.shown_name} with {listed} pixels, "
                f"but the upright photo has {size_hw[1]}x{size_hw[0]}"
            )
        instances: list[Instance] = []
        notes: list[str] = []
        unusable = False
        for annotation in image.annotations:
            entry_notes: list[str] = []
            is_crowd = _is_crowd(annotation, image.from_coco, entry_notes)
            instance = None if is_crowd else _instance(annotation, size_hw, entry_notes)
            if instance is not None:
                instances.append(instance)
            unusable |= instance is None and not is_crowd
            number = shown(annotation["id"]) if "id" in annotation else "without an id"
            notes += [f"annotation {number} of {image.shown_name}: {note}" for note in entry_notes]
        if unusable and not instances:
            more = f"; and {len(notes) - 3} more" if len(notes) > 3 else ""
            raise InputError(f"{self.path}: no usable person: {'; '.join(notes[:3])}{more}")
        _warn(self.path, notes)
        return left_to_right(instances)

    @cached_property
    def _by_base_name(self) -> dict[str, list[CocoImage]]:
        """The images by file name without folders."""
        index: dict[str, list[CocoImage]] = {}
        for image in self.images:
            index.setdefault(PurePosixPath(image.file_name).name, []).append(image)
        return index

    def _find(self, wanted: str, source: str | None) -> CocoImage:
        """The image of a photo's path, as `prompts_for`. Raises InputError: none or several have it."""
        namesakes = self._by_base_name.get(PurePosixPath(wanted).name, [])
        matches = [image for image in namesakes if image.file_name == wanted]
        if not matches:
            matches = [image for image in namesakes if _is_end_of_other(image.file_name, wanted)]
        if len(matches) > 1 and source is not None:
            matches = [image for image in matches if _is_end_of_other(image.file_name, source)] or matches
        if not matches:
            example = f" such as {self.images[0].shown_name}" if self.images else ""
            raise InputError(f"{self.path}: does not list {wanted}, only {len(self.images)} other images{example}")
        if len(matches) > 1:
            raise InputError(
                f"{self.path}: {wanted} may be any of {len(matches)} images: {matches[0].shown_name}, "
                f"{matches[1].shown_name}{', ...' if len(matches) > 2 else ''}"
            )
        return matches[0]


def _read_each(
    document: Mapping[str, Any], key: str, path: Path, read: Callable[[dict[str, Any], str], _T]
) -> list[_T]:
    """What `read` makes of each entry under a key; entries that it refuses are named in warnings and left out.

    Args:
        document: the document.
        key: images, annotations or categories.
        path: the file.
        read: takes an entry and its place in the file; raises InputError without the file's name.

    Raises:
        InputError: the key is missing or no list, or every one of its entries is refused.
    """
    entries = list_of(document, key, path)
    found: list[_T] = []
    problems: list[str] = []
    for number, entry in enumerate(entries):
        where = f"{key}[{number}]"
        try:
            if not isinstance(entry, dict):
                raise InputError(f"{where}: expected an object, got {shown(entry)}")
            found.append(read(entry, where))
        except InputError as error:
            problems.append(str(error))
    if problems and not found:
        raise InputError(
            f"{path}: {problems[0]}" + (f"; none of {len(problems)} {key} can be used" if len(problems) > 1 else "")
        )
    _warn(path, [f"{problem}: left out" for problem in problems])
    return found


def _warn(path: Path, lines: Sequence[str]) -> None:
    """Log what was left out of a file or replaced: at most _MAX_WARNINGS lines, and a count of the others."""
    for line in lines[:_MAX_WARNINGS]:
        _log.warning("%s: %s", path, line)
    if len(lines) > _MAX_WARNINGS:
        _log.warning("%s: %d more such lines are not shown", path, len(lines) - _MAX_WARNINGS)


def _category_ids(document: Mapping[str, Any], path: Path) -> tuple[set[str], set[str]]:
    """Ids of the category person, and of all categories, as text: some files write "1" in one place and 1 in another.

    No ids of persons: all annotations are people, as where there are no categories, or a single other one. Raises
    InputError where the file has several categories without person.
    """
    if document.get("categories") is None:
        return set(), set()

    def read_category(category: dict[str, Any], where: str) -> tuple[str, str]:
        name = str(category.get("name", "")).strip()
        if name.lower() == "person":
            return name, str(value_of(category, "id", ID, where))
        return name, str(as_id(category.get("id")))  # an id must be valid for people alone

    found = _read_each(document, "categories", path, read_category)
    names = dict.fromkeys(name for name, _ in found if name)
    person_ids = {category_id for name, category_id in found if name.lower() == "person"}
    if len(names) > 1 and not person_ids:
        raise InputError(f'{path}: expected a category "person", got {shown(", ".join(names))}')
    return person_ids, {category_id for _, category_id in found}


def _is_nested(value: dict[str, Any] | list[Any], levels: int) -> bool:
    """Whether lists and objects are nested more than `levels` deep; `value` is the first level."""
    entries = value.values() if isinstance(value, dict) else value
    if not {dict, list} & set(map(type, entries)):  # fast for long lists of numbers
        return False
    return levels <= 1 or any(_is_nested(one, levels - 1) for one in entries if isinstance(one, (dict, list)))


def _is_end_of_other(one: str, other: str) -> bool:
    """Whether the shorter of two paths is the end of the longer: b/c.png of a/b/c.png."""
    return all(
        mine == theirs for mine, theirs in zip(reversed(one.split("/")), reversed(other.split("/")), strict=False)
    )


def _is_crowd(annotation: Mapping[str, Any], from_coco: bool, notes: list[str]) -> bool:
    """Whether an annotation is a crowd (`crowd_form`); its reason is appended to the notes.

    Args:
        annotation: the annotation.
        from_coco: `CocoImage.from_coco`.
        notes: lines about the annotation.
    """
    try:
        form = crowd_form(annotation, from_coco)
    except InputError as error:
        notes.append(f"{error}: taken as 0")
        return False
    if form:
        notes.append(f"left out as a crowd: {form} with iscrowd 1; 0 makes it a person")
    return bool(form)


def _instance(annotation: Mapping[str, Any], size_hw: tuple[int, int], notes: list[str]) -> Instance | None:
    """The person of an annotation; None where neither its segmentation nor its box can be used.

    Args:
        annotation: the annotation.
        size_hw: the photo's size.
        notes: lines about the annotation; what was replaced or left out is appended.
    """
    reasons: list[str] = []
    mask = None
    try:
        mask = _segmentation_mask(annotation, size_hw, notes)
    except InputError as error:
        reasons.append(str(error))
    if mask is None and ("bbox" in annotation or not reasons):
        try:
            mask = _box_mask(annotation, size_hw)
            notes += [f"{reason}: its bbox is used" for reason in reasons]
        except InputError as error:
            reasons.append(str(error))
    if mask is None:
        notes.append(f"left out: {', and '.join(reasons)}")
        return None
    score = annotation.get("score")
    try:
        return Instance(mask, 1.0 if score is None else score)
    except InputError as error:
        notes.append(f"{error}: taken as 1")
        return Instance(mask)


def _segmentation_mask(annotation: Mapping[str, Any], size_hw: tuple[int, int], notes: list[str]) -> Mask | None:
    """(H, W) bool mask of the visible segmentation with at least one True; None where there is no segmentation.

    Polygons that cannot be read are left out, and named in `notes`. Raises InputError where no pixel is left.
    """
    key = "visible_segmentation" if annotation.get("visible_segmentation") else "segmentation"
    segmentation = annotation.get(key)
    if not segmentation:
        return None
    if isinstance(segmentation, list):
        # one polygon without its outer list: supervision wrote this
        segmentation = [segmentation] if finite_numbers(segmentation) is not None else segmentation
        segmentation = _usable_polygons(segmentation, notes)
    mask = segmentation_to_mask(segmentation, size_hw)
    if not mask.any():
        raise InputError(f"{key} has no pixel in the photo of {size_hw[1]}x{size_hw[0]}")
    return mask


def _usable_polygons(polygons: Sequence[Any], notes: list[str]) -> list[Any]:
    """The polygons with at least three corners.

    Raises InputError where there is none, or where they are no pixels; else names the others.
    """
    problems = []
    usable = []
    for number, polygon in enumerate(polygons):
        numbers = finite_numbers(polygon)
        if numbers is None or numbers.size % 2 or numbers.size < 6:
            problems.append((number, shown(polygon)))
        else:
            usable.append(polygon)
    expected = "a polygon must be a list of at least six numbers x0, y0, x1, y1, ..."
    if not usable:
        raise InputError(f"{expected}, got {problems[0][1]}")
    if are_fractions([number for polygon in usable for number in polygon]):
        raise InputError(f"polygons must be in pixels, got {shown(usable[0])}, {FRACTIONS}")
    if problems:
        notes.append(f"{len(problems)} of {len(polygons)} polygons left out: {expected}, got {problems[0][1]}")
    return usable


def _box_mask(annotation: Mapping[str, Any], size_hw: tuple[int, int]) -> Mask:
    """(H, W) bool mask of the filled box, with at least one True. Raises InputError where there is none."""
    if "bbox" not in annotation:
        raise InputError(f'expected "segmentation" or "bbox", got {keys_of(annotation)}')
    numbers = finite_numbers(annotation["bbox"])
    if numbers is None or numbers.size != 4:
        raise InputError(f"bbox must be four numbers x, y, width, height, got {shown(annotation['bbox'])}")
    x, y, width, height = numbers.tolist()
    if width <= 0 or height <= 0:
        raise InputError(f"bbox must have a width and a height above 0, got {shown(annotation['bbox'])}")
    if are_fractions((x, y, x + width, y + height)):
        raise InputError(f"bbox must be in pixels, got {shown(annotation['bbox'])}, {FRACTIONS}")
    mask = box_to_mask((x, y, x + width, y + height), size_hw)
    if not mask.any():
        raise InputError(f"bbox {shown(annotation['bbox'])} has no pixel in the photo of {size_hw[1]}x{size_hw[0]}")
    return mask
