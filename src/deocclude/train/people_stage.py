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
from deocclude.data.sources.real_photos import read_wild
from deocclude.data.synthesis.multi_person import AssetPool, CrowdConfig
from deocclude.errors import ConfigError
from deocclude.imaging.boxes import suppress
from deocclude.inference.settings import DetectorSettings
from deocclude.metrics.detection import Matched, f1, match_boxes, recall_precision
from deocclude.models.features import load_mask_completion
from deocclude.models.people_detector import PeopleDetector, PeopleDetectorConfig, PeopleMaps, to_maps
from deocclude.people.box_decoding import decode_centres
from deocclude.train.config import TrainConfig, build, check_losses
from deocclude.train.engine import Outcome, Stage, choose_device, fit, to_float, use_bfloat16
from deocclude.train.people_targets import PeopleCriterion, encode
from deocclude.train.pictures import PEOPLE, boxes_rgb, in_a_row, named
from deocclude.train.pretrained_backbone import load_pretrained_backbone

DEFAULT_LOSSES = {"centre": 1.0, "sides": 2.0, "own": 1.0, "mask": 1.0}
THRESHOLDS = tuple(round(0.1 + 0.05 * i, 2) for i in range(15))  # score thresholds of the validation
_COUNTED_SHARE = 0.15  # least height that counts, as a fraction of the frame: 96 of 640 px
_BATCH = 8
_SHOWN_SCORE = 0.3  # least score of boxes in pictures


class PeopleStage(Stage):
    """Implements engine.Stage for the people detector."""

    name = "people"

    def __init__(self, config: TrainConfig):
        section = config.people
        self.bf16 = use_bfloat16(config, choose_device(config.device))
        data = config.data_of(section)
        sources = build(SourceWeights(0, 0, 0, 0), data.sources, "data.sources")
        crowds = build(CrowdConfig(), data.crowds, "data.crowds")
        if section.preset != "base":
            raise ConfigError(f"people.preset: the detector has one size, base, got {section.preset!r}")
        self.config = build(PeopleDetectorConfig.base(), section.network, "people.network")
        self.losses = check_losses(section.losses or DEFAULT_LOSSES, PeopleCriterion.TERMS, "people.losses")
        self.criterion = PeopleCriterion(self.losses)
        torch.manual_seed(config.seed)
        try:
            self.network = PeopleDetector(self.config)
            if section.parsing_weights is not None:
                self.network.start_from(load_mask_completion(section.parsing_weights))
        except ValueError as error:
            raise ConfigError(f"people.network: {error}") from error
        if section.pretrained_backbone:
            self.lr_scales = load_pretrained_backbone(self.network, section, "people")
        if section.init is not None:
            start_from(self.network, section.init)

        def stream(split: str, p_wild: float, seed: int) -> PeopleStream:
            library = load_library(data.root, split, sources, data.places, max_px=data.max_px)
            wild = read_wild(data.root / "wild", split) if p_wild else ()
            return PeopleStream(AssetPool.of(library), wild, crowds, p_wild, seed=seed)

        self.stream = stream("train", data.p_wild, config.seed)
        self.size_px = section.schedule.phases[-1].size_px
        held_out = stream("val", 0.0, 1)
        rng = np.random.default_rng(1)
        composed = [held_out.sample(rng, self.size_px) for _ in range(config.validation_samples)]
        real = [whole_wild(p, self.size_px) for p in read_wild(data.root / "wild", "val")] if data.p_wild else []
        # whole held-out real photos, at most as many as composed scenes
        self.validation: dict[str, list[PeopleSample]] = {"composed": composed, "wild": real[: len(composed)]}

    def generator_terms(self, batch: dict[str, Tensor], rng: np.random.Generator) -> tuple[dict[str, Tensor], None]:
        """Terms of the criterion."""
        output = self.network(batch["photo"])
        output = type(output)(*(t.float() for t in output))
        targets = encode(batch["boxes_xyxy"], batch["visible"], batch["ignore"], batch["owner"], self.config.stride)
        return self.criterion(output, targets), None

    def discriminator_loss(self, batch: dict[str, Tensor], output: Any) -> Tensor:
        """Always raises TypeError: the detector has no discriminator."""
        raise TypeError("the people detector has no discriminator")

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
            maps = to_maps(type(output)(*(t.float() for t in output)))
            arrays = PeopleMaps(*(t.cpu().numpy() for t in maps))
            for centre, sides in zip(arrays.centre, arrays.sides, strict=True):
                boxes, scores = decode_centres(centre[0], sides, self.config.stride, THRESHOLDS[0])
                boxes = boxes.clip(0, self.size_px)
                kept = suppress(boxes, scores, DetectorSettings.max_iou)
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
            "network": "people_detector", "config": self.config.to_dict(), "losses": self.losses,
            "size_px": self.size_px,
        }  # fmt: skip


def main(config: TrainConfig, out: Path, *, resume: bool = True, quiet: bool = False) -> Outcome:
    """Train the people detector. Arguments, results and errors as `engine.fit`."""
    return fit(PeopleStage(config), config, config.people, out, resume=resume, quiet=quiet)
