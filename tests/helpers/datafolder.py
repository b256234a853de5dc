"""Draws a tiny training folder by code, in the true layouts of docs/data.md: simple figures, bars and gradients.

Names are chosen so that both splits have something of every source (one in six is held out by a hash of its name).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from scipy.io import savemat

from deocclude.data.sources.layers import Library
from deocclude.data.sources.library import SourceWeights, load_library

# Clothing Co-Parsing's own label list, in its order
GARMENTS = (
    "null", "accessories", "bag", "belt", "blazer", "blouse", "bodysuit", "boots", "bra", "bracelet", "cape",
    "cardigan", "clogs", "coat", "dress", "earrings", "flats", "glasses", "gloves", "hair", "hat", "heels", "hoodie",
    "intimate", "jacket", "jeans", "jumper", "leggings", "loafers", "necklace", "panties", "pants", "pumps", "purse",
    "ring", "romper", "sandals", "scarf", "shirt", "shoes", "shorts", "skin", "skirt", "sneakers", "socks",
    "stockings", "suit", "sunglasses", "sweater", "sweatshirt", "swimwear", "t-shirt", "tie", "tights", "top", "vest",
    "wallet", "watch", "wedges",
)  # fmt: skip
CCP_TRAIN, CCP_VAL = ("0001", "0002", "0003"), ("0010", "0011")
CUTOUTS = ("person15", "person16", "person17")  # 17 is held out
OBJECTS = ("object1", "object2", "object3", "object4", "object5", "object7")  # 4, 5 and 7 are
FULL = ("photo0", "photo1", "photo2")  # 0 and 2 are
UPPER = ("photo3", "photo4", "photo5")  # 4 is
BACKGROUNDS = 8  # number 7 is held out
WILD = ("street0", "street1", "street2", "street5")  # 5 is held out, by one in three


@dataclass(frozen=True)
class Figure:
    """A drawn person. rgb: (H, W, 3) uint8; garments: (H, W) uint8 labels into GARMENTS, 0 outside the person."""

    rgb: np.ndarray
    garments: np.ndarray

    @property
    def mask(self) -> np.ndarray:
        """(H, W) bool, the silhouette."""
        return self.garments > 0


def draw_figure(rng: np.random.Generator, size_hw: tuple[int, int] = (90, 60)) -> Figure:
    """A standing person: hair, a face, bare arms, a shirt, trousers that end above the ankle, shoes."""
    h, w = size_hw
    garments = np.zeros(size_hw, np.uint8)
    middle = w // 2 + int(rng.integers(-2, 3))

    def box(name: str, x0: float, y0: float, x1: float, y1: float) -> None:
        garments[int(y0 * h) : int(y1 * h), int(middle + x0 * h) : int(middle + x1 * h)] = GARMENTS.index(name)

    box("t-shirt", -0.13, 0.24, 0.13, 0.52)
    box("skin", -0.19, 0.26, -0.13, 0.55)
    box("skin", 0.13, 0.26, 0.19, 0.55)
    box("jeans", -0.12, 0.52, 0.12, 0.6)
    box("jeans", -0.12, 0.6, -0.02, 0.8)
    box("jeans", 0.02, 0.6, 0.12, 0.8)
    box("skin", -0.11, 0.8, -0.03, 0.88)
    box("skin", 0.03, 0.8, 0.11, 0.88)
    box("shoes", -0.13, 0.88, -0.02, 0.94)
    box("shoes", 0.02, 0.88, 0.13, 0.94)
    box("skin", -0.06, 0.12, 0.06, 0.24)
    box("hair", -0.08, 0.05, 0.08, 0.13)
    skin = rng.integers(120, 220)
    colours = {
        "t-shirt": rng.integers(0, 256, 3), "jeans": rng.integers(0, 128, 3), "skin": (skin, skin - 40, skin - 60),
        "shoes": (30, 30, 30), "hair": rng.integers(0, 90, 3),
    }  # fmt: skip
    rgb = draw_background(rng, size_hw)
    for name, colour in colours.items():
        rgb[garments == GARMENTS.index(name)] = colour
    return Figure(rgb, garments)


def draw_background(rng: np.random.Generator, size_hw: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8: a smooth ramp with some grain."""
    rows, columns = np.mgrid[: size_hw[0], : size_hw[1]]
    ramp = np.stack(
        [rows * rng.uniform(-1, 1) + columns * rng.uniform(-1, 1) + rng.integers(60, 190) for _ in range(3)], -1
    )
    return (ramp + rng.normal(0, 6, ramp.shape)).clip(0, 255).astype(np.uint8)


