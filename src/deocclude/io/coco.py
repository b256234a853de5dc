"""COCO JSON: entries, polygons and run lengths, read and checked; ids of written documents, and their merging."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from deocclude.errors import InputError, UsageError, first_line, shown
from deocclude.imaging.arrays import Float, Mask
from deocclude.imaging.rle import decode_rle

# Coordinates from here on are refused as no pixels; below this limit the slopes of edges cannot overflow.
_FAR_PX = 1e9
# Allowed types of a value in a COCO file. An id may also be a float without a fraction: pandas writes 1.0 for 1.
ID = (int, str)
NAME = (str,)
NUMBER = (int, float)
# Ids of annotations are person + this number x (image - 1).
_ANNOTATIONS_AN_IMAGE = 100_000
_MERGED = ("images", "annotations", "occlusions")  # lists of a document that `merge_coco` joins


def polygons_to_mask(polygons_xy: Sequence[Float], size_hw: tuple[int, int]) -> Mask:
    """The union of polygons as a mask.

    Pixel i covers [i, i + 1) and has its centre at i + 0.5. A centre exactly on an edge belongs to the polygon on its
    right or below: neighbours never share a pixel, and a rectangle gives the same mask as `box_to_mask`. Where a
    polygon intersects itself, pixels that it encloses twice are outside (even-odd rule).

    Args:
        polygons_xy: each (P, 2) float corners (x, y) in pixels; the last corner is joined to the first. Parts outside
            the image are cut off.
        size_hw: the image's size.

    Returns:
        (H, W) bool: True where a pixel's centre lies in a polygon.
    """
    mask = np.zeros(size_hw, dtype=bool)
    for corners_xy in polygons_xy:
        _unite_polygon(mask, corners_xy)
    return mask


def _unite_polygon(mask: Mask, corners_xy: Float) -> None:
    """Set a polygon's pixels in a mask, in place: each row changes between outside and inside at an edge."""
    height, width = mask.shape
    x0, y0 = corners_xy.T
    x1, y1 = np.roll(corners_xy, -1, axis=0).T
    # An edge crosses row i where the row's centre lies in [low, high): a corner of two edges counts once.
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


def segmentation_to_mask(segmentation: Any, size_hw: tuple[int, int]) -> Mask:
    """The mask of a COCO segmentation: polygons, which are united, or run lengths.

    Args:
        segmentation: value of an annotation's `segmentation`.
        size_hw: the image's size.

    Returns:
        (H, W) bool; it may be empty.

    Raises:
        InputError: the segmentation cannot be read.
    """
    if isinstance(segmentation, dict):
        return _run_length_mask(segmentation, size_hw)
    if isinstance(segmentation, list):
        return polygons_to_mask([_corners_xy(polygon) for polygon in segmentation], size_hw)
    raise InputError(f"segmentation must be a list of polygons or run lengths, got {shown(segmentation)}")


def _run_length_mask(rle: dict[str, Any], size_hw: tuple[int, int]) -> Mask:
    """(H, W) bool mask of a COCO run-length object."""
    if rle.get("size") != list(size_hw):
        raise InputError(f"run lengths must have the size {list(size_hw)} (H, W), got {shown(rle.get('size'))}")
    counts = rle.get("counts")
    if not isinstance(counts, (str, list)):
        raise InputError(f"counts of run lengths must be a string or a list, got {shown(counts)}")
    try:
        # row-major, as all other masks; run lengths are column-major
        return np.ascontiguousarray(decode_rle({"size": size_hw, "counts": counts}))
    except (TypeError, ValueError, IndexError, OverflowError) as error:
        raise InputError(f"counts of run lengths cannot be read: {first_line(error)}") from error


def _corners_xy(polygon: Any) -> Float:
    """(P, 2) float corners of COCO's x0, y0, x1, y1, ...; fewer than three corners enclose nothing."""
    numbers = finite_numbers(polygon)
    if numbers is None or numbers.size % 2:
        raise InputError(f"a polygon must be a list of numbers x0, y0, x1, y1, ..., got {shown(polygon)}")
    return numbers.reshape(-1, 2)


def finite_numbers(values: Any) -> Float | None:
    """A list of coordinates as (N,) float64.

    Returns:
        None for any other value, and for numbers that are not finite.
    """
    if not isinstance(values, list) or not all(isinstance(value, NUMBER) for value in values):
        return None
    if not all(abs(value) < _FAR_PX for value in values):  # False for NaN too
        return None
    return np.array(values, dtype=np.float64)


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        InputError: the file cannot be read or is not JSON; the message names the file.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: expected a COCO file, got a folder") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: expected a COCO file, but it is not JSON ({first_line(error)})") from error


