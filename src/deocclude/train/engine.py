"""The training loop of every stage: schedule, EMA weights, log, validation, checkpoints and exact resuming."""

from __future__ import annotations

import math
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from deocclude.checkpoints.files import load_state, save_state, save_weights
from deocclude.errors import ConfigError, DeviceError, TrainingError, WeightsError
from deocclude.train.config import (
    CONFIG_FILE,
    Schedule,
    StageSection,
    TrainConfig,
    check_resumable,
    plain_values,
    save_config,
)  # fmt: skip
from deocclude.train.learner import OptimizedNetwork, learning_rate
from deocclude.train.parallel import average_values, broadcast_weights, join
from deocclude.train.run_log import RunLog

STATE_FILE = "last.pt"  # everything that resuming a run needs
WEIGHTS_FILE = "best.safetensors"  # EMA weights of the best validation
LAST_FILE = "last.safetensors"  # EMA weights of the last validation
STAGE1_WEIGHTS_FILE = "best_stage1.safetensors"  # of stage 1, when it is trained jointly with stage 2
STAGE1_LAST_FILE = "last_stage1.safetensors"  # of a joint training
# Keys in last.pt of each optimised network: weights, optimiser, EMA weights.
_STATE_KEYS = {
    "network": ("network", "optimizer", "ema"),
    "stage1": ("stage1", "stage1_optimizer", "stage1_ema"),
    "discriminator": ("discriminator", "adversary", None),
}


class Stream(Protocol):
    """Endless batches; the same arguments always give the same batch."""

    def batch(self, index: int, batch_size: int, size_px: int, *, part: int = 0) -> dict[str, Tensor]:
        """Part `part` of batch number `index`: tensors whose first dimension is batch_size."""
        ...


@dataclass(frozen=True)
class JointNetwork:
    """Stage 1, trained jointly with stage 2.

    Attributes:
        network: stage 1.
        lr_scale: multiplier of the schedule's learning rate.
        metadata: stored beside its weights.
    """

    network: nn.Module
    lr_scale: float
    metadata: dict[str, Any]


class Stage(ABC):
    """What the training loop needs of one stage. Modules held as attributes are moved to the run's device.

    Attributes:
        name: of the stage's section in the config.
        network: the network to train.
        discriminator: None without an adversarial term.
        stage1: set when stage 1 is trained jointly.
        lr_scales: learning-rate multiplier of children of the network by name, 1 for children not listed.
        stream: training batches.
    """

    name: str
    network: nn.Module
    discriminator: nn.Module | None = None
    stage1: JointNetwork | None = None
    lr_scales: Mapping[str, float] = {}
    stream: Stream

    @abstractmethod
    def weighted_terms(self, batch: dict[str, Tensor], rng: np.random.Generator) -> tuple[dict[str, Tensor], Any]:
        """Compute the loss of the network.

        Args:
            batch: from `to_float`.
            rng: for the stage's own draws; the same step always gets the same generator.

        Returns:
            Weighted loss terms (scalars), and the output that `discriminator_loss` takes.
        """

    def discriminator_loss(self, batch: dict[str, Tensor], output: Any) -> Tensor:
        """Scalar loss of the discriminator on a detached output of `weighted_terms`.

        A stage without a discriminator has none: TypeError.
        """
        raise TypeError(f"stage {self.name} has no discriminator")

    @abstractmethod
    def validate(self, network: nn.Module, stage1: nn.Module | None = None) -> dict[str, float]:
        """Measure on held-out people.

        Args:
            network: EMA weights of the network.
            stage1: EMA weights of stage 1, when it is trained jointly.

        Returns:
            Measures by name. `score`, higher is better, picks the best checkpoint.
        """

    def pictures(self, network: nn.Module, stage1: nn.Module | None = None) -> dict[str, np.ndarray]:
        """A few held-out people by name, (H, W, 3) uint8 each: photo, inputs, predictions, truth. Empty by default."""
        return {}

    @abstractmethod
    def metadata(self) -> dict[str, Any]:
        """Metadata stored beside the weights."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended. best_weights: .safetensors of the best EMA weights."""

    steps: int
    best_score: float
    best_weights: Path


