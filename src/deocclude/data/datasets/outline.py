"""One polygon that covers exactly a mask's pixels, for formats with a single polygon a person."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from deocclude.imaging.arrays import Mask

Corner = tuple[int, int]


def outline(mask: Mask) -> list[int]:
    """Corners x0, y0, x1, y1, ... of a polygon around an (H, W) bool mask with at least one pixel.

    The polygon is closed and runs along pixel edges, where pixel i covers [i, i + 1). From its first corner it goes to
    each further component and hole and back the same way, which encloses no area. `coco.polygons_to_mask` returns the
    mask bit for bit.
    """
    loops = _loops(mask)
    first = next(loops)
    corners = [*first, first[0]]
    anchor_x, anchor_y = first[0]
    for loop in loops:
        # Along the axes, so that both directions round to the same pixels.
        bend = (anchor_x, loop[0][1])
        corners += [bend, *loop, loop[0], bend, (anchor_x, anchor_y)]
    return [value for place, corner in enumerate(corners) if corner != corners[place - 1] for value in corner]


def _loops(mask: Mask) -> Iterator[list[Corner]]:
    """Closed loops of corners around the components of a mask and around its holes."""
    padded = np.pad(mask, 1).astype(np.int8)
    enters_down = np.diff(padded, axis=0)[:, 1:-1]  # (H + 1, W): 1 on upper edges, -1 on lower edges
    enters_right = np.diff(padded, axis=1)[1:-1].T  # (W + 1, H): 1 on left edges, -1 on right edges
    # Clockwise in image coordinates; at most two edges leave a corner, where pixels touch diagonally.
    leaving: dict[Corner, list[Corner]] = {}
    for edges, sign, flip in ((enters_down, 1, False), (enters_down, -1, True)):
        for y, x0, x1 in _runs(edges == sign):
            _join(leaving, (x0, y), (x1, y), flip)
    for edges, sign, flip in ((enters_right, 1, True), (enters_right, -1, False)):
        for x, y0, y1 in _runs(edges == sign):
            _join(leaving, (x, y0), (x, y1), flip)
    while leaving:
        start = corner = next(iter(leaving))
        loop: list[Corner] = []
        while not loop or corner != start:
            loop.append(corner)
            ends = leaving[corner]
            end = ends.pop()
            if not ends:
                del leaving[corner]
            corner = end
        yield loop


def _join(leaving: dict[Corner, list[Corner]], start: Corner, end: Corner, flip: bool) -> None:
    start, end = (end, start) if flip else (start, end)
    leaving.setdefault(start, []).append(end)


def _runs(at: Mask) -> list[list[int]]:
    """[row, first column, one past the last] of each run of True in an (H, W) array."""
    steps = np.diff(np.pad(at, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    starts, ends = np.argwhere(steps == 1), np.argwhere(steps == -1)
    runs: list[list[int]] = np.column_stack([starts, ends[:, 1]]).tolist()
    return runs
