"""Whether a person is occluded at all, and which hidden regions are completed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np

from deocclude.errors import UsageError
from deocclude.imaging.arrays import Float, Mask, Probability
from deocclude.inference.body import Body
from deocclude.inference.hidden_regions import (
    UNCALIBRATED_REGIONS,
    FeatureMap,
    RegionCalibration,
    find_regions,
    keep_likely_regions,
    logistic,
)
from deocclude.inference.scheduling import map_people
from deocclude.inference.settings import OcclusionSettings

HIDDEN_SHARE = 0.05  # of the body: a person with a smaller hidden fraction counts as unoccluded
Complete = Literal["auto", "always", "never"]
_COMPLETE: tuple[Complete, ...] = ("auto", "always", "never")  # the values of Complete
LEFT_ALONE = {"low": "too low", "unlikely": "probably nothing in front"}
"""Why a detected hidden part was not completed, by `Body.left_alone`, in words."""
_NOTED_SHARE = 0.01  # of the body: smaller hidden parts are left out without setting `Body.left_alone`
_LEAST_SHARE = 0.003  # smaller fractions count as this one


class HiddenCalibration(NamedTuple):
    """Logistic regression on the logarithms of two hidden fractions of the body.

    Attributes:
        bias: intercept.
        by_mask: weight of the logarithm of the masks' hidden fraction (`Body.hidden_fraction`).
        by_probability: weight of the logarithm of the probabilities' hidden fraction (`probable_share`).
    """

    bias: float
    by_mask: float
    by_probability: float

    def probability(self, mask_share: float, probable_share: float) -> float:
        """The probability, 0 to 1, that more than HIDDEN_SHARE of the body is hidden.

        Args:
            mask_share: hidden fraction of the masks, 0 to 1.
            probable_share: hidden fraction of the probabilities, 0 to 1.
        """
        log_mask, log_probable = log_shares(np.array([mask_share, probable_share]))
        logit = self.bias + self.by_mask * log_mask + self.by_probability * log_probable
        return float(logistic(logit))


# For weights without a calibration: probability 0.5 where the masks' hidden fraction is HIDDEN_SHARE.
UNCALIBRATED = HiddenCalibration(bias=-3 * float(np.log(HIDDEN_SHARE)), by_mask=3.0, by_probability=0.0)


def probable_share(visible_prob: Probability, amodal_prob: Probability) -> float:
    """The hidden fraction of the body from probabilities: the sum of amodal minus visible over the sum of amodal.

    Args:
        visible_prob: (S, S) float32, 0 to 1.
        amodal_prob: (S, S) float32, 0 to 1, at least `visible_prob`.

    Returns:
        0 to 1.
    """
    whole = float(amodal_prob.sum())
    return float((amodal_prob - visible_prob).clip(0).sum()) / whole if whole > 0 else 0.0


def check_complete(complete: str) -> Complete:
    """Check the option `complete`.

    Raises:
        UsageError: not auto, always or never.
    """
    for allowed in _COMPLETE:
        if complete == allowed:
            return allowed
    raise UsageError(f"complete must be {', '.join(_COMPLETE[:-1])} or {_COMPLETE[-1]}, got {complete!r}")


def check_uncrop(uncrop: bool, complete: str) -> None:
    """Check that `uncrop` and `complete` fit together.

    Raises:
        UsageError: uncrop with complete="never".
    """
    if uncrop and complete == "never":
        raise UsageError("uncrop completes people beyond the image border: it needs complete auto or always, got never")


def log_shares(shares: Float) -> Float:
    """Logarithms of fractions, bounded below by _LEAST_SHARE."""
    logs: Float = np.log(np.maximum(shares, _LEAST_SHARE))
    return logs


@dataclass(frozen=True)
class OcclusionCalibration:
    """A model's calibrations: of whole bodies, and of single hidden regions."""

    body: HiddenCalibration = UNCALIBRATED
    regions: RegionCalibration = UNCALIBRATED_REGIONS

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> OcclusionCalibration:
        """The calibration of stage 1's row in the manifest, as `deocclude calibrate` writes it."""
        regions = RegionCalibration(*row.get("region_calibration", UNCALIBRATED_REGIONS[:-1]))
        return cls(
            HiddenCalibration(*row.get("hidden_calibration", UNCALIBRATED)),
            regions._replace(image_features=tuple(row.get("feature_calibration", ()))),
        )


def with_hidden_probability(body: Body, calibration: HiddenCalibration) -> Body:
    """The body with the probability that more than HIDDEN_SHARE of it is hidden."""
    return replace(body, hidden_probability=calibration.probability(body.hidden_fraction, body.probable_hidden))


def decide_completion(
    bodies: Sequence[Body], everyone: Sequence[Body], calibration: OcclusionCalibration, complete: Complete,
    settings: OcclusionSettings, *, feature_map: Callable[[Body], FeatureMap | None],
    min_probability: float | None = None, min_height_px: float = 0.0, workers: int = 1,
) -> list[Body]:  # fmt: skip
    """The bodies with the probability of a hidden part, and without the hidden parts that `complete` excludes.

    Args:
        bodies: the bodies to decide on.
        everyone: all bodies of the image.
        calibration: from masks to probabilities.
        complete: "always" keeps every hidden part, "never" none. "auto" keeps the hidden regions that are probably
            body, of bodies that are probably occluded and high enough.
        settings: the thresholds.
        feature_map: features of the image around a body; called only for a calibration that uses them.
        min_probability: in place of the settings' threshold for regions.
        min_height_px: with "auto", bodies whose visible part is lower are not completed.
        workers: people processed at once.
    """
    if complete != "auto":
        rated = [with_hidden_probability(body, calibration.body) for body in bodies]
        return [body.without_completion() for body in rated] if complete == "never" else rated
    least = settings.min_region_probability if min_probability is None else min_probability

    def decided(body: Body) -> Body:
        likely = body
        is_low = bool(body.area_px) and body.box_xyxy[3] - body.box_xyxy[1] < min_height_px
        if body.hidden_fraction and not is_low:
            features = feature_map(body) if calibration.regions.image_features else None
            regions = find_regions(body, _visible_of_others(body, everyone), features)
            likely = keep_likely_regions(body, regions, calibration.regions, least)
        likely = with_hidden_probability(likely, calibration.body)
        if is_low or likely.hidden_probability < settings.min_probability or not likely.hidden_fraction:
            noted = body.hidden_fraction >= _NOTED_SHARE
            reason = ("low" if is_low else "unlikely") if noted else None
            likely = replace(likely.without_completion(), left_alone=reason)
        return likely

    return map_people(decided, bodies, workers=workers)


def _visible_of_others(body: Body, everyone: Sequence[Body]) -> Mask:
    """(h, w) bool in a body's region: the visible masks of the other bodies."""
    covered = np.zeros(body.region.size_hw, bool)
    for other in everyone:
        if other is not body and not body.region.intersect(other.region).is_empty:
            covered |= other.visible_on(body.region)
    return covered
