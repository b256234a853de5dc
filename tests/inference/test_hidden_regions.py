"""Single hidden regions: their features by hand, and what is dropped."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from deocclude.errors import WeightsError
from deocclude.imaging.crop import Region, SquareCrop
from deocclude.inference.body import Body, BodyInCrop
from deocclude.inference.hidden_regions import (
    UNCALIBRATED_REGIONS,
    FeatureMap,
    RegionCalibration,
    find_regions,
    keep_likely_regions,
)
from deocclude.inference.occlusion_probability import OcclusionCalibration, decide_completion
from deocclude.inference.scene import Scene, extend
from deocclude.inference.settings import OcclusionSettings

SIZE_HW = (100, 60)
CERTAIN, DOUBTFUL = 0.9, 0.6
GAP, LEGS = (slice(40, 60), slice(20, 30)), (slice(80, 100), slice(0, 60))


def drawn_body(scale: int = 1) -> Body:
    """A body with a gap of low probability that it encloses, and hidden legs of high probability below it."""
    amodal, visible = np.ones(SIZE_HW, bool), np.ones(SIZE_HW, bool)
    prob, seen = np.full(SIZE_HW, 255, np.uint8), np.full(SIZE_HW, 255, np.uint8)
    for part, value in ((GAP, DOUBTFUL), (LEGS, CERTAIN)):
        visible[part], seen[part], prob[part] = False, 51, round(255 * value)
    amodal, visible, prob, seen = (
        np.kron(one, np.ones((scale, scale), one.dtype)) for one in (amodal, visible, prob, seen)
    )
    crop = SquareCrop((30.0 * scale, 50.0 * scale), 100.0 * scale, 64)
    nothing = np.zeros((12, 16, 16), np.float32)
    in_crop = BodyInCrop(crop, np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), bool), nothing, nothing)
    region = Region(10, 20, 10 + amodal.shape[0], 20 + amodal.shape[1])
    parsing = amodal.astype(np.uint8) * np.uint8(6)
    return Body(region, visible, amodal, prob, seen, parsing, 0.9, 0.2, in_crop)


def without_unlikely_regions(
    body: Body, others: np.ndarray, calibration: RegionCalibration, min_probability: float
) -> Body:
    return keep_likely_regions(body, find_regions(body, others), calibration, min_probability)


def no_others(body: Body) -> np.ndarray:
    return np.zeros(body.region.size_hw, bool)


@pytest.mark.parametrize("scale", [1, 7])
def test_region_features_by_hand_at_any_resolution(scale: int) -> None:
    body = drawn_body(scale)
    others = no_others(body)
    others[80 * scale : 90 * scale] = True
    regions = find_regions(body, others)
    assert regions.step == -(-100 * scale // 256)
    gap, legs = regions.features
    np.testing.assert_allclose(gap[[0, 1, 3, 5]], [np.log(0.6 / 0.4), 0.2, 1, 0], atol=0.01)
    np.testing.assert_allclose(legs[[0, 1, 3, 5]], [np.log(0.9 / 0.1), 0.2, 1, 0.5], atol=0.06)
    np.testing.assert_allclose([gap[2], legs[2]], np.log([200 / 6000, 1200 / 6000]), atol=0.07)
    assert 0 < gap[4] < legs[4] < 1, "the gap is thinner"


@pytest.mark.parametrize("scale", [1, 7])
def test_unlikely_region_is_removed_exactly(scale: int) -> None:
    body = drawn_body(scale)
    kept = without_unlikely_regions(body, no_others(body), UNCALIBRATED_REGIONS, 0.7)
    expected = np.ones(SIZE_HW, bool)
    expected[GAP] = False
    expected = np.kron(expected, np.ones((scale, scale), bool))
    np.testing.assert_array_equal(kept.amodal, expected)
    np.testing.assert_array_equal(kept.visible, body.visible)
    assert (kept.amodal_prob[~expected] < 128).all() and not kept.parsing[~expected].any()
    np.testing.assert_array_equal(kept.amodal_prob[expected], body.amodal_prob[expected])
    assert without_unlikely_regions(body, no_others(body), UNCALIBRATED_REGIONS, 0.5) is body
    assert without_unlikely_regions(body, no_others(body), UNCALIBRATED_REGIONS, 1.0).hidden_fraction == 0


def test_person_in_front_raises_the_region_probability() -> None:
    body = drawn_body()
    calibration = RegionCalibration(-2.0, 0, 0, 0, 0, 0, covered=4.0)
    others = no_others(body)
    others[LEGS] = True
    kept = without_unlikely_regions(body, others, calibration, 0.5)
    assert kept.amodal[LEGS].all() and not kept.amodal[GAP].any()


def test_auto_reports_why_completion_was_skipped() -> None:
    body, settings = drawn_body(), OcclusionSettings(min_region_probability=0.7)

    def decide(complete: str, **options) -> Body:
        (decided,) = decide_completion(
            [body], [body], OcclusionCalibration(), complete, settings, feature_map=lambda body: None, **options
        )
        return decided

    assert decide("auto").left_alone is None and decide("auto").hidden_fraction == pytest.approx(0.2 / (1 - 200 / 6000))
    assert decide("always").hidden_fraction == body.hidden_fraction
    unlikely = decide("auto", min_probability=0.99)
    assert (unlikely.left_alone, unlikely.hidden_fraction) == ("unlikely", 0)
    low = decide("auto", min_height_px=101)
    assert (low.left_alone, low.hidden_fraction) == ("low", 0)
    assert decide("auto", min_height_px=60).left_alone is None
    assert decide("never").left_alone is None and decide("never").hidden_fraction == 0


@pytest.mark.parametrize("complete", ["auto", "always", "never"])
def test_body_without_a_visible_pixel_is_left_as_it_is(complete: str) -> None:
    body = drawn_body()
    unseen = replace(body, visible=np.zeros_like(body.visible))
    settings = OcclusionSettings(min_region_probability=1.0)
    (decided,) = decide_completion(
        [unseen], [unseen], OcclusionCalibration(), complete, settings, feature_map=lambda body: None
    )
    np.testing.assert_array_equal(decided.amodal, body.amodal)
    assert decided.left_alone is None


def test_body_without_a_visible_pixel_is_not_extended() -> None:
    body = drawn_body()
    unseen = replace(body, visible=np.zeros_like(body.visible))
    seen = Scene.of(np.zeros((110, 100, 3), np.uint8), {1: unseen})
    assert seen.truncations[1].edges == ("bottom",)

    def complete(photo: np.ndarray, mask: np.ndarray) -> Body:
        assert mask.any(), "stage 1 refuses an empty mask"
        return body

    extended = extend(seen, complete, OcclusionCalibration())
    np.testing.assert_array_equal(extended.bodies[1].amodal, body.amodal)


def feature_map(scale: int = 1) -> FeatureMap:
    """Two features around the drawn body: 1 at the gap's cells, and 1 below row 90 of the image."""
    values = np.zeros((2, 20, 20), np.float32)
    crop = SquareCrop((50.0 * scale, 60.0 * scale), 200.0 * scale, 64)  # cells of 10 pixels, from (-50, -40)
    values[0, (10 + 40 + 40) // 10 : (10 + 60 + 40) // 10, (20 + 20 + 50) // 10] = 1
    values[1, (90 + 40) // 10 :] = 1
    return FeatureMap(crop, values)


def test_mean_feature_by_hand_inside_and_outside_the_crop() -> None:
    values = np.arange(4, dtype=np.float32).reshape(1, 2, 2)
    features = FeatureMap(SquareCrop((10.0, 10.0), 20.0, 64), values)
    assert features.mean_at(np.array([5.0]), np.array([15.0])) == [2]
    assert features.mean_at(np.array([5.0, 15.0, 15.0, 15.0]), np.array([5.0, 5.0, 5.0, 15.0])) == [(0 + 1 + 1 + 3) / 4]
    assert features.mean_at(np.array([-90.0, 90.0]), np.array([-90.0, 90.0])) == [1.5]


@pytest.mark.parametrize("scale", [1, 7])
def test_mean_features_of_regions_by_hand_at_any_resolution(scale: int) -> None:
    body = drawn_body(scale)
    body = body.moved(20 * (scale - 1), 10 * (scale - 1))
    gap, legs = find_regions(body, no_others(body), feature_map(scale)).features[:, 6:]
    np.testing.assert_allclose([*gap, *legs], [1, 0, 0, 1], atol=0.02)
    plain = find_regions(body, no_others(body)).features
    np.testing.assert_array_equal(plain, find_regions(body, no_others(body), feature_map(scale)).features[:, :6])


def test_region_is_removed_for_its_image_features_alone() -> None:
    body = drawn_body()
    calibration = RegionCalibration(2.0, 0, 0, 0, 0, 0, 0, image_features=(-4.0, 0.0))
    regions = find_regions(body, no_others(body), feature_map())
    kept = keep_likely_regions(body, regions, calibration, 0.5)
    assert kept.amodal[LEGS].all() and not kept.amodal[GAP].any()
    with pytest.raises(WeightsError, match="expects 2 features of mask_box, which returns 0: export mask_box"):
        keep_likely_regions(body, find_regions(body, no_others(body)), calibration, 0.5)


def test_feature_map_is_computed_only_for_a_calibration_that_uses_it() -> None:
    body, asked = drawn_body(), []

    def counted_map(one: Body) -> FeatureMap:
        asked.append(one)
        return feature_map()

    for weights, complete, count in (((), "auto", 0), ((-9.0, 0.0), "never", 0), ((-9.0, 0.0), "auto", 1)):
        regions = RegionCalibration(2.0, 0, 0, 0, 0, 0, 0, image_features=weights)
        decide_completion(
            [body],
            [body],
            OcclusionCalibration(regions=regions),
            complete,
            OcclusionSettings(),
            feature_map=counted_map,
        )
        assert len(asked) == count
