"""COCO-amodal (COCOA): all objects of a COCO photo as amodal regions in depth order.

Zhu et al., "Semantic Amodal Segmentation", CVPR 2017. An annotation is a photo with `regions`; a region has one
amodal polygon in `segmentation` (x0, y0, x1, y1, ...), a free `name`, `order` (1 is nearest), and, only if it is
occluded, `visible_mask` and `invisible_mask` as run lengths. `depth_constraint` lists pairs
"front-back" of orders.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from deocclude.data.datasets.coco_json import (
    CocoDocument,
    Entry,
    file_has,
    make_person,
    make_thing,
    mask_of,
    open_document,
)
from deocclude.data.datasets.each_photo import EachPhoto
from deocclude.data.datasets.outline import outline
from deocclude.data.datasets.record import PersonRecord, PhotoRecord
from deocclude.data.datasets.records_file import relative_to
from deocclude.errors import InputError, shown
from deocclude.imaging.rle import encode_rle
from deocclude.io.coco import entries_of
from deocclude.io.files import write_whole

# Head nouns of region names that denote one person.
_PERSON_NOUNS = frozenset((
    "adult", "baby", "batter", "boy", "catcher", "child", "cyclist", "dancer", "girl", "guy", "human", "kid",
    "lady", "man", "pedestrian", "person", "pitcher", "player", "rider", "skateboarder", "skater", "skier",
    "snowboarder", "surfer", "swimmer", "toddler", "umpire", "woman",
))  # fmt: skip
# Head nouns that denote several people.
_GROUP_NOUNS = frozenset((
    "audience", "boys", "children", "crowd", "girls", "kids", "men", "people", "persons", "players", "spectators",
    "women",
))  # fmt: skip
# Names in `convert.DETAILS` of what the format drops.
CANNOT_HOLD = ("parsing", "things", "licence", "split", "cut-out", "photo ids", "person ids")
_PAIRS = re.compile(r"(?:\s*\d+\s*-\s*\d+\s*(?:,|$))*")  # "front-back" pairs of orders, maybe none
# What follows the head noun of a name: "in black" of "man in black", "holding umbrella" of "woman holding umbrella".
_AFTER_HEAD_NOUN = re.compile(r"\b(?:in|on|at|by|of|with|behind|near|wearing|\w{2,}ing)\b.*")


def matches(path: Path) -> bool:
    """Whether a JSON file has annotations with regions."""
    return file_has(path, "regions", "depth_constraint")


def read(path: Path, images: Path | None = None) -> Iterator[PhotoRecord]:
    """The annotated photos of the file, one record for each annotator; people are found by the head noun of the name.

    Raises:
        InputError: the file is invalid as a whole.
        PhotoError: a photo or region cannot be used; the next photo can still be read.
    """

    def annotations() -> Iterator[tuple[CocoDocument, Entry, int]]:
        document = open_document(path, images)
        for entry in document.entries():
            yield from ((document, entry, index) for index in range(len(entry.annotations)))

    return EachPhoto(annotations(), lambda item: _record(*item))


def is_person(name: str) -> Literal["one", "group"] | None:
    """Whether a region's name denotes one person or a group; None for other objects.

    >>> is_person("Man in black"), is_person("person 2"), is_person("spectators"), is_person("man's hat")
    ('one', 'one', 'group', None)
    """
    words = re.findall(r"[a-z']+", _AFTER_HEAD_NOUN.sub("", name.lower()))
    noun = words[-1] if words else ""
    return "one" if noun in _PERSON_NOUNS else "group" if noun in _GROUP_NOUNS else None


def write(records: Iterable[PhotoRecord], path: Path) -> int:
    """Write records one at a time; the file appears complete or not at all. Content of CANNOT_HOLD is dropped.

    Polygons are exact to the pixel, photos are named relative to the file's folder, and orders count from 1; people
    without a depth order get none.

    Returns:
        How many people are left out, since the format cannot represent them: people without an amodal mask, crowds,
        and people marked `ignore`.

    Raises:
        DeoccludeError: the file cannot be written.
    """
    left_out = 0
    folder = path.parent.resolve()

    def fill(file: BinaryIO) -> None:
        nonlocal left_out
        # Both lists grow together, but are stored one after the other.
        with tempfile.TemporaryFile(dir=path.parent) as annotations:
            file.write(b'{"info": {"description": "people, written by deocclude"}, "images": [')
            for number, record in enumerate(records, start=1):
                kept = [p for p in record.people if p.amodal is not None and not p.iscrowd and not p.ignore]
                left_out += len(record.people) - len(kept)
                height, width = record.size_hw
                name = relative_to(record.image, folder)
                image = {"id": number, "file_name": name, "height": height, "width": width}
                comma = b",\n" if number > 1 else b"\n"
                file.write(comma + json.dumps(image).encode())
                annotations.write(comma + json.dumps(_annotation(number, record.image, kept)).encode())
            file.write(b'\n], "annotations": [')
            annotations.seek(0)
            shutil.copyfileobj(annotations, file)
            file.write(b"\n]}\n")

    write_whole(path, fill)
    return left_out


def _record(document: CocoDocument, entry: Entry, index: int) -> PhotoRecord:
    """The record of one of a photo's annotations, each by another annotator. index: the annotation's, from 0."""
    photo = document.photo(entry)
    where, annotation = photo.annotations[index]
    pairs = annotation.get("depth_constraint")
    if pairs is not None and not (isinstance(pairs, str) and _PAIRS.fullmatch(pairs)):
        raise InputError(f'{where}: depth_constraint must be pairs of orders such as "1-2,1-3", got {shown(pairs)}')
    people, things = [], []
    for region_index, region in enumerate(entries_of(annotation, "regions", where)):
        # Stuff such as the sky is left out.
        if not region.get("isStuff"):
            name = str(region.get("name", ""))
            denotes = is_person(name)
            instance = _instance(region, photo.size_hw, f"{where}.regions[{region_index}]", denotes == "group")
            if denotes is None:
                things.append(make_thing(name, instance))
            else:
                people.append(instance)
    record = document.record(photo, "coco-amodal", tuple(people), tuple(things))
    return record.model_copy(update={"id": f"{photo.id}#{index + 1}"}) if index else record


def _instance(region: Mapping[str, Any], size_hw: tuple[int, int], where: str, is_group: bool) -> PersonRecord:
    """The masks and depth order of a region, of a person or a thing; a group of people has no amodal mask.

    where: the region's position in the file, which ends in its index: "...regions[3]".
    """
    polygon = region.get("segmentation")
    # One polygon as a flat list of numbers; other writers nest it, or use run lengths.
    flat = isinstance(polygon, list) and not any(isinstance(part, list) for part in polygon)
    whole = mask_of([polygon] if flat else polygon, size_hw, where)
    visible = mask_of(region["visible_mask"], size_hw, where) if region.get("visible_mask") else whole
    order = region.get("order")
    if order is not None and (not isinstance(order, int) or isinstance(order, bool)):
        raise InputError(f"{where}: order must be a whole number, got {shown(order)}")
    person = make_person(where.rpartition("regions")[2].strip("[]"), visible, whole, order)
    return person.model_copy(update={"iscrowd": True, "amodal": None}) if is_group else person


def _annotation(number: int, image: str, people: Sequence[PersonRecord]) -> dict[str, Any]:
    """A photo's annotation: people with a depth order first, from the nearest to the farthest.

    number: id of the photo and of the annotation. image: the photo's path, for error messages.
    """
    ranked = [(p.depth_order, p) for p in people if p.depth_order is not None]
    ordered = [person for _, person in sorted(ranked, key=lambda pair: pair[0])]
    masks = [_masks(person, image) for person in (*ordered, *(p for p in people if p.depth_order is None))]
    wholes = [whole for _, whole in masks]
    regions = [_region(visible, whole) for visible, whole in masks]
    annotation: dict[str, Any] = {"id": number, "image_id": number, "regions": regions, "size": len(regions)}
    if ordered:
        for order, region in enumerate(regions[: len(ordered)], start=1):
            region["order"] = order
        pairs = [
            f"{front + 1}-{back + 1}"
            for back in range(len(ordered))
            for front in range(back)
            if (wholes[front] & wholes[back]).any()
        ]
        annotation["depth_constraint"] = ",".join(pairs)
    return annotation


def _masks(person: PersonRecord, image: str) -> tuple[np.ndarray, np.ndarray]:
    """Visible and amodal (H, W) bool masks of a person. image: the photo's path, for error messages."""
    try:
        visible = person.visible.mask()
        whole = visible if person.amodal is None else person.amodal.mask() | visible
    except InputError as error:
        raise InputError(f"{image}: person {person.id}: {error}") from error
    if not whole.any():
        raise InputError(f"{image}: person {person.id} has no pixel")
    return visible, whole


def _region(visible: np.ndarray, whole: np.ndarray) -> dict[str, Any]:
    """A person's region, without `order`. visible, whole: (H, W) bool visible and amodal mask."""
    hidden = whole & ~visible
    area = int(np.count_nonzero(whole))
    region: dict[str, Any] = {"name": "person", "isStuff": 0, "segmentation": outline(whole), "area": area}
    region["occlude_rate"] = round(np.count_nonzero(hidden) / area, 6)
    if hidden.any():
        region |= {"visible_mask": encode_rle(visible), "invisible_mask": encode_rle(hidden)}
    return region
