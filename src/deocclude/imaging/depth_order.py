"""Who is in front of whom: visible masks that compete for pixels, and the order of depth that the masks tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from deocclude.imaging.crop import Region

# Two prompts whose visible masks agree this well are one person given twice: they take nothing from each other.
SAME_PERSON_IOU = 0.6
# A contest never leaves a person less of what is seen than this: that would be a prompt inside another's body.
LEAST_LEFT_SHARE = 0.1
# Fewer hidden pixels than this share of the hidden person's body are two contours that differ by a hair.
LEAST_HIDDEN_SHARE = 0.002


class BodyMasks(NamedTuple):
    """One person's masks inside `region` of the photo: (h, w) bool, visible a subset of amodal."""

    region: Region
    visible: np.ndarray
    amodal: np.ndarray
    visible_prob: np.ndarray | None = None  # (h, w) uint8, 255 = certainly seen; None: all that is visible alike


@dataclass(frozen=True)
class Occlusion:
    """One person hides a part of another. front, behind: their ids; area_px: hidden pixels, in photo pixels."""

    front: int
    behind: int
    area_px: int


def resolve_overlaps(bodies: Sequence[BodyMasks], *, allow_duplicates: bool = False) -> list[np.ndarray]:
    """Visible masks that overlap nowhere: each pixel that two people claim goes to the one who is surer to be seen
    there, and where both are alike sure, to the one in front.

    In front is who is seen over more of the other's hidden body; where neither tells, whose body reaches lower in the
    photo, which on a floor means nearer. allow_duplicates: two prompts may mark one person; such two keep what they
    have. Returns a visible mask for each body, (h, w) bool in its region.
    """
    visible = [body.visible.copy() for body in bodies]
    for i, one in enumerate(bodies):
        for j, other in enumerate(bodies[:i]):
            common = one.region.intersect(other.region)
            if common.is_empty:
                continue
            mine, theirs = (common.counted_from(body.region).slices for body in (one, other))
            contested = visible[i][mine] & visible[j][theirs]
            if not contested.any():
                continue
            if allow_duplicates and _same_person(one, other, np.count_nonzero(contested)):
                continue
            in_front = _is_in_front(one, other)
            surer = _is_surer(one, other, mine, theirs, in_front)
            # where that would leave somebody next to nothing, who is behind yields, or else the other one does
            for mine_stays in (surer, np.full_like(surer, in_front), np.full_like(surer, not in_front)):
                lost = contested & ~mine_stays, contested & mine_stays
                if all(_keeps_enough(visible[k], bodies[k], gone) for k, gone in zip((i, j), lost, strict=True)):
                    visible[i][mine] &= ~lost[0]
                    visible[j][theirs] &= ~lost[1]
                    break
    return visible


def _is_surer(
    one: BodyMasks, other: BodyMasks, mine: tuple[slice, slice], theirs: tuple[slice, slice], in_front: bool
) -> np.ndarray:
    """(h, w) bool over what two regions share: where `one` is surer to be seen; `in_front`: who has what is level."""
    if one.visible_prob is None or other.visible_prob is None:
        return np.full(one.visible[mine].shape, in_front)
    a, b = one.visible_prob[mine], other.visible_prob[theirs]
    return a >= b if in_front else a > b


def _keeps_enough(visible: np.ndarray, body: BodyMasks, lost: np.ndarray) -> bool:
    gone = np.count_nonzero(lost)
    return not gone or np.count_nonzero(visible) - gone >= LEAST_LEFT_SHARE * np.count_nonzero(body.visible)


def find_occlusions(bodies: Sequence[BodyMasks], ids: Sequence[int]) -> tuple[Occlusion, ...]:
    """Who hides whom, for each pair at most once, largest hidden area first."""
    found = []
    for i, one in enumerate(bodies):
        for j, other in enumerate(bodies[:i]):
            if one.region.intersect(other.region).is_empty:
                continue
            front, behind = (i, j) if _is_in_front(one, other) else (j, i)
            area_px = _hidden_by(bodies[front], bodies[behind])
            if area_px >= max(1, LEAST_HIDDEN_SHARE * np.count_nonzero(bodies[behind].amodal)):
                found.append(Occlusion(ids[front], ids[behind], area_px))
    return tuple(sorted(found, key=lambda pair: (-pair.area_px, pair.front, pair.behind)))


def back_to_front(ids: Sequence[int], occlusions: Sequence[Occlusion], feet_y: Sequence[float]) -> list[int]:
    """All ids, whoever is hidden before whoever hides them.

    Three people can hide each other in a circle: relations are taken in by their hidden area, largest first, and one
    that would close a circle is left out. Between people without a relation, whose `feet_y` (the lowest row of the
    body) is higher up in the photo comes first.
    """
    in_front_of: dict[int, set[int]] = {one: set() for one in ids}

    def reaches(start: int, goal: int) -> bool:
        seen, todo = set(), [start]
        while todo:
            at = todo.pop()
            if at == goal:
                return True
            if at not in seen:
                seen.add(at)
                todo += in_front_of[at]
        return False

    for pair in sorted(occlusions, key=lambda pair: (-pair.area_px, pair.front, pair.behind)):
        if not reaches(pair.front, pair.behind):
            in_front_of[pair.behind].add(pair.front)
    place = dict(zip(ids, zip(feet_y, ids, strict=True), strict=True))
    waiting_for = {one: sum(one in fronts for fronts in in_front_of.values()) for one in ids}
    ordered: list[int] = []
    free = [one for one in ids if waiting_for[one] == 0]
    while free:
        at = min(free, key=place.__getitem__)
        free.remove(at)
        ordered.append(at)
        for front in in_front_of[at]:
            waiting_for[front] -= 1
            if waiting_for[front] == 0:
                free.append(front)
    return ordered


def _same_person(one: BodyMasks, other: BodyMasks, contested_px: int) -> bool:
    total = np.count_nonzero(one.visible) + np.count_nonzero(other.visible) - contested_px
    return contested_px >= SAME_PERSON_IOU * total


def _is_in_front(one: BodyMasks, other: BodyMasks) -> bool:
    over, under = _hidden_by(one, other), _hidden_by(other, one)
    return over > under if over != under else _lowest_row(one) >= _lowest_row(other)


def _hidden_by(front: BodyMasks, behind: BodyMasks) -> int:
    """Pixels of `behind` that are hidden where `front` is seen."""
    common = front.region.intersect(behind.region)
    if common.is_empty:
        return 0
    seen = front.visible[common.counted_from(front.region).slices]
    here = common.counted_from(behind.region).slices
    return int(np.count_nonzero(seen & behind.amodal[here] & ~behind.visible[here]))


def _lowest_row(body: BodyMasks) -> int:
    return body.region.top + int(np.flatnonzero(body.amodal.any(axis=1))[-1])
