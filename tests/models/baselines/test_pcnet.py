"""PCNet-M and PCNet-C: what they learn from, on masks made by hand."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from deocclude.models.baselines.pcnet import (
    PCNetM,
    PCNetMConfig,
    content_targets,
    draw_erasers,
    mask_targets,
    shifted,
)

TINY = (4, 8)


def drawn(batch: dict[str, Tensor], seed: int = 0, **shares: float) -> dict[str, Tensor]:
    return mask_targets(PCNetMConfig(TINY, **shares), batch, np.random.default_rng(seed))


def test_shifted_mask_is_zero_padded() -> None:
    mask = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert shifted(mask, 1, 0).tolist() == [[0, 0], [1, 2]]
    assert shifted(mask, 0, -1).tolist() == [[2, 0], [4, 0]]
    assert shifted(mask, -1, 1).tolist() == [[0, 3], [0, 0]]
    assert not shifted(mask, 2, 0).any() and not shifted(mask, 0, -5).any()


def test_eraser_is_another_person_over_a_part(batch: dict[str, Tensor]) -> None:
    seen = batch["visible"]
    for seed in range(20):
        erasers = draw_erasers(seen, np.random.default_rng(seed))
        for mine, other, eraser in zip(seen, seen.flip(0), erasers, strict=True):
            assert (mine * eraser).any(), "it hides something"
            assert (mine * (1 - eraser)).any(), "and not everything"
            rows, columns = (eraser[0].any(d).sum().item() for d in (1, 0))
            other_rows, other_columns = (other[0].any(d).sum().item() for d in (1, 0))
            assert rows <= other_rows and columns <= other_columns, "it is the other one, cut by the picture's edge"


def test_empty_neighbour_gives_no_eraser(batch: dict[str, Tensor]) -> None:
    seen = batch["visible"].clone()
    seen[1] = 0
    assert not draw_erasers(seen, np.random.default_rng(0)).any()


def test_front_eraser_removes_pixels_and_target_is_the_full_mask(batch: dict[str, Tensor]) -> None:
    target = drawn(batch, p_front=1.0, p_blind=0.0)
    seen, left, front = batch["visible"], target["initial"], target["front"]
    assert torch.equal(left, seen * (1 - front)) and (left.sum((1, 2, 3)) < seen.sum((1, 2, 3))).all()
    assert torch.equal(target["amodal"], seen) and torch.equal(target["visible"], left)


def test_behind_eraser_leaves_input_and_target_unchanged(batch: dict[str, Tensor]) -> None:
    target = drawn(batch, p_front=0.0, p_blind=0.0)
    seen, front = batch["visible"], target["front"]
    assert torch.equal(target["initial"], seen) and torch.equal(target["amodal"], seen)
    assert front.any() and not (front * seen).any()


def test_front_and_behind_cases_follow_p_front(batch: dict[str, Tensor]) -> None:
    taken = 0
    for seed in range(100):
        target = drawn(batch, seed, p_blind=0.0)
        taken += (target["initial"] != batch["visible"]).flatten(1).any(1).sum().item()
    assert 145 <= taken <= 175, "0.8 of 200, and three standard deviations"


def test_blind_case_marks_everything_outside_as_front(batch: dict[str, Tensor]) -> None:
    target = drawn(batch, p_blind=1.0)
    assert torch.equal(target["front"], 1 - target["initial"])


def test_the_truth_is_never_read(batch: dict[str, Tensor]) -> None:
    hidden = batch | {"amodal": torch.full_like(batch["amodal"], torch.nan), "truth": batch["truth"] * torch.nan}
    for target in (drawn(hidden), content_targets(None, hidden, np.random.default_rng(0))):
        assert all(torch.isfinite(target[key]).all() for key in ("initial", "amodal", "visible"))
    assert torch.isfinite(content_targets(None, hidden, np.random.default_rng(0))["truth"]).all()


def test_network_keeps_the_input_and_adds_only_under_the_front_mask(batch: dict[str, Tensor]) -> None:
    torch.manual_seed(0)
    network = PCNetM(PCNetMConfig(TINY)).eval()
    front = torch.zeros_like(batch["initial"])
    front[:, :, 20:] = 1
    output = network(batch["photo"], batch["initial"], front)
    assert torch.equal(torch.sigmoid(output.visible) > 0.5, batch["initial"] > 0)
    elsewhere = (batch["initial"] + front) == 0
    assert (torch.sigmoid(output.amodal)[elsewhere] < 1e-6).all()
    told, blind = (network(batch["photo"], batch["initial"], f).amodal for f in (1 - batch["initial"], None))
    assert torch.equal(told, blind)


def test_pixels_of_the_front_mask_do_not_affect_the_output(batch: dict[str, Tensor]) -> None:
    network = PCNetM(PCNetMConfig(TINY)).eval()
    front = torch.zeros_like(batch["initial"])
    front[:, :, 20:] = 1
    other = torch.where(front > 0, 1 - batch["photo"], batch["photo"])
    one, two = (network(photo, batch["initial"], front).amodal for photo in (batch["photo"], other))
    assert torch.equal(one, two)


def test_content_target_is_the_visible_photo(batch: dict[str, Tensor]) -> None:
    target = content_targets(None, batch, np.random.default_rng(0))
    hidden = target["amodal"] * (1 - target["visible"])
    assert hidden.flatten(1).any(1).all()
    assert torch.equal(target["amodal"], batch["visible"]) and torch.equal(target["truth"], batch["photo"])
