"""PCNet-M and PCNet-C (Zhan et al. 2020, "Self-Supervised Scene De-Occlusion", arXiv 2004.02788).

Training needs no amodal truth. The visible mask of a person is occluded once more by an eraser, the visible mask of
another person at a random position, and the network learns to undo that: partial completion from visible masks.

PCNet-M has two cases. Eraser in front (with probability `p_front`): its pixels are removed from the mask, and the
target is the complete visible mask. Eraser behind: it loses the overlap, and the target is the mask itself, so that
the network learns when to add nothing.

PCNet-M takes the pixels of objects in front as input. A photo with one mask does not provide them: at inference every
pixel outside the mask may be in front (the paper's setting without an order). A fraction `p_blind` of the training
masks has that input instead of the eraser, so that training covers this case.

PCNet-C inpaints the erased part of the visible body from its rest, by partial convolutions and the losses of Liu et
al. 2018, with the network of models/baselines/partial_unet.py. The published network also reads the surroundings; here
it reads the body alone, as all networks of stage 2.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor, nn

from deocclude.models.baselines.unet import UNet
from deocclude.models.blocks import certain_logits
from deocclude.models.mask_completion import MaskOutput

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class PCNetMConfig:
    """widths: channels at full size, 1/2, 1/4, ...; probabilities in training, see the module's docstring."""

    widths: tuple[int, ...] = (16, 32, 64, 128, 224, 224)
    p_front: float = 0.8  # gamma of the paper
    p_blind: float = 0.5

    @classmethod
    def small(cls) -> PCNetMConfig:
        """About 0.8 M parameters."""
        return cls((8, 16, 32, 64, 88, 112))

    @classmethod
    def base(cls) -> PCNetMConfig:
        """About 4.0 M parameters, as many as MaskCompletionNet."""
        return cls()

    @classmethod
    def paper(cls) -> PCNetMConfig:
        """A U-Net of the usual widths: 31 M parameters."""
        return cls((64, 128, 256, 512, 1024))

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        return asdict(self)


class PCNetM(nn.Module):
    """A U-Net on the mask, the pixels that may be in front, and the photo without those pixels."""

    def __init__(self, config: PCNetMConfig | None = None):
        super().__init__()
        self.config = config = config or PCNetMConfig.base()
        self.unet = UNet(5, 1, config.widths)

    def forward(self, image: Tensor, initial: Tensor, front: Tensor | None = None) -> MaskOutput:
        """Complete a mask behind objects in front.

        Args:
            image: (B, 3, S, S) RGB in [0, 1].
            initial: (B, 1, S, S) in {0, 1}, the visible mask; returned unchanged.
            front: (B, 1, S, S) in {0, 1}, pixels that may occlude it; None: everything outside `initial`.

        Returns:
            Logits of both masks. Only pixels of `initial` and `front` can be positive.
        """
        front = 1 - initial if front is None else front
        rest = (image * 2 - 1) * (1 - front)
        logits = self.unet(torch.cat([rest, initial * 2 - 1, front * 2 - 1], 1))
        given = certain_logits(initial)
        return MaskOutput(given, torch.where(initial + front > 0, logits, given.to(logits)))


def mask_targets(config: PCNetMConfig, batch: Batch, rng: np.random.Generator) -> Batch:
    """Training targets of PCNet-M, from photo and visible mask alone.

    Returns:
        The batch with `initial` and `visible` erased in part, `front`, and the former visible mask as `amodal`.
    """
    seen = batch["visible"]
    eraser = draw_erasers(seen, rng)
    count = len(seen)
    in_front = _bernoulli(rng, count, config.p_front).to(seen)
    remaining = seen * (1 - eraser * in_front)
    front = eraser * (1 - seen * (1 - in_front))  # an eraser behind the person loses the overlap
    front = torch.where(_bernoulli(rng, count, config.p_blind).to(seen) > 0, 1 - remaining, front)
    return batch | {"initial": remaining, "front": front, "visible": remaining, "amodal": seen}


def content_targets(config: object, batch: Batch, rng: np.random.Generator) -> Batch:
    """Training targets of PCNet-C: the visible body is the whole body, and an eraser occludes a part of it."""
    seen = batch["visible"]
    return batch | {"visible": seen * (1 - draw_erasers(seen, rng)), "amodal": seen, "truth": batch["photo"]}


def draw_erasers(seen: Tensor, rng: np.random.Generator) -> Tensor:
    """For each mask an eraser: another mask of the batch, mirrored with probability 0.5, moved to overlap the mask.

    Args:
        seen: (B, 1, S, S) in {0, 1}, B at least 2.
        rng: of all draws.

    Returns:
        (B, 1, S, S) in {0, 1}; empty where a draw would erase the whole mask.
    """
    offset = int(rng.integers(1, len(seen))) if len(seen) > 1 else 0
    erasers = torch.zeros_like(seen)
    for number, mask in enumerate(seen[:, 0]):
        other = seen[(number + offset) % len(seen), 0]
        if rng.random() < 0.5:
            other = other.flip(-1)
        here, there = _random_pixel(mask, rng), _random_pixel(other, rng)
        if here is None or there is None:
            continue
        moved = shifted(other, here[0] - there[0], here[1] - there[1])
        if (mask * (1 - moved)).any():
            erasers[number, 0] = moved
    return erasers


def shifted(mask: Tensor, down_px: int, right_px: int) -> Tensor:
    """Shift a mask (H, W) by whole pixels; new pixels are zero."""
    out = torch.zeros_like(mask)
    h, w = mask.shape
    to = slice(max(0, down_px), h + min(0, down_px)), slice(max(0, right_px), w + min(0, right_px))
    source = slice(max(0, -down_px), h - max(0, down_px)), slice(max(0, -right_px), w - max(0, right_px))
    out[to] = mask[source]
    return out


def _random_pixel(mask: Tensor, rng: np.random.Generator) -> tuple[int, int] | None:
    """Row and column of a random pixel of a mask (H, W); None for an empty mask."""
    pixels = mask.nonzero()
    if not len(pixels):
        return None
    row, column = pixels[int(rng.integers(len(pixels)))].tolist()
    return row, column


def _bernoulli(rng: np.random.Generator, count: int, share: float) -> Tensor:
    """(count, 1, 1, 1) float in {0, 1}: each 1 with probability `share`."""
    return torch.from_numpy(rng.random(count) < share).float()[:, None, None, None]
