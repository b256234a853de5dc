"""Training of stage 1's prompted head: stage 1 is frozen, and prompts are simulated from the truth.

On half of each batch the best of the head's hypotheses is trained beside the single answer, and the head learns which
one it is (Guzman-Rivera et al. 2012, "Multiple choice learning"). Some samples train a random hypothesis, so that none
is left behind (Rupprecht et al. 2017, arXiv 1612.00197).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deocclude.data.samples.person_samples import CropConfig
from deocclude.errors import ConfigError
from deocclude.imaging.boxes import mask_to_box_xyxy
from deocclude.inference.prompt_maps import draw_prompt_maps
from deocclude.models.features import load_mask_completion
from deocclude.models.mask_completion import MaskCompletionNet, MaskFeatures, MaskOutput
from deocclude.models.prompted_head import run_prompted
from deocclude.models.typical_poses import placed_poses
from deocclude.train.config import TrainConfig
from deocclude.train.crop_stage import CropStage
from deocclude.train.crops import iou_of_each
from deocclude.train.engine import Outcome, fit, to_float
from deocclude.train.mask_losses import MaskCriterion
from deocclude.train.simulated_prompts import largest_error, simulate_prompts

# users prompt after a first answer, when the initial mask is a refined mask and no box
_CROP = {"p_wide": 0.15, "p_exact": 0.4, "p_box": 0.0}
_MUCH_HIDDEN = 0.4  # validation measures people of whose body more than this share is hidden
_SOME_HIDDEN = 0.05  # the best hypothesis is learned from people of whose body more than this share is hidden
_P_UNPROMPTED = 0.5  # share of the samples with a hypothesis that have no prompt
_P_RANDOM = 0.1  # share of the samples with a hypothesis that train a random one


class _HeadInputs(NamedTuple):
    """Inputs of the prompted head for a batch, with its truth.

    batch: from `to_float`. first: stage 1's logits, the answer without prompts. features: of stage 1. maps: the
    prompts, (B, PROMPT_MAPS, S, S).
    """

    batch: dict[str, Tensor]
    first: MaskOutput
    features: MaskFeatures
    maps: Tensor

    def apply(self, function: Callable[[Tensor], Tensor]) -> _HeadInputs:
        """The same with a function applied to every tensor."""
        return _HeadInputs(
            {name: function(value) for name, value in self.batch.items()},
            MaskOutput(*(None if value is None else function(value) for value in self.first)),
            MaskFeatures(*map(function, self.features)),
            function(self.maps),
        )


class PromptedStage(CropStage):
    """Implements engine.Stage for the prompted head."""

    name = "prompted"

    def __init__(self, config: TrainConfig):
        """Load stage 1, frozen, and create the head, which starts from stage 1's amodal head.

        Raises:
            ConfigError: prompted.stage1 is missing, or the sizes do not go together.
            WeightsError: a weights file does not fit.
        """
        super().__init__(config, crop=_CROP)
        if self.section.stage1 is None:
            raise ConfigError("prompted.stage1: name stage 1's .safetensors, whose features the head reads")
        self.completion = load_mask_completion(self.section.stage1).eval().requires_grad_(False)
        self.make_networks(config.seed)
        _check_sizes(self.completion, self.config)
        if not self.start_from_init():
            self.network.start_from_stage1(self.completion.amodal_head)
        self.criterion = MaskCriterion({name: w for name, w in self.losses.items() if name != "hypothesis_ce"})
        self.stream = self.crops.stream(config.seed, known_in_part=True, truth=False)
        self.validation = self.crops.held_out(config.validation_samples, self.size_px, CropConfig(p_exact=0.6, p_box=0))

    def weighted_terms(self, batch: dict[str, Tensor], rng: np.random.Generator) -> tuple[dict[str, Tensor], Tensor]:
        """Weighted loss terms of the batch's single answers and of one hypothesis each for its first half.

        Returns:
            The terms, and the soft amodal masks (B + max(1, B // 2), 1, S, S) of both in this order.
        """
        first, features = self._run_stage1(batch)
        poses = placed_poses(self.completion.typical_poses, torch.sigmoid(first.visible)) if self._has_poses else None
        prompts = [
            simulate_prompts(*masks, rng, () if poses is None else poses[number].cpu().numpy())
            for number, masks in enumerate(_masks_of_samples(batch, first))
        ]
        half = max(1, len(prompts) // 2)
        for number in np.flatnonzero(rng.random(half) < _P_UNPROMPTED):
            prompts[number][:] = 0
        inputs = _HeadInputs(batch, first, features, _stacked(prompts, batch["photo"]))
        best, is_distinct = self._best_hypotheses(inputs.apply(lambda tensor: tensor[:half]))
        of_half = F.one_hot(_with_some_random(best, self.config.hypotheses, rng), self.config.hypotheses)
        single_answer = of_half.new_zeros(len(prompts), self.config.hypotheses)
        inputs = inputs.apply(lambda tensor: torch.cat([tensor, tensor[:half]]))
        hypothesis = torch.cat([single_answer, of_half]).to(inputs.maps.dtype)
        output, likelihood = run_prompted(self.network, inputs.first, inputs.features, inputs.maps, hypothesis)
        terms = self.criterion(output.float(), inputs.batch)
        if weight := self.losses.get("hypothesis_ce"):
            losses = F.cross_entropy(likelihood[:half].float(), best, reduction="none")
            terms["hypothesis_ce"] = weight * (losses * is_distinct).sum() / is_distinct.sum().clamp(min=1)
        return terms, torch.sigmoid(output.amodal.float()).detach()

    @torch.no_grad()
    def _best_hypotheses(self, inputs: _HeadInputs) -> tuple[Tensor, Tensor]:
        """The best hypothesis of each sample.

        Returns:
            (B,) int64: the one with the highest soft IoU. (B,) bool: whether it is distinct, that is, better than
            another one, of a person with a hidden part.
        """
        scores = self._scores_of_hypotheses(self.network, inputs, _soft_iou)
        truth = (inputs.batch["amodal"] > 0) & (inputs.batch["known"] > 0)
        hidden = (truth & (inputs.batch["visible"] == 0)).sum((1, 2, 3)) > _SOME_HIDDEN * truth.sum((1, 2, 3))
        return scores.argmax(1), hidden & (scores.amax(1) > scores.amin(1))

    def _scores_of_hypotheses(
        self, network: nn.Module, inputs: _HeadInputs, score: Callable[[Tensor, dict[str, Tensor]], Tensor]
    ) -> Tensor:
        """(B, hypotheses) scores of every hypothesis, predicted in evaluation mode.

        score: (amodal logits (B, 1, S, S), batch) -> (B,).
        """
        training = network.training
        network.eval()
        scores = []
        for one_hot in torch.eye(self.config.hypotheses, device=inputs.maps.device):
            hypothesis = one_hot.repeat(len(inputs.maps), 1)
            with torch.autocast(inputs.maps.device.type, torch.bfloat16, enabled=self.bf16):
                found, _ = run_prompted(network, inputs.first, inputs.features, inputs.maps, hypothesis)
            scores.append(score(found.amodal.float(), inputs.batch))
        network.train(training)
        return torch.stack(scores, 1)

    @torch.no_grad()
    def validate(self, network: nn.Module, stage1: nn.Module | None = None) -> dict[str, float]:
        """Invisible IoU of held-out people of whom more than 40 % is hidden.

        Returns:
            without: of stage 1. extent: with the true box of the body. clicked: with the box, and then two clicks, each
            in the largest error that is left. hypotheses: the best of all hypotheses, without prompts. score: the mean
            of the latter three. A measure without samples is left out.
        """
        device = next(network.parameters()).device
        rows: dict[str, list[Tensor]] = {"without": [], "extent": [], "clicked": [], "hypotheses": []}
        for raw in self.validation:
            batch = to_float(raw, device)
            truth = (batch["amodal"] > 0) & (batch["known"] > 0)
            body, hidden = truth.sum((1, 2, 3)), (truth & (batch["visible"] == 0)).sum((1, 2, 3))
            much = (body > 0) & (hidden > _MUCH_HIDDEN * body)
            if much.any():
                for name, ious in self._ious(network, batch).items():
                    rows[name].append(ious[much])
        means = {name: torch.cat(found).mean().item() for name, found in rows.items() if found}
        return means | {"score": sum(means.get(name, 0.0) for name in ("extent", "clicked", "hypotheses")) / 3}

    def _ious(self, network: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Invisible IoU (B,) of each kind of answer that `validate` names."""
        with torch.autocast(batch["photo"].device.type, torch.bfloat16, enabled=self.bf16):
            first, features = self._run_stage1(batch)
        samples = _masks_of_samples(batch, first)
        extents = [mask_to_box_xyxy(whole) if whole.any() else None for _, whole, _, _ in samples]
        strokes: list[dict[str, list]] = [{"body": [], "background": []} for _ in samples]
        with_extent = amodal = self._prompted_logits(network, first, features, extents, strokes)
        for _ in range(2):
            for number, (_, whole, known, _) in enumerate(samples):
                _add_click(strokes[number], (amodal[number, 0] > 0).cpu().numpy(), whole, known)
            amodal = self._prompted_logits(network, first, features, extents, strokes)
        answers = {"without": first.amodal, "extent": with_extent, "clicked": amodal}
        no_prompts = _stacked([draw_prompt_maps(first.amodal.shape[-1])] * len(samples), first.amodal)
        inputs = _HeadInputs(batch, first, features, no_prompts)
        best = self._scores_of_hypotheses(network, inputs, _invisible_iou).amax(1)
        return {name: _invisible_iou(found, batch) for name, found in answers.items()} | {"hypotheses": best}

    def metadata(self) -> dict[str, Any]:
        """Also the crop side in pixels."""
        return super().metadata() | {"size_px": self.size_px}

    @property
    def _has_poses(self) -> bool:
        return self.completion.config.pose_guidance

    @torch.no_grad()
    def _run_stage1(self, batch: dict[str, Tensor]) -> tuple[MaskOutput, MaskFeatures]:
        """Stage 1's logits, the answer without prompts, and its features."""
        output, features = self.completion.with_features(batch["photo"], batch["initial"])
        return output.float(), features

    def _prompted_logits(
        self, network: nn.Module, first: MaskOutput, features: MaskFeatures, extents: list, strokes: list[dict]
    ) -> Tensor:
        """(B, 1, S, S) amodal logits of the single answer to extents (a box or None for each sample) and strokes."""
        size_px = first.amodal.shape[-1]
        maps = [
            draw_prompt_maps(size_px, extent_xyxy=extent, **by_kind)
            for extent, by_kind in zip(extents, strokes, strict=True)
        ]
        with torch.autocast(first.amodal.device.type, torch.bfloat16, enabled=self.bf16):
            return run_prompted(network, first, features, _stacked(maps, first.amodal))[0].amodal.float()


def _masks_of_samples(batch: dict[str, Tensor], first: MaskOutput) -> list[tuple[np.ndarray, ...]]:
    """For each sample (S, S) bool: true visible and amodal mask, pixels of known truth, stage 1's amodal mask."""
    masks = (batch["visible"], batch["amodal"], batch["known"], first.amodal.detach())
    return [tuple((mask[i, 0] > 0).cpu().numpy() for mask in masks) for i in range(len(first.amodal))]


def _invisible_iou(amodal: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """(B,) IoU of amodal logits (B, 1, S, S) with the truth, outside the visible mask and where the truth is known."""
    counted = (batch["visible"] == 0) & (batch["known"] > 0)
    return iou_of_each((amodal > 0) & counted, (batch["amodal"] > 0) & counted)


def _soft_iou(amodal: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """As `_invisible_iou`, of probabilities instead of thresholded masks."""
    counted = (batch["visible"] == 0) & (batch["known"] > 0)
    predicted, truth = torch.sigmoid(amodal) * counted, (batch["amodal"] > 0) * counted
    shared = torch.minimum(predicted, truth).sum((1, 2, 3))
    return shared / torch.maximum(predicted, truth).sum((1, 2, 3)).clamp(min=1e-3)


def _with_some_random(best: Tensor, count: int, rng: np.random.Generator) -> Tensor:
    """The hypotheses to train, (B,) int64: the best ones, a share of _P_RANDOM replaced by random ones."""
    random = torch.from_numpy(rng.integers(count, size=len(best))).to(best.device)
    return torch.where(torch.from_numpy(rng.random(len(best)) < _P_RANDOM).to(best.device), random, best)


def _add_click(strokes: dict[str, list], predicted: np.ndarray, truth: np.ndarray, known: np.ndarray) -> None:
    """Add a click in the larger error: "body" on missing body, "background" on background taken for body.

    Masks: (S, S) bool. No click where no connected part of that error is large enough (`largest_error`).
    """
    missing, extra = truth & ~predicted & known, predicted & ~truth & known
    kind, error = ("body", missing) if np.count_nonzero(missing) >= np.count_nonzero(extra) else ("background", extra)
    if (click := largest_error(error)) is not None:
        strokes[kind].append((click, click))


def _stacked(maps: list[np.ndarray], like: Tensor) -> Tensor:
    """Prompt maps of all samples as one tensor (B, PROMPT_MAPS, S, S), on the device of `like`."""
    return torch.from_numpy(np.stack(maps)).to(like.device)


def _check_sizes(completion: MaskCompletionNet, config: Any) -> None:
    """Raise ConfigError unless the head's sizes are those of stage 1, and there is a hypothesis to train."""
    if config.hypotheses < 1:
        raise ConfigError(f"prompted.network.hypotheses must be at least 1, got {config.hypotheses}")
    own = completion.config
    if not own.parsing_guidance:
        raise ConfigError("prompted.stage1: the head needs a stage 1 with parsing_guidance")
    poses = own.template_channels if own.pose_guidance else 0
    needed = {"stem_width": own.stem_width, "feature_width": own.widths[0], "pose_channels": poses,
              "head_width": own.head_width, "parsing_classes": own.parsing_classes,
              "parsing_channels": own.parsing_channels}  # fmt: skip
    for name, value in needed.items():
        if getattr(config, name) != value:
            raise ConfigError(f"prompted.network.{name}: stage 1 has {value}, got {getattr(config, name)}")


def main(config: TrainConfig, out: Path, *, resume: bool = True, quiet: bool = False) -> Outcome:
    """Train the prompted head. Arguments, results and errors as `engine.fit`."""
    return fit(PromptedStage(config), config, config.prompted, out, resume=resume, quiet=quiet)
