"""Mask non-maximum suppression, and merged detections split by segmenting the residual person of a box."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from deocclude.imaging.arrays import Mask
from deocclude.imaging.crop import Region
from deocclude.inference.settings import DeduplicationSettings
from deocclude.people.instances import Found

if TYPE_CHECKING:
    from typing_extensions import Self

F = TypeVar("F", bound=Found)


def suppress_duplicates(instances: Sequence[F], settings: DeduplicationSettings = DeduplicationSettings()) -> list[F]:
    """Mask non-maximum suppression: of duplicates the highest-scoring mask is kept; the order is unchanged.

    Two masks are duplicates where their IoU is at least `same_body_iou`. They are duplicates too where the larger
    contains `contained_share` of the smaller, and the smaller has more than `contained_area_ratio` of the larger's
    area. Of equal scores the larger mask is kept, then the earlier one. Pixels are compared only where boxes and areas
    do not decide.
    """
    best_first = sorted(range(len(instances)), key=lambda i: (-instances[i].score, -instances[i].area_px, i))
    kept = _without_duplicates(best_first, lambda i, j: _are_duplicates(instances[i], instances[j], settings))
    return [instances[i] for i in kept]


def _without_duplicates(best_first: Sequence[int], are_same: Callable[[int, int], bool]) -> list[int]:
    """Greedy suppression: indices without those that duplicate an earlier kept one, in ascending order."""
    kept: list[int] = []
    for candidate in best_first:
        if not any(are_same(candidate, other) for other in kept):
            kept.append(candidate)
    return sorted(kept)


def _are_duplicates(one: Found, other: Found, settings: DeduplicationSettings) -> bool:
    """Whether two visible masks are duplicates; see `suppress_duplicates`."""
    smaller, larger = sorted((one.area_px, other.area_px))

    def is_duplicate(shared_px: int) -> bool:
        contained = shared_px >= settings.contained_share * smaller and smaller > settings.contained_area_ratio * larger
        return contained or shared_px >= settings.same_body_iou * (smaller + larger - shared_px)

    x0, y0, x1, y1 = _common_box(one, other)
    # an upper bound of the shared pixels: where it is too low, the masks need not be compared
    if not is_duplicate(min(smaller, (x1 - x0) * (y1 - y0))):
        return False
    return is_duplicate(_shared_px(one, other))


def _shared_px(one: Found, other: Found) -> int:
    """Number of pixels that lie in both visible masks."""
    x0, y0, x1, y1 = _common_box(one, other)
    if x0 == x1 or y0 == y1:
        return 0
    return int(np.count_nonzero(one.visible_in(x0, y0, x1, y1) & other.visible_in(x0, y0, x1, y1)))


def _common_box(one: Found, other: Found) -> tuple[int, int, int, int]:
    """The intersection of both boxes, in image pixels; its width or height is 0 where it is empty."""
    x0, y0 = (max(one.box_xyxy[i], other.box_xyxy[i]) for i in (0, 1))
    x1, y1 = (min(one.box_xyxy[i], other.box_xyxy[i]) for i in (2, 3))
    return x0, y0, max(x0, x1), max(y0, y1)


class Completed(Found, Protocol):
    """A completed person: `Found`, and the amodal mask, (h, w) bool in `region` of the image."""

    @property
    def region(self) -> Region: ...
    @property
    def amodal(self) -> Mask: ...
    def visible_on(self, region: Region) -> Mask:
        """The visible mask on another region of the image, with that region's size."""
        ...

    def with_visible_part(self, part: Mask) -> Self:
        """The same body with the hidden pixels of `part`, (h, w) bool, made visible."""
        ...


B = TypeVar("B", bound=Completed)
P = TypeVar("P")


def join_amodal_duplicates(bodies: Sequence[B], settings: DeduplicationSettings = DeduplicationSettings()) -> list[B]:
    """Non-maximum suppression of amodal masks at an IoU of `same_body_iou`; the order is unchanged.

    Two boxes around parts of one person, as an occluder divides a body, give visible masks with little overlap and one
    amodal mask. The visible part of the suppressed body is then added to the kept one: it would be painted over as
    hidden. Where the visible masks overlap by more than `max_shared` of the smaller, nothing is added.
    """
    kept: dict[int, B] = {}
    for i in sorted(range(len(bodies)), key=lambda i: (-bodies[i].score, i)):
        body = bodies[i]
        same = next((j for j, one in kept.items() if _amodal_iou_reaches(one, body, settings.same_body_iou)), None)
        if same is None:
            kept[i] = body
        elif _shared_px(kept[same], body) <= settings.max_shared * min(kept[same].area_px, body.area_px):
            kept[same] = kept[same].with_visible_part(body.visible_on(kept[same].region))
    return [kept[i] for i in sorted(kept)]


def _amodal_iou_reaches(one: Completed, other: Completed, iou: float) -> bool:
    """Whether two amodal masks have at least this IoU."""
    common = one.region.intersect(other.region)
    if common.is_empty:
        return False
    mine, theirs = (body.amodal[common.counted_from(body.region).slices] for body in (one, other))
    shared = np.count_nonzero(mine & theirs)
    union = np.count_nonzero(one.amodal) + np.count_nonzero(other.amodal) - shared
    return bool(shared >= iou * union)


def split_merged(
    found: Sequence[tuple[P, B]], residual_of: Callable[[P, B], B | None],
    settings: DeduplicationSettings = DeduplicationSettings(),
) -> list[B]:  # fmt: skip
    """Split merged detections: a body with a lower-scoring duplicate is replaced by the residual person of its box.

    Where two people cross, the box of one may give the mask of the other, or of both. One of them would then be dropped
    as a duplicate. Without a residual person the body stays unchanged: the two detections may be one person.

    Args:
        found: each body with its prompt.
        residual_of: the other person in a prompt's box beside a known body, or None.
        settings: thresholds.

    Returns:
        The bodies in descending order of the given scores; a residual person takes the place of the body it replaces.
    """
    kept: list[tuple[P, B]] = []
    for prompt, body in sorted(found, key=lambda one: -one[1].score):
        twin = next((i for i, (_, other) in enumerate(kept) if _are_duplicate_people(body, other, settings)), None)
        if twin is not None:
            former_prompt, former = kept[twin]
            residual = residual_of(former_prompt, body)
            if residual is not None and _is_another(residual, body, former, settings):
                kept[twin] = former_prompt, residual
        kept.append((prompt, body))
    return [body for _, body in kept]


def _are_duplicate_people(one: Completed, other: Completed, settings: DeduplicationSettings) -> bool:
    """Whether two bodies are duplicates by their visible or amodal masks."""
    return _are_duplicates(one, other, settings) or _amodal_iou_reaches(one, other, settings.same_body_iou)


def _is_another(residual: Completed, known: Completed, former: Completed, settings: DeduplicationSettings) -> bool:
    """Whether `residual`, found beside `known` in place of `former`, is another person and no part of these two."""
    if residual.area_px < settings.min_residual_of_mask * former.area_px:
        return False
    if _amodal_iou_reaches(residual, known, settings.same_body_iou) or _amodal_iou_reaches(
        residual, former, settings.max_former_body_iou
    ):
        return False
    return _shared_px(residual, known) <= settings.max_shared * min(residual.area_px, known.area_px)
