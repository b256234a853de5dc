"""People cut by the photo's edge: which edges cut whom, and a canvas on which the whole body fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deocclude.errors import UsageError
from deocclude.imaging.crop import BEYOND_RGB, Region

# A body that meets an edge along less than this share of its longer side may just stand at it.
_LEAST_CONTACT = 0.06
# How far a body may go on beyond the edge: this many times what is seen of it, along its longer side; beyond two edges
# that face each other half as far each.
_REACH = 1.6


def check_uncrop(uncrop: bool, complete: str) -> None:
    """UsageError where people are to be completed beyond the photo's edge, and nobody is to be completed."""
    if uncrop and complete == "never":
        raise UsageError("uncrop completes people beyond the photo's edge, complete never completes nobody: drop one")


@dataclass(frozen=True)
class Truncation:
    """Which of the photo's edges cut a body."""

    top: bool = False
    left: bool = False
    bottom: bool = False
    right: bool = False

    def __bool__(self) -> bool:
        return self.top or self.left or self.bottom or self.right

    @property
    def edges(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(name for name in ("top", "left", "bottom", "right") if getattr(self, name))


def find_truncation(body: np.ndarray, region: Region, size_hw: tuple[int, int]) -> Truncation:
    """The edges of a photo of `size_hw` that a body meets along more than a point; body: (h, w) bool in `region`."""
    if not body.any():
        return Truncation()
    rows, columns = np.flatnonzero(body.any(1)), np.flatnonzero(body.any(0))
    least = max(2.0, _LEAST_CONTACT * max(np.ptp(rows) + 1, np.ptp(columns) + 1))
    h, w = size_hw

    def meets(line: np.ndarray) -> bool:
        return bool(np.count_nonzero(line) >= least)

    return Truncation(
        region.top == 0 and meets(body[0]),
        region.left == 0 and meets(body[:, 0]),
        region.bottom == h and meets(body[-1]),
        region.right == w and meets(body[:, -1]),
    )


@dataclass(frozen=True)
class Canvas:
    """A larger picture around a photo. photo_region: where the photo lies on it; size_hw: its size."""

    photo_region: Region
    size_hw: tuple[int, int]

    @classmethod
    def around(cls, bodies: Sequence[tuple[np.ndarray, Region, Truncation]], size_hw: tuple[int, int]) -> Canvas:
        """With room beyond each edge that cuts somebody. bodies: visible part (h, w) bool, its region, its cut."""
        reach = {"top": 0, "left": 0, "bottom": 0, "right": 0}
        for body, _, cut in bodies:
            rows, columns = np.flatnonzero(body.any(1)), np.flatnonzero(body.any(0))
            far = round(_REACH * max(np.ptp(rows) + 1, np.ptp(columns) + 1)) if rows.size else 0
            for edge in cut.edges:
                both = cut.top and cut.bottom if edge in ("top", "bottom") else cut.left and cut.right
                reach[edge] = max(reach[edge], far // 2 if both else far)
        (h, w), top, left = size_hw, reach["top"], reach["left"]
        photo_region = Region(top, left, top + h, left + w)
        return cls(photo_region, (top + h + reach["bottom"], left + w + reach["right"]))

    def lay_out(self, array: np.ndarray, fill: int | tuple[int, int, int] = BEYOND_RGB) -> np.ndarray:
        """An array of the photo, (H, W) or (H, W, 3), on the canvas, with `fill` beyond the photo."""
        out = np.empty((*self.size_hw, *array.shape[2:]), array.dtype)
        out[:] = fill
        out[self.photo_region.slices] = array
        return out

    def trimmed(self, boxes: Sequence[Region], margin_px: int) -> tuple[Canvas, int, int]:
        """The canvas cut down to the photo and `boxes` with a margin, and how far right and down its origin moved."""
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
