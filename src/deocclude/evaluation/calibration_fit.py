"""Logistic regression of the occlusion probabilities. numpy only."""

from __future__ import annotations

import numpy as np

from deocclude.errors import UsageError
from deocclude.imaging.arrays import Float, Mask
from deocclude.inference.hidden_regions import SHAPE_FEATURES, RegionCalibration, logistic
from deocclude.inference.occlusion_probability import HiddenCalibration, log_shares

_STEPS = 50  # of Newton's method
# Ridge penalties of the fit, for standardized features. There are 128 image features and a few thousand regions:
# five-fold cross-validation over people chose 1000 among 300, 1000 and 3000.
_SHAPE_PENALTY, _FEATURE_PENALTY = 0.5, 1000.0


def fit_logistic(features: Float, truth: Mask, penalty: float | Float, weight: Float | None = None) -> Float:
    """Fit by Newton's method on the logistic loss.

    Args:
        features: (N, K).
        truth: (N,) bool.
        penalty: of the squared weights, one number or (K,); the intercept is free.
        weight: (N,) how much each row counts; None: 1.

    Returns:
        (K + 1,) float64: the intercept, then the weights.
    """
    x = np.concatenate([np.ones((len(features), 1)), features], 1)
    count = x.shape[1]
    weights, ridge = np.zeros(count), np.diag([0.0, *np.broadcast_to(penalty, count - 1)])
    row_weight = np.ones(len(x)) if weight is None else weight
    for _ in range(_STEPS):
        p = logistic(x @ weights)
        gradient = x.T @ (row_weight * (p - truth)) + ridge @ weights
        hessian = (x * (row_weight * p * (1 - p))[:, None]).T @ x + ridge + 1e-9 * np.eye(count)
        step = np.linalg.solve(hessian, gradient)
        weights = weights - step * min(1.0, 2.0 / max(1e-9, np.abs(step).max()))  # no weight moves by more than 2
    return weights


def fit_bodies(mask_shares: Float, probable_shares: Float, hidden: Mask) -> HiddenCalibration:
    """Fit the probability that a person is occluded, to people with known occlusion.

    Args:
        mask_shares: (N,) fractions hidden by the masks, 0 to 1.
        probable_shares: (N,) fractions hidden by probability, 0 to 1.
        hidden: (N,) bool: whether more than HIDDEN_SHARE of the body is hidden.

    Raises:
        UsageError: all people are occluded, or none is.
    """
    if hidden.all() or not hidden.any():
        raise UsageError("calibration needs occluded and unoccluded people")
    features = np.stack([log_shares(mask_shares), log_shares(probable_shares)], 1)
    return HiddenCalibration(*(float(w) for w in fit_logistic(features, hidden, penalty=0.1)))


def fit_regions(features: Float, is_body: Mask, weight: Float | None = None) -> RegionCalibration:
    """Fit the probability that a hidden region is body, to regions of known people.

    Args:
        features: (N, 6 + C) in the order of RegionCalibration.
        is_body: (N,) bool, the truth.
        weight: (N,) how much each region counts; None: 1.

    Raises:
        UsageError: no regions.
    """
    if not len(features):
        raise UsageError("calibration needs people with a predicted hidden part, got none")
    mean, spread = features.mean(0), features.std(0) + 1e-6
    penalty = np.full(features.shape[1], _FEATURE_PENALTY)
    penalty[:SHAPE_FEATURES] = _SHAPE_PENALTY
    intercept, *weights = fit_logistic((features - mean) / spread, is_body, penalty, weight)
    by_feature = np.array(weights) / spread  # of features that are not standardized
    shape, image_features = by_feature[:SHAPE_FEATURES], by_feature[SHAPE_FEATURES:]
    fitted = RegionCalibration(float(intercept - by_feature @ mean), *map(float, shape))  # type: ignore[arg-type]
    return fitted._replace(image_features=tuple(map(float, image_features)))
