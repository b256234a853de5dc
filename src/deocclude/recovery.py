"""Stage 2 at inference: the appearance of what is hidden, from the visible body alone. numpy in, numpy out.

The network guesses colour, shading and borders between parts; exemplar synthesis (`exemplar.py`) puts patches of the
visible body there. Both work on a crop; what the photo has beyond the crop's resolution is carried over at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageFilter

from deocclude.composite import extend_colours, neighbour_means
from deocclude.crop import Region, SquareCrop
from deocclude.exemplar import Composed, aligned_box, compose, window_all
from deocclude.masks import mask_to_box_xyxy
from deocclude.palette import draw_to_palette
from deocclude.parts import copy_support
from deocclude.runtime import Network

# Colours are carried this far out of the body in the crop: growing it to photo size then never mixes in what lies
# outside.
_EXTEND_PX = 3
# The guide of the search is this smooth, in pixels of the crop: patches bring the texture, the guide the colours.
_GUIDE_SIGMA_PX = 6.0
# How much of a copied pixel is the copy; the rest is the network's. Less is nearer to the truth and looks less natural.
_COPY_SHARE = 0.9
# How much of what is smooth in the copy, of the guide's width, gives way to the guide: patches bring what is finer.
_SMOOTH_SHARE = 0.4
# How far the guide of the smooth part goes along with that of the search, which has the colours of the visible body.
_PALETTE_SHARE = 0.5
# How much of the step from a visible pixel to the hidden one beside it is taken back; less and less, as many pixels in.
_SEAM_SHARE = 0.65
_SEAM_REACH_PX = 2
_STRIP_PX = 200_000
_ALIKE = 8.0  # colours of 0 to 255 by which source and copy may run apart until no detail is carried over
# Detail is at most so many times its mean: a button or a stitch would else come back in every block.
_MOST_DETAIL = 3.0
_BLOCK_PX = 8  # of the crop: detail of the photo is carried over in such blocks


@dataclass(frozen=True)
class Copied:
    """Where in its crop an appearance was copied from, so that detail of the photo can follow.

    image: (S, S, 3) uint8, the crop that was copied from. source_yx: (S, S, 2) int32, -1 where nothing was copied;
    mirrored: (S, S) bool. weight: (S, S) float32, 0 to 1, how much of the detail is wanted.
    """

    image: np.ndarray
    source_yx: np.ndarray
    mirrored: np.ndarray
    weight: np.ndarray

    @classmethod
    def of(cls, composed: Composed, image: np.ndarray, known: np.ndarray, weight: np.ndarray) -> Copied:
        """weight: what each pixel's copy counts.

        A source beside something unknown gives no detail, its colour may be mixed; nor does one whose colours run
        otherwise than those that were composed, such as a fold beside even cloth.
        """
        found = composed.source_yx[..., 0] >= 0
        source_yx, mirrored = composed.source_yx.copy(), composed.mirrored.copy()
        wanted = np.zeros(found.shape, np.float32)
        if not found.any():
            return cls(image, source_yx, mirrored, wanted)
        box = aligned_box(found)
        source_yx[box], mirrored[box] = _in_blocks(composed, box)
        inside = ((source_yx[box] >= 0) & (source_yx[box] < len(known))).all(axis=-1)
        y, x = np.moveaxis(np.where(inside[..., None], source_yx[box], 0), -1, 0)
        clean = inside & window_all(known, 1)[y, x]
        off = composed.rgb[box] - image[y, x]
        counted = clean[..., None].astype(np.float32)
        total, count = _by_block(off * counted).sum(1), _by_block(counted).sum(1)
        off -= _of_blocks(total / np.maximum(count, 1), clean.shape)  # a block may be lighter than its source
        alike = np.clip(1 - np.abs(off).max(axis=-1) / _ALIKE, 0, 1)
        wanted[box] = np.where(clean, weight[box] * alike, 0)
        return cls(image, source_yx, mirrored, wanted)


def _in_blocks(composed: Composed, box: tuple[slice, slice]) -> tuple[np.ndarray, np.ndarray]:
    """Where the detail of each pixel of a box comes from, (h, w, 2) int32, -1 where nothing was copied, and (h, w)
    bool, mirrored. The box holds whole blocks.

    All of a block goes along with the copy nearest to its middle: neighbours are often copied from one place each, and
    its detail beside itself would be a mesh, no cloth. The source may lie outside the picture.
    """
    source_y, source_x = np.moveaxis(composed.source_yx[box], -1, 0)
    found = source_y >= 0
    rows, columns = np.indices(found.shape, dtype=np.int32)
    rows, columns = rows + np.int32(box[0].start), columns + np.int32(box[1].start)
    from_middle = np.abs(np.indices((_BLOCK_PX, _BLOCK_PX)) - (_BLOCK_PX - 1) / 2).sum(0).ravel()
    nearest = np.where(_by_block(found), from_middle, np.inf).argmin(axis=1)[:, None]
    y, x, source_y, source_x, mirrored = (
        np.take_along_axis(_by_block(values), nearest, axis=1)[:, 0]
        for values in (rows, columns, source_y, source_x, composed.mirrored[box])
    )
    offset_y, offset_x, mirrored = (
        _of_blocks(values, found.shape)
        for values in (source_y - y, np.where(mirrored, source_x + x, source_x - x), mirrored)
    )
    sources = np.stack([rows + offset_y, np.where(mirrored, offset_x - columns, offset_x + columns)], axis=-1)
    return np.where(found[..., None], sources, np.int32(-1)), mirrored


def _by_block(values: np.ndarray) -> np.ndarray:
    """(h, w, ...) as (N, B * B, ...): N blocks of B x B pixels."""
    down, across = (size // _BLOCK_PX for size in values.shape[:2])
    blocks = values.reshape(down, _BLOCK_PX, across, _BLOCK_PX, *values.shape[2:]).swapaxes(1, 2)
    return blocks.reshape(down * across, _BLOCK_PX * _BLOCK_PX, *values.shape[2:])


def _of_blocks(values: np.ndarray, size_hw: tuple[int, ...]) -> np.ndarray:
    """(N, ...) as (h, w, ...): one value for all of a block."""
    grid = values.reshape(size_hw[0] // _BLOCK_PX, size_hw[1] // _BLOCK_PX, *values.shape[1:])
    return grid.repeat(_BLOCK_PX, 0).repeat(_BLOCK_PX, 1)


@dataclass(frozen=True)
class Appearance:
    """Recovered appearance on a crop of S pixels. rgb: (S, S, 3) uint8. copied: None where nothing was copied."""

    rgb: np.ndarray
    copied: Copied | None = None


class ContentRecovery:
    """Recovers one person's appearance on a crop. Holds the network and nothing else."""

    reads_all = False  # of the crop: visible pixels are enough

    def __init__(self, network: Network, exemplars: bool = True) -> None:
        """exemplars: compose the hidden part of patches of the visible body; else the network's answer stands."""
        self._network = network
        self._exemplars = exemplars

    def __call__(
        self,
        image: np.ndarray,
        visible: np.ndarray,
        amodal: np.ndarray,
        visible_parsing: np.ndarray,
        amodal_parsing: np.ndarray,
    ) -> Appearance:
        """The body's appearance everywhere in `amodal`; values further out mean nothing.

        `image`: (S, S, 3) uint8, of which only visible pixels are read. `visible`, `amodal`: (S, S) bool.
        `visible_parsing`, `amodal_parsing`: (12, S/4, S/4) float32 probabilities.

        Hidden pixels are patches of the visible body, as far as their parts are such that may be copied and are seen
        (`parts.copy_support`); for the rest the network's own answer stands, as it does everywhere when less than a
        patch of the body is visible.
        """
        # The occluder and the background are cut away here: neither can leak into the body.
        source = image.transpose(2, 0, 1).astype(np.float32) / 255 * visible
        outputs = self._network(
            image=source[None],
            visible=visible[None, None].astype(np.float32),
            amodal=amodal[None, None].astype(np.float32),
            visible_parsing=visible_parsing[None],
            amodal_parsing=amodal_parsing[None],
        )
        guess = to_rgb(outputs["content"])
        if not self._exemplars:
            return plain_appearance(guess, amodal)
        guide = _smooth_body(np.where(visible[..., None], image, guess), amodal)
        drawn = draw_to_palette(guide, visible, amodal, visible_parsing, amodal_parsing)
        composed = compose(image, visible, amodal, drawn, visible_parsing, amodal_parsing)
        if composed is None:
            return plain_appearance(guess, amodal)
        support = copy_support(visible, visible_parsing, amodal_parsing)
        share = np.asarray(Image.fromarray(support).resize(visible.shape[::-1], Image.Resampling.BILINEAR))
        smooth_guide = guide + np.float32(_PALETTE_SHARE) * (drawn.astype(np.float32) - guide)
        composed = replace(composed, rgb=_led_by(smooth_guide, composed.rgb, image, visible, amodal))
        return as_appearance(composed, image, visible, amodal, share, guess)


