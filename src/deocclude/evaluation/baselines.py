"""Baselines without a network, measured in the same run as the model."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from deocclude.errors import MissingExtraError
from deocclude.io.typical_poses import FRAME_SIGMAS

BoolArray = NDArray[np.bool_]

# mask samples along each side of a frame's cell, against aliasing of small people
_SAMPLES_PER_SIDE = 4
_GRABCUT_PX = 320  # longest side of GrabCut's input image
_GRABCUT_PIECE = 0.01  # least area of a component, as a fraction of the photo


def convex_hull(mask: BoolArray) -> BoolArray:
    """Pixels whose centre lies in the convex hull of the mask's pixel centres. (H, W) bool in and out."""
    rows = np.flatnonzero(mask.any(axis=1))
    hull = np.zeros_like(mask)
    if not rows.size:
        return hull
    first = mask[rows].argmax(axis=1)
    last = mask.shape[1] - 1 - mask[rows, ::-1].argmax(axis=1)
    inside_rows = np.arange(rows[0], rows[-1] + 1)
    left = _lower_envelope(rows, first, inside_rows)
    right = -_lower_envelope(rows, -last, inside_rows)
    columns = np.arange(mask.shape[1])
    tolerance = 1e-9  # pixels on the hull belong to it despite rounding
    hull[inside_rows] = (columns >= left[:, None] - tolerance) & (columns <= right[:, None] + tolerance)
    return hull


def _lower_envelope(at: NDArray[np.int64], values: NDArray[np.int64], where: NDArray[np.int64]) -> NDArray[np.float64]:
    """The greatest convex function below the points (at, values), evaluated at `where`. `at` ascends."""
    kept: list[tuple[int, int]] = []
    for x, y in zip(at.tolist(), values.tolist(), strict=True):
        while len(kept) >= 2:
            (x0, y0), (x1, y1) = kept[-2:]
            if (y1 - y0) * (x - x0) < (y - y0) * (x1 - x0):
                break
            kept.pop()
        kept.append((x, y))
    return np.interp(where, [x for x, _ in kept], [y for _, y in kept])


def whole_photo(photo: NDArray[np.uint8]) -> BoolArray:
    """The mask of the whole photo. photo: (H, W, 3) -> (H, W) bool, all true."""
    return np.ones(photo.shape[:2], bool)


