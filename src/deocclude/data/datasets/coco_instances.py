"""COCO instances, and files of its format with both visible and amodal masks.

Lin et al., "Microsoft COCO", ECCV 2014. In COCO's own files `segmentation` is the visible mask. Where an annotation has
`visible_segmentation` (what `deocclude run --save coco` writes) or `visible_mask` (Follmann et al., "Learning to See
the Invisible", WACV 2019) as well, `segmentation` is the whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from deocclude.data.datasets import coco_amodal, kins
from deocclude.data.datasets.coco_json import file_has, make_person, mask_of, read_people
from deocclude.data.datasets.record import PersonRecord, PhotoRecord

_VISIBLE_KEYS = ("visible_segmentation", "visible_mask")


def matches(path: Path) -> bool:
    """Whether a JSON file has segmentations, and none of the keys of KINS and COCOA."""
    return file_has(path, "segmentation") and not coco_amodal.matches(path) and not kins.matches(path)


def read(path: Path, images: Path | None = None) -> Iterator[PhotoRecord]:
    """Every photo of the file, with the annotations of the category person. Raises as `read_people` does."""
    return read_people(path, images, "coco", frozenset({"person"}), _instance)


def _instance(annotation: Mapping[str, Any], size_hw: tuple[int, int], where: str) -> PersonRecord:
    """Masks, crowd flag and depth order of an annotation: of a person, or of a thing before it becomes a ThingRecord.

    where: the annotation's position in the file, for error messages.
    """
    visible_key = next((key for key in _VISIBLE_KEYS if annotation.get(key) is not None), None)
    whole = mask_of(annotation.get("segmentation"), size_hw, where)
    visible = whole if visible_key is None else mask_of(annotation[visible_key], size_hw, where)
    is_crowd = bool(annotation.get("iscrowd"))  # for people `read_people` has decided this, by the rule for crowds
    depth = annotation.get("depth")
    person = make_person(
        str(annotation.get("id", "")),
        visible,
        whole if visible_key is not None and not is_crowd else None,
        # `depth` is largest for the nearest person, `depth_order` for the farthest.
        -depth if visible_key == "visible_segmentation" and isinstance(depth, int) else None,
    )
    return person.model_copy(update={"iscrowd": is_crowd, "ignore": bool(annotation.get("ignore"))})
