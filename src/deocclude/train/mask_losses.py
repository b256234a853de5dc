"""Losses of stage 1 (masks and parsing). They act on logits and probabilities, so that each has a gradient."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deocclude.train.loss_terms import Make, generator_adversarial, perceptual


def weighted_bce(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Binary cross-entropy, averaged over the total weight. All (B, 1, H, W); target in [0, 1]."""
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (loss * weight).sum() / weight.sum().clamp(min=1.0)


def parsing_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of logits (B, P, H, W) and labels (B, H, W); 255 is ignored. Zero if all labels are unknown."""
    known = (labels != 255).sum().clamp(min=1)
    return F.cross_entropy(logits, labels.long(), ignore_index=255, reduction="sum") / known


def dice_loss(probability: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """1 - soft Dice (+1 smoothing), averaged over samples with a non-empty target. All (B, 1, H, W), in [0, 1]."""
    if weight is not None:
        probability, target = probability * weight, target * weight
    overlap = (probability * target).sum((1, 2, 3))
    total = probability.sum((1, 2, 3)) + target.sum((1, 2, 3))
    present = (target.sum((1, 2, 3)) > 0).float()
    loss = 1 - (2 * overlap + 1) / (total + 1)
    return (loss * present).sum() / present.sum().clamp(min=1)


def lovasz_hinge(logits: Tensor, target: Tensor) -> Tensor:
    """Lovasz hinge (Berman et al. 2018, arXiv 1705.08790), a convex surrogate of IoU, averaged over samples.

    logits, target: (B, 1, H, W), target in {0, 1}.
    """
    losses = []
    for logit, truth in zip(logits.flatten(1), target.flatten(1), strict=True):
        errors, order = torch.sort(1 - logit * (2 * truth - 1), descending=True)
        sorted_truth = truth[order]
        total = sorted_truth.sum()
        intersection = total - sorted_truth.cumsum(0)
        union = total + (1 - sorted_truth).cumsum(0)
        jaccard = 1 - intersection / union
        slope = torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])
        losses.append(F.relu(errors) @ slope)
    return torch.stack(losses).mean()


class MaskCriterion(nn.Module):
    """Loss terms of stage 1.

    visible_ce, amodal_ce, visible_parsing_ce, amodal_parsing_ce: cross-entropies. visible_dice, amodal_dice,
    invisible_dice: soft Dice of the visible mask, the amodal mask and the occluded part. amodal_lovasz: Lovasz hinge.
    amodal_l1: L1 of the soft amodal mask. perceptual: L1 between frozen features of the person cut out by the soft and
    by the true amodal mask. adversarial: non-saturating, on photo and soft amodal mask.

    Args:
        weights: weight of each term by name; 0 leaves it out.
        invisible_weight: additional weight of occluded pixels in amodal_ce.
        features: frozen feature network of the perceptual term. Raises ValueError if it is needed and missing.
    """

    TERMS = (
        "visible_ce", "amodal_ce", "visible_parsing_ce", "amodal_parsing_ce", "visible_dice", "amodal_dice",
        "invisible_dice", "amodal_lovasz", "amodal_l1", "perceptual", "adversarial",
    )  # fmt: skip

    def __init__(self, weights: dict[str, float], invisible_weight: float = 1.0, features: nn.Module | None = None):
        super().__init__()
        self.weights = {name: w for name, w in weights.items() if w}
        self.invisible_weight = invisible_weight
        self.features = features
        if "perceptual" in self.weights and features is None:
            raise ValueError("the perceptual term needs a frozen feature network")

    def forward(self, output, batch: dict[str, Tensor], discriminator: nn.Module | None = None) -> dict[str, Tensor]:
        """output: MaskOutput of logits; batch: from `to_float` -> {term: weighted scalar}."""
        makers = self.makers(output, batch, discriminator)
        return {name: weight * makers[name]() for name, weight in self.weights.items()}

    def makers(self, output, batch: dict[str, Tensor], discriminator: nn.Module | None) -> dict[str, Make]:
        """For each of TERMS a function that computes it, without its weight; new terms are added here."""
        visible, amodal, known = batch["visible"], batch["amodal"], batch["known"]
        labels = batch["parsing"][:, 2::4, 2::4]  # the middle of each 4x4 cell
        seen = visible[:, 0, 2::4, 2::4] > 0
        hidden = amodal * (1 - visible)
        soft = torch.sigmoid(output.amodal)
        return {
            "visible_ce": lambda: weighted_bce(output.visible, visible, torch.ones_like(visible)),
            "amodal_ce": lambda: weighted_bce(output.amodal, amodal, known * (1 + self.invisible_weight * hidden)),
            "visible_parsing_ce": lambda: parsing_cross_entropy(
                output.visible_parsing, torch.where(seen, labels, torch.zeros_like(labels))
            ),
            "amodal_parsing_ce": lambda: parsing_cross_entropy(
                output.amodal_parsing, labels.masked_fill(known[:, 0, 2::4, 2::4] == 0, 255)
            ),
            "visible_dice": lambda: dice_loss(torch.sigmoid(output.visible), visible),
            "amodal_dice": lambda: dice_loss(soft, amodal, known),
            "invisible_dice": lambda: dice_loss(soft, amodal, known * (1 - visible)),
            "amodal_lovasz": lambda: lovasz_hinge(
                # pixels of unknown truth count as correct background
                output.amodal.masked_fill(known == 0, -_CERTAIN),
                amodal * known,
            ),
            "amodal_l1": lambda: (known * (soft - amodal).abs()).mean(),
            "perceptual": lambda: perceptual(
                self.features(batch["truth"] * soft), self.features(batch["truth"] * amodal)
            ),
            "adversarial": lambda: generator_adversarial(discriminator(torch.cat([batch["photo"], soft], 1))),
        }


_CERTAIN = 20.0  # absolute logit beyond the margin of the hinge, where its loss is zero
