"""Optimiser and EMA weights of one network, and the learning rate of each step."""

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

_LEAST_SIZE = 1e-3  # of weights, so that a step can leave 0


class OptimizedNetwork:
    """A network with its optimiser and EMA weights. The caller computes gradients; `step` applies and clears them."""

    def __init__(
        self, network: nn.Module, schedule: Schedule, *, lr_scale: float = 1.0,
        lr_scales: Mapping[str, float] | None = None, betas: tuple[float, float] = (0.9, 0.999), average: bool = True,
    ):  # fmt: skip
        """Create the optimiser.

        Args:
            network: the network to train.
            schedule: learning rate, weight decay, gradient norm limit and EMA decay.
            lr_scale: multiplier of the schedule's learning rate.
            lr_scales: further multipliers of children of the network, by name.
            betas: of AdamW.
            average: whether to keep EMA weights and clip the gradient norm. A discriminator needs neither: only its
                current weights count, and spectral normalisation bounds its gradient.
        """
        self.network, self.lr_scale = network, lr_scale
        self.optimizer = _adamw(network, schedule, lr_scales or {}, betas)
        self.ema = Ema(network, schedule.ema_decay) if average else None
        self.clip_norm = schedule.clip_norm if average else None
        self._relative = schedule.relative_steps

    def step(self, accelerator: Accelerator, rate: float) -> None:
        """One optimiser step at learning rate `rate` times `lr_scale`, with the mean gradient of all processes."""
        average_gradients(accelerator, self.network)
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * self.lr_scale * group.get("share", 1.0)  # groups of early runs have no multiplier
        if self._relative:
            self._relative_step()
        else:
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    @torch.no_grad()
    def _relative_step(self) -> None:
        """AdamW's step times the root mean square of each output channel's weights, or of all biases of a layer.

        Adam changes every weight alike. Where batch norms are folded into convolutions, channels differ in size by
        orders of magnitude, and such steps destroy the small ones. After Adafactor (Shazeer and Stern 2018, arXiv
        1804.04235).
        """
        params = [p for group in self.optimizer.param_groups for p in group["params"]]
        before = [p.clone() for p in params]
        self.optimizer.step()
        for param, old in zip(params, before, strict=True):
            rows = old.flatten(1) if old.ndim > 1 else old.reshape(1, -1)  # a scalar has no dimension
            size = rows.square().mean(1).sqrt().clamp(min=_LEAST_SIZE)
            param.copy_(torch.lerp(old, param, size.view(-1, *[1] * (old.ndim - 1))).view_as(param))

    def state(self, names: tuple[str, str, str | None]) -> dict[str, Any]:
        """State for resuming; `names`: keys of network, optimiser and EMA weights."""
        parts = (self.network, self.optimizer, self.ema)
        return {name: part.state_dict() for name, part in zip(names, parts, strict=True) if part is not None}

    def load_state(self, names: tuple[str, str, str | None], state: dict[str, Any]) -> None:
        """Restore what `state` returned. Raises ValueError or RuntimeError if it does not fit."""
        parts = (self.network, self.optimizer, self.ema)
        for name, part in zip(names, parts, strict=True):
            if part is not None:
                if state.get(name) is None:
                    raise ValueError(f"the state has no {name}")
                part.load_state_dict(state[name])


class Ema:
    """Exponential moving average (EMA) of a network's weights and buffers.

    The decay at step n is min(decay, (1 + n) / (10 + n)), so that early averages forget the initial weights faster.
    """

    def __init__(self, network: nn.Module, decay: float):
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay

    def update(self, network: nn.Module, step: int) -> None:
        """Update with the weights after step number `step`."""
        decay = min(self.decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for average, current in zip(self.network.state_dict().values(), network.state_dict().values(), strict=True):
                if average.dtype.is_floating_point:
                    average.lerp_(current, 1 - decay)
                else:
                    average.copy_(current)

    def state_dict(self) -> dict[str, Tensor]:
        """The EMA weights."""
        return self.network.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue from EMA weights."""
        self.network.load_state_dict(state)


def learning_rate(schedule: Schedule, step: int) -> float:
    """Linear warm-up, then half a cosine from learning_rate down to min_lr_ratio times learning_rate."""
    if step < schedule.warmup_steps:
        return schedule.learning_rate * (step + 1) / schedule.warmup_steps
    progress = (step - schedule.warmup_steps) / max(1, schedule.steps - schedule.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return schedule.learning_rate * (schedule.min_lr_ratio + (1 - schedule.min_lr_ratio) * cosine)


def _adamw(
    network: nn.Module, schedule: Schedule, lr_scales: Mapping[str, float], betas: tuple[float, float]
) -> torch.optim.Optimizer:
    """AdamW without weight decay on norms and biases; a group's `share` in last.pt is its learning-rate multiplier."""
    named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = []
    for lr_scale in sorted({1.0, *lr_scales.values()}, reverse=True):
        params = [p for name, p in named if lr_scales.get(name.split(".")[0], 1.0) == lr_scale]
        groups += [
            {"params": [p for p in params if p.ndim > 1], "weight_decay": schedule.weight_decay, "share": lr_scale},
            {"params": [p for p in params if p.ndim <= 1], "weight_decay": 0.0, "share": lr_scale},
        ]
    return torch.optim.AdamW(groups, lr=schedule.learning_rate, betas=betas)
