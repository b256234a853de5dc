"""From the records of `data/datasets` to people in memory: each `PhotoRecord` with its pixels becomes a `PersonPhoto`.

Clothing Co-Parsing, RGBA cut-outs and image + mask folders are parsed by `data/datasets` alone. RGBA occluders and
plain backgrounds, which show no people, are read here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np

from deocclude.data.datasets import clothing, cutouts, image_masks
from deocclude.data.datasets.each_photo import EachPhoto
from deocclude.data.datasets.files import image_files, require
from deocclude.data.datasets.record import PhotoRecord
from deocclude.data.read_ahead import in_order
from deocclude.data.sources.layers import Layer, PersonPhoto, feather_alpha
from deocclude.errors import InputError
from deocclude.io.coco import read_json, segmentation_to_mask

T = TypeVar("T")
R = TypeVar("R")

_READ_AHEAD = 32  # largest number of results that wait for the caller

# Photos of mixed_people whose single mask holds several touching people. A network that learns from them merges people.
# Found by visual inspection; no measure of the masks separates them.
_GROUPS = {
    "full": (194, 195, 201, 239, 273),
    "upper": (
        8, 12, 13, 17, 19, 20, 21, 23, 28, 39, 40, 61, 69, 88, 89, 90, 91, 92, 93, 94, 105, 107, 193, 197, 206,
        207, 213, 214, 218, 219, 220, 221, 223, 224, 225, 229, 234, 236, 240, 243, 244, 246, 249, 253, 254, 256,
        258, 260, 263, 265, 266, 267, 268, 272, 276, 277, 280, 289, 300,
    ),
}  # fmt: skip
MIXED_GROUPS = {kind: frozenset(f"{number:04d}" for number in numbers) for kind, numbers in _GROUPS.items()}
"""By subfolder of mixed_people: the file stems of these photos."""

_PHOTO_FEATHER_PX = 0.8  # standard deviation of the soft edge of a mask
_CUTOUT_FEATHER_PX = 0.7  # the same of an RGBA image, whose edge is soft already


def read_ccp(root: Path, split: str | None = None, *, max_px: int | None = None) -> Iterator[PersonPhoto]:
    """People of Clothing Co-Parsing with parsing groups; carried things count as part of the person.

    Args:
        root: the dataset's folder, in its own layout.
        split: a key of splits.json, or None for every labelled photo.
        max_px: longest side of the person in pixels, or None for the photo's own size.

    Raises:
        InputError: a file is missing or cannot be used.
    """
    records = clothing.read(root) if split is None else clothing.read_split(root, split)
    return _people(records, lambda record: _person_in_photo(record, f"ccp/{record.id}", max_px))


def read_cutout_people(
    folder: Path, *, max_px: int | None = None, kind: str = "cutout", left_out: Collection[str] = ()
) -> Iterator[PersonPhoto]:
    """Whole people of a folder of RGBA images without background.

    Args:
        folder: where the images lie.
        max_px: longest side of a person in pixels, or None for the image's own size.
        kind: first part of the people's names.
        left_out: file stems to leave out.

    Raises:
        InputError: a file is missing or cannot be used.
    """

    def convert(record: PhotoRecord) -> PersonPhoto | None:
        if record.id in left_out:
            return None
        layer = read_layer(Path(record.image), max_px=max_px, erode_px=0)
        return PersonPhoto(f"{kind}/{record.id}", layer.rgb, layer.alpha)

    return _people(cutouts.read(folder), convert)


def read_image_mask_folder(
    root: Path, *, whole: bool, max_px: int | None = None,
    min_component_share: float = image_masks.ONE_PIECE_SHARE, left_out: Collection[str] = (),
) -> Iterator[PersonPhoto]:  # fmt: skip
    """People of photos in `root`/images with one mask each in `root`/masks; empty masks are skipped.

    Args:
        root: the folder of both.
        whole: whether these people lie entirely inside their photos.
        max_px: longest side of a person in pixels, or None for the photo's own size.
        min_component_share: least share of a mask's pixels in its largest connected component, 0 to 1; a mask below it
            shows several people and is skipped.
        left_out: photo stems to leave out.

    Raises:
        InputError: a file is missing or cannot be used, or a photo has several masks.
    """

    def convert(record: PhotoRecord) -> PersonPhoto | None:
        if record.id in left_out:
            return None
        if len(record.people) > 1:
            raise InputError(f"{record.image}: expected one mask a photo, got {len(record.people)}")
        if not image_masks.is_one_piece(record.people[0].visible.mask(), min_component_share):
            return None
        return _person_in_photo(record, f"{root.name}/{record.id}", max_px, whole=whole)

    return _people(image_masks.read(root), convert)


def read_layer(path: Path, *, max_px: int | None = None, erode_px: int = 1) -> Layer:
    """One RGBA image as a layer, cropped to its opaque pixels with a margin of two pixels.

    Args:
        path: the image.
        max_px: longest side of the opaque part in pixels, or None for the image's own size.
        erode_px: width of the rim that is dropped, in pixels of the file.

    Raises:
        InputError: not a readable image, without transparency, wholly transparent, or thinner than a pixel at `max_px`.
    """
    rgba = cutouts.read_rgba(path)
    x, y, w, h = cv2.boundingRect(cutouts.opaque_mask(rgba, path).astype(np.uint8))
    rgba = cv2.copyMakeBorder(rgba[y : y + h, x : x + w], 2, 2, 2, 2, cv2.BORDER_CONSTANT)
    rgb, alpha = np.ascontiguousarray(rgba[..., :3]), feather_alpha(rgba[..., 3], erode_px, _CUTOUT_FEATHER_PX)
    rgb, alpha = _shrink((rgb, alpha), w, h, max_px)
    if not (alpha >= 128).any():
        raise InputError(f"{path}: the cut-out is thinner than a pixel at {max_px} px")
    return Layer(path.stem, rgb, alpha)


def read_layers(folder: Path, *, max_px: int | None = None) -> Iterator[Layer]:
    """RGBA occluders of a folder. Raises InputError as `read_layer` does, and where there is no image."""
    return ordered(lambda path: read_layer(path, max_px=max_px), image_files(folder, "cut-out objects"))


def read_backgrounds(folder: Path, *, max_px: int | None = None) -> Iterator[np.ndarray]:
    """Photos without people, (H, W, 3) uint8 RGB, at most `max_px` on the longer side.

    Raises InputError where there is none, or one cannot be read.
    """

    def read(path: Path) -> np.ndarray:
        rgb = read_image(path)
        height, width = rgb.shape[:2]
        return _shrink((rgb,), width, height, max_px)[0]

    return ordered(read, image_files(folder, "backgrounds"))


def as_person(
    name: str, rgb: np.ndarray, mask: np.ndarray, max_px: int | None, *, parsing: np.ndarray | None = None,
    has_background: bool = True, whole: bool = True,
) -> PersonPhoto:  # fmt: skip
    """A person in a photo, scaled down so that the longer side of the person's box is at most `max_px`.

    Args:
        name: the person's name.
        rgb: (H, W, 3) uint8 photo.
        mask: (H, W) bool, not empty.
        max_px: longest side in pixels, or None for no scaling.
        parsing: (H, W) uint8 labels into PARSING_NAMES, or None.
        has_background: whether the photo around the person is real.
        whole: whether the person lies entirely inside the photo.
    """
    _, _, w, h = cv2.boundingRect(mask.astype(np.uint8))
    rgb, alpha = _shrink((rgb, feather_alpha(mask, 0, _PHOTO_FEATHER_PX)), w, h, max_px)
    if parsing is not None:
        parsing = cv2.resize(parsing, rgb.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    return PersonPhoto(name, rgb, alpha, parsing=parsing, has_background=has_background, whole=whole)


def read_image(path: Path, flag: int = cv2.IMREAD_COLOR) -> np.ndarray:
    """(H, W, 3) uint8 RGB, or (H, W) uint8 with cv2.IMREAD_GRAYSCALE. Raises InputError naming the file."""
    image = cv2.imread(str(require(path, "image")), flag)
    if image is None:
        raise InputError(f"{path}: not a readable image")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if image.ndim == 3 else image


def people_entry(root: Path, key: str, kind: type) -> Any:
    """The value under `key` in people.json of a folder. Raises InputError unless it is of that kind, dict or list."""
    path = require(root / "people.json", f"people of {root.name}")
    document = read_json(path)
    if not isinstance(document, dict) or not isinstance(document.get(key), kind):
        raise InputError(f'{path}: expected "{key}", {"a list" if kind is list else "an object"}')
    return document[key]


def read_stored_photo(root: Path, photo_id: str) -> np.ndarray:
    """(H, W, 3) uint8: the photo of a photo set. Raises InputError where it cannot be read."""
    return read_image(root / "photos" / f"{photo_id}.webp")


def read_segmentation(
    entry: Mapping[str, Any], size_wh: list[int], rgb: np.ndarray, root: Path, photo_id: str
) -> np.ndarray:
    """(H, W) bool mask of a person in the stored photo; the annotation's coordinates refer to a photo of `size_wh`."""
    try:
        mask = segmentation_to_mask(entry["segmentation"], (size_wh[1], size_wh[0]))
    except (InputError, KeyError) as error:
        raise InputError(f"{root / 'people.json'}: {photo_id}: {error}") from error
    covered = cv2.resize(mask.astype(np.uint8) * 255, rgb.shape[1::-1], interpolation=cv2.INTER_AREA)
    return covered >= 128


