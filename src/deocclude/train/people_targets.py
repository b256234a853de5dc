"""Targets and losses of the detectors that predict centres of boxes: the former people detector, and MoveNet.

Those of NanoDet are in `nanodet_targets.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deocclude.train.mask_losses import weighted_bce

# Gaussian sigma as a fraction of the box side: 0.54 / 6 as in TTFNet (Liu et al. 2020, arXiv 1909.00700)
_SIGMA_OF_SIDE = 0.09
_SIGMA_MIN_CELLS = 0.5
_NEAR = 0.3  # cells with at least this heat also regress the sides, so that a peak one cell off still gives the box
_INSIDE_CELLS = 0.1  # their middles are at least this far inside the box


class CentreTargets(NamedTuple):
    """Targets on the output maps, all float, (B, C, h, w).

    Attributes:
        heat: 1 at the cells of box centres, with a Gaussian around each.
        heat_weight: in {0, 1}, 0 where unlabelled people may be.
        sides: distances to left, top, right, bottom in cells, near the centres.
        sides_weight: weight of each cell in the loss of `sides`.
        own_sides: distances to the box of the person visible in the cell.
        own_weight: weight of each cell in the loss of `own_sides`; every person has the same total.
        coverage: visible person fraction of the cell.
        mask_weight: in {0, 1}, 0 where unlabelled people may be.
    """

    heat: Tensor
    heat_weight: Tensor
    sides: Tensor
    sides_weight: Tensor
    own_sides: Tensor
    own_weight: Tensor
    coverage: Tensor
    mask_weight: Tensor


def encode(boxes_xyxy: Tensor, visible: Tensor, ignore: Tensor, owner: Tensor, stride: int) -> CentreTargets:
    """Targets of a batch.

    Args:
        boxes_xyxy: (B, N, 4) float in input pixels; rows without area are padding.
        visible: (B, 1, H, W) in {0, 1}, visible pixels of people.
        ignore: (B, 1, H, W) in {0, 1}, areas of unlabelled people. A cell with an ignored pixel has no weight, unless
            it is the centre of a person.
        owner: (B, 1, H, W), row of the pixel's person plus 1, 0 for background.
        stride: input pixels per cell.
    """
    h, w = (side // stride for side in visible.shape[2:])
    boxes = boxes_xyxy / stride
    size = boxes[..., 2:] - boxes[..., :2]
    there = (size > 0).all(-1)
    cell = ((boxes[..., :2] + boxes[..., 2:]) / 2).floor()
    columns, rows = (torch.arange(n, device=boxes.device, dtype=boxes.dtype) for n in (w, h))
    # centres of boxes at the border stay inside the map
    cell = torch.minimum(cell, cell.new_tensor([w - 1, h - 1]))
    sigma = (size * _SIGMA_OF_SIDE).clamp(min=_SIGMA_MIN_CELLS)
    across = torch.exp(-((columns - cell[..., :1]) ** 2) / (2 * sigma[..., :1] ** 2))  # (B, N, w)
    down = torch.exp(-((rows - cell[..., 1:]) ** 2) / (2 * sigma[..., 1:] ** 2))
    each = down[..., :, None] * across[..., None, :] * there[..., None, None]  # (B, N, h, w)
    heat = each.amax(1, keepdim=True)
    # a cell with equal heat of two people goes to the smaller one
    area = size.prod(-1)[..., None, None]
    nearest = torch.where(each == heat, area, torch.inf).argmin(1, keepdim=True)  # (B, 1, h, w)
    x, y = (columns + 0.5)[None, None, :].expand(1, h, w), (rows + 0.5)[None, :, None].expand(1, h, w)

    def sides_to(whose: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 4, h, w) sides of each cell to the box of row `whose` (B, 1, h, w), and (B, 1, h, w) whether within."""
        edges = boxes[..., None, None].expand(*boxes.shape, h, w)
        edges = edges.gather(1, whose[:, :, None].expand(-1, -1, 4, -1, -1))[:, 0]
        sides = torch.stack([x - edges[:, 0], y - edges[:, 1], edges[:, 2] - x, edges[:, 3] - y], 1)
        return sides, (sides >= _INSIDE_CELLS).all(1, keepdim=True)

    sides, within = sides_to(nearest)
    sides_weight = heat * (within & (heat >= _NEAR))
    mine = owner[..., stride // 2 :: stride, stride // 2 :: stride].long()
    own_sides, within = sides_to((mine - 1).clamp(min=0))
    # every person has the same total weight
    cells = torch.zeros(len(boxes), boxes.shape[1] + 1, device=boxes.device).scatter_add_(
        1, mine.flatten(1), torch.ones_like(mine.flatten(1), dtype=boxes.dtype)
    )
    # near a centre, the sides of that centre's person take precedence over those of a person in front
    contradicts = (sides_weight > 0) & (nearest != mine - 1)
    own_weight = (within & (mine > 0) & ~contradicts) / cells.gather(1, mine.flatten(1)).view_as(mine)
    known = 1 - F.max_pool2d(ignore, stride)
    heat_weight = torch.maximum(known, (heat == 1).to(known))
    coverage = F.avg_pool2d(visible, stride)
    return CentreTargets(heat, heat_weight, sides, sides_weight, own_sides, own_weight, coverage, known)


def focal_loss(logits: Tensor, heat: Tensor, weight: Tensor) -> Tensor:
    """Penalty-reduced focal loss of a heatmap (Law and Deng 2018, arXiv 1808.01244), per centre. All (B, 1, h, w)."""
    p = torch.sigmoid(logits)
    at_centre = (heat == 1).to(p)
    hit = (1 - p) ** 2 * F.logsigmoid(logits) * at_centre
    miss = (1 - heat) ** 4 * p**2 * F.logsigmoid(-logits) * (1 - at_centre)
    return -((hit + miss) * weight).sum() / at_centre.sum().clamp(min=1)


def sides_overlap(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Overlap of pairs of boxes, each given by the distances of its edges from one point.

    Args:
        one: (N, 4, ...) distances to left, top, right, bottom.
        other: the same, with positive areas.

    Returns:
        (N, 1, ...) IoU, and the share of the hull of both boxes that neither covers. Generalised IoU (Rezatofighi et
        al. 2019, arXiv 1902.09630) is their difference.
    """

    def area(s: Tensor) -> Tensor:
        return (s[:, :1] + s[:, 2:3]) * (s[:, 1:2] + s[:, 3:])

    shared, hull = area(torch.minimum(one, other)), area(torch.maximum(one, other))
    union = area(one) + area(other) - shared
    return shared / union, (hull - union) / hull


def sides_giou_loss(sides: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """1 - generalised IoU of boxes around the same cell (`sides_overlap`), weighted mean.

    Args:
        sides: (B, 4, h, w), distances to left, top, right, bottom, positive.
        target: (B, 4, h, w), positive where the weight is.
        weight: (B, 1, h, w).
    """
    target = torch.where(weight > 0, target, torch.ones_like(target))
    iou, beyond = sides_overlap(sides, target)
    loss = 1 - iou + beyond
    return (loss * weight).sum() / weight.sum().clamp(min=1)


class CentreCriterion(nn.Module):
    """Loss terms of a detector that learns from boxes alone.

    centre: focal loss of the heatmap. sides: GIoU near the centres.

    Args:
        weights: weight of each term by name; 0 leaves it out.
    """

    TERMS: tuple[str, ...] = ("centre", "sides")

    def __init__(self, weights: dict[str, float]):
        super().__init__()
        self.weights = {name: w for name, w in weights.items() if w}

    def forward(self, output: Any, targets: CentreTargets) -> dict[str, Tensor]:
        """{term: weighted scalar}. output: MoveNetOutput or PeopleOutput."""
        makers = self._makers(output, targets)
        return {name: weight * makers[name]() for name, weight in self.weights.items()}

    def _makers(self, output: Any, targets: CentreTargets) -> dict[str, Callable[[], Tensor]]:
        """What computes each term, unweighted."""
        return {
            "centre": lambda: focal_loss(output.centre, targets.heat, targets.heat_weight),
            "sides": lambda: sides_giou_loss(output.sides, targets.sides, targets.sides_weight),
        }


class PeopleCriterion(CentreCriterion):
    """Loss terms of the former people detector: those of boxes, and two that need visible masks.

    own: GIoU of every visible cell of a person to that person's box. mask: cross-entropy of the coarse visible mask.
    """

    TERMS = (*CentreCriterion.TERMS, "own", "mask")

    def _makers(self, output: Any, targets: CentreTargets) -> dict[str, Callable[[], Tensor]]:
        return super()._makers(output, targets) | {
            "own": lambda: sides_giou_loss(output.sides, targets.own_sides, targets.own_weight),
            "mask": lambda: weighted_bce(output.mask, targets.coverage, targets.mask_weight),
        }
