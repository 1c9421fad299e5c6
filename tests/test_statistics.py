"""Tests, corrections, intervals and ranks against closed forms, worked examples and enumeration."""

from __future__ import annotations

import itertools
import math
import statistics

import numpy as np
import pytest

from ganzoo.statistics import MOST_RANKED, difference_interval, holm, ranks, rate_ratio_interval, welch_p


def test_welch_has_the_closed_form_for_two_and_four_degrees_of_freedom():
    # Means 1 and 6, variances 2 and 2, two values each: t = -5 / sqrt(2), exactly two degrees of freedom.
    t = 5 / math.sqrt(2)
    assert welch_p([0.0, 2.0], [5.0, 7.0]) == pytest.approx(1 - t / math.sqrt(2 + t**2), rel=1e-12)
    # Means 2 and 4, variances 1 and 1, three values each: t = -2 / sqrt(2/3), four degrees.
    t = 2 / math.sqrt(2 / 3)
    root = t / math.sqrt(4 + t**2)
    assert welch_p([1.0, 2.0, 3.0], [3.0, 4.0, 5.0]) == pytest.approx(1 - 1.5 * root + 0.5 * root**3, rel=1e-12)


def student_p(t: float, degrees: float, steps: int = 200_000) -> float:
    """Both tails of Student's distribution, by Simpson's rule on its density."""
    constant = math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(degrees * math.pi)
    places = np.linspace(0, abs(t), steps + 1)
    density = constant * (1 + places**2 / degrees) ** (-(degrees + 1) / 2)
    weights = np.ones(steps + 1)
    weights[1:-1:2], weights[2:-1:2] = 4, 2
    return 1 - 2 * float((weights * density).sum()) * abs(t) / steps / 3


def test_welch_with_unequal_variances_and_counts_is_the_integral_of_the_density():
    first, second = [23.5, 19.1, 21.7], [18.2, 18.9, 17.5, 18.1, 18.6]
    parts = [statistics.variance(sample) / len(sample) for sample in (first, second)]
    t = (statistics.fmean(first) - statistics.fmean(second)) / math.sqrt(sum(parts))
    degrees = sum(parts) ** 2 / (parts[0] ** 2 / 2 + parts[1] ** 2 / 4)
    assert welch_p(first, second) == pytest.approx(student_p(t, degrees), rel=1e-9)
    assert welch_p(second, first) == welch_p(first, second)


def test_one_value_says_nothing_and_values_without_spread_are_equal_or_not():
    assert welch_p([1.0], [2.0, 3.0]) is None
    assert difference_interval([1.0], [2.0, 3.0]) is None
    assert welch_p([2.0, 2.0], [2.0, 2.0]) == 1.0
    assert welch_p([2.0, 2.0], [3.0, 3.0]) == 0.0


def test_holm_as_worked_by_hand():
    # Sorted: 0.005 x 4, 0.01 x 3, 0.03 x 2, 0.04 x 1, none below the one before it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.7, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def enumerated(first, second):
    """The 95 % interval of the difference of means over every resample there is."""
    means = [
        [statistics.fmean(drawn) for drawn in itertools.product(sample, repeat=len(sample))]
        for sample in (first, second)
    ]
    return np.percentile([one - other for one in means[0] for other in means[1]], (2.5, 97.5))


def test_the_bootstrap_is_that_of_all_resamples():
    assert difference_interval([1.0, 3.0], [0.0, 0.0]) == (1.0, 3.0)
    first, second = [10.0, 11.5, 12.0, 14.0], [8.0, 9.0, 12.5, 9.5]
    low, high = enumerated(first, second)
    found = difference_interval(first, second)
    assert found == pytest.approx((low, high), abs=0.15)
    assert difference_interval(first, second) == found, "seeded"


def test_a_ratio_of_rates_is_resampled_over_runs_and_within_each():
    # Three windows: the median is 1 or 9 in 7 of 27 resamples each.
    assert rate_ratio_interval([[1.0, 2.0, 9.0]], [[2.0, 2.0]]) == (0.5, 4.5)
    # Two runs, of which one does not vary: the first is drawn twice in a quarter of all draws. Its median is 1 twice in
    # 1.7 % of them, 1 and 2 in 6.2 %; with 9 and the other run, in 13 %, the mean is 7, and above only in 5 %.
    assert rate_ratio_interval([[1.0, 2.0, 9.0], [5.0, 5.0, 5.0]], [[2.0, 2.0]]) == (0.75, 3.5)
    # Runs that do not vary in themselves, and differ: 400 and 400, 400 and 600, or 600 and 600.
    assert rate_ratio_interval([[400.0] * 5, [600.0] * 5], [[100.0] * 5]) == (4.0, 6.0)
    assert rate_ratio_interval([[1.0, 2.0, 9.0]], [[2.0, 2.0]], [0.1], [0.2]) == pytest.approx((0.25, 2.25))
    assert rate_ratio_interval([[1.0]], [[2.0, 2.0]]) is None


def test_rows_that_cannot_be_told_apart_share_a_rank():
    best, near, far = [10.0, 10.4, 10.2], [10.3, 10.1, 10.6], [30.0, 30.2, 30.1]
    assert ranks([far, best, near], "lower") == [3, 1, 1]
    assert ranks([far, best, near], "higher") == [1, 2, 2]
    assert ranks([best, [9.0], far], "lower") == [1, None, 2]
    assert ranks([best, [9.0]], "lower") == [None, None]
    # Wide seeds cannot be told from the best, though the narrow ones before them can.
    assert ranks([best, [12.0, 12.1, 12.2], [13.0, 9.0, 25.0]], "lower") == [1, 3, 1]


def test_ranks_are_corrected_for_the_number_of_pairs():
    first, second = [10.0, 10.5, 11.0], [11.4, 11.9, 12.4]
    p_value = welch_p(first, second)
    assert 0.02 < p_value < 0.05
    assert ranks([first, second], "lower") == [1, 2]
    # Three rows are three pairs, and the nearest of them has to be three times as sure.
    assert ranks([first, second, [11.5, 12.0, 12.5]], "lower") == [1, 1, 1]
    assert ranks([[float(index), index + 0.1] for index in range(MOST_RANKED + 1)], "lower") == [None] * 501
