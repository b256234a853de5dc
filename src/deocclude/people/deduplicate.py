"""Several masks of one person, of which one stays, and one mask of several people, of whom each gets an own one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import numpy as np

from deocclude.imaging.crop import Region
from deocclude.people.instances import Found

# Two detections of one body: the smaller lies almost wholly in the larger, and is no mere part of it. A child held in
# front of an adult lies in the adult's mask as well, but has less than half of its area.
_CONTAINED_SHARE = 0.85
_CONTAINED_AREA_RATIO = 0.5
_SAME_BODY_IOU = 0.7
# Whoever is found in the place of somebody of whom there was a duplicate: the least of it, in shares of what was seen
# there before; and from which IoU of the two bodies on it is a part of that one. In held-out cut-outs and in composed
# scenes of another seed than those that are reported it was at most 0.58 of somebody else, at least 0.71 of parts.
_LEAST_REST = 0.15
_FORMER_BODY_IOU = 0.65
# Of the smaller of two masks, the most that two people may have in common; order.share_out_pixels gives it to one.
_MOST_SHARED = 0.3

F = TypeVar("F", bound=Found)


def merge_duplicates(instances: Sequence[F], iou: float = _SAME_BODY_IOU) -> list[F]:
    """One instance a body: of duplicates the one with the highest score stays, as it is; the order given is kept.

    Two masks of one photo are duplicates when their IoU is at least `iou` (0 to 1), or when 85 % of the smaller lie
    in the larger and it has more than half of the larger's area. Equal scores: the larger mask stays, then the
    earlier one. Pixels are compared only where boxes and areas leave it open, and only inside both boxes.
    """
    best_first = sorted(range(len(instances)), key=lambda i: (-instances[i].score, -instances[i].area_px, i))
    kept = _first_of_each(best_first, lambda i, j: _are_duplicates(instances[i], instances[j], iou))
    return [instances[i] for i in kept]


def _first_of_each(best_first: Sequence[int], are_same: Callable[[int, int], bool]) -> list[int]:
    """Of those that are the same the first, as rising numbers."""
    kept: list[int] = []
    for candidate in best_first:
        if not any(are_same(candidate, other) for other in kept):
            kept.append(candidate)
    return sorted(kept)


def _are_duplicates(one: Found, other: Found, iou: float) -> bool:
    smaller, larger = sorted((one.area_px, other.area_px))

    def judge(shared_px: int) -> bool:
        contained = shared_px >= _CONTAINED_SHARE * smaller and smaller > _CONTAINED_AREA_RATIO * larger
        return contained or shared_px >= iou * (smaller + larger - shared_px)

    x0, y0, x1, y1 = _common_box(one, other)
    # No more pixels than this can be shared; when that is not enough, the masks need not be read.
    if not judge(min(smaller, (x1 - x0) * (y1 - y0))):
        return False
    return judge(_shared_px(one, other))


def _shared_px(one: Found, other: Found) -> int:
    """How many pixels are seen of both."""
    x0, y0, x1, y1 = _common_box(one, other)
    if x0 == x1 or y0 == y1:
        return 0
    return int(np.count_nonzero(one.seen_in(x0, y0, x1, y1) & other.seen_in(x0, y0, x1, y1)))


def _common_box(one: Found, other: Found) -> tuple[int, int, int, int]:
    """What both boxes hold, without width or height where that is nothing."""
    x0, y0 = (max(one.box_xyxy[i], other.box_xyxy[i]) for i in (0, 1))
    x1, y1 = (min(one.box_xyxy[i], other.box_xyxy[i]) for i in (2, 3))
    return x0, y0, max(x0, x1), max(y0, y1)


class Whole(Protocol):
    """A whole body found in a photo: where it lies, its amodal mask there, (h, w) bool, and how sure the finder is."""

    @property
    def region(self) -> Region: ...
    @property
    def amodal(self) -> np.ndarray: ...
    @property
    def score(self) -> float: ...


W = TypeVar("W", bound=Whole)


def merge_coincident(bodies: Sequence[W], iou: float = _SAME_BODY_IOU) -> list[W]:
    """One body a place: of those whose whole silhouettes have an IoU of at least `iou` the surest stays; order is kept.

    Two boxes around parts of one person give masks that have little in common, and the same body behind them.
    """
    best_first = sorted(range(len(bodies)), key=lambda i: (-bodies[i].score, i))
    return [bodies[i] for i in _first_of_each(best_first, lambda i, j: _coincide(bodies[i], bodies[j], iou))]


def _coincide(one: Whole, other: Whole, iou: float) -> bool:
    common = one.region.intersect(other.region)
    if common.is_empty:
        return False
    mine, theirs = (body.amodal[common.counted_from(body.region).slices] for body in (one, other))
    shared = np.count_nonzero(mine & theirs)
    return shared >= iou * (np.count_nonzero(one.amodal) + np.count_nonzero(other.amodal) - shared)


class Body(Found, Whole, Protocol):
    """Both: what is seen of somebody, and the whole silhouette."""


B = TypeVar("B", bound=Body)
P = TypeVar("P")


def tell_apart(found: Sequence[tuple[P, B]], rest_of: Callable[[P, B], B | None]) -> list[B]:
    """The bodies, the surest first; one that has a less sure duplicate becomes whoever else is there, if anybody is.

    Two people who cross may both be found, and the box of one give a mask of the other, or of both: one of them would
    then be dropped as a duplicate. found: each body with its prompt; rest_of: whoever is where a prompt points beside
    somebody who is known, or None. A body beside whom nobody else is found stays as it is: the two may be one person.
    """
    kept: list[tuple[P, B]] = []
    for prompt, body in sorted(found, key=lambda one: -one[1].score):
        at = next((at for at, (_, other) in enumerate(kept) if _are_one(body, other)), None)
        if at is not None:
            where, surer = kept[at]
            rest = rest_of(where, body)
            if rest is not None and _is_somebody_else(rest, body, surer):
                kept[at] = where, rest
        kept.append((prompt, body))
    return [body for _, body in kept]


def _are_one(one: Body, other: Body) -> bool:
    return _are_duplicates(one, other, _SAME_BODY_IOU) or _coincide(one, other, _SAME_BODY_IOU)


def _is_somebody_else(rest: Body, known: Body, former: Body) -> bool:
    """Whether `rest`, found beside `known` in place of `former`, is one more person and no part of these two."""
    if rest.area_px < _LEAST_REST * former.area_px:
        return False
    if _coincide(rest, known, _SAME_BODY_IOU) or _coincide(rest, former, _FORMER_BODY_IOU):
        return False
    return _shared_px(rest, known) <= _MOST_SHARED * min(rest.area_px, known.area_px)
