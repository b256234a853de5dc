"""For whoever has only photos of people: places that are drawn, and things to hide people with, cut from places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from deocclude.data.sources.layers import Layer
from deocclude.data.synthesis.single_person import Library, draw_slab

_PLACE_PX = 360
_SHAPES = 40


def drawn_place(rng: np.random.Generator) -> np.ndarray:
    """(360, 360, 3) uint8: blurred boxes and ellipses of random colours on a ramp, with some grain."""
    rows, columns = np.mgrid[:_PLACE_PX, :_PLACE_PX] / _PLACE_PX
    slopes = rng.uniform(-80, 80, (2, 3))
    canvas = rng.uniform(60, 190, 3) + rows[..., None] * slopes[0] + columns[..., None] * slopes[1]
    canvas = canvas.clip(0, 255).astype(np.uint8)
    for _ in range(_SHAPES):
        x, y = (int(v) for v in rng.integers(0, _PLACE_PX, 2))
        half = tuple(int(v) for v in rng.integers(4, 60, 2))
        colour = tuple(int(v) for v in rng.integers(0, 256, 3))
        if rng.random() < 0.5:
            cv2.rectangle(canvas, (x - half[0], y - half[1]), (x + half[0], y + half[1]), colour, -1)
        else:
            cv2.ellipse(canvas, (x, y), half, float(rng.uniform(0, 180)), 0, 360, colour, -1)
    blurred = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.8, 4))
    return (blurred + rng.normal(0, 4, blurred.shape)).clip(0, 255).astype(np.uint8)


def slabs(library: Library, rng: np.random.Generator, count: int) -> Sequence[Layer]:
    """Boards and blobs cut from the library's backgrounds, as things to hide people with."""
    return [replace(draw_slab(library, rng), name=f"slab{number}") for number in range(count)]
