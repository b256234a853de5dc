"""Boxes as stage 1 has them where the network for boxes looks first at inference: as the masks that it makes of them.

Their mistakes are no damage that could be made up: a neighbour's arm that is taken for the person's, a bag left out, an
outline that follows the wrong edge. Stage 1 learns to repair what it will be given, as refinement from predicted masks
does (Cheng et al. 2020, CascadePSP, arXiv 2005.02551, there with damage that is made up).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from deocclude.checkpoints.files import rebuild
from deocclude.models.box_segmenter import BoxSegmenter, BoxSegmenterConfig
from deocclude.train.two_pass_prompts import some_boxes


def load_box_segmenter(path: Path) -> BoxSegmenter:
    """The network for boxes of a .safetensors file, frozen. Raises WeightsError."""
    network, _ = rebuild(path, {BoxSegmenter.network_name: (BoxSegmenter, BoxSegmenterConfig)})
    return network.eval().requires_grad_(False)


@torch.no_grad()
def predict_box_masks(
    network: nn.Module, batch: dict[str, Tensor], share: float, rng: np.random.Generator | None = None
) -> Tensor:
    """The initial masks of a batch, (B, 1, S, S) in {0, 1}: a share of the boxes is the visible mask that the network
    for boxes makes of them, cut at 0.5; a box in which it sees nobody stays a box, as at inference.

    batch: photo (B, 3, S, S), initial (B, 1, S, S) in {0, 1}. rng: picks the share; none is needed for all of them.
    """
    initial = batch["initial"]
    asked = some_boxes(initial, share, rng)
    if not asked.any():
        return initial
    seen = (network(batch["photo"][asked], initial[asked]).visible >= 0).to(initial)
    someone = seen.amax((1, 2, 3), keepdim=True) > 0
    masks = initial.clone()
    masks[asked] = torch.where(someone, seen, initial[asked])
    return masks
