"""Training of stage 1: MaskCompletionNet or a baseline, its criterion and its validation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deocclude.data.samples.person_samples import CropConfig
from deocclude.data.samples.typical_poses import typical_poses
from deocclude.errors import ConfigError
from deocclude.io.typical_poses import read_poses
from deocclude.models.features import load_features
from deocclude.models.mask_completion import to_probabilities
from deocclude.train.box_prompt_masks import load_box_segmenter, predict_box_masks
from deocclude.train.config import StageSection, TrainConfig, with_fields
from deocclude.train.crop_stage import CropStage
from deocclude.train.crops import Crops, iou_of_each
from deocclude.train.engine import STATE_FILE, Outcome, fit, to_float
from deocclude.train.loss_terms import discriminator_adversarial
from deocclude.train.mask_losses import MaskCriterion
from deocclude.train.methods import MASK_METHODS
from deocclude.train.pictures import first_people, in_a_row, mask_rgb, named, to_rgb
from deocclude.train.pretrained_backbone import load_pretrained_backbone
from deocclude.train.two_pass_prompts import refinement_prompts

DEFAULT_LOSSES = MASK_METHODS["hourglass"].losses


class MaskStage(CropStage):
    """Implements engine.Stage for stage 1, the box-prompted network and the baselines of stage 1 (MASK_METHODS)."""

    name = "mask"

    def __init__(self, config: TrainConfig, *, fresh: bool = True):
        """Create networks, criterion and data.

        Args:
            config: the whole config.
            fresh: the run starts from step 0, so that typical poses are read or computed.

        Raises:
            ConfigError: settings that do not go together, or a missing file name.
            WeightsError: a weights file does not fit.
        """
        super().__init__(config)
        section, crops = self.section, self.crops
        if self.losses.get("perceptual") and section.parsing_weights is None:
            raise ConfigError(
                "mask.parsing_weights: name stage 1's .safetensors of an earlier run, or VGG-16's, for perceptual"
            )
        features = load_features(section.parsing_weights) if section.parsing_weights else None
        of_criterion = {name: weight for name, weight in self.losses.items() if name in self.method.terms}
        self.criterion = MaskCriterion(of_criterion, features=features)
        self.make_networks(config.seed)
        if section.pretrained_backbone:
            self.lr_scales = load_pretrained_backbone(self.network, section, "mask")
        need_truth = self._terms_needing_amodal_truth()
        if crops.data.p_real and need_truth:
            raise ConfigError(
                "data.p_real adds people with a known visible mask only, and "
                f"{need_truth[0]} needs the amodal truth: leave one of them out"
            )
        # trained on boxes minus a neighbour, the network segments the person who is left in such a box
        self.splits_boxes = self.method.boxes_alone and crops.crop.p_subtract_neighbor > 0
        if section.p_refinement_pass and self.method is not MASK_METHODS["hourglass"]:
            raise ConfigError(f"mask.p_refinement_pass is for model hourglass, got {section.model!r}")
        self.box_segmenter = _load_box_segmenter(section, self.method.boxes_alone)
        # only the perceptual term reads the unoccluded photo
        self.stream = crops.stream(config.seed, known_in_part=True, truth=bool(self.losses.get("perceptual")))
        if not self.start_from_init() and fresh and getattr(self.config, "pose_guidance", False):
            centres = read_poses(section.poses) if section.poses else draw_poses(config)
            if len(centres) != self.config.templates:
                raise ConfigError(
                    f"mask.network.templates is {self.config.templates}, {section.poses} has {len(centres)}"
                )
            self.network.typical_poses.centres.copy_(torch.from_numpy(centres))
        validation_crop = CropConfig(p_exact=0.0, p_box=1.0) if self.method.boxes_alone else CropConfig(p_exact=0.6)
        self.validation = crops.held_out(config.validation_samples, self.size_px, validation_crop)

    def _terms_needing_amodal_truth(self) -> list[str]:
        """Loss terms that cannot ignore pixels of unknown truth."""
        own = set(self.losses) - set(self.method.terms)
        return [name for name, weight in self.losses.items() if weight and name in {"perceptual", "adversarial", *own}]

    def weighted_terms(self, batch: dict[str, Tensor], rng: np.random.Generator) -> tuple[dict[str, Tensor], Tensor]:
        """Terms of the criterion, and the soft amodal mask (B, 1, S, S) for the discriminator."""
        if self.box_segmenter is not None:
            batch = batch | {"initial": predict_box_masks(self.box_segmenter, batch, self.section.p_box_prompt, rng)}
        if p_refinement := self.section.p_refinement_pass:
            batch = batch | {"initial": refinement_prompts(self.network, batch, p_refinement, rng)}
        batch = self.method.targets(self.config, batch, rng)
        output, own = self.method.run(self.network, batch)
        output = output.float()
        terms = self.criterion(output, batch, self.discriminator)
        terms |= {name: self.losses[name] * value for name, value in own.items() if self.losses.get(name)}
        return terms, torch.sigmoid(output.amodal).detach()

    def discriminator_loss(self, batch: dict[str, Tensor], output: Tensor) -> Tensor:
        """Photo with true amodal mask (real) against photo with soft amodal mask (fake)."""
        real = self.discriminator(torch.cat([batch["photo"], batch["amodal"]], 1))
        return discriminator_adversarial(real, self.discriminator(torch.cat([batch["photo"], output], 1)))

    @torch.no_grad()
    def validate(self, network: nn.Module, stage1: nn.Module | None = None) -> dict[str, float]:
        """Measure on held-out people.

        Returns:
            full_iou: mean amodal IoU. invisible_iou: mean IoU of the occluded part, of people with more than 2 %
            occluded. visible_iou: mean IoU of the refined visible mask. parsing: accuracy inside the body. false: area
            predicted beyond the body of unoccluded people, as a fraction of it. nobody: fraction of negative prompts
            with an empty visible mask. score: full_iou + invisible_iou. A measure without samples is left out.
        """
        device = next(network.parameters()).device
        rows: dict[str, list[Tensor]] = {
            k: [] for k in ("full_iou", "invisible_iou", "visible_iou", "parsing", "false", "nobody")
        }
        for raw in self.validation:
            batch = to_float(raw, device)
            with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
                output = network(batch["photo"], self._inference_prompts(network, batch))
            found = to_probabilities(output.float())
            visible, known = batch["visible"] > 0, batch["known"] > 0
            truth, whole = (batch["amodal"] > 0) & known, (found.amodal > 0.5) & known
            person = truth.sum((1, 2, 3)) > 0
            occluded = (truth & ~visible).sum((1, 2, 3)) > 0.02 * truth.sum((1, 2, 3))
            rows["nobody"].append(((found.visible > 0.5).sum((1, 2, 3)) == 0)[~person].float())
            rows["full_iou"].append(iou_of_each(whole, truth)[person])
            rows["invisible_iou"].append(iou_of_each(whole & ~visible, truth & ~visible)[occluded])
            rows["visible_iou"].append(iou_of_each(found.visible > 0.5, visible)[person])
            added = (whole & ~truth).sum((1, 2, 3)) / truth.sum((1, 2, 3)).clamp(min=1)
            rows["false"].append(added[person & ~occluded])
            labels = batch["parsing"][:, 2::4, 2::4]
            body = (labels > 0) & (labels < 255)
            if output.amodal_parsing is not None:
                rows["parsing"].append((found.amodal_parsing.argmax(1) == labels)[body].float())
        joined = {k: torch.cat(v) for k, v in rows.items() if v}
        # a small validation set may have no unoccluded people or no labels: that measure is left out
        means = {k: v.mean().item() for k, v in joined.items() if len(v)}
        return means | {"score": means.get("full_iou", 0.0) + means.get("invisible_iou", 0.0)}

    def _inference_prompts(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """Initial masks of a batch, every box replaced as at inference: by the box segmenter or a refinement prompt."""
        if self.box_segmenter is not None:
            return predict_box_masks(self.box_segmenter, batch, 1.0)
        return refinement_prompts(network, batch, 1.0) if self.section.p_refinement_pass else batch["initial"]

    @torch.no_grad()
    def pictures(self, network: nn.Module, stage1: nn.Module | None = None) -> dict[str, np.ndarray]:
        """Photo, initial mask, predicted and true masks of a few held-out people; occluded parts are orange."""
        batch = first_people(to_float(self.validation[0], next(network.parameters()).device))
        initial = self._inference_prompts(network, batch)
        found = to_probabilities(network(batch["photo"], initial))
        rows = zip(
            batch["photo"],
            initial,
            found.visible,
            found.amodal,
            batch["visible"],
            batch["amodal"],
            strict=True,
        )
        return named(
            [
                in_a_row(to_rgb(photo), mask_rgb(initial, initial), mask_rgb(seen, whole), mask_rgb(visible, amodal))
                for photo, initial, seen, whole, visible, amodal in rows
            ]
        )

    def metadata(self) -> dict[str, Any]:
        """Also the crop side in pixels and switches that inference reads."""
        own = {
            "size_px": self.size_px,
            "second_pass": bool(self.section.p_refinement_pass),
            "splits_boxes": self.splits_boxes,
        }
        return super().metadata() | own


def _load_box_segmenter(section: StageSection, boxes_alone: bool) -> nn.Module | None:
    """The network whose masks replace box prompts; None without p_box_prompt. Raises ConfigError, WeightsError."""
    if not section.p_box_prompt:
        return None
    if section.box_segmenter is None:
        raise ConfigError(
            "mask.box_segmenter: name the .safetensors of a box segmenter (mask.p_box_prompt asks for it)"
        )
    if boxes_alone:
        raise ConfigError(f"mask.p_box_prompt is for networks that refine masks, model is {section.model!r}")
    return load_box_segmenter(section.box_segmenter)


def draw_poses(config: TrainConfig) -> np.ndarray:
    """Typical poses of the training people of a config, (K, 2, 32, 32) float32 in [0, 1]: visible, amodal."""
    section = config.mask
    crops = Crops.of(config.data_of(section))
    network = with_fields(
        MASK_METHODS["hourglass"].preset(section.preset, "mask.preset"), section.network, "mask.network"
    )
    rng = np.random.default_rng(config.seed)
    return typical_poses(crops.library("train"), rng, crops.synthesis, count=network.templates)


def main(config: TrainConfig, out: Path, *, resume: bool = True, quiet: bool = False) -> Outcome:
    """Train stage 1. Arguments, results and errors as `engine.fit`."""
    stage = MaskStage(config, fresh=not (resume and (out / STATE_FILE).is_file()))
    return fit(stage, config, config.mask, out, resume=resume, quiet=quiet)
