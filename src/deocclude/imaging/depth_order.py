"""Depth order: visible masks made disjoint, pairwise occlusions, and the people sorted by depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from deocclude.imaging.arrays import Mask, ProbabilityU8
from deocclude.imaging.crop import Region

# IoU of two visible masks from which two prompts mark one person: neither loses pixels to the other.
SAME_PERSON_IOU = 0.6
# Least fraction of a visible mask that overlap resolution leaves: less would be a prompt inside another body.
LEAST_LEFT_SHARE = 0.1
# An occlusion of a smaller fraction of the occluded body is only a disagreement of two contours at their boundary.
LEAST_HIDDEN_SHARE = 0.002


class MaskedBody(Protocol):
    """What depth order reads of a body; `BodyMasks` documents the attributes."""

    @property
    def region(self) -> Region: ...
    @property
    def visible(self) -> Mask: ...
    @property
    def amodal(self) -> Mask: ...
    @property
    def visible_prob(self) -> ProbabilityU8 | None: ...


class BodyMasks(NamedTuple):
    """One person's masks inside `region` of the image; visible is a subset of amodal."""

    region: Region
    visible: Mask  # (h, w)
    amodal: Mask  # (h, w)
    visible_prob: ProbabilityU8 | None = None  # (h, w), 255 = certainly visible; None: all visible pixels alike


@dataclass(frozen=True)
class Occlusion:
    """One person occludes a part of another.

    Attributes:
        front: id of the occluding person.
        behind: id of the occluded person.
        area_px: occluded image pixels.
    """

    front: int
    behind: int
    area_px: int


def resolve_overlaps(bodies: Sequence[MaskedBody], *, allow_duplicates: bool = False) -> list[Mask]:
    """Make visible masks disjoint: each pixel of two visible masks is assigned to one of the two people.

    A pixel goes to the person with the higher visible probability there; equal probabilities decide for the person in
    front. The person in front is visible over more of the other's hidden part. Where neither is, the person whose body
    reaches lower in the image is in front: on level ground that person is nearer.

    Where one of the two would keep less than LEAST_LEFT_SHARE of the visible mask, all shared pixels go to the person
    in front; where that fails too, to the person behind. Where nothing leaves both enough, both keep the shared pixels.

    Args:
        bodies: the people.
        allow_duplicates: two prompts may mark one person; such two keep their masks.

    Returns:
        A visible mask for each body, (h, w) bool in its region.
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
            if allow_duplicates and _same_person(one, other, int(np.count_nonzero(contested))):
                continue
            in_front = _is_in_front(one, other)
            higher = _higher_probability(one, other, mine, theirs, in_front)
            # where that leaves a person too little, the person behind yields all, or else the person in front
            for mine_stays in (higher, np.full_like(higher, in_front), np.full_like(higher, not in_front)):
                lost = contested & ~mine_stays, contested & mine_stays
                if all(_keeps_enough(visible[k], bodies[k], gone) for k, gone in zip((i, j), lost, strict=True)):
                    visible[i][mine] &= ~lost[0]
                    visible[j][theirs] &= ~lost[1]
                    break
    return visible


def _higher_probability(
    one: MaskedBody, other: MaskedBody, mine: tuple[slice, slice], theirs: tuple[slice, slice], in_front: bool
) -> Mask:
    """(h, w) bool over the common part of two regions: where `one` has the higher visible probability.

    in_front: whether `one` is in front, which decides equal probabilities.
    """
    if one.visible_prob is None or other.visible_prob is None:
        return np.full(one.visible[mine].shape, in_front)
    a, b = one.visible_prob[mine], other.visible_prob[theirs]
    higher: Mask = a >= b if in_front else a > b
    return higher


def _keeps_enough(visible: Mask, body: MaskedBody, lost: Mask) -> bool:
    """Whether a body keeps LEAST_LEFT_SHARE of its visible mask without the pixels of `lost`."""
    gone = np.count_nonzero(lost)
    left = np.count_nonzero(visible) - gone
    return not gone or bool(left >= LEAST_LEFT_SHARE * np.count_nonzero(body.visible))


def find_occlusions(bodies: Sequence[MaskedBody], ids: Sequence[int]) -> tuple[Occlusion, ...]:
    """Pairwise occlusions, at most one for each pair of people, by descending occluded area.

    Args:
        bodies: the people.
        ids: their ids, in the same order.
    """
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
    """Sort people by depth: an occluded person comes before the occluding person.

    Occlusions may form a cycle: they are taken by descending area, and one that would close a cycle is dropped. Of
    people without an occlusion between them, the one whose feet are higher in the image comes first.

    Args:
        ids: ids of the people.
        occlusions: pairwise occlusions.
        feet_y: the lowest row of each body, in the order of `ids`.

    Returns:
        All ids, the furthest person first.
    """
    in_front_of: dict[int, set[int]] = {one: set() for one in ids}

    def reaches(start: int, goal: int) -> bool:
        """Whether `goal` is in front of `start`, directly or through others."""
        reached: set[int] = set()
        todo = [start]
        while todo:
            at = todo.pop()
            if at == goal:
                return True
            if at not in reached:
                reached.add(at)
                todo += in_front_of[at]
        return False

    for pair in sorted(occlusions, key=lambda pair: (-pair.area_px, pair.front, pair.behind)):
        if not reaches(pair.front, pair.behind):
            in_front_of[pair.behind].add(pair.front)
    depth_key = dict(zip(ids, zip(feet_y, ids, strict=True), strict=True))
    # number of people who must come before each one
    waiting_for = {one: sum(one in fronts for fronts in in_front_of.values()) for one in ids}
    ordered: list[int] = []
    free = [one for one in ids if waiting_for[one] == 0]
    while free:
        at = min(free, key=depth_key.__getitem__)
        free.remove(at)
        ordered.append(at)
        for front in in_front_of[at]:
            waiting_for[front] -= 1
            if waiting_for[front] == 0:
                free.append(front)
    return ordered


def _same_person(one: MaskedBody, other: MaskedBody, contested_px: int) -> bool:
    """Whether two visible masks agree so well that both mark one person."""
    total = np.count_nonzero(one.visible) + np.count_nonzero(other.visible) - contested_px
    return bool(contested_px >= SAME_PERSON_IOU * total)


def _is_in_front(one: MaskedBody, other: MaskedBody) -> bool:
    """Whether `one` occludes more of `other` than the reverse; equal areas: whether it reaches lower."""
    over, under = _hidden_by(one, other), _hidden_by(other, one)
    return over > under if over != under else _lowest_row(one) >= _lowest_row(other)


def _hidden_by(front: MaskedBody, behind: MaskedBody) -> int:
    """Hidden pixels of `behind` where `front` is visible."""
    common = front.region.intersect(behind.region)
    if common.is_empty:
        return 0
    in_front = front.visible[common.counted_from(front.region).slices]
    here = common.counted_from(behind.region).slices
    return int(np.count_nonzero(in_front & behind.amodal[here] & ~behind.visible[here]))


def _lowest_row(body: MaskedBody) -> int:
    """The image row of the body's lowest pixel."""
    return body.region.top + int(np.flatnonzero(body.amodal.any(axis=1))[-1])
