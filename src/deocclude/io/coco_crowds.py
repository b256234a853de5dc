"""Crowds of COCO files: which annotations mark a region of several people, and not one person.

`iscrowd: 1` marks such a region in COCO's own files, where single people are polygons with `iscrowd: 0` and run lengths
are kept for crowds. Other tools reuse the mark for the encoding: CVAT writes it for every brush mask, supervision for
every mask with a hole or in two pieces, beside polygons with 0. An annotation with `iscrowd: 1` is therefore a crowd
where

* it has polygons or a box alone: no encoding requires the mark there, so that somebody set it; or
* it has run lengths and comes from COCO: its id is COCO's number of a crowd, or the file has polygons with `iscrowd: 0`
  and names COCO as its origin, in `info` or in the image's `coco_url`.

All other run lengths are a person. Area, number of pieces and neighbours are no evidence: a person behind a fence has
many pieces, and a crowd may have one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from deocclude.errors import InputError, shown
from deocclude.io.coco import NUMBER, as_id

# How COCO's `info` names itself: its description, contributor or url.
_COCO_INFO = re.compile(r"coco 20\d\d dataset|coco consortium|cocodataset\.org|mscoco\.org", re.IGNORECASE)
# COCO numbers the crowd of category 1 in image 250282 as 900100250282.
_COCO_CROWD_IDS, _COCO_IDS_PER_CATEGORY = 900_000_000_000, 100_000_000


@dataclass(frozen=True)
class CrowdRule:
    """What a whole file says of its mark `iscrowd`.

    Attributes:
        has_polygons: an annotation has polygons without the mark, as COCO's own files have for one person.
        names_coco: `info` names COCO.
    """

    has_polygons: bool
    names_coco: bool

    @classmethod
    def of(cls, info: Any, annotations: Iterable[Mapping[str, Any]]) -> CrowdRule:
        """The rule of a document's `info` and its annotations of people."""
        named = _COCO_INFO.search(str(info)) is not None
        return cls(any(map(_is_unmarked_polygons, annotations)), named)

    def marks_crowds(self, image: Mapping[str, Any]) -> bool:
        """Whether crowds of an image are marked as in COCO's own files. image: its entry under `images`."""
        return self.has_polygons and (self.names_coco or bool(image.get("coco_url")))


def crowd_form(annotation: Mapping[str, Any], from_coco: bool) -> str:
    """What makes an annotation a crowd: polygons, a box, or run lengths of COCO; empty for a person.

    Args:
        annotation: the annotation.
        from_coco: `CrowdRule.marks_crowds` of its image.

    Raises:
        InputError: `iscrowd` has another value than 0, 1, or their text; the message does not name the file.
    """
    if not _iscrowd(annotation):
        return ""
    segmentation = annotation.get("segmentation")
    if not isinstance(segmentation, dict) or not segmentation:
        return "polygons" if isinstance(segmentation, list) and segmentation else "a box"
    return "run lengths of COCO" if from_coco or _has_coco_crowd_id(annotation) else ""


def _iscrowd(annotation: Mapping[str, Any]) -> bool:
    """The mark `iscrowd`, False where it is missing. Raises InputError for another value than 0, 1, or their text."""
    value = annotation.get("iscrowd")
    number = {"0": 0, "1": 1}.get(value.strip()) if isinstance(value, str) else value
    if value is None or (isinstance(number, NUMBER) and number in (0, 1)):
        return bool(number)
    raise InputError(f"iscrowd must be 0 or 1, got {shown(value)}")


def _is_unmarked_polygons(annotation: Mapping[str, Any]) -> bool:
    """Whether an annotation has polygons and no mark `iscrowd`, as one person has in COCO's own files."""
    segmentation = annotation.get("segmentation")
    return isinstance(segmentation, list) and bool(segmentation) and annotation.get("iscrowd") in (None, 0, "0")


def _has_coco_crowd_id(annotation: Mapping[str, Any]) -> bool:
    """Whether an annotation has the id that COCO gives to crowds: made of its category and image."""
    number, category, image = (as_id(annotation.get(key)) for key in ("id", "category_id", "image_id"))
    if not (isinstance(number, int) and isinstance(category, int) and isinstance(image, int)):
        return False
    return number == _COCO_CROWD_IDS + category * _COCO_IDS_PER_CATEGORY + image
