"""Mask edges aligned with image edges: the guided filter (He, Sun and Tang 2013) in its fast form (2015).

A network pixel covers several image pixels. Around each place, probability is modelled as a linear function of colour,
fitted by least squares. The function is evaluated on a finer grid of the same window, where it follows image edges;
bilinear enlargement gives a smooth contour beside them. Where colours explain nothing, enlargement alone remains.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from deocclude.imaging.arrays import Float32, ImageU8
from deocclude.imaging.crop import Region

# Reach of a fit to each side, in network pixels. A larger one follows more distant edges and loses thin limbs.
RADIUS_PX = 4
# Variance of colour (range 0 to 1) below which a window counts as flat: epsilon of He et al. 2013.
FLATNESS = 3e-5
# Fraction of a map's variance that colours must explain for the fit alone to decide.
_SURE_SHARE = 0.5
_PAIRS = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]  # of colour channels


class _Fit(NamedTuple):
    """Local linear models: around each place, map m is the slopes times the three colours, plus the offset."""

    slopes: Float32  # (3, M, S, S)
    offsets: Float32  # (M, S, S)
    explained: Float32  # (M, S, S) fraction of the map's variance, 0 to 1


def follow_edges(
    image: ImageU8, maps: Float32, finer: ImageU8, regions: Sequence[Region | None] | None = None
) -> list[Float32]:
    """Enlarge probability maps to a finer grid of the same window, along image edges.

    Shapes here and below are written for square grids; rectangular ones work alike.

    Args:
        image: (S, S, 3) uint8.
        maps: (M, S, S) float32, 0 to 1, on the grid of `image`.
        finer: (T, T, 3) uint8, T >= S.
        regions: for each map the wanted part of `finer`; None: all of it.

    Returns:
        M arrays (T, T), or (h, w) of the region, float32, 0 to 1.
    """
    # channels first: numpy takes twice as long where the channels of a pixel are adjacent
    colours, pixels = (
        np.moveaxis(one, -1, 0).astype(np.float32, order="C") / np.float32(255) for one in (image, finer)
    )
    fit = _fit(colours, maps)
    out = []
    for m, (values, region) in enumerate(zip(maps, regions or [None] * len(maps), strict=True)):
        part = region or Region(0, 0, *finer.shape[:2])

        def grown(plane: Float32, part: Region = part) -> Float32:
            return grow(plane, finer.shape[:2], part)

        # enlargement is linear: the fit's difference from the map first, weighted, then the map itself
        enlarged = grown(fit.offsets[m] - values)
        for c in range(3):
            enlarged += grown(fit.slopes[c, m]) * pixels[c][part.slices]
        enlarged *= (grown(fit.explained[m]) / _SURE_SHARE).clip(0, 1)
        enlarged += grown(values)
        out.append(enlarged.clip(0, 1))
    return out


def grow(plane: Float32, size_hw: tuple[int, int], within: Region | None = None) -> Float32:
    """Enlarge a map bilinearly, without regard to image edges.

    With `within`, a rim as wide as one pixel of `plane` ignores what lies beyond the part.

    Args:
        plane: (S, S) float32.
        size_hw: size of the enlarged map.
        within: the part of it to compute; None: all of it.

    Returns:
        (height, width) float32, or the size of `within`.
    """
    box = None
    if within is not None:
        down, across = (small / large for small, large in zip(plane.shape, size_hw, strict=True))
        box = (within.left * across, within.top * down, within.right * across, within.bottom * down)
        size_hw = within.size_hw
    picture = Image.fromarray(np.ascontiguousarray(plane)).resize(size_hw[::-1], Image.Resampling.BILINEAR, box=box)
    return np.array(picture)


def _fit(colours: Float32, values: Float32) -> _Fit:
    """Least squares in every window, averaged over the windows that hold a place: equations 19 to 21 of He et al. 2013.

    Args:
        colours: (3, S, S) float32, 0 to 1.
        values: (M, S, S) float32.
    """
    size_hw, count = values.shape[1:], len(values)
    products = np.stack([colours[a] * colours[b] for a, b in _PAIRS])
    colour_values = (colours[:, None] * values).reshape(3 * count, *size_hw)
    means = _mean_around(np.concatenate([colours, values, values**2, products, colour_values]))
    mean_colour, mean_value, mean_square, products, colour_values = np.split(
        means, np.cumsum([3, count, count, len(_PAIRS)])
    )
    covariances = colour_values.reshape(3, count, *size_hw) - mean_colour[:, None] * mean_value
    colour_covariances = [
        product - mean_colour[a] * mean_colour[b] + (FLATNESS if a == b else 0)
        for product, (a, b) in zip(products, _PAIRS, strict=True)
    ]
    slopes = _solve(colour_covariances, covariances)
    offsets = mean_value - (slopes * mean_colour[:, None]).sum(0)
    variance = mean_square - mean_value**2
    explained = ((slopes * covariances).sum(0) / (variance + 1e-4)).clip(0, 1)
    every = _mean_around(np.concatenate([slopes.reshape(3 * count, *size_hw), offsets, explained]))
    slopes, offsets, explained = np.split(every, [3 * count, 4 * count])
    return _Fit(slopes.reshape(3, count, *size_hw), offsets, explained)


def _solve(matrices: list[Float32], right_sides: Float32) -> Float32:
    """Solve symmetric 3 x 3 systems by their factors L D L^T (Golub and Van Loan, Matrix Computations, 4.1.2).

    The covariance of colours in [0, 1] with FLATNESS on its diagonal has a D of at least FLATNESS, up to a hundredth of
    rounding: never 0. Its determinant would be lost in float32's rounding where all is grey.

    Args:
        matrices: the six entries of the matrices, (S, S) each.
        right_sides: (3, M, S, S) right sides.

    Returns:
        (3, M, S, S).
    """
    rr, rg, rb, gg, gb, bb = matrices
    g_of_r, b_of_r = rg / rr, rb / rr
    gg, gb = gg - g_of_r * rg, gb - g_of_r * rb
    b_of_g = gb / gg
    bb = bb - b_of_r * rb - b_of_g * gb
    r, g, b = right_sides
    g = g - g_of_r * r
    b = (b - b_of_r * r - b_of_g * g) / bb
    g = g / gg - b_of_g * b
    r = r / rr - g_of_r * g - b_of_r * b
    return np.stack([r, g, b])


def _mean_around(planes: Float32) -> Float32:
    """(C, S, S) means over squares of side 2 * RADIUS_PX + 1; the border is repeated beyond it."""
    width = 2 * RADIUS_PX + 1
    for axis in (1, 2):
        around = [(RADIUS_PX, RADIUS_PX) if a == axis else (0, 0) for a in range(3)]
        planes = _sum_along(np.pad(planes, around, mode="edge"), width, axis)
    planes /= width * width
    return planes


def _sum_along(values: Float32, width: int, axis: int) -> Float32:
    """Sums of `width` neighbours along an axis; the result is `width` - 1 shorter.

    Sums of 1, 2, 4, ... values are combined, which takes half the additions of summing one by one.
    """

    def piece(of: Float32, start: int, stop: int) -> Float32:
        return of[(slice(None),) * axis + (slice(start, stop),)]

    length = values.shape[axis] - width + 1
    total, taken, sums, span = np.zeros((), values.dtype), 0, values, 1
    while True:
        if width & span:
            total = total + piece(sums, taken, taken + length)
            taken += span
        if 2 * span > width:
            return total
        count = sums.shape[axis]
        sums = piece(sums, 0, count - span) + piece(sums, span, count)
        span *= 2
