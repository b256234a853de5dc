"""Training of stage 1's prompted head: stage 1 is frozen, and prompts are simulated from the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

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

_CROP = {"p_wide": 0.15, "p_exact": 0.4, "p_box": 0.0}  # prompts come after a first answer: its mask is refined
_MUCH_HIDDEN = 0.4  # share of the body; of such people the prompts are measured


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
        self.criterion = MaskCriterion(self.losses)
        self.stream = self.crops.stream(config.seed, known_in_part=True, truth=False)
        self.validation = self.crops.held_out(config.validation_samples, self.size_px, CropConfig(p_exact=0.6, p_box=0))

    def weighted_terms(self, batch: dict[str, Tensor], rng: np.random.Generator) -> tuple[dict[str, Tensor], Tensor]:
        """Terms of the criterion, and the soft amodal mask (B, 1, S, S)."""
        first, features = self._first(batch)
        poses = placed_poses(self.completion.typical_poses, torch.sigmoid(first.visible)) if self._has_poses else None
        prompts = [
            simulate_prompts(*arrays, rng, () if poses is None else poses[number].cpu().numpy())
            for number, arrays in enumerate(_arrays(batch, first))
        ]
        output = run_prompted(self.network, first, features, _to(batch["photo"], prompts)).float()
        return self.criterion(output, batch), torch.sigmoid(output.amodal).detach()

    @torch.no_grad()
    def validate(self, network: nn.Module, stage1: nn.Module | None = None) -> dict[str, float]:
        """Invisible IoU of held-out people of whom more than 40 % is hidden.

        Returns:
            without: of stage 1. extent: with the true box of the body. clicked: with the box, and then two clicks, each
            in the largest error that is left. score: the mean of the latter two. A measure without samples is left out.
        """
        device = next(network.parameters()).device
        rows: dict[str, list[Tensor]] = {"without": [], "extent": [], "clicked": []}
        for raw in self.validation:
            batch = to_float(raw, device)
            truth = (batch["amodal"] > 0) & (batch["known"] > 0)
            body, hidden = truth.sum((1, 2, 3)), (truth & (batch["visible"] == 0)).sum((1, 2, 3))
            much = (body > 0) & (hidden > _MUCH_HIDDEN * body)
            if much.any():
                for name, amodal in self._answers(network, batch).items():
                    rows[name].append(_invisible_iou(amodal, batch)[much])
        means = {name: torch.cat(found).mean().item() for name, found in rows.items() if found}
        return means | {"score": (means.get("extent", 0.0) + means.get("clicked", 0.0)) / 2}

    def _answers(self, network: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """(B, 1, S, S) amodal logits by the prompts that `validate` names."""
        with torch.autocast(batch["photo"].device.type, torch.bfloat16, enabled=self.bf16):
            first, features = self._first(batch)
        samples = _arrays(batch, first)
        extents = [mask_to_box_xyxy(whole) if whole.any() else None for _, whole, _, _ in samples]
        strokes: list[dict[str, list]] = [{"body": [], "background": []} for _ in samples]
        with_extent = amodal = self._prompted(network, first, features, extents, strokes)
        for _ in range(2):
            for number, (_, whole, known, _) in enumerate(samples):
                _click(strokes[number], (amodal[number, 0] > 0).cpu().numpy(), whole, known)
            amodal = self._prompted(network, first, features, extents, strokes)
        return {"without": first.amodal, "extent": with_extent, "clicked": amodal}

    def metadata(self) -> dict[str, Any]:
        """Also the crop side in pixels."""
        return super().metadata() | {"size_px": self.size_px}

    @property
    def _has_poses(self) -> bool:
        return self.completion.config.pose_guidance

    @torch.no_grad()
    def _first(self, batch: dict[str, Tensor]) -> tuple[MaskOutput, MaskFeatures]:
        """What stage 1 says without prompts."""
        output, features = self.completion.with_features(batch["photo"], batch["initial"])
        return output.float(), features

    def _prompted(
        self, network: nn.Module, first: MaskOutput, features: MaskFeatures, extents: list, strokes: list[dict]
    ) -> Tensor:
        """(B, 1, S, S) amodal logits with extents and clicks."""
        size_px = first.amodal.shape[-1]
        maps = [
            draw_prompt_maps(size_px, extent_xyxy=extent, **drawn)
            for extent, drawn in zip(extents, strokes, strict=True)
        ]
        with torch.autocast(first.amodal.device.type, torch.bfloat16, enabled=self.bf16):
            return run_prompted(network, first, features, _to(first.amodal, maps)).amodal.float()


def _arrays(batch: dict[str, Tensor], first: MaskOutput) -> list[tuple[np.ndarray, ...]]:
    """For each sample (S, S) bool: true visible and amodal mask, pixels of known truth, stage 1's amodal mask."""
    masks = (batch["visible"], batch["amodal"], batch["known"], first.amodal.detach())
    return [tuple((mask[i, 0] > 0).cpu().numpy() for mask in masks) for i in range(len(first.amodal))]


def _invisible_iou(amodal: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """(B,) IoU of the hidden part, where the truth is known, of (B, 1, S, S) logits."""
    hidden = (batch["visible"] == 0) & (batch["known"] > 0)
    return iou_of_each((amodal > 0) & hidden, (batch["amodal"] > 0) & hidden)


def _click(strokes: dict[str, list], predicted: np.ndarray, truth: np.ndarray, known: np.ndarray) -> None:
    """Add a click in the larger error: body that is missing, or background that is taken for body."""
    missing, extra = truth & ~predicted & known, predicted & ~truth & known
    kind, error = ("body", missing) if np.count_nonzero(missing) >= np.count_nonzero(extra) else ("background", extra)
    if (click := largest_error(error)) is not None:
        strokes[kind].append((click, click))


def _to(like: Tensor, maps: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(maps)).to(like.device)


def _check_sizes(completion: MaskCompletionNet, config: Any) -> None:
    """Raise ConfigError unless the head reads what stage 1 gives."""
    own = completion.config
    poses = own.template_channels if own.pose_guidance else 0
    gives = {"stem_width": own.stem_width, "feature_width": own.widths[0], "pose_channels": poses,
             "head_width": own.head_width, "parsing_channels": own.parsing_channels}  # fmt: skip
    for name, value in gives.items():
        if getattr(config, name) != value:
            raise ConfigError(f"prompted.network.{name}: stage 1 has {value}, got {getattr(config, name)}")


def main(config: TrainConfig, out: Path, *, resume: bool = True, quiet: bool = False) -> Outcome:
    """Train the prompted head. Arguments, results and errors as `engine.fit`."""
    return fit(PromptedStage(config), config, config.prompted, out, resume=resume, quiet=quiet)
