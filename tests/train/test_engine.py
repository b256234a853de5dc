"""The training loop: rate, averages, checkpoints, exact resume, and what stops it."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from deocclude.checkpoints.files import load_state, load_weights, save_state
from deocclude.data.samples.person_samples import to_batch
from deocclude.errors import ConfigError, DeviceError, TrainingError, WeightsError
from deocclude.train.config import Phase, Schedule, StageSection, TrainConfig, load_config
from deocclude.train.engine import (
    JointNetwork,
    Stage,
    StepBatches,
    choose_device,
    fit,
    to_device,
    to_float,
    use_bfloat16,
)  # fmt: skip
from deocclude.train.learner import OptimizedNetwork


class Numbers:
    """A stream whose batches are known by step, batch size and picture size."""

    def batch(self, index: int, batch_size: int, size_px: int, part: int = 0) -> dict[str, Tensor]:
        rng = np.random.default_rng(index)
        photo = rng.integers(0, 256, (size_px, size_px, 3)).astype(np.uint8)
        return to_batch([{"photo": photo, "visible": photo[..., 0] > 99} for _ in range(batch_size)])


class TinyStage(Stage):
    """A stage of two convolutions, with a discriminator, dropout and randomness of its own."""

    name = "mask"

    def __init__(self, *, adversarial: bool = True) -> None:
        torch.manual_seed(0)
        self.network = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.2), nn.Conv2d(4, 1, 1)
        )
        self.discriminator = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Conv2d(1, 1, 3)))
        self.discriminator = self.discriminator if adversarial else None
        self.stream = Numbers()
        self.scores = iter([1.0, 3.0, 2.0, 2.5])
        self.drawn: list[float] = []
        self.before_step = lambda count: None

    def weighted_terms(self, batch: dict[str, Tensor], rng: np.random.Generator) -> tuple[dict[str, Tensor], Tensor]:
        self.before_step(len(self.drawn))
        self.drawn.append(float(rng.random()))
        photo = batch["photo"] if self.stage1 is None else self.stage1.network(batch["photo"])
        output = self.network(photo * self.drawn[-1]).float()
        terms = {"l2": (output - batch["visible"]).square().mean()}
        if self.discriminator is not None:
            terms["adversarial"] = 0.1 * nn.functional.softplus(-self.discriminator(output)).mean()
        return terms, output.detach()

    def discriminator_loss(self, batch: dict[str, Tensor], output: Tensor) -> Tensor:
        return self.discriminator(output).mean() - self.discriminator(batch["visible"]).mean()

    def validate(self, network: nn.Module, stage1: nn.Module | None = None) -> dict[str, float]:
        assert not network.training
        return {"score": next(self.scores)}

    def pictures(self, network: nn.Module, stage1: nn.Module | None = None) -> dict[str, np.ndarray]:
        return {"person_0": np.full((4, 6, 3), (255, 0, 7), np.uint8)}

    def metadata(self) -> dict[str, object]:
        return {"network": "tiny"}


def config(steps: int = 8, **changes: object) -> tuple[TrainConfig, StageSection]:
    schedule = Schedule(steps=steps, phases=(Phase(until=1.0, size_px=32, batch_size=2),), warmup_steps=3)
    section = StageSection(schedule=schedule)
    common = {"device": "cpu", "precision": "float32", "workers": 0, "threads": 1, "validate_every": 4}
    return TrainConfig(**(common | changes), mask=section), section


def with_stage1() -> TinyStage:
    """The network reads the photo through another network, which learns too."""
    stage = TinyStage()
    stage.stage1 = JointNetwork(nn.Conv2d(3, 3, 1), 0.5, {"network": "tinier"})
    return stage


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("has", [True, False])
def test_auto_precision_uses_bfloat16_where_supported(monkeypatch, has: bool) -> None:
    monkeypatch.setattr("deocclude.train.engine._cpu_has_bfloat16", lambda: has)
    cpu = torch.device("cpu")
    wanted = {p: use_bfloat16(config(precision=p)[0], cpu) for p in ("auto", "bfloat16", "float32")}
    assert wanted == {"auto": has, "bfloat16": True, "float32": False}


def test_phases_set_size_and_batch_size() -> None:
    phases = (Phase(until=0.5, size_px=32, batch_size=3), Phase(until=1.0, size_px=64, batch_size=1))
    batches = StepBatches(Numbers(), Schedule(steps=5, phases=phases))
    assert len(batches) == 5
    shapes = [tuple(batches[i]["photo"].shape) for i in range(5)]
    assert shapes == [(3, 3, 32, 32)] * 3 + [(1, 3, 64, 64)] * 2


def test_phase_sizes_alternate_by_step() -> None:
    phases = (
        Phase(until=0.5, size_px=64, other_sizes_px=(32, 96), batch_size=1),
        Phase(until=1.0, size_px=32, batch_size=1),
    )
    batches = StepBatches(Numbers(), Schedule(steps=8, phases=phases))
    assert [batches[i]["photo"].shape[-1] for i in range(8)] == [64, 32, 96, 64, 32, 32, 32, 32]


def test_to_float_converts_uint8_batches() -> None:
    raw = {
        "photo": torch.tensor([[[[0, 51, 255]]]], dtype=torch.uint8),
        "amodal": torch.tensor([[[[0, 1]]]], dtype=torch.uint8),
        "parsing": torch.tensor([[[255, 3]]], dtype=torch.uint8),
    }  # fmt: skip
    batch = to_float(raw, torch.device("cpu"))
    torch.testing.assert_close(batch["photo"], torch.tensor([[[[0.0, 0.2, 1.0]]]]))
    assert batch["amodal"].tolist() == [[[[0.0, 1.0]]]] and batch["amodal"].dtype == torch.float32
    assert batch["parsing"].tolist() == [[[255, 3]]] and batch["parsing"].dtype == torch.uint8


def test_devices() -> None:
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(DeviceError, match="device must be auto, cpu or cuda, got 'abacus'"):
        choose_device("abacus")
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match=r"device cuda was asked for, but torch .* sees no CUDA device"):
            choose_device("cuda")
    with pytest.raises(DeviceError, match="device must be auto, cpu or cuda, got 'meta'"):
        choose_device("meta")


def test_cuda_device_beyond_the_last_is_refused(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("cuda") == torch.device("cuda") and choose_device("cuda:1").index == 1
    with pytest.raises(DeviceError, match="device cuda:2 was asked for, but there are 2 CUDA devices"):
        choose_device("cuda:2")


def test_run_writes_best_weights_log_and_state(tmp_path: Path) -> None:
    stage = TinyStage()
    outcome = fit(stage, *config(steps=12), tmp_path, quiet=True)
    assert (outcome.steps, outcome.best_score) == (12, 3.0)
    weights, metadata = load_weights(outcome.best_weights)
    saved = metadata.pop("train_config")
    assert TrainConfig.model_validate(saved) == config(steps=12)[0] == load_config(tmp_path / "config.yaml")
    assert metadata == {"network": "tiny", "step": 8, "validation": {"score": 3.0}, "seed": 0}
    assert weights.keys() == stage.network.state_dict().keys()
    assert [line["validation"]["score"] for line in lines(tmp_path)] == [1.0, 3.0, 2.0]
    state = load_state(tmp_path / "last.pt")
    assert (state["step"], state["best"]) == (12, 3.0)
    assert all(torch.equal(state["network"][k], v) for k, v in stage.network.state_dict().items())
    # the best weights are averages of step 8, not the last state
    assert not torch.equal(weights["0.weight"], state["network"]["0.weight"])


def test_the_log_holds_means_of_each_term(tmp_path: Path) -> None:
    stage = TinyStage()
    fit(stage, *config(steps=50, validate_every=50), tmp_path, quiet=True)
    step = lines(tmp_path)[0]
    assert step.keys() == {"step", "lr", "samples_per_s", "l2", "adversarial", "discriminator"}
    assert step["step"] == 50 and step["samples_per_s"] > 0 and 0 < step["l2"] < 1


@pytest.mark.parametrize(("workers", "make", "log_every"), [(0, TinyStage, 1), (1, TinyStage, 4), (0, with_stage1, 4)])
def test_an_interrupted_run_ends_with_the_same_losses_and_weights(
    tmp_path: Path, workers: int, make: Callable[[], TinyStage], log_every: int
) -> None:
    """Ctrl-C in the middle of step 5 (of 0..9): that step is finished, saved, and the next run goes on with step 6."""
    settings = config(steps=10, workers=workers, log_every=log_every)
    straight = make()
    fit(straight, *settings, tmp_path / "straight", quiet=True)
    broken = make()
    broken.before_step = lambda step: os.kill(os.getpid(), signal.SIGINT) if step == 5 else None
    with pytest.raises(KeyboardInterrupt):
        fit(broken, *settings, tmp_path / "broken", quiet=True)
    assert load_state(tmp_path / "broken" / "last.pt")["step"] == 6
    resumed = make()
    torch.manual_seed(99)  # what else the process draws does not matter
    next(resumed.scores)  # the first validation has been
    fit(resumed, *settings, tmp_path / "broken", quiet=True)
    assert straight.drawn == broken.drawn + resumed.drawn
    first, second = (load_state(tmp_path / name / "last.pt") for name in ("straight", "broken"))
    assert ("stage1" in first) == (make is with_stage1)
    for part in {"network", "ema", "discriminator", "stage1", "stage1_ema"} & first.keys():
        for key, value in first[part].items():
            assert torch.equal(value, second[part][key]), (part, key)
    assert (second["step"], second["best"]) == (10, first["best"])
    told, again = ([drop_speed(line) for line in lines(tmp_path / name)] for name in ("straight", "broken"))
    assert told == again and len(told) == 10 // log_every + 3
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def drop_speed(line: dict) -> dict:
    return {key: value for key, value in line.items() if key != "samples_per_s"}


def test_killed_run_resumes_from_the_last_save(tmp_path: Path) -> None:
    """The log lines of the lost steps are written again, once."""
    fit(TinyStage(), *config(steps=10, log_every=1), tmp_path / "straight", quiet=True)
    killed = TinyStage()
    killed.before_step = lambda step: 1 / (step != 6)
    with pytest.raises(ZeroDivisionError):
        fit(killed, *config(steps=10, log_every=1), tmp_path / "killed", quiet=True)
    log = tmp_path / "killed" / "log.jsonl"
    log.write_text(log.read_text() + '{"step": 7, "l')  # a line that was being written
    assert load_state(tmp_path / "killed" / "last.pt")["step"] == 4
    resumed = TinyStage()
    next(resumed.scores)
    fit(resumed, *config(steps=10, log_every=1), tmp_path / "killed", quiet=True)
    told, again = ([drop_speed(line) for line in lines(tmp_path / name)] for name in ("straight", "killed"))
    assert told == again


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_of_all_processes_finishes_the_step(tmp_path: Path, number: signal.Signals) -> None:
    """A terminal, `timeout` and a cluster's queue tell the processes that draw samples as well."""
    former = signal.signal(signal.SIGTERM, signal.default_int_handler)
    stage = TinyStage(adversarial=False)

    def kill_all(step: int) -> None:
        if step == 2:
            for child in multiprocessing.active_children():
                # not by their parent, of whom torch's workers take it politely
                subprocess.run(["kill", f"-{int(number)}", str(child.pid)], check=True)
                time.sleep(0.3)  # for its end to be noticed
            os.kill(os.getpid(), number)

    stage.before_step = kill_all
    try:
        with pytest.raises(KeyboardInterrupt):
            fit(stage, *config(steps=200, workers=1, validate_every=500), tmp_path, quiet=True)
    finally:
        signal.signal(signal.SIGTERM, former)
    assert load_state(tmp_path / "last.pt")["step"] == 3


