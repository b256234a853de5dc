"""Selection of unoccluded, whole people as ground truth for de-occlusion, by explicit rules.

Each rule is a pure function of a person and the other instances of the photo. All rules are applied to all people, so
that their counts do not depend on an order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from typing import Any

import cv2
import numpy as np

from deocclude.data.datasets.record import PersonRecord, PhotoRecord, ThingRecord
from deocclude.data.sources.person_frame import frame_affine, into_frame
from deocclude.errors import UsageError
from deocclude.imaging.arrays import Float32, Mask
from deocclude.inference.runtime import BUNDLED_WEIGHTS
from deocclude.io.typical_poses import POSES_NAME, read_poses


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of the rules. Fractions refer to the person's own pixels or contour."""

    edge_px: int = 2  # a mask this near to the image border counts as truncated: annotators rarely reach the border
    min_seen: float = 0.99  # visible share of the amodal mask, where known; the two annotated contours differ slightly
    max_touched: float = (
        0.03  # share of the contour that another instance touches: neighbours touch little, occluders far more
    )
    min_side_px: int = 96  # longer side of the box: a training crop of 128 px shows it at about this size
    min_piece: float = 0.95  # share of the mask in its largest component; an occluder can split a body in two
    # Area by that of the convex hull (solidity). Of 188 whole people 0.45 is the least and 0.89 the most.
    min_solid: float = 0.4
    max_solid: float = 0.95  # more is a box, or an ellipse, annotated instead of a contour
    # IoU with the most similar of the 64 typical poses: 0.53 is the least of 188 whole people, cut-outs of lying and
    # jumping ones among them. Truncated and occluded people are often above, other shapes often below.
    min_pose_iou: float = 0.5
    max_aspect: float = 6.0  # longer by shorter side of the box; 4.7 is the most of the same people


@dataclass(frozen=True)
class Candidate:
    """A person in a photo, as the rules take it.

    Attributes:
        photo: the photo's record.
        person: the person's record.
        mask: (H, W) bool, the visible mask.
        others: the photo's other people, crowds and objects, each with its (H, W) bool visible mask.
    """

    photo: PhotoRecord
    person: PersonRecord
    mask: Mask
    others: tuple[tuple[PersonRecord | ThingRecord, Mask], ...]

    @cached_property
    def box_xywh(self) -> tuple[int, int, int, int]:
        """The box around the mask; all 0 for an empty one."""
        x, y, w, h = cv2.boundingRect(self.mask.view(np.uint8))
        return x, y, w, h

    @cached_property
    def longer_side_px(self) -> int:
        """Longer side of the box, in pixels."""
        return max(self.box_xywh[2:])

    @cached_property
    def mask_in_box(self) -> Mask:
        """(h, w) bool, the mask cropped to its box."""
        x, y, w, h = self.box_xywh
        return self.mask[y : y + h, x : x + w]


Rule = Callable[[Candidate, Thresholds], bool]


def is_one_person(candidate: Candidate, _: Thresholds) -> bool:
    """A single person: no crowd, and not marked `ignore`."""
    return not (candidate.person.iscrowd or candidate.person.ignore)


def is_fully_visible(candidate: Candidate, limits: Thresholds) -> bool:
    """Where the amodal mask is known: nearly all of it is visible."""
    if candidate.person.amodal is None:
        return True
    whole = np.count_nonzero(candidate.person.amodal.mask())
    return bool(np.count_nonzero(candidate.mask) >= limits.min_seen * whole)


def is_inside(candidate: Candidate, limits: Thresholds) -> bool:
    """Not truncated by the image border. A cut-out fills its image and always passes."""
    if not candidate.photo.has_background:
        return True
    x, y, w, h = candidate.box_xywh
    height, width = candidate.mask.shape
    edge = limits.edge_px
    return x >= edge and y >= edge and x + w <= width - edge and y + h <= height - edge


def is_in_front(candidate: Candidate, limits: Thresholds) -> bool:
    """No person or object in front: none that touches more of the contour than neighbours do.

    The depth order decides what is in front where the dataset has one; otherwise any touching instance may be.
    """
    body = candidate.mask_in_box
    if not body.any():
        return True
    outline = body & ~cv2.erode(np.pad(body, 1).view(np.uint8), _CROSS)[1:-1, 1:-1].view(bool)
    # a neighbour is dilated by 1 % of the person's longer side, at least by one pixel
    kernel_px = 2 * max(1, round(0.01 * candidate.longer_side_px)) + 1
    x, y, w, h = candidate.box_xywh
    top, left = max(0, y - kernel_px), max(0, x - kernel_px)
    near = (slice(top, y + h + kernel_px), slice(left, x + w + kernel_px))
    for other, mask in candidate.others:
        if not _may_be_in_front(other, candidate.person) or not mask[near].any():
            continue
        dilated = cv2.dilate(mask[near].astype(np.uint8), np.ones((kernel_px, kernel_px), np.uint8)).view(bool)
        touched = dilated[y - top : y - top + h, x - left : x - left + w] & outline
        if np.count_nonzero(touched) > limits.max_touched * np.count_nonzero(outline):
            return False
    return True


def is_large(candidate: Candidate, limits: Thresholds) -> bool:
    """Large enough for training."""
    return candidate.longer_side_px >= max(1, limits.min_side_px)


def is_one_piece(candidate: Candidate, limits: Thresholds) -> bool:
    """In one connected component, small components aside."""
    area = np.count_nonzero(candidate.mask_in_box)
    if not area:
        return False
    *_, stats, _ = cv2.connectedComponentsWithStats(candidate.mask_in_box.view(np.uint8), connectivity=8)
    return bool(stats[1:, cv2.CC_STAT_AREA].max() >= limits.min_piece * area)


