"""SquareCrop: a square window of an image, resampled to a fixed size, and its inverse.

Coordinates are continuous: pixel i covers [i, i + 1) and has its centre at i + 0.5. Crop coordinate u and image
coordinate x are related by x = left + u * scale, where `left` is the window's left edge and `scale` is image pixels per
crop pixel. Resampling works in strips and on the needed region alone: a 12-megapixel photo costs no full-size
temporary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deocclude.errors import InputError
from deocclude.imaging.arrays import Array, Float32, ImageU8, Mask, Scalar
from deocclude.imaging.boxes import mask_to_box_xyxy

# Smallest side of a window, in image pixels: a smaller window shows too little of a person.
MIN_SIDE_PX = 16.0
_STRIP_PX = 2_000_000  # pixels that are resampled at once
_MARGIN = 2  # pixels that a bilinear kernel can reach beyond its window

# Network input outside the photo, as in training. Grey: the body ends at the image border. Magenta, which photos hardly
# contain: the body continues there, occluded.
OUTSIDE_GREY = 128
BEYOND_RGB = (255, 0, 255)


@dataclass(frozen=True)
class Region:
    """A rectangle of whole pixels, ends excluded."""

    top: int
    left: int
    bottom: int
    right: int

    @classmethod
    def of_mask(cls, mask: Mask) -> Region:
        """The smallest region around the True pixels of a mask.

        Args:
            mask: (H, W) bool.

        Raises:
            InputError: the mask has no True pixel.
        """
        x0, y0, x1, y1 = mask_to_box_xyxy(mask)
        return cls(y0, x0, y1, x1)

    @property
    def slices(self) -> tuple[slice, slice]:
        """Row and column slices: `array[region.slices]` is the region's part of an (H, W, ...) array."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.bottom - self.top, self.right - self.left

    @property
    def is_empty(self) -> bool:
        """Whether the region holds no pixel."""
        return self.bottom <= self.top or self.right <= self.left

    def intersect(self, other: Region) -> Region:
        """The region of the pixels in both regions; it may be empty."""
        return Region(
            max(self.top, other.top),
            max(self.left, other.left),
            min(self.bottom, other.bottom),
            min(self.right, other.right),
        )

    def counted_from(self, whole: Region) -> Region:
        """The same rectangle, in the pixels of an array that holds only the region `whole`."""
        return Region(self.top - whole.top, self.left - whole.left, self.bottom - whole.top, self.right - whole.left)

    def grow(self, margin_px: int, size_hw: tuple[int, int]) -> Region:
        """The region with a margin on each side, cut at the image border.

        Args:
            margin_px: pixels added on each side.
            size_hw: the image's size.
        """
        grown = Region(self.top - margin_px, self.left - margin_px, self.bottom + margin_px, self.right + margin_px)
        return grown.intersect(Region(0, 0, *size_hw))


