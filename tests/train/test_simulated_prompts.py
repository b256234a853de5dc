"""Simulated prompts say the truth, and mostly where stage 1 is wrong."""

from __future__ import annotations

import numpy as np
import pytest

from deocclude.train.simulated_prompts import (
    SimulatedPrompts,
    best_pose,
    jittered_extent,
    largest_error,
    simulate_prompts,
)

SIDE = 128


def person() -> tuple[np.ndarray, ...]:
    """Visible upper half, amodal mask, known everywhere, and a prediction that misses the feet and adds a block."""
    amodal = np.zeros((SIDE, SIDE), bool)
    amodal[20:110, 50:80] = True
    visible = amodal.copy()
    visible[60:] = False
    predicted = amodal.copy()
    predicted[90:] = False
    predicted[60:80, 85:110] = True
    return visible, amodal, np.ones_like(amodal), predicted


@pytest.mark.parametrize("seed", range(12))
def test_marks_are_on_the_side_that_they_name(seed):
    visible, amodal, known, predicted = person()
    maps = simulate_prompts(visible, amodal, known, predicted, np.random.default_rng(seed))
    assert maps.any()
    for mark, region in ((1, amodal & ~visible), (2, ~amodal)):
        marked = maps[mark] > 0
        if marked.any():
            assert (marked & region).sum() > 0.5 * marked.sum()


def test_clicks_correct_stage_1():
    visible, amodal, known, predicted = person()
    always = SimulatedPrompts(p_extent=0, body_clicks=(0, 1.0), background_clicks=(0, 1.0), p_correct=1, p_stroke=0,
                              p_pose=0)  # fmt: skip
    for seed in range(5):
        maps = simulate_prompts(visible, amodal, known, predicted, np.random.default_rng(seed), how=always)
        assert (maps[1] > 0)[90:110, 50:80].any() and not (maps[1] > 0)[:80].any()
        assert (maps[2] > 0)[60:80, 85:110].any() and not maps[0].any() and not maps[3].any()


def test_unknown_truth_gives_no_extent():
    visible, amodal, known, predicted = person()
    known[100:] = False
    for seed in range(8):
        maps = simulate_prompts(visible, amodal, known, predicted, np.random.default_rng(seed))
        assert not maps[0].any()


def test_nobody_gives_no_prompt():
    visible, _, known, predicted = person()
    assert not simulate_prompts(visible & False, visible & False, known, predicted, np.random.default_rng(0)).any()


def test_extent_stays_at_the_border_of_the_crop():
    amodal = np.zeros((SIDE, SIDE), bool)
    amodal[30:, 40:90] = True
    for seed in range(5):
        x0, y0, x1, y1 = jittered_extent(amodal, np.random.default_rng(seed), 0.02)
        assert y1 == SIDE and abs(x0 - 40) < 10 and abs(y0 - 30) < 10 and abs(x1 - 90) < 10
    assert jittered_extent(amodal, np.random.default_rng(0), 0.0) == (40, 30, 90, SIDE)


def test_extent_of_a_thin_body_keeps_its_edges_in_order():
    amodal = np.zeros((SIDE, SIDE), bool)
    amodal[10:120, 60:62] = True
    boxes = [jittered_extent(amodal, np.random.default_rng(seed), 0.02) for seed in range(30)]
    assert all(x0 < x1 and y0 < y1 for x0, y0, x1, y1 in boxes)


def test_largest_error_is_clicked_in_its_middle():
    error = np.zeros((SIDE, SIDE), bool)
    error[10:16, 10:16] = True
    error[60:100, 30:70] = True
    x, y = largest_error(error)
    assert abs(x - 50) <= 1.5 and abs(y - 80) <= 1.5
    assert largest_error(error & False) is None
    assert largest_error(np.eye(SIDE, dtype=bool)[:, :2] > 2) is None


def test_best_pose_fits_best():
    _, amodal, _, _ = person()
    poses = [np.roll(amodal, shift, 1).astype(np.float32) for shift in (40, 3, -30)]
    assert best_pose(poses, amodal) is not None
    np.testing.assert_array_equal(best_pose(poses, amodal), poses[1])
