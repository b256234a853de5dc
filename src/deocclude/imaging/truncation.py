"""People truncated by the image border, and a canvas that has room for the whole body."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deocclude.imaging.arrays import Mask, Scalar
from deocclude.imaging.crop import BEYOND_RGB, Region

# A body that meets a border along less than this fraction of its longer side may just touch it: it is not truncated.
_LEAST_CONTACT = 0.06
# How far a body may continue beyond a border: this many times the longer side of its visible part; half as far beyond
# each of two opposite borders.
_REACH = 1.6


@dataclass(frozen=True)
class Truncation:
    """The image borders that truncate a body."""

    top: bool = False
    left: bool = False
    bottom: bool = False
    right: bool = False

    def __bool__(self) -> bool:
        """Whether any border truncates the body."""
        return self.top or self.left or self.bottom or self.right

    @property
    def edges(self) -> tuple[str, ...]:
        """Names of the borders, in the order top, left, bottom, right."""
        return tuple(name for name in ("top", "left", "bottom", "right") if getattr(self, name))


def find_truncation(body: Mask, region: Region, size_hw: tuple[int, int]) -> Truncation:
    """The image borders that truncate a body: the body meets them along more than a point.

    Args:
        body: (h, w) bool in `region`.
        region: the body's place in the image.
        size_hw: the image's size.
    """
    if not body.any():
        return Truncation()
    rows, columns = np.flatnonzero(body.any(1)), np.flatnonzero(body.any(0))
    least = max(2.0, _LEAST_CONTACT * max(np.ptp(rows) + 1, np.ptp(columns) + 1))
    h, w = size_hw

    def meets(line: Mask) -> bool:
        return bool(np.count_nonzero(line) >= least)

    return Truncation(
        region.top == 0 and meets(body[0]),
        region.left == 0 and meets(body[:, 0]),
        region.bottom == h and meets(body[-1]),
        region.right == w and meets(body[:, -1]),
    )


@dataclass(frozen=True)
class Canvas:
    """Geometry of an extended image: its size, and the place of the photo in it.

    Attributes:
        photo_region: the photo's place on the canvas.
        size_hw: the canvas's size.
    """

    photo_region: Region
    size_hw: tuple[int, int]

    @classmethod
    def around(cls, bodies: Sequence[tuple[Mask, Truncation]], size_hw: tuple[int, int]) -> Canvas:
        """A canvas with room beyond each border that truncates a body.

        Args:
            bodies: of each body its visible part, (h, w) bool, and its truncation.
            size_hw: the photo's size.
        """
        reach = {"top": 0, "left": 0, "bottom": 0, "right": 0}
        for body, truncation in bodies:
            rows, columns = np.flatnonzero(body.any(1)), np.flatnonzero(body.any(0))
            far = round(_REACH * max(np.ptp(rows) + 1, np.ptp(columns) + 1)) if rows.size else 0
            for edge in truncation.edges:
                if edge in ("top", "bottom"):
                    both = truncation.top and truncation.bottom
                else:
                    both = truncation.left and truncation.right
                reach[edge] = max(reach[edge], far // 2 if both else far)
        (h, w), top, left = size_hw, reach["top"], reach["left"]
        photo_region = Region(top, left, top + h, left + w)
        return cls(photo_region, (top + h + reach["bottom"], left + w + reach["right"]))

    def lay_out(self, array: NDArray[Scalar], fill: int | tuple[int, int, int] = BEYOND_RGB) -> NDArray[Scalar]:
        """An array of the photo laid out on the canvas.

        Args:
            array: (H, W) or (H, W, 3).
            fill: the value outside the photo; one number for an (H, W) array.
        """
        out = np.empty((*self.size_hw, *array.shape[2:]), array.dtype)
        out[:] = fill
        out[self.photo_region.slices] = array
        return out

    def trimmed(self, boxes: Sequence[Region], margin_px: int) -> tuple[Canvas, int, int]:
        """The canvas cut down to the photo and some boxes.

        Args:
            boxes: regions of the canvas that are kept.
            margin_px: margin around each box.

        Returns:
            The smaller canvas, and how far its origin moved right and down, in pixels.
        """
        kept = self.photo_region
        for box in boxes:
            box = box.grow(margin_px, self.size_hw)
            kept = Region(
                min(kept.top, box.top),
                min(kept.left, box.left),
                max(kept.bottom, box.bottom),
                max(kept.right, box.right),
            )
        return Canvas(self.photo_region.counted_from(kept), kept.size_hw), kept.left, kept.top
