"""Tests, corrections, intervals and what is told apart against closed forms, worked examples and enumeration."""

from __future__ import annotations

import itertools
import math
import statistics
import tracemalloc

import numpy as np
import pytest

from ganzoo.util.significance import (
    MOST_TESTED,
    difference_interval,
    mean_interval,
    not_told_apart,
    rate_ratio_interval,
    welch_p,
)


def test_welch_has_the_closed_form_for_two_and_four_degrees_of_freedom():
    # Means 1 and 6, variances 2 and 2, two values each: t = -5 / sqrt(2), exactly two degrees of freedom.
    t = 5 / math.sqrt(2)
    assert welch_p([0.0, 2.0], [5.0, 7.0]) == pytest.approx(1 - t / math.sqrt(2 + t**2), rel=1e-12)
    # Means 2 and 4, variances 1 and 1, three values each: t = -2 / sqrt(2/3), four degrees.
    t = 2 / math.sqrt(2 / 3)
    root = t / math.sqrt(4 + t**2)
    p_value = pytest.approx(1 - 1.5 * root + 0.5 * root**3, rel=1e-9)
    assert welch_p([0.0, 1.0, 2.0], [2.0, 3.0, 4.0]) == p_value
    # If all values are above zero, the test compares their logarithms.
    assert welch_p([math.exp(x) for x in (1, 2, 3)], [math.exp(x) for x in (3, 4, 5)]) == p_value


def student_p(t: float, degrees: float, steps: int = 200_000) -> float:
    """Two-sided p-value of Student's distribution, by Simpson's rule on its density."""
    constant = math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(degrees * math.pi)
    places = np.linspace(0, abs(t), steps + 1)
    density = constant * (1 + places**2 / degrees) ** (-(degrees + 1) / 2)
    weights = np.ones(steps + 1)
    weights[1:-1:2], weights[2:-1:2] = 4, 2
    return 1 - 2 * float((weights * density).sum()) * abs(t) / steps / 3


def test_welch_p_with_unequal_variances_equals_the_integral_of_the_density():
    scores = [23.5, 19.1, 21.7], [18.2, 18.9, 17.5, 18.1, 18.6]
    first, second = ([math.log(value) for value in sample] for sample in scores)
    parts = [statistics.variance(sample) / len(sample) for sample in (first, second)]
    t = (statistics.fmean(first) - statistics.fmean(second)) / math.sqrt(sum(parts))
    degrees = sum(parts) ** 2 / (parts[0] ** 2 / 2 + parts[1] ** 2 / 4)
    assert welch_p(*scores) == pytest.approx(student_p(t, degrees), rel=1e-9)
    assert welch_p(*scores[::-1]) == welch_p(*scores)


def test_welch_p_of_one_value_is_none_and_without_spread_zero_or_one():
    assert welch_p([1.0], [2.0, 3.0]) is None
    assert difference_interval([1.0], [2.0, 3.0]) is None
    assert welch_p([2.0, 2.0], [2.0, 2.0]) == 1.0
    assert welch_p([2.0, 2.0], [3.0, 3.0]) == 0.0


def exact_interval(first, second):
    """The 95 % interval of the difference of means over all possible resamples."""
    means = [
        [statistics.fmean(drawn) for drawn in itertools.product(sample, repeat=len(sample))]
        for sample in (first, second)
    ]
    return np.percentile([one - other for one in means[0] for other in means[1]], (2.5, 97.5))


def test_bootstrap_interval_equals_that_of_all_resamples():
    assert difference_interval([1.0, 3.0], [0.0, 0.0]) == (1.0, 3.0)
    first, second = [10.0, 11.5, 12.0, 14.0], [8.0, 9.0, 12.5, 9.5]
    low, high = exact_interval(first, second)
    found = difference_interval(first, second)
    assert found == pytest.approx((low, high), abs=0.15)
    assert difference_interval(first, second) == found, "seeded"


def test_ratio_interval_resamples_runs_and_windows():
    # Three windows: the median is 1 or 9 in 7 of 27 resamples each.
    assert rate_ratio_interval([[1.0, 2.0, 9.0]], [[2.0, 2.0]]) == (0.5, 4.5)
    # Two runs, one of which does not vary: the first is drawn twice in a quarter of all draws. Its median is 1 twice in
    # 1.7 % of them, 1 and 2 in 6.2 %; with 9 and the other run, in 13 %, the mean is 7, and above only in 5 %.
    assert rate_ratio_interval([[1.0, 2.0, 9.0], [5.0, 5.0, 5.0]], [[2.0, 2.0]]) == (0.75, 3.5)
    # Two runs without variation inside, which differ: 400 and 400, 400 and 600, or 600 and 600.
    assert rate_ratio_interval([[400.0] * 5, [600.0] * 5], [[100.0] * 5]) == (4.0, 6.0)
    assert rate_ratio_interval([[1.0, 2.0, 9.0]], [[2.0, 2.0]], [0.1], [0.2]) == pytest.approx((0.25, 2.25))
    assert rate_ratio_interval([[1.0]], [[2.0, 2.0]]) is None


