"""Is a difference real? Welch's test, Holm's correction, bootstrap intervals and ranks with ties, on plain numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

Direction = Literal["lower", "higher"]
"""In which direction a figure is better."""

SIGNIFICANT = 0.05
CONFIDENCE = 0.95
RESAMPLES = 2000

MOST_RANKED = 500
"""Beyond so many rows there is no rank: a correction for 125 000 pairs leaves nothing to say."""


def welch_p(first: Sequence[float], second: Sequence[float]) -> float | None:
    """The two-sided p-value of Welch's t-test (Welch 1947) for equal means of two samples of unequal variance.

    None where a sample has fewer than two values: one seed says nothing of the spread.
    """
    if min(len(first), len(second)) < 2:
        return None
    return float(_welch_of_pairs([first, second], np.array([0]), np.array([1]))[0])


def _welch_of_pairs(samples: Sequence[Sequence[float]], left: Any, right: Any) -> Any:
    """The p-values of the pairs `samples[left[i]]` and `samples[right[i]]`, all of two values or more."""
    from scipy.stats import ttest_ind_from_stats

    means = np.array([np.mean(sample) for sample in samples])
    deviations = np.array([np.std(sample, ddof=1) for sample in samples])
    counts = np.array([len(sample) for sample in samples])
    with np.errstate(divide="ignore", invalid="ignore"):
        p_values = ttest_ind_from_stats(
            *(means[left], deviations[left], counts[left]),
            *(means[right], deviations[right], counts[right]),
            equal_var=False,
        ).pvalue
    # Without any spread t is 0/0 or infinite: values that never vary are equal or they are not.
    spread = (deviations[left] > 0) | (deviations[right] > 0)
    return np.where(spread, p_values, np.where(means[left] == means[right], 1.0, 0.0))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number, in their order (Holm 1979); at most 1.

    Rejecting those below a level keeps the chance of any false rejection among them at or below that level.
    """
    ordered = np.argsort(p_values)
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[ordered] = np.minimum(1.0, np.maximum.accumulate(np.asarray(p_values)[ordered] * factors))
    return [float(value) for value in adjusted]


def ranks(samples: Sequence[Sequence[float]], better: Direction) -> list[int | None]:
    """The rank of each sample by its mean, 1 being the best; those that cannot be told apart from the best share it.

    All pairs are tested by Welch's test, the p-values corrected by Holm's method for the number of pairs. The best
    mean leads; every sample whose difference from it is not significant (p >= 0.05) shares its rank. Of the others
    the best mean leads in turn, and its rank is one more than the number of samples ranked before. None for a sample
    of fewer than two values, for all where fewer than two samples are left, and for more than `MOST_RANKED`.
    """
    ranked: list[int | None] = [None] * len(samples)
    able = [index for index, sample in enumerate(samples) if len(sample) >= 2]
    if not 2 <= len(able) <= MOST_RANKED:
        return ranked
    left, right = np.triu_indices(len(able), 1)
    p_values = np.ones((len(able), len(able)))
    p_values[left, right] = holm(_welch_of_pairs([samples[index] for index in able], left, right))
    p_values = np.minimum(p_values, p_values.T)
    sign = 1 if better == "lower" else -1
    waiting = sorted(range(len(able)), key=lambda place: sign * np.mean(samples[able[place]]))
    while waiting:
        leader, rank = waiting[0], len(able) - len(waiting) + 1
        tied = [place for place in waiting if place == leader or p_values[leader, place] >= SIGNIFICANT]
        for place in tied:
            ranked[able[place]] = rank
        waiting = [place for place in waiting if place not in tied]
    return ranked


def difference_interval(first: Sequence[float], second: Sequence[float]) -> tuple[float, float] | None:
    """The bootstrap 95 % interval of mean(first) - mean(second), by percentiles (Efron 1979); seeded.

    None where a sample has fewer than two values.
    """
    if min(len(first), len(second)) < 2:
        return None
    from scipy.stats import bootstrap

    def difference(one: Any, other: Any, axis: int = -1) -> Any:
        return np.mean(one, axis=axis) - np.mean(other, axis=axis)

    interval = bootstrap(
        [np.asarray(sample, dtype=np.float64) for sample in (first, second)],
        difference,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return (float(interval.low), float(interval.high)) if math.isfinite(interval.low + interval.high) else None


def rate_ratio_interval(
    first: Sequence[Sequence[float]],
    second: Sequence[Sequence[float]],
    first_scales: Sequence[float] | None = None,
    second_scales: Sequence[float] | None = None,
) -> tuple[float, float] | None:
    """The bootstrap 95 % interval of the ratio of two rates, from the windows of the runs on each side.

    A side's rate is the mean over its runs of the median of each run's windows, times the run's scale where scales
    are given. Runs are resampled, and in each that is drawn its windows (Davison and Hinkley 1997, 3.8): the machine
    changes between runs, too. None where a run has fewer than two windows.
    """
    if min(len(windows) for windows in (*first, *second)) < 2:
        return None
    rng = np.random.default_rng(0)
    ratios = _resampled_rates(first, first_scales, rng) / _resampled_rates(second, second_scales, rng)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(ratios, (tail, 100 - tail))
    return (float(low), float(high)) if math.isfinite(low + high) else None


def _resampled_rates(runs: Sequence[Sequence[float]], scales: Sequence[float] | None, rng: np.random.Generator) -> Any:
    """`RESAMPLES` rates of one side."""
    count = len(runs)
    medians = np.stack(
        [
            scale * np.median(rng.choice(np.asarray(windows, np.float64), (RESAMPLES, count, len(windows))), axis=-1)
            for windows, scale in zip(runs, scales or [1.0] * count, strict=True)
        ]
    )
    drawn = rng.integers(count, size=(1, RESAMPLES, count))
    return np.take_along_axis(medians, drawn, axis=0)[0].mean(axis=-1)
