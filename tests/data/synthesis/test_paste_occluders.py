"""People and things pasted in front of a real photo's people: the truth is what stays visible, to the pixel."""

from __future__ import annotations

import numpy as np
import pytest

from deocclude.data.samples.detector_samples import crop_wild
from deocclude.data.samples.detector_stream import PeopleStream
from deocclude.data.sources.layers import Library
from deocclude.data.sources.real_photos import WildPhoto
from deocclude.data.synthesis.multi_person import AssetPool, CrowdConfig, compose_crowd
from deocclude.data.synthesis.paste_occluders import cover


@pytest.fixture(scope="module")
def pool(library: Library) -> AssetPool:
    return AssetPool.of(library)


def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """120 x 160, uniform grey; two people of 40 x 90, side by side, and a crowd at the right."""
    instances = np.zeros((120, 160), np.uint8)
    instances[20:110, 20:60] = 1
    instances[20:110, 60:100] = 4
    ignore = np.zeros((120, 160), bool)
    ignore[:, 130:] = True
    return np.full((120, 160, 3), 77, np.uint8), instances, ignore


@pytest.fixture
def photo() -> WildPhoto:
    return WildPhoto("wild/x", *scene(), {1: (20.0, 20.0, 60.0, 110.0), 4: (60.0, 20.0, 100.0, 110.0)})


def most_people(pool: AssetPool, photo: WildPhoto, config: CrowdConfig, samples: int) -> int:
    """In any of the first samples of that photo."""
    stream, rng = PeopleStream(pool, [photo], config, 1.0, seed=1), np.random.default_rng(0)
    return max(len(stream.sample(rng, 96).boxes_xyxy) for _ in range(samples))


def test_truth_is_reduced_to_the_visible_pixels(pool: AssetPool) -> None:
    added = covered = 0
    for seed in range(80):
        rgb, instances, ignore = scene()
        given = rgb.copy(), instances.copy(), ignore.copy()
        new_rgb, new, unsure = cover(
            rgb, instances, ignore, np.random.default_rng(seed), pool=pool, config=CrowdConfig()
        )
        for array, before in zip((rgb, instances, ignore), given, strict=True):
            np.testing.assert_array_equal(array, before, "what is given stays as it is")
        changed = new != instances
        # a pixel that has another owner was painted over; light may leave a few of them grey as they were
        assert (new_rgb[changed] != 77).any(-1).mean() > 0.9 if changed.any() else True
        assert set(np.unique(new)) <= {0, 1, 4, 5, 6, 7}
        assert not (unsure & ~ignore).any() and not unsure[new >= 5].any()
        for number in (1, 4):
            assert (new == number).sum() >= 0.15 * (instances == number).sum()
            assert not ((new == number) & (instances != number)).any()
        sizes = np.bincount(new.ravel(), minlength=8)
        assert not any(0 < sizes[n] < 20 for n in range(5, 8)), "nobody is added of whom next to nothing shows"
        added += (new >= 5).any()
        covered += ((instances > 0) & changed).any()
    assert added > 25 and covered > 50


def test_same_seed_gives_the_same_photo(pool: AssetPool) -> None:
    a, b = (cover(*scene(), np.random.default_rng(5), pool=pool, config=CrowdConfig()) for _ in range(2))
    for one, other in zip(a, b, strict=True):
        np.testing.assert_array_equal(one, other)


def test_boxes_follow_visible_pixels_and_pasted_people_are_counted(photo: WildPhoto) -> None:
    def hide_half(rgb, instances, ignore, rng):
        instances = instances.copy()
        below = np.arange(len(instances)) >= instances.nonzero()[0].mean()
        instances[below] = np.where(instances[below] > 0, 9, 0)
        return rgb, instances, ignore

    for seed in range(20):
        plain = crop_wild(photo, np.random.default_rng(seed), 96)
        hidden = crop_wild(photo, np.random.default_rng(seed), 96, hide_half)
        if not len(plain.boxes_xyxy):
            continue
        assert len(hidden.boxes_xyxy) == len(plain.boxes_xyxy) + 1 and hidden.counted[-1], "the last is the new one"
        for (_, top, _, bottom), (_, new_top, _, new_bottom) in zip(
            plain.boxes_xyxy, hidden.boxes_xyxy[:-1], strict=True
        ):
            assert new_top == top and new_bottom < bottom


def test_p_wild_covered_controls_pasted_people(pool: AssetPool, photo: WildPhoto) -> None:
    def people(p_covered: float) -> int:
        return most_people(pool, photo, CrowdConfig(p_wild_covered=p_covered), 30)

    assert people(0.0) == 2 and people(1.0) > 2


def test_people_of_real_photos_join_the_asset_pool(pool: AssetPool, photo: WildPhoto) -> None:
    def of(share: float) -> AssetPool:
        return PeopleStream(pool, [photo], CrowdConfig(p_wild_people=share), 0.0, seed=1).pool

    assert of(0.0) is pool
    joined = of(0.25)
    names = [layer.name for layer in joined.people]
    assert names[-2:] == ["wild/x/1", "wild/x/4"] and len(names) == len(pool.people) + 2
    assert joined.people_shares[-2:] == pytest.approx([0.125, 0.125]) and joined.people_shares.sum() == pytest.approx(1)
    seen = set()
    for seed in range(30):
        seen.update(compose_crowd(joined, np.random.default_rng(seed), CrowdConfig(p_own_photo=0.0), 96).names)
    assert {"wild/x/1", "wild/x/4"} & seen and seen - {"wild/x/1", "wild/x/4"}


def test_p_wild_mosaic_controls_mosaics(pool: AssetPool, photo: WildPhoto) -> None:
    def most(p_mosaic: float) -> int:
        return most_people(pool, photo, CrowdConfig(p_wild_mosaic=p_mosaic), 20)

    assert most(0.0) == 2 and 4 < most(1.0) <= 8
