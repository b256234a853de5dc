"""One polygon that covers exactly a mask's pixels, for formats with a single polygon a person."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from deocclude.imaging.arrays import Mask

Corner = tuple[int, int]


def outline(mask: Mask) -> list[int]:
    """Corners x0, y0, x1, y1, ... of a polygon around an (H, W) bool mask with at least one pixel.

    The polygon is closed and runs along pixel edges, where pixel i covers [i, i + 1). From its first corner a detour
    leads to each further component or hole and back the same way; the detour encloses no area.
    `io.coco.polygons_to_mask` restores the mask bit for bit.
    """
    loops = _loops(mask)
    first = next(loops)
    corners = [*first, first[0]]
    anchor_x, anchor_y = first[0]
    for loop in loops:
        # The detour runs along the axes, so that both of its directions round to the same pixels.
        bend = (anchor_x, loop[0][1])
        corners += [bend, *loop, loop[0], bend, (anchor_x, anchor_y)]
    return [value for index, corner in enumerate(corners) if corner != corners[index - 1] for value in corner]


def _loops(mask: Mask) -> Iterator[list[Corner]]:
    """Corners of each closed loop around a component or a hole of an (H, W) bool mask."""
    padded = np.pad(mask, 1).astype(np.int8)
    enters_down = np.diff(padded, axis=0)[:, 1:-1]  # (H + 1, W): 1 on upper edges, -1 on lower edges
    enters_right = np.diff(padded, axis=1)[1:-1].T  # (W + 1, H): 1 on left edges, -1 on right edges
    # By corner, the ends of the edges that leave it, clockwise in image coordinates: one, or two where pixels touch
    # diagonally.
    ends_from: dict[Corner, list[Corner]] = {}
    for edges, sign, reverse in ((enters_down, 1, False), (enters_down, -1, True)):
        for y, x0, x1 in _runs(edges == sign):
            _add_edge(ends_from, (x0, y), (x1, y), reverse)
    for edges, sign, reverse in ((enters_right, 1, True), (enters_right, -1, False)):
        for x, y0, y1 in _runs(edges == sign):
            _add_edge(ends_from, (x, y0), (x, y1), reverse)
    while ends_from:
        start = corner = next(iter(ends_from))
        loop: list[Corner] = []
        while not loop or corner != start:
            loop.append(corner)
            ends = ends_from[corner]
            end = ends.pop()
            if not ends:
                del ends_from[corner]
            corner = end
        yield loop


def _add_edge(ends_from: dict[Corner, list[Corner]], start: Corner, end: Corner, reverse: bool) -> None:
    """Add the edge from `start` to `end`, or with `reverse` the one from `end` to `start`."""
    start, end = (end, start) if reverse else (start, end)
    ends_from.setdefault(start, []).append(end)


def _runs(mask: Mask) -> list[list[int]]:
    """[row, first column, one past the last] of each run of True in an (H, W) array."""
    steps = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    starts, ends = np.argwhere(steps == 1), np.argwhere(steps == -1)
    runs: list[list[int]] = np.column_stack([starts, ends[:, 1]]).tolist()
    return runs
