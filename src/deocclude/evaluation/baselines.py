"""What needs no network: the simplest answers, measured beside the networks in the same run."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from deocclude.errors import MissingExtraError
from deocclude.io.typical_poses import FRAME_SIGMAS

BoolArray = NDArray[np.bool_]

# Cells are averaged from this many samples a side, as a small person's edge would otherwise alias.
_SAMPLES_A_CELL = 4
_GRABCUT_PX = 320  # longer side at which it works
_GRABCUT_PIECE = 0.01  # of the photo


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
    tolerance = 1e-9  # pixels on the hull's edge belong to it, whatever the rounding
    hull[inside_rows] = (columns >= left[:, None] - tolerance) & (columns <= right[:, None] + tolerance)
    return hull


def _lower_envelope(at: NDArray[np.int64], values: NDArray[np.int64], where: NDArray[np.int64]) -> NDArray[np.float64]:
    """The greatest convex function that is nowhere above the points (at, values), read at `where`. `at` ascends."""
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
    """The largest box there is: everything is the person. photo: (H, W, 3) -> (H, W) bool."""
    return np.ones(photo.shape[:2], bool)


def grabcut_people(photo: NDArray[np.uint8]) -> list[BoolArray]:
    """What a classical foreground extraction takes for people: the larger pieces of GrabCut (Rother et al. 2004),
    started from everything but a tenth at each edge.

    photo: (H, W, 3) uint8 -> (H, W) bool masks, the largest first. Raises MissingExtraError: OpenCV is not installed.
    """
    cv2 = require_cv2()
    h, w = photo.shape[:2]
    scale = min(1.0, _GRABCUT_PX / max(h, w))
    small = cv2.resize(photo, (max(8, round(w * scale)), max(8, round(h * scale))), interpolation=cv2.INTER_AREA)
    rows, columns = small.shape[:2]
    labels = np.full((rows, columns), cv2.GC_BGD, np.uint8)
    labels[rows // 10 : rows - rows // 10, columns // 10 : columns - columns // 10] = cv2.GC_PR_FGD
    cv2.setRNGSeed(0)  # its mixtures start from random clusters
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
    """Cluster centres of people's silhouettes, in a square frame centred on their visible part.

    centres: (K, 2, S, S) float32 in [0, 1]; [:, 0] the visible part, [:, 1] the whole body.
    """

    centres: NDArray[np.float32]

    def complete(self, visible: BoolArray) -> BoolArray:
        """The visible mask and the whole body of the pose whose visible part is most like it (cosine similarity)."""
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
    """A square in the photo: its top left corner and side in pixels, pixel (i, j) covering [i, i+1) x [j, j+1)."""

    top: float
    left: float
    side: float

    @classmethod
    def around(cls, visible: BoolArray) -> _PoseFrame:
        y, x = np.nonzero(visible)
        # A single pixel has no spread; a frame needs some size all the same.
        side = FRAME_SIGMAS * max(1.0, float(np.sqrt(x.var() + y.var())))
        return cls(float(y.mean()) + 0.5 - side / 2, float(x.mean()) + 0.5 - side / 2, side)

    def sample(self, mask: BoolArray, cells: int) -> NDArray[np.float32]:
        """(cells, cells) float32: share of mask in every cell of the frame, 0 beyond the photo."""
        fine = cells * _SAMPLES_A_CELL
        steps = (np.arange(fine) + 0.5) / fine * self.side
        y = np.floor(self.top + steps).astype(np.int64)
        x = np.floor(self.left + steps).astype(np.int64)
        y_in, x_in = (y >= 0) & (y < mask.shape[0]), (x >= 0) & (x < mask.shape[1])
        taken = np.zeros((fine, fine), np.float32)
        taken[np.ix_(y_in, x_in)] = mask[np.ix_(y[y_in], x[x_in])]
        # (fine, fine) -> (cells, 4, cells, 4) -> (cells, cells)
        return taken.reshape(cells, _SAMPLES_A_CELL, cells, _SAMPLES_A_CELL).mean(axis=(1, 3))

    def place(self, cells: NDArray[np.float32], size_hw: tuple[int, ...]) -> NDArray[np.float32]:
        """(H, W) float32: the frame's cells read bilinearly at every pixel centre, 0 outside the frame."""
        row = _interpolation_matrix(size_hw[0], self.top, self.side, len(cells))
        column = _interpolation_matrix(size_hw[1], self.left, self.side, len(cells))
        return row @ cells @ column.T


def _interpolation_matrix(length: int, start: float, side: float, cells: int) -> NDArray[np.float32]:
    """(length, cells) float32 weights that read `cells` values, spread over [start, start + side), at pixel centres."""
    position = (np.arange(length) + 0.5 - start) / side * cells - 0.5
    weights = np.maximum(0.0, 1.0 - np.abs(position[:, None] - np.arange(cells)))
    weights[position < 0, 0] = 1.0  # the outer half of the edge cells
    weights[position > cells - 1, -1] = 1.0
    weights[(position < -0.5) | (position > cells - 0.5)] = 0.0
    return weights.astype(np.float32)


# --- content -------------------------------------------------------------------------------------------------------


def mean_colour(picture: NDArray[np.uint8], visible: BoolArray) -> NDArray[np.uint8]:
    """A picture of one colour, the mean of the visible person. picture: (H, W, 3) uint8; black if nobody is visible."""
    colour = picture[visible].mean(axis=0) if visible.any() else np.zeros(3)
    return np.broadcast_to(np.rint(colour).astype(np.uint8), picture.shape).copy()


def inpaint_from_body(picture: NDArray[np.uint8], visible: BoolArray, radius_px: int = 3) -> NDArray[np.uint8]:
    """Telea's inpainting of everything but the visible person, so that no background leaks into the body.

    picture: (H, W, 3) uint8, the crop around one person. A few pixels at the body's edge are not used as source: they
    mix with what lies behind.

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
    """The picture with its hidden part blurred by a Gaussian of the body alone; every other pixel as it was.

    Weights outside the body are 0 and the rest is normalised, so that nothing from outside leaks in. picture: (H, W, 3)
    uint8; hidden, body: (H, W) bool, hidden within body.

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
    """The OpenCV module, which the base install does not have; MissingExtraError without it."""
    try:
        import cv2
    except ModuleNotFoundError as error:
        raise MissingExtraError("evaluation", "train") from error
    return cv2
