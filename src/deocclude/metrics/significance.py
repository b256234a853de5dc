"""Statistical significance of paired differences and of proportions: pure functions on numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from deocclude.metrics.bootstrap import bootstrap_means, mean_of_known, percentile_interval


@dataclass(frozen=True)
class PairedDifference:
    """Mean of paired differences with its confidence interval.

    Attributes:
        mean: NaN without pairs.
        low: lower bound of the interval; NaN below two people.
        high: upper bound.
        p_value: two-sided, of a mean of 0; NaN below two people.
        pairs: number of known differences.
        people: number of people with known differences.
    """

    mean: float
    low: float
    high: float
    p_value: float
    pairs: int
    people: int


def paired_bootstrap(
    differences: Sequence[float],
    people: Sequence[str],
    rng: np.random.Generator,
    *,
    level: float = 0.95,
    draws: int = 4000,
) -> PairedDifference:
    """Percentile bootstrap of a mean paired difference, resampling whole people.

    The interval is that of Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13. The p-value is
    the level at which such an interval just reaches 0 (chapter 15): twice the smaller fraction of bootstrap means on
    one side of 0, with the observed mean counted among the draws (Davison and Hinkley 1997, "Bootstrap Methods and
    their Application", section 4.2), so that it is never 0. It is too small with fewer than some tens of people.

    Args:
        differences: one per picture; NaN is left out.
        people: person of each difference.
        rng: of the draws.
        level: confidence level, in (0, 1).
        draws: number of bootstrap samples.

    Raises:
        ValueError: the two sequences differ in length.
    """
    means = bootstrap_means(differences, people, rng, draws=draws)
    known = [(d, person) for d, person in zip(differences, people, strict=True) if not math.isnan(d)]
    mean, known_people = mean_of_known(d for d, _ in known), len({person for _, person in known})
    if known_people < 2:
        return PairedDifference(mean, math.nan, math.nan, math.nan, len(known), known_people)
    low, high = percentile_interval(means, level)
    fewer = min(np.count_nonzero(means <= 0.0), np.count_nonzero(means >= 0.0))
    p_value = min(1.0, 2.0 * (fewer + 1) / (draws + 1))
    return PairedDifference(mean, low, high, p_value, len(known), known_people)


def wilson_interval(successes: int, trials: int, *, level: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a binomial proportion, within [0, 1]; (NaN, NaN) without trials.

    Wilson 1927, "Probable inference, the law of succession, and statistical inference", without continuity correction:
    Newcombe 1998, "Two-sided confidence intervals for the single proportion", method 3.

    Raises:
        ValueError: not 0 <= successes <= trials.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"successes must be 0 to {trials} trials, got {successes}")
    if trials == 0:
        return math.nan, math.nan
    z = NormalDist().inv_cdf((1.0 + level) / 2.0)
    proportion = successes / trials
    centre = proportion + z**2 / (2 * trials)
    half = z * math.sqrt(proportion * (1 - proportion) / trials + (z / (2 * trials)) ** 2)
    low, high = ((centre + sign * half) / (1 + z**2 / trials) for sign in (-1, 1))
    return max(0.0, low), min(1.0, high)
