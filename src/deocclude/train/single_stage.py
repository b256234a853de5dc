"""Training of the one-stage baselines: masks and occluded appearance in one pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from deocclude.data.samples.person_samples import CropConfig
from deocclude.errors import ConfigError
from deocclude.models.mask_completion import to_probabilities
from deocclude.train.config import TrainConfig
from deocclude.train.content_losses import ContentCriterion, compose, person_discriminator_loss
from deocclude.train.crop_stage import CropStage
from deocclude.train.crops import iou_of_each
from deocclude.train.engine import Outcome, fit, to_float
from deocclude.train.mask_losses import MaskCriterion
from deocclude.train.pictures import composed, first_people, in_a_row, mask_rgb, named, to_rgb
from deocclude.train.pretrained_backbone import perceptual_features


class SingleStage(CropStage):
    """Implements engine.Stage for one-stage networks. Crops and initial masks are those of stage 1."""

    name = "single"

    def __init__(self, config: TrainConfig):
        """Create networks, criteria and data. Raises ConfigError; WeightsError for a weights file that does not fit."""
        super().__init__(config)
        section = self.section
        feature_terms = [name for name in ContentCriterion.FEATURE_TERMS if self.losses.get(name)]
        if feature_terms and section.parsing_weights is None and section.perceptual is None:
            raise ConfigError(f"single.parsing_weights: name stage 1's .safetensors for {', '.join(feature_terms)}")
        # the adversarial term is that of the content: the mask criterion has a term of the same name
        of_content = {k: w for k, w in self.losses.items() if k in ContentCriterion.TERMS}
        self.mask_criterion = MaskCriterion({k: w for k, w in self.losses.items() if k not in of_content})
        self.content_criterion = ContentCriterion(
            of_content, features=perceptual_features(section) if feature_terms else None
        )
        self.make_networks(config.seed, depth=3)
        self.start_from_init()
        self.stream = self.crops.stream(config.seed)
        self.validation = self.crops.held_out(config.validation_samples, self.size_px, CropConfig(p_exact=0.6))

    def weighted_terms(self, batch: dict[str, Tensor], rng: np.random.Generator) -> tuple[dict[str, Tensor], Tensor]:
        """Terms of both criteria, and the composed person (B, 3, S, S) for the discriminator."""
        output, _ = self.method.run(self.network, batch)
        output = output.float()
        terms = self.mask_criterion(output.masks, batch)
        terms |= self.content_criterion(output.content, batch, self.discriminator)
        return terms, compose(output.content, batch["truth"], batch["visible"], batch["amodal"]).detach()

    def discriminator_loss(self, batch: dict[str, Tensor], output: Tensor) -> Tensor:
        """Loss on the true person (real) and the composed one (fake), each with the occluded mask."""
        return person_discriminator_loss(self.discriminator, batch, output)

    @torch.no_grad()
    def validate(self, network: nn.Module, stage1: nn.Module | None = None) -> dict[str, float]:
        """Measure on held-out people with more than 2 % occluded.

        Returns:
            full_iou: mean amodal IoU. invisible_iou: mean IoU of the occluded part. l1: mean L1 (0-255) inside it.
            score: full_iou + invisible_iou - l1 / 255. A measure without samples is left out.
        """
        device = next(network.parameters()).device
        full, invisible, l1 = [], [], []
        for raw in self.validation:
            batch = to_float(raw, device)
            with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
                output = network(batch["photo"], batch["initial"])
            output = output.float()
            found = to_probabilities(output.masks)
            visible, known = batch["visible"] > 0, batch["known"] > 0
            truth, whole = (batch["amodal"] > 0) & known, (found.amodal > 0.5) & known
            hidden = truth & ~visible
            occluded = hidden.sum((1, 2, 3)) > 0.02 * truth.sum((1, 2, 3)).clamp(min=1)
            full.append(iou_of_each(whole, truth)[occluded])
            invisible.append(iou_of_each(whole & ~visible, hidden)[occluded])
            error = ((output.content - batch["truth"]).abs() * hidden).sum((1, 2, 3))
            l1.append((255 * error / (3 * hidden.sum((1, 2, 3)).clamp(min=1)))[occluded])
        means = {
            name: torch.cat(values).mean().item()
            for name, values in (("full_iou", full), ("invisible_iou", invisible), ("l1", l1))
            if len(torch.cat(values))
        }
        return means | {"score": means.get("full_iou", 0) + means.get("invisible_iou", 0) - means.get("l1", 0) / 255}

    @torch.no_grad()
    def pictures(self, network: nn.Module, stage1: nn.Module | None = None) -> dict[str, np.ndarray]:
        """Photo, initial mask, predicted and true masks, recovered and true person of a few held-out people."""
        batch = first_people(to_float(self.validation[0], next(network.parameters()).device))
        output = network(batch["photo"], batch["initial"])
        found = to_probabilities(output.masks)
        visible, amodal = ((mask > 0.5).float() for mask in (found.visible, found.amodal))
        whole = composed(batch["photo"], output.content, visible, amodal)
        true = composed(batch["truth"], batch["truth"], batch["amodal"], batch["amodal"])
        rows = zip(
            batch["photo"], batch["initial"], found.visible, found.amodal, batch["visible"], batch["amodal"], whole,
            true, strict=True,
        )  # fmt: skip
        return named(
            [
                in_a_row(
                    to_rgb(photo), mask_rgb(initial, initial), mask_rgb(seen, amodal), mask_rgb(visible, truth),
                    to_rgb(recovered), to_rgb(person),
                )
                for photo, initial, seen, amodal, visible, truth, recovered, person in rows
            ]
        )  # fmt: skip


def main(config: TrainConfig, out: Path, *, resume: bool = True, quiet: bool = False) -> Outcome:
    """Train a one-stage network. Arguments, results and errors as `engine.fit`."""
    return fit(SingleStage(config), config, config.single, out, resume=resume, quiet=quiet)
