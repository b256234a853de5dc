"""A photo without its people: holes filled with patches of what lies around them, without a network."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from deocclude.errors import InputError
from deocclude.imaging.appearance import as_appearance, hidden_on_photo, visible_in_crop
from deocclude.imaging.boxes import mask_to_box_xyxy
from deocclude.imaging.crop import Region, SquareCrop
from deocclude.imaging.exemplar_synthesis import compose
from deocclude.imaging.masks import connected_components, dilate

_MID_GREY = 128
# What is filled is smooth: more pixels than these would cost time and show nothing more.
_WORK_PX = 500_000
_STRIP_PX = 500_000
# Enough to round the corners of the coarser level's cells off; twice as many make a ramp better by a third only.
_SMOOTHING_STEPS = 4
# Patches come from a square of this many times the hole's longer side, on a crop of at most so many pixels.
_SURROUNDINGS = 1.6
_LEAST_SURROUNDINGS_PX = 64
_CROP_PX = 256
_SEAM_REACH_PX = 24
_GUIDE_WEIGHT = 0.2  # push-pull knows the mean colours and nothing more


def rim_px(size_hw: tuple[int, int]) -> int:
    """How wide a ring around a cut-out may still show the person: a 400th of the longer side, at least 1."""
    return max(1, round(max(size_hw) / 400))


def fill_background(photo: np.ndarray, hole: np.ndarray, grow_px: int | None = None) -> np.ndarray:
    """(H, W, 3) uint8: a copy of the photo with the hole filled smoothly from the colours around it.

    `photo`: (H, W, 3) uint8; `hole`: (H, W) bool, True = to be filled. Pixels of `hole` change and no others: outside
    it the copy equals the photo bit for bit.

    `grow_px` decides where colours are taken from, not what changes: the ring of so many pixels around the hole is no
    source, since the rim of a cut-out still shows a little of the person. Default: `rim_px` of the photo's size. When
    the ring leaves no source at all, it is one after all. A hole that covers the whole photo becomes mid-grey, 128.

    Patches of the surroundings are laid by exemplar synthesis (`imaging/exemplar_synthesis.py`), with the photo's own
    detail, around each piece of the hole by itself. Their guide, and what stands where the surroundings hold no whole
    patch, is push-pull (Gortler et al., The Lumigraph, SIGGRAPH 1996): averages of the known colours are pushed down a
    pyramid until no cell is without one, and pulled up again into the cells that know none. That is done on the hole's
    surroundings, on at most about half a million cells, and by strips at the photo's own size.
    """
    grow_px = _check(photo, hole, grow_px)
    filled = photo.copy()
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
    pieces = connected_components(hole)
    for number in range(pieces.count):
        _lay_patches(filled, photo, pieces.paint(np.arange(pieces.count) == number), known)
    return filled


def _lay_patches(filled: np.ndarray, photo: np.ndarray, piece: np.ndarray, known: np.ndarray) -> None:
    """Lay patches of what is known over one piece of the hole, in place. filled: (H, W, 3), with the guide."""
    x0, y0, x1, y1 = mask_to_box_xyxy(piece)
    side = _SURROUNDINGS * max(x1 - x0, y1 - y0)
    size_px = min(_CROP_PX, 32 * math.ceil(max(side, _LEAST_SURROUNDINGS_PX) / 32))
    crop = SquareCrop(((x0 + x1) / 2, (y0 + y1) / 2), max(side, size_px), size_px)
    region, inside = crop.region(known.shape), crop.inside_photo(known.shape)
    known_part = known[region.slices]
    source, sure = visible_in_crop(photo, known_part, region, crop)
    sure &= inside
    guide = crop.extract(filled)
    composed = compose(source, sure, inside, guide, guide_weight=_GUIDE_WEIGHT)
    if composed is None:
        return  # push-pull stands
    everywhere = np.ones(inside.shape, np.float32)
    appearance = as_appearance(
        composed, source, sure, inside, everywhere, guide, copy_share=1.0, seam_reach_px=_SEAM_REACH_PX
    )
    box, colours = hidden_on_photo(appearance, crop, photo, known_part, piece[region.slices], region)
    np.copyto(filled[box.slices], colours, where=piece[box.slices][..., None])


def _check(photo: np.ndarray, hole: np.ndarray, grow_px: int | None) -> int:
    """Refuse what does not fit together; returns `grow_px` or its default."""
    if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or photo.size == 0:
        raise InputError(f"a photo array must be (H, W, 3) uint8 RGB, got {photo.shape} {photo.dtype}")
    if hole.dtype != np.bool_ or hole.shape != photo.shape[:2]:
        raise InputError(f"the hole must be bool of the photo's size {photo.shape[:2]}, got {hole.dtype} {hole.shape}")
    if grow_px is None:
        return rim_px(hole.shape)
    if grow_px < 0:
        raise InputError(f"grow_px must be 0 or more, got {grow_px}")
    return grow_px


def _average_blocks(photo: np.ndarray, known: np.ndarray, factor: int) -> np.ndarray:
    """Known colours of blocks of `factor` x `factor` pixels: (ceil(h / factor), ceil(w / factor), 4) float32.

    Premultiplied: a cell holds the sum of its known colours over all its pixels, 0 to 255, and then the known share,
    0 to 1. The last row and column are repeated where a block is not whole.
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


