"""Training of the people detector: data, criterion and validation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deocclude.checkpoints.files import start_from
from deocclude.data.samples.detector_samples import PeopleSample, to_batch, whole_wild
from deocclude.data.samples.detector_stream import PeopleStream
from deocclude.data.sources.library import SourceWeights, load_library
from deocclude.data.sources.real_photos import REAL_SETS, WildPhoto, read_boxed_photos, read_real_sets, read_wild
from deocclude.data.synthesis.multi_person import AssetPool, CrowdConfig
from deocclude.errors import ConfigError
from deocclude.imaging.boxes import suppress
from deocclude.metrics.detection import Matched, f1, match_boxes, recall_precision
from deocclude.models.features import load_mask_completion
from deocclude.models.movenet import MoveNet
from deocclude.models.nanodet import NanoDet
from deocclude.models.people_detector import PeopleDetector
from deocclude.train.config import DataSection, StageSection, TrainConfig, check_losses, with_fields
from deocclude.train.detector_methods import DetectorMethod, find_detector
from deocclude.train.engine import Outcome, Stage, choose_device, fit, to_float, use_bfloat16
from deocclude.train.pictures import PEOPLE, boxes_rgb, in_a_row, named
from deocclude.train.pretrained_backbone import load_pretrained_backbone

THRESHOLDS = tuple(round(0.1 + 0.05 * i, 2) for i in range(15))  # score thresholds of the validation
_COUNTED_SHARE = 0.15  # least height that counts, as a fraction of the frame: 96 of 640 px
_BATCH = 8  # photos per batch of validation
_SHOWN_SCORE = 0.3  # least score of boxes in pictures


class PeopleStage(Stage):
    """Implements engine.Stage for the people detector."""

    name = "people"

    def __init__(self, config: TrainConfig):
        """Create network, criterion and data. Raises ConfigError; WeightsError for a weights file that does not fit."""
        section = config.people
        self.bf16 = use_bfloat16(config, choose_device(config.device))
        data = config.data_of(section)
        sources = with_fields(SourceWeights(0, 0, 0, 0), data.sources, "data.sources")
        crowds = with_fields(CrowdConfig(), data.crowds, "data.crowds")
        if section.preset != "base":
            raise ConfigError(f"people.preset: the detector has one size, base, got {section.preset!r}")
        self.method = find_detector(section.model)
        if data.p_boxed and self.method.needs_masks:
            raise ConfigError(f"data.p_boxed: people.model {section.model or 'centres'} needs the masks of all people")
        self.config = with_fields(self.method.config, section.network, "people.network")
        self.losses = check_losses(
            section.losses or dict(self.method.losses), self.method.criterion.TERMS, "people.losses"
        )
        self.criterion = self.method.criterion(self.losses)
        torch.manual_seed(config.seed)
        self.network, self.lr_scales = _new_network(self.method, self.config, section)

        def stream(split: str, p_wild: float, p_boxed: float, seed: int) -> PeopleStream:
            library = load_library(data.root, split, sources, data.places, max_px=data.max_px)
            wild, shares = _real_photos(data, split) if p_wild else ([], None)
            boxed = read_boxed_photos(data.root / REAL_SETS["coco"][0], split) if p_boxed else ()
            return PeopleStream(
                AssetPool.of(library), wild, crowds, p_wild, seed=seed, wild_shares=shares, boxed=boxed, p_boxed=p_boxed
            )

        self.stream = stream("train", data.p_wild, data.p_boxed, config.seed)
        self.size_px = section.schedule.phases[-1].size_px
        held_out = stream("val", 0.0, 0.0, 1)
        rng = np.random.default_rng(1)
        composed = [held_out.sample(rng, self.size_px) for _ in range(config.validation_samples)]
        real = [whole_wild(p, self.size_px) for p in read_wild(data.root / "wild", "val")] if data.p_wild else []
        # whole held-out real photos, at most as many as composed scenes
        self.validation: dict[str, list[PeopleSample]] = {"composed": composed, "wild": real[: len(composed)]}

    def weighted_terms(self, batch: dict[str, Tensor], rng: np.random.Generator) -> tuple[dict[str, Tensor], None]:
        """The weighted loss terms of the detector's criterion."""
        return self.method.terms(self.criterion, self.network(batch["photo"]), batch, self.config), None

    @torch.no_grad()
    def validate(self, network: nn.Module, stage1: nn.Module | None = None) -> dict[str, float]:
        """Recall and precision at IoU 0.5 of people of at least 0.15 of the frame's height.

        Returns:
            recall and precision with the prefixes `composed_` and `wild_` (real photos), at the one score threshold
            with the best mean F1; `threshold`; and that mean F1 as `score`.
        """
        outcomes = {kind: self._match(network, samples) for kind, samples in self.validation.items() if samples}

        def measured(threshold: float) -> dict[str, tuple[float, float]]:
            return {kind: recall_precision(found, threshold) for kind, found in outcomes.items()}

        def score(threshold: float) -> float:
            return float(np.mean([f1(*pair) for pair in measured(threshold).values()]))

        best = max(THRESHOLDS, key=score)
        rows = {}
        for kind, (recall, precision) in measured(best).items():
            rows |= {f"{kind}_recall": float(recall), f"{kind}_precision": float(precision)}
        return rows | {"threshold": best, "score": score(best)}

    @torch.no_grad()
    def pictures(self, network: nn.Module, stage1: nn.Module | None = None) -> dict[str, np.ndarray]:
        """Composed photos with predicted boxes, beside the same photos with true boxes."""
        samples = self.validation["composed"][:PEOPLE]
        rows = []
        for sample, (boxes, scores) in zip(samples, self._find(network, samples), strict=True):
            photo = torch.from_numpy(sample.photo).permute(2, 0, 1) / 255
            truth = sample.boxes_xyxy[sample.counted]
            rows.append(in_a_row(boxes_rgb(photo, boxes[scores >= _SHOWN_SCORE]), boxes_rgb(photo, truth)))
        return named(rows)

    def _match(self, network: nn.Module, samples: list[PeopleSample]) -> list[Matched]:
        found = self._find(network, samples)
        return [self._match_one(sample, *boxes) for sample, boxes in zip(samples, found, strict=True)]

    def _find(self, network: nn.Module, samples: list[PeopleSample]) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each sample boxes (N, 4) in pixels of the frame and scores (N,) above the lowest threshold."""
        device = next(network.parameters()).device
        found = []
        for start in range(0, len(samples), _BATCH):
            batch = to_float(to_batch(samples[start : start + _BATCH]), device)
            with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
                output = network(batch["photo"])
            for boxes, scores in self.method.boxes(output, self.config, THRESHOLDS[0]):
                boxes = boxes.clip(0, self.size_px)
                kept = suppress(boxes, scores, self.method.settings.max_iou)
                found.append((boxes[kept], scores[kept]))
        return found

    def _match_one(self, sample: PeopleSample, boxes: np.ndarray, scores: np.ndarray) -> Matched:
        ignore = sample.ignore
        if not sample.counted.all():
            ignore = ignore.copy()
            for x0, y0, x1, y1 in sample.boxes_xyxy[~sample.counted].astype(int):
                ignore[y0:y1, x0:x1] = True
        return match_boxes(
            boxes, scores, sample.boxes_xyxy[sample.counted], ignore=ignore,
            min_height_px=_COUNTED_SHARE * self.size_px,
        )  # fmt: skip

    def metadata(self) -> dict[str, Any]:
        """Kind and sizes of the network, loss weights, and frame side in pixels of the last phase."""
        return {
            "network": self.method.network.network_name, "config": self.config.to_dict(), "losses": self.losses,
            "size_px": self.size_px,
        }  # fmt: skip


def _new_network(method: DetectorMethod, config: Any, section: StageSection) -> tuple[nn.Module, dict[str, float]]:
    """The network to train with its initial weights, and the learning-rate multipliers of its children."""
    try:
        network = method.network(config)
        if section.parsing_weights is not None:
            if not isinstance(network, PeopleDetector):
                raise ConfigError("people.parsing_weights: of the detectors centres alone starts from stage 1")
            network.start_from(load_mask_completion(section.parsing_weights))
    except ValueError as error:
        raise ConfigError(f"people.network: {error}") from error
    lr_scales = _start_backbone(network, section) if section.pretrained_backbone else {}
    if section.init is not None:
        start_from(network, section.init)
    return network, lr_scales


def _start_backbone(network: nn.Module, section: StageSection) -> dict[str, float]:
    """Load or freeze a pretrained backbone; returns the learning-rate multipliers of the network's children."""
    if not isinstance(network, (MoveNet, NanoDet)):
        return load_pretrained_backbone(network, section, "people")
    if section.init is None:
        raise ConfigError("people.init: pretrained_backbone needs the published weights of this detector")
    try:
        network.freeze(section.frozen_stages)
    except ValueError as error:
        raise ConfigError(f"people.frozen_stages: {error}") from error
    trunk = ("stem", "stages") if isinstance(network, NanoDet) else ("stem", "blocks", "last")
    return dict.fromkeys(trunk, section.backbone_lr_scale)


def _real_photos(data: DataSection, split: str) -> tuple[list[WildPhoto], np.ndarray | None]:
    """Photos of the sets of `data.real`, and the frequency of each; None where all are of one set."""
    sets = read_real_sets(data.root, data.real, split)
    photos = [photo for of_set in sets for photo in of_set]
    if len(sets) == 1:
        return photos, None
    weights = zip(data.real.values(), sets, strict=True)
    shares = np.concatenate([np.full(len(of_set), weight / max(1, len(of_set))) for weight, of_set in weights])
    return photos, shares / shares.sum()


def main(config: TrainConfig, out: Path, *, resume: bool = True, quiet: bool = False) -> Outcome:
    """Train the people detector. Arguments, results and errors as `engine.fit`."""
    return fit(PeopleStage(config), config, config.people, out, resume=resume, quiet=quiet)
