"""Means and bootstrap confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from deocclude.metrics.content import FloatArray


def mean_of_known(values: Iterable[float]) -> float:
    """Mean of the values that are not NaN; NaN when there are none."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def bootstrap_interval(
    values: Sequence[float],
    people: Sequence[str],
    rng: np.random.Generator,
    *,
    level: float = 0.95,
    draws: int = 2000,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of `values`, resampling people: see `bootstrap_means`.

    Args:
        values: one per picture; NaN is left out.
        people: person of each value.
        rng: of the draws.
        level: confidence level, in (0, 1).
        draws: number of bootstrap samples.

    Returns:
        Lower and upper bound; (NaN, NaN) with known values of fewer than two people.

    Raises:
        ValueError: the two sequences differ in length.
    """
    means = bootstrap_means(values, people, rng, draws=draws)
    known = {person for value, person in zip(values, people, strict=True) if not math.isnan(value)}
    if len(known) < 2:
        return math.nan, math.nan
    return percentile_interval(means, level)


def percentile_interval(means: FloatArray, level: float) -> tuple[float, float]:
    """The central interval that holds a fraction `level`, in (0, 1), of bootstrap means."""
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return float(low), float(high)


def bootstrap_means(
    values: Sequence[float], people: Sequence[str], rng: np.random.Generator, *, draws: int
) -> FloatArray:
    """Means of bootstrap samples of whole people (cluster bootstrap).

    Pictures of one person are correlated, so that each sample draws people with replacement, with all their values.

    Args:
        values: one per picture; NaN is left out.
        people: person of each value.
        rng: of the draws.
        draws: number of bootstrap samples.

    Returns:
        (draws,) means; (0,) without known values.

    Raises:
        ValueError: the two sequences differ in length.
    """
    if len(values) != len(people):
        raise ValueError(f"expected one person per value, got {len(values)} values and {len(people)} people")
    sums: dict[str, list[float]] = {}
    for value, person in zip(values, people, strict=True):
        if not math.isnan(value):
            total = sums.setdefault(person, [0.0, 0.0])
            total[0] += value
            total[1] += 1.0
    if not sums:
        return np.empty(0)
    by_person = np.array(list(sums.values()))  # (people, 2): sum and count
    drawn = rng.integers(len(by_person), size=(draws, len(by_person)))
    totals: FloatArray = by_person[drawn].sum(axis=1)  # (draws, 2)
    return totals[:, 0] / totals[:, 1]
