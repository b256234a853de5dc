"""Means and their bootstrap intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest

from deocclude.metrics import bootstrap


def test_mean_of_known() -> None:
    assert bootstrap.mean_of_known([1.0, math.nan, 3.0]) == 2.0
    assert math.isnan(bootstrap.mean_of_known([math.nan]))


def test_bootstrap_resamples_people_not_records() -> None:
    # Two people, each with equal values: every draw is 0, 0.5 or 1, and the 95 % interval is the whole range.
    values, people = [0.0] * 5 + [1.0] * 5, ["a"] * 5 + ["b"] * 5
    assert bootstrap.bootstrap_interval(values, people, np.random.default_rng(0)) == (0.0, 1.0)
    # The same values as ten people vary less.
    low, high = bootstrap.bootstrap_interval(values, [str(i) for i in range(10)], np.random.default_rng(0))
    assert 0.1 < low < 0.35 and 0.65 < high < 0.9


def test_bootstrap_matches_the_normal_interval_of_many_people() -> None:
    values = np.random.default_rng(1).normal(10.0, 2.0, 400)
    people = [str(i) for i in range(400)]
    low, high = bootstrap.bootstrap_interval(values.tolist(), people, np.random.default_rng(2))
    error = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - error, abs=0.03)
    assert high == pytest.approx(values.mean() + error, abs=0.03)
    assert (low, high) == bootstrap.bootstrap_interval(values.tolist(), people, np.random.default_rng(2))


def test_bootstrap_of_empty_and_nan_values() -> None:
    rng = np.random.default_rng(0)
    assert all(math.isnan(x) for x in bootstrap.bootstrap_interval([], [], rng))
    assert all(math.isnan(x) for x in bootstrap.bootstrap_interval([math.nan], ["a"], rng))
    assert all(math.isnan(x) for x in bootstrap.bootstrap_interval([math.nan, 2.0], ["a", "b"], rng))
    assert all(math.isnan(x) for x in bootstrap.bootstrap_interval([1.0, 2.0], ["a", "a"], rng)), "one person"
    assert bootstrap.bootstrap_interval([math.nan, 2.0, 2.0], ["a", "b", "c"], rng) == (2.0, 2.0)
    with pytest.raises(ValueError, match="2 values and 1 people"):
        bootstrap.bootstrap_interval([1.0, 2.0], ["a"], rng)