def test_second_interrupt_stops_at_once(tmp_path: Path) -> None:
    stage = TinyStage()

    def twice(step: int) -> None:
        if step == 1:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    stage.before_step = twice
    with pytest.raises(KeyboardInterrupt):
        fit(stage, *config(), tmp_path, quiet=True)
    assert len(stage.drawn) == 1 and not (tmp_path / "last.pt").exists(), "half a step is no state to save"


def test_run_without_saved_config_resumes(tmp_path: Path) -> None:
    """Its folder has no config.yaml, and its last.pt no sums of the losses since the last line of the log."""
    fit(TinyStage(), *config(steps=4), tmp_path, quiet=True)
    (tmp_path / "config.yaml").unlink()
    state = load_state(tmp_path / "last.pt")
    del state["meter"]
    save_state(tmp_path / "last.pt", state)
    again = TinyStage()
    assert fit(again, *config(steps=6), tmp_path, quiet=True).steps == 6
    assert len(again.drawn) == 2


@pytest.mark.parametrize(
    ("change", "key", "was", "got"),
    [
        ({"seed": 3}, "seed", "0", "3"),
        ({"precision": "bfloat16"}, "precision", '"float32"', '"bfloat16"'),
        ({"data": {"sources": {"ccp": 1.0}}}, "data.sources.ccp", "0.42", "1.0"),
        ({"losses": {"amodal_ce": 1.0}}, "mask.losses.amodal_ce", "null", "1.0"),
        ({"learning_rate": 0.1}, "mask.schedule.learning_rate", "0.002", "0.1"),
    ],
)
def test_resume_with_result_changing_config_is_rejected(
    tmp_path: Path, change: dict, key: str, was: str, got: str
) -> None:
    fit(TinyStage(), *config(steps=4), tmp_path, quiet=True)
    other, section = config(steps=4)
    if "learning_rate" in change:
        section = section.model_copy(update={"schedule": section.schedule.model_copy(update=change)})
    elif "losses" in change:
        section = section.model_copy(update=change)
    else:
        other = TrainConfig.model_validate(other.model_dump() | change)
    other = other.model_copy(update={"mask": section})
    before = (tmp_path / "config.yaml").read_text()
    with pytest.raises(ConfigError) as caught:
        fit(TinyStage(), other, section, tmp_path, quiet=True)
    said = f"this run was started with {key} {was}, not {got}: set it back to resume, or start anew with --overwrite"
    assert str(caught.value) == f"{tmp_path / 'config.yaml'}: {said}"
    assert (tmp_path / "config.yaml").read_text() == before
    fit(TinyStage(), other, section, tmp_path, resume=False, quiet=True)
    assert load_config(tmp_path / "config.yaml") == other


