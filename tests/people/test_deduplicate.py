"""Mask non-maximum suppression keeps the highest-scoring duplicate; merged detections are split."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from deocclude.imaging.boxes import box_to_mask, mask_to_box_xyxy
from deocclude.imaging.crop import Region
from deocclude.inference.settings import DeduplicationSettings
from deocclude.people.deduplicate import join_amodal_duplicates, split_merged, suppress_duplicates
from deocclude.people.instances import Instance

SIZE_HW = (10, 20)


def boxed(*box_xyxy: int, score: float = 1.0, size_hw: tuple[int, int] = SIZE_HW) -> Instance:
    """A person who is a filled box."""
    return Instance(box_to_mask(box_xyxy, size_hw), score)


def test_duplicates_by_iou():
    # 10 wide bars: 1 px apart they share 9 of 11 (0.82), 2 px apart 8 of 12 (0.67), each 8 of 10 of the other.
    first, near, far = boxed(0, 0, 10, 1, score=0.8), boxed(1, 0, 11, 1, score=0.9), boxed(2, 0, 12, 1, score=0.7)
    assert suppress_duplicates([first, near]) == [near]
    assert suppress_duplicates([first, far]) == [first, far]
    assert suppress_duplicates([first, far], DeduplicationSettings(same_body_iou=0.6)) == [first]
    assert suppress_duplicates([first, near, far]) == [near], "by descending score: it duplicates both"
    assert suppress_duplicates([]) == []


def test_duplicates_by_containment():
    body, half, more = boxed(0, 0, 20, 10), boxed(0, 0, 10, 10), boxed(0, 0, 11, 10, score=0.5)
    assert suppress_duplicates([body, half]) == [body, half], "half the area in it: a child in front of an adult"
    assert suppress_duplicates([body, more]) == [body], "more than half: the same body, truncated"


@pytest.mark.parametrize(("shared_px", "left"), [(17, 1), (16, 2)])
def test_containment_threshold_is_85_percent_of_the_smaller(shared_px, left):
    # The larger has 20 + 10 pixels in two rows; of the smaller's 20, `shared_px` lie in its first row.
    larger = boxed(0, 0, 20, 1).mask | boxed(0, 1, 10, 2).mask
    smaller = boxed(0, 0, shared_px, 1).mask | boxed(0, 5, 20 - shared_px, 6).mask
    assert (
        len(suppress_duplicates([Instance(larger), Instance(smaller)], DeduplicationSettings(same_body_iou=0.9)))
        == left
    )


def test_larger_duplicate_wins_ties_and_order_is_kept():
    one, two = boxed(0, 0, 10, 9), boxed(0, 0, 10, 10)
    other = boxed(15, 0, 20, 5, score=0.1)
    assert suppress_duplicates([other, one, two]) == [other, two]
    assert suppress_duplicates([two, one, other]) == [two, other]
    twin = boxed(0, 0, 10, 10)
    assert suppress_duplicates([two, twin]) == [two]


def test_crossing_bodies_with_overlapping_boxes_are_not_duplicates():
    square = np.eye(10, 20, dtype=bool)
    assert len(suppress_duplicates([Instance(square), Instance(square[::-1].copy())])) == 2


@dataclass(frozen=True, eq=False)
class Figure:
    """A body; all pixels outside `visible` are hidden."""

    region: Region
    amodal: np.ndarray
    visible: np.ndarray
    score: float

    @property
    def area_px(self) -> int:
        return int(self.visible.sum())

    @property
    def box_xyxy(self) -> tuple[int, int, int, int]:
        x0, y0, x1, y1 = mask_to_box_xyxy(self.visible)
        return x0 + self.region.left, y0 + self.region.top, x1 + self.region.left, y1 + self.region.top

    def visible_in(self, x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
        return self.visible[Region(y0, x0, y1, x1).counted_from(self.region).slices]

    def visible_on(self, region: Region) -> np.ndarray:
        top, left = region.top - self.region.top, region.left - self.region.left
        rows, columns = (np.arange(size) + start for size, start in zip(region.size_hw, (top, left), strict=True))
        here = np.zeros(region.size_hw, bool)
        in_rows, in_columns = ((at >= 0) & (at < n) for at, n in zip((rows, columns), self.visible.shape, strict=True))
        here[np.ix_(in_rows, in_columns)] = self.visible[np.ix_(rows[in_rows], columns[in_columns])]
        return here

    def with_visible_part(self, part: np.ndarray) -> Figure:
        return replace(self, visible=self.visible | (part & self.amodal))


def body(top: int, left: int, height: int, width: int, score: float = 0.5) -> Figure:
    """A rectangle, with a margin of two pixels around it."""
    amodal = np.pad(np.ones((height, width), bool), 2)
    return Figure(Region(top - 2, left - 2, top + height + 2, left + width + 2), amodal, amodal, score)


def test_highest_scoring_body_of_one_place_is_kept() -> None:
    first, same = body(10, 10, 100, 40, 0.4), body(12, 14, 100, 38, 0.6)
    beside, far = body(10, 30, 100, 40, 0.9), body(10, 200, 100, 40, 0.1)
    assert join_amodal_duplicates([first, beside, same, far]) == [beside, same, far], "half of a body is another's"
    assert join_amodal_duplicates([first, beside, same, far], DeduplicationSettings(same_body_iou=0.3)) == [
        beside,
        far,
    ]
    twin = body(10, 10, 100, 40, 0.4)
    assert join_amodal_duplicates([first, twin]) == [first] and join_amodal_duplicates([]) == []


def part_of(figure: Figure, rows: slice, score: float) -> Figure:
    """The figure, of which only these rows are visible."""
    visible = np.zeros_like(figure.visible)
    visible[rows] = figure.visible[rows]
    return replace(figure, visible=visible, score=score)


def test_visible_parts_of_one_divided_person_are_joined() -> None:
    whole = body(10, 10, 100, 40)
    upper, legs = part_of(whole, slice(0, 40), 0.9), part_of(body(12, 11, 100, 40), slice(70, 104), 0.6)
    (joined,) = join_amodal_duplicates([legs, upper])
    assert joined.score == 0.9 and joined.visible[:40].sum() == upper.area_px
    shared = legs.visible[:-2, :-1] & whole.amodal[2:, 1:]
    assert joined.area_px == upper.area_px + shared.sum() and not joined.visible[42:68].any()


def test_duplicates_with_common_visible_pixels_are_not_joined() -> None:
    whole = body(10, 10, 100, 40)
    upper, more = part_of(whole, slice(0, 60), 0.9), part_of(whole, slice(20, 80), 0.6)
    assert join_amodal_duplicates([upper, more]) == [upper], "40 of 60 rows are the same"


FRONT, BEHIND = body(10, 10, 100, 30, 0.6), body(10, 40, 100, 45, 0.3)
BOTH = body(10, 10, 100, 75, 0.6)  # what the box of the one in front gave


def rests(**of: Figure | None):
    """Returns the residual person of each prompt by its name, and records the calls."""
    asked: list[tuple[str, Figure]] = []

    def residual_of(prompt: str, known: Figure) -> Figure | None:
        asked.append((prompt, known))
        return of.get(prompt)

    return residual_of, asked


@pytest.mark.parametrize("taken_for", [BOTH, replace(BEHIND, score=0.6)])
def test_merged_or_swapped_detection_is_split_into_two_people(taken_for: Figure) -> None:
    residual_of, asked = rests(front=FRONT)
    far = body(10, 300, 100, 30, 0.9)
    assert suppress_duplicates([taken_for, BEHIND]) == [taken_for], "or else one of them would be lost"
    assert split_merged([("behind", BEHIND), ("front", taken_for), ("far", far)], residual_of) == [far, FRONT, BEHIND]
    assert asked == [("front", BEHIND)], "the box of the higher-scoring body is segmented, once"
    assert suppress_duplicates([FRONT, BEHIND]) == [FRONT, BEHIND]


@pytest.mark.parametrize(
    ("rest", "why"),
    [
        (None, "no residual person"),
        (body(10, 10, 100, 10), "too little of the mask that held both"),
        (body(10, 20, 100, 60), "the residual person is the known one"),
        (body(10, 10, 100, 50), "a part of the body that was there"),
    ],
)
def test_merged_detection_without_valid_residual_is_kept(rest: Figure | None, why: str) -> None:
    residual_of, asked = rests(front=rest)
    assert split_merged([("front", BOTH), ("behind", BEHIND)], residual_of) == [BOTH, BEHIND] and asked, why


def test_residual_of_the_same_body_does_not_replace_the_detection() -> None:
    upper = np.zeros_like(BEHIND.amodal)
    upper[:60] = BEHIND.amodal[:60]
    seen, rest = replace(BEHIND, visible=upper), replace(BEHIND, visible=BEHIND.amodal & ~upper)
    residual_of, asked = rests(front=rest)
    holder = replace(BEHIND, score=0.7)
    assert split_merged([("front", holder), ("upper", seen)], residual_of) == [holder, seen] and asked


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (body(10, 10, 100, 30, 0.3), "a child in front of an adult"),
        (body(10, 60, 100, 45, 0.3), "half of it lies elsewhere"),
    ],
)
def test_clearly_distinct_people_are_not_split(other: Figure, why: str) -> None:
    residual_of, asked = rests(front=FRONT, other=FRONT)
    assert split_merged([("other", other), ("front", BOTH)], residual_of) == [BOTH, other] and not asked, why
