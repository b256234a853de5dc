"""The training loop that all stages share: schedule, averages, log, validation, checkpoints, exact resume."""

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

STATE_FILE = "last.pt"  # everything that a run needs to go on
WEIGHTS_FILE = "best.safetensors"  # averaged weights of the best validation
LAST_FILE = "last.safetensors"  # averaged weights of the last one
STAGE1_WEIGHTS_FILE = "best_stage1.safetensors"  # of stage 1, where it is trained beside stage 2
STAGE1_LAST_FILE = "last_stage1.safetensors"
# What each learner's parts are called in last.pt: its network, its optimiser, its average.
_NAMES = {
    "network": ("network", "optimizer", "ema"),
    "stage1": ("stage1", "stage1_optimizer", "stage1_ema"),
    "discriminator": ("discriminator", "adversary", None),
}


class Stream(Protocol):
    """Endless batches; the same arguments always give the same one."""

    def batch(self, index: int, batch_size: int, size_px: int, *, part: int = 0) -> dict[str, Tensor]:
        """Part `part` of batch number `index`: tensors whose first dimension is batch_size."""
        ...


@dataclass(frozen=True)
class JointNetwork:
    """Stage 1, trained beside stage 2. share: of the schedule's learning rate; metadata: stored beside its weights."""

    network: nn.Module
    share: float
    metadata: dict[str, Any]


class Stage(ABC):
    """What one stage brings to the loop. Modules that it holds as attributes are moved to the run's device."""

    name: str  # of its section in the config
    network: nn.Module
    discriminator: nn.Module | None = None
    stage1: JointNetwork | None = None
    shares: Mapping[str, float] = {}  # of the learning rate, for children of the network by name; the others have all
    stream: Stream

    @abstractmethod
    def generator_terms(self, batch: dict[str, Tensor], rng: np.random.Generator) -> tuple[dict[str, Tensor], Any]:
        """Weighted loss terms of the network, and what `discriminator_loss` needs of the output.

        rng: for what the stage draws itself; a step always gets the same one.
        """

    @abstractmethod
    def discriminator_loss(self, batch: dict[str, Tensor], output: Any) -> Tensor:
        """Loss of the discriminator on a detached output."""

    @abstractmethod
    def validate(self, network: nn.Module, stage1: nn.Module | None = None) -> dict[str, float]:
        """Measures on held-out people; `score`, higher is better, picks the best checkpoint.

        stage1: the averaged weights of stage 1, where it is trained too.
        """

    def pictures(self, network: nn.Module, stage1: nn.Module | None = None) -> dict[str, np.ndarray]:
        """A few held-out people by name, (H, W, 3) uint8 each: photo, what is given, what is predicted, the truth.

        None for a stage that has none to show.
        """
        return {}

    @abstractmethod
    def metadata(self) -> dict[str, Any]:
        """What is stored beside the weights."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended. best_weights: .safetensors of the best EMA weights."""

    steps: int
    best_score: float
    best_weights: Path


