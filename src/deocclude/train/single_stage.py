"""A network of both stages in training: masks and hidden appearance in one pass, to compare the two stages with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deocclude.checkpoints.files import start_from
from deocclude.data.samples.person_samples import CropConfig
from deocclude.errors import ConfigError
from deocclude.models.discriminators import PatchDiscriminator
from deocclude.models.mask_completion import to_probabilities
from deocclude.train.config import TrainConfig, build
from deocclude.train.content_losses import ContentCriterion, compose, masked_scores
from deocclude.train.crops import Crops, iou_of_each
from deocclude.train.engine import Outcome, Stage, choose_device, fit, to_float, use_bfloat16
from deocclude.train.loss_terms import generator_softplus
from deocclude.train.mask_losses import MaskCriterion
from deocclude.train.methods import find_method
from deocclude.train.pictures import composed, first_people, in_a_row, mask_rgb, named, to_rgb
from deocclude.train.pretrained_backbone import perceptual_features


class SingleStage(Stage):
    """Implements engine.Stage for a network of both stages. Crops and initial masks are those of stage 1."""

    name = "single"

    def __init__(self, config: TrainConfig):
        section = config.single
        self.bf16 = use_bfloat16(config, choose_device(config.device))
        crops = Crops.of(config.data_of(section))
        self.method = find_method("single", section.model)
        self.config = build(self.method.preset(section.preset, "single.preset"), section.network, "single.network")
        self.losses = self.method.check_losses(section.losses, "single.losses")
        wanted = [name for name in ContentCriterion.FEATURE_TERMS if self.losses.get(name)]
        if wanted and section.parsing_weights is None and section.perceptual is None:
            raise ConfigError(f"single.parsing_weights: name stage 1's .safetensors for {', '.join(wanted)}")
        # adversarial is the painted person's: the masks' criterion has a term of that name too
        of_content = {k: w for k, w in self.losses.items() if k in ContentCriterion.TERMS}
        self.mask_criterion = MaskCriterion({k: w for k, w in self.losses.items() if k not in of_content})
        self.content_criterion = ContentCriterion(of_content, features=perceptual_features(section) if wanted else None)
        torch.manual_seed(config.seed)
        self.network = self.method.network(self.config)
        self.discriminator = PatchDiscriminator(4, depth=3) if self.losses.get("adversarial") else None
        if section.init is not None:
            start_from(self.network, section.init)
        self.stream = crops.stream(config.seed)
        size_px = section.schedule.phases[-1].size_px
        self.validation = crops.held_out(config.validation_samples, size_px, CropConfig(p_exact=0.6))

    def generator_terms(self, batch: dict[str, Tensor], rng: np.random.Generator) -> tuple[dict[str, Tensor], Tensor]:
        """Terms of both criteria, and the composed person for the discriminator."""
        output, _ = self.method.run(self.network, batch)
        output = output.float()
        terms = self.mask_criterion(output.masks, batch)
        terms |= self.content_criterion(output.content, batch, self.discriminator)
        return terms, compose(output.content, batch["truth"], batch["visible"], batch["amodal"]).detach()

    def discriminator_loss(self, batch: dict[str, Tensor], output: Tensor) -> Tensor:
        """On (person, hidden mask): the true person against the composed one."""
        hidden = batch["amodal"] * (1 - batch["visible"])
        real = masked_scores(generator_softplus, self.discriminator, batch["truth"] * batch["amodal"], hidden)
        return (real + masked_scores(F.softplus, self.discriminator, output, hidden)) / 2

    @torch.no_grad()
    def validate(self, network: nn.Module, stage1: nn.Module | None = None) -> dict[str, float]:
        """Mean full and invisible IoU over people who are hidden, and L1 (0-255) inside the hidden part; score weighs
        all.
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

    def metadata(self) -> dict[str, Any]:
        """Network and configuration, as stored beside the weights."""
        return {"network": self.method.kind, "config": self.config.to_dict(), "losses": self.losses}


def main(config: TrainConfig, out: Path, *, resume: bool = True, quiet: bool = False) -> Outcome:
    """Train a network of both stages as the config says."""
    return fit(SingleStage(config), config, config.single, out, resume=resume, quiet=quiet)
