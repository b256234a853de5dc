"""Completion prompts as maps on a crop, as the prompted head reads them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deocclude.imaging.arrays import Float32, Probability
from deocclude.imaging.boxes import BoxXyxy
from deocclude.io.typical_poses import FRAME_CELLS, FRAME_SIGMAS

PROMPT_MAPS = 4  # extent, marked body, marked background, typical pose
MARK_RADIUS = 0.02  # of a mark, as a share of the crop's side; at least 1.5 crop pixels
Point = tuple[float, float]
Stroke = tuple[Point, Point]
"""A line between two points; a single point is a line from itself to itself."""


def draw_prompt_maps(
    size_px: int, *, extent_xyxy: BoxXyxy | None = None, body: Sequence[Stroke] = (),
    background: Sequence[Stroke] = (), silhouette: Probability | None = None,
) -> Float32:  # fmt: skip
    """The maps of a crop; a map of zeros says nothing.

    Args:
        size_px: side S of the crop.
        extent_xyxy: box of the whole body, in crop pixels; its map is 1 inside and -1 outside.
        body: strokes on the body, in crop pixels; their map is 1 within MARK_RADIUS.
        background: strokes that are not body, in crop pixels; they have a map of their own.
        silhouette: (S, S), 0 to 1: the amodal mask of a typical pose; its map is rescaled to -1 to 1.

    Returns:
        (PROMPT_MAPS, S, S) float32 in [-1, 1].
    """
    maps = np.zeros((PROMPT_MAPS, size_px, size_px), np.float32)
    if extent_xyxy is not None:
        x0, y0, x1, y1 = extent_xyxy
        centres = np.arange(size_px) + 0.5
        columns, rows = (centres >= x0) & (centres < x1), (centres >= y0) & (centres < y1)
        maps[0] = np.where(rows[:, None] & columns, 1.0, -1.0)
    for number, strokes in ((1, body), (2, background)):
        for stroke in strokes:
            maps[number][_is_near(stroke, size_px)] = 1.0
    if silhouette is not None:
        maps[3] = 2.0 * silhouette - 1.0
    return maps


def place_pose(pose: Float32, visible: Probability) -> Probability:
    """Place a typical pose on a person by the visible part: `models.typical_poses.placed_poses` in numpy.

    Args:
        pose: (32, 32) in [0, 1], the amodal mask in the person frame.
        visible: (S, S) probability of the person's visible part.

    Returns:
        (S, S) in [0, 1].
    """
    at = np.arange(len(visible))
    by_x, by_y = visible.sum(0, dtype=np.float64), visible.sum(1, dtype=np.float64)
    mass = max(float(by_x.sum()), 1e-3)
    cx, cy = float(by_x @ at) / mass, float(by_y @ at) / mass
    variance = float(by_x @ (at - cx) ** 2 + by_y @ (at - cy) ** 2) / mass
    side = FRAME_SIGMAS * max(1.0, variance) ** 0.5
    rows, columns = (_interpolation_weights((at - middle) / side) for middle in (cy, cx))
    placed: Probability = (rows @ pose @ columns.T).astype(np.float32)
    return placed


def _interpolation_weights(at: np.ndarray) -> np.ndarray:
    """(S, 32) weights of linear interpolation between the cells of a frame, for positions -0.5 to 0.5 of its side."""
    cells = (at[:, None] + 0.5) * FRAME_CELLS - 0.5
    return np.maximum(0.0, 1.0 - np.abs(cells - np.arange(FRAME_CELLS)))


def _is_near(stroke: Stroke, size_px: int) -> np.ndarray:
    """(S, S) bool: pixels whose centre is within the mark's radius of a stroke."""
    (x0, y0), (x1, y1) = stroke
    centres = np.arange(size_px, dtype=np.float32) + np.float32(0.5)
    dx, dy = x1 - x0, y1 - y0
    along = (centres[None] - x0) * dx + (centres[:, None] - y0) * dy
    share = np.clip(along / max(dx * dx + dy * dy, 1e-6), 0.0, 1.0)
    distance = np.hypot(centres[None] - (x0 + share * dx), centres[:, None] - (y0 + share * dy))
    near: np.ndarray = distance <= max(1.5, MARK_RADIUS * size_px)
    return near
