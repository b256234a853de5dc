"""A mask's edge put where the photo has one: the guided filter (He, Sun and Tang 2013), in its fast form (2015).

A network's probabilities come at a few photo pixels each. Around every place they are taken as a linear function of the
colours there, fitted by least squares; asked for finer pixels of the same window, that function follows the photo's own
edges, where growth alone gives a smooth contour beside them. Where colours explain nothing, growth alone is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from deocclude.imaging.crop import Region

# Network pixels that a fit reaches to each side. More follows edges from further away, and loses thin limbs.
RADIUS_PX = 4
# Variance of colour, of 1, below which there is nothing to go by.
FLATNESS = 3e-5
# The share of a map's variance that colours must explain for them alone to decide.
_SURE_SHARE = 0.5
_PAIRS = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]  # of colour channels


class _Fit(NamedTuple):
    """M maps around each place as functions of the colours there."""

    slopes: np.ndarray  # (3, M, S, S)
    offsets: np.ndarray  # (M, S, S)
    explained: np.ndarray  # (M, S, S) share of the map's variance, 0 to 1


def follow_edges(
    image: np.ndarray, maps: np.ndarray, finer: np.ndarray, regions: Sequence[Region | None] | None = None
) -> list[np.ndarray]:
    """Bring probability maps to a finer grid of the same window, along its edges.

    image: (S, S, 3) uint8; maps: (M, S, S) float32 in [0, 1], on the same grid; finer: (T, T, 3) uint8, T >= S.
    regions: one a map, the part of `finer` that is wanted; None: all of it.
    Returns M times (T, T), or (h, w) of the region, float32 in [0, 1].
    """
    # plane by plane: numpy takes twice as long where the channels of a place lie side by side
    colours, pixels = (np.moveaxis(one, -1, 0).astype(np.float32, order="C") / 255 for one in (image, finer))
    fit = _fit(colours, maps)
    out = []
    for m, (values, region) in enumerate(zip(maps, regions or [None] * len(maps), strict=True)):
        part = region or Region(0, 0, *finer.shape[:2])

        def grown(plane: np.ndarray, part: Region = part) -> np.ndarray:
            return grow(plane, finer.shape[:2], part)

        # growing is linear: what colours say beyond the map itself
        beyond = grown(fit.offsets[m] - values)
        for c in range(3):
            beyond += grown(fit.slopes[c, m]) * pixels[c][part.slices]
        beyond *= (grown(fit.explained[m]) / _SURE_SHARE).clip(0, 1)
        beyond += grown(values)
        out.append(beyond.clip(0, 1))
    return out


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

    colours: (3, S, S) in [0, 1]; values: (M, S, S).
    """
    size_hw, count = values.shape[1:], len(values)
    products = np.stack([colours[a] * colours[b] for a, b in _PAIRS])
    crossed = (colours[:, None] * values).reshape(3 * count, *size_hw)
    means = _mean_around(np.concatenate([colours, values, values**2, products, crossed]))
    mean_colour, mean_value, mean_square, products, crossed = np.split(means, np.cumsum([3, count, count, len(_PAIRS)]))
    shared = crossed.reshape(3, count, *size_hw) - mean_colour[:, None] * mean_value
    spread = [
        product - mean_colour[a] * mean_colour[b] + (FLATNESS if a == b else 0)
        for product, (a, b) in zip(products, _PAIRS, strict=True)
    ]
    slopes = _solve(spread, shared)
    offsets = mean_value - (slopes * mean_colour[:, None]).sum(0)
    variance = mean_square - mean_value**2
    explained = ((slopes * shared).sum(0) / (variance + 1e-4)).clip(0, 1)
    every = _mean_around(np.concatenate([slopes.reshape(3 * count, *size_hw), offsets, explained]))
    slopes, offsets, explained = np.split(every, [3 * count, 4 * count])
    return _Fit(slopes.reshape(3, count, *size_hw), offsets, explained)


def _solve(spread: list[np.ndarray], shared: np.ndarray) -> np.ndarray:
    """(3, M, S, S) solutions of symmetric systems, given by their six entries (S, S) each and right sides (3, M, S, S).

    By the factors L D L^T (Golub and Van Loan, Matrix Computations, 4.1.2). The covariance of colours in [0, 1] with
    FLATNESS on its diagonal has a D of at least FLATNESS, up to a hundredth that rounding takes: never 0. Its
    determinant would be lost in float32's rounding where all is grey.
    """
    rr, rg, rb, gg, gb, bb = spread
    g_of_r, b_of_r = rg / rr, rb / rr
    gg, gb = gg - g_of_r * rg, gb - g_of_r * rb
    b_of_g = gb / gg
    bb = bb - b_of_r * rb - b_of_g * gb
    r, g, b = shared
    g = g - g_of_r * r
    b = (b - b_of_r * r - b_of_g * g) / bb
    g = g / gg - b_of_g * b
    r = r / rr - g_of_r * g - b_of_r * b
    return np.stack([r, g, b])


def _mean_around(planes: np.ndarray) -> np.ndarray:
    """(C, S, S) means over squares of side 2 * RADIUS_PX + 1; the border is repeated beyond it."""
    width = 2 * RADIUS_PX + 1
    for axis in (1, 2):
        around = [(RADIUS_PX, RADIUS_PX) if a == axis else (0, 0) for a in range(3)]
        planes = _sum_along(np.pad(planes, around, mode="edge"), width, axis)
    planes /= width * width
    return planes


def _sum_along(values: np.ndarray, width: int, axis: int) -> np.ndarray:
    """Sums of `width` neighbours along an axis, `width` - 1 fewer than there are values: from sums of 1, 2, 4, ... of
    them, which takes half the additions of one after the other."""

    def part(of: np.ndarray, start: int, stop: int) -> np.ndarray:
        return of[(slice(None),) * axis + (slice(start, stop),)]

    length = values.shape[axis] - width + 1
    total, taken, sums, span = np.zeros((), values.dtype), 0, values, 1
    while True:
        if width & span:
            total = total + part(sums, taken, taken + length)
            taken += span
        if 2 * span > width:
            return total
        count = sums.shape[axis]
        sums = part(sums, 0, count - span) + part(sums, span, count)
        span *= 2
