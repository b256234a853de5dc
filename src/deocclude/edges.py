"""A mask's edge put where the photo has one: the guided filter (He, Sun and Tang 2013), in its fast form (2015).

A network's probabilities come at a few photo pixels each. Around every place they are taken as a linear function of the
colours there, fitted by least squares; asked for finer pixels of the same window, that function follows the photo's own
edges, where growth alone gives a smooth contour beside them. Where colours explain nothing, growth alone is left.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image

from deocclude.crop import Region

# Network pixels that a fit reaches to each side. More follows edges from further away, and loses thin limbs.
RADIUS_PX = 4
# Variance of colour, of 1, below which there is nothing to go by.
FLATNESS = 3e-5
# The share of a map's variance that colours must explain for them alone to decide.
_SURE_SHARE = 0.5
_PAIRS = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]  # of colour channels


class _Fit(NamedTuple):
    """M maps around each place as functions of the colours there."""

    slopes: np.ndarray  # (S, S, 3, M)
    offsets: np.ndarray  # (S, S, M)
    explained: np.ndarray  # (S, S, M) share of the map's variance, 0 to 1


def follow_edges(image: np.ndarray, maps: np.ndarray, finer: np.ndarray) -> np.ndarray:
    """Bring probability maps to a finer grid of the same window, along its edges.

    image: (S, S, 3) uint8; maps: (M, S, S) float32 in [0, 1], on the same grid; finer: (T, T, 3) uint8, T >= S.
    Returns (M, T, T) float32 in [0, 1].
    """
    fit = _fit(image.astype(np.float32) / 255, np.moveaxis(maps, 0, -1))
    pixels = np.moveaxis(finer, -1, 0).astype(np.float32) / 255
    size_hw = finer.shape[:2]
    out = np.empty((len(maps), *size_hw), dtype=np.float32)
    for m, values in enumerate(maps):
        by_colour = grow(fit.offsets[..., m], size_hw)
        for c in range(3):
            by_colour += grow(fit.slopes[..., c, m], size_hw) * pixels[c]
        smooth = grow(values, size_hw)
        sure = (grow(fit.explained[..., m], size_hw) / _SURE_SHARE).clip(0, 1)
        out[m] = smooth + sure * (by_colour - smooth)
    return out.clip(0, 1)


def grow(plane: np.ndarray, size_hw: tuple[int, int], within: Region | None = None) -> np.ndarray:
    """(S, S) float32 grown smoothly to (height, width), whatever the photo shows; `within`: that part of it alone.

    A part's outermost pixels, as far in as a place of `plane` is wide, know nothing of what lies beyond them.
    """
    box = None
    if within is not None:
        down, across = (small / large for small, large in zip(plane.shape, size_hw, strict=True))
        box = (within.left * across, within.top * down, within.right * across, within.bottom * down)
        size_hw = within.size_hw
    picture = Image.fromarray(np.ascontiguousarray(plane)).resize(size_hw[::-1], Image.Resampling.BILINEAR, box=box)
    return np.array(picture)


def _fit(colours: np.ndarray, values: np.ndarray) -> _Fit:
    """Least squares in every window, and the mean of the windows that a place lies in: equations 19 to 21 of 2013.

    colours: (S, S, 3) in [0, 1]; values: (S, S, M).
    """
    size_hw, count = colours.shape[:2], values.shape[-1]
    products = np.stack([colours[..., a] * colours[..., b] for a, b in _PAIRS], -1)
    crossed = (colours[..., :, None] * values[..., None, :]).reshape(*size_hw, 3 * count)
    means = _mean_around(np.concatenate([colours, values, values**2, products, crossed], -1))
    mean_colour, mean_value, mean_square, products, crossed = np.split(
        means, np.cumsum([3, count, count, len(_PAIRS)]), axis=-1
    )
    shared = crossed.reshape(*size_hw, 3, count) - mean_colour[..., None] * mean_value[..., None, :]
    spread = [
        products[..., i] - mean_colour[..., a] * mean_colour[..., b] + (FLATNESS if a == b else 0)
        for i, (a, b) in enumerate(_PAIRS)
    ]
    slopes = _inverse(*spread) @ shared
    offsets = mean_value - (slopes * mean_colour[..., None]).sum(-2)
    variance = mean_square - mean_value**2
    explained = ((slopes * shared).sum(-2) / (variance + 1e-4)).clip(0, 1)
    every = _mean_around(np.concatenate([slopes.reshape(*size_hw, 3 * count), offsets, explained], -1))
    slopes, offsets, explained = np.split(every, [3 * count, 4 * count], axis=-1)
    return _Fit(slopes.reshape(*size_hw, 3, count), offsets, explained)


def _inverse(
    rr: np.ndarray, rg: np.ndarray, rb: np.ndarray, gg: np.ndarray, gb: np.ndarray, bb: np.ndarray
) -> np.ndarray:
    """(S, S, 3, 3) inverses of symmetric matrices given by their six entries (S, S), by cofactors: far faster here."""
    c_rr, c_rg, c_rb = gg * bb - gb * gb, rb * gb - rg * bb, rg * gb - rb * gg
    c_gg, c_gb, c_bb = rr * bb - rb * rb, rg * rb - rr * gb, rr * gg - rg * rg
    determinant = rr * c_rr + rg * c_rg + rb * c_rb
    cofactors = np.stack([c_rr, c_rg, c_rb, c_rg, c_gg, c_gb, c_rb, c_gb, c_bb], -1)
    return (cofactors / determinant[..., None]).reshape(*rr.shape, 3, 3)


def _mean_around(planes: np.ndarray) -> np.ndarray:
    """(S, S, C) means over squares of side 2 * RADIUS_PX + 1; the border is repeated beyond it."""
    width = 2 * RADIUS_PX + 1
    for axis in (0, 1):
        padded = np.pad(planes, [(RADIUS_PX, RADIUS_PX) if a == axis else (0, 0) for a in range(3)], mode="edge")
        padded = np.moveaxis(padded, axis, 0)
        length = planes.shape[axis]
        total = padded[:length].copy()
        for shift in range(1, width):
            total += padded[shift : shift + length]
        planes = np.moveaxis(total / width, 0, axis)
    return planes