def ordered(read: Callable[[T], R], items: Iterable[T], *, threads: int = 4) -> Iterator[R]:
    """The result of `read` for each item, in order, read on several threads.

    Threads suffice, since decoding and networks release the interpreter's lock. At most _READ_AHEAD results wait for
    the caller, so that a slow one does not hold all photos in memory.
    """
    with ThreadPoolExecutor(threads) as pool:
        yield from in_order(pool, read, items, _READ_AHEAD)


def read_photos(root: Path, read: Callable[[str], R], ids: Iterable[str]) -> Iterator[R]:
    """The result of `read` for each photo id of a photo set, read as by `ordered`.

    Raises InputError, naming the photo, in place of what an invalid entry of people.json makes `read` raise.
    """

    def checked(photo_id: str) -> R:
        try:
            return read(photo_id)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{root / 'people.json'}: {photo_id}: the entry is invalid ({error!r})") from error

    return ordered(checked, ids)


def _people(records: EachPhoto[T], convert: Callable[[PhotoRecord], PersonPhoto | None]) -> Iterator[PersonPhoto]:
    """The records' people, in order; records are made and converted on several threads.

    Left out are records without people, all of whose masks were empty, and those that `convert` turns into None.
    """

    def person_of(make: Callable[[], PhotoRecord]) -> PersonPhoto | None:
        record = make()
        return convert(record) if record.people else None

    return (person for person in ordered(person_of, records.calls()) if person is not None)


def _person_in_photo(record: PhotoRecord, name: str, max_px: int | None, *, whole: bool = True) -> PersonPhoto:
    """The first person of a record with the photo's pixels. Raises InputError for a photo that cannot be read."""
    rgb, person = read_image(Path(record.image)), record.people[0]
    if rgb.shape[:2] != record.size_hw:
        raise InputError(f"{record.image}: the record states {record.size_hw} (HxW), the photo is {rgb.shape[:2]}")
    parsing = None if person.parsing is None else person.parsing_labels()
    return as_person(name, rgb, person.visible.mask(), max_px, parsing=parsing, whole=whole)


def _shrink(arrays: Iterable[np.ndarray], width: int, height: int, max_px: int | None) -> tuple[np.ndarray, ...]:
    """Arrays scaled down so that a (width, height) part of them is at most `max_px` on its longer side."""
    factor = 1.0 if max_px is None else min(1.0, max_px / max(width, height))
    if factor == 1.0:
        return tuple(arrays)
    return tuple(cv2.resize(a, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA) for a in arrays)
