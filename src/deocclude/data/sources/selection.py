"""Who of a photo may serve as the truth of de-occlusion: people who are seen as a whole, told by stated rules.

Each rule is a pure function of a person and the others of the photo. All rules are asked about everyone, so that their
counts do not depend on an order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache

import cv2
import numpy as np

from deocclude.data.datasets.record import PersonRecord, PhotoRecord, ThingRecord
from deocclude.data.sources.person_frame import frame_affine, into_frame
from deocclude.errors import UsageError
from deocclude.inference.runtime import BUNDLED_WEIGHTS
from deocclude.io.typical_poses import read_poses


@dataclass(frozen=True)
class Thresholds:
    """Where each rule draws its line. Shares are of the person's own pixels or outline."""

    edge_px: int = 2  # a mask this near to the photo's edge is taken to be cut by it: annotators rarely reach the edge
    min_seen: float = 0.99  # of the whole body, where the dataset knows it; the rest is rounding of two contours
    max_touched: float = 0.03  # of the outline: people side by side touch with a sleeve, who is occluded with far more
    min_side_px: int = 96  # longer side of the box: a training crop of 128 px shows it at about this size
    min_piece: float = 0.95  # of the mask in its largest piece; something in front cuts a body in two
    # Area by that of the convex hull. Of 188 whole people 0.45 is the least and 0.89 the most, limbs spread or held.
    min_solid: float = 0.4
    max_solid: float = 0.95  # more is a box, or an ellipse, drawn in place of an outline
    # IoU with the most similar of the 64 typical poses: 0.53 is the least of 188 whole people, cut-outs of lying and
    # jumping ones among them. What is cut or covered often keeps above, what is no person at all often does not.
    min_pose_iou: float = 0.5
    max_aspect: float = 6.0  # longer by shorter side of the box; 4.7 is the most of the same people


@dataclass(frozen=True)
class Candidate:
    """A person in a photo, as the rules see them. mask: (H, W) bool, what is seen of the person."""

    photo: PhotoRecord
    person: PersonRecord
    mask: np.ndarray
    # of the same photo, crowds and things too, with what is seen of them
    others: tuple[tuple[PersonRecord | ThingRecord, np.ndarray], ...]

    @cached_property
    def box_xywh(self) -> tuple[int, int, int, int]:
        """The box around the mask; all 0 for an empty one."""
        return tuple(cv2.boundingRect(self.mask.view(np.uint8)))

    @cached_property
    def longer_side_px(self) -> int:
        return max(self.box_xywh[2:])

    @cached_property
    def part(self) -> np.ndarray:
        """(h, w) bool, the mask within its box."""
        x, y, w, h = self.box_xywh
        return self.mask[y : y + h, x : x + w]


Rule = Callable[[Candidate, Thresholds], bool]


def is_one_person(one: Candidate, _: Thresholds) -> bool:
    """A person of their own: no crowd, and not marked as one to ignore."""
    return not (one.person.iscrowd or one.person.ignore)


def is_seen_whole(one: Candidate, limits: Thresholds) -> bool:
    """Where the dataset knows the whole body: nearly all of it is seen. Where it does not, the other rules judge."""
    if one.person.amodal is None:
        return True
    whole = np.count_nonzero(one.person.amodal.mask())
    return np.count_nonzero(one.mask) >= limits.min_seen * whole


def is_inside(one: Candidate, limits: Thresholds) -> bool:
    """Not cut by the photo's edge. A cut-out fills its picture, and its edge says nothing."""
    if not one.photo.has_background:
        return True
    x, y, w, h = one.box_xywh
    height, width = one.mask.shape
    edge = limits.edge_px
    return x >= edge and y >= edge and x + w <= width - edge and y + h <= height - edge


def is_in_front(one: Candidate, limits: Thresholds) -> bool:
    """No nearer person or thing lies over the person: none that touches more of the outline than neighbours do.

    Who is nearer is told by the depth order where the dataset has one. Where it has none, whoever touches may be.
    """
    part = one.part
    if not part.any():
        return True
    outline = part & ~cv2.erode(np.pad(part, 1).view(np.uint8), _CROSS)[1:-1, 1:-1].view(bool)
    reach = 2 * max(1, round(0.01 * one.longer_side_px)) + 1
    x, y, w, h = one.box_xywh
    top, left = max(0, y - reach), max(0, x - reach)
    near = (slice(top, y + h + reach), slice(left, x + w + reach))
    for other, mask in one.others:
        if not _may_be_nearer(other, one.person) or not mask[near].any():
            continue
        grown = cv2.dilate(mask[near].astype(np.uint8), np.ones((reach, reach), np.uint8)).view(bool)
        touched = grown[y - top : y - top + h, x - left : x - left + w] & outline
        if np.count_nonzero(touched) > limits.max_touched * np.count_nonzero(outline):
            return False
    return True


def is_large(one: Candidate, limits: Thresholds) -> bool:
    """Large enough to learn from."""
    return one.longer_side_px >= max(1, limits.min_side_px)


def is_one_piece(one: Candidate, limits: Thresholds) -> bool:
    """In one piece, specks aside."""
    area = np.count_nonzero(one.part)
    if not area:
        return False
    *_, stats, _ = cv2.connectedComponentsWithStats(one.part.view(np.uint8), connectivity=8)
    return stats[1:, cv2.CC_STAT_AREA].max() >= limits.min_piece * area


