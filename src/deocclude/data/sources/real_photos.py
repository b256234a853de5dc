"""Real photos with several people in them, as COCO labels them: visible parts only, crowds marked as such."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from deocclude.data.samples.detector_samples import PeopleSample, framed
from deocclude.data.sources.holdout import held_out
from deocclude.data.sources.layers import Layer
from deocclude.data.sources.readers import image_files, read_image, require
from deocclude.data.synthesis.photometric import camera, photometric
from deocclude.data.trainsets.cutting import cut_out
from deocclude.errors import InputError
from deocclude.imaging.masks import mask_to_box_xyxy

Rng = np.random.Generator
# (rgb, instances, ignore, rng) -> the three with layers pasted in front; people who are added get new numbers
Cover = Callable[[np.ndarray, np.ndarray, np.ndarray, Rng], tuple[np.ndarray, np.ndarray, np.ndarray]]

BEYOND = 255  # in a crop's instances, in place of a person's number: beyond the photo
_ONE_IN = 3  # photos kept for validation
_MIN_SIDE_SHARE = 0.4  # a training crop's sides, of the photo's
_P_WHOLE = 0.35
_MIN_LAYER_PX = 1500  # of somebody cut out: what is smaller is a blur where it is pasted
_RIM = 0.02  # around who is cut out: no more than a soft edge needs
_MIN_LEFT = 0.15  # of a person's visible pixels: with less of them in a crop, nobody is asked to see a person


@dataclass(frozen=True)
class WildPhoto:
    """One labelled photo.

    rgb: (H, W, 3) uint8; instances: (H, W) uint8, number of the person whose visible part a pixel is, 0 = nobody's;
    ignore: (H, W) bool, crowds of whom nobody is labelled; boxes_xyxy: of each visible part, by the person's number.
    """

    name: str
    rgb: np.ndarray
    instances: np.ndarray
    ignore: np.ndarray
    boxes_xyxy: dict[int, tuple[float, float, float, float]]


def read_wild(root: Path, split: str | None = None) -> Iterator[WildPhoto]:
    """Photos of `root` (images/ID.jpg, masks/ID.png, ignore/ID.png where there is a crowd, persons.json).

    split: "train", "val" (a third, by a hash of the file's stem), or None for all.
    """
    people = _read_people(require(root / "persons.json", "people of the wild photos"))
    for path in image_files(root / "images", "wild photos"):
        if split is not None and held_out(path.stem, _ONE_IN) != (split == "val"):
            continue
        rgb = read_image(path)
        instances = read_image(require(root / "masks" / f"{path.stem}.png", "instance mask"), cv2.IMREAD_GRAYSCALE)
        crowd = root / "ignore" / f"{path.stem}.png"
        ignore = np.zeros(instances.shape, bool)
        if crowd.is_file():
            ignore = read_image(crowd, cv2.IMREAD_GRAYSCALE) > 0
        for what, found in (("instance mask", instances), ("ignore mask", ignore)):
            if found.shape != rgb.shape[:2]:
                raise InputError(f"{path}: {what} must have the photo's size {rgb.shape[:2]} (HxW), got {found.shape}")
        boxes = people.get(path.stem, {})
        unlisted = sorted(set(np.unique(instances)) - {0} - set(boxes))
        if unlisted:
            raise InputError(f"{path}: person {unlisted[0]} of the instance mask is not in persons.json")
        yield WildPhoto(f"wild/{path.stem}", rgb, instances, ignore, boxes)


def people_of(photos: Iterable[WildPhoto]) -> list[Layer]:
    """What is seen of everybody in real photos who is large enough to be pasted elsewhere."""
    layers = []
    for photo in photos:
        for number in photo.boxes_xyxy:
            seen = photo.instances == number
            if np.count_nonzero(seen) < _MIN_LAYER_PX:
                continue
            cut = cut_out(photo.rgb, seen, max_px=None, surroundings=_RIM)
            layers.append(cut.to_layer(f"{photo.name}/{number}"))
    return layers


def crop_wild(
    photo: WildPhoto, rng: Rng, size_px: int, cover: Cover | None = None, stretch: float = 0.0
) -> PeopleSample:
    """A training sample: the photo or a part of it, mirrored half of the time, in a square frame.

    cover: adds people and things in front of those who are there. stretch: the photo is made wider or narrower by a
    factor of up to e to this.
    """
    h, w = photo.instances.shape
    if rng.random() < _P_WHOLE:
        x0, y0, x1, y1 = 0, 0, w, h
    else:
        cw, ch = (max(8, int(side * rng.uniform(_MIN_SIDE_SHARE, 1.0))) for side in (w, h))
        x0, y0 = int(rng.integers(0, max(1, w - cw + 1))), int(rng.integers(0, max(1, h - ch + 1)))
        x1, y1 = min(w, x0 + cw), min(h, y0 + ch)
    part = (slice(y0, y1), slice(x0, x1))
    rgb, instances, ignore = photo.rgb[part], photo.instances[part], photo.ignore[part]
    areas, before = (np.bincount(ids.ravel(), minlength=256) for ids in (instances, photo.instances))
    if rng.random() < 0.5:
        rgb, instances, ignore = rgb[:, ::-1], instances[:, ::-1], ignore[:, ::-1]
    wider = float(np.exp(rng.uniform(-stretch, stretch))) if stretch else 1.0
    rgb, instances, ignore = _scaled(rgb, instances, ignore, size_px, wider)
    whole = np.bincount(instances.ravel(), minlength=256)
    if cover is not None:
        rgb, instances, ignore = cover(rgb, instances, ignore, rng)
    (rgb,) = camera(photometric([rgb], rng), rng)
    numbers = np.unique(instances[instances > 0])
    boxes = [mask_to_box_xyxy(instances == number) for number in numbers]
    # of the visible part, what the crop leaves times what stays uncovered; whoever was added is in no photo of before
    left = areas / np.maximum(before, 1) * np.bincount(instances.ravel(), minlength=256) / np.maximum(whole, 1)
    seen_enough = (left[numbers] >= _MIN_LEFT) | (whole[numbers] == 0)
    return framed(rgb, boxes, seen_enough, _owners(instances, numbers), ignore, size_px)


def whole_wild(photo: WildPhoto, size_px: int) -> PeopleSample:
    """The photo as inference sees it, with the boxes of persons.json."""
    rgb, instances, ignore = _scaled(photo.rgb, photo.instances, photo.ignore, size_px)
    sx, sy = rgb.shape[1] / photo.rgb.shape[1], rgb.shape[0] / photo.rgb.shape[0]
    boxes = [(x0 * sx, y0 * sy, x1 * sx, y1 * sy) for x0, y0, x1, y1 in photo.boxes_xyxy.values()]
    owner = _owners(instances, list(photo.boxes_xyxy))
    return framed(rgb, boxes, np.ones(len(boxes), bool), owner, ignore, size_px)


def _owners(instances: np.ndarray, numbers: Sequence[int] | np.ndarray) -> np.ndarray:
    """(H, W) uint8: the place in `numbers` of each pixel's person, from 1; 0 for nobody's."""
    places = np.zeros(256, np.uint8)
    places[np.asarray(numbers, int)] = np.arange(1, len(numbers) + 1)
    return places[instances]


def _scaled(
    rgb: np.ndarray, instances: np.ndarray, ignore: np.ndarray, size_px: int, wider: float = 1.0
) -> tuple[np.ndarray, ...]:
    """The three arrays, `wider` times as wide as they were for their height, with `size_px` on their longer side."""
    sides = rgb.shape[1] * wider, rgb.shape[0]
    scale = size_px / max(sides)
    size = tuple(max(1, round(side * scale)) for side in sides)
    return (
        cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR),
        cv2.resize(instances, size, interpolation=cv2.INTER_NEAREST),
        cv2.resize(ignore.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0,
    )


def _read_people(path: Path) -> dict[str, dict[int, tuple[float, float, float, float]]]:
    """Boxes of persons.json by photo and number of the person."""
    try:
        people: dict[str, dict[int, tuple[float, float, float, float]]] = {}
        for row in json.loads(path.read_text()):
            x0, y0, x1, y1 = map(float, row["bbox"])
            if not 1 <= int(row["inst"]) < BEYOND:
                raise ValueError(f"inst must be from 1 to {BEYOND - 1}, got {row['inst']}")
            people.setdefault(str(row["id"]), {})[int(row["inst"])] = (x0, y0, x1, y1)
        return people
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: expected a list of people with id, inst and bbox ({error!r})") from error
