"""Hidden regions: the connected parts of a body's hidden area, each with the probability that it is body.

Stage 1 also completes what is no body: the gap between two legs, the background beside an arm, an arm held before the
chest. Each region is judged by itself, by logistic regression on its shape, its probabilities and its surroundings, and
on what the photo shows there: the features of the box segmenter, which was trained on many kinds of objects.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from deocclude.errors import WeightsError
from deocclude.imaging.arrays import Float, Float32, Mask
from deocclude.imaging.crop import SquareCrop
from deocclude.imaging.masks import connected_components, dilate, erode
from deocclude.inference.body import Body

_GRID_PX = 256  # longer side of the grid on which regions are found
_LEAST_SHARE = 1e-4  # of the body: regions with a smaller share count as having this one
_CERTAIN = 0.01  # probabilities are bounded to this distance from 0 and 1
SHAPE_FEATURES = 6  # of a region, from `certainty` to `covered` of RegionCalibration
_LARGEST_LOGIT = 30.0  # bounds a probability's logit, so that `exp` stays finite


def logistic(logits: Float) -> Float:
    """The logistic function: logits of any shape to probabilities, 0 to 1."""
    likely: Float = 1 / (1 + np.exp(-np.clip(logits, -_LARGEST_LOGIT, _LARGEST_LOGIT)))
    return likely


class FeatureMap(NamedTuple):
    """A network's features on a crop of an image.

    Attributes:
        crop: the crop.
        values: (C, n, n) float32, n cells a side of the crop.
    """

    crop: SquareCrop
    values: Float32

    def mean_at(self, x: Float, y: Float) -> Float:
        """(C,) the mean feature of the cells that hold image positions.

        Args:
            x: (K,) positions in image pixels, K >= 1; outside the crop the nearest cell counts.
            y: (K,) likewise.
        """
        cells = self.values.shape[-1]
        (left, top), cell_px = self.crop.left_top, self.crop.side_px / cells
        column, row = (
            np.clip((at - start) // cell_px, 0, cells - 1).astype(int) for at, start in ((x, left), (y, top))
        )
        weight = np.bincount(row * cells + column, minlength=cells * cells) / len(x)
        mean: Float = self.values.reshape(len(self.values), -1) @ weight
        return mean


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
        image_features: weights of the mean features of the region; empty where they do not count.
    """

    bias: float
    certainty: float
    seen: float
    area: float
    enclosed: float
    thickness: float
    covered: float
    image_features: tuple[float, ...] = ()

    def probability(self, features: Float) -> Float:
        """The probabilities, (N,) 0 to 1, that regions are body.

        Args:
            features: as `HiddenRegions.features`. Features without weights are ignored.

        Raises:
            WeightsError: fewer features than weights.
        """
        weights = np.array([*self[1 : 1 + SHAPE_FEATURES], *self.image_features])
        if features.shape[1] < len(weights):
            raise WeightsError(
                f"region_calibration expects {len(self.image_features)} features of mask_box, which returns "
                f"{features.shape[1] - SHAPE_FEATURES}: export mask_box, then run deocclude calibrate"
            )
        return logistic(self.bias + features[:, : len(weights)] @ weights)


# For weights without a calibration: the probability of a region is its mean amodal probability.
UNCALIBRATED_REGIONS = RegionCalibration(0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0)


class HiddenRegions(NamedTuple):
    """The hidden regions of a body.

    Attributes:
        masks: (N, h, w) bool on a coarse grid, each grown by a cell.
        features: (N, 6 + C) in the order of RegionCalibration; C is 0 without a feature map.
        step: image pixels a cell, in both directions.
    """

    masks: Mask
    features: Float
    step: int


def find_regions(body: Body, others: Mask, feature_map: FeatureMap | None = None) -> HiddenRegions:
    """The hidden regions of a body.

    Args:
        body: the body.
        others: (h, w) bool in the body's region: visible masks of other people.
        feature_map: the features of the image around the body.
    """
    step = -(-max(body.region.size_hw) // _GRID_PX)
    visible, amodal, covered = (mask[::step, ::step] for mask in (body.visible, body.amodal, others))
    amodal_prob, visible_prob = (
        prob[::step, ::step].astype(np.float32) / np.float32(255) for prob in (body.amodal_prob, body.visible_prob)
    )
    components = connected_components(amodal & ~visible)
    masks: list[Mask] = []
    rows: list[tuple[float, ...]] = []
    body_cells = max(1, int(np.count_nonzero(amodal)))
    for number in range(components.count):
        region = components.paint(np.arange(components.count) == number)
        region_cells = int(np.count_nonzero(region))
        grown = dilate(region, 1)
        around = grown & ~region  # the region's outer boundary
        certainty = float(np.clip(amodal_prob[region].mean(), _CERTAIN, 1 - _CERTAIN))
        rows.append(
            (
                np.log(certainty / (1 - certainty)),
                visible_prob[region].mean(),
                np.log(max(region_cells / body_cells, _LEAST_SHARE)),
                int(np.count_nonzero(around & visible)) / max(1, int(np.count_nonzero(around))),
                np.count_nonzero(erode(region, max(1, round(0.015 * np.sqrt(body_cells))))) / region_cells,
                np.count_nonzero(covered & region) / region_cells,
                *(() if feature_map is None else _mean_features(feature_map, region, body, step)),
            )
        )
        masks.append(grown)
    count = SHAPE_FEATURES + (0 if feature_map is None else len(feature_map.values))
    features = np.array(rows, np.float64).reshape(-1, count)
    return HiddenRegions(np.array(masks, bool).reshape(-1, *amodal.shape), features, step)


def _mean_features(feature_map: FeatureMap, region: Mask, body: Body, step: int) -> tuple[float, ...]:
    """The mean features of a region on the coarse grid."""
    row, column = np.nonzero(region)
    at = (column + 0.5) * step + body.region.left, (row + 0.5) * step + body.region.top
    return tuple(map(float, feature_map.mean_at(*at)))


def keep_likely_regions(
    body: Body, regions: HiddenRegions, calibration: RegionCalibration, min_probability: float
) -> Body:
    """The body without the hidden regions whose probability is too low; unchanged where nothing would be left of it.

    Args:
        body: the body.
        regions: its hidden regions.
        calibration: from features to probabilities.
        min_probability: 0 to 1; 0 keeps every region.
    """
    likely = calibration.probability(regions.features) >= min_probability
    if likely.all() or not (likely.any() or body.area_px):
        return body
    height, width = body.region.size_hw
    keep: Mask = regions.masks[likely].any(0).repeat(regions.step, 0).repeat(regions.step, 1)[:height, :width]
    return body.with_amodal(body.visible | (body.amodal & keep))
