"""What trains one network: the rate of each step, the average of its weights, its own optimiser."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from deocclude.train.config import Schedule
from deocclude.train.learner import Ema, OptimizedNetwork, learning_rate
from deocclude.train.parallel import join

NAMES = ("network", "optimizer", "ema")


def test_learning_rate_by_hand() -> None:
    schedule = Schedule(steps=110, warmup_steps=10, learning_rate=0.2, min_lr_ratio=0.1)
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


def test_ema_by_hand() -> None:
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


def test_step_clips_scales_and_clears_the_gradient() -> None:
    """Clipped to the schedule's norm, at a share of the rate: Adam's second moment tells what came through."""
    network = nn.Linear(2, 1, bias=False)
    learner = OptimizedNetwork(network, Schedule(steps=1, clip_norm=0.5, weight_decay=0.0), lr_scale=0.1)
    before = network.weight.detach().clone()
    network.weight.grad = torch.tensor([[3.0, 4.0]])
    learner.step(join(torch.device("cpu"))[0], rate=0.2)
    torch.testing.assert_close(before - network.weight, torch.full((1, 2), 0.02))
    moments = learner.optimizer.state[network.weight]
    torch.testing.assert_close(moments["exp_avg"], 0.1 * torch.tensor([[0.3, 0.4]]))
    assert network.weight.grad is None


def test_a_discriminator_is_neither_averaged_nor_clipped() -> None:
    network = nn.Linear(2, 1, bias=False)
    learner = OptimizedNetwork(network, Schedule(steps=1, clip_norm=0.5), betas=(0.5, 0.99), average=False)
    network.weight.grad = torch.tensor([[3.0, 4.0]])
    learner.step(join(torch.device("cpu"))[0], rate=0.2)
    torch.testing.assert_close(learner.optimizer.state[network.weight]["exp_avg"], torch.tensor([[1.5, 2.0]]))
    assert learner.ema is None and learner.state(("discriminator", "adversary", None)).keys() == {
        "discriminator", "adversary",
    }  # fmt: skip


def test_norms_and_biases_are_not_decayed() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    decayed, free = OptimizedNetwork(network, Schedule(steps=1, weight_decay=0.3)).optimizer.param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.3, 0.0)
    assert [p.shape for p in decayed["params"]] == [(2, 1, 3, 3)] and len(free["params"]) == 3


def test_state_without_ema_is_rejected() -> None:
    learner = OptimizedNetwork(nn.Linear(2, 1), Schedule(steps=1))
    state = learner.state(NAMES)
    learner.load_state(NAMES, state)
    with pytest.raises(ValueError, match="the state has no ema"):
        learner.load_state(NAMES, state | {"ema": None})


def test_lr_scales_apply_to_submodules() -> None:
    """Adam's first step is the rate, whatever the gradient."""
    network = nn.Sequential()
    network.trunk, network.head = nn.Linear(1, 1), nn.Linear(1, 1)
    learner = OptimizedNetwork(network, Schedule(steps=1, weight_decay=0.0), lr_scale=0.5, lr_scales={"trunk": 0.1})
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    for p in network.parameters():
        p.grad = torch.ones_like(p)
    learner.step(join(torch.device("cpu"))[0], rate=0.2)
    moved = {name: (before[name] - p).item() for name, p in network.named_parameters()}
    assert moved == pytest.approx({"trunk.weight": 0.01, "trunk.bias": 0.01, "head.weight": 0.1, "head.bias": 0.1})


def test_frozen_parameters_are_not_optimised() -> None:
    network = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    network[0].requires_grad_(False)
    learner = OptimizedNetwork(network, Schedule(steps=1, weight_decay=0.5))
    assert sum(len(group["params"]) for group in learner.optimizer.param_groups) == 2


def test_relative_steps_change_each_channel_by_its_own_size() -> None:
    layer = nn.Linear(3, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[100.0, -100.0, 100.0], [0.01, 0.01, -0.01]]))
        layer.bias.copy_(torch.tensor([0.0, 0.0]))
    before = layer.weight.detach().clone()
    learner = OptimizedNetwork(layer, Schedule(steps=1, relative_steps=True, weight_decay=0.0))
    layer(torch.ones(1, 3)).sum().backward()
    learner.step(join(torch.device("cpu"))[0], rate=0.1)
    # Adam's first step is the rate, here times the root mean square of the row; of zeros times 1/1000
    torch.testing.assert_close(layer.weight - before, torch.tensor([[-10.0] * 3, [-0.001] * 3]), rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(layer.bias.detach(), torch.tensor([-0.0001, -0.0001]), rtol=1e-4, atol=1e-7)


def test_relative_steps_change_a_scalar_by_its_own_size() -> None:
    layer = nn.Module()
    layer.sharpness = nn.Parameter(torch.tensor(2.0))
    learner = OptimizedNetwork(layer, Schedule(steps=1, relative_steps=True, weight_decay=0.0))
    layer.sharpness.square().backward()
    learner.step(join(torch.device("cpu"))[0], rate=0.1)
    assert layer.sharpness.item() == pytest.approx(1.8, abs=1e-4)