def grabcut_people(photo: NDArray[np.uint8]) -> list[BoolArray]:
    """Large foreground components of GrabCut (Rother et al. 2004).

    The photo without a tenth at each border, and without a pixel at least, is the probable foreground at the start.

    Args:
        photo: (H, W, 3) uint8.

    Returns:
        Masks (H, W) bool, the largest first.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """
    cv2 = require_cv2()
    h, w = photo.shape[:2]
    scale = min(1.0, _GRABCUT_PX / max(h, w))
    small = cv2.resize(photo, (max(8, round(w * scale)), max(8, round(h * scale))), interpolation=cv2.INTER_AREA)
    rows, columns = small.shape[:2]
    labels = np.full((rows, columns), cv2.GC_BGD, np.uint8)
    top, left = max(1, rows // 10), max(1, columns // 10)  # GrabCut fails without any background
    labels[top : rows - top, left : columns - left] = cv2.GC_PR_FGD
    cv2.setRNGSeed(0)  # GrabCut's Gaussian mixtures start from random clusters
    models = np.zeros((2, 1, 65))
    cv2.grabCut(small, labels, None, models[0], models[1], 3, cv2.GC_INIT_WITH_MASK)
    foreground = ((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)).astype(np.uint8)
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(foreground)
    large = [i for i in range(1, count) if stats[i, cv2.CC_STAT_AREA] >= _GRABCUT_PIECE * foreground.size]
    large.sort(key=lambda i: -stats[i, cv2.CC_STAT_AREA])
    return [cv2.resize((pieces == i).astype(np.uint8), (w, h), interpolation=cv2.INTER_NEAREST) > 0 for i in large]


# --- typical poses -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TypicalPoses:
    """Cluster centres of masks of people, in a square frame around the visible part.

    Attributes:
        centres: (K, 2, S, S) float32 in [0, 1]; [:, 0] visible, [:, 1] amodal.
    """

    centres: NDArray[np.float32]

    def complete(self, visible: BoolArray) -> BoolArray:
        """The union of the mask and of the amodal mask of its typical pose, (H, W) bool.

        That pose is the centre whose visible part is most similar to the mask, by cosine.
        """
        if not visible.any():
            return visible.copy()
        frame = _PoseFrame.around(visible)
        seen = frame.sample(visible, self.centres.shape[-1]).ravel()
        stored = self.centres[:, 0].reshape(len(self.centres), -1)
        lengths = np.linalg.norm(stored, axis=1) * np.linalg.norm(seen)
        affinity = stored @ seen / np.maximum(lengths, 1e-12)
        whole = self.centres[int(affinity.argmax()), 1]
        return visible | (frame.place(whole, visible.shape) >= 0.5)


@dataclass(frozen=True)
class _PoseFrame:
    """A square in the photo: top left corner and side in pixels; pixel (i, j) covers [i, i+1) x [j, j+1)."""

    top: float
    left: float
    side: float

    @classmethod
    def around(cls, visible: BoolArray) -> _PoseFrame:
        """The frame around a mask's centroid, FRAME_SIGMAS standard deviations of its pixels wide."""
        y, x = np.nonzero(visible)
        # a single pixel has no spread, but a frame needs a size
        side = FRAME_SIGMAS * max(1.0, float(np.sqrt(x.var() + y.var())))
        return cls(float(y.mean()) + 0.5 - side / 2, float(x.mean()) + 0.5 - side / 2, side)

    def sample(self, mask: BoolArray, cells: int) -> NDArray[np.float32]:
        """(cells, cells) float32: mask coverage of every cell of the frame, 0 beyond the photo."""
        fine = cells * _SAMPLES_PER_SIDE
        steps = (np.arange(fine) + 0.5) / fine * self.side
        y = np.floor(self.top + steps).astype(np.int64)
        x = np.floor(self.left + steps).astype(np.int64)
        y_in, x_in = (y >= 0) & (y < mask.shape[0]), (x >= 0) & (x < mask.shape[1])
        taken = np.zeros((fine, fine), np.float32)
        taken[np.ix_(y_in, x_in)] = mask[np.ix_(y[y_in], x[x_in])]
        # (fine, fine) -> (cells, 4, cells, 4) -> (cells, cells)
        return taken.reshape(cells, _SAMPLES_PER_SIDE, cells, _SAMPLES_PER_SIDE).mean(axis=(1, 3))

    def place(self, cells: NDArray[np.float32], size_hw: tuple[int, ...]) -> NDArray[np.float32]:
        """(H, W) float32: the frame's cells, sampled bilinearly at every pixel centre, 0 outside the frame."""
        row = _interpolation_matrix(size_hw[0], self.top, self.side, len(cells))
        column = _interpolation_matrix(size_hw[1], self.left, self.side, len(cells))
        return row @ cells @ column.T


def _interpolation_matrix(length: int, start: float, side: float, cells: int) -> NDArray[np.float32]:
    """(length, cells) float32 weights that read `cells` values, spread over [start, start + side), at pixel centres."""
    position = (np.arange(length) + 0.5 - start) / side * cells - 0.5
    weights = np.maximum(0.0, 1.0 - np.abs(position[:, None] - np.arange(cells)))
    weights[position < 0, 0] = 1.0  # in the outer half of an edge cell, its value alone counts
    weights[position > cells - 1, -1] = 1.0
    weights[(position < -0.5) | (position > cells - 0.5)] = 0.0
    return weights.astype(np.float32)


# --- appearance of the occluded part -------------------------------------------------------------------------------


def mean_colour(picture: NDArray[np.uint8], visible: BoolArray) -> NDArray[np.uint8]:
    """An image of the mean colour of the visible person, black for an empty mask. picture: (H, W, 3) uint8."""
    colour = picture[visible].mean(axis=0) if visible.any() else np.zeros(3)
    return np.broadcast_to(np.rint(colour).astype(np.uint8), picture.shape).copy()


def inpaint_from_body(picture: NDArray[np.uint8], visible: BoolArray, radius_px: int = 3) -> NDArray[np.uint8]:
    """Telea's inpainting of everything but the visible person, so that no background leaks into the body.

    Args:
        picture: (H, W, 3) uint8, the crop around one person.
        visible: (H, W) bool; eroded by a pixel, because pixels of the boundary mix with the background. A mask that the
            erosion empties gives `mean_colour`.
        radius_px: of the inpainting.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """
    cv2 = require_cv2()
    source = cv2.erode(visible.astype(np.uint8), np.ones((3, 3), np.uint8))
    if not source.any():
        return mean_colour(picture, visible)
    return cv2.inpaint(np.ascontiguousarray(picture), 1 - source, radius_px, cv2.INPAINT_TELEA)


def blur_inside(
    picture: NDArray[np.uint8], hidden: BoolArray, body: BoolArray, sigma_px: float = 4.0
) -> NDArray[np.uint8]:
    """Blur the occluded part by a Gaussian over the body alone; other pixels stay.

    Weights outside the body are 0 and the others are normalised, so that no background leaks in.

    Args:
        picture: (H, W, 3) uint8.
        hidden: (H, W) bool, the occluded part, inside `body`.
        body: (H, W) bool.
        sigma_px: of the Gaussian.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """
    cv2 = require_cv2()
    inside = body.astype(np.float32)

    def blurred(array: NDArray[np.float32]) -> NDArray[np.float32]:
        return cv2.GaussianBlur(array, (0, 0), sigma_px, borderType=cv2.BORDER_CONSTANT)

    mean = blurred(picture * inside[..., None])[hidden] / blurred(inside)[hidden][:, None]
    out = picture.copy()
    out[hidden] = np.rint(mean)
    return out


def require_cv2() -> ModuleType:
    """Import OpenCV, which the base install lacks. Raises MissingExtraError without it."""
    try:
        import cv2
    except ModuleNotFoundError as error:
        raise MissingExtraError("evaluation", "train") from error
    return cv2
