"""Who is in the photo: boxes and scores from the people detector's maps. numpy and Pillow only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from deocclude.imaging.boxes import suppress

SIZE_PX = 384  # longer side at which the detector looks
# Of the detector's score times stage 1's; the boxes' own score has to reach it as well. On 120 composed scenes of
# another seed than those that are reported recall is 0.89 and precision 0.92; with more of it somebody is lost there.
MIN_SCORE = 0.22
MAX_IOU = 0.7  # two boxes that share more are one person; of those that share less, stage 1's masks decide
MAX_PEOPLE = 100  # bounds time and memory whatever the photo holds
_MULTIPLE = 32  # the network halves its input five times
_FILL = 128
_LEAST_PX = 2.0  # of the photo, either way: a smaller box holds nothing to look at


@dataclass(frozen=True)
class Detection:
    """A person found. box_xyxy: around what is visible, pixels of the photo, within it; score: 0 to 1."""

    box_xyxy: tuple[float, float, float, float]
    score: float


class PeopleFinder:
    """Finds everyone in a photo by boxes, for stage 1 to turn into masks. Holds the network and nothing else."""

    def __init__(
        self, network: Callable[..., dict[str, np.ndarray]], *, size_px: int, min_score: float, average: bool = True
    ) -> None:
        """`network`: a runtime.Network of the people detector; the rest as `find_boxes` takes it."""
        self._network = network
        self._average = average
        self._size_px = size_px
        self.min_score = min_score

    @classmethod
    def of(
        cls, network: Callable[..., dict[str, np.ndarray]], row: Mapping[str, Any], average: bool = True
    ) -> PeopleFinder:
        """The finder of a network and its row of the manifest."""
        size_px, min_score = int(row.get("size_px", SIZE_PX)), float(row.get("min_score", MIN_SCORE))
        return cls(network, size_px=size_px, min_score=min_score, average=average)

    def __call__(
        self, photo: np.ndarray, *, min_score: float | None = None, min_height_px: float = 0.0
    ) -> list[Detection]:
        """The people of a photo, (H, W, 3) uint8 RGB, the surest first; `min_score`: in place of the usual one."""
        least = self.min_score if min_score is None else min_score
        found = find_boxes(self._network, photo, size_px=self._size_px, min_score=least, average=self._average)
        return [one for one in found if one.box_xyxy[3] - one.box_xyxy[1] >= min_height_px]


def find_boxes(
    network: Callable[..., dict[str, np.ndarray]], photo: np.ndarray, *, size_px: int = SIZE_PX,
    min_score: float = MIN_SCORE, max_iou: float = MAX_IOU, average: bool = True,
) -> list[Detection]:  # fmt: skip
    """Everyone in a photo, the surest first.

    network: a runtime.Network of the people detector; photo: (H, W, 3) uint8 RGB. size_px: the photo's longer side for
    the network; more finds smaller people and takes longer. average: look at the photo's mirror image too.
    """
    image, scale_xy = fit_photo(photo, size_px)
    centre, sides = _look(network, image, average)
    boxes, scores = decode(centre, sides, image.shape[2] // len(centre), min_score)
    h, w = photo.shape[:2]
    boxes = (boxes / np.tile(scale_xy, 2)).clip(0, (w, h, w, h))
    kept = suppress(boxes, scores, max_iou)
    return [Detection(tuple(map(float, boxes[i])), float(scores[i])) for i in kept if _is_large_enough(boxes[i])]


def _look(
    network: Callable[..., dict[str, np.ndarray]], image: np.ndarray, average: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Centre (h, w) and sides (4, h, w) of an input (1, 3, H, W); the mean of it and its mirror image."""
    maps = network(image=np.concatenate([image, image[..., ::-1]]) if average else image)
    centre, sides = maps["centre"][:, 0], maps["sides"]
    if not average:
        return centre[0], sides[0]
    left_right_swapped = sides[1, (2, 1, 0, 3), :, ::-1]
    # sides are scales: their mean is the geometric one
    return (centre[0] + centre[1, :, ::-1]) / 2, np.sqrt(sides[0] * left_right_swapped)


def fit_photo(photo: np.ndarray, size_px: int) -> tuple[np.ndarray, np.ndarray]:
    """A photo as the detector takes it, and (x, y) input pixels a photo pixel.

    photo: (H, W, 3) uint8 -> (1, 3, h, w) float32 in [0, 1], at the upper left, its longer side at `size_px`; grey
    beyond it up to the next multiple of 32.
    """
    h, w = photo.shape[:2]
    scale = size_px / max(h, w)
    small_w, small_h = max(1, round(w * scale)), max(1, round(h * scale))
    picture = Image.fromarray(np.ascontiguousarray(photo))
    # the reduction in whole steps first makes large photos cheap and changes nothing to speak of
    picture = picture.resize((small_w, small_h), Image.Resampling.BILINEAR, reducing_gap=2.0)
    padded_h, padded_w = (-(-side // _MULTIPLE) * _MULTIPLE for side in (small_h, small_w))
    frame = np.full((padded_h, padded_w, 3), _FILL, np.uint8)
    frame[:small_h, :small_w] = np.asarray(picture)
    image = frame.transpose(2, 0, 1)[None].astype(np.float32) / 255
    return image, np.array([small_w / w, small_h / h])


def decode(
    centre: np.ndarray, sides: np.ndarray, stride: int, min_score: float = MIN_SCORE
) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (N, 4) float32 in input pixels and scores (N,) from the network's maps, the surest first.

    centre: (h, w) in [0, 1]; sides: (4, h, w), left, top, right, bottom in cells. A person is a cell that no
    neighbour exceeds and that has at least `min_score`.
    """
    rows, columns = np.nonzero((centre >= min_score) & (centre >= _neighbourhood_max(centre)))
    scores = centre[rows, columns]
    order = np.argsort(-scores, kind="stable")[:MAX_PEOPLE]
    rows, columns = rows[order], columns[order]
    reach = sides[:, rows, columns].T
    middle = np.stack([columns, rows], 1) + 0.5
    boxes = np.concatenate([middle - reach[:, :2], middle + reach[:, 2:]], 1) * stride
    return boxes.astype(np.float32), scores[order].astype(np.float32)


def _neighbourhood_max(values: np.ndarray) -> np.ndarray:
    """Largest value of each cell's 3x3 neighbourhood, (h, w)."""
    padded = np.pad(values, 1, constant_values=-np.inf)
    across = np.maximum(np.maximum(padded[:, :-2], padded[:, 1:-1]), padded[:, 2:])
    return np.maximum(np.maximum(across[:-2], across[1:-1]), across[2:])


def _is_large_enough(box_xyxy: np.ndarray) -> bool:
    return bool((box_xyxy[2:] - box_xyxy[:2] >= _LEAST_PX).all())
