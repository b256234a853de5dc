"""PCNet-M and PCNet-C (Zhan et al. 2020, "Self-Supervised Scene De-Occlusion", arXiv 2004.02788).

Nobody tells them what is hidden. What is *seen* of a person is hidden once more by an eraser, the seen part of somebody
else laid at random over it, and the network learns to undo that: partial completion, from visible masks alone.

PCNet-M, two cases. In front (a share of `p_front`): the eraser takes its pixels away from the mask, and the whole of
the former visible mask is asked for. Behind: the eraser loses where the two overlap, and the mask is asked for as it
is, so that the network learns when not to add.

PCNet-M is told which pixels belong to things in front. A photo and one mask do not say: at inference every pixel
outside the mask may be in front (the paper's setting without an order). So that this is nothing new to the network, a
share of `p_blind` of training masks come with that same answer instead of their eraser.

PCNet-C paints the erased part of what is seen, from the rest of it, by partial convolutions and the losses of Liu et
al. 2018: the network is that of models/baselines/partial_unet.py. It differs from the published one in what it sees,
which is the body alone, as for all networks of stage 2 here, not what is around it.
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
    """widths: channels at full size, 1/2, 1/4, ...; shares of training masks as the module's docstring has them."""

    widths: tuple[int, ...] = (16, 32, 64, 128, 224, 224)
    p_front: float = 0.8  # the paper's gamma
    p_blind: float = 0.5

    @classmethod
    def small(cls) -> PCNetMConfig:
        """About 0.8 M parameters."""
        return cls((8, 16, 32, 64, 88, 112))

    @classmethod
    def base(cls) -> PCNetMConfig:
        """About 4.0 M parameters, as many as ours."""
        return cls()

    @classmethod
    def paper(cls) -> PCNetMConfig:
        """A U-Net of the usual widths: 31 M parameters."""
        return cls((64, 128, 256, 512, 1024))

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        return asdict(self)


class PCNetM(nn.Module):
    """A U-Net on the mask, what may be in front of it, and the photo without that."""

    def __init__(self, config: PCNetMConfig | None = None):
        super().__init__()
        self.config = config = config or PCNetMConfig.base()
        self.unet = UNet(5, 1, config.widths)

    def forward(self, image: Tensor, initial: Tensor, front: Tensor | None = None) -> MaskOutput:
        """Complete a mask behind what is in front.

        image: (B, 3, S, S) RGB in [0, 1]; initial: (B, 1, S, S) in {0, 1}, what is seen; front: (B, 1, S, S) in {0, 1},
        what may hide it, everything outside `initial` if not told. What is seen is taken as given, and only pixels of
        `initial` and `front` can become body.
        """
        front = 1 - initial if front is None else front
        left = (image * 2 - 1) * (1 - front)
        logits = self.unet(torch.cat([left, initial * 2 - 1, front * 2 - 1], 1))
        given = certain_logits(initial)
        return MaskOutput(given, torch.where(initial + front > 0, logits, given.to(logits)))


def mask_targets(config: PCNetMConfig, batch: Batch, rng: np.random.Generator) -> Batch:
    """What PCNet-M learns from: the batch with `initial` erased, `front` in front of it, and `amodal` to be restored.

    Reads photo and visible alone; `visible` becomes what is left of it, so that "hidden" means erased.
    """
    seen = batch["visible"]
    eraser = draw_erasers(seen, rng)
    count = len(seen)
    in_front = _draw(rng, count, config.p_front).to(seen)
    left = seen * (1 - eraser * in_front)
    front = eraser * (1 - seen * (1 - in_front))  # behind: the eraser loses what overlaps
    front = torch.where(_draw(rng, count, config.p_blind).to(seen) > 0, 1 - left, front)
    return batch | {"initial": left, "front": front, "visible": left, "amodal": seen}


def content_targets(config: object, batch: Batch, rng: np.random.Generator) -> Batch:
    """What PCNet-C learns from: the body is what is seen, of which an eraser hides a part that is to be painted."""
    seen = batch["visible"]
    return batch | {"visible": seen * (1 - draw_erasers(seen, rng)), "amodal": seen, "truth": batch["photo"]}


def draw_erasers(seen: Tensor, rng: np.random.Generator) -> Tensor:
    """For each mask another one of the batch, mirrored half of the time and moved so that it covers a pixel of it.

    seen: (B, 1, S, S) in {0, 1}, B at least 2 -> the same shape. Where a draw would erase everything, nothing is
    erased.
    """
    turn = int(rng.integers(1, len(seen))) if len(seen) > 1 else 0
    erasers = torch.zeros_like(seen)
    for number, mask in enumerate(seen[:, 0]):
        other = seen[(number + turn) % len(seen), 0]
        if rng.random() < 0.5:
            other = other.flip(-1)
        here, there = _any_pixel(mask, rng), _any_pixel(other, rng)
        if here is None or there is None:
            continue
        moved = shifted(other, here[0] - there[0], here[1] - there[1])
        if (mask * (1 - moved)).any():
            erasers[number, 0] = moved
    return erasers


def shifted(mask: Tensor, down_px: int, right_px: int) -> Tensor:
    """(H, W) moved by whole pixels; zero where nothing comes from."""
    out = torch.zeros_like(mask)
    h, w = mask.shape
    to = slice(max(0, down_px), h + min(0, down_px)), slice(max(0, right_px), w + min(0, right_px))
    source = slice(max(0, -down_px), h - max(0, down_px)), slice(max(0, -right_px), w - max(0, right_px))
    out[to] = mask[source]
    return out


def _any_pixel(mask: Tensor, rng: np.random.Generator) -> tuple[int, int] | None:
    pixels = mask.nonzero()
    if not len(pixels):
        return None
    row, column = pixels[int(rng.integers(len(pixels)))].tolist()
    return row, column


def _draw(rng: np.random.Generator, count: int, share: float) -> Tensor:
    """(count, 1, 1, 1) float in {0, 1}: each 1 with probability `share`."""
    return torch.from_numpy(rng.random(count) < share).float()[:, None, None, None]
