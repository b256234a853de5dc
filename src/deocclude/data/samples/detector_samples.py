"""Training photos of the people detector from composed scenes and real photos, and batches of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from deocclude.data.sources.real_photos import BoxedPhoto, Rng, WildPhoto
from deocclude.data.synthesis.multi_person import CrowdScene
from deocclude.data.synthesis.photometric import camera, photometric
from deocclude.imaging.arrays import Int
from deocclude.imaging.boxes import box_to_mask, mask_to_box_xyxy

MIN_SIDE_PX = 10  # least side of a box in the frame; smaller boxes are ignored
MAX_PEOPLE = 32  # largest number of people to find in a frame of a batch
_MAX_NUMBER = 255  # largest person number, as numbers are uint8
_MIN_VISIBLE = 0.1  # least visible fraction of a body that the detector must find


@dataclass(frozen=True)
class PeopleSample:
    """A photo at the upper left of a square frame, grey 128 beyond it.

    Attributes:
        photo: (S, S, 3) uint8.
        boxes_xyxy: (N, 4) float32 boxes of the visible masks, in pixels of the frame.
        counted: (N,) bool; False for people whose detection counts neither as right nor as wrong.
        owner: (S, S) uint8, number of each pixel's person: 1 for the first box, 0 for background.
        ignore: (S, S) bool, where unlabelled people may be.
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
    """The sample of a photo of at most `size_px` on either side, padded to a square of that side.

    Args:
        rgb: (H, W, 3) uint8, the photo.
        boxes_xyxy: (N, 4), as in PeopleSample.
        counted: (N,) bool, as in PeopleSample.
        owner: (H, W), as in PeopleSample.
        ignore: (H, W) bool, as in PeopleSample.
        size_px: side S of the frame.
    """
    beyond = ((0, size_px - rgb.shape[0]), (0, size_px - rgb.shape[1]))
    return PeopleSample(
        np.pad(rgb, (*beyond, (0, 0)), constant_values=128),
        np.array(boxes_xyxy, np.float32).reshape(-1, 4), np.asarray(counted, bool),
        np.pad(owner.astype(np.uint8), beyond), np.pad(ignore, beyond),
    )  # fmt: skip


def from_scene(scene: CrowdScene, size_px: int) -> PeopleSample:
    """The sample of a composed scene. People less than 10 % visible are not counted, invisible ones left out."""
    seen = scene.visible.sum((1, 2))
    counted = seen >= _MIN_VISIBLE * scene.amodal.sum((1, 2))
    here = seen > 0
    # visible masks are disjoint
    owner = (scene.visible[here] * np.arange(1, here.sum() + 1)[:, None, None]).sum(0)
    return framed(scene.photo, scene.boxes_xyxy[here], counted[here], owner, scene.ignore, size_px)


def mosaic(parts: Sequence[PeopleSample]) -> PeopleSample:
    """Mosaic augmentation: four samples of one size, in one frame of twice their side.

    Beyond 255 people the last ones have no pixels in `owner` and are not counted.
    """
    side = parts[0].photo.shape[0]
    before = np.cumsum([0, *(len(p.boxes_xyxy) for p in parts)])
    owner = _grid([np.where(p.owner > 0, p.owner + n, 0) for p, n in zip(parts, before, strict=False)])
    numbered = np.arange(before[-1]) < _MAX_NUMBER
    corners = [(x, y, x, y) for y in (0, side) for x in (0, side)]
    return PeopleSample(
        _grid([p.photo for p in parts]),
        np.concatenate([p.boxes_xyxy + np.array(corner, np.float32) for p, corner in zip(parts, corners, strict=True)]),
        np.concatenate([p.counted for p in parts]) & numbered,
        np.where(owner <= _MAX_NUMBER, owner, 0).astype(np.uint8),
        _grid([p.ignore for p in parts]),
    )


def _grid(four: Sequence[np.ndarray]) -> np.ndarray:
    """Four arrays as a 2 x 2 grid."""
    return np.concatenate([np.concatenate(pair, 1) for pair in (four[:2], four[2:])])


