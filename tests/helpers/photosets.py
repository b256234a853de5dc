"""Draws the photo sets of docs/data.md by code, a few people each."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from datafolder import write_picture
from deocclude.imaging.rle import encode_rle

GREY = 120
BOX = (30, 20, 40, 60)  # x, y, w, h of everyone's rectangular body, in a photo of 100 x 100


def body(size_px: int = 100, box: tuple[int, int, int, int] = BOX) -> np.ndarray:
    """(size, size) bool: a rectangle; box in a photo of 100 px."""
    x, y, w, h = (v * size_px // 100 for v in box)
    mask = np.zeros((size_px, size_px), bool)
    mask[y : y + h, x : x + w] = True
    return mask


def photo_of(mask: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8: a red body on grey."""
    rgb = np.full((*mask.shape, 3), GREY, np.uint8)
    rgb[mask] = (200, 40, 40)
    return rgb


def polygon(box: tuple[int, int, int, int], factor: float = 1.0) -> list[list[float]]:
    """COCO's polygons of a rectangle."""
    x, y, w, h = (v * factor for v in box)
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


def draw_voc(root: Path) -> Path:
    """One whole person, another one far off, and one who is merged with a neighbour."""
    alone = body() | body(box=(85, 0, 10, 10))
    joined = body() | body(box=(60, 30, 35, 40))
    for photo_id, mask in (("2008_000001", alone), ("2008_000002", joined)):
        write_picture(root / "photos" / f"{photo_id}.webp", photo_of(mask))
        write_picture(root / "parts" / f"{photo_id}.png", mask.astype(np.uint8) * 2)
    boxes = dict.fromkeys(("2008_000001", "2008_000002"), BOX)
    (root / "people.json").write_text(json.dumps({"whole": boxes, "one_head": boxes}))
    return root


def draw_coco(root: Path, ids: tuple[str, ...] = ("000000000042",)) -> Path:
    """Photos half as large as the ones their coordinates refer to; one more person who is not whole."""
    every = (*ids, "000000009999")
    for photo_id in every:
        write_picture(root / "photos" / f"{photo_id}.webp", photo_of(body()))
    box = [2 * value for value in BOX]
    people = {photo_id: [{"bbox": box, "segmentation": polygon(BOX, 2.0)}] for photo_id in every}
    sizes = {photo_id: [200, 200] for photo_id in every}
    (root / "people.json").write_text(json.dumps({"whole": ids, "people": people, "size": sizes}))
    return root


def draw_pelota(root: Path) -> Path:
    """Photo 15: a whole player, one without ankles, one truncated, and one truncated beside a neighbour."""
    boxes = ((20, 100, 60, 160), (110, 100, 60, 160), (200, 200, 60, 200), (290, 200, 60, 200), (350, 150, 40, 240))
    seen = [0] * 17, [2] * 17
    people = [
        {"segmentation": polygon(box, 2.0), "keypoints": [v for s in seen[n == 0] for v in (1, 1, s)]}
        for n, box in enumerate(boxes)
    ]
    mask = np.zeros((400, 400), bool)
    for x, y, w, h in boxes:
        mask[y : y + h, x : x + w] = True
    write_picture(root / "photos" / "15.webp", photo_of(mask))
    (root / "people.json").write_text(json.dumps({"15": {"size": [800, 800], "people": people}}))
    return root


def draw_teachers(root: Path) -> Path:
    """Frames between black bars: t064 is whole, t071 cut by the lower bar, t072 ends above it; in t073 are two."""
    frames = {}
    for name, box in {"t064": (30, 30, 30, 40), "t071": (30, 40, 30, 40), "t072": (30, 40, 30, 30)}.items():
        mask = body(200, box)
        rgb = photo_of(mask)
        rgb[:40] = rgb[160:] = 0
        write_picture(root / "photos" / f"{name}.webp", rgb)
        large = body(400, box)
        frames[name] = {"size": [400, 400], "people": [{"segmentation": encode_rle(large)}]}
    frames["t073"] = {"size": [400, 400], "people": frames["t072"]["people"] * 2}
    (root / "people.json").write_text(json.dumps(frames))
    return root


def draw_small(root: Path) -> Path:
    """Two cut-outs, the first of several people."""
    for name in ("fg_008", "fg_010"):
        mask = body()
        write_picture(root / f"{name}.png", np.dstack([photo_of(mask), mask.astype(np.uint8) * 255]))
    return root
