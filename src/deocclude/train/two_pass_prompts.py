"""Boxes as stage 1 has them at inference when it looks again: with what it saw in them the first time.

A box says little. What a first look sees there, though seldom quite right, says whom the box is of and where they may
be, as iterative refinement of masks from earlier ones has it (Sofiiuk et al. 2021, arXiv 2102.06583). The network is
told both in the one channel that it has for the initial mask: their mean, 0.5 to 1 within the box and up to 0.5 beyond.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

_COARSER = 2  # a first look is from further away, at about half the scale


@torch.no_grad()
def look_again(
    network: nn.Module, batch: dict[str, Tensor], share: float, rng: np.random.Generator | None = None
) -> Tensor:
    """The initial masks of a batch, (B, 1, S, S) in [0, 1]: a share of the boxes is the mean of the box and of the
    visible mask that the network predicts from it.

    batch: photo (B, 3, S, S), initial (B, 1, S, S) in {0, 1}. rng: picks the share; none is needed for all of them.
    The first look is as at inference and trains nothing, whether or not the network is in training.
    """
    initial = batch["initial"]
    again = some_boxes(initial, share, rng)
    if not again.any():
        return initial
    learns = network.training
    network.eval()
    output = network(batch["photo"][again], initial[again])
    network.train(learns)
    seen = F.avg_pool2d(torch.sigmoid(output.visible.float()), _COARSER)
    seen = F.interpolate(seen, scale_factor=float(_COARSER), mode="bilinear")
    prompts = initial.clone()
    prompts[again] = (initial[again] + seen) / 2
    return prompts


def some_boxes(masks: Tensor, share: float, rng: np.random.Generator | None) -> Tensor:
    """(B,) bool: a share of the filled boxes among the masks (B, 1, S, S), which `rng` picks; of 1 all of them."""
    boxes = are_boxes(masks)
    if share < 1:
        boxes &= torch.from_numpy(rng.random(len(masks)) < share).to(boxes.device)
    return boxes


def are_boxes(masks: Tensor) -> Tensor:
    """(B,) bool: which of the masks (B, 1, S, S) in {0, 1} are filled boxes."""
    rows, columns = (masks.amax(side).flatten(1) for side in (3, 2))

    def length(marked: Tensor) -> Tensor:
        places = torch.arange(marked.shape[1], device=marked.device).expand_as(marked)
        there = marked > 0
        last, first = places.masked_fill(~there, -1).amax(1), places.masked_fill(~there, marked.shape[1]).amin(1)
        return (last - first + 1).clamp(min=0)

    area = length(rows) * length(columns)
    return (area > 0) & (masks.sum((1, 2, 3)) == area)