def _led_by(
    guide: np.ndarray, rgb: np.ndarray, image: np.ndarray, visible: np.ndarray, amodal: np.ndarray
) -> np.ndarray:
    """(S, S, 3) float32: a composed body whose smooth part is in part the guide's, `_SMOOTH_SHARE` of it.

    guide: (S, S, 3) float32.
    """
    whole = np.where(visible[..., None], image, np.rint(rgb.clip(0, 255)).astype(np.uint8))
    off = guide - _smooth_body(whole, amodal)
    return (rgb + np.float32(_SMOOTH_SHARE) * off).clip(0, 255)


def _smooth_body(rgb: np.ndarray, amodal: np.ndarray) -> np.ndarray:
    """(S, S, 3) uint8, as smooth within the body as the guide is; outside its box as it was."""
    body, smoothed = _box_of(amodal, 0), rgb.copy()
    smoothed[body] = smooth(rgb[body], amodal[body], _GUIDE_SIGMA_PX)
    return smoothed


def as_appearance(
    composed: Composed, image: np.ndarray, known: np.ndarray, region: np.ndarray, share: np.ndarray, guess: np.ndarray,
    *, copy_share: float = _COPY_SHARE, seam_reach_px: int = _SEAM_REACH_PX,
) -> Appearance:  # fmt: skip
    """The composed part of a region, mixed with a guess, joined to what is known around it.

    share: (S, S) float32, 0 to 1, how far each pixel may be composed; copy_share: how much of such a pixel is; guess:
    (S, S, 3) uint8, what the rest is; seam_reach_px: see `join_seam`.
    """
    share = np.where(composed.source_yx[..., 0] >= 0, share, np.float32(0))
    mixed = guess + copy_share * share[..., None] * (composed.rgb - guess)
    mixed[known] = image[known]
    # all that follows happens near what is hidden
    near = _box_of(region & ~known, seam_reach_px + _EXTEND_PX)
    joined = join_seam(mixed[near], known[near], region[near], seam_reach_px)
    rgb = np.rint(mixed.clip(0, 255)).astype(np.uint8)
    rgb[near] = np.rint(joined.clip(0, 255)).astype(np.uint8)
    rgb[near] = extend_colours(rgb[near], region[near], _EXTEND_PX)
    return Appearance(rgb, Copied.of(composed, image, known, share))


