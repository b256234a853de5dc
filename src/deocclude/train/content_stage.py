"""Training of stage 2: ContentRecoveryNet or a baseline, its criterion and its validation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deocclude.errors import ConfigError
from deocclude.models.blocks import one_hot
from deocclude.models.features import load_mask_completion
from deocclude.models.mask_completion import MaskProbabilities, to_probabilities
from deocclude.train.config import Schedule, StageSection, TrainConfig, check_losses
from deocclude.train.content_losses import (
    ContentCriterion,
    brightness_gradient,
    compose,
    gradient_length,
    person_discriminator_loss,
)
from deocclude.train.crop_stage import CropStage
from deocclude.train.engine import JointNetwork, Outcome, fit, to_float
from deocclude.train.mask_losses import MaskCriterion
from deocclude.train.methods import CONTENT_METHODS, MASK_METHODS
from deocclude.train.pictures import composed, first_people, in_a_row, named, to_rgb
from deocclude.train.pretrained_backbone import perceptual_features
from deocclude.train.stage1_predictions import MaskPredictor, predict

DEFAULT_LOSSES = CONTENT_METHODS["pconv_attention"].losses
# stage 2 works on the tight crop, on occluded people
_SYNTHESIS = {"p_unoccluded": 0.0, "hidden_min": 0.08, "p_cut_by_edge": 0.1}
_CROP = {"p_wide": 0.0, "tight_scale": (1.1, 1.5), "shift": 0.05, "p_exact": 1.0, "p_box": 0.0}
_P_LABELS = 0.3  # fraction of labelled people with the true parsing instead of stage 1's prediction


class ContentStage(CropStage):
    """Implements engine.Stage for stage 2."""

    name = "content"

    def __init__(self, config: TrainConfig):
        """Create networks, criterion and data.

        Raises:
            ConfigError: settings that do not go together, or a missing file name.
            WeightsError: a weights file does not fit.
        """
        super().__init__(config, synthesis=_SYNTHESIS, crop=_CROP)
        section = self.section
        if self.bf16:
            _check_crop_sizes(section.schedule, 2 ** (len(self.config.widths) - 1))
        self.parser, features = None, None
        if self.method.parsing:
            if section.parsing_weights is None:
                raise ConfigError("content.parsing_weights: name stage 1's .safetensors (its parsing guides stage 2)")
            self.parser = load_mask_completion(section.parsing_weights).eval().requires_grad_(False)
        if feature_terms := [name for name in ContentCriterion.FEATURE_TERMS if self.losses.get(name)]:
            if section.parsing_weights is None and section.perceptual is None:
                raise ConfigError(
                    f"content.parsing_weights: name stage 1's .safetensors for {', '.join(feature_terms)}"
                )
            features = perceptual_features(section)
        of_criterion = {name: weight for name, weight in self.losses.items() if name in self.method.terms}
        self.criterion = ContentCriterion(of_criterion, features=features)
        self.predictor = _load_predictor(section)
        if self.predictor is not None and self.method.own_targets:
            raise ConfigError(f"content.p_predicted: {section.model} has its own targets and takes no predictions")
        if section.joint:
            metadata = {"network": "mask_completion", "config": self.predictor.network.config.to_dict()}
            self.stage1 = JointNetwork(
                self.predictor.network, section.stage1_lr_scale, metadata | {"losses": self.predictor.criterion.weights}
            )
        self.make_networks(config.seed, depth=3)
        self.start_from_init()
        self.stream = self.crops.stream(config.seed)
        self.validation = self.crops.held_out(config.validation_samples, self.size_px)

    def weighted_terms(self, batch: dict[str, Tensor], rng: np.random.Generator) -> tuple[dict[str, Tensor], Tensor]:
        """Terms of the criterion, and the composed person (B, 3, S, S) for the discriminator.

        The target is the true person inside the true occluded region, whether input masks are true or predicted.
        """
        batch = self.method.targets(self.config, batch, rng)
        p_predicted = self.section.p_predicted
        predicted = p_predicted > 0 and rng.random() < p_predicted
        found, terms = self.predictor(batch) if predicted or self.stage1 is not None else (None, {})
        visible, amodal = (found.visible, found.amodal) if predicted else (batch["visible"], batch["amodal"])
        # half of the time the visible mask is eroded by a pixel, as at inference against the occluder's colours
        source_mask = visible if rng.random() < 0.5 else -F.max_pool2d(-visible, 3, 1, 1)
        parsing = self._predicted_parsing(found) if predicted else self._parsing(batch, rng)
        content, own = self.method.run(self.network, batch, (batch["photo"], source_mask, amodal, *parsing))
        content = content.float()
        terms = terms | self.criterion(content, batch, self.discriminator)
        terms |= {name: self.losses[name] * value for name, value in own.items() if self.losses.get(name)}
        return terms, compose(content, batch["truth"], batch["visible"], batch["amodal"]).detach()

    def discriminator_loss(self, batch: dict[str, Tensor], output: Tensor) -> Tensor:
        """Loss on the true person (real) and the composed one (fake), each with the occluded mask."""
        return person_discriminator_loss(self.discriminator, batch, output)

    @torch.no_grad()
    def _parsing(self, batch: dict[str, Tensor], rng: np.random.Generator | None = None) -> tuple[Tensor, ...]:
        """Visible and amodal parsing, (B, P, S/4, S/4) each, predicted by stage 1.

        Args:
            batch: from `to_float`.
            rng: if given, replaces a fraction of the predictions by true labels.

        Returns:
            Both, or an empty tuple for a network without parsing input.
        """
        if self.parser is None:
            return ()
        output = self.parser(batch["photo"], batch["visible"])
        found = to_probabilities(type(output)(*(t.float() for t in output)))
        visible, amodal = found.visible_parsing, found.amodal_parsing
        if rng is not None:
            labels = batch["parsing"][:, 2::4, 2::4]
            use = ((labels > 0) & (labels < 255)).flatten(1).any(1)  # people with labels
            use &= torch.from_numpy(rng.random(len(use)) < _P_LABELS).to(use.device)
            truth = one_hot(labels, self.config.parsing_classes)
            pick = use[:, None, None, None]
            visible, amodal = torch.where(pick, truth, visible), torch.where(pick, truth, amodal)
        return visible, amodal

    @torch.no_grad()
    def validate(self, network: nn.Module, stage1: nn.Module | None = None) -> dict[str, float]:
        """Measure on held-out people with more than 64 occluded pixels, inside the occluded part.

        Returns:
            From true masks: l1 (0-255) and psnr (dB), means over people; gradient_ratio, the recovered brightness
            gradient's mean length over the true one's; and score, which is minus l1. Without such people: a score of 0
            alone. If stage 1 predicts masks in training: the same with the prefix `predicted_`, and the score from
            those.
        """
        measures = self._measure(network, None)
        if self.predictor is None:
            return measures
        predicted = self._measure(network, self.predictor.network if stage1 is None else stage1)
        return measures | {f"predicted_{k}": v for k, v in predicted.items()} | {"score": predicted["score"]}

    def _measure(self, network: nn.Module, stage1: nn.Module | None) -> dict[str, float]:
        """The measures of `validate`, from masks that stage 1 predicts, or for None from true masks."""
        device = next(network.parameters()).device
        l1s, psnrs, gradients, true_gradients = [], [], [], []
        for raw in self.validation:
            batch = to_float(raw, device)
            with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
                content = network(batch["photo"], *self._masks_and_parsing(batch, stage1))
            hidden = batch["amodal"] * (1 - batch["visible"])
            big = hidden.sum((1, 2, 3)) > 64
            error = (content.float() - batch["truth"]) * hidden
            count = 3 * hidden.sum((1, 2, 3)).clamp(min=1)
            l1s.append((255 * error.abs().sum((1, 2, 3)) / count)[big])
            psnrs.append((-10 * torch.log10(error.square().sum((1, 2, 3)) / count + 1e-8))[big])
            gradients.append(_mean_gradient(content.float(), hidden)[big])
            true_gradients.append(_mean_gradient(batch["truth"], hidden)[big])
        if not len(torch.cat(l1s)):
            return {"score": 0.0}
        l1, psnr = (torch.cat(v).mean().item() for v in (l1s, psnrs))
        gradient_ratio = (torch.cat(gradients).sum() / torch.cat(true_gradients).sum()).item()
        return {"l1": l1, "psnr": psnr, "gradient_ratio": gradient_ratio, "score": -l1}

    def _masks_and_parsing(self, batch: dict[str, Tensor], stage1: nn.Module | None) -> tuple[Tensor, ...]:
        """Inputs of the network besides the photo: true masks and their parsing, or all of it predicted by stage 1."""
        if stage1 is None:
            return (batch["visible"], batch["amodal"], *self._parsing(batch))
        found = predict(stage1, batch)
        return (found.visible, found.amodal, *self._predicted_parsing(found))

    def _predicted_parsing(self, found: MaskProbabilities) -> tuple[Tensor, ...]:
        """Visible and amodal parsing of a prediction; an empty tuple for a network without parsing input."""
        return (found.visible_parsing, found.amodal_parsing) if self.method.parsing else ()

    @torch.no_grad()
    def pictures(self, network: nn.Module, stage1: nn.Module | None = None) -> dict[str, np.ndarray]:
        """Photo, visible person, recovered and true person of a few held-out people."""
        batch = first_people(to_float(self.validation[0], next(network.parameters()).device))
        if stage1 is None and self.predictor is not None:
            stage1 = self.predictor.network
        inputs = self._masks_and_parsing(batch, stage1)
        content, photo, (visible, amodal) = network(batch["photo"], *inputs), batch["photo"], inputs[:2]
        rows = zip(
            photo, composed(photo, content, visible, visible), composed(photo, content, visible, amodal),
            composed(batch["truth"], batch["truth"], batch["amodal"], batch["amodal"]), strict=True,
        )  # fmt: skip
        return named([in_a_row(*(to_rgb(image) for image in row)) for row in rows])


def _load_predictor(section: StageSection) -> MaskPredictor | None:
    """Stage 1 for predicted masks in training; None without p_predicted. Raises ConfigError, WeightsError."""
    if not section.p_predicted:
        if section.joint:
            raise ConfigError(
                "content.joint: stage 1 learns through the masks it predicts, so content.p_predicted must be > 0"
            )
        return None
    if section.stage1 is None:
        raise ConfigError("content.stage1: name stage 1's .safetensors (content.p_predicted asks for its predictions)")
    terms = tuple(term for term in MaskCriterion.TERMS if term not in ("perceptual", "adversarial"))
    losses = check_losses(section.stage1_losses or MASK_METHODS["hourglass"].losses, terms, "content.stage1_losses")
    return MaskPredictor(load_mask_completion(section.stage1), losses if section.joint else None)


def _check_crop_sizes(schedule: Schedule, deepest_px: int) -> None:
    """Raise ConfigError if the deepest encoder level gets a 1x1 input in bfloat16, as from crops of `deepest_px`.

    For a 3x3 convolution of stride 2 on a 1x1 map, torch on a CPU leaves most of the bfloat16 weight gradient
    uninitialised (observed with 2.13), so that the weights become NaN or arbitrary.
    """
    for number, phase in enumerate(schedule.phases):
        if min(phase.sizes_px) <= deepest_px:
            raise ConfigError(
                f"content.schedule.phases.{number}: every crop size must be above {deepest_px} px with precision "
                f"bfloat16, got {min(phase.sizes_px)}"
            )


def _mean_gradient(image: Tensor, mask: Tensor) -> Tensor:
    """(B,) mean length of the brightness gradient of each image (B, C, H, W) inside its mask (B, 1, H, W)."""
    gradient, inside = brightness_gradient(image, mask)
    return (gradient_length(gradient) * inside).sum((1, 2, 3)) / inside.sum((1, 2, 3)).clamp(min=1)


def main(config: TrainConfig, out: Path, *, resume: bool = True, quiet: bool = False) -> Outcome:
    """Train stage 2. Arguments, results and errors as `engine.fit`."""
    return fit(ContentStage(config), config, config.content, out, resume=resume, quiet=quiet)
