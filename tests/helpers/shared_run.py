"""A run that several processes share, for test_parallel: `python shared_run.py FOLDER` under a launcher, or `train`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from deocclude.data.samples.person_samples import to_batch
from deocclude.train.config import Phase, Schedule, StageSection, TrainConfig
from deocclude.train.engine import Stage, fit

SECTION = StageSection(
    schedule=Schedule(steps=4, phases=(Phase(until=1.0, size_px=32, batch_size=8),), warmup_steps=0, learning_rate=0.01)
)
CONFIG = TrainConfig(device="cpu", precision="float32", workers=0, threads=1, log_every=1, mask=SECTION)


class Photos:
    """The same 8 photos of a step, whoever draws them: a part is a share of them."""

    def batch(self, index: int, batch_size: int, size_px: int, *, part: int = 0) -> dict[str, Tensor]:
        photos = np.random.default_rng(index).integers(0, 256, (8, size_px, size_px, 3)).astype(np.uint8)
        mine = photos[part * batch_size : (part + 1) * batch_size]
        return to_batch([{"photo": p, "visible": p[..., 0] > 99} for p in mine])


class ConvolutionStage(Stage):
    """A convolution and its discriminator, without what looks at a whole batch."""

    name = "mask"

    def __init__(self, seed: int, interrupt_at: int | None = None) -> None:
        torch.manual_seed(seed)
        self.network, self.discriminator = nn.Conv2d(3, 1, 3, padding=1), nn.Conv2d(1, 1, 3)
        self.stream, self.count, self.interrupt_at = Photos(), 0, interrupt_at

    def weighted_terms(self, batch: dict[str, Tensor], rng: np.random.Generator) -> tuple[dict[str, Tensor], Tensor]:
        if self.count == self.interrupt_at:
            os.kill(os.getpid(), signal.SIGINT)
        self.count += 1
        output = self.network(batch["photo"])
        adversarial = nn.functional.softplus(-self.discriminator(output)).mean()
        terms = {"l2": (output - batch["visible"]).square().mean(), "adversarial": adversarial}
        return terms, output.detach()

    def discriminator_loss(self, batch: dict[str, Tensor], output: Tensor) -> Tensor:
        fake, real = self.discriminator(output), self.discriminator(batch["visible"])
        return nn.functional.softplus(fake).mean() + nn.functional.softplus(-real).mean()

    def validate(self, network: nn.Module, stage1: nn.Module | None = None) -> dict[str, float]:
        return {"score": 1.0}

    def metadata(self) -> dict[str, object]:
        return {"network": "tiny"}


def train(folder: Path, *, seed: int, interrupt_at: int | None = None) -> str:
    """How the run ended, after how many steps of this process, and the weights that it has then."""
    stage = ConvolutionStage(seed, interrupt_at)
    try:
        fit(stage, CONFIG, SECTION, folder, quiet=True)
        ended = "done"
    except KeyboardInterrupt:
        ended = "interrupted"
    weights = [p.tolist() for net in (stage.network, stage.discriminator) for p in net.parameters()]
    return f"{ended} {stage.count} {weights}"


if __name__ == "__main__":
    rank = int(os.environ["RANK"])
    # each process draws other weights, the first one's count; the second alone is interrupted; then both go on
    print(train(Path(sys.argv[1]), seed=rank, interrupt_at=1 if rank == 1 else None))
    print(train(Path(sys.argv[1]), seed=rank + 5))