def draw_object(rng: np.random.Generator, number: int) -> np.ndarray:
    """(H, W, 4) uint8 RGBA: a ball, a board or a bench, by number."""
    shapes = ((44, 44), (56, 40), (30, 70))
    h, w = shapes[number % 3]
    rgba = np.zeros((h, w, 4), np.uint8)
    rgba[..., :3] = rng.integers(0, 256, 3)
    rgba[::4, :, :3] = rng.integers(0, 256, 3)
    alpha = np.zeros((h, w), np.uint8)
    if number % 3 == 0:
        cv2.circle(alpha, (w // 2, h // 2), w // 2 - 3, 255, -1)
    else:
        alpha[3:-3, 3:-3] = 255
    rgba[..., 3] = alpha
    return rgba


def draw_data_folder(root: Path, seed: int = 0) -> Path:
    """Write the whole folder below `root` and return it. The same seed gives the same pictures."""
    rng = np.random.default_rng(seed)
    labels = root / "ccp" / "annotations" / "pixel-level"
    labels.mkdir(parents=True)
    cells = np.empty((1, len(GARMENTS)), dtype=object)
    for number, name in enumerate(GARMENTS):
        cells[0, number] = name
    savemat(root / "ccp" / "label_list.mat", {"label_list": cells})
    (root / "ccp" / "splits.json").write_text(json.dumps({"train": CCP_TRAIN, "val": CCP_VAL}))
    for photo_id in (*CCP_TRAIN, *CCP_VAL):
        figure = draw_figure(rng)
        write_picture(root / "ccp" / "photos" / f"{photo_id}.jpg", figure.rgb)
        savemat(labels / f"{photo_id}.mat", {"groundtruth": figure.garments})
    for name in CUTOUTS:
        figure = draw_figure(rng, (80, 56))
        rgba = np.dstack([figure.rgb, figure.mask.astype(np.uint8) * 255])
        write_picture(root / "cutouts" / "people" / f"{name}.png", rgba)
    for name in OBJECTS:
        write_picture(root / "cutouts" / "objects" / f"{name}.png", draw_object(rng, int(name[6:])))
    for name in FULL:
        figure = draw_figure(rng)
        write_photo_and_mask(root / "mixed_people" / "full", name, figure.rgb, figure.mask)
    for name in UPPER:
        figure = draw_figure(rng)
        write_photo_and_mask(root / "mixed_people" / "upper", name, figure.rgb[:60], figure.mask[:60])
    for number in range(BACKGROUNDS):
        write_picture(root / "backgrounds" / f"{number:02d}.png", draw_background(rng, (60, 80)))
    draw_wild_folder(root / "wild", rng)
    return root


def draw_wild_folder(folder: Path, rng: np.random.Generator) -> None:
    """Photos of two people, the second before the first, in COCO's manner; a crowd in the corner of the first photo."""
    people = []
    for name in WILD:
        rgb = draw_background(rng, (96, 128))
        instances = np.zeros(rgb.shape[:2], np.uint8)
        for number, (top, left) in enumerate(((2, 20), (6, 36)), start=1):
            figure = draw_figure(rng)
            here = (slice(top, top + 90), slice(left, left + 60))
            rgb[here][figure.mask] = figure.rgb[figure.mask]
            instances[here][figure.mask] = number
        for number in (1, 2):
            x, y, w, h = cv2.boundingRect((instances == number).astype(np.uint8))
            people.append({"id": name, "inst": number, "bbox": [x, y, x + w, y + h]})
        write_picture(folder / "images" / f"{name}.jpg", rgb)
        write_picture(folder / "masks" / f"{name}.png", instances)
        if name == WILD[0]:
            crowd = np.zeros_like(instances)
            crowd[:30, 100:] = 255
            write_picture(folder / "ignore" / f"{name}.png", crowd)
    (folder / "persons.json").write_text(json.dumps(people))


def write_photo_and_mask(folder: Path, name: str, rgb: np.ndarray, mask: np.ndarray) -> None:
    """One pair of an image + mask folder. rgb: (H, W, 3) uint8, mask: (H, W) bool."""
    write_picture(folder / "images" / f"{name}.jpg", rgb)
    write_picture(folder / "masks" / f"{name}.png", mask.astype(np.uint8) * 255)


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Write (H, W), (H, W, 3) RGB or (H, W, 4) RGBA uint8; the suffix chooses the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if picture.ndim == 3:
        picture = cv2.cvtColor(picture, cv2.COLOR_RGBA2BGRA if picture.shape[2] == 4 else cv2.COLOR_RGB2BGR)
    quality = [cv2.IMWRITE_JPEG_QUALITY, 100] if path.suffix == ".jpg" else []
    if not cv2.imwrite(str(path), picture, quality):
        raise OSError(f"cannot write {path}")


def drawn_library(root: Path, split: str = "train", **weights: float) -> Library:
    """The library of a drawn folder; all four sources in equal shares unless weights are given."""
    shares = dict.fromkeys(("ccp", "cutouts", "full", "upper"), 0.0) | weights
    if not weights:
        shares = dict.fromkeys(shares, 0.25)
    return load_library(root, split, SourceWeights(**shares))
