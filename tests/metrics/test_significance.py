"""The paired bootstrap and Wilson's interval: what they say of clear cases, and how often the bootstrap is wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest

from deocclude.metrics.significance import paired_bootstrap, wilson_interval


def people(count: int) -> list[str]:
    return [f"p{i}" for i in range(count)]


def test_paired_bootstrap_of_clear_and_absent_differences() -> None:
    rng = np.random.default_rng(0)
    clear = paired_bootstrap(0.05 + 0.02 * rng.normal(size=40), people(40), rng)
    assert 0.04 < clear.low < clear.mean < clear.high < 0.06
    assert clear.p_value == pytest.approx(2 / 4001)  # the smallest there is
    assert (clear.pairs, clear.people) == (40, 40)
    balanced = paired_bootstrap([0.1, -0.1] * 20, people(40), rng)
    assert balanced.low < 0 < balanced.high and balanced.p_value > 0.8
    equal = paired_bootstrap([0.0] * 40, people(40), rng)
    assert (equal.mean, equal.low, equal.high, equal.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_the_interval_is_about_two_standard_errors() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=200)
    found = paired_bootstrap(values, people(200), rng)
    error = values.std() / math.sqrt(200)
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.06)


def test_interval_and_p_value_agree() -> None:
    rng = np.random.default_rng(2)
    for shift in np.linspace(0, 0.6, 25):
        found = paired_bootstrap(shift + rng.normal(size=30), people(30), rng)
        if not 0.045 < found.p_value < 0.055:
            assert (found.p_value < 0.05) == (not found.low <= 0.0 <= found.high)


def test_images_of_one_person_are_resampled_together() -> None:
    """Ten equal pictures of each person are no more evidence than one."""
    differences = np.random.default_rng(3).normal(0.3, 1.0, size=20)
    once = paired_bootstrap(differences, people(20), np.random.default_rng(4))
    tenfold = paired_bootstrap(np.repeat(differences, 10), np.repeat(people(20), 10), np.random.default_rng(4))
    assert (tenfold.low, tenfold.high, tenfold.p_value) == pytest.approx((once.low, once.high, once.p_value))
    assert (tenfold.pairs, tenfold.people) == (200, 20)


def test_false_positive_rate_matches_the_level() -> None:
    rng = np.random.default_rng(5)
    alarms = sum(paired_bootstrap(rng.normal(size=50), people(50), rng, draws=400).p_value < 0.05 for _ in range(300))
    assert 3 <= alarms <= 33  # 15 expected, a little more with 50 people


def test_single_person_or_nan_gives_no_interval() -> None:
    rng = np.random.default_rng(6)
    one = paired_bootstrap([0.2, 0.4], ["ann", "ann"], rng)
    assert one.mean == pytest.approx(0.3) and one.people == 1
    assert math.isnan(one.low) and math.isnan(one.high) and math.isnan(one.p_value)
    nothing = paired_bootstrap([math.nan], ["ann"], rng)
    assert math.isnan(nothing.mean) and nothing.pairs == 0
    some = paired_bootstrap([0.1, math.nan, 0.3], people(3), rng)
    assert some.mean == pytest.approx(0.2) and (some.pairs, some.people) == (2, 2)
    with pytest.raises(ValueError, match="2 values and 1 people"):
        paired_bootstrap([0.1, 0.2], ["ann"], rng)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval_matches_newcombes_table(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=5e-5)
    mirrored = wilson_interval(trials - successes, trials)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=5e-5)


def test_wilson_interval_of_no_trials_and_invalid_counts() -> None:
    assert all(math.isnan(edge) for edge in wilson_interval(0, 0))
    with pytest.raises(ValueError, match="successes must be 0 to 3 trials, got 4"):
        wilson_interval(4, 3)
