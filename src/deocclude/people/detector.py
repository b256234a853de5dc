"""People detection: boxes and scores of an image from a detection network at one or two input sizes.

Two kinds of network serve, told apart by their outputs: NanoDet (`scores_8`, ...), which ships and whose boxes at two
input sizes are fused, and centre-based detectors (`centre`, `sides`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deocclude.imaging.arrays import Float, Float32, ImageU8
from deocclude.imaging.boxes import fuse_boxes, suppress
from deocclude.inference.settings import DetectorSettings
from deocclude.people.box_decoding import MAX_PEOPLE, decode_centres, decode_distances

_MULTIPLE = 32  # the network halves its input's resolution five times
_FILL = 128  # grey of the padding
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
            average: as in `find_boxes`.
        """
        self._network = network
        self._average = average
        self._settings = settings

    @property
    def min_score(self) -> float:
        """The least score of a detection, unless a call gives another."""
        return self._settings.min_score

    def __call__(self, photo: ImageU8, *, min_score: float | None = None) -> list[Detection]:
        """Detect the people of an image.

        Args:
            photo: (H, W, 3) uint8 RGB.
            min_score: least score; None: that of the settings.

        Returns:
            Detections by descending score.
        """
        least = self.min_score if min_score is None else min_score
        return find_boxes(self._network, photo, replace(self._settings, min_score=least), average=self._average)


def find_boxes(
    network: DetectorNetwork, photo: ImageU8, settings: DetectorSettings = DetectorSettings(),
    *, average: bool = True,
) -> list[Detection]:  # fmt: skip
    """The people of an image after non-maximum suppression.

    Args:
        network: the people detector.
        photo: (H, W, 3) uint8 RGB.
        settings: input sizes and thresholds.
        average: fuse the boxes of both input sizes; for a centre-based detector, average the maps of the image and of
            its mirror image.

    Returns:
        Detections by descending score.
    """
    sizes_px = [settings.size_px]
    if settings.second_size_px and average:
        sizes_px.append(settings.second_size_px)
    h, w = photo.shape[:2]
    passes = []
    for size_px in sizes_px:
        image, scale_xy = fit_photo(photo, size_px)
        # fusion divides the score of a box that only one pass finds by the number of passes: each pass keeps low scores
        boxes, scores = _predict(network, image, settings.min_score / len(sizes_px), mirrored=average)
        boxes = (boxes / np.tile(scale_xy, 2)).clip(0, (w, h, w, h))
        kept = suppress(boxes, scores, settings.max_iou)
        passes.append((boxes[kept], scores[kept]))
    boxes, scores = passes[0] if len(passes) == 1 else fuse_boxes(passes, settings.fused_iou, settings.max_iou)
    return [
        _detection(box, score)
        for box, score in zip(boxes[:MAX_PEOPLE], scores, strict=False)
        if score >= settings.min_score and _is_large_enough(box)
    ]


def _detection(box_xyxy: Float, score: float) -> Detection:
    x0, y0, x1, y1 = map(float, box_xyxy)
    return Detection((x0, y0, x1, y1), float(score))


def _predict(network: DetectorNetwork, image: Float32, min_score: float, mirrored: bool) -> tuple[Float32, Float32]:
    """Boxes (N, 4) in input pixels and scores (N,) of an input (1, 3, H, W), by descending score.

    mirrored: maps of a centre-based detector are averaged over the mirror image.
    """
    maps = network(image=image)
    if "centre" not in maps:
        return decode_distances(maps, min_score)
    centre, sides = maps["centre"][0, 0], maps["sides"][0]
    if mirrored:
        others = network(image=image[..., ::-1])
        centre = (centre + others["centre"][0, 0, :, ::-1]) / 2
        # distances are scales: their geometric mean; left and right are swapped
        sides = np.sqrt(sides * others["sides"][0, (2, 1, 0, 3), :, ::-1])
    return decode_centres(centre, sides, image.shape[2] // len(centre), min_score)


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


def _is_large_enough(box_xyxy: Float) -> bool:
    return bool((box_xyxy[2:] - box_xyxy[:2] >= _MIN_BOX_PX).all())
