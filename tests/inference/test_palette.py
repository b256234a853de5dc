"""Predicted colours moved to the body's palette: towards the likeliest part, and only in the hidden region."""

import numpy as np
import pytest

from deocclude.inference.palette import pull_to_palette

S = 64
ORANGE, BLUE, GREY = (220, 100, 40), (30, 40, 160), (125, 82, 98)
UPPER, LOWER = 6, 9


def parsing(upper, lower):
    """(12, 16, 16) float32: two parts, as likely everywhere as given."""
    parts = np.zeros((12, S // 4, S // 4), np.float32)
    parts[UPPER], parts[LOWER] = upper, lower
    return parts


def body():
    """An orange upper and a blue lower half, hidden in the middle, where the guess is grey: guess, visible, amodal,
    visible parsing."""
    guess = np.zeros((S, S, 3), np.uint8)
    guess[: S // 2], guess[S // 2 :] = ORANGE, BLUE
    guess += np.random.default_rng(0).integers(0, 12, guess.shape, dtype=np.uint8)
    visible = np.ones((S, S), bool)
    visible[24:40] = False
    guess[~visible] = GREY
    rows = np.arange(S // 4)[:, None] + np.zeros((1, S // 4))
    return guess, visible, np.ones((S, S), bool), parsing(rows < S // 8, rows >= S // 8)


@pytest.mark.parametrize(("upper", "wanted"), [(0.95, ORANGE), (0.05, BLUE)])
def test_grey_prediction_takes_the_colour_of_the_likeliest_part(upper, wanted):
    guess, visible, amodal, seen = body()
    drawn = pull_to_palette(guess, visible, amodal, seen, parsing(upper, 1 - upper))
    middle = drawn[28:36].reshape(-1, 3).mean(0)
    assert np.abs(middle - wanted).max() < 0.4 * np.abs(np.subtract(GREY, wanted)).max()
    np.testing.assert_array_equal(drawn[visible], guess[visible])


def test_prediction_in_a_body_colour_is_kept():
    guess, visible, amodal, seen = body()
    guess[~visible] = np.add(ORANGE, 6)
    drawn = pull_to_palette(guess, visible, amodal, seen, parsing(0.95, 0.05))
    assert np.abs(drawn[~visible].astype(int) - guess[~visible]).max() <= 8


@pytest.mark.parametrize("seen_px", [0, 1, 8])
def test_prediction_is_kept_when_hardly_anything_is_visible(seen_px):
    guess, _, amodal, seen = body()
    visible = np.zeros((S, S), bool)
    visible[:1, :seen_px] = True
    np.testing.assert_array_equal(pull_to_palette(guess, visible, amodal, seen, seen), guess)


def test_unknown_parts_take_the_single_body_colour():
    guess, visible, amodal, _ = body()
    guess[visible] = ORANGE
    nothing = np.zeros((12, S // 4, S // 4), np.float32)
    with np.errstate(all="raise", under="ignore"):
        drawn = pull_to_palette(guess, visible, amodal, nothing, nothing)
    assert np.abs(drawn[28:36].astype(int) - ORANGE).max() <= 2
