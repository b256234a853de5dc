"""Exemplar synthesis: the hidden part composed of patches of the visible part, coarse to fine. numpy in, numpy out.

After Kwatra et al. 2005 (texture optimisation) and Wexler et al. 2007 (space-time completion): at each pyramid level
every target patch takes its nearest source patch, and overlapping patches vote for the colours. A smooth guide gives
the colour of each place; body parts restrict which patches fit. The paper's attention decides from which part and place
of the visible body to copy; this module makes that decision in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image

from deocclude.imaging.arrays import Array, Float, Float32, ImageU8, Int, Mask, Probability
from deocclude.imaging.boxes import mask_to_box_xyxy
from deocclude.imaging.coherent_sources import SourceTable, spread_sources
from deocclude.imaging.masks import dilate, erode

RADIUS_PX = 3  # of a patch, at each size
_SIDE = 2 * RADIUS_PX + 1  # of a patch
_HALVINGS = 3  # the coarsest level has an eighth of the resolution
_LEAST_SOURCES = 30  # a level with fewer source patches is skipped
# The search is one matrix product. These limits bound its cost: above them a grid thins out sources and targets.
_MOST_SOURCES = 1500
_MOST_TARGETS = (3000, 16000)  # in the first and second round of search and vote at each level
_CHUNK = 256  # targets whose distances are in memory at once

# What patches are compared by. Each channel of the guide weighs as much as the 147 colour values of the patch together.
# A different body part costs about as much as a difference of 23 of 255 in every colour of patch and guide.
_GUIDE_WEIGHT = 3 * _SIDE**2
_PART_SCALE = 100  # of body part probabilities in a descriptor
_LUMA_BANDS, _CHROMA_BANDS = 5, 3  # a patch is described by DCT coefficients with i + j below these: 15 + 6 + 6 numbers
_COLOUR_COLUMNS = 27 + 3  # of a descriptor: those numbers, and the guide's colour
_BASIS_SCALE = 256  # of the DCT basis, which is rounded to whole numbers
_STEP = 4  # descriptors are rounded to whole steps: products are then exact in any order of summation
# From squared distances of descriptors to those of colours from 0 to 1, over twice the 147 colours of a patch.
_ERROR_SCALE = _STEP**2 / (2 * _GUIDE_WEIGHT * 255**2)
_MEAN_RADIUS_PX = 5  # of the windows whose mean colour is compared with the guide, at full resolution
_VOTE_FALLOFF = 100.0  # a vote falls by the factor e for an error (`Composed.error`) of 1 / 100


@dataclass(frozen=True)
class Composed:
    """Result of exemplar synthesis on a square image of S pixels a side.

    Attributes:
        rgb: (S, S, 3) float32, 0 to 255: known pixels unchanged, hidden pixels composed, the guide where no source
            fits.
        source_yx: (S, S, 2) int32: the known pixel that each hidden pixel was copied from, -1 where there is none.
        mirrored: (S, S) bool: copied from the mirror image, where the sources of neighbouring columns run backwards.
        error: (S, S) float32: weighted squared distance of a hidden pixel's patch, guide and body parts from those of
            its source, colours from 0 to 1; infinite where nothing was copied.
    """

    rgb: Float32
    source_yx: NDArray[np.int32]
    mirrored: Mask
    error: Float32


@dataclass(frozen=True)
class _Level:
    """One pyramid level.

    image, guide: (h, w, 3) uint8; known, hidden, region: (h, w) bool; region includes known and hidden. mean_radius: of
    the window whose mean colour is compared with the guide, in pixels.
    """

    image: ImageU8
    known: Mask
    hidden: Mask
    region: Mask
    guide: ImageU8
    mean_radius: int


def compose(
    image: ImageU8,
    known: Mask,
    region: Mask,
    guide: ImageU8,
    known_parts: Probability | None = None,
    region_parts: Probability | None = None,
    *,
    guide_weight: float = 1.0,
) -> Composed | None:
    """Fill `region` outside `known` with patches that lie wholly in the known pixels or in their mirror image.

    Equal distances are decided for the topmost source, then the leftmost, then the unmirrored one. Distances are whole
    numbers: neither the number of threads nor the order of a sum changes the result.

    Args:
        image: (S, S, 3) uint8, of which known pixels alone are read; S is divisible by 8.
        known: (S, S) bool, a subset of `region`.
        region: (S, S) bool.
        guide: (S, S, 3) uint8: a smooth estimate of the whole region.
        known_parts: (P, h, w) float32 body part probabilities of the known pixels; h, w divide S. None: no restriction.
        region_parts: (P, h, w) float32 body part probabilities of the region.
        guide_weight: weight of each channel of the guide against all colours of a patch together.

    Returns:
        None where nothing is hidden, or where the known pixels hold no whole patch at full resolution.
    """
    if not (region & ~known).any():
        return None
    box = aligned_box(region, 2**_HALVINGS)
    source_parts, target_parts = (
        None if parts is None else _parts_in_box(parts, box, len(image)) for parts in (known_parts, region_parts)
    )
    filled: ImageU8 | None = None
    composed: Composed | None = None
    levels = _pyramid(image[box], known[box], region[box], guide[box])
    for level in levels:
        if filled is not None:
            filled = _double(filled)
        table = _source_table(level, source_parts, guide_weight) if level.hidden.any() else None
        if table is None:
            continue
        is_finest = level is levels[-1]
        composed = _compose_level(level, table, filled, target_parts, guide_weight, coherent=is_finest)
        filled = np.rint(composed.rgb).astype(np.uint8)
    if composed is None or composed.rgb.shape != image[box].shape:
        return None
    return _on_picture(composed, box, image, known, guide)


def aligned_box(region: Mask, cell_px: int) -> tuple[slice, slice]:
    """The region's box as slices, extended to whole cells of `cell_px` pixels."""
    x0, y0, x1, y1 = mask_to_box_xyxy(region)

    def aligned(start: int, stop: int) -> slice:
        return slice(start // cell_px * cell_px, -(-stop // cell_px) * cell_px)

    return aligned(y0, y1), aligned(x0, x1)


def _parts_in_box(parts: Probability, box: tuple[slice, slice], size: int) -> Probability:
    """(P, h', w'): the part of a (P, h, w) parsing in a box of its image, which has `size` pixels a side."""
    cell_px = size // parts.shape[1]
    rows, columns = (slice(edge.start // cell_px, edge.stop // cell_px) for edge in box)
    return parts[:, rows, columns]


def _on_picture(composed: Composed, box: tuple[slice, slice], image: ImageU8, known: Mask, guide: ImageU8) -> Composed:
    """The composition of a box, laid out on the whole image."""
    rgb = np.where(known[..., None], image, guide).astype(np.float32)
    source_yx = np.full((*known.shape, 2), -1, np.int32)
    mirrored, error = np.zeros(known.shape, bool), np.full(known.shape, np.inf, np.float32)
    moved = composed.source_yx + np.array([edge.start for edge in box], np.int32)
    rgb[box], mirrored[box], error[box] = composed.rgb, composed.mirrored, composed.error
    source_yx[box] = np.where(composed.source_yx < 0, -1, moved)
    return Composed(rgb, source_yx, mirrored, error)


def _compose_level(
    level: _Level, table: SourceTable, filled: ImageU8 | None, region_parts: Probability | None, guide_weight: float,
    *, coherent: bool,
) -> Composed:  # fmt: skip
    """A few rounds of search and vote at one level.

    filled: (h, w, 3) uint8, the result of the coarser level, enlarged; None: the guide.
    coherent: let neighbouring targets share sources; otherwise each takes its nearest one.
    """
    sources = _Sources.of(table)
    rgb = level.guide.astype(np.float32)
    if filled is not None:
        rgb[level.region] = filled[level.region]
    rgb[level.known] = level.image[level.known]
    for max_targets in _MOST_TARGETS:
        targets = _targets(level, max_targets)
        patches = _patches(np.rint(rgb).astype(np.uint8), targets.yx)
        guide = level.guide[targets.yx[:, 0], targets.yx[:, 1]]
        described = _descriptors(patches, guide, guide_weight, targets.yx, region_parts, level)
        found, distance = sources.nearest(described)
        if coherent:
            found, distance = spread_sources(table, described, targets.cells, targets.step, found)
        error = distance * np.float32(_ERROR_SCALE)
        votes = np.exp(-np.minimum(_VOTE_FALLOFF * error, 50))  # bounded: no vote underflows to 0
        rgb = _vote(rgb, level.hidden, targets, _source_patches(level.image, found), votes)
    return _with_sources(rgb, level, targets, found, error)


def _source_table(level: _Level, parts: Probability | None, guide_weight: float) -> SourceTable | None:
    """All patches that lie wholly in the known pixels of a level, and their mirror images; None for too few."""
    whole = window_all(level.known, RADIUS_PX)
    yx = np.argwhere(whole)
    if len(yx) < _LEAST_SOURCES:
        return None
    index = np.full(whole.shape, -1)
    index[whole] = np.arange(len(yx))
    plain = _descriptors(_patches(level.image, yx), _local_means(level, yx), guide_weight, yx, parts, level)
    mirrored = plain.copy()
    mirrored[:, : len(_mirror_signs())] *= _mirror_signs()
    return SourceTable(index, np.concatenate([plain, mirrored]))


@dataclass(frozen=True)
class _Targets:
    """Target patches: centres (N, 2), and the step in pixels of the grid of the centres."""

    yx: Int
    step: int

    @property
    def cells(self) -> Int:
        """(N, 2) places on the grid, from 0 on."""
        cells: Int = (self.yx - self.yx.min(axis=0)) // self.step
        return cells


def _targets(level: _Level, max_targets: int) -> _Targets:
    """Centres of patches that hold hidden pixels, within the region, on a grid that keeps them few."""
    candidates = dilate(level.hidden, RADIUS_PX) & level.region
    step = 1
    while np.count_nonzero(candidates[::step, ::step]) > max_targets and step < RADIUS_PX:
        step += 1
    return _Targets(np.argwhere(candidates[::step, ::step]) * step, step)


@dataclass(frozen=True)
class _Sources:
    """Source patches on a grid that keeps them few, followed by their mirror images.

    places: (N, 3) int row and column of the centre, and 1 for the mirror image, else 0; descriptors: (K, N) float32
    whole numbers, a column a patch; squares: (N,) squared length of each column, without its parts.
    """

    places: Int
    descriptors: Float32
    squares: Float32

    @classmethod
    def of(cls, table: SourceTable) -> _Sources:
        """Sources of a level."""
        whole = table.index >= 0
        every = count = np.count_nonzero(whole)
        step = 1
        while count > _MOST_SOURCES:
            step += 1
            count = np.count_nonzero(whole[::step, ::step])
        yx = np.argwhere(whole[::step, ::step]) * step
        rows = table.index[yx[:, 0], yx[:, 1]]
        descriptors = table.descriptors[np.concatenate([rows, every + rows])]
        places = np.concatenate([np.tile(yx, (2, 1)), np.repeat([0, 1], len(yx))[:, None]], axis=1)
        colours = descriptors[:, :_COLOUR_COLUMNS]
        return cls(places, np.ascontiguousarray(descriptors.T), np.einsum("nk,nk->n", colours, colours))

    def nearest(self, targets: Float32) -> tuple[Int, Float32]:
        """The nearest source of each target.

        Args:
            targets: (N, K) float32 whole numbers, as from `_descriptors`.

        Returns:
            (N, 3) places of sources, and (N,) float32 squared distances of the descriptors. Parts, of which each patch
            has a vector at most _PART_SCALE long, count as if it had that length.
        """
        nearest = np.empty(len(targets), np.intp)
        distance = np.empty(len(targets), np.float32)
        for start in range(0, len(targets), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            distances = (-2 * targets[chunk]) @ self.descriptors
            distances += self.squares
            nearest[chunk] = distances.argmin(axis=1)
            distance[chunk] = np.take_along_axis(distances, nearest[chunk, None], axis=1)[:, 0]
        colours = targets[:, :_COLOUR_COLUMNS]
        distance += np.einsum("nk,nk->n", colours, colours)
        if targets.shape[1] > _COLOUR_COLUMNS:
            distance += 2 * _PART_SCALE**2
        return self.places[nearest], np.maximum(distance, 0)


def _pyramid(image: ImageU8, known: Mask, region: Mask, guide: ImageU8) -> list[_Level]:
    """All pyramid levels, the coarsest first.

    A pixel is known where all of it is known, and in the region where more than 0.3 of it is.
    """
    colours: Float32 = image.astype(np.float32)
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


def _halve(values: Float32) -> Float32:
    """(h, w, C) to (h / 2, w / 2, C): means of 2 x 2 pixels."""
    total = values[0::2, 0::2] + values[0::2, 1::2] + values[1::2, 0::2] + values[1::2, 1::2]
    means: Float32 = total / np.float32(4)
    return means


def _double(rgb: ImageU8) -> ImageU8:
    """(h, w, 3) uint8 enlarged to twice the size by a cubic kernel."""
    return np.asarray(Image.fromarray(rgb).resize((2 * rgb.shape[1], 2 * rgb.shape[0]), Image.Resampling.BICUBIC))


def window_all(mask: Mask, radius: int) -> Mask:
    """Where the whole square window around a pixel lies in the mask; outside the image nothing does.

    Args:
        mask: (H, W) bool.
        radius: reach of the window to each side, in pixels.

    Returns:
        (H, W) bool.
    """
    return erode(np.pad(mask, radius), radius)[radius:-radius, radius:-radius]


def _local_means(level: _Level, yx: Int) -> Float:
    """(N, 3): mean of the known colours around each centre, over a window as wide as the guide is smooth."""
    radius = level.mean_radius
    sums: Array = np.concatenate([level.image * level.known[..., None], level.known[..., None]], axis=-1)
    sums = np.pad(sums, [(radius + 1, radius)] * 2 + [(0, 0)]).cumsum(0, dtype=np.int32).cumsum(1, dtype=np.int32)
    side = 2 * radius + 1
    y, x = yx.T
    total = sums[y + side, x + side] - sums[y, x + side] - sums[y + side, x] + sums[y, x]
    means: Float = total[:, :3] / total[:, 3:]
    return means


def _patches(image: ImageU8, yx: Int) -> NDArray[np.uint8]:
    """(N, 49, 3) uint8: the patches around the centres; the image border is repeated beyond it."""
    padded = np.pad(image, [(RADIUS_PX, RADIUS_PX)] * 2 + [(0, 0)], mode="edge")
    windows = sliding_window_view(padded, (_SIDE, _SIDE), axis=(0, 1))[yx[:, 0], yx[:, 1]]
    patches: NDArray[np.uint8] = windows.transpose(0, 2, 3, 1).reshape(len(yx), _SIDE**2, 3)
    return patches


def _source_patches(image: ImageU8, places: Int) -> NDArray[np.uint8]:
    """(N, 49, 3) uint8: the patches of sources, mirrored where they are mirror images.

    places: (N, 3) as in `_Sources`.
    """
    patches = _patches(image, places[:, :2])
    mirrored = places[:, 2] == 1
    patches[mirrored] = _mirrored(patches[mirrored])
    return patches


def _mirrored(patches: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The mirror images of (N, 49, 3) patches."""
    return patches.reshape(-1, _SIDE, _SIDE, 3)[:, :, ::-1].reshape(patches.shape)


@lru_cache(maxsize=1)
def _basis() -> Float32:
    """(147, 27) float32 whole numbers: low DCT coefficients of brightness and of two colour differences.

    Orthonormal columns times _BASIS_SCALE, rounded: with 8-bit colours their sums are exact too.
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
    basis: Float32 = np.rint(np.stack(columns, axis=1) * _BASIS_SCALE).astype(np.float32)
    return basis


@lru_cache(maxsize=1)
def _mirror_signs() -> Float32:
    """(27,) float32, 1 or -1: what a patch's descriptor is multiplied by in its mirror image."""
    mirrored = _basis().reshape(_SIDE, _SIDE, 3, -1)[:, ::-1].reshape(_basis().shape)
    signs: Float32 = np.sign((mirrored * _basis()).sum(axis=0)).astype(np.float32)
    return signs


def _descriptors(
    patches: NDArray[np.uint8], guide: Array, guide_weight: float, yx: Int, parts: Probability | None, level: _Level
) -> Float32:
    """(N, K) float32 whole numbers: colours and guide in _COLOUR_COLUMNS columns, then the parts.

    Args:
        patches: (N, 49, 3) uint8.
        guide: (N, 3) colour of the guide, or what is compared with it, at the centres.
        guide_weight: as in `compose`.
        yx: (N, 2) centres.
        parts: (P, h, w) float32 probabilities; None: no columns for parts.
        level: the level of the patches.
    """
    columns = [_patch_descriptors(patches), _guide_descriptors(guide, guide_weight)]
    if parts is not None:
        columns.append(_part_descriptors(parts, yx, level))
    return np.concatenate(columns, axis=1)


def _patch_descriptors(patches: NDArray[np.uint8]) -> Float32:
    """(N, 27) float32 whole numbers: the DCT coefficients (`_basis`) of (N, 49, 3) uint8 patches, in units of _STEP."""
    sums = patches.reshape(len(patches), -1).astype(np.float32) @ _basis()
    steps: Float32 = np.rint(sums / np.float32(_BASIS_SCALE * _STEP))
    return steps


def _guide_descriptors(rgb: Array, weight: float) -> Float32:
    """(N, 3) colours, 0 to 255, to whole numbers whose squared differences carry the guide's weight."""
    numbers: Float32 = np.rint(rgb * np.float32(np.sqrt(weight * _GUIDE_WEIGHT) / _STEP)).astype(np.float32)
    return numbers


def _part_descriptors(parts: Probability, yx: Int, level: _Level) -> Float32:
    """(N, P - 1) whole numbers, 0 to _PART_SCALE: the parts at the centres."""
    cells = yx * parts.shape[1] // len(level.image)
    here = parts[1:, cells[:, 0], cells[:, 1]].T
    numbers: Float32 = np.rint(here * np.float32(_PART_SCALE)).astype(np.float32)
    return numbers


@lru_cache(maxsize=1)
def _window_weights() -> Float32:
    """(49,) float32: Gaussian weights of a patch's pixels, largest at its centre."""
    squares = np.arange(-RADIUS_PX, RADIUS_PX + 1) ** 2
    weights: Float32 = np.exp(-(squares[:, None] + squares) / (0.5 * RADIUS_PX**2 + 0.5)).astype(np.float32)
    return weights.ravel()


def _vote(rgb: Float32, hidden: Mask, targets: _Targets, patches: NDArray[np.uint8], votes: Float32) -> Float32:
    """A new image: hidden colours are the weighted mean of all patches that cover them.

    patches: (N, 49, 3) uint8, the source of each target; votes: (N,) float32, their weights.
    """
    # One plane for each pixel of the window, over the grid of the targets' box: each window pixel is then one sum of
    # arrays, and pixels a step apart are adjacent in memory.
    first, step = targets.yx.min(axis=0), targets.step
    cells = targets.cells
    rows, columns = cells.max(axis=0) + 1
    margin = -(-_SIDE // step)
    sums = np.zeros((step, step, 4, rows + margin, columns + margin), np.float32)
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
    spread = sums.transpose(3, 0, 4, 1, 2).reshape((rows + margin) * step, (columns + margin) * step, 4)
    # the window of the first target begins a radius before its centre
    total = np.zeros((*hidden.shape, 4), np.float32)
    top, left = first - RADIUS_PX
    inside = spread[max(0, -top) : hidden.shape[0] - top, max(0, -left) : hidden.shape[1] - left]
    y, x = max(0, top), max(0, left)
    total[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
    voted = hidden & (total[..., 3] > 0)
    mixed: Float32 = rgb.copy()
    mixed[voted] = total[voted, :3] / total[voted, 3:]
    return mixed


def _with_sources(rgb: Float32, level: _Level, targets: _Targets, places: Int, error: Float32) -> Composed:
    """The composed image with the source of each hidden pixel: the source of the nearest target patch.

    places: (N, 3) the targets' sources, as in `_Sources`; error: (N,) float32.
    """
    yx, mirrored = places[:, :2], places[:, 2] == 1
    height, width = level.hidden.shape
    owner = np.full((height, width), -1)
    reach = range(-targets.step + 1, targets.step)
    for shift in sorted(((dy, dx) for dy in reach for dx in reach), key=lambda at: -abs(at[0]) - abs(at[1])):
        y, x = (targets.yx + shift).T  # the nearest target is written last
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
