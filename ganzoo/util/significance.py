"""Whether differences are statistically significant: Welch's test, intervals, and what is not told apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ganzoo.util.bootstrap import RESAMPLES, draw_places, percentile_interval, resampled, seeded_stream

Direction = Literal["lower", "higher"]
"""In which direction a figure is better."""

SIGNIFICANT = 0.05

MOST_TESTED = 500
"""More samples than this are not told apart: they would take 125 000 pairwise tests, for lists nobody reads."""


def welch_p(first: Sequence[float], second: Sequence[float]) -> float | None:
    """The two-sided p-value of Welch's t-test (Welch 1947) for equal means of two samples of unequal variance.

    Where all values are above zero it is their logarithms that are tested: a score's deviation grows with the score,
    and what matters is by which factor two differ. None where a sample has fewer than two values: one seed says
    nothing of the spread.
    """
    if min(len(first), len(second)) < 2:
        return None
    return float(_welch_of_pairs(_tested([first, second]), np.array([0]), np.array([1]))[0])


def _tested(samples: Sequence[Sequence[float]]) -> Sequence[Sequence[float]]:
    """The values to test: their logarithms if all values are positive."""
    positive = all(value > 0 for sample in samples for value in sample)
    return [[math.log(value) for value in sample] for sample in samples] if positive else samples


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
    # Without any spread t is 0/0 or infinite: then p is 1 for equal means and 0 for others.
    spread = (deviations[left] > 0) | (deviations[right] > 0)
    return np.where(spread, p_values, np.where(means[left] == means[right], 1.0, 0.0))


def not_told_apart(samples: Sequence[Sequence[float]]) -> list[tuple[int, ...] | None]:
    """For each sample the places of the others whose mean only chance may set apart from its own, in their order.

    All pairs are tested as by `welch_p`. Of the differences that are called real 5 % are false at most in the long run
    (Benjamini and Hochberg 1995; for all pairs of means Williams, Jones and Tukey 1999). None for a sample of fewer
    than two values, for all where fewer than two samples are left, and for more than `MOST_TESTED`.
    """
    from scipy.stats import false_discovery_control

    found: list[tuple[int, ...] | None] = [None] * len(samples)
    able = [index for index, sample in enumerate(samples) if len(sample) >= 2]
    if not 2 <= len(able) <= MOST_TESTED:
        return found
    tested = _tested([samples[index] for index in able])
    left, right = np.triu_indices(len(able), 1)
    alike = np.zeros((len(able), len(able)), bool)
    alike[left, right] = false_discovery_control(_welch_of_pairs(tested, left, right)) >= SIGNIFICANT
    for index, others in zip(able, alike | alike.T, strict=True):
        found[index] = tuple(able[place] for place in np.flatnonzero(others))
    return found


def mean_error(sample: Sequence[float]) -> float:
    """Half of the 95 % interval of the mean of two values or more, by Student's t (1908)."""
    from scipy.special import stdtrit

    return float(stdtrit(len(sample) - 1, 0.975)) * float(np.std(sample, ddof=1)) / math.sqrt(len(sample))


def mean_interval(sample: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % interval of the mean by Student's t (1908); None for fewer than two values.

    Where all values are above zero it is taken on the logarithm of the mean, whose deviation is the mean's as a share
    of it (the delta method), so that it does not reach below zero and fits the test of `welch_p`.
    """
    if len(sample) < 2:
        return None
    mean, error = float(np.mean(sample)), mean_error(sample)
    if min(sample) <= 0:
        return mean - error, mean + error
    with np.errstate(over="ignore"):
        factor = float(np.exp(error / mean))
    return mean / factor, mean * factor


def difference_interval(first: Sequence[float], second: Sequence[float]) -> tuple[float, float] | None:
    """The bootstrap 95 % interval of mean(first) - mean(second), by percentiles (Efron 1979).

    None where a sample has fewer than two values.
    """
    if min(len(first), len(second)) < 2:
        return None
    stream = seeded_stream()
    means = [resampled(stream, np.asarray(sample, np.float64), np.mean) for sample in (first, second)]
    low, high = percentile_interval(means[0] - means[1])
    return (low, high) if math.isfinite(low + high) else None


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
    stream = seeded_stream()
    ratios = _resampled_rates(first, first_scales, stream) / _resampled_rates(second, second_scales, stream)
    low, high = percentile_interval(ratios)
    return (low, high) if math.isfinite(low + high) else None


def _resampled_rates(
    runs: Sequence[Sequence[float]], scales: Sequence[float] | None, stream: np.random.PCG64
) -> NDArray[np.float64]:
    """`RESAMPLES` rates of one side. Of each run only as many medians are drawn as the run itself is."""
    drawn = draw_places(stream, len(runs), (RESAMPLES, len(runs)))
    rates = np.empty(drawn.size)
    # The places of each run, in their order: to look for each run's among all takes minutes for thousands.
    order = np.argsort(drawn, axis=None, kind="stable")
    ends = np.cumsum(np.bincount(drawn.ravel(), minlength=len(runs)))
    for windows, scale, places in zip(runs, scales or [1.0] * len(runs), np.split(order, ends[:-1]), strict=True):
        rates[places] = scale * resampled(stream, np.asarray(windows, np.float64), np.median, len(places))
    return rates.reshape(drawn.shape).mean(axis=-1)
