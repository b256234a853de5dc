"""Real photos of several people with COCO's labels: visible masks only, crowds marked."""

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

BEYOND = 255  # value of a crop's instances outside the photo
_ONE_IN = 3  # share of photos held out for validation is 1 / 3
_MIN_LAYER_PX = 1500  # least visible pixels of a person that is pasted elsewhere
_MARGIN = 0.02  # context around a cut-out person, by the longer side: enough for a soft edge


@dataclass(frozen=True)
class WildPhoto:
    """One labelled photo.

    Attributes:
        name: "wild/" and the file's stem.
        rgb: (H, W, 3) uint8.
        instances: (H, W) uint8 person number of each visible pixel, 0 = background.
        ignore: (H, W) bool, crowds of unlabelled people.
        boxes_xyxy: box of each visible mask in pixels, by person number.
    """

    name: str
    rgb: np.ndarray
    instances: np.ndarray
    ignore: np.ndarray
    boxes_xyxy: dict[int, tuple[float, float, float, float]]


def read_wild(root: Path, split: str | None = None) -> Iterator[WildPhoto]:
    """Labelled photos of a folder with images/ID.jpg, masks/ID.png, optional ignore/ID.png, and persons.json.

    Args:
        root: the folder.
        split: "train", "val" (a third, by a hash of the file's stem), or None for all.

    Raises:
        InputError: a file is missing, cannot be read or does not fit the others.
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


def visible_people(photos: Iterable[WildPhoto]) -> list[Layer]:
    """The visible parts of all people of at least 1500 pixels, as layers to paste."""
    layers = []
    for photo in photos:
        for number in photo.boxes_xyxy:
            visible = photo.instances == number
            if np.count_nonzero(visible) < _MIN_LAYER_PX:
                continue
            cut = cut_out(photo.rgb, visible, max_px=None, surroundings=_MARGIN)
            layers.append(cut.to_layer(f"{photo.name}/{number}"))
    return layers


def _read_people(path: Path) -> dict[str, dict[int, tuple[float, float, float, float]]]:
    """Boxes of persons.json, by photo and person number."""
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
