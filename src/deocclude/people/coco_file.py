"""COCO instance files as prompts: the people of each photo that a file lists."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from deocclude.errors import InputError
from deocclude.imaging.masks import box_to_mask, decode_rle
from deocclude.people.instances import Instance, kind_of, left_to_right, shown

# Coordinates beyond this are no pixels; below it, slopes of edges cannot overflow.
_FAR_PX = 1e9

# What a value of a COCO file may be.
ID = (int, str)
NAME = (str,)
NUMBER = (int, float)


@dataclass(frozen=True)
class CocoImage:
    """A photo that a COCO file lists, and its people."""

    file_name: str  # relative path with forward slashes
    width: float  # pixels, as the file has it
    height: float
    annotations: tuple[Mapping[str, Any], ...] = field(repr=False)  # of people, crowds left out, as in the file


@dataclass(frozen=True, eq=False)
class CocoFile:
    """A COCO instances JSON: the people of many photos. Read once; threads may share it."""

    path: Path
    images: tuple[CocoImage, ...] = field(repr=False)

    @classmethod
    def open(cls, path: str | os.PathLike) -> CocoFile:
        """Read a file with `images` (id, file_name, width, height) and `annotations`.

        Annotations of the category "person" are taken, or all of them when `categories` name none or a single one;
        those with `iscrowd` are left out. Raises InputError, naming the file, for what cannot be read, for several
        categories none of which is person, and for annotations that belong to none of the images.
        """
        path = Path(path)
        document = read_json(path)
        if not isinstance(document, dict):
            raise InputError(
                f'{path}: expected a COCO file, an object with "images" and "annotations", got {kind_of(document)}'
            )
        categories = entries_of(document, "categories", path) if "categories" in document else []
        names = [str(one.get("name", "")).strip() for one in categories]
        # ids as text: some files write "1" in one place and 1 in another
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
        self, name: str | os.PathLike, size_hw: tuple[int, int], source: str | os.PathLike | None = None
    ) -> list[Instance]:
        """The people of one photo, left to right; none when the file lists the photo without people.

        `name`: the photo's path, as far as it is known. Where the file's name and this one differ in length, the
        shorter has to be the end of the longer. `source`: its whole path, which tells several such apart. `size_hw`:
        the upright photo's size.
        A mask is the annotation's `visible_segmentation` where there is one (`Result.to_coco` writes it), else its
        `segmentation`: polygons, which are united, or run lengths; else its filled `bbox`. A mask with no pixel in
        the photo is left out. Scores are the file's, or 1.

        Raises InputError, naming the file: a photo that is not listed, or more than once, or with another size; an
        annotation that cannot be read.
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
    """Whether two paths agree from the file's name up as far as the shorter goes: b/c.png and a/b/c.png do."""
    return all(
        mine == theirs for mine, theirs in zip(reversed(one.split("/")), reversed(other.split("/")), strict=False)
    )


def polygons_to_mask(polygons_xy: Sequence[np.ndarray], size_hw: tuple[int, int]) -> np.ndarray:
    """(H, W) bool mask of the pixels whose centre lies in one of the polygons; what leaves the picture is cut off.

    `polygons_xy`: each (P, 2) float corners (x, y) in pixels; the last is joined to the first. Pixel i covers
    [i, i + 1) and its centre is at i + 0.5. A centre right on an edge belongs to the polygon on its right or below, so
    that neighbours never share a pixel and a rectangle is what `box_to_mask` makes of it. Where a polygon crosses
    itself, what it goes around twice is outside (even-odd).
    """
    mask = np.zeros(size_hw, dtype=bool)
    for corners_xy in polygons_xy:
        _unite_polygon(mask, corners_xy)
    return mask


def _unite_polygon(mask: np.ndarray, corners_xy: np.ndarray) -> None:
    """Set a polygon's pixels in an (H, W) bool mask, in place: each row flips between in and out where edges cross."""
    height, width = mask.shape
    x0, y0 = corners_xy.T
    x1, y1 = np.roll(corners_xy, -1, axis=0).T
    # Row i is crossed when its centre lies in [low, high): a corner that two edges share counts once.
    first, past = (
        np.clip(np.ceil(edge - 0.5), 0, height).astype(np.int64) for edge in (np.minimum(y0, y1), np.maximum(y0, y1))
    )
    crossed = past - first  # (P,) rows that each edge crosses
    edges = np.repeat(np.arange(len(crossed)), crossed)
    if edges.size == 0:
        return
    rows = first[edges] + np.arange(edges.size) - (np.cumsum(crossed) - crossed)[edges]
    x = x0[edges] + (rows + 0.5 - y0[edges]) / (y1 - y0)[edges] * (x1 - x0)[edges]
    columns = np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)

    top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max()
    flips = np.zeros((bottom - top, right - left + 1), dtype=np.uint8)
    np.bitwise_xor.at(flips, (rows - top, columns - left), 1)
    mask[top:bottom, left:right] |= np.bitwise_xor.accumulate(flips, axis=1)[:, :-1] == 1


