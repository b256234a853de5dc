"""Hand-computed values of the protocol's measures, and parity with scikit-image."""

from __future__ import annotations

import math

import numpy as np
import pytest

from deocclude.metrics import bootstrap, content, masks


def bar(start: int, stop: int, *, size: int = 10) -> np.ndarray:
    """(4, size) mask whose columns start to stop are set: 4 pixels a column."""
    mask = np.zeros((4, size), bool)
    mask[:, start:stop] = True
    return mask


def test_intersection_union_and_pooled_iou() -> None:
    assert masks.intersection_union(bar(0, 6), bar(3, 9)) == (12, 36)
    assert masks.pooled_iou([(12, 36)]) == pytest.approx(1 / 3)
    # 12 of 36 and 4 of 4: pooled is 16 / 40, not the mean of 1/3 and 1.
    assert masks.pooled_iou([(12, 36), (4, 4)]) == pytest.approx(0.4)
    assert math.isnan(masks.pooled_iou([]))
    assert math.isnan(masks.pooled_iou([(0, 0)]))


def test_invisible_counts_leave_out_what_is_truly_visible() -> None:
    # The body spans columns 0-8 of which 0-4 are seen; the prediction ends at 6: hidden 4-6 found of 4-8.
    counts = masks.invisible_intersection_union(bar(2, 6), bar(0, 8), bar(0, 4))
    assert counts == (8, 16)
    # A prediction that only repeats the visible part finds nothing.
    assert masks.invisible_intersection_union(bar(0, 4), bar(0, 8), bar(0, 4)) == (0, 16)
    # Nothing hidden, nothing predicted to be.
    assert masks.invisible_intersection_union(bar(0, 4), bar(0, 4), bar(0, 4)) == (0, 0)


def test_false_completion_is_a_share_of_the_true_body() -> None:
    assert masks.false_positive_ratio(bar(0, 6), bar(0, 4)) == pytest.approx(0.5)
    assert masks.false_positive_ratio(bar(0, 3), bar(0, 4)) == 0.0
    assert masks.false_positive_ratio(bar(0, 9), bar(0, 3)) == pytest.approx(2.0)
    assert math.isnan(masks.false_positive_ratio(bar(0, 3), bar(0, 0)))


def test_visible_ratio_and_its_bins() -> None:
    assert masks.visible_ratio(bar(0, 3), bar(0, 4)) == 0.75
    assert math.isnan(masks.visible_ratio(bar(0, 0), bar(0, 0)))
    assert [masks.ratio_bin(r) for r in (0.0, 0.0999, 0.1, 0.55, 0.9, 1.0)] == [0, 0, 1, 5, 9, 9]
    with pytest.raises(ValueError, match=r"ratio must lie in \[0, 1\], got 1.5"):
        masks.ratio_bin(1.5)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="one shape"):
        masks.intersection_union(bar(0, 1), bar(0, 1, size=9))
    with pytest.raises(ValueError, match="picture must be"):
        content.region_l1(np.zeros((3, 3, 3)), np.zeros((3, 3, 3)), np.ones((3, 4), bool))


def test_l1_and_psnr_inside_the_region_only() -> None:
    truth = np.full((4, 10, 3), 100, np.uint8)
    predicted = truth.copy()
    predicted[:, 0:2] = 110  # inside
    predicted[:, 5:] = 0  # outside, must not count
    region = bar(0, 4)
    assert content.region_l1(predicted, truth, region) == pytest.approx(5.0)
    assert content.region_psnr(predicted, truth, region) == pytest.approx(10 * math.log10(255**2 / 50))
    assert content.region_psnr(truth, truth, region) == content.PSNR_CAP_DB
    # Unsigned bytes must not wrap: 0 against 255 is 255.
    assert content.region_l1(np.zeros_like(truth), np.full_like(truth, 255), region) == 255.0
    assert content.region_psnr(np.zeros_like(truth), np.full_like(truth, 255), region) == pytest.approx(0.0)


def test_nothing_to_measure_is_nan() -> None:
    picture = np.zeros((4, 10, 3), np.uint8)
    nothing = bar(0, 0)
    for measure in (content.region_l1, content.region_psnr, content.region_ssim, content.gradient_ratio):
        assert math.isnan(measure(picture, picture, nothing))


