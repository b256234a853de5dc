"""KINS: people (and vehicles) of KITTI's street scenes with amodal masks.

Qi et al., "Amodal Instance Segmentation With KINS Dataset", CVPR 2019. COCO's format with further keys: the amodal
mask in `a_segm` and the visible mask in `i_segm` (files of 2020), or `segmentation` and `inmodal_seg` (first files).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from deocclude.data.datasets.coco_json import file_has, make_person, mask_of, read_people
from deocclude.data.datasets.record import PersonRecord, PhotoRecord
from deocclude.errors import InputError

_KEY_PAIRS = (("a_segm", "i_segm"), ("segmentation", "inmodal_seg"))  # of amodal and visible mask
# Lower-case category names. Cyclists are left out, since their masks include the bicycle.
_PERSON_CATEGORIES = frozenset({"pedestrian", "person", "person-sitting", "person_sitting"})


def matches(path: Path) -> bool:
    """Whether a JSON file has KINS's keys of visible masks."""
    return file_has(path, "i_segm", "inmodal_seg")


def read(path: Path, images: Path | None = None) -> Iterator[PhotoRecord]:
    """Every photo of the file, with its pedestrians. Raises as `read_people` does."""
    return read_people(path, images, "kins", _PERSON_CATEGORIES, _person)


def _person(annotation: Mapping[str, Any], size_hw: tuple[int, int], where: str) -> PersonRecord:
    """The masks of an annotation, of a person or a thing. where: its position in the file, for error messages."""
    # Both masks come from the first pair with a value: files of 2020 have `segmentation` too, which is no amodal mask
    # there. An empty visible mask is a value: the person is fully occluded.
    pairs = ([annotation.get(key) for key in keys] for keys in _KEY_PAIRS)
    whole, visible = next((pair for pair in pairs if pair != [None, None]), (None, None))
    if whole is None or visible is None:
        raise InputError(f"{where}: expected a_segm and i_segm, or segmentation and inmodal_seg")
    person = make_person(
        str(annotation.get("id", "")), mask_of(visible, size_hw, where), mask_of(whole, size_hw, where)
    )
    return person.model_copy(update={"iscrowd": True, "amodal": None}) if annotation.get("iscrowd") else person
