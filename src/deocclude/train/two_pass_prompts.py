"""Box prompts of the refinement pass: a box averaged with the network's own first prediction.

A first prediction shows which person the box means and where the person may be, as in iterative mask refinement (RITM,
Sofiiuk et al. 2021, arXiv 2102.06583). The network gets both in its initial mask channel as their mean: 0.5 to 1 inside
the box, up to 0.5 outside.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

_COARSER = 2  # the first prediction at inference is on a wider crop, at about half the scale


@torch.no_grad()
def refinement_prompts(
    network: nn.Module, batch: dict[str, Tensor], share: float, rng: np.random.Generator | None = None
) -> Tensor:
    """Replace boxes among the initial masks by the mean of the box and the predicted visible mask.

    The first prediction runs in evaluation mode and without gradients; the network's mode is restored after it.

    Args:
        network: stage 1.
        batch: photo (B, 3, S, S) in [0, 1], initial (B, 1, S, S) in {0, 1}.
        share: probability of replacing a box, in [0, 1].
        rng: picks the boxes; not needed at probability 1.

    Returns:
        Initial masks, (B, 1, S, S) in [0, 1].
    """
    initial = batch["initial"]
    picked = pick_boxes(initial, share, rng)
    if not picked.any():
        return initial
    mode = network.training
    network.eval()
    output = network(batch["photo"][picked], initial[picked])
    network.train(mode)
    seen = F.avg_pool2d(torch.sigmoid(output.visible.float()), _COARSER)
    seen = F.interpolate(seen, scale_factor=float(_COARSER), mode="bilinear")
    prompts = initial.clone()
    prompts[picked] = (initial[picked] + seen) / 2
    return prompts


def pick_boxes(masks: Tensor, share: float, rng: np.random.Generator | None) -> Tensor:
    """Pick filled boxes among masks (B, 1, S, S), each with probability `share`: (B,) bool. At 1 `rng` is not used."""
    boxes = are_boxes(masks)
    if share < 1:
        boxes &= torch.from_numpy(rng.random(len(masks)) < share).to(boxes.device)
    return boxes


def are_boxes(masks: Tensor) -> Tensor:
    """(B,) bool: which of the masks (B, 1, S, S) in {0, 1} are filled boxes."""
    rows, columns = (masks.amax(side).flatten(1) for side in (3, 2))

    def length(marked: Tensor) -> Tensor:
        """(B,) places from the first marked one to the last, of rows or columns (B, S)."""
        places = torch.arange(marked.shape[1], device=marked.device).expand_as(marked)
        is_marked = marked > 0
        last = places.masked_fill(~is_marked, -1).amax(1)
        first = places.masked_fill(~is_marked, marked.shape[1]).amin(1)
        return (last - first + 1).clamp(min=0)

    area = length(rows) * length(columns)
    return (area > 0) & (masks.sum((1, 2, 3)) == area)