def test_resume_accepts_settings_that_do_not_change_results(tmp_path: Path) -> None:
    fit(TinyStage(), *config(steps=4), tmp_path, quiet=True)
    fit(TinyStage(), *config(steps=6, workers=1, threads=2, validate_every=3, log_every=2), tmp_path, quiet=True)
    assert [line["step"] for line in lines(tmp_path)] == [4, 6, 6]


def gradients_of_a_step(tmp_path: Path, monkeypatch, accumulate: int) -> dict[str, Tensor]:
    """Of both networks in the first step on 4 samples, without layers that use statistics of a micro batch."""
    stage = TinyStage()
    stage.network = nn.Conv2d(3, 1, 3, padding=1)
    stage.discriminator = nn.Conv2d(1, 1, 3)
    torch.manual_seed(1)
    for p in (*stage.network.parameters(), *stage.discriminator.parameters()):
        nn.init.normal_(p)
    stage.weighted_terms = lambda batch, rng: terms_of(stage, batch)
    seen: dict[str, Tensor] = {}

    def noted(learner: OptimizedNetwork, *_: object) -> None:
        kind = "network" if learner.network is stage.network else "discriminator"
        seen.update({f"{kind}.{name}": p.grad.clone() for name, p in learner.network.named_parameters()})
        learner.optimizer.zero_grad()

    monkeypatch.setattr(OptimizedNetwork, "step", noted)
    schedule = Schedule(
        steps=1, phases=(Phase(until=1.0, size_px=32, batch_size=4),), accumulate=accumulate, warmup_steps=0
    )
    section = StageSection(schedule=schedule)
    stage.stream = Different()
    fit(stage, config()[0].model_copy(update={"mask": section}), section, tmp_path / str(accumulate), quiet=True)
    return seen


