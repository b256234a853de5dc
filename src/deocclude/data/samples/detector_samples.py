"""One training photo of the people detector, from whatever source, and a batch of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from deocclude.data.synthesis.multi_person import CrowdScene

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
