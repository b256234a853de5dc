"""COCO instance files as prompts: the people that a file lists for each photo."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from deocclude.errors import InputError, kind_of, shown
from deocclude.imaging.arrays import Mask
from deocclude.imaging.boxes import box_to_mask
from deocclude.io.coco import (
    ID,
    NAME,
    NUMBER,
    entries_of,
    finite_numbers,
    keys_of,
    read_json,
    relative_path,
    segmentation_to_mask,
    value_of,
)
from deocclude.people.choice import left_to_right
from deocclude.people.instances import Instance


@dataclass(frozen=True)
class CocoImage:
    """A photo of a COCO file, and its people.

    Attributes:
        file_name: relative path with forward slashes.
        width: in pixels, as the file has it.
        height: in pixels, as the file has it.
        annotations: of people, without crowds, as the file has them.
    """

    file_name: str
    width: float
    height: float
    annotations: tuple[Mapping[str, Any], ...] = field(repr=False)


@dataclass(frozen=True, eq=False)
class CocoFile:
    """A COCO instances JSON: the people of many photos. Read once; threads may share it."""

    path: Path
    images: tuple[CocoImage, ...] = field(repr=False)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> CocoFile:
        """Read a file with `images` (id, file_name, width, height) and `annotations`.

        Annotations of the category "person" are used, or all annotations where `categories` name none or a single one.
        Annotations with `iscrowd` are left out.

        Raises:
            InputError: the file cannot be read, has several categories without person, or its annotations belong to
                none of its images; the message names the file.
        """
        path = Path(path)
        document = read_json(path)
        if not isinstance(document, dict):
            raise InputError(
                f'{path}: expected a COCO file, an object with "images" and "annotations", got {kind_of(document)}'
            )
        categories = entries_of(document, "categories", path) if "categories" in document else []
        names = [str(one.get("name", "")).strip() for one in categories]
        # ids are compared as text: some files write "1" in one place and 1 in another
        person_ids = {
            str(one.get("id")) for one, name in zip(categories, names, strict=True) if name.lower() == "person"
        }
        if len(set(filter(None, names))) > 1 and not person_ids:
            raise InputError(f'{path}: expected a category "person", got {shown(", ".join(filter(None, names)))}')
        by_image: dict[str, list[dict[str, Any]]] = {}
        for number, annotation in enumerate(entries_of(document, "annotations", path)):
            where = f"{path}: annotations[{number}]"
            image_id = value_of(annotation, "image_id", ID, where)
            if annotation.get("iscrowd"):
                continue
            if person_ids and str(value_of(annotation, "category_id", ID, where)) not in person_ids:
                continue
            by_image.setdefault(str(image_id), []).append(annotation)
        images: list[CocoImage] = []
        image_ids: set[str] = set()
        for number, image in enumerate(entries_of(document, "images", path)):
            where = f"{path}: images[{number}]"
            file_name = value_of(image, "file_name", NAME, where)
            width, height = (value_of(image, key, NUMBER, where) for key in ("width", "height"))
            image_id = str(value_of(image, "id", ID, where))
            image_ids.add(image_id)
            images.append(CocoImage(relative_path(file_name), width, height, tuple(by_image.get(image_id, ()))))
        if images and by_image and image_ids.isdisjoint(by_image):
            raise InputError(
                f"{path}: no annotation's image_id is an image's id, such as {next(iter(by_image))} of the first"
            )
        return cls(path, tuple(images))

    def prompts_for(
        self, name: str | os.PathLike[str], size_hw: tuple[int, int], source: str | os.PathLike[str] | None = None
    ) -> list[Instance]:
        """The people of one photo, left to right; an empty list where the file lists the photo without people.

        A mask is the annotation's `visible_segmentation` where there is one (`Result.to_coco` writes it), else its
        `segmentation` (united polygons, or run lengths), else its filled `bbox`. A mask without a pixel in the photo is
        left out. Scores are the file's, or 1.

        Args:
            name: the photo's path. Where it and the file's path differ in length, the shorter must be the end of the
                longer.
            size_hw: the upright photo's size.
            source: the photo's full path, which resolves ambiguous names.

        Raises:
            InputError: the photo is not listed, is listed more than once, or has another size; or an annotation cannot
                be read. The message names the file.
        """
        image = self._find(relative_path(os.fspath(name)), None if source is None else relative_path(os.fspath(source)))
        if (image.height, image.width) != tuple(size_hw):
            raise InputError(
                f"{self.path}: lists {image.file_name} with {image.width}x{image.height} pixels, "
                f"but the upright photo has {size_hw[1]}x{size_hw[0]}"
            )
        instances = []
        for annotation in image.annotations:
            try:
                mask = _annotated_mask(annotation, size_hw)
                if mask.any():
                    instances.append(Instance(mask, annotation.get("score", 1.0)))
            except InputError as error:
                number = annotation.get("id", "without an id")
                raise InputError(f"{self.path}: annotation {number} of {image.file_name}: {error}") from error
        return left_to_right(instances)

    @cached_property
    def _by_base_name(self) -> dict[str, list[CocoImage]]:
        index: dict[str, list[CocoImage]] = {}
        for image in self.images:
            index.setdefault(PurePosixPath(image.file_name).name, []).append(image)
        return index

    def _find(self, wanted: str, source: str | None) -> CocoImage:
        namesakes = self._by_base_name.get(PurePosixPath(wanted).name, [])
        matches = [image for image in namesakes if image.file_name == wanted]
        if not matches:
            matches = [image for image in namesakes if _is_end_of_other(image.file_name, wanted)]
        if len(matches) > 1 and source is not None:
            matches = [image for image in matches if _is_end_of_other(image.file_name, source)] or matches
        if not matches:
            example = f" such as {self.images[0].file_name}" if self.images else ""
            raise InputError(f"{self.path}: does not list {wanted}, only {len(self.images)} other images{example}")
        if len(matches) > 1:
            raise InputError(
                f"{self.path}: {wanted} may be any of {len(matches)} images: {matches[0].file_name}, "
                f"{matches[1].file_name}{', ...' if len(matches) > 2 else ''}"
            )
        return matches[0]


def _is_end_of_other(one: str, other: str) -> bool:
    """Whether the shorter of two paths is the end of the longer: b/c.png of a/b/c.png."""
    return all(
        mine == theirs for mine, theirs in zip(reversed(one.split("/")), reversed(other.split("/")), strict=False)
    )


def _annotated_mask(annotation: Mapping[str, Any], size_hw: tuple[int, int]) -> Mask:
    """(H, W) bool mask of an annotation; it may be empty. Raises InputError where it cannot be read."""
    segmentation = annotation.get("visible_segmentation") or annotation.get("segmentation")
    if not segmentation:
        return box_to_mask(_box_xyxy(annotation), size_hw)
    return segmentation_to_mask(segmentation, size_hw)


def _box_xyxy(annotation: Mapping[str, Any]) -> tuple[float, float, float, float]:
    if "bbox" not in annotation:
        raise InputError(f'expected "segmentation" or "bbox", got {keys_of(annotation)}')
    numbers = finite_numbers(annotation["bbox"])
    if numbers is None or numbers.size != 4:
        raise InputError(f"bbox must be four numbers x, y, width, height, got {shown(annotation['bbox'])}")
    x, y, width, height = numbers.tolist()
    return x, y, x + width, y + height