def _annotated_mask(annotation: Mapping[str, Any], size_hw: tuple[int, int]) -> np.ndarray:
    """(H, W) bool mask of a COCO annotation, maybe empty. Raises InputError saying what was expected and what came."""
    segmentation = annotation.get("visible_segmentation") or annotation.get("segmentation")
    if not segmentation:
        return box_to_mask(_box_xyxy(annotation), size_hw)
    return segmentation_to_mask(segmentation, size_hw)


def segmentation_to_mask(segmentation: Any, size_hw: tuple[int, int]) -> np.ndarray:
    """(H, W) bool mask, maybe empty, of a COCO segmentation: polygons, which are united, or run lengths.

    Raises InputError saying what was expected and what came.
    """
    if isinstance(segmentation, dict):
        return _run_length_mask(segmentation, size_hw)
    if isinstance(segmentation, list):
        return polygons_to_mask([_corners_xy(polygon) for polygon in segmentation], size_hw)
    raise InputError(f"segmentation must be a list of polygons or run lengths, got {shown(segmentation)}")


def _box_xyxy(annotation: Mapping[str, Any]) -> tuple[float, float, float, float]:
    if "bbox" not in annotation:
        raise InputError(f'expected "segmentation" or "bbox", got {_keys(annotation)}')
    numbers = _numbers(annotation["bbox"])
    if numbers is None or numbers.size != 4:
        raise InputError(f"bbox must be four numbers x, y, width, height, got {shown(annotation['bbox'])}")
    x, y, width, height = numbers.tolist()
    return x, y, x + width, y + height


def _run_length_mask(rle: dict[str, Any], size_hw: tuple[int, int]) -> np.ndarray:
    if rle.get("size") != list(size_hw):
        raise InputError(f"run lengths must have the size {list(size_hw)} (H, W), got {shown(rle.get('size'))}")
    counts = rle.get("counts")
    if not isinstance(counts, (str, list)):
        raise InputError(f"counts of run lengths must be a string or a list, got {shown(counts)}")
    try:
        # Rows in a line, as all other masks: run lengths go down the columns.
        return np.ascontiguousarray(decode_rle({"size": size_hw, "counts": counts}))
    except (TypeError, ValueError, IndexError, OverflowError) as error:
        raise InputError(f"counts of run lengths cannot be read: {str(error).splitlines()[0]}") from error


def _corners_xy(polygon: Any) -> np.ndarray:
    """(P, 2) float corners of COCO's x0, y0, x1, y1, ...; fewer than three of them fill nothing."""
    numbers = _numbers(polygon)
    if numbers is None or numbers.size % 2:
        raise InputError(f"a polygon must be a list of numbers x0, y0, x1, y1, ..., got {shown(polygon)}")
    return numbers.reshape(-1, 2)


def _numbers(values: Any) -> np.ndarray | None:
    """(N,) float64 of a list of coordinates; None when it is anything else."""
    if not isinstance(values, list) or not all(isinstance(value, NUMBER) for value in values):
        return None
    if not all(abs(value) < _FAR_PX for value in values):  # false for NaN too
        return None
    return np.array(values, dtype=np.float64)


def read_json(path: Path) -> Any:
    """A JSON file as it is. Raises InputError naming the file."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: expected a COCO file, got a folder") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: expected a COCO file, but it is not JSON ({str(error).splitlines()[0]})") from error


def entries_of(document: Mapping[str, Any], key: str, where: str | os.PathLike) -> list[dict[str, Any]]:
    """The list of objects under `key`. Raises InputError saying `where` it was looked for."""
    if key not in document:
        raise InputError(f'{where}: expected a COCO file with "{key}", got {_keys(document)}')
    entries = document[key]
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError(f'{where}: "{key}" must be a list of objects, got {shown(entries)}')
    return entries


def value_of(entry: Mapping[str, Any], key: str, kinds: tuple[type, ...], where: str) -> Any:
    """An entry's value, of one of the `kinds`. Raises InputError saying `where` it was looked for."""
    if key not in entry:
        raise InputError(f'{where}: expected "{key}", got {_keys(entry)}')
    value = entry[key]
    if not isinstance(value, kinds) or value == "":
        expected = {ID: "a number or a name", NAME: "a name", NUMBER: "a number"}[kinds]
        raise InputError(f'{where}: "{key}" must be {expected}, got {shown(value)}')
    return value


def relative_path(name: str) -> str:
    """A path with forward slashes and no "./", so that files written on Windows match too."""
    return PurePosixPath(name.replace("\\", "/")).as_posix()


def _keys(entry: Mapping[str, Any]) -> str:
    names = [shown(key) for key in entry]
    return f"only {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}" if names else "an empty object"
