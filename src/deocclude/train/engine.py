"""The training loop that both stages share: schedule, EMA, log, validation, checkpoints, resume."""

from __future__ import annotations

import copy
import json
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from deocclude.data.dataset import SampleStream
from deocclude.errors import DeviceError, TrainingError, WeightsError
from deocclude.train.config import Schedule, StageSection, TrainConfig
from deocclude.train.parallel import Team
from deocclude.weights_io import load_state, save_state, save_weights

STATE_FILE = "last.pt"  # everything that a run needs to go on
WEIGHTS_FILE = "best.safetensors"  # averaged weights of the best validation
LAST_FILE = "last.safetensors"  # averaged weights of the last one


class Stage(Protocol):
    """What one stage brings to the loop."""

    name: str
    network: nn.Module
    discriminator: nn.Module | None
    stream: SampleStream

    def generator_terms(self, batch: dict[str, Tensor], rng: np.random.Generator) -> tuple[dict[str, Tensor], Any]:
        """Weighted loss terms of the network, and what `discriminator_loss` needs of the output.

        rng: for what the stage draws itself; a step always gets the same one.
        """
        ...

    def discriminator_loss(self, batch: dict[str, Tensor], output: Any) -> Tensor:
        """Loss of the discriminator on a detached output."""
        ...

    def validate(self, network: nn.Module) -> dict[str, float]:
        """Measures on held-out people; `score`, higher is better, picks the best checkpoint."""
        ...

    def metadata(self) -> dict[str, Any]:
        """What is stored beside the weights."""
        ...


@dataclass(frozen=True)
class Outcome:
    """How a run ended. best_weights: .safetensors of the best EMA weights."""

    steps: int
    best_score: float
    best_weights: Path


