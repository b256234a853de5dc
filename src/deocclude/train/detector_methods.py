"""The detectors that `deocclude train people` trains, by their names in a config: `people.model`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from deocclude.inference.settings import NANODET, DetectorSettings
from deocclude.models.movenet import MoveNet, MoveNetConfig
from deocclude.models.nanodet import NanoDet, NanoDetConfig
from deocclude.models.people_detector import PeopleDetector, PeopleDetectorConfig
from deocclude.people.box_decoding import STRIDES, decode_centres, decode_distances
from deocclude.train.config import chosen_model
from deocclude.train.nanodet_targets import NanoDetCriterion
from deocclude.train.people_targets import CentreCriterion, PeopleCriterion, encode

Batch = dict[str, Tensor]
Boxes = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class DetectorMethod:
    """How a detector is trained and read.

    Attributes:
        network: class of the network.
        config: default sizes.
        losses: default weight of each loss term.
        criterion: class of the criterion, with its TERMS.
        terms: (criterion, output, batch, config) -> loss terms.
        boxes: (output, config, least score) -> boxes (N, 4) in input pixels and scores (N,) of each image.
        settings: of inference; validation suppresses boxes as inference does.
        needs_masks: whether its losses need visible masks of all people.
    """

    network: type[nn.Module]
    config: Any
    losses: Mapping[str, float]
    criterion: type[nn.Module]
    terms: Callable[[nn.Module, Any, Batch, Any], dict[str, Tensor]]
    boxes: Callable[[Any, Any, float], list[Boxes]]
    settings: DetectorSettings
    needs_masks: bool


def _centre_terms(criterion: nn.Module, output: Any, batch: Batch, config: Any) -> dict[str, Tensor]:
    output = type(output)(*(t.float() for t in output))
    targets = encode(batch["boxes_xyxy"], batch["visible"], batch["ignore"], batch["owner"], config.stride)
    return criterion(output, targets)


def _centre_boxes(output: Any, config: Any, least: float) -> list[Boxes]:
    centres, sides = (t.float().cpu().numpy() for t in (output.centre.sigmoid(), output.sides))
    return [decode_centres(c[0], s, config.stride, least) for c, s in zip(centres, sides, strict=True)]


def _nanodet_terms(criterion: nn.Module, output: Any, batch: Batch, config: Any) -> dict[str, Tensor]:
    output = type(output)(*(tuple(t.float() for t in maps) for maps in output))
    return criterion(output, batch["boxes_xyxy"], batch["ignore"])


def _nanodet_boxes(output: Any, config: Any, least: float) -> list[Boxes]:
    maps: dict[str, np.ndarray] = {}
    for stride, logits, distances in zip(STRIDES, *output, strict=True):
        maps[f"scores_{stride}"] = logits.float().sigmoid().cpu().numpy()
        maps[f"distances_{stride}"] = distances.float().cpu().numpy()
    count = len(maps[f"scores_{STRIDES[0]}"])
    return [decode_distances({name: m[i : i + 1] for name, m in maps.items()}, least) for i in range(count)]


DETECTORS: dict[str, DetectorMethod] = {
    "centres": DetectorMethod(
        PeopleDetector, PeopleDetectorConfig.base(), {"centre": 1.0, "sides": 2.0, "own": 1.0, "mask": 1.0},
        PeopleCriterion, _centre_terms, _centre_boxes, DetectorSettings(), needs_masks=True,
    ),
    "nanodet": DetectorMethod(
        NanoDet, NanoDetConfig(), {"score": 1.0, "box": 2.0, "distribution": 0.25},
        NanoDetCriterion, _nanodet_terms, _nanodet_boxes, NANODET, needs_masks=False,
    ),
    "movenet": DetectorMethod(
        MoveNet, MoveNetConfig(), {"centre": 1.0, "sides": 2.0},
        CentreCriterion, _centre_terms, _centre_boxes, DetectorSettings(), needs_masks=False,
    ),
}  # fmt: skip
"""Detectors by name; the first one is the default."""


def find_detector(model: str | None) -> DetectorMethod:
    """The detector `people.model`, the first for None. Raises ConfigError with the available names."""
    return chosen_model(DETECTORS, model, "people.model")