class StepBatches(Dataset):
    """Batch number `step` of the schedule; the same step always gives the same batch, which makes resuming exact.

    Of several processes each draws its own part. That is why accelerate does not prepare the loader: it would draw
    every batch in every process and keep a share of it.
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
    """Train a stage. Writes to `out`: config.yaml, log.jsonl, last.pt, best.safetensors and last.safetensors.

    Resumes from last.pt where there is one; ConfigError when that run's config gave other numbers.
    """
    schedule, last = section.schedule, out / STATE_FILE
    resuming = resume and last.is_file()
    if resuming and (out / CONFIG_FILE).is_file():  # runs of before have none
        check_resumable(out / CONFIG_FILE, config, stage.name)
    out.mkdir(parents=True, exist_ok=True)
    asked = choose_device(config.device)
    bf16 = use_bfloat16(config, asked)
    accelerator, device = join(asked, schedule.accumulate)
    _check_shares(schedule, accelerator.num_processes, stage.name)
    if config.threads:
        torch.set_num_threads(config.threads)
    leads = accelerator.is_main_process
    to_device(stage, device)
    learners = _learners(stage, schedule)
    averages = [learner.ema.network for learner in learners.values() if learner.ema is not None]
    start, best, meter = 0, -math.inf, Meter()
    if resuming:
        state = load_state(last)
        held = state.get("stage", stage.name)  # runs of before do not say
        if held != stage.name:
            raise ConfigError(f"{out}: holds a run of {held}, not of {stage.name}: name another folder, or --overwrite")
        try:
            for kind, learner in learners.items():
                learner.load_state(_NAMES[kind], state)
            start, best, meter = state["step"], state["best"], Meter(**state.get("meter", {}))
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[-1].strip()
            raise WeightsError(f"{last}: does not fit this config, so it cannot be resumed: {reason}") from error
    broadcast_weights(accelerator, *(learner.network for learner in learners.values()), *averages)
    if leads:
        if not resuming:
            last.unlink(missing_ok=True)  # a former run's, which the new config must not be taken for
        save_config(out / CONFIG_FILE, config)

    def save(step: int) -> None:
        nonlocal meter
        meter = Meter(average_values(accelerator, meter.sums), meter.count)
        if leads:
            state = {"discriminator": None, "adversary": None, "step": step, "best": best, "meter": vars(meter)}
            state["stage"] = stage.name
            for kind, learner in learners.items():
                state |= learner.state(_NAMES[kind])
            save_state(last, state)
        accelerator.wait_for_everyone()  # whoever goes on, or starts again, finds the files written

    steps = range(start, schedule.steps)
    loader = DataLoader(
        StepBatches(stage.stream, schedule, accelerator.process_index, accelerator.num_processes), batch_size=None,
        sampler=steps, num_workers=config.workers, prefetch_factor=4 if config.workers else None,
        pin_memory=device.type == "cuda", worker_init_fn=_leave_interrupts_to_the_parent,
    )  # fmt: skip
    log = RunLog(out, start, tensorboard=config.tensorboard) if leads else nullcontext()
    seen, since = 0, time.monotonic()
    with log, _progress(quiet or not leads) as progress, _noted_interrupts() as interrupts:
        bar = progress.add_task(stage.name, total=schedule.steps, completed=start, rate=0.0, note="")
        for step, raw in zip(steps, loader, strict=True):
            done, rate = step + 1, learning_rate(schedule, step)
            # whatever draws at random, dropout too, draws the same in a step that is done again
            _seed(device, (config.seed, step, 2, accelerator.process_index))
            rng = np.random.default_rng((config.seed, step, 1))  # not the one that drew the batch
            batches = [to_float(part, device) for part in _split(raw, schedule.accumulate)]
            meter.add(_step(stage, learners, batches, rng, rate, accelerator, bf16))
            for learner in learners.values():
                if learner.ema is not None:
                    learner.ema.update(learner.network, step)
            seen += len(raw["photo"]) * accelerator.num_processes
            if done % config.log_every == 0:
                means = average_values(accelerator, meter.means())
                speed = seen / (time.monotonic() - since)
                if leads:
                    log.train(done, {"lr": rate, "samples_per_s": speed} | means)
                progress.update(bar, completed=done, rate=speed)
                meter, seen, since = Meter(), 0, time.monotonic()
            if done % config.validate_every == 0 or done == schedule.steps:
                if leads:
                    measures = stage.validate(*averages)
                    log.validation(done, measures)
                    if log.wants_pictures:
                        log.pictures(done, stage.pictures(*averages))
                    progress.update(bar, note=f"score {measures['score']:.4f}")
                    about = {
                        "step": done, "validation": measures, "seed": config.seed,
                        "train_config": plain_values(config),
                    }  # fmt: skip
                    _save_averages(stage, averages, about, out, is_best=measures["score"] > best)
                    best = max(best, measures["score"])
                save(done)
                seen, since = 0, time.monotonic()
            if interrupts:
                accelerator.set_trigger()
            if accelerator.check_trigger():  # in any process: all of them stop after the same step
                save(done)
                raise KeyboardInterrupt
    return Outcome(schedule.steps, best, out / WEIGHTS_FILE)


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


def _step(
    stage: Stage, learners: dict[str, OptimizedNetwork], batches: list[dict[str, Tensor]],
    rng: np.random.Generator, rate: float, accelerator: Accelerator, bf16: bool,
) -> dict[str, float]:  # fmt: skip
    """One step of the network, of stage 1 where it learns too, then of the discriminator, whose gradients never mix.

    batches: the micro batches whose mean gradient the step takes. Returns the mean value of each term.
    """
    device = batches[0]["photo"].device
    adversary = learners.get("discriminator")
    students = [learner for kind, learner in learners.items() if kind != "discriminator"]
    for learner in students:
        learner.network.train()
    if adversary is not None:
        adversary.network.requires_grad_(False)
    meter, outputs = Meter(), []
    for batch in batches:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            terms, output = stage.generator_terms(batch, rng)
        total = torch.stack(list(terms.values())).sum()
        values = {k: v.item() for k, v in terms.items()}
        if not torch.isfinite(total):
            raise TrainingError(f"{stage.name}: the loss is {total.item()}: {values}")
        accelerator.backward(total)
        outputs.append(output)
        meter.add(values)
    for learner in students:
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
    """Who learns, by kind; the network first, whose average comes first in what is validated."""
    learners = {"network": OptimizedNetwork(stage.network, schedule, shares=stage.shares)}
    if stage.stage1 is not None:
        learners["stage1"] = OptimizedNetwork(stage.stage1.network, schedule, share=stage.stage1.share)
    if stage.discriminator is not None:
        learners["discriminator"] = OptimizedNetwork(
            stage.discriminator, schedule, share=schedule.discriminator_lr_scale, betas=(0.5, 0.99), average=False
        )
    return learners


def _save_averages(stage: Stage, averages: list[nn.Module], about: dict[str, Any], out: Path, *, is_best: bool) -> None:
    """The averaged weights as .safetensors: last, and best where they are."""
    kept = [(stage.metadata(), LAST_FILE, WEIGHTS_FILE)]
    if stage.stage1 is not None:
        kept.append((stage.stage1.metadata, STAGE1_LAST_FILE, STAGE1_WEIGHTS_FILE))
    for network, (metadata, last, best) in zip(averages, kept, strict=True):
        for name in (last, best) if is_best else (last,):
            save_weights(out / name, network.state_dict(), metadata | about)


def to_device(stage: Stage, device: torch.device) -> None:
    """Move every network that the stage holds: those that learn, and those that its losses read."""
    for module in vars(stage).values():
        if isinstance(module, nn.Module):
            module.to(device)
    beside = stage.stage1.network if stage.stage1 is not None else None
    for module in (stage.network, beside, stage.discriminator):
        if module is not None:
            module.to(device, memory_format=torch.channels_last)


def _check_shares(schedule: Schedule, processes: int, name: str) -> None:
    """ConfigError unless every process gets as many samples, in micro batches of one size."""
    shares = processes * schedule.accumulate
    for number, phase in enumerate(schedule.phases):
        if phase.batch_size % shares:
            raise ConfigError(
                f"{name}.schedule.phases.{number}.batch_size must be a multiple of {shares} ({processes} processes, "
                f"{schedule.accumulate} micro batches each), got {phase.batch_size}"
            )


def _split(raw: dict[str, Tensor], parts: int) -> list[dict[str, Tensor]]:
    """A batch as micro batches of one size."""
    if parts == 1:
        return [raw]
    pieces = {key: tensor.chunk(parts) for key, tensor in raw.items()}
    return [{key: piece[i] for key, piece in pieces.items()} for i in range(parts)]


def _seed(device: torch.device, key: tuple[int, ...]) -> None:
    """Seed torch on the CPU and on the device; `torch.manual_seed` takes a millisecond where there is no GPU."""
    seed = int(np.random.SeedSequence(key).generate_state(1)[0])
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)


@contextmanager
def _noted_interrupts() -> Iterator[list[int]]:
    """Ctrl-C and a polite kill are noted in the list, so that what is saved is the state after a whole step.

    A second one is not waited for: nothing is saved then.
    """
    came: list[int] = []

    def note(number: int, _: object) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)

    # handlers can be set in the main thread alone, which is the one that they interrupt
    noted = [s for s in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(s) is signal.default_int_handler]
    if threading.current_thread() is not threading.main_thread():
        noted = []
    for number in noted:
        signal.signal(number, note)
    try:
        yield came
    finally:
        for number in noted:
            signal.signal(number, signal.default_int_handler)


def _leave_interrupts_to_the_parent(_: int) -> None:
    """Ctrl-C and many a kill reach the processes that draw samples too, which are needed until the step is over."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


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


def _progress(quiet: bool) -> Progress:
    from rich.console import Console

    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"),
        TextColumn("{task.fields[rate]:.1f} samples/s"), TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
        console=console, disable=quiet or not console.is_terminal,
    )  # fmt: skip
