"""Procedural assets: slabs of small backgrounds."""

from __future__ import annotations

import numpy as np
import pytest

from deocclude.data.sources.layers import Library
from deocclude.data.sources.procedural import draw_slab


@pytest.mark.parametrize("size_hw", [(1, 1), (5, 700), (700, 2)])
def test_slabs_are_drawn_of_backgrounds_a_few_pixels_wide(size_hw: tuple[int, int]) -> None:
    """A strip beside people in a panorama is a few pixels high after it is scaled down."""
    background = np.full((*size_hw, 3), 90, np.uint8)
    library = Library((), np.zeros(0), (), [background])
    for seed in range(20):
        slab = draw_slab(library, np.random.default_rng(seed))
        assert (slab.rgb == 90).all() and (slab.alpha >= 128).any()
