"""People and occluders in memory, at a size that suits training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

PERSON_MAX_PX = 360  # longest side of a person kept in memory for training at up to 256 px


@dataclass(frozen=True)
class Layer:
    """An image that can be pasted: an occluder or a person.

    Attributes:
        name: unique name, which begins with the source.
        rgb: (H, W, 3) uint8.
        alpha: (H, W) uint8, 255 = opaque, feathered at the edge.
    """

    name: str
    rgb: np.ndarray
    alpha: np.ndarray

    @cached_property
    def box_xyxy(self) -> tuple[int, int, int, int]:
        """(x0, y0, x1, y1) of all pixels with alpha of at least 128."""
        x, y, w, h = cv2.boundingRect((self.alpha >= 128).astype(np.uint8))
        return x, y, x + w, y + h

    @cached_property
    def pyramid(self) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """(rgb, alpha) at 1, 1/2 and 1/4 of the size, to avoid aliasing."""
        levels = [(self.rgb, self.alpha)]
        for _ in range(2):
            rgb, alpha = levels[-1]
            size = (max(1, rgb.shape[1] // 2), max(1, rgb.shape[0] // 2))
            levels.append(
                (
                    cv2.resize(rgb, size, interpolation=cv2.INTER_AREA),
                    cv2.resize(alpha, size, interpolation=cv2.INTER_AREA),
                )
            )
        return tuple(levels)


@dataclass(frozen=True)
class PersonPhoto(Layer):
    """One unoccluded person.

    Attributes:
        parsing: (H, W) uint8 labels into PARSING_NAMES, 255 = unknown; None for a person without labels.
        has_background: whether `rgb` is the surrounding photo; otherwise only the person's own pixels are valid.
        whole: the entire body is in the photo; otherwise the image border truncates it and the rest is unknown.
    """

    parsing: np.ndarray | None = None
    has_background: bool = False
    whole: bool = True

    @cached_property
    def mask(self) -> np.ndarray:
        """(H, W) bool, the person's silhouette."""
        return self.alpha >= 128


def feather_alpha(mask: np.ndarray, erode_px: int, sigma_px: float) -> np.ndarray:
    """The soft alpha of a mask.

    Cut-outs carry a rim of their old background; without erosion a network detects where they were pasted. A mask so
    thin that no pixel would stay opaque (alpha of at least 128) keeps its rim and its hard edge.

    Args:
        mask: (H, W) bool, or uint8 from 0 to 255.
        erode_px: width of the rim that is dropped, in pixels.
        sigma_px: standard deviation of the Gaussian that softens the edge, in pixels; 0 for none.

    Returns:
        (H, W) uint8.
    """
    alpha = hard = mask.astype(np.uint8) * 255 if mask.dtype == bool else mask
    if erode_px:
        alpha = cv2.erode(alpha, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * erode_px + 1, 2 * erode_px + 1)))
    if sigma_px > 0:
        alpha = cv2.GaussianBlur(alpha, (0, 0), sigma_px)
    return alpha if (alpha >= 128).any() else hard


@dataclass(frozen=True)
class Library:
    """The people, occluders and backgrounds of scenes.

    Attributes:
        people: training subjects.
        weights: (N,) relative frequency of each person as the subject, summing to 1.
        occluders: objects in front or behind.
        backgrounds: (H, W, 3) uint8 photos without people.
        clutter_people: people pasted as distractors; empty where `people` are used for that.
    """

    people: Sequence[PersonPhoto]
    weights: np.ndarray
    occluders: Sequence[Layer]
    backgrounds: Sequence[np.ndarray]
    clutter_people: Sequence[Layer] = ()

    @property
    def distractors(self) -> Sequence[Layer]:
        """People pasted in front of or behind the subject."""
        return self.clutter_people or self.people
