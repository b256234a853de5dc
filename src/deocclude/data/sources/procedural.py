"""Procedural assets where only photos of people are given: drawn backgrounds and rectangular occluders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from deocclude.data.sources.layers import Layer, Library
from deocclude.imaging.arrays import ImageU8

_SIDE_PX = 360  # of a drawn picture
_SHAPE_COUNT = 40  # shapes in a drawn picture


def draw_background_image(rng: np.random.Generator) -> ImageU8:
    """(360, 360, 3) uint8: blurred rectangles and ellipses of random colours on a colour ramp, with noise."""
    rows, columns = np.mgrid[:_SIDE_PX, :_SIDE_PX] / _SIDE_PX
    slopes = rng.uniform(-80, 80, (2, 3))
    canvas = rng.uniform(60, 190, 3) + rows[..., None] * slopes[0] + columns[..., None] * slopes[1]
    canvas = canvas.clip(0, 255).astype(np.uint8)
    for _ in range(_SHAPE_COUNT):
        x, y = (int(v) for v in rng.integers(0, _SIDE_PX, 2))
        half_wh = tuple(int(v) for v in rng.integers(4, 60, 2))
        colour = tuple(int(v) for v in rng.integers(0, 256, 3))
        if rng.random() < 0.5:
            cv2.rectangle(canvas, (x - half_wh[0], y - half_wh[1]), (x + half_wh[0], y + half_wh[1]), colour, -1)
        else:
            cv2.ellipse(canvas, (x, y), half_wh, float(rng.uniform(0, 180)), 0, 360, colour, -1)
    blurred = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.8, 4))
    noisy: ImageU8 = (blurred + rng.normal(0, 4, blurred.shape)).clip(0, 255).astype(np.uint8)
    return noisy


def slab_occluders(library: Library, rng: np.random.Generator, count: int) -> Sequence[Layer]:
    """Slabs (`draw_slab`) textured by the library's backgrounds, named "slab0", "slab1", ..."""
    return [replace(draw_slab(library, rng), name=f"slab{number}") for number in range(count)]


def draw_slab(library: Library, rng: np.random.Generator) -> Layer:
    """A slab: a rectangle such as a wall, door or counter, or a smooth blob, textured by a background."""
    source = library.backgrounds[int(rng.integers(len(library.backgrounds)))]
    h, w = source.shape[:2]
    # at least one pixel of a background that is a few pixels high or wide
    sh, sw = max(1, int(h * rng.uniform(0.15, 0.6))), max(1, int(w * rng.uniform(0.15, 0.6)))
    y, x = rng.integers(0, max(1, h - sh)), rng.integers(0, max(1, w - sw))
    size = (int(rng.integers(40, 160)), int(rng.integers(40, 160)))
    rgb = cv2.resize(source[y : y + sh, x : x + sw], size, interpolation=cv2.INTER_AREA)
    alpha = np.zeros(rgb.shape[:2], np.uint8)
    if rng.random() < 0.6:
        alpha[2:-2, 2:-2] = 255
    else:  # a blob through random points around a centre
        angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
        radii = rng.uniform(0.55, 1.0, 12)
        points = np.stack([np.cos(angles) * radii * (size[0] / 2 - 3), np.sin(angles) * radii * (size[1] / 2 - 3)], 1)
        cv2.fillPoly(alpha, [(points + np.array(size) / 2).astype(np.int32)], 255)
    return Layer("slab", rgb, cv2.GaussianBlur(alpha, (0, 0), 0.8))
