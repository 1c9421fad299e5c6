"""Bootstrap intervals against their definition, in Python integers, and against golden numbers."""

from __future__ import annotations

import itertools
import math
import statistics
import tracemalloc

import numpy as np
import pytest

from ganzoo.machine.timing import summary
from ganzoo.util.bootstrap import CONFIDENCE, INTERVAL, RESAMPLES, draw_places, median_interval, seeded_stream
from ganzoo.util.significance import difference_interval, rate_ratio_interval

RATES = [2431.5, 2390.25, 2502.0, 2455.75, 2210.125, 2377.0, 2488.5, 2401.75]
SCORES = [10.0, 11.5, 12.0, 14.0], [8.0, 9.0, 12.5]
RUNS = [RATES[:3], RATES[3:6]], [RATES[4:]]


def raw_output(seed=0):
    """PCG64 (O'Neill 2014): the state is multiplied and added to, its halves are xored and rotated by its top bits."""
    state = np.random.PCG64(seed).state["state"]
    value, increment = state["state"], state["inc"]
    while True:
        value = (value * 0x2360ED051FC65DA44385DF649FCCF645 + increment) % 2**128
        folded, turn = (value >> 64) ^ (value % 2**64), value >> 122
        yield (folded >> turn | folded << (64 - turn)) % 2**64


def resample(outputs, sample):
    return [sample[(next(outputs) >> 32) * len(sample) >> 32] for _ in sample]


def percentile_interval(figures):
    """The 2.5th and 97.5th percentile of 2000 figures, linearly interpolated."""
    ordered = sorted(figures)
    between = []
    for share in (0.025, 0.975):
        place = share * (len(ordered) - 1)
        below = math.floor(place)
        between.append(ordered[below] + (place - below) * (ordered[below + 1] - ordered[below]))
    return tuple(between)


def test_raw_stream_equals_numpy_pcg64():
    assert list(itertools.islice(raw_output(), 3)) == [0xA30FEBCFD9C2825F, 0x4510BDF882D9D721, 0x0A7D3DA94ECDE8B8]
    assert seeded_stream().random_raw(3).tolist() == [0xA30FEBCFD9C2825F, 0x4510BDF882D9D721, 0x0A7D3DA94ECDE8B8]
    assert (INTERVAL, RESAMPLES, CONFIDENCE) == ("bootstrap-2000-pcg64-raw", 2000, 0.95)


def test_resample_index_is_the_upper_half_of_a_raw_output():
    outputs = raw_output()
    wanted = [[(next(outputs) >> 32) * 7 >> 32 for _ in range(5)] for _ in range(40)]
    assert draw_places(seeded_stream(), 7, (40, 5)).tolist() == wanted
    assert {place for row in wanted for place in row} == set(range(7))


def test_bootstrap_interval_of_a_median_is_that_of_2000_resamples():
    outputs = raw_output()
    wanted = percentile_interval([statistics.median(resample(outputs, RATES)) for _ in range(2000)])
    assert median_interval(np.array(RATES)) == pytest.approx(wanted, rel=1e-12)
    told = summary(RATES)
    assert (told["low"], told["high"], told["interval"]) == (*median_interval(np.array(RATES)), INTERVAL)


def test_blocks_of_resamples_give_the_numbers_of_all_at_once(monkeypatch):
    sample, runs = np.sort(np.random.default_rng(0).random(70)), ([RATES] * 3, [RATES[:4]] * 5)

    def intervals():
        return median_interval(sample), difference_interval(sample, sample[:9]), rate_ratio_interval(*runs)

    wanted = intervals()
    for block in (1, 69, 71, 1000):
        monkeypatch.setattr("ganzoo.util.bootstrap.BLOCK", block)
        assert intervals() == wanted


def test_a_large_sample_takes_little_memory():
    tracemalloc.start()
    median_interval(np.ones(10_000))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 100 << 20


def test_the_interval_of_a_difference_is_that_of_2000_resamples_of_each_side():
    outputs = raw_output()
    means = [[statistics.fmean(resample(outputs, side)) for _ in range(2000)] for side in SCORES]
    wanted = percentile_interval([one - other for one, other in zip(*means, strict=True)])
    assert difference_interval(*SCORES) == pytest.approx(wanted, rel=1e-12)


def resample_runs_and_windows(outputs, runs):
    """Draw runs with replacement 2000 times, then for each run the windows at every place where it was drawn."""
    chosen = [resample(outputs, range(len(runs))) for _ in range(2000)]
    medians = [[0.0] * len(runs) for _ in chosen]
    for index, windows in enumerate(runs):
        for row, column in itertools.product(range(2000), range(len(runs))):
            if chosen[row][column] == index:
                medians[row][column] = statistics.median(resample(outputs, windows))
    return map(statistics.fmean, medians)


def test_the_interval_of_a_ratio_is_that_of_2000_resamples_of_runs_and_their_windows():
    outputs = raw_output()
    first, second = [list(resample_runs_and_windows(outputs, runs)) for runs in RUNS]
    wanted = percentile_interval([one / other for one, other in zip(first, second, strict=True)])
    assert rate_ratio_interval(*RUNS) == pytest.approx(wanted, rel=1e-12)


def test_intervals_are_the_same_on_every_version_of_python_and_numpy():
    """Golden numbers, computed once on Python 3.11 by the functions above, which follow the definition."""
    assert median_interval(np.array(RATES)) == pytest.approx((2377.0, 2488.5), rel=1e-12)
    assert difference_interval(*SCORES) == pytest.approx((-0.625, 4.375), rel=1e-12)
    assert rate_ratio_interval(*RUNS) == pytest.approx((0.9380144164408772, 1.0908793634357032), rel=1e-12)