def test_an_interval_over_many_runs_takes_little_memory():
    """A hundred runs on either side: memory must not grow with the square of their number."""
    rng = np.random.default_rng(1)
    runs = rng.normal(100, 1, (100, 5)).tolist()
    rate_ratio_interval([[1.0, 2.0]], [[2.0, 2.0]])  # memory of the first call, for imports, does not count
    tracemalloc.start()
    found = rate_ratio_interval(runs, runs)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 20e6
    # Means of a hundred medians that lie about 100: their ratio is 1 within a few parts in a thousand.
    assert found == pytest.approx((0.998, 1.002), abs=0.001)


def test_rows_that_chance_may_set_apart_name_each_other():
    best, near, far = [10.0, 10.4, 10.2], [10.3, 10.1, 10.6], [30.0, 30.2, 30.1]
    assert not_told_apart([far, best, near]) == [(), (2,), (1,)]
    assert not_told_apart([best, [9.0], far]) == [(), None, ()]
    assert not_told_apart([best, [9.0]]) == [None, None]
    # A row that scatters widely is told apart from neither of two that are told apart from each other.
    assert not_told_apart([best, [12.0, 12.1, 12.2], [13.0, 9.0, 25.0]]) == [(2,), (2,), (0, 1)]
    # Ratios count: if the deviation grows with the score, twice the score is still told apart.
    assert not_told_apart([[4.0, 5.0, 6.0], [16.0, 25.0, 34.0], [120.0, 140.0, 170.0]]) == [(), (), ()]
    assert not_told_apart([[0.0, 1.0], [8.0, 9.0], [16.0, 17.0]]) == [(), (), ()], "zero has no logarithm"
    assert not_told_apart([[float(index), index + 0.1] for index in range(MOST_TESTED + 1)]) == [None] * 501


def pairs_by_hand(samples):
    """Benjamini and Hochberg's step-up procedure as their paper has it: the largest i with p(i) <= i q / m."""
    pairs = list(itertools.combinations(range(len(samples)), 2))
    p_values = {pair: welch_p(samples[pair[0]], samples[pair[1]]) for pair in pairs}
    ordered = sorted(pairs, key=p_values.__getitem__)
    real = 0
    for place, pair in enumerate(ordered, 1):
        if p_values[pair] < 0.05 * place / len(pairs):
            real = place
    return set(ordered[real:])


@pytest.mark.parametrize("seed", range(5))
def test_what_is_told_apart_rests_on_the_false_discovery_rate(seed):
    rng = np.random.default_rng(seed)
    samples = [list(5 * (1 + row // 3) * rng.lognormal(0, 0.1, 3)) for row in range(9)]
    # The p-value of a pair depends on the other samples only through whether all are above zero.
    found = not_told_apart(samples)
    alike = {(left, right) for left, others in enumerate(found) for right in others if left < right}
    assert alike == pairs_by_hand(samples)
    assert 0 < len(alike) < 36


@pytest.mark.parametrize(
    ("sample", "low", "high"),
    [
        # t is 4.302653 for two degrees of freedom; the error of the mean is s / sqrt(3).
        (
            [24.0, 26.0, 28.0],
            26 / math.exp(4.302653 * 2 / math.sqrt(3) / 26),
            26 * math.exp(4.302653 * 2 / 3**0.5 / 26),
        ),
        ([-1.0, 0.0, 1.0], -4.302653 / math.sqrt(3), 4.302653 / math.sqrt(3)),
        ([5.0, 5.0], 5.0, 5.0),
    ],
)
def test_interval_of_a_mean_is_students_on_the_logarithm_where_all_are_positive(sample, low, high):
    assert mean_interval(sample) == pytest.approx((low, high), rel=1e-6)


def test_interval_of_a_mean_needs_two_values_and_holds_the_mean():
    assert mean_interval([3.0]) is None
    assert mean_interval([]) is None
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        low, high = mean_interval(list(rng.lognormal(3, 0.2, 3)))
        held += low <= math.exp(3 + 0.02) <= high
    # 95 % of 400 are 380; six standard deviations are 26.
    assert abs(held - 380) < 26
