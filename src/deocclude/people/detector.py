"""People detection: boxes and scores from the maps of the anchor-free, centre-based detector. numpy and Pillow only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deocclude.imaging.arrays import Float, Float32, ImageU8
from deocclude.imaging.boxes import suppress
from deocclude.inference.settings import DetectorSettings

MAX_PEOPLE = 100  # bounds time and memory
_MULTIPLE = 32  # the network halves its input's resolution five times
_FILL = 128
_MIN_BOX_PX = 2.0  # least width and height, in image pixels

DetectorNetwork = Callable[..., dict[str, NDArray[np.float32]]]
"""A `runtime.Network` of the people detector: named arrays in, named arrays out."""


@dataclass(frozen=True)
class Detection:
    """A detected person.

    Attributes:
        box_xyxy: around the visible part, in image pixels, inside the image.
        score: 0 to 1.
    """

    box_xyxy: tuple[float, float, float, float]
    score: float


class PeopleFinder:
    """Detects the people of an image as boxes, which stage 1 turns into masks."""

    def __init__(
        self, network: DetectorNetwork, settings: DetectorSettings = DetectorSettings(),
        average: bool = True,
    ) -> None:  # fmt: skip
        """The detector with its settings.

        Args:
            network: the people detector.
            settings: tuned numbers.
            average: average the maps of the image and of its mirror image.
        """
        self._network = network
        self._average = average
        self._settings = settings

    @property
    def min_score(self) -> float:
        """The least score of a detection, unless a call gives another."""
        return self._settings.min_score

    def __call__(
        self, photo: ImageU8, *, min_score: float | None = None, min_height_px: float = 0.0
    ) -> list[Detection]:
        """Detect the people of an image.

        Args:
            photo: (H, W, 3) uint8 RGB.
            min_score: least score; None: that of the settings.
            min_height_px: least height of a box, in image pixels.

        Returns:
            Detections by descending score.
        """
        least = self.min_score if min_score is None else min_score
        found = find_boxes(self._network, photo, replace(self._settings, min_score=least), average=self._average)
        return [one for one in found if one.box_xyxy[3] - one.box_xyxy[1] >= min_height_px]


def find_boxes(
    network: DetectorNetwork, photo: ImageU8, settings: DetectorSettings = DetectorSettings(),
    *, average: bool = True,
) -> list[Detection]:  # fmt: skip
    """The people of an image after non-maximum suppression.

    Args:
        network: the people detector.
        photo: (H, W, 3) uint8 RGB.
        settings: a larger `size_px` finds smaller people and takes longer.
        average: average the maps of the image and of its mirror image.

    Returns:
        Detections by descending score.
    """
    image, scale_xy = fit_photo(photo, settings.size_px)
    centre, sides = _predict(network, image, average)
    boxes, scores = decode(centre, sides, image.shape[2] // len(centre), settings.min_score)
    h, w = photo.shape[:2]
    boxes = (boxes / np.tile(scale_xy, 2)).clip(0, (w, h, w, h))
    kept = suppress(boxes, scores, settings.max_iou)
    return [_detection(boxes[i], scores[i]) for i in kept if _is_large_enough(boxes[i])]


def _detection(box_xyxy: Float, score: float) -> Detection:
    x0, y0, x1, y1 = map(float, box_xyxy)
    return Detection((x0, y0, x1, y1), float(score))


def _predict(network: DetectorNetwork, image: Float32, average: bool) -> tuple[Float32, Float32]:
    """Centre heatmap (h, w) and side distances (4, h, w) of an input (1, 3, H, W), averaged over its mirror image."""
    maps = network(image=np.concatenate([image, image[..., ::-1]]) if average else image)
    centre, sides = maps["centre"][:, 0], maps["sides"]
    if not average:
        return centre[0], sides[0]
    left_right_swapped = sides[1, (2, 1, 0, 3), :, ::-1]
    # distances are scales: their geometric mean
    return (centre[0] + centre[1, :, ::-1]) / 2, np.sqrt(sides[0] * left_right_swapped)


def fit_photo(photo: ImageU8, size_px: int) -> tuple[Float32, Float]:
    """An image as detector input.

    Args:
        photo: (H, W, 3) uint8 RGB.
        size_px: longer side of the image in the input.

    Returns:
        (1, 3, h, w) float32, 0 to 1: the image at the upper left, grey up to the next multiple of 32; and (2,) input
        pixels per image pixel, x and y.
    """
    h, w = photo.shape[:2]
    scale = size_px / max(h, w)
    small_w, small_h = max(1, round(w * scale)), max(1, round(h * scale))
    picture = Image.fromarray(np.ascontiguousarray(photo))
    # reducing by whole factors first makes large photos cheap; the change is negligible
    picture = picture.resize((small_w, small_h), Image.Resampling.BILINEAR, reducing_gap=2.0)
    padded_h, padded_w = (-(-side // _MULTIPLE) * _MULTIPLE for side in (small_h, small_w))
    frame = np.full((padded_h, padded_w, 3), _FILL, np.uint8)
    frame[:small_h, :small_w] = np.asarray(picture)
    image = frame.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255)
    return image, np.array([small_w / w, small_h / h])


def decode(
    centre: Float32, sides: Float32, stride: int, min_score: float = DetectorSettings.min_score
) -> tuple[Float32, Float32]:
    """Boxes and scores of the detector's maps. A person is a local maximum of the heatmap of at least `min_score`.

    Args:
        centre: (h, w) heatmap, 0 to 1.
        sides: (4, h, w) distances to the left, top, right and bottom edge, in cells.
        stride: input pixels per cell.
        min_score: 0 to 1.

    Returns:
        (N, 4) float32 boxes in input pixels and (N,) float32 scores, by descending score; at most MAX_PEOPLE.
    """
    rows, columns = np.nonzero((centre >= min_score) & (centre >= _neighbourhood_max(centre)))
    scores = centre[rows, columns]
    order = np.argsort(-scores, kind="stable")[:MAX_PEOPLE]
    rows, columns = rows[order], columns[order]
    reach = sides[:, rows, columns].T
    middle = np.stack([columns, rows], 1) + 0.5
    boxes = np.concatenate([middle - reach[:, :2], middle + reach[:, 2:]], 1) * stride
    return boxes.astype(np.float32), scores[order].astype(np.float32)


def _neighbourhood_max(values: Float32) -> Float32:
    """(h, w): the largest value in each cell's 3x3 neighbourhood."""
    padded = np.pad(values, 1, constant_values=-np.inf)
    across = np.maximum(np.maximum(padded[:, :-2], padded[:, 1:-1]), padded[:, 2:])
    largest: Float32 = np.maximum(np.maximum(across[:-2], across[1:-1]), across[2:])
    return largest


def _is_large_enough(box_xyxy: Float) -> bool:
    return bool((box_xyxy[2:] - box_xyxy[:2] >= _MIN_BOX_PX).all())