def to_batch(samples: Sequence[PeopleSample]) -> dict[str, Any]:
    """Samples as torch tensors.

    Returns:
        photo: (B, 3, S, S) uint8; boxes_xyxy: (B, MAX_PEOPLE, 4) float32, the people to find, then zeros; owner: (B, 1,
        S, S) uint8, the row of a person to find plus 1, 0 elsewhere; visible, ignore: (B, 1, S, S) uint8 in {0, 1}.
        The boxes of people who are not counted, too small or too many are part of `ignore`.
    """
    import torch

    boxes = np.zeros((len(samples), MAX_PEOPLE, 4), np.float32)
    owner = np.zeros((len(samples), *samples[0].owner.shape), np.uint8)
    ignore = np.stack([s.ignore for s in samples]).astype(np.uint8)
    for sample, row, batch_owner, batch_ignore in zip(samples, boxes, owner, ignore, strict=True):
        to_find = sample.counted & ((sample.boxes_xyxy[:, 2:] - sample.boxes_xyxy[:, :2]).min(1) >= MIN_SIDE_PX)
        to_find &= np.cumsum(to_find) <= MAX_PEOPLE
        row[: to_find.sum()] = sample.boxes_xyxy[to_find]
        row_by_number = np.zeros(256, np.uint8)
        row_by_number[1 + np.flatnonzero(to_find)] = np.arange(1, to_find.sum() + 1)
        batch_owner[:] = row_by_number[sample.owner]
        for x0, y0, x1, y1 in sample.boxes_xyxy[~to_find]:
            left, top = int(np.floor(x0)), int(np.floor(y0))
            cv2.rectangle(batch_ignore, (left, top), (int(np.ceil(x1)) - 1, int(np.ceil(y1)) - 1), 1, -1)
    photo = torch.from_numpy(np.stack([s.photo for s in samples])).permute(0, 3, 1, 2)
    visible = np.stack([s.owner > 0 for s in samples]).astype(np.uint8)
    return {
        "photo": photo.contiguous(memory_format=torch.channels_last), "boxes_xyxy": torch.from_numpy(boxes),
        "owner": torch.from_numpy(owner)[:, None], "visible": torch.from_numpy(visible)[:, None],
        "ignore": torch.from_numpy(ignore)[:, None],
    }  # fmt: skip


# (rgb, instances, ignore, rng) -> the three arrays with layers pasted in front; pasted people get new numbers
Cover = Callable[[np.ndarray, np.ndarray, np.ndarray, Rng], tuple[np.ndarray, np.ndarray, np.ndarray]]
_MIN_SIDE_SHARE = 0.4  # least side of a training crop, as a fraction of the photo's side
_P_FULL_PHOTO = 0.35  # probability that the full photo is used
_MIN_BOX_SHARE = 0.3  # of a box's area: with less of it in a crop the person is not counted
_MIN_VISIBLE_SHARE = 0.15  # of a person's visible pixels: with fewer in a crop the person is not counted


def crop_wild(
    photo: WildPhoto, rng: Rng, size_px: int, cover: Cover | None = None, stretch: float = 0.0
) -> PeopleSample:
    """A training sample: the photo or a crop of it, mirrored half of the time, in a square frame.

    Args:
        photo: the labelled photo.
        rng: draws the crop.
        size_px: side of the frame.
        cover: pastes people and objects in front, or None.
        stretch: the aspect ratio changes by a factor of up to exp(`stretch`).
    """
    x0, y0, x1, y1 = _draw_crop(photo.instances.shape, rng)
    part = (slice(y0, y1), slice(x0, x1))
    rgb, instances, ignore = photo.rgb[part], photo.instances[part], photo.ignore[part]
    px_in_crop, px_in_photo = (np.bincount(ids.ravel(), minlength=256) for ids in (instances, photo.instances))
    if rng.random() < 0.5:
        rgb, instances, ignore = rgb[:, ::-1], instances[:, ::-1], ignore[:, ::-1]
    aspect = float(np.exp(rng.uniform(-stretch, stretch))) if stretch else 1.0
    rgb, instances, ignore = _scaled(rgb, instances, ignore, size_px, aspect)
    px_before_pasting = np.bincount(instances.ravel(), minlength=256)
    if cover is not None:
        rgb, instances, ignore = cover(rgb, instances, ignore, rng)
    (rgb,) = camera(photometric([rgb], rng), rng)
    numbers = np.unique(instances[instances > 0])
    boxes = [mask_to_box_xyxy(instances == number) for number in numbers]
    # the share of a visible mask in the crop, times the share that no pasted layer covers; pasted people are counted
    px_after_pasting = np.bincount(instances.ravel(), minlength=256)
    seen_share = px_in_crop / np.maximum(px_in_photo, 1) * px_after_pasting / np.maximum(px_before_pasting, 1)
    counted = (seen_share[numbers] >= _MIN_VISIBLE_SHARE) | (px_before_pasting[numbers] == 0)
    return framed(rgb, boxes, counted, _owners(instances, numbers), ignore, size_px)


