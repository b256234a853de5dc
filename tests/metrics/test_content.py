"""Hand-computed values of the protocol's measures, and parity with scikit-image."""

from __future__ import annotations

import math

import numpy as np
import pytest

from deocclude.metrics import content, masks


def bar(start: int, stop: int, *, size: int = 10) -> np.ndarray:
    """(4, size) mask whose columns start to stop are set: 4 pixels a column."""
    mask = np.zeros((4, size), bool)
    mask[:, start:stop] = True
    return mask


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


def test_empty_region_gives_nan() -> None:
    picture = np.zeros((4, 10, 3), np.uint8)
    nothing = bar(0, 0)
    for measure in (content.region_l1, content.region_psnr, content.region_ssim, content.gradient_ratio):
        assert math.isnan(measure(picture, picture, nothing))


def test_region_of_another_size_is_refused() -> None:
    picture = np.zeros((4, 10, 3), np.uint8)
    for measure in (content.region_l1, content.region_psnr, content.region_ssim, content.gradient_ratio):
        with pytest.raises(ValueError, match=r"region \(H, W\), got \(4, 10, 3\) and \(4, 12\)"):
            measure(picture, picture, bar(0, 4, size=12))


def test_ssim_matches_scikit_image() -> None:
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


def test_mean_gradient_of_a_ramp_excludes_the_border() -> None:
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


def test_gradient_ratio_scales_with_contrast_and_is_zero_for_flat() -> None:
    rng = np.random.default_rng(5)
    truth = rng.integers(0, 200, (20, 20, 3)).astype(np.float64)
    region = np.ones((20, 20), bool)
    assert content.gradient_ratio(truth, truth, region) == pytest.approx(1.0)
    assert content.gradient_ratio(truth * 0.25 + 9, truth, region) == pytest.approx(0.25)
    assert content.gradient_ratio(np.full_like(truth, 80), truth, region) == 0.0
    assert math.isnan(content.gradient_ratio(truth, np.full_like(truth, 80), region))


def test_seam_step_by_hand() -> None:
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
