"""Exemplar synthesis: what is hidden is composed of patches of what can be seen, coarse to fine. numpy in, numpy out.

After Kwatra et al. 2005 (texture optimisation) and Wexler et al. 2007 (space-time completion): at each size of a
pyramid every target patch takes its nearest source patch, and overlapping patches vote for the colours. A guide, smooth
and without texture, says what colour belongs where; parts say what a patch may stand for. The paper's attention asks
which part, and where in the visible body, to copy from; this is its answer in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

from deocclude.imaging.boxes import mask_to_box_xyxy
from deocclude.imaging.masks import dilate, erode

RADIUS_PX = 3  # of a patch, at each size
_SIDE = 2 * RADIUS_PX + 1
_HALVINGS = 3  # the pyramid's coarsest size is an eighth of the picture
_LEAST_SOURCES = 30  # a size with fewer source patches is left out
# The search is one matrix product: these bound its cost. Beyond them sources and targets are thinned out by a grid.
_MOST_SOURCES = 1500
_MOST_TARGETS = (3000, 16000)  # of each round, a search and a vote, at every size
_CHUNK = 256  # targets whose distances are held at once

# What a patch is compared by. Colour of the guide: as much as the 147 colours of the patch together, so that a patch is
# no more than half free. Parts: another part costs about as much as every colour off by 18 of 255.
_GUIDE_WEIGHT = 3 * _SIDE**2
_PART_SCALE = 100
_LUMA_BANDS, _CHROMA_BANDS = 5, 3  # DCT coefficients with i + j below these describe a patch: 15 + 6 + 6 numbers
_BASIS_SCALE = 256
_STEP = 4  # descriptors are rounded to whole steps: products are then exact, whatever order they are summed in
_MEAN_RADIUS_PX = 5  # at full size
_VOTE_FALLOFF = 20.0  # votes fall by e for a mean squared error of 1 / 20, of colours in 0..1


@dataclass(frozen=True)
class Composed:
    """What exemplar synthesis made of a square picture of S pixels.

    rgb: (S, S, 3) float32, 0 to 255: known pixels as they are, hidden ones composed; the guide where nothing was found.
    source_yx: (S, S, 2) int32, the known pixel from whose place each hidden pixel came, -1 where there is none.
    mirrored: (S, S) bool, whether that was taken from the mirror image. Offsets of neighbours run backwards there.
    error: (S, S) float32, mean squared difference between a hidden pixel's patch and its source, of colours in 0 to 1.
    """

    rgb: np.ndarray
    source_yx: np.ndarray
    mirrored: np.ndarray
    error: np.ndarray


@dataclass(frozen=True)
class _Level:
    """A picture at one size. image, guide: (h, w, 3) uint8; known, hidden, region: (h, w) bool, region holding both."""

    image: np.ndarray
    known: np.ndarray
    hidden: np.ndarray
    region: np.ndarray
    guide: np.ndarray
    mean_radius: int  # of the window whose mean colour a source is compared with the guide by


def compose(
    image: np.ndarray,
    known: np.ndarray,
    region: np.ndarray,
    guide: np.ndarray,
    known_parts: np.ndarray | None = None,
    region_parts: np.ndarray | None = None,
    *,
    guide_weight: float = 1.0,
) -> Composed | None:
    """Fill `region` where it is not `known` with patches that lie wholly in what is known, and in its mirror image.

    image: (S, S, 3) uint8, read only where known; S divisible by 8. known, region: (S, S) bool, known within region.
    guide: (S, S, 3) uint8, a smooth guess of the whole region. known_parts, region_parts: (P, h, w) float32
    probabilities of body parts, of what is known and of the region; h, w divide S. None: parts do not matter.
    guide_weight: how much the guide's colour counts, against all colours of a patch together.

    Returns None where nothing is hidden, or nothing known is as large as a patch at the picture's own size. Equal
    distances are decided for the source nearest to the top, then to the left, unmirrored first; distances are whole
    numbers, so that neither the number of threads nor the order of a sum can change the result.
    """
    if not (region & ~known).any():
        return None
    box = aligned_box(region, 2**_HALVINGS)
    parts = [None if one is None else _of_box(one, box, len(image)) for one in (known_parts, region_parts)]
    filled, composed, level = None, None, None
    for level in _pyramid(*(array[box] for array in (image, known, region, guide))):
        if filled is not None:
            filled = _double(filled)
        sources = _Sources.of(level, parts[0], guide_weight) if level.hidden.any() else None
        if sources is None:
            continue
        composed = _compose_level(level, sources, filled, parts[1], guide_weight)
        filled = np.rint(composed.rgb).astype(np.uint8)
    if composed is None or composed.rgb.shape != level.image.shape:
        return None
    return _on_picture(composed, box, image, known, guide)


def aligned_box(region: np.ndarray, cell_px: int) -> tuple[slice, slice]:
    """The region's box, in whole cells of the picture, as slices."""
    x0, y0, x1, y1 = mask_to_box_xyxy(region)
    return tuple(slice(a // cell_px * cell_px, -(-b // cell_px) * cell_px) for a, b in ((y0, y1), (x0, x1)))


def _of_box(parts: np.ndarray, box: tuple[slice, slice], size: int) -> np.ndarray:
    """Parts of a picture of `size` pixels, (P, h, w), in a box of it."""
    pixels = size // parts.shape[1]
    cells = (slice(edge.start // pixels, edge.stop // pixels) for edge in box)
    return parts[(slice(None), *cells)]


def _on_picture(
    composed: Composed, box: tuple[slice, slice], image: np.ndarray, known: np.ndarray, guide: np.ndarray
) -> Composed:
    """What was composed in a box of the picture, on the whole of it."""
    rgb = np.where(known[..., None], image, guide).astype(np.float32)
    source_yx = np.full((*known.shape, 2), -1, np.int32)
    mirrored, error = np.zeros(known.shape, bool), np.full(known.shape, np.inf, np.float32)
    moved = composed.source_yx + np.array([edge.start for edge in box], np.int32)
    rgb[box], mirrored[box], error[box] = composed.rgb, composed.mirrored, composed.error
    source_yx[box] = np.where(composed.source_yx < 0, -1, moved)
    return Composed(rgb, source_yx, mirrored, error)


def _compose_level(
    level: _Level, sources: _Sources, filled: np.ndarray | None, region_parts: np.ndarray | None, guide_weight: float
) -> Composed:
    """Search and vote a few times at one size. filled: (h, w, 3) uint8, the coarser size's answer; None: the guide."""
    rgb = level.guide.astype(np.float32)
    if filled is not None:
        rgb[level.region] = filled[level.region]
    rgb[level.known] = level.image[level.known]
    for most in _MOST_TARGETS:
        targets = _targets(level, most)
        patches = _describe(_patches(np.rint(rgb).astype(np.uint8), targets.yx))
        numbers = [patches, _guide_descriptors(level.guide[targets.yx[:, 0], targets.yx[:, 1]], guide_weight)]
        if region_parts is not None:
            numbers.append(_part_descriptors(region_parts, targets.yx, level))
        nearest, error = sources.nearest(np.concatenate(numbers, axis=1), patches.shape[1] + 3)
        votes = np.exp(-_VOTE_FALLOFF * error)
        rgb = _vote(rgb, level.hidden, targets, sources.patches[nearest], votes)
    return _with_sources(rgb, level, targets, sources.yx[nearest], sources.mirrored[nearest], error)


@dataclass(frozen=True)
class _Targets:
    """Patches to be found: centres (N, 2), and the step in pixels of the grid that they lie on."""

    yx: np.ndarray
    step: int


def _targets(level: _Level, most: int) -> _Targets:
    """Centres of patches that hold hidden pixels, within the region, on a grid that keeps them few."""
    wanted = dilate(level.hidden, RADIUS_PX) & level.region
    step = 1
    while np.count_nonzero(wanted[::step, ::step]) > most and step < RADIUS_PX:
        step += 1
    return _Targets(np.argwhere(wanted[::step, ::step]) * step, step)


@dataclass(frozen=True)
class _Sources:
    """Patches wholly in what is known, and their mirror images behind them.

    yx: (N, 2) centres in the picture; mirrored: (N,) bool; patches: (N, 49, 3) uint8; descriptors: (K, N) float32 whole
    numbers; squares: (N,) their squared lengths, parts left out.
    """

    yx: np.ndarray
    mirrored: np.ndarray
    patches: np.ndarray
    descriptors: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, level: _Level, parts: np.ndarray | None, guide_weight: float) -> _Sources | None:
        """None where there are too few."""
        whole = window_all(level.known, RADIUS_PX)
        count = np.count_nonzero(whole)
        if count < _LEAST_SOURCES:
            return None
        step = 1
        while count > _MOST_SOURCES:
            step += 1
            count = np.count_nonzero(whole[::step, ::step])
        yx = np.argwhere(whole[::step, ::step]) * step
        plain = _patches(level.image, yx)
        flipped = plain.reshape(-1, _SIDE, _SIDE, 3)[:, :, ::-1].reshape(plain.shape)
        patches = np.concatenate([plain, flipped])
        around = _guide_descriptors(_local_means(level, yx), guide_weight)
        colours = np.concatenate([_describe(patches), np.tile(around, (2, 1))], axis=1)
        numbers = colours
        if parts is not None:
            numbers = np.concatenate([colours, np.tile(_part_descriptors(parts, yx, level), (2, 1))], axis=1)
        mirrored = np.repeat([False, True], len(yx))
        squares = np.einsum("nk,nk->n", colours, colours)
        return cls(np.tile(yx, (2, 1)), mirrored, patches, np.ascontiguousarray(numbers.T), squares)

    def nearest(self, targets: np.ndarray, colours: int) -> tuple[np.ndarray, np.ndarray]:
        """The nearest source of each target, (N,) int, and their error, (N,) float32.

        targets: (N, K) float32 whole numbers, of which the first `colours` are colours, the others parts.
        """
        nearest = np.empty(len(targets), np.intp)
        distance = np.empty(len(targets), np.float32)
        for start in range(0, len(targets), _CHUNK):
            part = slice(start, start + _CHUNK)
            distances = (-2 * targets[part]) @ self.descriptors
            distances += self.squares
            nearest[part] = distances.argmin(axis=1)
            distance[part] = np.take_along_axis(distances, nearest[part, None], axis=1)[:, 0]
        own = targets[:, :colours]
        distance += np.einsum("nk,nk->n", own, own)
        if colours < targets.shape[1]:
            distance += 2 * _PART_SCALE**2
        # the guide counts as much as all colours of the patch
        return nearest, np.maximum(distance, 0) * np.float32(_STEP**2 / (2 * _GUIDE_WEIGHT * 255**2))


def _pyramid(image: np.ndarray, known: np.ndarray, region: np.ndarray, guide: np.ndarray) -> list[_Level]:
    """The picture at all sizes, the coarsest first. A pixel is known if all of it is, in the region if a third is."""
    colours = image.astype(np.float32)
    colours[~known] = 0
    shares = np.stack([known, region], axis=-1).astype(np.float32)
    guides = guide.astype(np.float32)
    levels = []
    for halving in range(_HALVINGS + 1):
        if halving:
            colours, shares, guides = _halve(colours), _halve(shares), _halve(guides)
        whole = shares[..., 0] >= 1
        inside = shares[..., 1] > 0.3
        means = np.where(whole[..., None], colours, 0)
        levels.append(
            _Level(
                np.rint(means).astype(np.uint8), whole, inside & ~whole, inside, np.rint(guides).astype(np.uint8),
                max(1, _MEAN_RADIUS_PX >> halving),
            )
        )  # fmt: skip
    return levels[::-1]


def _halve(values: np.ndarray) -> np.ndarray:
    """(h, w, C) to (h / 2, w / 2, C): means of 2 x 2."""
    return (values[0::2, 0::2] + values[0::2, 1::2] + values[1::2, 0::2] + values[1::2, 1::2]) / 4


def _double(rgb: np.ndarray) -> np.ndarray:
    """(h, w, 3) uint8 to twice the size."""
    return np.asarray(Image.fromarray(rgb).resize((2 * rgb.shape[1], 2 * rgb.shape[0]), Image.Resampling.BICUBIC))


def window_all(mask: np.ndarray, radius: int) -> np.ndarray:
    """Where the whole square window of `radius` around a pixel lies in the mask, (H, W) bool; beyond the edge none."""
    return erode(np.pad(mask, radius), radius)[radius:-radius, radius:-radius]


def _local_means(level: _Level, yx: np.ndarray) -> np.ndarray:
    """(N, 3): mean of the known colours around each centre, as wide as a guide is smooth."""
    radius = level.mean_radius
    sums = np.concatenate([level.image * level.known[..., None], level.known[..., None]], axis=-1)
    sums = np.pad(sums, [(radius + 1, radius)] * 2 + [(0, 0)]).cumsum(0, dtype=np.int32).cumsum(1, dtype=np.int32)
    side = 2 * radius + 1
    y, x = yx.T
    total = sums[y + side, x + side] - sums[y, x + side] - sums[y + side, x] + sums[y, x]
    return total[:, :3] / total[:, 3:]


def _patches(image: np.ndarray, yx: np.ndarray) -> np.ndarray:
    """(N, 49, 3) uint8: the patches around the centres; beyond the picture its edge is repeated."""
    padded = np.pad(image, [(RADIUS_PX, RADIUS_PX)] * 2 + [(0, 0)], mode="edge")
    windows = sliding_window_view(padded, (_SIDE, _SIDE), axis=(0, 1))[yx[:, 0], yx[:, 1]]
    return windows.transpose(0, 2, 3, 1).reshape(len(yx), _SIDE**2, 3)


@lru_cache(maxsize=1)
def _basis() -> np.ndarray:
    """(147, 27) float32 whole numbers: low DCT coefficients of brightness and of two differences of colour.

    Orthonormal columns times _BASIS_SCALE, rounded: with colours of 8 bits their sums are exact too.
    """
    k, x = np.meshgrid(np.arange(_SIDE), np.arange(_SIDE), indexing="ij")
    dct = np.cos(np.pi * (x + 0.5) * k / _SIDE) * np.where(k == 0, np.sqrt(1 / _SIDE), np.sqrt(2 / _SIDE))
    opponent = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])
    columns = [
        np.kron(np.kron(dct[i], dct[j]), colour)
        for colour, bands in zip(opponent, (_LUMA_BANDS, _CHROMA_BANDS, _CHROMA_BANDS), strict=True)
        for i in range(bands)
        for j in range(bands - i)
    ]
    return np.rint(np.stack(columns, axis=1) * _BASIS_SCALE).astype(np.float32)


def _describe(patches: np.ndarray) -> np.ndarray:
    """(N, 49, 3) uint8 to (N, 27) float32 whole numbers of _STEP."""
    sums = patches.reshape(len(patches), -1).astype(np.float32) @ _basis()
    return np.rint(sums / (_BASIS_SCALE * _STEP))


def _guide_descriptors(rgb: np.ndarray, weight: float) -> np.ndarray:
    """(N, 3) colours, 0 to 255, to whole numbers whose squared differences count as the guide should."""
    return np.rint(rgb * np.float32(np.sqrt(weight * _GUIDE_WEIGHT) / _STEP)).astype(np.float32)


def _part_descriptors(parts: np.ndarray, yx: np.ndarray, level: _Level) -> np.ndarray:
    """(N, P - 1) whole numbers, 0 to _PART_SCALE: the parts at the centres."""
    cells = yx * parts.shape[1] // len(level.image)
    return np.rint(parts[1:, cells[:, 0], cells[:, 1]].T * np.float32(_PART_SCALE)).astype(np.float32)


@lru_cache(maxsize=1)
def _window_weights() -> np.ndarray:
    """(49,) float32: how much the middle of a patch counts beside its rim."""
    squares = np.arange(-RADIUS_PX, RADIUS_PX + 1) ** 2
    return np.exp(-(squares[:, None] + squares) / (0.5 * RADIUS_PX**2 + 0.5)).astype(np.float32).ravel()


def _vote(rgb: np.ndarray, hidden: np.ndarray, targets: _Targets, patches: np.ndarray, votes: np.ndarray) -> np.ndarray:
    """Hidden colours as the weighted mean of all patches that cover them; others as they are. Returns a new picture."""
    # All targets of the grid in the box of those that there are, plane by plane: each place of the window is then one
    # sum of arrays, and pixels that lie a step apart lie side by side.
    first, step = targets.yx.min(axis=0), targets.step
    cells = (targets.yx - first) // step
    rows, columns = cells.max(axis=0) + 1
    more = -(-_SIDE // step)
    sums = np.zeros((step, step, 4, rows + more, columns + more), np.float32)
    at = cells[:, 0] * columns + cells[:, 1]
    planes = np.zeros((_SIDE, 4, rows * columns), np.float32)
    ballots = np.empty((_SIDE, 4, len(votes)), np.float32)
    for dy, weights in enumerate(_window_weights().reshape(_SIDE, _SIDE)):
        np.multiply(weights[:, None], votes, out=ballots[:, 3])
        np.multiply(patches[:, dy * _SIDE : (dy + 1) * _SIDE].transpose(1, 2, 0), ballots[:, 3:], out=ballots[:, :3])
        planes[..., at] = ballots
        down = dy // step
        for dx, plane in enumerate(planes.reshape(_SIDE, 4, rows, columns)):
            across = dx // step
            sums[dy % step, dx % step, :, down : down + rows, across : across + columns] += plane
    spread = sums.transpose(3, 0, 4, 1, 2).reshape((rows + more) * step, (columns + more) * step, 4)
    # the first target's window begins a radius before it
    total = np.zeros((*hidden.shape, 4), np.float32)
    top, left = first - RADIUS_PX
    seen = spread[max(0, -top) : hidden.shape[0] - top, max(0, -left) : hidden.shape[1] - left]
    y, x = max(0, top), max(0, left)
    total[y : y + seen.shape[0], x : x + seen.shape[1]] = seen
    voted = hidden & (total[..., 3] > 0)
    mixed = rgb.copy()
    mixed[voted] = total[voted, :3] / total[voted, 3:]
    return mixed


def _with_sources(
    rgb: np.ndarray, level: _Level, targets: _Targets, yx: np.ndarray, mirrored: np.ndarray, error: np.ndarray
) -> Composed:
    """The composed picture with the source of each hidden pixel: that of the target patch of its cell of the grid.

    yx: (N, 2) the targets' sources; mirrored: (N,) bool; error: (N,) float32.
    """
    height, width = level.hidden.shape
    owner = np.full((height, width), -1)
    reach = range(-targets.step + 1, targets.step)
    for shift in sorted(((dy, dx) for dy in reach for dx in reach), key=lambda at: -abs(at[0]) - abs(at[1])):
        y, x = (targets.yx + shift).T  # the nearest target comes last and stays
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        owner[y[inside], x[inside]] = np.flatnonzero(inside)
    found = level.hidden & (owner >= 0)
    own = owner[found]
    offset = np.argwhere(found) - targets.yx[own]
    offset[mirrored[own], 1] *= -1
    source_yx = np.full((height, width, 2), -1, np.int32)
    is_mirrored, errors = np.zeros((height, width), bool), np.full((height, width), np.inf, np.float32)
    source_yx[found], is_mirrored[found], errors[found] = yx[own] + offset, mirrored[own], error[own]
    return Composed(rgb, source_yx, is_mirrored, errors)
