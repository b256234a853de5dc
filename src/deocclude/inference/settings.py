"""The tuned numbers of inference.

They travel with the weights they were tuned for: a model's `settings` in manifest.json override these defaults, group
by group. `deocclude models info` shows the values in force.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from deocclude.errors import WeightsError


@dataclass(frozen=True)
class CropSettings:
    """Square crops around a person. A scale is the crop's side over the longer side of the box in its centre."""

    wide_scale: float = 2.2  # around the visible part: the whole body can be twice as tall
    tight_scale: float = 1.25  # around the estimated body: a margin of an eighth of its longer side, on each side
    zoomed_out_scale: float = 1.5  # of the second final crop, whose errors differ
    widen_by: float = 1.6  # where the body reaches the border of the wide crop
    max_wide_crops: int = 3


@dataclass(frozen=True)
class EnsembleWeights:
    """Weights of the predictions for a box; the box-prompted segmentation network has weight 1.

    Chosen on held-out cut-outs, street photos and composed scenes of three seeds, none of which is reported. With
    `refined` at 1, amodal IoU of cut-outs is 0.3 points lower; 2 is as good. In crowds, 2.2 is within a point of recall
    of 1.6, and 3.5 a point lower. For people alone 0.4 is as good as 0.8, but was worse with earlier weights.
    """

    refined: float = 1.5  # stage 1, prompted with that network's mask
    direct: float = 0.8  # stage 1, prompted with the box
    direct_in_crowds: float = 1.6  # where another box overlaps: that network then segments the neighbour more often


@dataclass(frozen=True)
class DoubtSettings:
    """Of whom it is doubtful whether anything is hidden: their prediction is averaged over crops and mirror images.

    Hidden fractions of the body by probability, of a single prediction. Whole people have 0.00 to 0.03 and more in
    clutter; above `most_hidden` nearly everyone is occluded, and averaging moves contours by little.
    """

    least_hidden: float = 0.02
    most_hidden: float = 0.25


@dataclass(frozen=True)
class CleanupSettings:
    """From probabilities to masks. Shares are fractions of the body's area."""

    min_component_share: float = 0.005
    min_visible_component_share: float = 0.001  # a hand visible beside the occluder is small
    max_hole_share: float = 0.02  # of holes in the hidden part that are filled
    # Least IoU of a given mask with the refined one. Such a mask keeps its contour, which has the image's resolution.
    min_trusted_iou: float = 0.9
    # Most differing pixels of the one-pixel boundary band, per contour pixel, of a mask that keeps its contour. True
    # masks have 0.02 to 0.12, with holes or blobs up to 0.2; half of the rough masks have more.
    max_boundary_disagreement: float = 0.16


@dataclass(frozen=True)
class RecoverySettings:
    """How recovered appearance is mixed from the guide and from copied patches."""

    guide_sigma_px: float = 6.0  # of the guide, in crop pixels: texture comes from patches, colour from the guide
    copy_share: float = 0.95  # of a copied pixel; less has a lower error and looks less natural
    smooth_share: float = 0.4  # weight of the guide in the low frequencies of copied patches
    palette_share: float = 0.5  # how far that guide is drawn to the colours of the visible body


@dataclass(frozen=True)
class OcclusionSettings:
    """What is completed with `complete="auto"`."""

    # That more than 5 % of the body is hidden. The default is for weights without a calibration of regions, where a
    # hidden hand or foot would stay hidden at 0.5; `base` has 0.5.
    min_probability: float = 0.1
    # That a hidden region is body; without a calibration this is the mean amodal probability. `base` has 0.6
    # (docs/training-history.md).
    min_region_probability: float = 0.4
    # Detected people of less height are not completed, unless a call gives its own height: at a few pixels a limb the
    # occluded part is a guess that looks worse than the gap.
    min_height_px: float = 48.0


