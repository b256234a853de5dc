"""Readers of folders on disk: Clothing Co-Parsing, RGBA cut-outs, image + mask folders, plain backgrounds."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from deocclude.data.datasets.files import CCP_LEFT_OUT, ccp_garments, image_files, read_matlab, require
from deocclude.data.datasets.parsing_groups import to_groups
from deocclude.data.sources.layers import Layer, PersonPhoto, feather_alpha
from deocclude.errors import InputError

# Photos of mixed_people whose one mask holds several people who touch: whoever learns from them takes two for one. Seen
# by eye; nothing that is measured on the masks tells them apart.
_GROUPS = {
    "full": (194, 195, 201, 239, 273),
    "upper": (
        8, 12, 13, 17, 19, 20, 21, 23, 28, 39, 40, 61, 69, 88, 89, 90, 91, 92, 93, 94, 105, 107, 193, 197, 206,
        207, 213, 214, 218, 219, 220, 221, 223, 224, 225, 229, 234, 236, 240, 243, 244, 246, 249, 253, 254, 256,
        258, 260, 263, 265, 266, 267, 268, 272, 276, 277, 280, 289, 300,
    ),
}  # fmt: skip
MIXED_GROUPS = {kind: frozenset(f"{number:04d}" for number in numbers) for kind, numbers in _GROUPS.items()}


def read_ccp(root: Path, split: str | None = None, *, max_px: int | None = None) -> Iterator[PersonPhoto]:
    """People of Clothing Co-Parsing, in its own layout under `root`, with parsing groups.

    split: a key of splits.json, or None for every labelled photo. max_px: longest side of the person, or None for the
    photo's own size. Carried things count as part of the person.
    """
    require(root / "photos", "Clothing Co-Parsing photos")
    labels = require(root / "annotations" / "pixel-level", "Clothing Co-Parsing pixel labels")
    names = ccp_garments(root)
    if split is None:
        ids = sorted(p.stem for p in labels.glob("*.mat"))
    else:
        ids = _ccp_split(require(root / "splits.json", "Clothing Co-Parsing splits"), split)

    def one(photo_id: str) -> PersonPhoto:
        rgb = read_image(root / "photos" / f"{photo_id}.jpg")
        label = require(labels / f"{photo_id}.mat", "Clothing Co-Parsing label")
        garments = read_matlab(label, "groundtruth")
        if garments.shape != rgb.shape[:2]:
            raise InputError(f"{label}: labels must have the photo's size {rgb.shape[:2]} (HxW), got {garments.shape}")
        parsing = to_groups(garments, names)
        return as_person(f"ccp/{photo_id}", rgb, parsing > 0, max_px, parsing=parsing, has_background=True)

    return ordered(one, (i for i in ids if i not in CCP_LEFT_OUT))


def read_cutout_people(
    folder: Path, *, max_px: int | None = None, kind: str = "cutout", left_out: Collection[str] = ()
) -> Iterator[PersonPhoto]:
    """Whole people as RGBA files without background, but for the stems of `left_out`. kind: what names begin with."""

    def one(path: Path) -> PersonPhoto:
        layer = read_layer(path, max_px=max_px, erode_px=0)
        return PersonPhoto(f"{kind}/{path.stem}", layer.rgb, layer.alpha)

    return ordered(one, (path for path in image_files(folder, "cut-out people") if path.stem not in left_out))


def read_image_mask_folder(
    root: Path, *, whole: bool, max_px: int | None = None, min_component_share: float = 0.97,
    left_out: Collection[str] = (),
) -> Iterator[PersonPhoto]:  # fmt: skip
    """Photos in `root`/images with masks of the same stem in `root`/masks (0/255).

    A mask in which the largest connected piece holds less than `min_component_share` shows several people: skipped, as
    are the stems of `left_out`.
    whole: whether these people are entirely inside their photos.
    """
    masks = require(root / "masks", "masks of an image + mask folder")

    def one(path: Path) -> PersonPhoto | None:
        rgb = read_image(path)
        mask = read_image(require(masks / f"{path.stem}.png", "mask"), cv2.IMREAD_GRAYSCALE) >= 128
        if rgb.shape[:2] != mask.shape:
            raise InputError(f"{path}: mask must have the photo's size {rgb.shape[:2]} (HxW), got {mask.shape}")
        _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
        if not mask.any() or stats[1:, cv2.CC_STAT_AREA].max() < min_component_share * mask.sum():
            return None
        return as_person(f"{root.name}/{path.stem}", rgb, mask, max_px, has_background=True, whole=whole)

    files = (p for p in image_files(root / "images", "images of an image + mask folder") if p.stem not in left_out)
    return (p for p in ordered(one, files) if p is not None)


def read_layer(path: Path, *, max_px: int | None = None, erode_px: int = 1) -> Layer:
    """One RGBA file as a layer, cropped to its content, its rim eroded by `erode_px` (at the size read)."""
    rgba = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if rgba is None or rgba.ndim != 3 or rgba.shape[2] != 4:
        raise InputError(f"{path}: expected an RGBA image")
    x, y, w, h = cv2.boundingRect((rgba[..., 3] >= 128).astype(np.uint8))
    if w == 0 or h == 0:
        raise InputError(f"{path}: the cut-out is wholly transparent")
    rgba = cv2.copyMakeBorder(rgba[y : y + h, x : x + w], 2, 2, 2, 2, cv2.BORDER_CONSTANT)
    rgb = cv2.cvtColor(rgba[..., :3], cv2.COLOR_BGR2RGB)
    alpha = feather_alpha(rgba[..., 3], erode_px, 0.7)
    return Layer(path.stem, *_shrink((rgb, alpha), w, h, max_px))


def read_layers(folder: Path, *, max_px: int | None = None) -> Iterator[Layer]:
    """RGBA occluders of a folder."""
    return ordered(lambda p: read_layer(p, max_px=max_px), image_files(folder, "cut-out objects"))


def read_backgrounds(folder: Path, *, max_px: int | None = None) -> Iterator[np.ndarray]:
    """Photos without people, (H, W, 3) uint8 RGB."""

    def one(path: Path) -> np.ndarray:
        rgb = read_image(path)
        return _shrink((rgb,), *rgb.shape[1::-1], max_px)[0]

    return ordered(one, image_files(folder, "backgrounds"))


def _ccp_split(path: Path, split: str) -> list[str]:
    """Ids of one split of splits.json."""
    try:
        splits = json.loads(path.read_text())
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON: {error}") from error
    if split not in splits:
        raise InputError(f"{path} has no split {split!r}: it has {', '.join(splits)}")
    return splits[split]


def as_person(
    name: str, rgb: np.ndarray, mask: np.ndarray, max_px: int | None, *, parsing=None, **kinds
) -> PersonPhoto:
    """Somebody in a photo, scaled down so that the longer side is at most `max_px`; kinds: fields of PersonPhoto."""
    _, _, w, h = cv2.boundingRect(mask.astype(np.uint8))
    rgb, alpha = _shrink((rgb, feather_alpha(mask, 0, 0.8)), w, h, max_px)
    if parsing is not None:
        parsing = cv2.resize(parsing, rgb.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    return PersonPhoto(name, rgb, alpha, parsing=parsing, **kinds)


def _shrink(arrays: Iterable[np.ndarray], width: int, height: int, max_px: int | None) -> tuple[np.ndarray, ...]:
    """Arrays scaled down so that a (width, height) part of them is at most `max_px` on its longer side."""
    factor = 1.0 if max_px is None else min(1.0, max_px / max(width, height))
    if factor == 1.0:
        return tuple(arrays)
    return tuple(cv2.resize(a, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA) for a in arrays)


def read_image(path: Path, flag: int = cv2.IMREAD_COLOR) -> np.ndarray:
    """(H, W, 3) uint8 RGB, or (H, W) uint8 with cv2.IMREAD_GRAYSCALE. Raises InputError naming the file."""
    image = cv2.imread(str(require(path, "image")), flag)
    if image is None:
        raise InputError(f"{path}: not a readable image")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if image.ndim == 3 else image


def ordered(read: Callable, items: Iterable) -> Iterator:
    """`read` over items, in order, on a few threads: decoding releases the interpreter's lock."""
    with ThreadPoolExecutor(4) as pool:
        yield from pool.map(read, items)
