"""The person frame, in which silhouettes are compared whatever their place and size, and the file of typical poses."""

from __future__ import annotations

from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from deocclude.errors import InputError

FRAME_SIGMAS = 8.0  # side of the square around the visible mask's centroid, in standard deviations of that mask
FRAME_CELLS = 32  # the paper's resolution of silhouettes


def read_poses(path: Path) -> NDArray[np.float32]:
    """Typical poses (K, 2, 32, 32) float32 in [0, 1] of an .npz: [:, 0] what is seen, [:, 1] the whole body.

    Raises InputError, naming the file, when it cannot be read or holds something else.
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
    return centres.astype(np.float32)