def is_solid(candidate: Candidate, limits: Thresholds) -> bool:
    """Solid as a body: neither scattered limbs nor a box annotated instead of a contour."""
    if not candidate.mask_in_box.any():
        return False
    rows = np.flatnonzero(candidate.mask_in_box.any(axis=1))
    first_columns = candidate.mask_in_box[rows].argmax(axis=1)
    end_columns = candidate.mask_in_box.shape[1] - candidate.mask_in_box[rows, ::-1].argmax(axis=1)
    # the corners of each row's outer pixels, so that a filled box fills its hull
    corners = np.concatenate([np.column_stack([x, rows + dy]) for x in (first_columns, end_columns) for dy in (0, 1)])
    solidity = np.count_nonzero(candidate.mask_in_box) / cv2.contourArea(cv2.convexHull(corners.astype(np.int32)))
    return bool(limits.min_solid <= solidity <= limits.max_solid)


def is_shaped(candidate: Candidate, limits: Thresholds) -> bool:
    """Shaped like a person: a plausible aspect ratio, and similar to a typical pose."""
    _, _, w, h = candidate.box_xywh
    if not candidate.mask_in_box.any() or max(w, h) > limits.max_aspect * min(w, h):
        return False
    silhouette = into_frame(candidate.mask_in_box.view(np.uint8), frame_affine(candidate.mask_in_box)).ravel()
    poses = _pose_silhouettes()
    iou = np.minimum(silhouette, poses).sum(axis=1) / np.maximum(silhouette, poses).sum(axis=1)
    return bool(iou.max() >= limits.min_pose_iou)


RULES: dict[str, Rule] = {
    "crowd": is_one_person,
    "hidden": is_fully_visible,
    "edge": is_inside,
    "overlap": is_in_front,
    "size": is_large,
    "pieces": is_one_piece,
    "solid": is_solid,
    "shape": is_shaped,
}
"""Rules by name. The docstring of a rule is its requirement in the report of a build."""

# Rules of an occluder. A person who fails only the others is no ground truth, but the visible part can be pasted.
OCCLUDER_RULES = ("crowd", "size", "pieces", "solid")

_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)  # a pixel with its four neighbours


def read_rules(text: str) -> tuple[str, ...]:
    """Rules of a list such as "all", "edge,size" (only these) or "no-edge,no-shape" (all but these), in a fixed order.

    Raises UsageError for an unknown name, and for a list that mixes both forms.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    unknown = sorted({word.removeprefix("no-") for word in words if word != "all"} - set(RULES))
    if unknown or not words:
        named = repr(unknown[0]) if unknown else "nothing"
        raise UsageError(f"--rules takes some of {', '.join(RULES)}, or no-NAME for all but these, got {named}")
    left_out = {word.removeprefix("no-") for word in words if word.startswith("no-")}
    if left_out and len(left_out) < len(set(words) - {"all"}):
        raise UsageError(f"--rules names either those to ask or, with no-, those to leave out, got {text!r}")
    chosen = set(RULES) - left_out if left_out or "all" in words else set(words)
    return tuple(name for name in RULES if name in chosen)


def read_limits(settings: Iterable[str]) -> Thresholds:
    """Thresholds with some replaced, each as "min_side_px=64". Raises UsageError naming what is wrong."""
    values: dict[str, Any] = {}  # each an int or a float, as its threshold is
    types = {name: type(value) for name, value in asdict(Thresholds()).items()}
    for setting in settings:
        name, _, value = setting.partition("=")
        if name not in types:
            raise UsageError(f"--set {setting}: the thresholds are {', '.join(types)}")
        try:
            values[name] = types[name](value)
        except ValueError as error:
            expected = "a whole number" if types[name] is int else "a number"
            raise UsageError(f"--set {setting}: {name} must be {expected}, got {value!r}") from error
        if not 0 <= values[name] < math.inf:
            raise UsageError(f"--set {setting}: {name} must be 0 or more")
    return Thresholds(**values)


def candidates(photo: PhotoRecord) -> list[Candidate]:
    """All people of a photo, as the rules take them. Raises InputError for run lengths that cannot be read."""
    masks = [person.visible.mask() for person in photo.people]
    pairs = list(zip(photo.people, masks, strict=True))
    things = [(thing, thing.visible.mask()) for thing in photo.things]
    instances: list[tuple[PersonRecord | ThingRecord, Mask]] = [*pairs, *things]
    return [
        Candidate(photo, person, mask, tuple(pair for pair in instances if pair[0] is not person))
        for person, mask in pairs
    ]


def failed_rules(candidate: Candidate, rules: tuple[str, ...], limits: Thresholds) -> tuple[str, ...]:
    """The rules that a person fails; none for a person who is valid ground truth.

    A person with an empty visible mask fails `size` even where it is not among the rules: there is nothing to crop.
    """
    applied = rules if candidate.mask.any() else tuple(name for name in RULES if name in (*rules, "size"))
    return tuple(name for name in applied if not RULES[name](candidate, limits))


def is_occluder(failed: tuple[str, ...]) -> bool:
    """Whether a person who failed these rules is still a valid occluder."""
    return not set(failed) & set(OCCLUDER_RULES)


def _may_be_in_front(other: PersonRecord | ThingRecord, person: PersonRecord) -> bool:
    """Whether the depth order has `other` nearer than `person`, or leaves it open."""
    if other.depth_order is None or person.depth_order is None:
        return True
    return other.depth_order < person.depth_order


@lru_cache(maxsize=1)
def _pose_silhouettes() -> Float32:
    """(128, 32 * 32): visible and amodal masks of the bundled typical poses."""
    return read_poses(BUNDLED_WEIGHTS / POSES_NAME).reshape(-1, 32 * 32)