def entries_of(document: Mapping[str, Any], key: str, where: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The list of objects under a key of a COCO document.

    Args:
        document: the document.
        key: such as "images".
        where: the file, for errors.

    Raises:
        InputError: the key is missing or holds another type.
    """
    entries = list_of(document, key, where)
    if not all(isinstance(entry, dict) for entry in entries):
        raise InputError(f'{where}: "{key}" must be a list of objects, got {shown(entries)}')
    return entries


def list_of(document: Mapping[str, Any], key: str, where: str | os.PathLike[str]) -> list[Any]:
    """The list under a key of a COCO document, whatever its items are. Raises as `entries_of` does."""
    if key not in document:
        raise InputError(f'{where}: expected a COCO file with "{key}", got {keys_of(document)}')
    entries = document[key]
    if not isinstance(entries, list):
        raise InputError(f'{where}: "{key}" must be a list of objects, got {shown(entries)}')
    return entries


def as_id(value: Any) -> int | str | None:
    """An id of a COCO file: an integer, a float without a fraction as its integer, or a name; None for others."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, ID) and not isinstance(value, bool) and value != "" else None


def value_of(entry: Mapping[str, Any], key: str, kinds: tuple[type, ...], where: str) -> Any:
    """A value of a COCO entry.

    Args:
        entry: the entry.
        key: the value's key.
        kinds: allowed types: ID, NAME or NUMBER.
        where: the entry's place in the file, for errors.

    Returns:
        The value as the file has it; an id as `as_id` reads it.

    Raises:
        InputError: the key is missing or holds another type.
    """
    if key not in entry:
        raise InputError(f'{where}: expected "{key}", got {keys_of(entry)}')
    value = as_id(entry[key]) if kinds == ID else entry[key]
    if not isinstance(value, kinds) or value == "":
        names: dict[tuple[type, ...], str] = {ID: "an integer or a name", NAME: "a name", NUMBER: "a number"}
        expected = names[kinds]
        raise InputError(f'{where}: "{key}" must be {expected}, got {shown(entry[key])}')
    return value


def relative_path(name: str) -> str:
    """A path with forward slashes and without "./": paths written on Windows match too."""
    return PurePosixPath(name.replace("\\", "/")).as_posix()


def keys_of(entry: Mapping[str, Any]) -> str:
    """The keys of an entry, for errors: at most eight."""
    names = [shown(key) for key in entry]
    return f"only {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}" if names else "an empty object"


def annotation_ids(people: Sequence[int], image_id: int) -> dict[int, int]:
    """The id of each person's annotation, unique among images of different ids (`Result.to_coco` states the rule).

    Args:
        people: ids, from 1.
        image_id: from 1.

    Raises:
        UsageError: an image id that is no integer from 1 on, or a person's id over 100,000.
    """
    if not isinstance(image_id, (int, np.integer)) or isinstance(image_id, bool) or image_id < 1:
        raise UsageError(f"image_id must be an integer from 1 on, got {image_id!r}")
    if max(people, default=0) > _ANNOTATIONS_AN_IMAGE:
        raise UsageError(f"a COCO document has room for {_ANNOTATIONS_AN_IMAGE} people an image, got {max(people)}")
    return {person: person + _ANNOTATIONS_AN_IMAGE * (int(image_id) - 1) for person in people}


def merge_coco(documents: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Merge the COCO documents of several images into one, in their order.

    Args:
        documents: of `Result.to_coco`, with different image ids, as those of a batch are; or merged ones.

    Returns:
        Their images, annotations and occlusions; everything else, `info` and `categories`, is the first document's.

    Raises:
        UsageError: no document, two images or annotations of one id, or documents of different categories.
        InputError: a document without images, annotations or occlusions, or an entry of the first two without an id.
    """
    every = list(documents)
    if not every:
        raise UsageError("no COCO document to merge: expected at least one")
    if any(document.get("categories") != every[0].get("categories") for document in every):
        raise UsageError("COCO documents of different categories cannot be merged")
    joined = {key: [entry for one in every for entry in entries_of(one, key, "merge_coco")] for key in _MERGED}
    for key in ("images", "annotations"):
        ids = Counter(value_of(row, "id", ID, f"merge_coco: {key}") for row in joined[key])
        if repeated := [number for number, count in ids.items() if count > 1]:
            raise UsageError(f"{key} of one id, {repeated[0]}, cannot be merged: give to_coco different image_ids")
    return {**every[0], **joined}