class StepBatches(Dataset):
    """The batches of a schedule by step. The same step always gives the same batch, which makes resuming exact.

    Each of several processes draws its own part. accelerate therefore does not prepare the loader: accelerate would
    draw every batch in every process and keep a part of it.
    """

    def __init__(self, stream: Stream, schedule: Schedule, rank: int = 0, processes: int = 1):
        self.stream, self.schedule, self.rank, self.processes = stream, schedule, rank, processes

    def __len__(self) -> int:
        return self.schedule.steps

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        phase = next(p for p in self.schedule.phases if step < p.until * self.schedule.steps)
        return self.stream.batch(step, phase.batch_size // self.processes, phase.size_at(step), part=self.rank)


def fit(
    stage: Stage, config: TrainConfig, section: StageSection, out: Path, *, resume: bool = True, quiet: bool = False
) -> Outcome:
    """Train a stage.

    Writes config.yaml, log.jsonl, last.pt, best.safetensors and last.safetensors to `out`, and the latter two of a
    jointly trained stage 1.

    Args:
        stage: what to train.
        config: the whole config.
        section: the stage's section of it.
        out: folder of the run, made if missing.
        resume: go on from last.pt if there is one.
        quiet: show no progress bar.

    Raises:
        ConfigError: the run in `out` has another config or is of another stage.
        DeviceError: the device is not available.
        TrainingError: a loss is not finite.
        WeightsError: last.pt does not fit the config.
        KeyboardInterrupt: after an interrupt; last.pt holds the state after the last whole step. A second interrupt
            saves nothing.
    """
    resuming = resume and (out / STATE_FILE).is_file()
    if resuming and (out / CONFIG_FILE).is_file():  # runs of early versions have no config.yaml
        check_resumable(out / CONFIG_FILE, config, stage.name)
    out.mkdir(parents=True, exist_ok=True)
    run = _Run(stage, config, section.schedule, out)
    run.start(resuming)
    return run.train(quiet)


class _Run:
    """State of one run in one process: networks with optimisers, steps done, best score, loss sums."""

    def __init__(self, stage: Stage, config: TrainConfig, schedule: Schedule, out: Path) -> None:
        self.stage, self.config, self.schedule, self.out = stage, config, schedule, out
        device = choose_device(config.device)
        self.bf16 = use_bfloat16(config, device)
        self.accelerator, self.device = join(device, schedule.accumulate)
        _check_batch_sizes(schedule, self.accelerator.num_processes, stage.name)
        if config.threads:
            torch.set_num_threads(config.threads)
        self.leads = self.accelerator.is_main_process  # one process validates, and writes all files
        to_device(stage, self.device)
        self.learners = _learners(stage, schedule)
        # networks with EMA weights: the network, then stage 1 if it is trained jointly
        self.averages = [learner.ema.network for learner in self.learners.values() if learner.ema is not None]
        self.done, self.best, self.meter = 0, -math.inf, Meter()  # steps done, best score, loss sums
        self.samples, self.since = 0, time.monotonic()  # samples since that time, for samples per second

    def start(self, resuming: bool) -> None:
        """Load last.pt when resuming, give all processes the same weights, write config.yaml."""
        last = self.out / STATE_FILE
        if resuming:
            self._load(last)
        broadcast_weights(self.accelerator, *(learner.network for learner in self.learners.values()), *self.averages)
        if self.leads:
            if not resuming:
                last.unlink(missing_ok=True)  # the state of a former run must not be resumed with the new config
            save_config(self.out / CONFIG_FILE, self.config)

    def _load(self, last: Path) -> None:
        """Restore the state that `_save` wrote. Raises ConfigError for another stage's, WeightsError."""
        state = load_state(last)
        saved = state.get("stage", self.stage.name)  # runs of early versions do not name it
        if saved != self.stage.name:
            raise ConfigError(
                f"{self.out}: holds a run of {saved}, not of {self.stage.name}: name another folder, or --overwrite"
            )
        try:
            for kind, learner in self.learners.items():
                learner.load_state(_STATE_KEYS[kind], state)
            self.done, self.best, self.meter = state["step"], state["best"], Meter(**state.get("meter", {}))
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[-1].strip()
            raise WeightsError(f"{last}: does not fit this config, so it cannot be resumed: {reason}") from error

    def _save(self) -> None:
        """Write last.pt, with loss sums averaged over the processes."""
        self.meter = Meter(average_values(self.accelerator, self.meter.sums), self.meter.count)
        if self.leads:
            state = {"discriminator": None, "adversary": None, "step": self.done, "best": self.best}
            state |= {"meter": vars(self.meter), "stage": self.stage.name}
            for kind, learner in self.learners.items():
                state |= learner.state(_STATE_KEYS[kind])
            save_state(self.out / STATE_FILE, state)
        self.accelerator.wait_for_everyone()  # no process goes on, or starts again, before the files are written

    def train(self, quiet: bool) -> Outcome:
        """Run the remaining steps."""
        steps = range(self.done, self.schedule.steps)
        loader = self._loader(steps)
        log = RunLog(self.out, self.done, tensorboard=self.config.tensorboard) if self.leads else nullcontext()
        self.samples, self.since = 0, time.monotonic()
        with log, _progress(quiet or not self.leads) as progress, _noted_interrupts() as interrupts:
            bar = progress.add_task(self.stage.name, total=self.schedule.steps, completed=self.done, rate=0.0, note="")
            for step, raw in zip(steps, loader, strict=True):
                self._one_step(step, raw)
                if self.done % self.config.log_every == 0:
                    progress.update(bar, completed=self.done, rate=self._log_means(log, step))
                if self.done % self.config.validate_every == 0 or self.done == self.schedule.steps:
                    if self.leads:
                        progress.update(bar, note=f"score {self._validate(log):.4f}")
                    self._save()
                    self.samples, self.since = 0, time.monotonic()
                if interrupts:
                    self.accelerator.set_trigger()
                if self.accelerator.check_trigger():  # in any process: all processes stop after the same step
                    self._save()
                    raise KeyboardInterrupt
        return Outcome(self.schedule.steps, self.best, self.out / WEIGHTS_FILE)

    def _loader(self, steps: range) -> DataLoader:
        """Batches of the given steps, drawn by `workers` processes."""
        accelerator, workers = self.accelerator, self.config.workers
        return DataLoader(
            StepBatches(self.stage.stream, self.schedule, accelerator.process_index, accelerator.num_processes),
            batch_size=None, sampler=steps, num_workers=workers, prefetch_factor=4 if workers else None,
            pin_memory=self.device.type == "cuda", worker_init_fn=_leave_interrupts_to_the_parent,
        )  # fmt: skip

    def _one_step(self, step: int, raw: dict[str, Tensor]) -> None:
        """Do step number `step`, counted from 0: optimiser steps and EMA update. raw: the batch, uint8."""
        # all random draws, dropout included, are the same when the step is done again
        _seed(self.device, (self.config.seed, step, 2, self.accelerator.process_index))
        rng = np.random.default_rng((self.config.seed, step, 1))  # not the generator that drew the batch
        batches = [to_float(part, self.device) for part in _micro_batches(raw, self.schedule.accumulate)]
        rate = learning_rate(self.schedule, step)
        self.meter.add(_optimizer_step(self.stage, self.learners, batches, rng, rate, self.accelerator, self.bf16))
        for learner in self.learners.values():
            if learner.ema is not None:
                learner.ema.update(learner.network, step)
        self.samples += len(raw["photo"]) * self.accelerator.num_processes
        self.done = step + 1

    def _log_means(self, log: RunLog, step: int) -> float:
        """Log the mean losses since the last line and start new sums. Returns samples per second."""
        means = average_values(self.accelerator, self.meter.means())
        speed = self.samples / (time.monotonic() - self.since)
        if self.leads:
            log.train(self.done, {"lr": learning_rate(self.schedule, step), "samples_per_s": speed} | means)
        self.meter, self.samples, self.since = Meter(), 0, time.monotonic()
        return speed

    def _validate(self, log: RunLog) -> float:
        """Measure the EMA weights, log the measures and save the weights. Returns the score."""
        measures = self.stage.validate(*self.averages)
        log.validation(self.done, measures)
        if log.wants_pictures:
            log.pictures(self.done, self.stage.pictures(*self.averages))
        metadata = {
            "step": self.done, "validation": measures, "seed": self.config.seed,
            "train_config": plain_values(self.config),
        }  # fmt: skip
        is_best = measures["score"] > self.best
        _save_averages(self.stage, self.averages, metadata, self.out, is_best=is_best)
        self.best = max(self.best, measures["score"])
        return measures["score"]


@dataclass
class Meter:
    """Sums of loss terms over `count` steps."""

    sums: dict[str, float] = field(default_factory=dict)
    count: int = 0

    def add(self, values: dict[str, float]) -> None:
        """One step's values."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.count += 1

    def means(self) -> dict[str, float]:
        """Mean of each term over the steps."""
        return {name: value / self.count for name, value in self.sums.items()}


def _optimizer_step(
    stage: Stage, learners: dict[str, OptimizedNetwork], batches: list[dict[str, Tensor]],
    rng: np.random.Generator, rate: float, accelerator: Accelerator, bf16: bool,
) -> dict[str, float]:  # fmt: skip
    """One optimiser step of the network and a jointly trained stage 1, then one of the discriminator.

    Gradients of the first two and of the discriminator never mix. batches: the micro batches, over which gradients are
    averaged; rate: learning rate of the schedule at this step.

    Returns:
        The mean of each loss term over the micro batches.

    Raises:
        TrainingError: the loss is not finite.
    """
    device = batches[0]["photo"].device
    adversary = learners.get("discriminator")
    generators = [learner for kind, learner in learners.items() if kind != "discriminator"]
    for learner in generators:
        learner.network.train()
    if adversary is not None:
        adversary.network.requires_grad_(False)
    meter, outputs = Meter(), []
    for batch in batches:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            terms, output = stage.weighted_terms(batch, rng)
        total = torch.stack(list(terms.values())).sum()
        values = {k: v.item() for k, v in terms.items()}
        if not torch.isfinite(total):
            raise TrainingError(f"{stage.name}: the loss is {total.item()}: {values}")
        accelerator.backward(total)
        outputs.append(output)
        meter.add(values)
    for learner in generators:
        learner.step(accelerator, rate)
    means = meter.means()
    if adversary is not None:
        adversary.network.requires_grad_(True)
        losses = []
        for batch, output in zip(batches, outputs, strict=True):
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                loss = stage.discriminator_loss(batch, output)
            accelerator.backward(loss)
            losses.append(loss.item())
        adversary.step(accelerator, rate)
        means["discriminator"] = sum(losses) / len(losses)
    return means


def _learners(stage: Stage, schedule: Schedule) -> dict[str, OptimizedNetwork]:
    """Networks with optimisers by kind. The network is first: `Stage.validate` takes its EMA weights first."""
    learners = {"network": OptimizedNetwork(stage.network, schedule, lr_scales=stage.lr_scales)}
    if stage.stage1 is not None:
        learners["stage1"] = OptimizedNetwork(stage.stage1.network, schedule, lr_scale=stage.stage1.lr_scale)
    if stage.discriminator is not None:
        learners["discriminator"] = OptimizedNetwork(
            stage.discriminator, schedule, lr_scale=schedule.discriminator_lr_scale, betas=(0.5, 0.99), average=False
        )
    return learners


def _save_averages(
    stage: Stage, averages: list[nn.Module], metadata: dict[str, Any], out: Path, *, is_best: bool
) -> None:
    """Save EMA weights as the last .safetensors, and as the best if they are; metadata: of the step."""
    files = [(stage.metadata(), LAST_FILE, WEIGHTS_FILE)]
    if stage.stage1 is not None:
        files.append((stage.stage1.metadata, STAGE1_LAST_FILE, STAGE1_WEIGHTS_FILE))
    for network, (of_network, last, best) in zip(averages, files, strict=True):
        for name in (last, best) if is_best else (last,):
            save_weights(out / name, network.state_dict(), of_network | metadata)


def to_device(stage: Stage, device: torch.device) -> None:
    """Move every network of the stage: trained ones, and frozen ones behind its losses."""
    for module in vars(stage).values():
        if isinstance(module, nn.Module):
            module.to(device)
    joint = stage.stage1.network if stage.stage1 is not None else None
    for module in (stage.network, joint, stage.discriminator):
        if module is not None:
            module.to(device, memory_format=torch.channels_last)


def _check_batch_sizes(schedule: Schedule, processes: int, name: str) -> None:
    """Raise ConfigError unless a batch divides evenly into processes and micro batches."""
    parts = processes * schedule.accumulate
    for number, phase in enumerate(schedule.phases):
        if phase.batch_size % parts:
            raise ConfigError(
                f"{name}.schedule.phases.{number}.batch_size must be a multiple of {parts} ({processes} processes, "
                f"{schedule.accumulate} micro batches each), got {phase.batch_size}"
            )


def _micro_batches(raw: dict[str, Tensor], parts: int) -> list[dict[str, Tensor]]:
    """Split a batch into `parts` micro batches of equal size."""
    if parts == 1:
        return [raw]
    pieces = {key: tensor.chunk(parts) for key, tensor in raw.items()}
    return [{key: piece[i] for key, piece in pieces.items()} for i in range(parts)]


def _seed(device: torch.device, key: tuple[int, ...]) -> None:
    """Seed torch on the CPU and on the device by a key of numbers.

    `torch.manual_seed` would take a millisecond per call, even without a GPU.
    """
    seed = int(np.random.SeedSequence(key).generate_state(1)[0])
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)


@contextmanager
def _noted_interrupts() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM in the list, so that the state after a whole step can be saved.

    A second signal raises KeyboardInterrupt at once, and nothing is saved.
    """
    received: list[int] = []

    def note(number: int, _: object) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    # signal handlers can only be set in the main thread
    replaced = [s for s in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(s) is signal.default_int_handler]
    if threading.current_thread() is not threading.main_thread():
        replaced = []
    for number in replaced:
        signal.signal(number, note)
    try:
        yield received
    finally:
        for number in replaced:
            signal.signal(number, signal.default_int_handler)


def _leave_interrupts_to_the_parent(_: int) -> None:
    """Ignore signals in data loader processes: their batches are needed until the step is over."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def choose_device(name: str) -> torch.device:
    """The torch device of a name.

    Args:
        name: "auto" (CUDA if available, else CPU), "cpu", "cuda" or "cuda:N".

    Raises:
        DeviceError: the device is unknown or not available; another device is never used silently.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise DeviceError(f"device {name} was asked for, but torch {torch.__version__} sees no CUDA device")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"device must be auto, cpu or cuda, got {name!r}") from error
    if device.type not in ("cpu", "cuda"):
        raise DeviceError(f"device must be auto, cpu or cuda, got {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(f"device {name} was asked for, but there are {torch.cuda.device_count()} CUDA devices")
    return device


def use_bfloat16(config: TrainConfig, device: torch.device) -> bool:
    """Whether forward passes run in bfloat16. A CPU without native bfloat16 would take ten times as long."""
    if config.precision != "auto":
        return config.precision == "bfloat16"
    return torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else _cpu_has_bfloat16()


def _cpu_has_bfloat16() -> bool:
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def to_float(raw: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Move a batch to a device: uint8 images to float in [0, 1], masks and boxes to float; `parsing` stays uint8."""
    out = {}
    for key, tensor in raw.items():
        tensor = tensor.to(device, non_blocking=True)
        if key in ("photo", "truth"):
            tensor = tensor.float() / 255
        elif key != "parsing":
            tensor = tensor.float()
        out[key] = tensor
    return out


def _progress(quiet: bool) -> Progress:
    """A progress bar on standard error; none if quiet or not on a terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"),
        TextColumn("{task.fields[rate]:.1f} samples/s"), TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
        console=console, disable=quiet or not console.is_terminal,
    )  # fmt: skip
