"""Detail of the photo beyond a crop's resolution, transferred to copied pixels. numpy in, numpy out.

The idea of contextual residual aggregation (Yi et al. 2020, arXiv 2005.09704): the difference between the photo and its
enlarged crop follows the copies, so that recovered cloth is as sharp as the cloth beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deocclude.imaging.arrays import Float32, ImageU8, Int, Mask, Probability, Scalar
from deocclude.imaging.crop import Region, SquareCrop
from deocclude.imaging.exemplar_synthesis import Composed, aligned_box, window_all

_Int32 = NDArray[np.int32]

_STRIP_PX = 200_000  # pixels that are processed at once
# Colour difference (0 to 255) of source and copy from which no detail is transferred: of means of cells, since copies
# are smoother than their sources, and of single pixels.
_MAX_CELL_DIFFERENCE = 12.0
_MAX_PIXEL_DIFFERENCE = 36.0
# Detail is limited to this many times its mean: a button or a stitch would otherwise repeat in every block.
_MOST_DETAIL = 3.0
_BLOCK_PX = 8  # in crop pixels: detail is transferred in blocks of this side
_CELL_PX = 4  # in crop pixels: side of the cells whose mean colours are compared


@dataclass(frozen=True)
class Copied:
    """Sources of copied pixels on a crop of S pixels a side, for the transfer of detail.

    Attributes:
        image: (S, S, 3) uint8: the crop that was copied from.
        source_yx: (S, S, 2) int32, -1 where nothing was copied.
        mirrored: (S, S) bool: copied from the mirror image.
        weight: (S, S) float32, 0 to 1: weight of the detail.
    """

    image: ImageU8
    source_yx: _Int32
    mirrored: Mask
    weight: Float32

    @classmethod
    def of(cls, composed: Composed, image: ImageU8, known: Mask, weight: Float32) -> Copied:
        """The sources of a composed image.

        Detail gets weight 0 where a source lies beside unknown pixels, whose colours may be mixed in. Its weight falls
        where the source's colours vary otherwise than the composed ones over a few pixels, as a fold beside even cloth.

        Args:
            composed: result of exemplar synthesis.
            image: (S, S, 3) uint8.
            known: (S, S) bool.
            weight: (S, S) float32, 0 to 1: weight of each pixel's copy.
        """
        found = composed.source_yx[..., 0] >= 0
        source_yx, mirrored = composed.source_yx.copy(), composed.mirrored.copy()
        detail_weight = np.zeros(found.shape, np.float32)
        if not found.any():
            return cls(image, source_yx, mirrored, detail_weight)
        box = aligned_box(found, _BLOCK_PX)
        source_yx[box], mirrored[box] = _block_sources(composed, box)
        inside: Mask = np.all((source_yx[box] >= 0) & (source_yx[box] < len(known)), axis=-1)
        y, x = np.moveaxis(np.where(inside[..., None], source_yx[box], 0), -1, 0)
        clean = inside & window_all(known, 1)[y, x]
        difference = composed.rgb[box] - image[y, x]
        counted = clean[..., None].astype(np.float32)
        total, count = _by_block(difference * counted).sum(1), _by_block(counted).sum(1)
        # a whole block may be brighter than its source
        difference -= _repeat_over_blocks(total / np.maximum(count, 1), clean.shape)
        detail_weight[box] = np.where(clean, weight[box] * _similarity(difference * counted, counted), 0)
        return cls(image, source_yx, mirrored, detail_weight)


def add_detail(
    colours: ImageU8, box: Region, copied: Copied, crop: SquareCrop, photo: ImageU8, visible_part: Mask,
    invisible_part: Mask, region: Region,
) -> None:  # fmt: skip
    """Add to copied pixels, in place, the detail that the photo has at their source beyond the crop's resolution.

    Args:
        colours: (h', w', 3) uint8 of `box`.
        box: the hidden part's box.
        copied: sources of the copied pixels.
        crop: the crop of the appearance.
        photo: (H, W, 3) uint8.
        visible_part: (h, w) bool in `region`.
        invisible_part: (h, w) bool in `region`.
        region: the body's region of the photo.
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
    # one row-major index a pixel is several times faster than two coordinates
    (height, width), photo_width = around.size_hw, photo.shape[1]
    # views: a copy of the photo's part would be large
    picture, enlarged = photo.reshape(-1, 3), low.reshape(-1, 3)
    visible: Mask = visible_part[around.counted_from(region).slices].ravel()
    from_rows, signs, from_columns, weights = _sources_on_photo(copied, crop)
    cell_rows = _crop_pixels_at(box.top, box.bottom, crop, axis=1)
    cell_columns = _crop_pixels_at(box.left, box.right, crop, axis=0)
    flat = colours.reshape(-1, 3)
    for places in _strips(invisible_part[box.counted_from(region).slices]):
        y, x = np.divmod(places, np.int32(colours.shape[1]))
        cells = cell_rows.take(y) * np.int32(crop.size_px) + cell_columns.take(x)
        weight = weights.take(cells)
        y += from_rows.take(cells) + np.int32(box.top - around.top)
        x = signs.take(cells) * (x + np.int32(box.left)) + from_columns.take(cells) - np.int32(around.left)
        usable = (weight > 0) & (y >= 0) & (y < height) & (x >= 0) & (x < width)
        source: Int = np.where(usable, y * np.int32(width) + x, 0)
        usable &= visible.take(source)
        places, source, weight = places[usable], source[usable], weight[usable]
        on_photo = source + source // width * np.int32(photo_width - width)
        on_photo += np.int32(around.top * photo_width + around.left)
        detail = np.subtract(picture.take(on_photo, axis=0), enlarged.take(source, axis=0), dtype=np.float32)
        if len(detail):
            most = _MOST_DETAIL * np.abs(detail).mean()
            np.clip(detail, -most, most, out=detail)
        detail *= weight[:, None]
        detail += flat.take(places, axis=0)
        flat[places] = np.rint(detail).clip(0, 255).astype(np.uint8)


