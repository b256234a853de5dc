"""The person frame, in which silhouettes are compared independent of position and size."""

from __future__ import annotations

import cv2
import numpy as np

from deocclude.io.typical_poses import FRAME_CELLS, FRAME_SIGMAS


def frame_affine(visible: np.ndarray) -> np.ndarray:
    """2x3 affine from pixels of a visible mask, (H, W) and not empty, to the 32x32 person frame.

    The frame is the square around the visible mask's centroid whose side is FRAME_SIGMAS times sqrt(var_x + var_y):
    about 2.3 times the height of a standing person.
    """
    ys, xs = np.nonzero(visible)
    side = FRAME_SIGMAS * max(1.0, np.sqrt(xs.var() + ys.var()))
    scale = FRAME_CELLS / side
    middle = FRAME_CELLS / 2 - 0.5
    return np.array([[scale, 0, middle - scale * xs.mean()], [0, scale, middle - scale * ys.mean()]])


def into_frame(mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """(H, W) mask in {0, 1} -> (32, 32) float32 in [0, 1]: the covered fraction of each cell of the person frame."""
    oversampling = 4  # cells are sampled 4x4 so that thin legs do not alias away
    fine = affine.copy() * oversampling
    fine[:, 2] += (oversampling - 1) / 2
    sampled = cv2.warpAffine(mask.astype(np.float32), fine, (FRAME_CELLS * oversampling,) * 2, flags=cv2.INTER_LINEAR)
    return cv2.resize(sampled, (FRAME_CELLS, FRAME_CELLS), interpolation=cv2.INTER_AREA)
