"""Real photos with several people in them, as COCO labels them: visible parts only, crowds marked as such."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from deocclude.data.datasets.files import image_files, require
from deocclude.data.sources.cutting import cut_out
from deocclude.data.sources.layers import Layer
from deocclude.data.sources.readers import read_image
from deocclude.data.sources.splits import held_out
from deocclude.errors import InputError

Rng = np.random.Generator

BEYOND = 255  # in a crop's instances, in place of a person's number: beyond the photo
_ONE_IN = 3  # photos kept for validation
_MIN_LAYER_PX = 1500  # of somebody cut out: what is smaller is a blur where it is pasted
_RIM = 0.02  # around who is cut out: no more than a soft edge needs


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
