"""Hidden regions: the connected parts of a body's hidden area, each with the probability that it is body.

Stage 1 also completes what is no body: the gap between two legs, the background beside an arm, an arm held before the
chest. Each region is judged by itself, by logistic regression on its shape, its probabilities and its surroundings.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from deocclude.imaging.arrays import Float, Mask
from deocclude.imaging.masks import connected_components, dilate, erode
from deocclude.inference.body import Body
from deocclude.inference.logistic_regression import fit_logistic, logistic

_GRID_PX = 256  # longer side of the grid on which regions are found
_LEAST_SHARE = 1e-4  # of the body: smaller shares count as this one
_CERTAIN = 0.01  # probabilities are bounded to this distance from 0 and 1


class RegionCalibration(NamedTuple):
    """Logistic regression on the features of a hidden region.

    Attributes:
        bias: intercept.
        certainty: weight of the logit of the mean amodal probability.
        seen: weight of the mean visible probability.
        area: weight of the logarithm of the region's share of the body.
        enclosed: weight of the share of the region's outer boundary where the visible body is.
        thickness: weight of the share of the region that is left when a thin layer is eroded.
        covered: weight of the share of the region that other people's visible masks cover; 0 from `deocclude
            calibrate`, whose sets mark one person a photo.
    """

    bias: float
    certainty: float
    seen: float
    area: float
    enclosed: float
    thickness: float
    covered: float

    def probability(self, features: Float) -> Float:
        """The probabilities, (N,) 0 to 1, that regions are body. features: (N, 6), as `HiddenRegions.features`."""
        return logistic(self.bias + features @ np.array(self[1:]))


# For weights without a calibration: the mean amodal probability.
UNCALIBRATED_REGIONS = RegionCalibration(0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0)


class HiddenRegions(NamedTuple):
    """The hidden regions of a body.

    Attributes:
        masks: (N, h, w) bool on a coarse grid, each grown by a cell.
        features: (N, 6) in the order of RegionCalibration.
        step: image pixels a cell, in both directions.
    """

    masks: Mask
    features: Float
    step: int


def find_regions(body: Body, others: Mask) -> HiddenRegions:
    """The hidden regions of a body.

    Args:
        body: the body.
        others: (h, w) bool in the body's region: visible masks of other people.
    """
    step = -(-max(body.region.size_hw) // _GRID_PX)
    visible, amodal, covered = (mask[::step, ::step] for mask in (body.visible, body.amodal, others))
    amodal_prob, visible_prob = (
        prob[::step, ::step].astype(np.float32) / np.float32(255) for prob in (body.amodal_prob, body.visible_prob)
    )
    components = connected_components(amodal & ~visible)
    masks, rows = [], []
    whole = max(1, int(np.count_nonzero(amodal)))
    for number in range(components.count):
        region = components.paint(np.arange(components.count) == number)
        size = int(np.count_nonzero(region))
        grown = dilate(region, 1)
        around = grown & ~region
        certainty = float(np.clip(amodal_prob[region].mean(), _CERTAIN, 1 - _CERTAIN))
        rows.append(
            (
                np.log(certainty / (1 - certainty)),
                visible_prob[region].mean(),
                np.log(max(size / whole, _LEAST_SHARE)),
                int(np.count_nonzero(around & visible)) / max(1, int(np.count_nonzero(around))),
                np.count_nonzero(erode(region, max(1, round(0.015 * np.sqrt(whole))))) / size,
                np.count_nonzero(covered & region) / size,
            )
        )
        masks.append(grown)
    shape = amodal.shape
    return HiddenRegions(np.array(masks, bool).reshape(-1, *shape), np.array(rows, np.float64).reshape(-1, 6), step)


def keep_likely_regions(
    body: Body, regions: HiddenRegions, calibration: RegionCalibration, min_probability: float
) -> Body:
    """The body without the hidden regions whose probability is too low.

    Args:
        body: the body.
        regions: its hidden regions.
        calibration: from features to probabilities.
        min_probability: 0 to 1; 0 keeps every region.
    """
    likely = calibration.probability(regions.features) >= min_probability
    if likely.all():
        return body
    height, width = body.region.size_hw
    keep: Mask = regions.masks[likely].any(0).repeat(regions.step, 0).repeat(regions.step, 1)[:height, :width]
    return body.with_amodal(body.visible | (body.amodal & keep))


def fit_regions(features: Float, is_body: Mask) -> RegionCalibration:
    """Fit the calibration to regions of known people.

    Args:
        features: (N, 6) in the order of RegionCalibration.
        is_body: (N,) bool.
    """
    mean, spread = features.mean(0), features.std(0) + 1e-6
    intercept, *weights = fit_logistic((features - mean) / spread, is_body, penalty=0.5)
    by_feature = np.array(weights) / spread
    return RegionCalibration(float(intercept - by_feature @ mean), *(float(w) for w in by_feature))