def _draw_crop(size_hw: Sequence[int], rng: Rng) -> tuple[int, int, int, int]:
    """A part of a photo, or all of it: x0, y0, x1, y1 in pixels."""
    h, w = size_hw
    if rng.random() < _P_FULL_PHOTO:
        return 0, 0, w, h
    cw, ch = (max(8, int(side * rng.uniform(_MIN_SIDE_SHARE, 1.0))) for side in (w, h))
    x0, y0 = int(rng.integers(0, max(1, w - cw + 1))), int(rng.integers(0, max(1, h - ch + 1)))
    return x0, y0, min(w, x0 + cw), min(h, y0 + ch)


def crop_boxed(photo: BoxedPhoto, rng: Rng, size_px: int, stretch: float = 0.0) -> PeopleSample:
    """A training sample of a photo with boxes alone, whose `owner` is empty. Arguments as in `crop_wild`.

    A person with less than 30 % of the box in the crop is not counted.
    """
    rgb = photo.rgb()
    h, w = rgb.shape[:2]
    crop = _draw_crop((h, w), rng)
    boxes, shares = _clipped_to_crop(photo.boxes_xyxy * (w, h, w, h), crop)
    crowds, _ = _clipped_to_crop(photo.crowds_xyxy * (w, h, w, h), crop)
    x0, y0, x1, y1 = crop
    rgb = rgb[y0:y1, x0:x1]
    if rng.random() < 0.5:
        rgb = rgb[:, ::-1]
        boxes, crowds = (_mirrored(one, rgb.shape[1]) for one in (boxes, crowds))
    aspect = float(np.exp(rng.uniform(-stretch, stretch))) if stretch else 1.0
    before_hw = rgb.shape[:2]
    empty = np.zeros(before_hw, np.uint8)
    rgb, owner, ignore = _scaled(np.ascontiguousarray(rgb), empty, empty, size_px, aspect)
    scale = np.tile((rgb.shape[1] / before_hw[1], rgb.shape[0] / before_hw[0]), 2)
    for crowd in crowds * scale:
        ignore |= box_to_mask(crowd, ignore.shape)
    (rgb,) = camera(photometric([rgb], rng), rng)
    is_inside = shares > 0
    return framed(rgb, boxes[is_inside] * scale, shares[is_inside] >= _MIN_BOX_SHARE, owner, ignore, size_px)


def _mirrored(boxes_xyxy: np.ndarray, width_px: int) -> np.ndarray:
    """Boxes (N, 4) in the mirror image of a photo of this width."""
    x0, y0, x1, y1 = boxes_xyxy.T
    return np.stack([width_px - x1, y0, width_px - x0, y1], 1)


def _clipped_to_crop(boxes_xyxy: np.ndarray, crop: tuple[int, int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (N, 4) cut at a crop, in its pixels, and the share (N,) of each box's area that lies in it."""
    x0, y0, x1, y1 = crop
    inside = boxes_xyxy.clip((x0, y0, x0, y0), (x1, y1, x1, y1)) - (x0, y0, x0, y0)
    before, after = ((b[:, 2:] - b[:, :2]).prod(1) for b in (boxes_xyxy, inside))
    return inside, after / np.maximum(before, 1e-9)


def whole_wild(photo: WildPhoto, size_px: int) -> PeopleSample:
    """The full photo, as at inference, with the photo's listed boxes; all people are counted."""
    rgb, instances, ignore = _scaled(photo.rgb, photo.instances, photo.ignore, size_px)
    sx, sy = rgb.shape[1] / photo.rgb.shape[1], rgb.shape[0] / photo.rgb.shape[0]
    boxes = [(x0 * sx, y0 * sy, x1 * sx, y1 * sy) for x0, y0, x1, y1 in photo.boxes_xyxy.values()]
    owner = _owners(instances, list(photo.boxes_xyxy))
    return framed(rgb, boxes, np.ones(len(boxes), bool), owner, ignore, size_px)


def _owners(instances: NDArray[np.uint8], numbers: Sequence[int] | Int) -> NDArray[np.uint8]:
    """(H, W) uint8: the index in `numbers` of each pixel's person, from 1; 0 for background."""
    owner_by_number = np.zeros(256, np.uint8)
    owner_by_number[np.asarray(numbers, int)] = np.arange(1, len(numbers) + 1)
    return owner_by_number[instances]


def _scaled(
    rgb: np.ndarray, instances: np.ndarray, ignore: np.ndarray, size_px: int, aspect: float = 1.0
) -> tuple[np.ndarray, ...]:
    """The three arrays with their aspect ratio times `aspect` and `size_px` on their longer side."""
    sides = rgb.shape[1] * aspect, rgb.shape[0]
    scale = size_px / max(sides)
    size = tuple(max(1, round(side * scale)) for side in sides)
    return (
        cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR),
        cv2.resize(instances, size, interpolation=cv2.INTER_NEAREST),
        cv2.resize(ignore.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0,
    )
