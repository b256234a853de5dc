"""What a photo has beyond a crop's resolution, carried to the pixels that were copied. numpy in, numpy out.

The idea of contextual residual aggregation (Yi et al. 2020, arXiv 2005.09704): the photo minus the crop grown to its
size follows the copies, so that recovered cloth is as sharp as the cloth beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from deocclude.imaging.crop import Region, SquareCrop
from deocclude.imaging.exemplar_synthesis import Composed, aligned_box, window_all

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
        box = aligned_box(found, _BLOCK_PX)
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


def add_detail(
    colours: np.ndarray, box: Region, copied: Copied, crop: SquareCrop, photo: np.ndarray, visible_part: np.ndarray,
    invisible_part: np.ndarray, region: Region,
) -> None:  # fmt: skip
    """Add to copied pixels, in place, what the photo shows at their source beyond the crop's resolution.

    `colours`: (h', w', 3) uint8 of `box`; the others as `recovery.hidden_on_photo` has them.
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
