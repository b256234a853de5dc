"""The fits of the occlusion probabilities, on people and regions drawn from known ones."""

from __future__ import annotations

import numpy as np
import pytest

from deocclude.errors import UsageError
from deocclude.evaluation.calibration_fit import fit_bodies, fit_regions
from deocclude.inference.hidden_regions import RegionCalibration
from deocclude.inference.occlusion_probability import HIDDEN_SHARE, HiddenCalibration


def test_region_fit_recovers_the_true_probabilities() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(0, (1, 0.3, 1, 0.4, 0.3, 0.2), (6000, 6))
    true = RegionCalibration(-0.5, 1.5, 2.0, 0.5, -2.0, 1.0, 3.0)
    odds = true.probability(features)
    fitted = fit_regions(features, rng.random(6000) < odds)
    assert abs(fitted.probability(features) - odds).mean() < 0.03
    np.testing.assert_allclose(fitted[:-1], true[:-1], atol=0.6)
    assert fitted.image_features == ()


def test_region_fit_finds_the_one_feature_that_matters() -> None:
    rng = np.random.default_rng(1)
    features = np.concatenate([rng.normal(0, 1, (20_000, 6)), rng.normal(0, 1, (20_000, 30))], 1)
    odds = RegionCalibration(0.0, 0, 0, 0, 0, 0, 0, image_features=(2.0, *[0.0] * 29)).probability(features)
    fitted = fit_regions(features, rng.random(20_000) < odds)
    assert 1 < fitted.image_features[0] < 2, "drawn towards 0 by the penalty"
    assert np.abs(fitted.image_features[1:]).max() < 0.1


def test_region_fit_counts_regions_by_their_weight() -> None:
    features, is_body = np.zeros((4, 6)), np.array([True, False, False, False])
    even = fit_regions(features, is_body, np.array([3.0, 1, 1, 1]))
    assert even.probability(np.zeros((1, 6))) == pytest.approx(0.5)
    assert fit_regions(features, is_body).probability(np.zeros((1, 6))) == pytest.approx(0.25)


def test_region_fit_needs_regions() -> None:
    with pytest.raises(UsageError, match="people with a predicted hidden part, got none"):
        fit_regions(np.zeros((0, 6)), np.zeros(0, bool))


def test_body_fit_recovers_the_true_probabilities() -> None:
    rng = np.random.default_rng(0)
    shares = np.exp(rng.uniform(np.log(0.004), np.log(0.5), (4000, 2)))
    true = HiddenCalibration(6.0, 1.5, 0.7)
    odds = np.array([true.probability(a, b) for a, b in shares])
    fitted = fit_bodies(shares[:, 0], shares[:, 1], rng.random(4000) < odds)
    np.testing.assert_allclose(fitted, true, atol=0.6)
    found = np.array([fitted.probability(a, b) for a, b in shares])
    assert abs(found - odds).mean() < 0.03
    with pytest.raises(UsageError, match="occluded and unoccluded people"):
        fit_bodies(shares[:, 0], shares[:, 1], np.ones(4000, bool))


def test_body_fit_is_stable_on_separable_data() -> None:
    shares = np.array([0.0, 0.01, 0.02, 0.2, 0.3, 0.4])
    fitted = fit_bodies(shares, shares, shares > HIDDEN_SHARE)
    assert fitted.probability(0.0, 0.0) < 0.1 and fitted.probability(0.4, 0.4) > 0.9
