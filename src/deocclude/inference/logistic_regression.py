"""Logistic regression, for the calibrations of probabilities. numpy only."""

from __future__ import annotations

import numpy as np

from deocclude.imaging.arrays import Float, Mask

_LARGEST_LOGIT = 30.0
_STEPS = 50


def logistic(logits: Float) -> Float:
    """Probabilities, 0 to 1, of any shape."""
    likely: Float = 1 / (1 + np.exp(-np.clip(logits, -_LARGEST_LOGIT, _LARGEST_LOGIT)))
    return likely


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
    weights, pull = np.zeros(count), np.diag([0.0, *np.broadcast_to(penalty, count - 1)])
    counted = np.ones(len(x)) if weight is None else weight
    for _ in range(_STEPS):
        p = logistic(x @ weights)
        slope = x.T @ (counted * (p - truth)) + pull @ weights
        curvature = (x * (counted * p * (1 - p))[:, None]).T @ x + pull + 1e-9 * np.eye(count)
        step = np.linalg.solve(curvature, slope)
        weights = weights - step * min(1.0, 2.0 / max(1e-9, np.abs(step).max()))
    return weights
