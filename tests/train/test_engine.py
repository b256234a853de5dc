"""The training loop: rate, averages, checkpoints, exact resume, and what stops it."""

from __future__ import annotations

import json
import math
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deocclude.data.dataset import to_batch
from deocclude.errors import DeviceError, TrainingError, WeightsError
from deocclude.train.config import Phase, Schedule, StageSection, TrainConfig
from deocclude.train.engine import Ema, StepBatches, choose_device, fit, learning_rate, to_float, use_bfloat16
from deocclude.weights_io import load_state, load_weights


class Numbers:
    """A stream whose batches are known by step, batch size and picture size."""

    def batch(self, index: int, batch_size: int, size_px: int, part: int = 0) -> dict[str, Tensor]:
        rng = np.random.default_rng(index)
        photo = rng.integers(0, 256, (size_px, size_px, 3)).astype(np.uint8)
        return to_batch([{"photo": photo, "visible": photo[..., 0] > 99} for _ in range(batch_size)])


class TinyStage:
    """A stage of two convolutions, with a discriminator and randomness of its own."""

    name = "tiny"

    def __init__(self, *, adversarial: bool = True) -> None:
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 1, 1))
        self.discriminator = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Conv2d(1, 1, 3)))
        self.discriminator = self.discriminator if adversarial else None
        self.stream = Numbers()
        self.scores = iter([1.0, 3.0, 2.0, 2.5])
        self.drawn: list[float] = []
        self.before_step = lambda count: None

    def generator_terms(self, batch: dict[str, Tensor], rng: np.random.Generator) -> tuple[dict[str, Tensor], Tensor]:
        self.before_step(len(self.drawn))
        self.drawn.append(float(rng.random()))
        output = self.network(batch["photo"] * self.drawn[-1]).float()
        terms = {"l2": (output - batch["visible"]).square().mean()}
        if self.discriminator is not None:
            terms["adversarial"] = 0.1 * nn.functional.softplus(-self.discriminator(output)).mean()
        return terms, output.detach()

    def discriminator_loss(self, batch: dict[str, Tensor], output: Tensor) -> Tensor:
        return self.discriminator(output).mean() - self.discriminator(batch["visible"]).mean()

    def validate(self, network: nn.Module) -> dict[str, float]:
        assert not network.training
        return {"score": next(self.scores)}

    def metadata(self) -> dict[str, object]:
        return {"network": "tiny"}


def config(steps: int = 8, **changes: object) -> tuple[TrainConfig, StageSection]:
    schedule = Schedule(steps=steps, phases=(Phase(until=1.0, size_px=32, batch_size=2),), warmup_steps=3)
    section = StageSection(schedule=schedule)
    common = {"device": "cpu", "precision": "float32", "workers": 0, "threads": 1, "validate_every": 4}
    return TrainConfig(**(common | changes)), section


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_learning_rate_by_hand() -> None:
    schedule = Schedule(steps=110, warmup_steps=10, learning_rate=0.2, final_share=0.1)
    assert learning_rate(schedule, 0) == pytest.approx(0.02)
    assert learning_rate(schedule, 4) == pytest.approx(0.1)
    assert learning_rate(schedule, 9) == pytest.approx(0.2)
    assert learning_rate(schedule, 10) == pytest.approx(0.2)
    assert learning_rate(schedule, 60) == pytest.approx(0.2 * (0.1 + 0.9 * 0.5))
    assert learning_rate(schedule, 35) == pytest.approx(0.2 * (0.1 + 0.9 * (1 + math.sqrt(0.5)) / 2))
    assert learning_rate(schedule, 110) == pytest.approx(0.02)
    rates = [learning_rate(schedule, i) for i in range(10, 110)]
    assert rates == sorted(rates, reverse=True)
    assert learning_rate(Schedule(steps=1, warmup_steps=0, learning_rate=0.2), 0) == pytest.approx(0.2)


def test_average_by_hand() -> None:
    network = nn.BatchNorm1d(1)
    ema = Ema(network, decay=0.5)
    with torch.no_grad():
        network.weight.fill_(3.0)
        network.running_mean.fill_(10.0)
        network.num_batches_tracked.fill_(7)
    ema.update(network, step=0)  # decay min(0.5, 1 / 10)
    assert ema.network.weight.item() == pytest.approx(0.1 * 1 + 0.9 * 3)
    assert ema.network.running_mean.item() == pytest.approx(9.0)
    assert ema.network.num_batches_tracked.item() == 7
    ema.update(network, step=1000)  # decay 0.5
    assert ema.network.weight.item() == pytest.approx((2.8 + 3) / 2)
    assert not ema.network.training and not any(p.requires_grad for p in ema.network.parameters())
    assert network.weight.item() == 3.0 and network.weight.requires_grad