def _box_of(mask: np.ndarray, margin_px: int) -> tuple[slice, slice]:
    """The box of an (S, S) mask with a margin, as slices; empty for an empty mask."""
    if not mask.any():
        return slice(0, 0), slice(0, 0)
    x0, y0, x1, y1 = mask_to_box_xyxy(mask)
    return Region(y0, x0, y1, x1).grow(margin_px, mask.shape).slices


def plain_appearance(guess: np.ndarray, region: np.ndarray) -> Appearance:
    """A guess, (S, S, 3) uint8, as it is within the region."""
    return Appearance(extend_colours(guess, region, _EXTEND_PX))


def to_rgb(content: np.ndarray) -> np.ndarray:
    """(1, 3, S, S) in about [0, 1] -> (S, S, 3) uint8."""
    return np.rint(content[0].transpose(1, 2, 0).clip(0, 1) * 255).astype(np.uint8)


def smooth(rgb: np.ndarray, inside: np.ndarray, sigma_px: float) -> np.ndarray:
    """(S, S, 3) uint8: Gaussian means over the pixels inside a mask alone; 0 where none is near."""
    blur = ImageFilter.GaussianBlur(sigma_px)
    total = np.asarray(Image.fromarray(rgb * inside[..., None]).filter(blur)).astype(np.float32)
    share = np.asarray(Image.fromarray(np.where(inside, np.uint8(255), np.uint8(0))).filter(blur))
    return np.rint((255 * total / np.maximum(share, 1)[..., None]).clip(0, 255)).astype(np.uint8)


