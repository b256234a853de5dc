"""People detection: boxes and scores from the maps of the anchor-free, centre-based detector. numpy and Pillow only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from deocclude.imaging.boxes import suppress
from deocclude.inference.settings import DetectorSettings

MAX_PEOPLE = 100  # bounds time and memory whatever the photo holds
_MULTIPLE = 32  # the network halves its input five times
_FILL = 128
_MIN_BOX_PX = 2.0  # of the photo, either way


@dataclass(frozen=True)
class Detection:
    """A person found. box_xyxy: around what is visible, pixels of the photo, within it; score: 0 to 1."""

    box_xyxy: tuple[float, float, float, float]
    score: float


class PeopleFinder:
    """Detects the people of a photo as boxes, which stage 1 turns into masks. Holds the network and its settings."""

    def __init__(
        self, network: Callable[..., dict[str, np.ndarray]], settings: DetectorSettings = DetectorSettings(),
        average: bool = True,
    ) -> None:  # fmt: skip
        """`network`: a runtime.Network of the people detector; `average`: over the photo and its mirror image."""
        self._network = network
        self._average = average
        self._settings = settings

    @property
    def min_score(self) -> float:
        """The least score of a detection, unless a call names another."""
        return self._settings.min_score

    def __call__(
        self, photo: ImageU8, *, min_score: float | None = None, min_height_px: float = 0.0
    ) -> list[Detection]:
        """The people of a photo, (H, W, 3) uint8 RGB, by descending score; `min_score`: in place of the settings'."""
        least = self.min_score if min_score is None else min_score
        found = find_boxes(self._network, photo, replace(self._settings, min_score=least), average=self._average)
        return [one for one in found if one.box_xyxy[3] - one.box_xyxy[1] >= min_height_px]


def find_boxes(
    network: Callable[..., dict[str, np.ndarray]], photo: ImageU8, settings: DetectorSettings = DetectorSettings(),
    *, average: bool = True,
) -> list[Detection]:  # fmt: skip
    """The people of a photo, by descending score, after non-maximum suppression.

    network: a runtime.Network of the people detector; photo: (H, W, 3) uint8 RGB; average: over the mirror image too.
    A larger `settings.size_px` finds smaller people and takes longer.
    """
    image, scale_xy = fit_photo(photo, settings.size_px)
    centre, sides = _predict(network, image, average)
    boxes, scores = decode(centre, sides, image.shape[2] // len(centre), settings.min_score)
    h, w = photo.shape[:2]
    boxes = (boxes / np.tile(scale_xy, 2)).clip(0, (w, h, w, h))
    kept = suppress(boxes, scores, settings.max_iou)
    return [Detection(tuple(map(float, boxes[i])), float(scores[i])) for i in kept if _is_large_enough(boxes[i])]


def _predict(
    network: Callable[..., dict[str, np.ndarray]], image: ImageU8, average: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Centre (h, w) and sides (4, h, w) of an input (1, 3, H, W); the mean of it and its mirror image."""
    maps = network(image=np.concatenate([image, image[..., ::-1]]) if average else image)
    centre, sides = maps["centre"][:, 0], maps["sides"]
    if not average:
        return centre[0], sides[0]
    left_right_swapped = sides[1, (2, 1, 0, 3), :, ::-1]
    # sides are scales: their mean is the geometric one
    return (centre[0] + centre[1, :, ::-1]) / 2, np.sqrt(sides[0] * left_right_swapped)


def fit_photo(photo: ImageU8, size_px: int) -> tuple[np.ndarray, np.ndarray]:
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
    centre: Float32, sides: Float32, stride: int, min_score: float = DetectorSettings.min_score
) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (N, 4) float32 in input pixels and scores (N,) from the network's maps, by descending score.

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


def _neighbourhood_max(values: Float32) -> np.ndarray:
    """Largest value of each cell's 3x3 neighbourhood, (h, w)."""
    padded = np.pad(values, 1, constant_values=-np.inf)
    across = np.maximum(np.maximum(padded[:, :-2], padded[:, 1:-1]), padded[:, 2:])
    return np.maximum(np.maximum(across[:-2], across[1:-1]), across[2:])


def _is_large_enough(box_xyxy: Float) -> bool:
    return bool((box_xyxy[2:] - box_xyxy[:2] >= _MIN_BOX_PX).all())