@dataclass(frozen=True)
class SquareCrop:
    """A square window of an image, resampled to `size_px` pixels a side. The window may leave the image.

    Attributes:
        center_xy: the window's centre in image pixels.
        side_px: the window's side in image pixels.
        size_px: the crop's side in crop pixels.
    """

    center_xy: tuple[float, float]
    side_px: float
    size_px: int

    @classmethod
    def from_box_xyxy(cls, box_xyxy: Sequence[float], scale: float, size_px: int) -> SquareCrop:
        """The window centred on a box.

        Args:
            box_xyxy: in image pixels.
            scale: the window's side over the box's longer side. The side is at least MIN_SIDE_PX.
            size_px: the crop's side in crop pixels.

        Raises:
            InputError: the box is empty.
        """
        x0, y0, x1, y1 = (float(edge) for edge in box_xyxy)
        if not (x1 > x0 and y1 > y0):
            raise InputError(f"a box must have x0 < x1 and y0 < y1, got {tuple(box_xyxy)}")
        side_px = max(scale * max(x1 - x0, y1 - y0), MIN_SIDE_PX)
        return cls(((x0 + x1) / 2, (y0 + y1) / 2), side_px, size_px)

    @property
    def scale(self) -> float:
        """Image pixels per crop pixel; above 1 the crop is a reduction."""
        return self.side_px / self.size_px

    @property
    def left_top(self) -> tuple[float, float]:
        """The window's left and top edge in image coordinates."""
        return self.center_xy[0] - self.side_px / 2, self.center_xy[1] - self.side_px / 2

    def to_photo_xyxy(self, box_xyxy: Sequence[float]) -> tuple[float, float, float, float]:
        """A box of crop coordinates in image coordinates."""
        left, top = self.left_top
        x0, y0, x1, y1 = box_xyxy
        return left + x0 * self.scale, top + y0 * self.scale, left + x1 * self.scale, top + y1 * self.scale

    def from_photo_xyxy(self, box_xyxy: Sequence[float]) -> tuple[float, float, float, float]:
        """A box of image coordinates in crop coordinates: the inverse of `to_photo_xyxy`."""
        left, top = self.left_top
        x0, y0, x1, y1 = box_xyxy
        return (x0 - left) / self.scale, (y0 - top) / self.scale, (x1 - left) / self.scale, (y1 - top) / self.scale

    def region(self, size_hw: tuple[int, int]) -> Region:
        """The image pixels whose centre lies in the window; empty where the window misses the image."""
        left, top = self.left_top
        window = Region(
            math.ceil(top - 0.5),
            math.ceil(left - 0.5),
            math.ceil(top + self.side_px - 0.5),
            math.ceil(left + self.side_px - 0.5),
        )
        return window.intersect(Region(0, 0, *size_hw))

    def inside_photo(self, size_hw: tuple[int, int]) -> Mask:
        """(size_px, size_px) bool: the crop pixels whose centre lies in the image."""
        left, top = self.left_top
        centres = np.arange(self.size_px) + 0.5
        rows, columns = top + centres * self.scale, left + centres * self.scale
        return ((rows >= 0) & (rows < size_hw[0]))[:, None] & ((columns >= 0) & (columns < size_hw[1]))[None, :]

    def extract(self, array: NDArray[Scalar], fill: float = 0, *, within: Region | None = None) -> NDArray[Scalar]:
        """Resample the window. Reductions average areas, enlargements are bilinear.

        Args:
            array: (H, W) or (H, W, C), bool, uint8 or float32. A bool mask is resampled as coverage and cut at one
                half.
            fill: the value outside the image.
            within: the part of the crop to compute, in crop pixels; None: all of it.

        Returns:
            (size_px, size_px) or (size_px, size_px, C), or the size of `within`; same type as `array`.
        """
        if array.dtype == bool:
            coverage = self.extract(np.where(array, np.uint8(255), np.uint8(0)), 255 * fill, within=within)
            return (coverage >= 128).astype(array.dtype, copy=False)
        wanted = within or Region(0, 0, self.size_px, self.size_px)
        left, top, right, bottom = self.to_photo_xyxy((wanted.left, wanted.top, wanted.right, wanted.bottom))
        # Averaging whole blocks first makes the crop of a large photo cheap. The exact resampling does the last factor
        # of 2.
        factor = max(1, int(self.scale / 2))
        source = Region(
            math.floor(top) - _MARGIN * factor,
            math.floor(left) - _MARGIN * factor,
            math.ceil(bottom) + _MARGIN * factor,
            math.ceil(right) + _MARGIN * factor,
        )
        reduced = _reduce_blocks(array, source, factor, fill)
        x0, x1 = ((edge - source.left) / factor for edge in (left, right))
        y0, y1 = ((edge - source.top) / factor for edge in (top, bottom))
        return _resample(reduced, wanted.size_hw, (x0, y0, x1, y1))

    def resampled_from(self, other: SquareCrop, array: NDArray[Scalar], size_px: int | None = None) -> NDArray[Scalar]:
        """Resample an array from the window of another crop to this window.

        Args:
            other: the crop whose window `array` covers.
            array: (S, S) or (S, S, C).
            size_px: side of the result; None: the side of `array`.

        Returns:
            (size_px, size_px[, C]), 0 outside the window of `other`.
        """
        cells = array.shape[0]
        scale = other.side_px / cells
        (left, top), (other_left, other_top) = self.left_top, other.left_top
        x0, y0, side = (left - other_left) / scale, (top - other_top) / scale, self.side_px / scale
        beyond = math.ceil(max(0.0, -x0, -y0, x0 + side - array.shape[1], y0 + side - array.shape[0]))
        if beyond:
            array = np.pad(array, [(beyond, beyond)] * 2 + [(0, 0)] * (array.ndim - 2))
            x0, y0 = x0 + beyond, y0 + beyond
        return _resample(array, (size_px or cells,) * 2, (x0, y0, x0 + side, y0 + side))

    def regridded(self, array: NDArray[Scalar], size_px: int) -> NDArray[Scalar]:
        """Resample an array of this window to another grid of the same window.

        Args:
            array: (S, S) or (S, S, C).
            size_px: side of the result.

        Returns:
            (size_px, size_px[, C]) of the same type.
        """
        if array.dtype == bool:
            coverage = self.regridded(array.view(np.uint8) * np.uint8(255), size_px)
            return (coverage >= 128).astype(array.dtype, copy=False)
        return _resample(array, (size_px, size_px), (0, 0, array.shape[1], array.shape[0]))

    def to_photo(
        self, crop_array: NDArray[Scalar], size_hw: tuple[int, int], within: Region | None = None,
        *, crisp: bool = False,
    ) -> tuple[Region, NDArray[Scalar]]:  # fmt: skip
        """Resample the window to image pixels: the inverse of `extract`.

        Args:
            crop_array: (S, S) or (S, S, C), bool, uint8 or float32. S may differ from size_px: a coarser grid of the
                window.
            size_hw: the image's size.
            within: the part of the image to compute.
            crisp: enlarge with a cubic kernel, for colours: bilinear enlargement loses an eighth of their detail. A
                cubic kernel overshoots and is unsuitable for masks.

        Returns:
            The region of the image, and the values of its pixels: (h, w) or (h, w, C) of the same type.
        """
        if crop_array.dtype == bool:
            region, coverage = self.to_photo(crop_array.view(np.uint8) * np.uint8(255), size_hw, within)
            return region, (coverage >= 128).astype(crop_array.dtype, copy=False)
        region = self.region(size_hw)
        if within is not None:
            region = region.intersect(within)
        height, width = region.size_hw
        out = np.empty((max(height, 0), max(width, 0), *crop_array.shape[2:]), dtype=crop_array.dtype)
        if region.is_empty:
            return region, out
        scale = self.side_px / crop_array.shape[0]
        if crisp and scale > 1:
            crop_array = _sharpened_for_cubic(crop_array).astype(crop_array.dtype, copy=False)
        left, top = self.left_top
        # Image pixels at the window's border may reach past it by half a pixel: the crop's border is repeated there.
        margin = math.ceil(0.5 / scale) + (2 if crisp else 1)
        padded = np.pad(crop_array, [(margin, margin)] * 2 + [(0, 0)] * (crop_array.ndim - 2), mode="edge")
        x0, x1 = ((edge - left) / scale + margin for edge in (region.left, region.right))
        rows = max(1, _STRIP_PX // width)
        for start in range(0, height, rows):
            stop = min(start + rows, height)
            y0, y1 = ((region.top + edge - top) / scale + margin for edge in (start, stop))
            # the rows that the kernels of this strip can reach
            support = math.ceil((2 if crisp else 1) * max(1.0, 1 / scale)) + 1
            first, past = max(0, math.floor(y0) - support), math.ceil(y1) + support
            out[start:stop] = _resample(
                padded[first:past], (stop - start, width), (x0, y0 - first, x1, y1 - first),
                Image.Resampling.BICUBIC if crisp else Image.Resampling.BILINEAR,
            )  # fmt: skip
        return region, out


# Weights of a pixel and its neighbours after enlargement by Pillow's cubic kernel and `extract`: the integral of the
# cubic times the triangle kernel of `extract`.
_ROUND_TRIP_KERNEL = np.array([-0.0167, 0.15, 0.7334, 0.15, -0.0167], dtype=np.float32)


def _sharpened_for_cubic(colours: Array) -> ImageU8:
    """Colours that give about the input again after cubic enlargement and `extract`. (S, S, C) uint8.

    A crop pixel is a mean over image pixels. A cubic kernel takes it for the value at a point, which flattens texture
    by a twelfth. One step of back-projection (Irani and Peleg 1991) compensates; more steps would ring.
    """
    exact: Float32 = colours.astype(np.float32)
    for _ in range(2):  # down the columns, then along the rows
        padded = np.pad(exact, [(2, 2), (0, 0), (0, 0)], mode="edge")
        round_trip = sum(padded[shift : shift + len(exact)] * weight for shift, weight in enumerate(_ROUND_TRIP_KERNEL))
        exact = (2 * exact - round_trip).swapaxes(0, 1)
    return np.rint(exact).clip(0, 255).astype(np.uint8)


def _reduce_blocks(array: NDArray[Scalar], source: Region, factor: int, fill: float) -> NDArray[Scalar]:
    """Average blocks of `factor` x `factor` pixels of `source`; pixels outside the array count as `fill`.

    Returns:
        (ceil(h / factor), ceil(w / factor), ...) of the array's type.
    """
    height, width = source.size_hw
    out_hw = -(-height // factor), -(-width // factor)
    out = np.full((*out_hw, *array.shape[2:]), fill, dtype=array.dtype)
    whole = Region(0, 0, *array.shape[:2])
    columns = max(1, min(source.right, whole.right) - max(source.left, 0))
    block_rows = max(1, _STRIP_PX // (columns * factor))
    for start in range(0, out_hw[0], block_rows):
        stop = min(start + block_rows, out_hw[0])
        strip = Region(
            source.top + start * factor, source.left, source.top + stop * factor, source.left + out_hw[1] * factor
        )
        inner = strip.intersect(whole)
        if inner.is_empty:
            continue
        pixels = array[inner.slices]
        # Blocks that the image border cuts are completed: each average then weighs image and fill by their area.
        before = (inner.top - strip.top) % factor, (inner.left - strip.left) % factor
        after = (strip.bottom - inner.bottom) % factor, (strip.right - inner.right) % factor
        if factor > 1 and (any(before) or any(after)):
            pads = [(before[0], after[0]), (before[1], after[1])] + [(0, 0)] * (array.ndim - 2)
            pixels = np.pad(pixels, pads, constant_values=array.dtype.type(fill))
        block_top = start + (inner.top - strip.top) // factor
        block_left = (inner.left - strip.left) // factor
        blocks = pixels.shape[0] // factor, pixels.shape[1] // factor
        reduced = pixels if factor == 1 else _map_planes(pixels, lambda plane: plane.reduce(factor))
        out[block_top : block_top + blocks[0], block_left : block_left + blocks[1]] = reduced
    return out


def _resample(
    array: NDArray[Scalar], size_hw: tuple[int, int], box_xyxy: tuple[float, float, float, float],
    kernel: Image.Resampling = Image.Resampling.BILINEAR,
) -> NDArray[Scalar]:  # fmt: skip
    """Resample the part `box_xyxy` of an array to `size_hw`."""
    size_wh = size_hw[1], size_hw[0]
    return _map_planes(array, lambda plane: plane.resize(size_wh, kernel, box=box_xyxy))


def _map_planes(array: NDArray[Scalar], change: Callable[[Image.Image], Image.Image]) -> NDArray[Scalar]:
    """Apply a Pillow operation to an (H, W) or (H, W, C) array of uint8 or float32."""
    if array.ndim == 2 or (array.dtype == np.uint8 and array.shape[2] == 3):
        return np.asarray(change(Image.fromarray(np.ascontiguousarray(array))))
    planes = [_map_planes(array[..., channel], change) for channel in range(array.shape[2])]
    return np.stack(planes, axis=-1)