@pytest.mark.parametrize("has", [True, False])
def test_auto_computes_in_bfloat16_where_the_cpu_has_it(monkeypatch, has: bool) -> None:
    monkeypatch.setattr("deocclude.train.engine._cpu_has_bfloat16", lambda: has)
    cpu = torch.device("cpu")
    wanted = {p: use_bfloat16(config(precision=p)[0], cpu) for p in ("auto", "bfloat16", "float32")}
    assert wanted == {"auto": has, "bfloat16": True, "float32": False}


def test_phases_decide_size_and_number() -> None:
    phases = (Phase(until=0.5, size_px=32, batch_size=3), Phase(until=1.0, size_px=64, batch_size=1))
    batches = StepBatches(Numbers(), Schedule(steps=5, phases=phases))
    assert len(batches) == 5
    shapes = [tuple(batches[i]["photo"].shape) for i in range(5)]
    assert shapes == [(3, 3, 32, 32)] * 3 + [(1, 3, 64, 64)] * 2


def test_bytes_to_numbers() -> None:
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


def test_a_run_leaves_its_best_weights_a_log_and_a_state(tmp_path: Path) -> None:
    stage = TinyStage()
    outcome = fit(stage, *config(steps=12), tmp_path, quiet=True)
    assert (outcome.steps, outcome.best_score) == (12, 3.0)
    weights, metadata = load_weights(outcome.best_weights)
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


@pytest.mark.parametrize("workers", [0, 1])
def test_an_interrupted_run_ends_with_the_same_weights(tmp_path: Path, workers: int) -> None:
    """Ctrl-C in the middle of step 5 (of 0..9): that step is finished, saved, and the next run goes on with step 6."""
    straight = TinyStage()
    fit(straight, *config(steps=10, workers=workers), tmp_path / "straight", quiet=True)
    broken = TinyStage()
    broken.before_step = lambda step: os.kill(os.getpid(), signal.SIGINT) if step == 5 else None
    with pytest.raises(KeyboardInterrupt):
        fit(broken, *config(steps=10, workers=workers), tmp_path / "broken", quiet=True)
    assert load_state(tmp_path / "broken" / "last.pt")["step"] == 6
    resumed = TinyStage()
    next(resumed.scores)  # the first validation has been
    fit(resumed, *config(steps=10, workers=workers), tmp_path / "broken", quiet=True)
    assert straight.drawn == broken.drawn + resumed.drawn
    first, second = (load_state(tmp_path / name / "last.pt") for name in ("straight", "broken"))
    for part in ("network", "ema", "discriminator"):
        for key, value in first[part].items():
            assert torch.equal(value, second[part][key]), (part, key)
    assert (second["step"], second["best"]) == (10, first["best"])
    assert len(lines(tmp_path / "broken")) == len(lines(tmp_path / "straight"))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_finished_run_is_not_run_again_unless_asked(tmp_path: Path) -> None:
    fit(TinyStage(), *config(steps=4), tmp_path, quiet=True)
    again = TinyStage()
    assert fit(again, *config(steps=4), tmp_path, quiet=True).best_score == 1.0
    assert again.drawn == []
    fresh = TinyStage()
    fit(fresh, *config(steps=4), tmp_path, resume=False, quiet=True)
    assert len(fresh.drawn) == 4
    assert len(lines(tmp_path)) == 1, "the log of the former run is gone"


def test_steps_leave_the_other_network_alone(tmp_path: Path) -> None:
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
    terms_of = stage.generator_terms

    def broken(batch: dict[str, Tensor], rng: np.random.Generator) -> tuple[dict[str, Tensor], Tensor]:
        terms, output = terms_of(batch, rng)
        if len(stage.drawn) == 6:
            terms["l2"] = terms["l2"] * value
        return terms, output

    stage.generator_terms = broken
    with pytest.raises(TrainingError, match=f"tiny: the loss is {value}.*'l2': {value}"):
        fit(stage, *config(steps=8), tmp_path, quiet=True)
    state = load_state(tmp_path / "last.pt")
    assert state["step"] == 4, "the last good state is kept"
    assert all(torch.isfinite(v).all() for v in state["network"].values())


def test_a_state_that_does_not_fit_is_named(tmp_path: Path) -> None:
    fit(TinyStage(), *config(steps=4), tmp_path, quiet=True)
    other = TinyStage()
    other.network = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1))
    with pytest.raises(WeightsError, match=r"last\.pt: does not fit this config, so it cannot be resumed"):
        fit(other, *config(steps=8), tmp_path, quiet=True)
    (tmp_path / "last.pt").write_bytes(b"broken")
    with pytest.raises(WeightsError, match=r"last\.pt: not a readable checkpoint"):
        fit(TinyStage(), *config(steps=8), tmp_path, quiet=True)
