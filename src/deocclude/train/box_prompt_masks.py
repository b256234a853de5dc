"""Initial masks that a box segmenter predicts from box prompts, as at inference.

Errors of predicted masks differ from synthetic corruption: a neighbour's arm is included, a bag is left out, a contour
follows the wrong edge. Stage 1 is trained to refine the masks that it gets at inference, similar to mask refinement by
CascadePSP (Cheng et al. 2020, arXiv 2005.02551), which uses synthetic corruption.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from deocclude.checkpoints.files import rebuild
from deocclude.models.box_segmenter import BoxSegmenter, BoxSegmenterConfig
from deocclude.train.two_pass_prompts import pick_boxes


def load_box_segmenter(path: Path) -> BoxSegmenter:
    """The box segmenter of a .safetensors file, frozen. Raises WeightsError for another file."""
    network, _ = rebuild(path, {BoxSegmenter.network_name: (BoxSegmenter, BoxSegmenterConfig)})
    return network.eval().requires_grad_(False)


@torch.no_grad()
def predict_box_masks(
    network: nn.Module, batch: dict[str, Tensor], share: float, rng: np.random.Generator | None = None
) -> Tensor:
    """Replace boxes among the initial masks by predicted visible masks, thresholded at 0.5.

    A box with an empty predicted mask stays a box, as at inference.

    Args:
        network: the box segmenter.
        batch: photo (B, 3, S, S) in [0, 1], initial (B, 1, S, S) in {0, 1}.
        share: probability of replacing a box, in [0, 1].
        rng: picks the boxes; not needed at probability 1.

    Returns:
        Initial masks, (B, 1, S, S) in {0, 1}.
    """
    initial = batch["initial"]
    picked = pick_boxes(initial, share, rng)
    if not picked.any():
        return initial
    seen = (network(batch["photo"][picked], initial[picked]).visible >= 0).to(initial)
    found = seen.amax((1, 2, 3), keepdim=True) > 0
    masks = initial.clone()
    masks[picked] = torch.where(found, seen, initial[picked])
    return masks