@dataclass(frozen=True)
class DetectorSettings:
    """People detection."""

    size_px: int = 384  # longer side of the detector's input
    second_size_px: int = 0  # of a second pass, whose boxes are fused with the first's; 0: none
    fused_iou: float = 0.6  # least IoU of the two passes' boxes of one person
    # of the product of the detector's score and stage 1's; here and below as chosen for the centre-based detector
    min_score: float = 0.22
    max_iou: float = 0.7  # of two boxes; below it, stage 1's masks decide whether they hold one person
    min_visible_probability: float = 0.5  # mean over a detection's visible pixels; below it, the detection is dropped


NANODET = DetectorSettings(size_px=352, second_size_px=512, min_score=0.28, max_iou=0.5)
"""Settings of NanoDet, the shipped detector: docs/training-history.md says on what they were chosen."""


@dataclass(frozen=True)
class DeduplicationSettings:
    """Duplicates and merged detections."""

    same_body_iou: float = 0.7  # IoU of two visible or amodal masks that makes them duplicates
    # Duplicates too: this fraction of the smaller mask lies in the larger one, and the smaller has more than
    # `contained_area_ratio` of the larger's area. A child in front of an adult has less than half of it.
    contained_share: float = 0.85
    contained_area_ratio: float = 0.5
    crowded_iou: float = 0.05  # boxes with a larger IoU count as crowded
    # The residual person of a box, beside a known one: least area, as a fraction of the box and of the former mask;
    # least IoU with the box; and the IoU with the former body from which it counts as a part of that body. On held-out
    # cut-outs and composed scenes that IoU was at most 0.58 for another person, at least 0.71 for parts.
    min_residual_of_box: float = 0.05
    min_residual_of_mask: float = 0.15
    min_residual_box_iou: float = 0.6
    max_former_body_iou: float = 0.65
    max_shared: float = 0.3  # overlap of two people's visible masks, as a fraction of the smaller one


@dataclass(frozen=True)
class InferenceSettings:
    """All groups of settings."""

    crop: CropSettings = field(default_factory=CropSettings)
    ensemble: EnsembleWeights = field(default_factory=EnsembleWeights)
    doubt: DoubtSettings = field(default_factory=DoubtSettings)
    cleanup: CleanupSettings = field(default_factory=CleanupSettings)
    recovery: RecoverySettings = field(default_factory=RecoverySettings)
    occlusion: OcclusionSettings = field(default_factory=OcclusionSettings)
    detector: DetectorSettings = field(default_factory=DetectorSettings)
    deduplication: DeduplicationSettings = field(default_factory=DeduplicationSettings)

    @classmethod
    def of(cls, values: Mapping[str, Any], where: str) -> InferenceSettings:
        """The defaults overridden by a manifest's `settings`.

        Args:
            values: group: {name: number}.
            where: the manifest and model, for errors.

        Raises:
            WeightsError: an unknown group or name, or a value that is no finite number, or no whole one for a size or
                count.
        """
        settings = cls()
        groups = {group.name for group in fields(cls)}
        for name, given in values.items():
            if name not in groups or not isinstance(given, Mapping):
                raise WeightsError(f"{where}: settings has the groups {', '.join(sorted(groups))}, got {name!r}")
            group = getattr(settings, name)
            for key, value in given.items():
                known = [one.name for one in fields(group)]
                if key not in known:
                    raise WeightsError(f"{where}: settings.{name} has {', '.join(known)}, got {key!r}")
                kind = type(getattr(group, key))
                if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                    raise WeightsError(f"{where}: settings.{name}.{key} must be a number, got {value!r}")
                if kind(value) != value:
                    raise WeightsError(f"{where}: settings.{name}.{key} must be a whole number, got {value!r}")
                group = replace(group, **{key: kind(value)})
            settings = replace(settings, **{name: group})
        return settings

    def as_dict(self) -> dict[str, dict[str, float]]:
        """The numbers of every group by name."""
        return asdict(self)