def terms_of(stage: TinyStage, batch: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
    output = stage.network(batch["photo"])
    adversarial = nn.functional.softplus(-stage.discriminator(output)).mean()
    return {"l2": (output - batch["visible"]).square().mean(), "adversarial": adversarial}, output.detach()


class Different:
    """Samples that differ within a batch."""

    def batch(self, index: int, batch_size: int, size_px: int, part: int = 0) -> dict[str, Tensor]:
        photos = (
            np.random.default_rng((index, part)).integers(0, 256, (batch_size, size_px, size_px, 3)).astype(np.uint8)
        )
        return to_batch([{"photo": photo, "visible": photo[..., 0] > 99} for photo in photos])


def test_micro_batches_give_the_gradient_of_the_whole_batch(tmp_path: Path, monkeypatch) -> None:
    whole, halves, singles = (gradients_of_a_step(tmp_path, monkeypatch, n) for n in (1, 2, 4))
    assert whole.keys() == {f"{k}.{p}" for k in ("network", "discriminator") for p in ("weight", "bias")}
    for name, gradient in whole.items():
        assert gradient.abs().max() > 1e-3 or name == "discriminator.bias"  # which this loss does not feel
        torch.testing.assert_close(halves[name], gradient, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(singles[name], gradient, rtol=1e-5, atol=1e-6)


def test_micro_batches_are_the_parts_of_the_batch(tmp_path: Path) -> None:
    seen = []
    stage = TinyStage(adversarial=False)
    terms_of = stage.weighted_terms

    def noted(batch: dict[str, Tensor], rng: np.random.Generator) -> tuple[dict[str, Tensor], Tensor]:
        seen.append(batch["photo"])
        return terms_of(batch, rng)

    stage.weighted_terms, stage.stream = noted, Different()
    section = StageSection(
        schedule=Schedule(steps=1, phases=(Phase(until=1.0, size_px=32, batch_size=6),), accumulate=3)
    )
    fit(stage, config(log_every=1)[0].model_copy(update={"mask": section}), section, tmp_path, quiet=True)
    whole = to_float(Different().batch(0, 6, 32), torch.device("cpu"))["photo"]
    assert torch.equal(torch.cat(seen), whole) and [len(part) for part in seen] == [2, 2, 2]


def test_jointly_trained_stage_1_has_its_own_rate_and_files(tmp_path: Path) -> None:
    stage = with_stage1()
    before = stage.stage1.network.bias.detach().clone()
    fit(stage, *config(steps=1), tmp_path, quiet=True)
    moved = (stage.stage1.network.bias - before).abs()
    rate = 2e-3 / 3  # the first step of a warm-up of three
    assert moved.max().item() == pytest.approx(0.5 * rate, rel=1e-2), "Adam's first step is the rate"
    weights, metadata = load_weights(tmp_path / "best_stage1.safetensors")
    assert metadata["network"] == "tinier" and metadata["step"] == 1 and weights.keys() == {"weight", "bias"}
    assert torch.equal(weights["weight"], load_state(tmp_path / "last.pt")["stage1_ema"]["weight"])
    assert load_weights(tmp_path / "last_stage1.safetensors")[0].keys() == weights.keys()
    assert load_weights(tmp_path / "best.safetensors")[1]["network"] == "tiny"


def test_tensorboard_shows_losses_measures_and_pictures(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = config(steps=8, log_every=2, tensorboard=True)
    stage = TinyStage()
    stage.before_step = lambda step: os.kill(os.getpid(), signal.SIGINT) if step == 5 else None
    with pytest.raises(KeyboardInterrupt):
        fit(stage, *settings, tmp_path, quiet=True)
    resumed = TinyStage()
    next(resumed.scores)
    fit(resumed, *settings, tmp_path, quiet=True)
    events = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"images": 0}).Reload()
    told = {
        (line["step"], k): v for line in lines(tmp_path) for k, v in line.items() if k not in ("step", "validation")
    }
    names = ("lr", "samples_per_s", "l2", "adversarial", "discriminator")
    assert set(events.Tags()["scalars"]) == {f"train/{name}" for name in names} | {"validation/score"}
    for name in names:
        read = {event.step: event.value for event in events.Scalars(f"train/{name}")}
        assert read == {step: pytest.approx(told[step, name], rel=1e-5) for step in (2, 4, 6, 8)}
    assert [(e.step, e.value) for e in events.Scalars("validation/score")] == [(4, 1.0), (8, 3.0)]
    pictures = events.Images("pictures/person_0")
    assert [picture.step for picture in pictures] == [4, 8]
    shown = np.asarray(Image.open(io.BytesIO(pictures[0].encoded_image_string)))
    assert np.array_equal(shown, resumed.pictures(None)["person_0"])


def test_without_tensorboard_nothing_of_it_is_written(tmp_path: Path) -> None:
    fit(TinyStage(), *config(steps=1), tmp_path, quiet=True)
    assert {p.name for p in tmp_path.iterdir()} == {
        "best.safetensors", "config.yaml", "last.pt", "last.safetensors", "log.jsonl",
    }  # fmt: skip


def test_every_network_of_a_stage_goes_to_the_device() -> None:
    """Those that only its losses read, too."""
    stage = with_stage1()
    stage.criterion, stage.parser = nn.Sequential(nn.Linear(2, 2)), nn.Linear(2, 2)
    to_device(stage, torch.device("meta"))
    modules = (stage.network, stage.discriminator, stage.criterion, stage.parser, stage.stage1.network)
    assert {p.device.type for module in modules for p in module.parameters()} == {"meta"}


def test_a_finished_run_is_not_run_again_unless_asked(tmp_path: Path) -> None:
    fit(TinyStage(), *config(steps=4), tmp_path, quiet=True)
    again = TinyStage()
    assert fit(again, *config(steps=4), tmp_path, quiet=True).best_score == 1.0
    assert again.drawn == []
    fresh = TinyStage()
    fit(fresh, *config(steps=4), tmp_path, resume=False, quiet=True)
    assert len(fresh.drawn) == 4
    assert len(lines(tmp_path)) == 1, "the log of the former run is gone"


def test_restarted_run_never_resumes_from_the_previous_state(tmp_path: Path) -> None:
    fit(TinyStage(), *config(steps=4), tmp_path, quiet=True)
    broken = TinyStage()
    broken.before_step = lambda step: 1 / (step != 2)
    with pytest.raises(ZeroDivisionError):
        fit(broken, *config(steps=4, seed=1), tmp_path, resume=False, quiet=True)
    again = TinyStage()
    fit(again, *config(steps=4, seed=1), tmp_path, quiet=True)
    assert len(again.drawn) == 4


def test_generator_and_discriminator_steps_are_separate(tmp_path: Path) -> None:
    """The network's step gives the discriminator no gradient; the discriminator's step changes itself alone."""
    stage = TinyStage()
    seen: dict[str, object] = {}
    loss_of = stage.discriminator_loss

    def watched(batch: dict[str, Tensor], output: Tensor) -> Tensor:
        seen["gradients"] = [p.grad for p in stage.discriminator.parameters()]
        seen["network"] = [p.detach().clone() for p in stage.network.parameters()]
        assert not output.requires_grad
        return loss_of(batch, output)

    stage.discriminator_loss = watched
    before = [p.detach().clone() for p in stage.discriminator.parameters()]
    fit(stage, *config(steps=1), tmp_path, quiet=True)
    assert seen["gradients"] == [None, None]
    assert all(torch.equal(a, b) for a, b in zip(seen["network"], stage.network.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(before, stage.discriminator.parameters(), strict=True))


def test_without_a_discriminator(tmp_path: Path) -> None:
    fit(TinyStage(adversarial=False), *config(steps=4), tmp_path, quiet=True)
    state = load_state(tmp_path / "last.pt")
    assert state["discriminator"] is None and state["adversary"] is None


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path, value: float) -> None:
    stage = TinyStage()
    terms_of = stage.weighted_terms

    def broken(batch: dict[str, Tensor], rng: np.random.Generator) -> tuple[dict[str, Tensor], Tensor]:
        terms, output = terms_of(batch, rng)
        if len(stage.drawn) == 6:
            terms["l2"] = terms["l2"] * value
        return terms, output

    stage.weighted_terms = broken
    with pytest.raises(TrainingError, match=f"mask: the loss is {value}.*'l2': {value}"):
        fit(stage, *config(steps=8), tmp_path, quiet=True)
    state = load_state(tmp_path / "last.pt")
    assert state["step"] == 4, "the last good state is kept"
    assert all(torch.isfinite(v).all() for v in state["network"].values())


def test_folder_of_another_stage_is_rejected(tmp_path: Path) -> None:
    fit(TinyStage(), *config(steps=4), tmp_path, quiet=True)
    other = TinyStage()
    other.name = "content"
    whole, section = config(steps=4)
    both = whole.model_copy(update={"content": section})
    (tmp_path / "config.yaml").unlink()
    with pytest.raises(ConfigError, match="holds a run of mask, not of content: name another folder"):
        fit(other, both, section, tmp_path, quiet=True)


def test_resuming_with_another_network_is_rejected(tmp_path: Path) -> None:
    fit(TinyStage(), *config(steps=4), tmp_path, quiet=True)
    other = TinyStage()
    other.network = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1))
    with pytest.raises(WeightsError, match=r"last\.pt: does not fit this config, so it cannot be resumed"):
        fit(other, *config(steps=8), tmp_path, quiet=True)
    (tmp_path / "last.pt").write_bytes(b"broken")
    with pytest.raises(WeightsError, match=r"last\.pt: not a readable checkpoint"):
        fit(TinyStage(), *config(steps=8), tmp_path, quiet=True)