def _sources_on_photo(copied: Copied, crop: SquareCrop) -> tuple[_Int32, _Int32, _Int32, Float32]:
    """For each crop pixel, whole image pixels from a place to its source, and the weight of the source's detail.

    Row y is copied from row y + from_rows, column x from column signs * x + from_columns: in mirrored copies, columns
    run backwards.

    Returns:
        from_rows, signs, from_columns, (S * S,) int32 each, and weights, (S * S,) float32.
    """
    rows, columns = np.mgrid[: crop.size_px, : crop.size_px]
    source_y, source_x = np.moveaxis(copied.source_yx, -1, 0)
    from_rows = np.rint((source_y - rows) * crop.scale)
    straight = np.rint((source_x - columns) * crop.scale)
    # both pixel centres are mirrored, and pixel x covers [x, x + 1)
    backwards = np.rint(2 * crop.left_top[0] + (source_x + columns + 1) * crop.scale) - 1
    from_columns = np.where(copied.mirrored, backwards, straight)
    signs = np.where(copied.mirrored, -1, 1)
    rows_i32, signs_i32, columns_i32 = (values.astype(np.int32).ravel() for values in (from_rows, signs, from_columns))
    return rows_i32, signs_i32, columns_i32, copied.weight.ravel()


def _strips(mask: Mask) -> Iterator[_Int32]:
    """Indices of a mask's pixels in row-major order, (N,) int32, one strip of the mask at a time."""
    rows = max(1, _STRIP_PX // mask.shape[1])
    for start in range(0, len(mask), rows):
        yield (np.flatnonzero(mask[start : start + rows]) + start * mask.shape[1]).astype(np.int32)


def _crop_pixels_at(start: int, stop: int, crop: SquareCrop, axis: int) -> _Int32:
    """(stop - start,) int32: the crop pixels that hold the centres of image pixels, along x (axis 0) or y (axis 1)."""
    coordinates = (np.arange(start, stop) + 0.5 - crop.left_top[axis]) / crop.scale
    cells: _Int32 = np.floor(coordinates).clip(0, crop.size_px - 1).astype(np.int32)
    return cells


def _block_sources(composed: Composed, box: tuple[slice, slice]) -> tuple[Int, Mask]:
    """For each pixel of a box of whole blocks, the pixel whose detail is transferred to it.

    Every pixel of a block follows the copy nearest to the block's centre: neighbouring pixels often have different
    sources, and their details side by side would make a mesh instead of cloth. A source may lie outside the image.

    Returns:
        (h, w, 2) int32 sources, -1 where nothing was copied, and (h, w) bool mirrored.
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
        _repeat_over_blocks(values, found.shape)
        for values in (source_y - y, np.where(mirrored, source_x + x, source_x - x), mirrored)
    )
    sources = np.stack([rows + offset_y, np.where(mirrored, offset_x - columns, offset_x + columns)], axis=-1)
    return np.where(found[..., None], sources, np.int32(-1)), mirrored


def _similarity(difference: Float32, counted: Float32) -> Probability:
    """(h, w) float32: 1 where source and copy have the same colours, 0 from the largest allowed difference on.

    difference: (h, w, 3) float32, 0 where not counted; counted: (h, w, 1) float32, 0 or 1; h and w hold whole cells.
    """
    height, width = counted.shape[:2]
    total, count = (
        values.reshape(height // _CELL_PX, _CELL_PX, width // _CELL_PX, _CELL_PX, -1).sum((1, 3))
        for values in (difference, counted)
    )
    cells = np.clip(1 - np.abs(total / np.maximum(count, 1)).max(axis=-1) / np.float32(_MAX_CELL_DIFFERENCE), 0, 1)
    spread = np.asarray(Image.fromarray(cells).resize((width, height), Image.Resampling.BILINEAR))
    pixels = np.clip(1 - np.abs(difference).max(axis=-1) / np.float32(_MAX_PIXEL_DIFFERENCE), 0, 1)
    similarity: Probability = np.minimum(spread, pixels)
    return similarity


def _by_block(values: NDArray[Scalar]) -> NDArray[Scalar]:
    """(h, w, ...) as (N, B * B, ...): N blocks of B x B pixels."""
    down, across = (size // _BLOCK_PX for size in values.shape[:2])
    blocks = values.reshape(down, _BLOCK_PX, across, _BLOCK_PX, *values.shape[2:]).swapaxes(1, 2)
    by_block: NDArray[Scalar] = blocks.reshape(down * across, _BLOCK_PX * _BLOCK_PX, *values.shape[2:])
    return by_block


def _repeat_over_blocks(values: NDArray[Scalar], size_hw: tuple[int, ...]) -> NDArray[Scalar]:
    """(N, ...) as (h, w, ...): each block's value for all of its pixels."""
    grid = values.reshape(size_hw[0] // _BLOCK_PX, size_hw[1] // _BLOCK_PX, *values.shape[1:])
    return grid.repeat(_BLOCK_PX, 0).repeat(_BLOCK_PX, 1)
