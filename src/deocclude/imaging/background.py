"""Background without people: holes filled with patches of their surroundings, without a network."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deocclude.errors import InputError
from deocclude.imaging.appearance import as_appearance, hidden_on_photo, visible_in_crop
from deocclude.imaging.arrays import Array, Float32, ImageU8, Mask
from deocclude.imaging.boxes import mask_to_box_xyxy
from deocclude.imaging.compositing import spread_outwards
from deocclude.imaging.crop import Region, SquareCrop
from deocclude.imaging.exemplar_synthesis import compose
from deocclude.imaging.masks import connected_components, dilate

_MID_GREY = 128
# The guide is smooth: more pixels would cost time and show no more.
_WORK_PX = 500_000
_STRIP_PX = 500_000  # pixels that are processed at once
# Steps that smooth over the cells of a coarser level; twice as many improve a ramp by a third only.
_SMOOTHING_STEPS = 4
# Patches come from a square of _SURROUNDINGS times the hole's longer side, on a crop of at most _CROP_PX pixels.
_SURROUNDINGS = 1.6
_LEAST_SURROUNDINGS_PX = 64
_CROP_PX = 256
_SEAM_REACH_PX = 24  # crop pixels from the hole's border over which colours are corrected
_SEAM_SHARE = 0.65  # of the step at the hole's border that is removed
_GUIDE_WEIGHT = 0.2  # low: the push-pull guide knows mean colours alone


def rim_px(size_hw: tuple[int, int]) -> int:
    """Width of the ring around a cut-out that may still show the person: a 400th of the longer side, at least 1 px."""
    return max(1, round(max(size_hw) / 400))


def fill_background(photo: ImageU8, hole: Mask, grow_px: int | None = None) -> ImageU8:
    """Fill a hole of a photo from its surroundings. Pixels outside the hole keep their values bit for bit.

    Exemplar synthesis (`imaging/exemplar_synthesis.py`) lays patches of the surroundings, with the photo's own detail,
    over each component of the hole. Its guide is push-pull (Gortler et al., The Lumigraph, SIGGRAPH 1996): averages of
    the known colours are pushed down a pyramid until no cell is empty, and pulled up into the cells without a colour.
    The guide also remains where the surroundings hold no whole patch. Push-pull works on at most about half a million
    cells of the surroundings, and in strips at image resolution.

    Args:
        photo: (H, W, 3) uint8.
        hole: (H, W) bool, True = to be filled.
        grow_px: width of the ring around the hole that is no source of colours: the rim of a cut-out still shows a
            little of the person. None: `rim_px` of the photo's size. Where the ring leaves no source, the ring is a
            source too.

    Returns:
        (H, W, 3) uint8: a filled copy. A hole that covers the whole photo becomes mid-grey, 128.

    Raises:
        InputError: arrays of another type or size, or a negative `grow_px`.
    """
    grow_px = _check(photo, hole, grow_px)
    filled: ImageU8 = photo.copy()
    if not hole.any():
        return filled
    box = Region.of_mask(hole)
    work = box.grow(grow_px + max(8, max(box.size_hw) // 8), hole.shape)
    known = ~dilate(hole, grow_px)
    if not known[work.slices].any():
        known = ~hole
    if not known.any():
        filled[hole] = _MID_GREY
        return filled
    factor = math.ceil(math.sqrt(known[work.slices].size / _WORK_PX))
    cells = _push_pull(_average_blocks(photo[work.slices], known[work.slices], factor))
    _paste(filled[box.slices], hole[box.slices], np.rint(cells).astype(np.uint8), box.counted_from(work), factor)
    components = connected_components(hole)
    for number in range(components.count):
        _lay_patches(filled, photo, components.paint(np.arange(components.count) == number), known)
    return filled


def _lay_patches(filled: ImageU8, photo: ImageU8, component: Mask, known: Mask) -> None:
    """Lay patches of known pixels over one component of the hole, in place.

    filled: (H, W, 3) uint8, with the guide in the hole.
    """
    x0, y0, x1, y1 = mask_to_box_xyxy(component)
    side = _SURROUNDINGS * max(x1 - x0, y1 - y0)
    size_px = min(_CROP_PX, 32 * math.ceil(max(side, _LEAST_SURROUNDINGS_PX) / 32))
    crop = SquareCrop(((x0 + x1) / 2, (y0 + y1) / 2), max(side, size_px), size_px)
    region, inside = crop.region(known.shape), crop.inside_photo(known.shape)
    known_part = known[region.slices]
    source, known_in_crop = visible_in_crop(photo, known_part, region, crop)
    known_in_crop &= inside
    guide = crop.extract(filled)
    composed = compose(source, known_in_crop, inside, guide, guide_weight=_GUIDE_WEIGHT)
    if composed is None:
        return  # the guide remains
    everywhere = np.ones(inside.shape, np.float32)
    appearance = as_appearance(composed, source, known_in_crop, inside, everywhere, guide, copy_share=1.0)
    appearance = replace(appearance, rgb=join_seam(appearance.rgb, known_in_crop, inside))
    box, colours = hidden_on_photo(appearance, crop, photo, known_part, component[region.slices], region)
    np.copyto(filled[box.slices], colours, where=component[box.slices][..., None])


def join_seam(rgb: ImageU8, known: Mask, region: Mask) -> ImageU8:
    """Blend hidden colours into the known colours beside them, over `_SEAM_REACH_PX` pixels.

    At the border, a part of the difference between a hidden pixel and the mean of its known neighbours is removed.
    Further in, the mean of the preceding corrections is removed, decreasing linearly: the membrane of Poisson image
    editing (Perez et al. 2003), ended early.

    Args:
        rgb: (S, S, 3) uint8.
        known: (S, S) bool.
        region: (S, S) bool.

    Returns:
        (S, S, 3) uint8.
    """
    joined: Float32 = rgb.astype(np.float32)
    steps = joined.copy()
    for number, ring in enumerate(spread_outwards(steps, known, region & ~known, _SEAM_REACH_PX)):
        if number == 0:  # `steps` holds the known colours here; what spreads further is the difference to them
            steps[ring] -= joined[ring]
        joined[ring] += np.float32(_SEAM_SHARE * (1 - number / _SEAM_REACH_PX)) * steps[ring]
    joined_u8: ImageU8 = np.rint(joined.clip(0, 255)).astype(np.uint8)
    return joined_u8


def _check(photo: ImageU8, hole: Mask, grow_px: int | None) -> int:
    """Check the arguments of `fill_background`; returns `grow_px` or its default."""
    if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or photo.size == 0:
        raise InputError(f"a photo array must be (H, W, 3) uint8 RGB, got {photo.shape} {photo.dtype}")
    if hole.dtype != np.bool_ or hole.shape != photo.shape[:2]:
        raise InputError(f"the hole must be bool of the photo's size {photo.shape[:2]}, got {hole.dtype} {hole.shape}")
    if grow_px is None:
        return rim_px(hole.shape)
    if grow_px < 0:
        raise InputError(f"grow_px must be 0 or more, got {grow_px}")
    return grow_px


def _average_blocks(photo: ImageU8, known: Mask, factor: int) -> Float32:
    """Known colours of blocks of `factor` x `factor` pixels, premultiplied by the known fraction.

    Returns:
        (ceil(h / factor), ceil(w / factor), 4) float32: the sum of the known colours divided by the block's number of
        pixels, 0 to 255, then the known fraction, 0 to 1. The last row and column are repeated in incomplete blocks.
    """
    height, width = known.shape
    cells = np.empty((-(-height // factor), -(-width // factor), 4), dtype=np.float32)
    rows = max(1, _STRIP_PX // (width * factor))
    for start in range(0, len(cells), rows):
        strip = slice(start * factor, (start + rows) * factor)
        pads = [(0, -known[strip].shape[0] % factor), (0, -width % factor)]
        colours = np.pad(photo[strip], [*pads, (0, 0)], mode="edge")
        source = np.pad(known[strip], pads, mode="edge")
        colours[~source] = 0
        cells[start : start + rows, :, :3] = _sum_blocks(colours, factor)
        cells[start : start + rows, :, 3] = _sum_blocks(source[..., None], factor)[..., 0]
    cells /= factor**2
    return cells


def _sum_blocks(values: Array, factor: int) -> NDArray[np.uint32]:
    """Sums over blocks of `factor` x `factor` pixels: (h, w, C) to (h / factor, w / factor, C) uint32."""
    height, width, channels = values.shape
    sums = values.reshape(height // factor, factor, width, channels).sum(axis=1, dtype=np.uint32)
    blocks = sums.reshape(height // factor, width // factor, factor, channels)
    totals: NDArray[np.uint32] = blocks.sum(axis=2, dtype=np.uint32)
    return totals


def _push_pull(cells: Float32) -> Float32:
    """Fill cells without a known colour from coarser levels.

    Args:
        cells: (h, w, 4) float32: colours premultiplied by the known fraction in the last channel. At least one
            fraction is above 0.

    Returns:
        (h, w, 3) float32: the known colour of each cell, and for its unknown fraction the colour of the coarser levels.
    """
    share = cells[..., 3:]
    if share.min() > 0:
        known: Float32 = cells[..., :3] / share
        return known
    colours = _double(_push_pull(_halve(cells)), share.shape[:2])
    for step in range(1 + _SMOOTHING_STEPS):
        if step:
            # The pyramid alone flattens ramps and shows its cells; steps of Laplace's equation undo both.
            colours = _mean_of_neighbours(colours)
        colours *= 1 - share
        colours += cells[..., :3]
    return colours


def _halve(cells: Float32) -> Float32:
    """(h, w, C) to (ceil(h / 2), ceil(w / 2), C): means of 2 x 2 cells; an odd last row or column is repeated."""
    height, width = cells.shape[:2]
    if height % 2 or width % 2:
        cells = np.pad(cells, [(0, height % 2), (0, width % 2), (0, 0)], mode="edge")
    total: Float32 = cells[0::2, 0::2] + cells[0::2, 1::2]
    total += cells[1::2, 0::2]
    total += cells[1::2, 1::2]
    total *= np.float32(0.25)
    return total


def _double(cells: Float32, size_hw: tuple[int, int]) -> Float32:
    """Bilinear enlargement to twice the size, cut to `size_hw`: the inverse grid of `_halve`."""
    tall = _double_rows(cells)[: size_hw[0]]
    doubled: Float32 = _double_rows(tall.swapaxes(0, 1)).swapaxes(0, 1)[:, : size_hw[1]]
    return doubled


def _double_rows(cells: Float32) -> Float32:
    """(h, w, C) to (2 h, w, C): linear enlargement; the border rows are repeated beyond the border."""
    # The centres of the two new rows lie a quarter of a cell before and after the centre of the old row.
    near, far = cells * np.float32(0.75), cells * np.float32(0.25)
    doubled: Float32 = np.repeat(near, 2, axis=0)
    doubled[2::2] += far[:-1]
    doubled[1:-1:2] += far[1:]
    doubled[0] += far[0]
    doubled[-1] += far[-1]
    return doubled


def _mean_of_neighbours(cells: Float32) -> Float32:
    """(h, w, C) means of the four adjacent cells; the border cell is repeated beyond the border."""
    padded = np.pad(cells, [(1, 1), (1, 1), (0, 0)], mode="edge")
    total: Float32 = padded[:-2, 1:-1] + padded[2:, 1:-1]
    total += padded[1:-1, :-2]
    total += padded[1:-1, 2:]
    total *= np.float32(0.25)
    return total


def _paste(picture: ImageU8, hole: Mask, cells: ImageU8, place: Region, factor: int) -> None:
    """Paint the hole, in place, with bilinearly enlarged cells of `factor` pixels a side.

    Args:
        picture: (h, w, 3) uint8.
        hole: (h, w) bool.
        cells: (h', w', 3) uint8.
        place: where `picture` lies in the pixels that the cells cover.
        factor: pixels a cell, either way.
    """
    height, width = hole.shape
    image = Image.fromarray(cells)
    rows = max(1, _STRIP_PX // width)
    for start in range(0, height, rows):
        stop = min(start + rows, height)
        box = place.left / factor, (place.top + start) / factor, place.right / factor, (place.top + stop) / factor
        colours = image.resize((width, stop - start), Image.Resampling.BILINEAR, box=box)
        strip = slice(start, stop)
        # the mask is repeated for the three channels: copyto then takes a third of the time of a broadcast
        where = hole[strip].repeat(3, axis=1).reshape(stop - start, width, 3)
        np.copyto(picture[strip], np.asarray(colours), where=where)
