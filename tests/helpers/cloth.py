"""A body of speckled cloth, drawn by code."""

from __future__ import annotations

import numpy as np

SIZE = 128


def cloth(seed=0, size=SIZE):
    """A body of speckled cloth with a hidden part in the middle: image, known, region, guide."""
    speckle = np.random.default_rng(seed).integers(0, 2, (size // 4, size // 4)).repeat(4, 0).repeat(4, 1)
    image = np.stack([100 + 60 * speckle, 40 + 20 * speckle, 90 - 30 * speckle], axis=-1).astype(np.uint8)
    region = np.zeros((size, size), bool)
    region[8:120, 24:104] = True
    known = region.copy()
    known[50:80, 40:90] = False
    return image, known, region, np.full_like(image, (130, 50, 75))
