"""Typical poses: their file, and the person frame, which normalises a silhouette's place and size."""

from __future__ import annotations

from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from deocclude.errors import InputError

FRAME_SIGMAS = 8.0  # side of the square around the visible mask's centroid, in standard deviations of that mask
FRAME_CELLS = 32  # the paper's resolution of silhouettes


def read_poses(path: Path) -> NDArray[np.float32]:
    """Read typical poses from an .npz file.

    Returns:
        (K, 2, 32, 32) float32, 0 to 1: [:, 0] visible masks, [:, 1] amodal masks.

    Raises:
        InputError: the file cannot be read or holds something else; the message names it.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            centres = file["centres"]
    except FileNotFoundError as error:
        raise InputError(f"typical poses not found: looked for {path}") from error
    except (OSError, ValueError, KeyError, EOFError, TypeError, BadZipFile) as error:
        raise InputError(f"{path}: not a file of typical poses (.npz with `centres`)") from error
    if centres.ndim != 4 or centres.shape[1:] != (2, FRAME_CELLS, FRAME_CELLS):
        raise InputError(f"{path}: typical poses must be (K, 2, {FRAME_CELLS}, {FRAME_CELLS}), got {centres.shape}")
    poses: NDArray[np.float32] = centres.astype(np.float32)
    return poses