def join_seam(rgb: np.ndarray, known: np.ndarray, region: np.ndarray, reach_px: int) -> np.ndarray:
    """(S, S, 3) float32: hidden colours led over to the known ones beside them, over `reach_px` pixels.

    What each hidden pixel at the border is off from the mean of its known neighbours is taken back in part, there and,
    as the mean of the pixels before, further in: the membrane of Poisson editing (Perez et al. 2003), ended early.
    rgb: (S, S, 3) float32; known, region: (S, S) bool.
    """
    joined, left = rgb.copy(), region & ~known
    steps, ring = np.zeros_like(rgb), known
    for number in range(reach_px):
        (y, x), means = neighbour_means(steps if number else rgb, ring, left)
        steps[y, x] = means if number else means - rgb[y, x]
        joined[y, x] += np.float32(_SEAM_SHARE * (1 - number / reach_px)) * steps[y, x]
        ring = np.zeros_like(known)
        ring[y, x] = True
        left = left & ~ring
    return joined


def visible_in_crop(
    photo: np.ndarray, visible_part: np.ndarray, region: Region, crop: SquareCrop
) -> tuple[np.ndarray, np.ndarray]:
    """The visible body on a crop: (S, S, 3) uint8, means over visible pixels of the photo alone, and (S, S) bool.

    At the body's edge the crop's own pixels would be means of the body and of what hides it. A crop's pixel is visible
    where half of it is, and of a body too thin for that wherever any of it is. visible_part: (h, w) bool in `region`.
    """
    here = replace(crop, center_xy=(crop.center_xy[0] - region.left, crop.center_xy[1] - region.top))
    coverage = here.extract(visible_part.view(np.uint8) * np.uint8(255))
    visible = coverage >= 128
    if not visible.any():
        visible = coverage > 0
    part = Image.fromarray(photo[region.slices])
    part.paste((0, 0, 0), mask=Image.fromarray(~visible_part))
    total = here.extract(np.asarray(part))
    means = (total * np.float32(255) / np.maximum(coverage, 1)[..., None]).clip(0, 255)
    return np.rint(means).astype(np.uint8), visible


def hidden_on_photo(
    appearance: Appearance, crop: SquareCrop, photo: np.ndarray, visible_part: np.ndarray, invisible_part: np.ndarray,
    region: Region,
) -> tuple[Region, np.ndarray]:  # fmt: skip
    """Recovered appearance at photo size, only for the box of what is hidden, with the photo's own detail.

    `photo`: (H, W, 3) uint8, read only where visible; `visible_part`, `invisible_part`: (h, w) bool in `region`.
    Returns the box and its (h', w', 3) uint8 colours; an empty box when nothing is hidden.
    """
    if not invisible_part.any():
        return Region(0, 0, 0, 0), np.zeros((0, 0, 3), dtype=np.uint8)
    x0, y0, x1, y1 = mask_to_box_xyxy(invisible_part)
    box = Region(region.top + y0, region.left + x0, region.top + y1, region.left + x1)
    box, colours = crop.to_photo(appearance.rgb, photo.shape[:2], box, crisp=True)
    if appearance.copied is not None and crop.scale > 1:
        _add_detail(colours, box, appearance.copied, crop, photo, visible_part, invisible_part, region)
    return box, colours


