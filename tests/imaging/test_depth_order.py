import numpy as np
import pytest

from deocclude.imaging.crop import Region
from deocclude.imaging.depth_order import BodyMasks, Occlusion, back_to_front, find_occlusions, resolve_overlaps


def body(top: int, left: int, bottom: int, right: int, hidden=(0, 0, 0, 0)) -> BodyMasks:
    """A filled rectangle in a region one pixel larger, of which a rectangle in photo pixels is hidden."""
    region = Region(top - 1, left - 1, bottom + 1, right + 1)
    photo = np.zeros((60, 60), bool)
    photo[top:bottom, left:right] = True
    amodal = photo[region.slices].copy()
    photo[hidden[0] : hidden[2], hidden[1] : hidden[3]] = False
    return BodyMasks(region, photo[region.slices], amodal)


def on_photo(one: BodyMasks, part: np.ndarray) -> np.ndarray:
    photo = np.zeros((60, 60), bool)
    photo[one.region.slices] = part
    return photo


# a tall one behind, whose right half from row 20 on is hidden by the front one
BEHIND = body(5, 10, 40, 20, hidden=(20, 15, 40, 20))
FRONT = body(20, 15, 50, 30)


def test_disjoint_masks_are_unchanged():
    visible = resolve_overlaps([BEHIND, FRONT])
    assert np.array_equal(visible[0], BEHIND.visible) and np.array_equal(visible[1], FRONT.visible)


def test_overlap_goes_to_the_person_in_front_in_any_prompt_order():
    # the one behind claims two columns of the front one's body
    greedy = body(5, 10, 40, 20, hidden=(20, 17, 40, 20))
    expected = on_photo(BEHIND, BEHIND.visible)
    for bodies in ([greedy, FRONT], [FRONT, greedy]):
        visible = [on_photo(one, part) for one, part in zip(bodies, resolve_overlaps(bodies), strict=True)]
        behind, front = visible if bodies[0] is greedy else visible[::-1]
        assert np.array_equal(behind, expected)
        assert np.array_equal(front, on_photo(FRONT, FRONT.visible))


def test_overlap_pixel_goes_to_the_higher_visible_probability():
    greedy = body(5, 10, 40, 20, hidden=(20, 17, 40, 20))  # claims two columns of the front one's body

    def with_probability(one: BodyMasks, of_column) -> BodyMasks:
        columns = np.arange(one.region.left, one.region.right)
        return one._replace(visible_prob=np.where(one.visible, of_column(columns), 0).astype(np.uint8))

    # the front one is unsure of its own column 15, and as sure as the other of column 16
    bodies = [
        with_probability(greedy, lambda x: np.full_like(x, 200)),
        with_probability(FRONT, lambda x: np.where(x == 15, 150, 200)),
    ]
    for pair in (bodies, bodies[::-1]):
        visible = {one.region: on_photo(one, part) for one, part in zip(pair, resolve_overlaps(pair), strict=True)}
        behind, front = visible[greedy.region], visible[FRONT.region]
        assert not (behind & front).any()
        assert behind[20:40, 15].all() and not front[20:40, 15].any()
        assert front[20:40, 16].all() and not behind[20:40, 16].any()


def test_higher_probability_does_not_erase_a_smaller_person():
    tall, child = body(5, 5, 50, 30), body(20, 10, 40, 20)
    sure = tall._replace(visible_prob=np.where(tall.visible, 255, 0).astype(np.uint8))
    unsure = child._replace(visible_prob=np.where(child.visible, 140, 0).astype(np.uint8))
    visible = resolve_overlaps([sure, unsure])
    assert np.array_equal(visible[1], child.visible)
    assert np.count_nonzero(visible[0]) == 45 * 25 - 200


def test_lower_body_is_in_front_without_other_evidence():
    high, low = body(5, 10, 30, 20), body(10, 15, 40, 25)
    visible = resolve_overlaps([high, low])
    assert np.array_equal(visible[1], low.visible)
    assert np.count_nonzero(visible[0]) == 250 - 20 * 5


def test_duplicate_prompts_keep_both_masks():
    once, again = body(5, 10, 40, 20), body(6, 10, 40, 20)
    visible = resolve_overlaps([once, again], allow_duplicates=True)
    assert np.array_equal(visible[0], once.visible) and np.array_equal(visible[1], again.visible)


def test_duplicates_become_disjoint_unless_allowed():
    one, other = body(5, 10, 40, 20), body(12, 10, 48, 20)  # an IoU of 0.65
    assert all(visible.sum() > 300 for visible in resolve_overlaps([one, other], allow_duplicates=True))
    visible = resolve_overlaps([one, other])
    assert not (on_photo(one, visible[0]) & on_photo(other, visible[1])).any()
    assert all(part.any() for part in visible)


def test_contained_person_keeps_its_mask():
    # a child's mask inside a taller person's: by the lower row the tall one would be in front and take all of it
    tall, child = body(5, 5, 50, 30), body(20, 10, 40, 20)
    visible = resolve_overlaps([tall, child])
    assert np.array_equal(visible[1], child.visible)
    assert np.count_nonzero(visible[0]) == 45 * 25 - 200


def test_occlusions_list_front_behind_and_area():
    assert find_occlusions([BEHIND, FRONT], [7, 9]) == (Occlusion(front=9, behind=7, area_px=100),)
    assert find_occlusions([FRONT, BEHIND], [1, 2]) == (Occlusion(front=1, behind=2, area_px=100),)
    away = body(5, 45, 40, 55)
    assert find_occlusions([BEHIND, away], [1, 2]) == ()


def test_tiny_overlap_is_no_occlusion():
    thin = body(5, 10, 55, 20, hidden=(30, 19, 31, 20))  # one pixel of 500
    beside = body(30, 19, 31, 30)
    assert len(find_occlusions([thin, beside], [1, 2])) == 1  # exactly the least share, 0.002
    larger = body(5, 9, 55, 20, hidden=(30, 19, 31, 20))  # one of 550
    assert find_occlusions([larger, beside], [1, 2]) == ()


def test_depth_order_follows_occlusions_then_feet():
    hides = [Occlusion(front=1, behind=2, area_px=50), Occlusion(front=2, behind=3, area_px=9)]
    assert back_to_front([1, 2, 3], hides, feet_y=[10, 20, 30]) == [3, 2, 1]
    assert back_to_front([1, 2, 3], [], feet_y=[30, 10, 20]) == [2, 3, 1]
    assert back_to_front([4, 2], [], feet_y=[5, 5]) == [2, 4]
    assert back_to_front([], [], []) == []


def test_occlusion_cycle_breaks_at_the_smallest_area():
    circle = [Occlusion(1, 2, 30), Occlusion(2, 3, 20), Occlusion(3, 1, 10)]
    # 3 in front of 1 is what yields: 1 hides 2, 2 hides 3
    assert back_to_front([1, 2, 3], circle, feet_y=[1, 2, 3]) == [3, 2, 1]


@pytest.mark.parametrize("count", [12])
def test_occlusion_chain_orders_every_person_once(count):
    ids = list(range(1, count + 1))
    chain = [Occlusion(front=i + 1, behind=i, area_px=i) for i in ids[:-1]]
    assert back_to_front(ids, chain, feet_y=[0.0] * count) == ids
