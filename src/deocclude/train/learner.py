"""What trains one network: its optimiser, the average of its weights, and the learning rate of each step."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from deocclude.train.config import Schedule
from deocclude.train.parallel import average_gradients


class OptimizedNetwork:
    """A network in training. Its gradients come from outside; `step` uses them up."""

    def __init__(
        self, network: nn.Module, schedule: Schedule, *, share: float = 1.0,
        shares: Mapping[str, float] | None = None, betas: tuple[float, float] = (0.9, 0.999), average: bool = True,
    ):  # fmt: skip
        """share: of the schedule's learning rate; shares: of that in turn, for children of the network by name.
        average: whether its weights are averaged, and its gradient clipped.

        A discriminator has neither: only what it says now counts, and its spectral norms keep it tame.
        """
        self.network, self.share = network, share
        self.optimizer = _adamw(network, schedule, shares or {}, betas)
        self.ema = Ema(network, schedule.ema_decay) if average else None
        self.clip_norm = schedule.clip_norm if average else None

    def step(self, accelerator: Accelerator, rate: float) -> None:
        """One optimiser step at `rate` times the learner's share, with the mean gradient of all processes."""
        average_gradients(accelerator, self.network)
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * self.share * group.get("share", 1.0)  # runs of before have no such group
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def state(self, names: tuple[str, str, str | None]) -> dict[str, Any]:
        """All that it needs to go on; `names` of its network, its optimiser and its average."""
        parts = (self.network, self.optimizer, self.ema)
        return {name: part.state_dict() for name, part in zip(names, parts, strict=True) if part is not None}

    def load_state(self, names: tuple[str, str, str | None], state: dict[str, Any]) -> None:
        """Go on from what `state` gave. Raises ValueError or RuntimeError where that does not fit."""
        parts = (self.network, self.optimizer, self.ema)
        for name, part in zip(names, parts, strict=True):
            if part is not None:
                if state.get(name) is None:
                    raise ValueError(f"it holds no {name}")
                part.load_state_dict(state[name])


class Ema:
    """Exponential moving average of a network, buffers included; young averages forget faster."""

    def __init__(self, network: nn.Module, decay: float):
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay

    def update(self, network: nn.Module, step: int) -> None:
        """Take in the weights after `step`."""
        decay = min(self.decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for mine, theirs in zip(self.network.state_dict().values(), network.state_dict().values(), strict=True):
                if mine.dtype.is_floating_point:
                    mine.lerp_(theirs, 1 - decay)
                else:
                    mine.copy_(theirs)

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged weights."""
        return self.network.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue from averaged weights."""
        self.network.load_state_dict(state)


def learning_rate(schedule: Schedule, step: int) -> float:
    """Linear warm-up, then half a cosine from learning_rate to min_lr_ratio of it."""
    if step < schedule.warmup_steps:
        return schedule.learning_rate * (step + 1) / schedule.warmup_steps
    share = (step - schedule.warmup_steps) / max(1, schedule.steps - schedule.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
    return schedule.learning_rate * (schedule.min_lr_ratio + (1 - schedule.min_lr_ratio) * cosine)


def _adamw(
    network: nn.Module, schedule: Schedule, shares: Mapping[str, float], betas: tuple[float, float]
) -> torch.optim.Optimizer:
    """AdamW; norms and biases are not decayed. A group keeps its share of the learning rate."""
    named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = []
    for share in sorted({1.0, *shares.values()}, reverse=True):
        params = [p for name, p in named if shares.get(name.split(".")[0], 1.0) == share]
        groups += [
            {"params": [p for p in params if p.ndim > 1], "weight_decay": schedule.weight_decay, "share": share},
            {"params": [p for p in params if p.ndim <= 1], "weight_decay": 0.0, "share": share},
        ]
    return torch.optim.AdamW(groups, lr=schedule.learning_rate, betas=betas)