def test_ssim_is_that_of_scikit_image() -> None:
    structural_similarity = pytest.importorskip("skimage.metrics").structural_similarity
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 256, (41, 37, 3)).astype(np.uint8)
    predicted = np.clip(truth + rng.normal(0, 30, truth.shape), 0, 255).astype(np.uint8)
    _, expected = structural_similarity(
        predicted,
        truth,
        channel_axis=2,
        data_range=255,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    np.testing.assert_allclose(content.ssim_map(predicted, truth), expected, atol=1e-6)
    # A region away from the edges and one at a corner: cutting around it must not change its values.
    for rows, columns in ((slice(15, 22), slice(9, 30)), (slice(0, 4), slice(30, 37))):
        region = np.zeros(truth.shape[:2], bool)
        region[rows, columns] = True
        assert content.region_ssim(predicted, truth, region) == pytest.approx(expected[region].mean(), abs=1e-6)


def test_ssim_of_equal_and_of_constant_pictures() -> None:
    region = np.ones((16, 16), bool)
    ramp = np.repeat(np.arange(0, 160, 10, dtype=np.uint8)[None, :, None], 16, axis=0).repeat(3, axis=2)
    assert content.region_ssim(ramp, ramp, region) == pytest.approx(1.0)
    dark, light = np.full((16, 16, 3), 50, np.uint8), np.full((16, 16, 3), 150, np.uint8)
    # Two flat pictures differ in brightness alone: (2 m1 m2 + c1) / (m1^2 + m2^2 + c1).
    c1 = (0.01 * 255) ** 2
    expected = (2 * 50 * 150 + c1) / (50**2 + 150**2 + c1)
    assert content.region_ssim(dark, light, region) == pytest.approx(expected)


def test_gradient_of_a_ramp_and_the_border_left_out() -> None:
    picture = np.zeros((9, 12, 3), np.uint8)
    picture[:, 3:9] = (np.arange(6, dtype=np.uint8) * 4)[None, :, None]  # 4 levels a pixel, inside columns 3 to 8
    picture[:, 9:] = 255  # a hard edge outside the region
    region = np.zeros((9, 12), bool)
    region[2:7, 3:9] = True
    assert content.mean_gradient(picture, region) == pytest.approx(4.0)
    thin = np.zeros((9, 12), bool)
    thin[2:7, 3:5] = True  # two columns: no pixel has both side neighbours inside
    assert math.isnan(content.mean_gradient(picture, thin))
    diagonal = np.add.outer(np.arange(9) * 3, np.arange(12) * 4)[..., None].repeat(3, axis=2)
    assert content.mean_gradient(diagonal, np.ones((9, 12), bool)) == pytest.approx(5.0)


def test_gradient_ratio_is_a_ratio_and_a_flat_colour_has_none() -> None:
    rng = np.random.default_rng(5)
    truth = rng.integers(0, 200, (20, 20, 3)).astype(np.float64)
    region = np.ones((20, 20), bool)
    assert content.gradient_ratio(truth, truth, region) == pytest.approx(1.0)
    assert content.gradient_ratio(truth * 0.25 + 9, truth, region) == pytest.approx(0.25)
    assert content.gradient_ratio(np.full_like(truth, 80), truth, region) == 0.0
    assert math.isnan(content.gradient_ratio(truth, np.full_like(truth, 80), region))


def test_the_seam_of_a_drawn_edge() -> None:
    picture = np.zeros((6, 8, 3), np.uint8)
    picture[:, :4] = 100
    picture[:, 4:] = (130, 100, 70)
    body = np.zeros((6, 8), bool)
    body[1:5, 1:7] = True
    hidden = body.copy()
    hidden[:, :4] = False
    # Four pairs across columns 3 and 4: 30, 0 and 30 in the channels. What borders on the background is no pair.
    assert content.seam_step(picture, hidden, body) == pytest.approx(20.0)
    picture[2, 3] = (130, 100, 70)  # one of the four without a step
    assert content.seam_step(picture, hidden, body) == pytest.approx(15.0)
    assert content.seam_step(picture.swapaxes(0, 1), hidden.T, body.T) == pytest.approx(15.0)
    assert math.isnan(content.seam_step(picture, body, body))


def test_counts_of_labels() -> None:
    predicted, truth = np.array([[1, 1, 2, 9]]), np.array([[1, 2, 2, 2]])
    region = np.array([[True, True, True, False]])
    assert masks.label_counts(predicted, truth, region, 3).tolist() == [[0, 0, 0], [1, 2, 1], [1, 2, 2]]


def test_mean_of_known() -> None:
    assert bootstrap.mean_of_known([1.0, math.nan, 3.0]) == 2.0
    assert math.isnan(bootstrap.mean_of_known([math.nan]))


def test_bootstrap_draws_people() -> None:
    # Two people, each with equal values: every draw is 0, 0.5 or 1, and the 95 % interval is the whole range.
    values, people = [0.0] * 5 + [1.0] * 5, ["a"] * 5 + ["b"] * 5
    assert bootstrap.bootstrap_interval(values, people, np.random.default_rng(0)) == (0.0, 1.0)
    # The same values as ten people vary less.
    low, high = bootstrap.bootstrap_interval(values, [str(i) for i in range(10)], np.random.default_rng(0))
    assert 0.1 < low < 0.35 and 0.65 < high < 0.9


def test_bootstrap_matches_the_normal_interval_of_many_people() -> None:
    values = np.random.default_rng(1).normal(10.0, 2.0, 400)
    people = [str(i) for i in range(400)]
    low, high = bootstrap.bootstrap_interval(values.tolist(), people, np.random.default_rng(2))
    error = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - error, abs=0.03)
    assert high == pytest.approx(values.mean() + error, abs=0.03)
    assert (low, high) == bootstrap.bootstrap_interval(values.tolist(), people, np.random.default_rng(2))


def test_bootstrap_of_nothing_and_of_unknown_values() -> None:
    rng = np.random.default_rng(0)
    assert all(math.isnan(x) for x in bootstrap.bootstrap_interval([], [], rng))
    assert all(math.isnan(x) for x in bootstrap.bootstrap_interval([math.nan], ["a"], rng))
    assert all(math.isnan(x) for x in bootstrap.bootstrap_interval([math.nan, 2.0], ["a", "b"], rng))
    assert all(math.isnan(x) for x in bootstrap.bootstrap_interval([1.0, 2.0], ["a", "a"], rng)), "one person"
    assert bootstrap.bootstrap_interval([math.nan, 2.0, 2.0], ["a", "b", "c"], rng) == (2.0, 2.0)
    with pytest.raises(ValueError, match="2 values and 1 people"):
        bootstrap.bootstrap_interval([1.0, 2.0], ["a"], rng)
