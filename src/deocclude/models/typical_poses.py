"""Typical pose masks: a prior on the amodal mask, given the visible mask."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deocclude.io.typical_poses import FRAME_CELLS, FRAME_SIGMAS


class TypicalPoses(nn.Module):
    """Weights cluster centres by the similarity of their visible masks, and places their amodal masks on the person.

    The paper compares the mask of the whole crop with amodal centres stretched over the crop. Here both are in the
    *person frame*: a square around the centroid of the visible mask, FRAME_SIGMAS standard deviations wide, so that
    the prior moves and scales with the person. A centre is a pair of visible and amodal mask. Affinities are cosine
    similarities, which do not favour large centres.

    Attributes:
        centres: (K, 2, 32, 32) float in [0, 1], from `deocclude data poses`: visible, amodal.
    """

    centres: Tensor

    def __init__(self, count: int, channels: int):
        super().__init__()
        self.register_buffer("centres", torch.zeros(count, 2, FRAME_CELLS, FRAME_CELLS))
        self.log_sharpness = nn.Parameter(torch.tensor(2.5))  # log of the inverse softmax temperature, learned
        self.mix = nn.Conv2d(count, channels, 3, padding=1)

    def forward(self, visible: Tensor) -> Tensor:
        """visible: (B, 1, h, w) probability in [0, 1], not differentiated -> (B, channels, h, w) guidance."""
        visible = visible.detach().float()
        with torch.autocast(visible.device.type, enabled=False):
            centre, side = person_frame(visible)
            affinity = self.affinity(_into_frame(visible, centre, side))
            # (B, K, 1, 1) * (1, K, 32, 32): the amodal masks, weighted
            weighted = affinity[:, :, None, None] * self.centres[None, :, 1]
            # the weights sum to 1, so that each of the K weighted masks is faint
            guidance = self.mix(weighted * self.centres.shape[0] ** 0.5)
            return _out_of_frame(guidance, centre, side, visible.shape[-2:])

    def affinity(self, framed_visible: Tensor) -> Tensor:
        """(B, 1, 32, 32) visible mask in the person frame -> (B, K) weights that sum to 1."""
        seen = F.normalize(framed_visible.flatten(1), dim=1)
        centres = F.normalize(self.centres[:, 0].flatten(1), dim=1)
        return torch.softmax(self.log_sharpness.exp() * seen @ centres.T, dim=1)


@torch.no_grad()
def placed_poses(poses: TypicalPoses, visible: Tensor) -> Tensor:
    """The amodal masks of all centres, placed on people by their visible masks.

    Args:
        poses: K centres.
        visible: (B, 1, S, S) probability in [0, 1].

    Returns:
        (B, K, S, S) in [0, 1].
    """
    centre, side = person_frame(visible.float())
    amodal = poses.centres[None, :, 1].expand(len(visible), -1, -1, -1)
    return _out_of_frame(amodal, centre, side, visible.shape[-2:])


def person_frame(visible: Tensor) -> tuple[Tensor, Tensor]:
    """Centroid (B, 2) xy and side (B,) of the person frame, in pixels; (0, 0) and FRAME_SIGMAS for an empty mask."""
    h, w = visible.shape[-2:]
    y = torch.arange(h, device=visible.device, dtype=visible.dtype)
    x = torch.arange(w, device=visible.device, dtype=visible.dtype)
    mass = visible.sum((1, 2, 3)).clamp(min=1e-3)
    by_x, by_y = visible.sum((1, 2)), visible.sum((1, 3))  # (B, w), (B, h)
    cx, cy = (by_x * x).sum(1) / mass, (by_y * y).sum(1) / mass
    variance = (by_x * (x - cx[:, None]) ** 2).sum(1) / mass + (by_y * (y - cy[:, None]) ** 2).sum(1) / mass
    return torch.stack([cx, cy], 1), FRAME_SIGMAS * variance.sqrt().clamp(min=1.0)


def _into_frame(image: Tensor, centre: Tensor, side: Tensor) -> Tensor:
    """Sample (B, C, h, w) in the person frame -> (B, C, 32, 32); zero beyond the image."""
    h, w = image.shape[-2:]
    cells = (torch.arange(FRAME_CELLS, device=image.device, dtype=image.dtype) + 0.5) / FRAME_CELLS - 0.5
    x = (centre[:, :1] + cells * side[:, None] + 0.5) * (2.0 / w) - 1.0  # (B, 32)
    y = (centre[:, 1:] + cells * side[:, None] + 0.5) * (2.0 / h) - 1.0
    return _sample(image, x, y)


def _out_of_frame(framed: Tensor, centre: Tensor, side: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """The inverse of `_into_frame`: (B, C, 32, 32) -> (B, C, h, w); zero beyond the frame."""
    px = torch.arange(size_hw[1], device=framed.device, dtype=framed.dtype)
    py = torch.arange(size_hw[0], device=framed.device, dtype=framed.dtype)
    return _sample(framed, (px - centre[:, :1]) * (2.0 / side[:, None]), (py - centre[:, 1:]) * (2.0 / side[:, None]))


def _sample(image: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Bilinear samples at all pairs of x (B, n) and y (B, m), in [-1, 1] from edge to edge -> (B, C, m, n)."""
    size = (x.shape[0], y.shape[1], x.shape[1])
    grid = torch.stack([x[:, None, :].expand(size), y[:, :, None].expand(size)], dim=-1)
    return F.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
