"""One training photo of the people detector, from whatever source, and a batch of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from deocclude.data.sources.real_photos import Rng, WildPhoto
from deocclude.data.synthesis.multi_person import CrowdScene
from deocclude.data.synthesis.photometric import camera, photometric
from deocclude.imaging.boxes import mask_to_box_xyxy

MIN_SIDE_PX = 10  # of a box in the frame: what is smaller is nobody's fault
MAX_PEOPLE = 32  # in a frame of a batch
_MOST_NUMBERS = 255  # of people, in a byte
_MIN_VISIBLE = 0.1  # of a body, to be asked for


@dataclass(frozen=True)
class PeopleSample:
    """A photo at the upper left of a square frame, grey 128 beyond it.

    photo: (S, S, 3) uint8; boxes_xyxy: (N, 4) float32, around what is visible of each person, pixels of the frame;
    counted: (N,) bool, False for people whom nobody has to find and whom finding is no fault; owner: (S, S) uint8,
    whose pixel it is, 1 for the first box, 0 for nobody's; ignore: (S, S) bool, where unlabelled people may be.
    """

    photo: np.ndarray
    boxes_xyxy: np.ndarray
    counted: np.ndarray
    owner: np.ndarray
    ignore: np.ndarray


def framed(
    rgb: np.ndarray, boxes_xyxy: Sequence[Sequence[float]] | np.ndarray, counted: np.ndarray, owner: np.ndarray,
    ignore: np.ndarray, size_px: int,
) -> PeopleSample:  # fmt: skip
    """The sample of a photo, (H, W, 3), of at most `size_px` on either side."""
    beyond = ((0, size_px - rgb.shape[0]), (0, size_px - rgb.shape[1]))
    return PeopleSample(
        np.pad(rgb, (*beyond, (0, 0)), constant_values=128),
        np.array(boxes_xyxy, np.float32).reshape(-1, 4), np.asarray(counted, bool),
        np.pad(owner.astype(np.uint8), beyond), np.pad(ignore, beyond),
    )  # fmt: skip


def from_scene(scene: CrowdScene, size_px: int) -> PeopleSample:
    """The sample of a composed scene; who is hidden but for a sliver is not counted."""
    seen = scene.visible.sum((1, 2))
    counted = seen >= _MIN_VISIBLE * scene.amodal.sum((1, 2))
    here = seen > 0
    # visible masks are disjoint
    owner = (scene.visible[here] * np.arange(1, here.sum() + 1)[:, None, None]).sum(0)
    return framed(scene.photo, scene.boxes_xyxy[here], counted[here], owner, scene.ignore, size_px)


def mosaic(parts: Sequence[PeopleSample]) -> PeopleSample:
    """Four samples in one frame of twice their side, so that a few photos are never met in the same company again.

    Of more than 255 people the last are nobody's pixels and need not be found.
    """
    side = parts[0].photo.shape[0]
    before = np.cumsum([0, *(len(p.boxes_xyxy) for p in parts)])
    owner = _grid([np.where(p.owner > 0, p.owner + n, 0) for p, n in zip(parts, before, strict=False)])
    numbered = np.arange(before[-1]) < _MOST_NUMBERS
    corners = [(x, y, x, y) for y in (0, side) for x in (0, side)]
    return PeopleSample(
        _grid([p.photo for p in parts]),
        np.concatenate([p.boxes_xyxy + np.float32(corner) for p, corner in zip(parts, corners, strict=True)]),
        np.concatenate([p.counted for p in parts]) & numbered,
        np.where(owner <= _MOST_NUMBERS, owner, 0).astype(np.uint8),
        _grid([p.ignore for p in parts]),
    )


def _grid(four: Sequence[np.ndarray]) -> np.ndarray:
    """Two above two."""
    return np.concatenate([np.concatenate(pair, 1) for pair in (four[:2], four[2:])])


def to_batch(samples: Sequence[PeopleSample]) -> dict[str, Any]:
    """Samples as torch tensors.

    photo: (B, 3, S, S) uint8; boxes_xyxy: (B, MAX_PEOPLE, 4) float32, the people to be found, the rest zeros; owner:
    (B, 1, S, S) uint8, the row of a person to be found plus 1, 0 elsewhere; visible, ignore: (B, 1, S, S) uint8 in
    {0, 1}. The boxes of people who are not counted, too small or too many
    are part of `ignore`.
    """
    import torch

    boxes = np.zeros((len(samples), MAX_PEOPLE, 4), np.float32)
    owner = np.zeros((len(samples), *samples[0].owner.shape), np.uint8)
    ignore = np.stack([s.ignore for s in samples]).astype(np.uint8)
    for sample, row, mine, unsure in zip(samples, boxes, owner, ignore, strict=True):
        wanted = sample.counted & ((sample.boxes_xyxy[:, 2:] - sample.boxes_xyxy[:, :2]).min(1) >= MIN_SIDE_PX)
        wanted &= np.cumsum(wanted) <= MAX_PEOPLE
        row[: wanted.sum()] = sample.boxes_xyxy[wanted]
        rows = np.zeros(256, np.uint8)
        rows[1 + np.flatnonzero(wanted)] = np.arange(1, wanted.sum() + 1)
        mine[:] = rows[sample.owner]
        for x0, y0, x1, y1 in sample.boxes_xyxy[~wanted]:
            left, top = int(np.floor(x0)), int(np.floor(y0))
            cv2.rectangle(unsure, (left, top), (int(np.ceil(x1)) - 1, int(np.ceil(y1)) - 1), 1, -1)
    photo = torch.from_numpy(np.stack([s.photo for s in samples])).permute(0, 3, 1, 2)
    visible = np.stack([s.owner > 0 for s in samples]).astype(np.uint8)
    return {
        "photo": photo.contiguous(memory_format=torch.channels_last), "boxes_xyxy": torch.from_numpy(boxes),
        "owner": torch.from_numpy(owner)[:, None], "visible": torch.from_numpy(visible)[:, None],
        "ignore": torch.from_numpy(ignore)[:, None],
    }  # fmt: skip


# (rgb, instances, ignore, rng) -> the three with layers pasted in front; people who are added get new numbers
Cover = Callable[[np.ndarray, np.ndarray, np.ndarray, Rng], tuple[np.ndarray, np.ndarray, np.ndarray]]
_MIN_SIDE_SHARE = 0.4  # a training crop's sides, of the photo's
_P_WHOLE = 0.35
_MIN_LEFT = 0.15  # of a person's visible pixels: with less of them in a crop, nobody is asked to see a person


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
