"""Targets and losses of NanoDet: adaptive assignment of cells to people, and the generalised focal loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deocclude.models.nanodet import NanoDetOutput
from deocclude.people.box_decoding import STRIDES
from deocclude.train.people_targets import sides_overlap

_CANDIDATES = 9  # nearest cells of each stride that may be assigned to a person
_ANCHOR_CELLS = 5.0  # side of the square around a cell that is compared with a box, in strides
_INSIDE_PX = 0.01  # an assigned cell's middle is at least this far inside the box


def cell_middles(sizes_hw: Sequence[tuple[int, int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Middle (M, 2) of every cell of the maps in input pixels, x and y, finest map first, and its stride (M,)."""
    middles, strides = [], []
    for (h, w), stride in zip(sizes_hw, STRIDES, strict=True):
        rows, columns = torch.meshgrid(torch.arange(h, device=device), torch.arange(w, device=device), indexing="ij")
        middles.append((torch.stack([columns, rows], -1).reshape(-1, 2) + 0.5) * stride)
        strides.append(torch.full((h * w,), float(stride), device=device))
    return torch.cat(middles), torch.cat(strides)


def assign(boxes_xyxy: Tensor, middles: Tensor, strides: Tensor) -> Tensor:
    """The person of each cell: adaptive training sample selection (Zhang et al. 2020, arXiv 1912.02424).

    For each person the nearest cells of every stride are candidates. Those are chosen whose middle lies in the box, and
    whose square reaches an IoU of the mean plus the standard deviation over the candidates. A cell chosen by several
    people goes to the one with the highest IoU.

    Args:
        boxes_xyxy: (N, 4) in input pixels.
        middles: (M, 2) as `cell_middles` gives them.
        strides: (M,).

    Returns:
        (M,) int64, a row of `boxes_xyxy`, or -1.
    """
    nobody = torch.full((len(middles),), -1, dtype=torch.long, device=middles.device)
    if not len(boxes_xyxy):
        return nobody
    distance = torch.cdist((boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2, middles)
    near = torch.zeros_like(distance, dtype=torch.bool)
    for stride in STRIDES:
        of_map = torch.where(strides == stride, distance, torch.inf)
        nearest = of_map.topk(min(_CANDIDATES, int((strides == stride).sum())), largest=False).indices
        near.scatter_(1, nearest, True)
    half = strides[:, None] * _ANCHOR_CELLS / 2
    iou = _pairwise_iou(boxes_xyxy, torch.cat([middles - half, middles + half], 1))  # (N, M)
    count = near.sum(1, keepdim=True)
    mean = (iou * near).sum(1, keepdim=True) / count
    variance = ((iou - mean) ** 2 * near).sum(1, keepdim=True) / (count - 1).clamp(min=1)
    sides = torch.cat([middles - boxes_xyxy[:, None, :2], boxes_xyxy[:, None, 2:] - middles], -1)  # (N, M, 4)
    chosen = near & (iou >= mean + variance.sqrt()) & (sides.amin(-1) > _INSIDE_PX)
    best, row = torch.where(chosen, iou, -1.0).max(0)
    return torch.where(best >= 0, row, nobody)


def _pairwise_iou(one: Tensor, other: Tensor) -> Tensor:
    """IoU (N, M) of boxes (N, 4) and (M, 4)."""
    overlap = torch.minimum(one[:, None, 2:], other[None, :, 2:]) - torch.maximum(one[:, None, :2], other[None, :, :2])
    shared = overlap.clamp(min=0).prod(-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(-1) for boxes in (one, other)]
    return shared / (areas[0][:, None] + areas[1][None] - shared)


class NanoDetCriterion(nn.Module):
    """Loss terms of NanoDet, after generalised focal loss (Li et al. 2020, arXiv 2006.04388).

    score: quality focal loss of every cell; the target is the IoU of the predicted box, 0 for background. box:
    1 - generalised IoU of assigned cells. distribution: cross-entropy of the two bins beside the true distance. The
    last two are weighted by the predicted score.

    Args:
        weights: weight of each term by name; 0 leaves it out.
    """

    TERMS = ("score", "box", "distribution")

    def __init__(self, weights: dict[str, float]):
        super().__init__()
        self.weights = {name: w for name, w in weights.items() if w}

    def forward(self, output: NanoDetOutput, boxes_xyxy: Tensor, ignore: Tensor) -> dict[str, Tensor]:
        """The weighted terms, scalars.

        Args:
            output: of the network, float32.
            boxes_xyxy: (B, N, 4) float in input pixels; rows without area are padding.
            ignore: (B, 1, H, W) in {0, 1}, areas of unlabelled people. A cell whose middle lies there has no weight,
                unless it is assigned to a person.
        """
        logits = torch.cat([of_stride.flatten(1) for of_stride in output.logits], 1)  # (B, M)
        distances = torch.cat([_by_cell(of_stride) for of_stride in output.distances], 1)  # (B, M, 4, bins)
        middles, strides = cell_middles([tuple(of_stride.shape[2:]) for of_stride in output.logits], logits.device)
        people = [boxes[(boxes[:, 2:] > boxes[:, :2]).all(-1)] for boxes in boxes_xyxy]  # without padding
        person = torch.stack([assign(boxes, middles, strides) for boxes in people])  # (B, M), -1: nobody
        x_px, y_px = middles.long().T
        known = 1 - ignore[:, 0, y_px, x_px]  # (B, M)
        image, cell = (person >= 0).nonzero(as_tuple=True)  # (P,) each, of the P assigned cells
        # (P, 4) boxes in the order of `nonzero`: image by image
        targets = torch.cat([boxes[of_image[of_image >= 0]] for boxes, of_image in zip(people, person, strict=True)])
        x, y = middles[cell].T
        scale = strides[cell, None]
        true = torch.stack([x - targets[:, 0], y - targets[:, 1], targets[:, 2] - x, targets[:, 3] - y], 1) / scale
        bins = distances[image, cell]  # (P, 4, bins)
        values = torch.arange(bins.shape[-1], device=bins.device, dtype=bins.dtype)
        predicted = (bins.softmax(-1) * values).sum(-1)  # (P, 4) in strides, as `true`
        iou, beyond = (overlap[:, 0] for overlap in sides_overlap(predicted, true))
        quality = torch.zeros_like(logits)
        quality[image, cell] = iou.detach()
        weight = known.clone()
        weight[image, cell] = 1.0
        confidence = torch.sigmoid(logits[image, cell]).detach()
        total = confidence.sum().clamp(min=1)
        makers = {
            "score": lambda: (_quality_focal(logits, quality) * weight).sum() / max(1, len(cell)),
            "box": lambda: ((1 - iou + beyond) * confidence).sum() / total,
            "distribution": lambda: (_distribution_focal(bins, true).mean(1) * confidence).sum() / total,
        }
        return {name: w * makers[name]() for name, w in self.weights.items()}


def _by_cell(distances: Tensor) -> Tensor:
    """(B, 4 * bins, h, w) as (B, h * w, 4, bins)."""
    b, channels, h, w = distances.shape
    return distances.view(b, 4, channels // 4, h * w).permute(0, 3, 1, 2)


def _quality_focal(logits: Tensor, quality: Tensor) -> Tensor:
    """Quality focal loss of each cell, (B, M), with the exponent 2. quality: its target in [0, 1]."""
    cross_entropy = F.binary_cross_entropy_with_logits(logits, quality, reduction="none")
    return cross_entropy * (quality - torch.sigmoid(logits)) ** 2


def _distribution_focal(bins: Tensor, true: Tensor) -> Tensor:
    """Distribution focal loss (P, 4): bins (P, 4, bins) logits, true (P, 4) distances in strides."""
    true = true.clamp(0, bins.shape[-1] - 1.01)
    left = true.floor()
    log_share = F.log_softmax(bins, -1)
    at_left, at_right = (log_share.gather(-1, index[..., None].long())[..., 0] for index in (left, left + 1))
    return -(at_left * (left + 1 - true) + at_right * (true - left))
