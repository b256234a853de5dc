"""Readers of real photos with annotated people, one folder each: whole, truncated and excluded people.

A person occluded inside the photo is neither whole nor truncated by the image border. The rest of that body is unknown,
which a `PersonPhoto` cannot express, so that such people are never read.

Every reader raises InputError where a file is missing or cannot be used.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from deocclude.data.datasets.files import require
from deocclude.data.sources.layers import PersonPhoto
from deocclude.data.sources.readers import (
    as_person,
    people_entry,
    read_cutout_people,
    read_image,
    read_photos,
    read_segmentation,
    read_stored_photo,
)
from deocclude.data.sources.splits import held_out
from deocclude.errors import InputError
from deocclude.imaging.boxes import box_iou, mask_to_box_xyxy
from deocclude.io.coco import read_json

_SURROUNDINGS = 0.5  # context on each side, by the person's longer side
_VOC_BOX_MARGIN = 0.03  # by a box's longer side: margin within which pixels count as in the box
_VOC_MIN_BOX_IOU = 0.85  # least IoU of the components' box and the annotated one
_COCO_LOOSE_PX = 1  # width of the background rim that polygons include
_PELOTA_MIN_PX = 120  # least longer side of a box; smaller people are blurred
_PELOTA_EDGE = 0.01  # by the photo's longer side: a person nearer to the image border counts as truncated
_LETTERBOX_DIFF = 6  # largest difference from the corner's colour, in grey levels
_LETTERBOX_PX = 15  # least width of a letterbox
_MAX_IN_LETTERBOX = 0.05  # fraction of a mask that may lie in the letterbox
_MIN_TRUNCATED = 0.2  # least fraction of a box's side on the image border, for a truncated person
# PHOTO-PERSON, found by visual inspection: occluded by an unannotated person, or out of focus.
_PELOTA_EXCLUDED = frozenset({"2-1", "20-1", "25-1", "28-2", "30-2", "39-1", "43-2", "69-1", "78-3", "79-1"})
_PELOTA_DUPLICATES = frozenset({"89"})  # of photo 69
_TEACHERS_WHOLE = frozenset({*(f"t{number:03d}" for number in range(7, 25)), "t064"})  # frames of whole people
# people_small, by visual inspection: several people; machines, instruments or furniture in the mask; truncated bodies
_SMALL_EXCLUDED = frozenset(
    f"fg_{number:03d}"
    for number in (
        1, 8, 9, 11, 13, 14, 16, 18, 20, 21, 22, 24, 28, 29, 30, 33, 34, 42, 43, 48, 50, 51, 53, 55, 56, 57, 58, 59, 60,
        63, 65, 66, 67, 68, 69, 70, 73, 75, 76, 77, 79, 80, 81, 82, 83, 85, 86, 87, 89, 91, 92, 93, 95, 98, 99,
    )
)  # fmt: skip


@dataclass(frozen=True)
class PhotoSet:
    """A source of the data folder.

    Attributes:
        folder: path below the root.
        read: all its people, given that folder and the longest side of a person in pixels (None: no scaling).
        is_held_out: whether the person of that name is held out for validation.
    """

    folder: str
    read: Callable[[Path, int | None], Iterator[PersonPhoto]]
    is_held_out: Callable[[str], bool]


def read_voc(root: Path, max_px: int | None = None) -> Iterator[PersonPhoto]:
    """The whole people of PASCAL-Person-Part photos: `people.json` has {"whole": {ID: box}}, [x, y, w, h] in pixels.

    parts/ID.png (0 = background) separates people from the background, not from each other. A person is the connected
    components that lie mostly in the box. If their box differs from the annotated one, the person touches another
    person and is skipped.
    """
    whole = people_entry(root, "whole", dict)

    def read_person(photo_id: str) -> PersonPhoto | None:
        rgb = read_stored_photo(root, photo_id)
        parts_file = root / "parts" / f"{photo_id}.png"
        parts = read_image(parts_file, cv2.IMREAD_GRAYSCALE) > 0
        if parts.shape != rgb.shape[:2]:
            raise InputError(f"{parts_file}: parts must have the photo's size {rgb.shape[:2]} (HxW), got {parts.shape}")
        x, y, w, h = whole[photo_id]
        margin = _VOC_BOX_MARGIN * max(w, h) + 1
        in_box = np.zeros(parts.shape, bool)
        rows, columns = ((max(0, int(a - margin)), int(a + length + margin) + 1) for a, length in ((y, h), (x, w)))
        in_box[slice(*rows), slice(*columns)] = True
        count, components, stats, _ = cv2.connectedComponentsWithStats(parts.astype(np.uint8))
        share = np.bincount(components[in_box], minlength=count) / stats[:, cv2.CC_STAT_AREA]
        share[0] = 0  # component 0 is the background
        mask = (share > 0.5)[components]
        if not mask.any():
            return None
        (iou,) = box_iou(*np.array([[mask_to_box_xyxy(mask)], [(x, y, x + w, y + h)]], float)).ravel()
        if iou < _VOC_MIN_BOX_IOU:
            return None
        return _cropped(f"voc/{photo_id}", rgb, mask, max_px)

    return _people(root, read_person, sorted(whole))


def read_coco(root: Path, max_px: int | None = None) -> Iterator[PersonPhoto]:
    """The whole people of COCO photos.

    `people.json` has {"whole": [ID], "people": {ID: [{segmentation}]}, "size": {ID: [w, h]}}. Coordinates refer to
    `size`; the photos may be smaller. One pixel of the loose polygons' rim is eroded.
    """
    people, sizes = people_entry(root, "people", dict), people_entry(root, "size", dict)

    def read_person(photo_id: str) -> PersonPhoto | None:
        rgb = read_stored_photo(root, photo_id)
        (person,) = people[photo_id]
        mask = read_segmentation(person, sizes[photo_id], rgb, root, photo_id)
        mask = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=_COCO_LOOSE_PX) > 0
        return _cropped(f"coco/{photo_id}", rgb, mask, max_px)

    return _people(root, read_person, people_entry(root, "whole", list))


def read_pelota(root: Path, max_px: int | None = None) -> Iterator[PersonPhoto]:
    """Players: `people.json` has {ID: {"size": [w, h], "people": [{segmentation, keypoints}]}}, as for `read_coco`.

    A whole player has both ankles annotated (COCO's keypoints 15 and 16) and lies inside the photo. A truncated player
    is near the image border and touches no other player. All others are skipped: a net, a racket or another person may
    occlude them.
    """
    photos = _entries_by_photo(root)

    def people_of_photo(photo_id: str) -> list[PersonPhoto]:
        rgb = read_stored_photo(root, photo_id)
        entries = photos[photo_id]["people"]
        masks = [read_segmentation(entry, photos[photo_id]["size"], rgb, root, photo_id) for entry in entries]
        height, width = rgb.shape[:2]
        edge_px = max(3.0, _PELOTA_EDGE * max(height, width))
        found: list[PersonPhoto] = []
        for number, (entry, mask) in enumerate(zip(entries, masks, strict=True)):
            if not mask.any() or f"{photo_id}-{number}" in _PELOTA_EXCLUDED:
                continue
            x0, y0, x1, y1 = mask_to_box_xyxy(mask)
            if max(x1 - x0, y1 - y0) < _PELOTA_MIN_PX:
                continue
            inside = min(x0, y0) > edge_px and x1 < width - edge_px and y1 < height - edge_px
            others = np.any([np.zeros_like(mask), *(m for n, m in enumerate(masks) if n != number)], axis=0)
            touched = (cv2.dilate(others.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0) & mask
            ankles = np.array(entry["keypoints"]).reshape(-1, 3)[15:17, 2]
            if (ankles > 0).all() if inside else not touched.any():
                person = _cropped(f"pelota/{photo_id}-{number}", rgb, mask, max_px, whole=inside)
                if person is not None:
                    found.append(person)
        return found

    for photo_id in photos:
        if not photo_id.isdecimal():
            raise InputError(f"{root / 'people.json'}: ids of photos must be numbers, got {photo_id!r}")
    ids = sorted((i for i in photos if i not in _PELOTA_DUPLICATES), key=int)
    return (person for people in read_photos(root, people_of_photo, ids) for person in people)


def read_teachers(root: Path, max_px: int | None = None) -> Iterator[PersonPhoto]:
    """Teachers in frames of lessons: `people.json` as for `read_pelota`, masks mostly COCO run lengths.

    The photo is cropped at its letterbox. A few named people are whole. Others are used only if the image border
    truncates them, since then no desk occludes the missing part. Frames of several people are skipped.
    """
    frames = _entries_by_photo(root)

    def read_person(frame_id: str) -> PersonPhoto | None:
        entries = frames[frame_id]["people"]
        if len(entries) != 1:
            return None
        rgb = read_stored_photo(root, frame_id)
        mask = read_segmentation(entries[0], frames[frame_id]["size"], rgb, root, frame_id)
        whole = frame_id in _TEACHERS_WHOLE
        if not mask.any():
            return None
        inner = _inside_letterbox(rgb, mask)
        if mask[inner].sum() < (1 - _MAX_IN_LETTERBOX) * mask.sum() or not (whole or _is_truncated(mask[inner])):
            return None
        return _cropped(f"teachers/{frame_id}", rgb[inner], mask[inner], max_px, whole=whole)

    return _people(root, read_person, sorted(frames))


def read_small(root: Path, max_px: int | None = None) -> Iterator[PersonPhoto]:
    """Whole people as RGBA images, without the excluded ones."""
    return read_cutout_people(root, max_px=max_px, kind="small", left_out=_SMALL_EXCLUDED)


def _number_of(name: str) -> int:
    """The first number after the source: 77 of pelota/77-0, 12 of teachers/t012."""
    found = re.search(r"\d+", name.partition("/")[2])
    if found is None:
        raise InputError(f"{name}: expected a number in the name, by which its series is held out or not")
    return int(found.group())


def _held_out_by_id(name: str) -> bool:
    """Whether a person is held out, by the photo's id without the source: a photo in two folders is in one split."""
    return held_out(name.partition("/")[2])


PHOTO_SETS = {
    "voc": PhotoSet("voc_parts", read_voc, _held_out_by_id),
    "coco": PhotoSet("coco_people", read_coco, _held_out_by_id),
    # photos with neighbouring numbers show one match
    "pelota": PhotoSet("pelota", read_pelota, lambda name: held_out(f"pelota/{_number_of(name) // 10}")),
    # a range of about one in six; no teacher is in both splits
    "teachers": PhotoSet("teachers", read_teachers, lambda name: 35 <= _number_of(name) < 70),
    "small": PhotoSet("cutouts/people_small", read_small, held_out),
}
"""Sources by name, as in `data.sources` of a config."""


def _cropped(
    name: str, rgb: np.ndarray, mask: np.ndarray, max_px: int | None, *, whole: bool = True
) -> PersonPhoto | None:
    """The person with context, scaled to `max_px`; None where the mask is empty."""
    if not mask.any():
        return None
    x0, y0, x1, y1 = mask_to_box_xyxy(mask)
    margin = round(_SURROUNDINGS * max(x1 - x0, y1 - y0))
    part = (slice(max(0, y0 - margin), y1 + margin), slice(max(0, x0 - margin), x1 + margin))
    return as_person(name, rgb[part], mask[part], max_px, has_background=True, whole=whole)


def _people(root: Path, read: Callable[[str], PersonPhoto | None], ids: Iterable[str]) -> Iterator[PersonPhoto]:
    """The person that `read` gives for each id, in order; ids for which it gives None are left out."""
    return (person for person in read_photos(root, read, ids) if person is not None)


def _entries_by_photo(root: Path) -> dict[str, Any]:
    """The content of people.json, an entry for each photo id. Raises InputError for another content."""
    path = require(root / "people.json", f"people of {root.name}")
    document = read_json(path)
    if not isinstance(document, dict):
        raise InputError(f"{path}: expected an object with an entry for each photo")
    return document


def _inside_letterbox(rgb: np.ndarray, mask: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of the largest region around the person without letterbox.

    The letterbox is the region connected to a dark corner and of its colour; the frame may be rotated in it.
    """
    height, width = mask.shape
    bars = np.zeros_like(mask)
    kernel = np.ones((_LETTERBOX_PX, _LETTERBOX_PX), np.uint8)
    for corner in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        if rgb[corner].max() < 64:
            colour = rgb[corner].astype(float)
            similar = cv2.inRange(rgb, colour - _LETTERBOX_DIFF, colour + _LETTERBOX_DIFF)
            similar[mask] = 0
            _, components = cv2.connectedComponents(cv2.morphologyEx(similar, cv2.MORPH_OPEN, kernel))
            if components[corner]:
                bars |= components == components[corner]
    x0, y0, x1, y1 = mask_to_box_xyxy(mask)
    middle_y, middle_x = (y0 + y1) // 2, (x0 + x1) // 2
    rows, columns = (np.flatnonzero(line) for line in (bars[:, x0:x1].any(1), bars[y0:y1].any(0)))
    # a slanted bar reaches further in at one end of the box: the region ends there
    top, bottom = max(rows[rows < middle_y], default=-1) + 1, min(rows[rows > middle_y], default=height)
    left, right = max(columns[columns < middle_x], default=-1) + 1, min(columns[columns > middle_x], default=width)
    return slice(top, bottom), slice(left, right)


def _is_truncated(mask: np.ndarray) -> bool:
    """Whether enough of the box lies on the lower, left or right border of the photo, which truncates the person."""
    x0, y0, x1, y1 = mask_to_box_xyxy(mask)
    border_px = 3
    lower = mask[-border_px:].any(0).sum() / (x1 - x0)
    sides = max(mask[:, :border_px].any(1).sum(), mask[:, -border_px:].any(1).sum()) / (y1 - y0)
    return bool(max(lower, sides) >= _MIN_TRUNCATED)