def is_solid(one: Candidate, limits: Thresholds) -> bool:
    """Fills its convex hull as a body does: neither a few scattered limbs nor a box drawn in place of an outline."""
    if not one.part.any():
        return False
    rows = np.flatnonzero(one.part.any(axis=1))
    first = one.part[rows].argmax(axis=1)
    past = one.part.shape[1] - one.part[rows, ::-1].argmax(axis=1)
    # the corners of each row's outer pixels, so that a filled box fills its hull
    corners = np.concatenate([np.column_stack([x, rows + dy]) for x in (first, past) for dy in (0, 1)])
    share = np.count_nonzero(one.part) / cv2.contourArea(cv2.convexHull(corners.astype(np.int32)))
    return limits.min_solid <= share <= limits.max_solid


def is_shaped(one: Candidate, limits: Thresholds) -> bool:
    """Shaped like a person: a plausible box, and like one of the typical poses."""
    _, _, w, h = one.box_xywh
    if not one.part.any() or max(w, h) > limits.max_aspect * min(w, h):
        return False
    found = into_frame(one.part.view(np.uint8), frame_affine(one.part)).ravel()
    poses = _silhouettes()
    iou = np.minimum(found, poses).sum(axis=1) / np.maximum(found, poses).sum(axis=1)
    return bool(iou.max() >= limits.min_pose_iou)


RULES: dict[str, Rule] = {
    "crowd": is_one_person,
    "hidden": is_seen_whole,
    "edge": is_inside,
    "overlap": is_in_front,
    "size": is_large,
    "pieces": is_one_piece,
    "solid": is_solid,
    "shape": is_shaped,
}
"""By its name, what a person must be."""

# Whoever fails others only is no truth, but good to hide people with: what is seen of them is theirs.
OCCLUDER_RULES = ("crowd", "size", "pieces", "solid")

_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)


def read_rules(text: str) -> tuple[str, ...]:
    """Rules of a list such as "all", "edge,size" (these alone) or "no-edge,no-shape" (all but these), in one order.

    Raises UsageError for an unknown name, and for a list that mixes both.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    unknown = sorted({word.removeprefix("no-") for word in words} - {*RULES, "all"})
    if unknown or not words:
        named = repr(unknown[0]) if unknown else "nothing"
        raise UsageError(f"--rules takes some of {', '.join(RULES)}, or no-NAME for all but these, got {named}")
    left_out = {word.removeprefix("no-") for word in words if word.startswith("no-")}
    if left_out and len(left_out) < len(set(words) - {"all"}):
        raise UsageError(f"--rules names either those to ask or, with no-, those to leave out, got {text!r}")
    asked = set(RULES) - left_out if left_out or "all" in words else set(words)
    return tuple(name for name in RULES if name in asked)


def read_limits(settings: Iterable[str]) -> Thresholds:
    """Thresholds with some replaced, each as "min_side_px=64". Raises UsageError naming what is wrong."""
    values: dict[str, float] = {}
    kinds = {field.name: type(field.default) for field in fields(Thresholds)}
    for setting in settings:
        name, _, value = setting.partition("=")
        if name not in kinds:
            raise UsageError(f"--set {setting}: the thresholds are {', '.join(kinds)}")
        try:
            values[name] = kinds[name](value)
        except ValueError as error:
            raise UsageError(f"--set {setting}: {name} must be a number, got {value!r}") from error
        if not 0 <= values[name] < math.inf:
            raise UsageError(f"--set {setting}: {name} must be 0 or more")
    return Thresholds(**values)


def candidates(photo: PhotoRecord) -> list[Candidate]:
    """Everyone of a photo, as the rules see them. Raises InputError for run lengths that cannot be read."""
    masks = [person.visible.mask() for person in photo.people]
    pairs = list(zip(photo.people, masks, strict=True))
    things = [(thing, thing.visible.mask()) for thing in photo.things]
    return [
        Candidate(photo, person, mask, tuple(pair for pair in (*pairs, *things) if pair[0] is not person))
        for person, mask in pairs
    ]


def failed_rules(one: Candidate, rules: tuple[str, ...], limits: Thresholds) -> tuple[str, ...]:
    """Which of the rules the person fails; none for whoever may serve as truth.

    Somebody of whom nothing is seen fails `size` even where it is not asked: there is nothing to cut out.
    """
    asked = rules if one.mask.any() else tuple(name for name in RULES if name in (*rules, "size"))
    return tuple(name for name in asked if not RULES[name](one, limits))


def is_occluder(failed: tuple[str, ...]) -> bool:
    """Whether somebody who failed these rules can still be pasted in front of others."""
    return not set(failed) & set(OCCLUDER_RULES)


def _may_be_nearer(other: PersonRecord | ThingRecord, person: PersonRecord) -> bool:
    if other.depth_order is None or person.depth_order is None:
        return True
    return other.depth_order < person.depth_order


@lru_cache(maxsize=1)
def _silhouettes() -> np.ndarray:
    """(128, 32 * 32): of the bundled typical poses what is seen and the whole bodies."""
    return read_poses(BUNDLED_WEIGHTS / "typical_poses.npz").reshape(-1, 32 * 32)