class StepBatches(Dataset):
    """Batch number `step` of the schedule; the same step always gives the same batch, which makes resuming exact."""

    def __init__(self, stream: SampleStream, schedule: Schedule, team: Team = Team()):
        self.stream, self.schedule, self.team = stream, schedule, team

    def __len__(self) -> int:
        return self.schedule.steps

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        phase = next(p for p in self.schedule.phases if step < p.until * self.schedule.steps)
        share = max(1, phase.batch_size // self.team.size)
        return self.stream.batch(step, share, phase.size_px, part=self.team.rank)


def fit(
    stage: Stage, config: TrainConfig, section: StageSection, out: Path, *, resume: bool = True, quiet: bool = False
) -> Outcome:
    """Train a stage. Writes to `out`: log.jsonl, last.pt, best.safetensors and last.safetensors.

    Resumes from last.pt where there is one.
    """
    out.mkdir(parents=True, exist_ok=True)
    device = choose_device(config.device)
    if config.threads:
        torch.set_num_threads(config.threads)
    team = Team.join(device)
    schedule, bf16 = section.schedule, use_bfloat16(config, device)
    network = stage.network.to(device, memory_format=torch.channels_last)
    ema = Ema(network, schedule.ema_decay)
    optimizer = _optimizer(network, schedule, 1.0, (0.9, 0.999))
    adversary = None
    if stage.discriminator is not None:
        stage.discriminator.to(device, memory_format=torch.channels_last)
        adversary = _optimizer(stage.discriminator, schedule, schedule.discriminator_share, (0.5, 0.99))
    start, best = 0, -math.inf
    last = out / STATE_FILE
    if resume and last.is_file():
        state = load_state(last)
        try:
            network.load_state_dict(state["network"])
            ema.load_state_dict(state["ema"])
            optimizer.load_state_dict(state["optimizer"])
            if adversary is not None and state["discriminator"] is not None:
                stage.discriminator.load_state_dict(state["discriminator"])
                adversary.load_state_dict(state["adversary"])
            start, best = state["step"], state["best"]
        except (KeyError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[-1].strip()
            raise WeightsError(f"{last}: does not fit this config, so it cannot be resumed: {reason}") from error

    def save(step: int) -> None:
        if not team.leads:
            return
        save_state(
            last,
            {
                "network": network.state_dict(), "ema": ema.state_dict(), "optimizer": optimizer.state_dict(),
                "discriminator": stage.discriminator.state_dict() if stage.discriminator is not None else None,
                "adversary": adversary.state_dict() if adversary is not None else None,
                "step": step, "best": best,
            },
        )  # fmt: skip

    steps = range(start, schedule.steps)
    loader = DataLoader(
        StepBatches(stage.stream, schedule, team), batch_size=None, sampler=steps, num_workers=config.workers,
        prefetch_factor=4 if config.workers else None, pin_memory=device.type == "cuda",
    )  # fmt: skip
    log = (out / "log.jsonl" if team.leads else Path(os.devnull)).open("a" if start else "w")
    running: dict[str, float] = {}
    counted, seen, since = 0, 0, time.monotonic()
    done = start
    with log, _progress(quiet or not team.leads) as progress:
        bar = progress.add_task(stage.name, total=schedule.steps, completed=start, rate=0.0, note="")
        try:
            for step, raw in zip(steps, loader, strict=True):
                rate = learning_rate(schedule, step)
                batch = to_float(raw, device)
                rng = np.random.default_rng((config.seed, step, 1))  # not the one that drew the batch
                with _put_off_interrupts():
                    terms = _step(stage, batch, rng, optimizer, adversary, rate, schedule, bf16, team)
                    ema.update(network, step)
                    done = step + 1
                for name, value in terms.items():
                    running[name] = running.get(name, 0.0) + value
                counted += 1
                seen += batch["photo"].shape[0] * team.size
                if (step + 1) % 50 == 0:
                    now = time.monotonic()
                    line = {"step": step + 1, "lr": rate, "samples_per_s": seen / (now - since)}
                    line |= {k: v / counted for k, v in running.items()}
                    _write(log, line)
                    progress.update(bar, completed=step + 1, rate=line["samples_per_s"])
                    running, counted, seen, since = {}, 0, 0, now
                if team.leads and ((step + 1) % config.validate_every == 0 or step + 1 == schedule.steps):
                    measures = stage.validate(ema.network)
                    _write(log, {"step": step + 1, "validation": measures})
                    progress.update(bar, note=f"score {measures['score']:.4f}")
                    meta = stage.metadata() | {"step": step + 1, "validation": measures, "seed": config.seed}
                    save_weights(out / LAST_FILE, ema.network.state_dict(), meta)
                    if measures["score"] > best:
                        best = measures["score"]
                        save_weights(out / WEIGHTS_FILE, ema.network.state_dict(), meta)
                    save(step + 1)
                    seen, since = 0, time.monotonic()
        except KeyboardInterrupt:
            save(done)
            raise
    return Outcome(schedule.steps, best, out / WEIGHTS_FILE)


@contextmanager
def _put_off_interrupts() -> Iterator[None]:
    """Ctrl-C and a polite kill wait for the end of the block: what is saved then is the state after a whole step."""
    came: list[int] = []
    # handlers can be set in the main thread alone, which is the one that they interrupt
    put_off = [s for s in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(s) is signal.default_int_handler]
    if threading.current_thread() is not threading.main_thread():
        put_off = []
    for number in put_off:
        signal.signal(number, lambda n, _: came.append(n))
    try:
        yield
    finally:
        for number in put_off:
            signal.signal(number, signal.default_int_handler)
    if came:
        raise KeyboardInterrupt


def _step(
    stage: Stage, batch: dict[str, Tensor], rng: np.random.Generator, optimizer: torch.optim.Optimizer,
    adversary: torch.optim.Optimizer | None, rate: float, schedule: Schedule, bf16: bool, team: Team,
) -> dict[str, float]:  # fmt: skip
    """One step of the network, then one of its discriminator. Gradients of the two never mix."""
    stage.network.train()
    _set_rate(optimizer, rate)
    device = batch["photo"].device
    if adversary is not None:
        stage.discriminator.requires_grad_(False)
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        terms, output = stage.generator_terms(batch, rng)
    total = torch.stack(list(terms.values())).sum()
    if not torch.isfinite(total):
        raise TrainingError(f"{stage.name}: the loss is {total.item()}: { ({k: v.item() for k, v in terms.items()}) }")
    optimizer.zero_grad(set_to_none=True)
    total.backward()
    team.average_gradients(stage.network)
    nn.utils.clip_grad_norm_(stage.network.parameters(), schedule.clip_norm)
    optimizer.step()
    values = {k: v.item() for k, v in terms.items()}
    if adversary is not None:
        _set_rate(adversary, rate * schedule.discriminator_share)
        stage.discriminator.requires_grad_(True)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = stage.discriminator_loss(batch, output)
        adversary.zero_grad(set_to_none=True)
        loss.backward()
        team.average_gradients(stage.discriminator)
        adversary.step()
        values["discriminator"] = loss.item()
    return values


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
    """Linear warm-up, then half a cosine from learning_rate to final_share of it."""
    if step < schedule.warmup_steps:
        return schedule.learning_rate * (step + 1) / schedule.warmup_steps
    share = (step - schedule.warmup_steps) / max(1, schedule.steps - schedule.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
    return schedule.learning_rate * (schedule.final_share + (1 - schedule.final_share) * cosine)


def choose_device(name: str) -> torch.device:
    """auto: CUDA where there is one. A device that is asked for and missing is an error, never a silent change."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise DeviceError(f"device {name} was asked for, but torch {torch.__version__} sees no CUDA device")
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"device must be auto, cpu or cuda, got {name!r}") from error


def use_bfloat16(config: TrainConfig, device: torch.device) -> bool:
    """Whether to compute in bfloat16. `auto` does where the device has it: a CPU without it takes ten times as long."""
    if config.precision != "auto":
        return config.precision == "bfloat16"
    return torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else _cpu_has_bfloat16()


def _cpu_has_bfloat16() -> bool:
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def to_float(raw: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """uint8 batch -> images in [0, 1], masks in {0, 1}; parsing labels stay integers."""
    out = {}
    for key, tensor in raw.items():
        tensor = tensor.to(device, non_blocking=True)
        if key in ("photo", "truth"):
            tensor = tensor.float() / 255
        elif key != "parsing":
            tensor = tensor.float()
        out[key] = tensor
    return out


def _optimizer(
    network: nn.Module, schedule: Schedule, share: float, betas: tuple[float, float]
) -> torch.optim.Optimizer:
    """AdamW; norms and biases are not decayed."""
    params = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in params if p.ndim > 1], "weight_decay": schedule.weight_decay},
        {"params": [p for p in params if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=schedule.learning_rate * share, betas=betas)


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def _write(log, line: dict[str, Any]) -> None:
    log.write(json.dumps(line) + "\n")
    log.flush()


def _progress(quiet: bool) -> Progress:
    from rich.console import Console

    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"),
        TextColumn("{task.fields[rate]:.1f} samples/s"), TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
        console=console, disable=quiet or not console.is_terminal,
    )  # fmt: skip
