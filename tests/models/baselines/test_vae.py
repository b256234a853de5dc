"""The shape prior: its divergence by hand, and that it never reads the photo."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from deocclude.models.baselines.vae import Gaussian, ShapeVae, ShapeVaeConfig, run_vae, vae_targets

TINY = ShapeVaeConfig((4, 8, 8), 6)


def gaussian(mean: float, variance: float) -> Gaussian:
    return Gaussian(torch.full((2, 1), mean), torch.full((2, 1), math.log(variance)))


def test_divergences_by_hand() -> None:
    assert gaussian(0, 1).divergence().item() == 0
    assert gaussian(3, 1).divergence().item() == pytest.approx(4.5)
    assert gaussian(0, 4).divergence().item() == pytest.approx(0.5 * (4 - 1 - math.log(4)))
    # KL(N(1, 1) || N(0, 2)) = (1/2 + 1/2 - 1 + ln 2) / 2
    assert gaussian(1, 1).divergence(gaussian(0, 2)).item() == pytest.approx(0.5 * math.log(2))
    assert gaussian(2, 3).divergence(gaussian(2, 3)).item() == pytest.approx(0)


def test_a_sample_is_mean_and_spread() -> None:
    assert gaussian(2, 9).at(torch.ones(2, 1)).flatten().tolist() == pytest.approx([5, 5])


def test_output_depends_on_the_mask_but_not_the_photo(batch: dict[str, Tensor]) -> None:
    torch.manual_seed(0)
    network = ShapeVae(TINY).eval()
    output = network(batch["photo"], batch["initial"])
    assert torch.equal(output.amodal, network(1 - batch["photo"], batch["initial"]).amodal)
    assert not torch.allclose(output.amodal, network(batch["photo"], batch["initial"].flip(-1)).amodal)
    assert output.amodal.shape == batch["initial"].shape


def test_each_loss_term_reaches_its_branch(batch: dict[str, Tensor]) -> None:
    torch.manual_seed(0)
    network = ShapeVae(TINY)
    whole, seen = network.of_whole.leave.weight, network.of_seen.leave.weight
    reached = {}
    for term in ("whole_ce", "kl", "match"):
        network.zero_grad()
        _, own = run_vae(network, vae_targets(TINY, batch, np.random.default_rng(0)))
        own[term].backward()
        reached[term] = [p.grad is not None and bool(p.grad.any()) for p in (whole, seen, network.enter.weight)]
    assert reached == {"whole_ce": [True, False, True], "kl": [True, False, False], "match": [False, True, False]}


def test_the_same_rng_gives_the_same_noise(batch: dict[str, Tensor]) -> None:
    one, two = (vae_targets(TINY, batch, np.random.default_rng(3))["noise"] for _ in range(2))
    assert torch.equal(one, two) and one.shape == (2, 2, 6)
