"""Stage 2 in training: ContentRecoveryNet, its criterion and its validation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deocclude.data.dataset import CropConfig, SampleStream
from deocclude.data.library import SourceWeights, load_library
from deocclude.data.synthesis import SynthesisConfig
from deocclude.errors import ConfigError
from deocclude.losses import (
    ContentCriterion,
    brightness_gradient,
    compose,
    generator_softplus,
    gradient_length,
    masked_scores,
)  # fmt: skip
from deocclude.models.blocks import one_hot
from deocclude.models.content_recovery import ContentRecoveryConfig, ContentRecoveryNet
from deocclude.models.discriminators import PatchDiscriminator
from deocclude.models.features import load_features, load_mask_completion
from deocclude.models.mask_completion import to_probabilities
from deocclude.train.config import Schedule, TrainConfig, build, check_losses
from deocclude.train.engine import Outcome, choose_device, fit, to_float, use_bfloat16
from deocclude.weights_io import load_into

DEFAULT_LOSSES = {
    "hidden_l1": 1.0,
    "visible_l1": 0.1,
    "texture": 0.5,
    "style": 30.0,
    "perceptual": 0.5,
    "adversarial": 0.02,
}
# stage 2 works on the tight crop, on people of whom something is hidden
_SYNTHESIS = {"p_unoccluded": 0.0, "hidden_min": 0.08, "p_cut_by_edge": 0.1}
_CROP = {"p_wide": 0.0, "tight_scale": (1.1, 1.5), "shift": 0.05, "p_exact": 1.0, "p_box": 0.0}
_P_LABELS = 0.3  # share of labelled people whose parsing is their label, not stage 1's guess


class ContentStage:
    """Implements engine.Stage for stage 2."""

    name = "content"

    def __init__(self, config: TrainConfig):
        section = config.content
        self.bf16 = use_bfloat16(config, choose_device(config.device))
        data = config.data_of(section)
        sources = build(SourceWeights(0, 0, 0, 0), data.sources, "data.sources")
        synthesis = build(SynthesisConfig(), _SYNTHESIS | data.synthesis, "data.synthesis")
        crop = build(CropConfig(), _CROP | data.crop, "data.crop")
        self.config = build(getattr(ContentRecoveryConfig, section.preset)(), section.network, "content.network")
        if self.bf16:
            _check_sizes(config.content.schedule, 2 ** (len(self.config.widths) - 1))
        self.losses = check_losses(section.losses or DEFAULT_LOSSES, ContentCriterion.TERMS, "content.losses")
        if section.features is None:
            raise ConfigError("content.features: name stage 1's .safetensors (its parsing guides stage 2)")
        self.parser = load_mask_completion(section.features).eval().requires_grad_(False)
        self.criterion = ContentCriterion(self.losses, features=load_features(section.perceptual or section.features))
        torch.manual_seed(config.seed)
        self.network = ContentRecoveryNet(self.config)
        self.discriminator = PatchDiscriminator(4, depth=3) if self.losses.get("adversarial") else None
        if section.init is not None:
            load_into(self.network, section.init)
        self.stream = SampleStream(
            load_library(data.root, "train", sources, data.places), synthesis, crop, seed=config.seed
        )
        held_out = SampleStream(load_library(data.root, "val", sources, data.places), synthesis, crop, seed=1)
        size = section.schedule.phases[-1].size_px
        self.validation = [held_out.batch(i, 8, size) for i in range(-(-config.validation_samples // 8))]

    def generator_terms(self, batch: dict[str, Tensor], rng: np.random.Generator) -> tuple[dict[str, Tensor], Tensor]:
        """Terms of the criterion, and the composed person for the discriminator."""
        # a thin rim of the visible mask is dropped now and then, as inference does against the occluder's colours
        source = batch["visible"] if rng.random() < 0.5 else -F.max_pool2d(-batch["visible"], 3, 1, 1)
        content = self.network(batch["photo"], source, batch["amodal"], *self._parsing(batch, rng)).float()
        terms = self.criterion(content, batch, self.discriminator)
        return terms, compose(content, batch["truth"], batch["visible"], batch["amodal"]).detach()

    def discriminator_loss(self, batch: dict[str, Tensor], output: Tensor) -> Tensor:
        """On (person, hidden mask): the true person against the composed one."""
        hidden = batch["amodal"] * (1 - batch["visible"])
        real = masked_scores(generator_softplus, self.discriminator, batch["truth"] * batch["amodal"], hidden)
        return (real + masked_scores(F.softplus, self.discriminator, output, hidden)) / 2

    @torch.no_grad()
    def _parsing(self, batch: dict[str, Tensor], rng: np.random.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Visible and amodal parsing (B, P, S/4, S/4): stage 1's guess; given an rng, now and then the label."""
        output = self.parser(batch["photo"], batch["visible"])
        found = to_probabilities(type(output)(*(t.float() for t in output)))
        visible, amodal = found.visible_parsing, found.amodal_parsing
        if rng is not None:
            labels = batch["parsing"][:, 2::4, 2::4]
            use = ((labels > 0) & (labels < 255)).flatten(1).any(1)  # this person has labels
            use &= torch.from_numpy(rng.random(len(use)) < _P_LABELS).to(use.device)
            truth = one_hot(labels, self.config.parsing_classes)
            pick = use[:, None, None, None]
            visible, amodal = torch.where(pick, truth, visible), torch.where(pick, truth, amodal)
        return visible, amodal

    @torch.no_grad()
    def validate(self, network: nn.Module) -> dict[str, float]:
        """L1 (0-255) and PSNR inside the hidden part, mean over people, and sharpness; score trades it against L1."""
        device = next(network.parameters()).device
        l1s, psnrs, drawn, true = [], [], [], []
        for raw in self.validation:
            batch = to_float(raw, device)
            with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
                content = network(batch["photo"], batch["visible"], batch["amodal"], *self._parsing(batch))
            hidden = batch["amodal"] * (1 - batch["visible"])
            big = hidden.sum((1, 2, 3)) > 64
            error = (content.float() - batch["truth"]) * hidden
            count = 3 * hidden.sum((1, 2, 3)).clamp(min=1)
            l1s.append((255 * error.abs().sum((1, 2, 3)) / count)[big])
            psnrs.append((-10 * torch.log10(error.square().sum((1, 2, 3)) / count + 1e-8))[big])
            drawn.append(_mean_gradient(content.float(), hidden)[big])
            true.append(_mean_gradient(batch["truth"], hidden)[big])
        l1, psnr = (torch.cat(v).mean().item() for v in (l1s, psnrs))
        sharpness = (torch.cat(drawn).sum() / torch.cat(true).sum()).item()
        return {"l1": l1, "psnr": psnr, "sharpness": sharpness, "score": 20 * min(sharpness, 0.6) - l1}

    def metadata(self) -> dict[str, Any]:
        """Network and configuration, as stored beside the weights."""
        return {"network": "content_recovery", "config": self.config.to_dict(), "losses": self.losses}


def _check_sizes(schedule: Schedule, deepest_px: int) -> None:
    """ConfigError for bfloat16 crops of which the deepest encoder level reads a single pixel (of `deepest_px`).

    Of a 3x3 convolution of stride 2 on a 1x1 map, torch on a CPU leaves most of the bfloat16 weight gradient as it
    found the memory (seen with 2.13): the loss is NaN one step later, or worse, is not.
    """
    for number, phase in enumerate(schedule.phases):
        if phase.size_px <= deepest_px:
            raise ConfigError(
                f"content.schedule.phases.{number}.size_px must be above {deepest_px} with precision bfloat16, "
                f"got {phase.size_px}"
            )


def _mean_gradient(image: Tensor, mask: Tensor) -> Tensor:
    """Mean brightness gradient of each image inside its mask, (B,)."""
    gradient, inside = brightness_gradient(image, mask)
    return (gradient_length(gradient) * inside).sum((1, 2, 3)) / inside.sum((1, 2, 3)).clamp(min=1)


def main(config: TrainConfig, out: Path, *, resume: bool = True, quiet: bool = False) -> Outcome:
    """Train stage 2 as the config says."""
    return fit(ContentStage(config), config, config.content, out, resume=resume, quiet=quiet)
