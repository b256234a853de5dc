"""Whether a person is occluded at all: the probability that a part is hidden, from masks and their probabilities."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np

from deocclude.errors import UsageError
from deocclude.inference.body import Body
from deocclude.inference.settings import OcclusionSettings

HIDDEN_SHARE = 0.05  # of the body: with less of it hidden, a person counts as unoccluded
Complete = Literal["auto", "always", "never"]
_COMPLETE = ("auto", "always", "never")
_LEAST_SHARE = 0.003  # logarithms of shares go no lower


class HiddenCalibration(NamedTuple):
    """Logistic regression on the logarithms of two shares of the body: hidden by the masks, and by probability."""

    bias: float
    by_mask: float
    by_probability: float

    def probability(self, mask_share: float, probable_share: float) -> float:
        """That more than HIDDEN_SHARE of the body is hidden, 0 to 1, from both shares, 0 to 1."""
        by_mask, by_probability = _logs(np.array([mask_share, probable_share]))
        logit = self.bias + self.by_mask * by_mask + self.by_probability * by_probability
        return float(1 / (1 + np.exp(-np.clip(logit, -30, 30))))


# Weights that come without a calibration: even odds where the masks say that HIDDEN_SHARE is hidden.
UNCALIBRATED = HiddenCalibration(bias=-3 * float(np.log(HIDDEN_SHARE)), by_mask=3.0, by_probability=0.0)


def probable_share(visible_prob: Probability, amodal_prob: Probability) -> float:
    """Share of the body that is hidden, by probability: both (S, S) in [0, 1], amodal at least visible. 0 to 1."""
    whole = float(amodal_prob.sum())
    return float((amodal_prob - visible_prob).clip(0).sum()) / whole if whole > 0 else 0.0


def fit_calibration(mask_shares: np.ndarray, probable_shares: np.ndarray, hidden: Mask) -> HiddenCalibration:
    """The calibration of N people whose answers are known: shares (N,) in [0, 1], hidden (N,) bool.

    Newton's method on the logistic loss with a slight pull towards zero slopes. Raises UsageError when all are hidden
    or none is: then nothing can be told.
    """
    if hidden.all() or not hidden.any():
        raise UsageError("calibration needs people who are hidden and people who are not")
    x = np.stack([np.ones(len(hidden)), _logs(mask_shares), _logs(probable_shares)], 1)
    weights, pull = np.zeros(3), np.diag([0.0, 0.1, 0.1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(x @ weights, -30, 30)))
        slope = x.T @ (p - hidden) + pull @ weights
        curvature = (x * (p * (1 - p))[:, None]).T @ x + pull + 1e-9 * np.eye(3)
        step = np.linalg.solve(curvature, slope)
        weights = weights - step * min(1.0, 2.0 / max(1e-9, np.abs(step).max()))
    return HiddenCalibration(*(float(w) for w in weights))


def check_complete(complete: str) -> Complete:
    """Raise UsageError unless it says for whom hidden parts are made up: auto, always or never."""
    if complete not in _COMPLETE:
        raise UsageError(f"complete must be {', '.join(_COMPLETE[:-1])} or {_COMPLETE[-1]}, got {complete!r}")
    return complete


def _logs(shares: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(shares, _LEAST_SHARE))


def with_hidden_probability(
    body: Body, calibration: HiddenCalibration, complete: Complete, settings: OcclusionSettings
) -> Body:
    """The body with the probability that a part of it is hidden; without completion where none is asked for.

    complete: "auto" leaves a body unchanged whose probability is below `settings.min_probability`.
    """
    probability = calibration.probability(body.hidden_fraction, body.probable_hidden)
    body = replace(body, hidden_probability=probability)
    untouched = complete == "never" or (complete == "auto" and probability < settings.min_probability)
    return body.without_completion() if untouched else body
