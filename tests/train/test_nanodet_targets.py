"""NanoDet's targets and losses on cells that can be counted by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from deocclude.models.nanodet import NanoDetOutput
from deocclude.people.box_decoding import STRIDES, decode_distances
from deocclude.train.nanodet_targets import NanoDetCriterion, assign, cell_middles

SIZE = 128
BINS = 11
LOSSES = dict.fromkeys(NanoDetCriterion.TERMS, 1.0)
CELLS = [(SIZE // stride, SIZE // stride) for stride in STRIDES]
MIDDLES, OF_STRIDE = cell_middles(CELLS, torch.device("cpu"))


def boxes(*rows: tuple[float, float, float, float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


def output_of(box: tuple[float, float, float, float], logit: float = 6.0) -> NanoDetOutput:
    """An output whose every cell predicts `box`; distances that a bin cannot hold are cut at the last one."""
    logits, distances = [], []
    for number, (h, w) in enumerate(CELLS):
        stride = STRIDES[number]
        x, y = MIDDLES[stride == OF_STRIDE].T
        edges = torch.stack([x - box[0], y - box[1], box[2] - x, box[3] - y]) / stride  # (4, h * w)
        edges = edges.clamp(0, BINS - 1.001)
        left = edges.floor()
        share = torch.zeros(4, BINS, h * w)
        share.scatter_(1, left[:, None].long(), (left + 1 - edges)[:, None])
        share.scatter_(1, left[:, None].long() + 1, (edges - left)[:, None])
        distances.append((share + 1e-9).log().reshape(1, 4 * BINS, h, w))
        logits.append(torch.full((1, 1, h, w), logit))
    return NanoDetOutput(tuple(logits), tuple(distances))


def terms_of(output: NanoDetOutput, *rows: tuple[float, float, float, float], ignore: Tensor | None = None) -> dict:
    padded = torch.cat([boxes(*rows), torch.zeros(2, 4)])[None]
    unknown = torch.zeros(1, 1, SIZE, SIZE) if ignore is None else ignore
    return {name: value.item() for name, value in NanoDetCriterion(LOSSES)(output, padded, unknown).items()}


def test_cells_lie_at_the_middles_that_decoding_uses() -> None:
    assert MIDDLES[0].tolist() == [4, 4] and MIDDLES[1].tolist() == [12, 4] and MIDDLES[16].tolist() == [4, 12]
    assert len(MIDDLES) == sum(h * w for h, w in CELLS) and OF_STRIDE[-1] == 32
    output = output_of((40, 24, 88, 104))
    maps = {f"scores_{s}": torch.sigmoid(o).numpy() for s, o in zip(STRIDES, output.logits, strict=True)}
    maps |= {f"distances_{s}": o.numpy() for s, o in zip(STRIDES, output.distances, strict=True)}
    found, _ = decode_distances(maps, 0.5)
    inside = (abs(found - torch.tensor([40.0, 24, 88, 104]).numpy()) < 0.2).all(1)
    assert inside.sum() >= 12, "cells within the box decode to it"


def test_assigned_cells_lie_in_the_box_at_the_stride_that_fits_it() -> None:
    small, large = (40.0, 40.0, 80.0, 80.0), (0.0, 0.0, 128.0, 128.0)
    rows = assign(boxes(small), MIDDLES, OF_STRIDE)
    assert set(OF_STRIDE[rows == 0].tolist()) == {8.0}, "a square of 5 cells of 8 px is the box"
    assert all(40 < x < 80 and 40 < y < 80 for x, y in MIDDLES[rows == 0].tolist())
    rows = assign(boxes(large), MIDDLES, OF_STRIDE)
    assert set(OF_STRIDE[rows == 0].tolist()) == {32.0}


def test_cell_of_two_people_goes_to_the_better_fit_and_none_without_people() -> None:
    rows = assign(boxes((40, 40, 80, 80), (36, 20, 84, 124)), MIDDLES, OF_STRIDE)
    assert {0, 1} <= set(rows.tolist())
    alone = assign(boxes((40, 40, 80, 80)), MIDDLES, OF_STRIDE)
    assert torch.equal(rows == 0, alone == 0), "the larger person takes no cell of the smaller"
    assert (assign(boxes(), MIDDLES, OF_STRIDE) == -1).all()


def test_perfect_boxes_cost_nothing_and_shifted_ones_do() -> None:
    box = (40.0, 24.0, 88.0, 104.0)
    right, wrong = terms_of(output_of(box), box), terms_of(output_of((48.0, 24.0, 96.0, 104.0)), box)
    assert right["box"] < 0.01
    # intersection over union 40 / 56, and the hull is the union's box: no further loss
    assert wrong["box"] == pytest.approx(1 - 40 / 56, abs=0.02)
    assert right["distribution"] < wrong["distribution"]


def test_score_follows_the_overlap_of_the_predicted_box() -> None:
    box = (40.0, 24.0, 88.0, 104.0)
    sure = terms_of(output_of(box, 0.0), box)["score"]
    cells = (assign(boxes(box), MIDDLES, OF_STRIDE) >= 0).sum().item()
    # at probability 0.5 every cell, of a perfect box and of background alike, costs log 2 times 0.25
    assert sure == pytest.approx(len(MIDDLES) * math.log(2) * 0.25 / cells, rel=0.01)


def test_ignored_cells_cost_nothing_unless_assigned() -> None:
    box = (40.0, 24.0, 88.0, 104.0)
    everywhere = torch.ones(1, 1, SIZE, SIZE)
    ignored = terms_of(output_of(box, 0.0), box, ignore=everywhere)
    assert ignored["score"] == pytest.approx(math.log(2) * 0.25, rel=0.01), "assigned cells alone"
    assert terms_of(output_of(box), ignore=everywhere) == {"score": 0, "box": 0, "distribution": 0}


def test_photo_of_nobody_trains_scores_alone() -> None:
    output = output_of((0.0, 0.0, 64.0, 64.0), 2.0)
    for maps in output:
        for tensor in maps:
            tensor.requires_grad_(True)
    terms = NanoDetCriterion(LOSSES)(output, torch.zeros(1, 2, 4), torch.zeros(1, 1, SIZE, SIZE))
    sum(terms.values()).backward()
    assert terms["score"] > 1 and terms["box"] == 0
    assert all(t.grad is not None and t.grad.abs().sum() > 0 for t in output.logits)
    assert all(t.grad is None or not t.grad.any() for t in output.distances)