def _add_detail(
    colours: np.ndarray, box: Region, copied: Copied, crop: SquareCrop, photo: np.ndarray, visible_part: np.ndarray,
    invisible_part: np.ndarray, region: Region,
) -> None:  # fmt: skip
    """Add to copied pixels, in place, what the photo shows at their source beyond the crop's resolution.

    The idea of contextual residual aggregation (Yi et al. 2020, arXiv 2005.09704): the photo minus the crop grown to
    its size is carried from where a pixel was copied from. `colours`: (h', w', 3) uint8 of `box`.
    """
    wanted = copied.weight > 0
    if not wanted.any():
        return
    rows, columns = copied.source_yx[wanted].T
    edges = crop.to_photo_xyxy((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
    around = Region(int(edges[1]), int(edges[0]), int(edges[3]) + 1, int(edges[2]) + 1).intersect(region)
    around, low = crop.to_photo(copied.image, photo.shape[:2], around, crisp=True)
    if around.is_empty:
        return
    # places are counted along the rows: one number a pixel is found several times as fast as two
    height, width = around.size_hw
    picture, low, visible = (
        np.ascontiguousarray(whole).reshape(height * width, -1)
        for whole in (photo[around.slices], low, visible_part[around.counted_from(region).slices])
    )
    from_rows, signs, from_columns, weights = _sources_on_photo(copied, crop)
    cell_rows, cell_columns = _cells(box.top, box.bottom, crop, 1), _cells(box.left, box.right, crop, 0)
    flat = colours.reshape(-1, 3)
    for places in _strips(invisible_part[box.counted_from(region).slices]):
        y, x = np.divmod(places, np.int32(colours.shape[1]))
        cells = cell_rows.take(y) * np.int32(crop.size_px) + cell_columns.take(x)
        weight = weights.take(cells)
        y += from_rows.take(cells) + np.int32(box.top - around.top)
        x = signs.take(cells) * (x + np.int32(box.left)) + from_columns.take(cells) - np.int32(around.left)
        usable = (weight > 0) & (y >= 0) & (y < height) & (x >= 0) & (x < width)
        source = np.where(usable, y * np.int32(width) + x, 0)
        usable &= visible.take(source)
        places, source, weight = (values[usable] for values in (places, source, weight))
        detail = np.subtract(picture.take(source, axis=0), low.take(source, axis=0), dtype=np.float32)
        if len(detail):
            most = _MOST_DETAIL * np.abs(detail).mean()
            np.clip(detail, -most, most, out=detail)
        detail *= weight[:, None]
        detail += flat.take(places, axis=0)
        flat[places] = np.rint(detail).clip(0, 255).astype(np.uint8)


def _sources_on_photo(copied: Copied, crop: SquareCrop) -> tuple[np.ndarray, ...]:
    """For each cell of the crop, flat: whole photo pixels from a place to its source, and what its detail counts.

    Row y comes from row y + from_rows, column x from signs * x + from_columns: where the copy is mirrored, columns run
    backwards. Returns from_rows, signs, from_columns, (S * S,) int32, and weights, (S * S,) float32.
    """
    rows, columns = np.mgrid[: crop.size_px, : crop.size_px]
    source_y, source_x = np.moveaxis(copied.source_yx, -1, 0)
    from_rows = np.rint((source_y - rows) * crop.scale)
    straight = np.rint((source_x - columns) * crop.scale)
    # the middles of both cells change places, and pixel x covers [x, x + 1)
    backwards = np.rint(2 * crop.left_top[0] + (source_x + columns + 1) * crop.scale) - 1
    from_columns = np.where(copied.mirrored, backwards, straight)
    signs = np.where(copied.mirrored, -1, 1)
    whole = (values.astype(np.int32).ravel() for values in (from_rows, signs, from_columns))
    return (*whole, copied.weight.ravel())


def _strips(mask: np.ndarray) -> Iterator[np.ndarray]:
    """Places of a mask's pixels, (N,) int32 counted along the rows, a strip of the mask at a time."""
    rows = max(1, _STRIP_PX // mask.shape[1])
    for start in range(0, len(mask), rows):
        yield (np.flatnonzero(mask[start : start + rows]) + start * mask.shape[1]).astype(np.int32)


def _cells(start: int, stop: int, crop: SquareCrop, axis: int) -> np.ndarray:
    """(stop - start,) int32: the crop's pixels that photo pixels' centres lie in, along x (axis 0) or y (axis 1)."""
    coordinates = (np.arange(start, stop) + 0.5 - crop.left_top[axis]) / crop.scale
    return np.floor(coordinates).clip(0, crop.size_px - 1).astype(np.int32)
