"""Pictures of the typical poses, from which a user chooses one."""

from __future__ import annotations

from functools import cache

import numpy as np

from deocclude.imaging.arrays import Float32
from deocclude.inference.runtime import BUNDLED_WEIGHTS
from deocclude.io.typical_poses import POSES_NAME, read_poses
from deocclude.serve.studio.conversion import png


@cache
def typical_poses() -> Float32:
    """(K, 2, 32, 32) float32, 0 to 1: visible and whole silhouettes of the package's typical poses."""
    return read_poses(BUNDLED_WEIGHTS / POSES_NAME)


@cache
def pose_sheet() -> bytes:
    """PNG of (32, 32 K) pixels: the poses side by side, white with the silhouette's probability as alpha."""
    whole = np.concatenate(list(typical_poses()[:, 1]), axis=1)
    sheet = np.full((*whole.shape, 4), 255, np.uint8)
    sheet[..., 3] = np.rint(255 * whole.clip(0, 1))
    return png(sheet)