def _sum_blocks(values: np.ndarray, factor: int) -> np.ndarray:
    """(h, w, C) to (h / factor, w / factor, C) uint32."""
    height, width, channels = values.shape
    sums = values.reshape(height // factor, factor, width, channels).sum(axis=1, dtype=np.uint32)
    return sums.reshape(height // factor, width // factor, factor, channels).sum(axis=2, dtype=np.uint32)


def _push_pull(cells: np.ndarray) -> np.ndarray:
    """(h, w, 3) float32: each cell's known colour, and for its unknown share what the coarser levels say.

    `cells`: (h, w, 4) float32, colours premultiplied by the known share in the last channel; one at least is above 0.
    """
    share = cells[..., 3:]
    if share.min() > 0:
        return cells[..., :3] / share
    colours = _double(_push_pull(_halve(cells)), share.shape[:2])
    for step in range(1 + _SMOOTHING_STEPS):
        if step:
            # The pyramid alone flattens ramps and shows its cells; means of neighbours, as Laplace's equation wants
            # them, undo both.
            colours = _mean_of_neighbours(colours)
        colours *= 1 - share
        colours += cells[..., :3]
    return colours


def _halve(cells: np.ndarray) -> np.ndarray:
    """(h, w, C) to (ceil(h / 2), ceil(w / 2), C): means of 2 x 2, an odd last row or column repeated."""
    height, width = cells.shape[:2]
    if height % 2 or width % 2:
        cells = np.pad(cells, [(0, height % 2), (0, width % 2), (0, 0)], mode="edge")
    total = cells[0::2, 0::2] + cells[0::2, 1::2]
    total += cells[1::2, 0::2]
    total += cells[1::2, 1::2]
    total *= np.float32(0.25)
    return total


def _double(cells: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Bilinear growth to twice the size, cut to `size_hw`: the cells lie as `_halve` put them."""
    tall = _double_rows(cells)[: size_hw[0]]
    return _double_rows(tall.swapaxes(0, 1)).swapaxes(0, 1)[:, : size_hw[1]]


def _double_rows(cells: np.ndarray) -> np.ndarray:
    # The centres of the two new rows lie a quarter of a cell before and after the old one's.
    near, far = cells * np.float32(0.75), cells * np.float32(0.25)
    doubled = np.repeat(near, 2, axis=0)
    doubled[2::2] += far[:-1]
    doubled[1:-1:2] += far[1:]
    doubled[0] += far[0]
    doubled[-1] += far[-1]
    return doubled


def _mean_of_neighbours(cells: np.ndarray) -> np.ndarray:
    """(h, w, C): the mean of the four cells beside each; beyond the edge lies the edge cell itself."""
    padded = np.pad(cells, [(1, 1), (1, 1), (0, 0)], mode="edge")
    total = padded[:-2, 1:-1] + padded[2:, 1:-1]
    total += padded[1:-1, :-2]
    total += padded[1:-1, 2:]
    total *= np.float32(0.25)
    return total


def _paste(picture: np.ndarray, hole: np.ndarray, cells: np.ndarray, place: Region, factor: int) -> None:
    """Paint the hole, in place, with cells of `factor` pixels a side, grown bilinearly.

    `picture`: (h, w, 3) uint8; `hole`: (h, w) bool; `cells`: (h', w', 3) uint8; `place`: where the picture lies in the
    pixels that the cells cover.
    """
    height, width = hole.shape
    image = Image.fromarray(cells)
    rows = max(1, _STRIP_PX // width)
    for start in range(0, height, rows):
        stop = min(start + rows, height)
        edges = place.left, place.top + start, place.right, place.top + stop
        colours = image.resize(
            (width, stop - start), Image.Resampling.BILINEAR, box=tuple(edge / factor for edge in edges)
        )
        strip = slice(start, stop)
        # written out for the three channels, which copyto takes in a third of the time of a broadcast
        where = hole[strip].repeat(3, axis=1).reshape(stop - start, width, 3)
        np.copyto(picture[strip], np.asarray(colours), where=where)
