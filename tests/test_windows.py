"""Timing: windows of work with a known rate, summaries of samples, and the age of a process."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from skips import needs_system

from ganzoo.machine import timing
from ganzoo.machine.timing import measure_windows, summary

CPU = torch.device("cpu")


class Clock:
    """A clock that advances only by work."""

    def __init__(self):
        self.now = 100.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timing.time, "perf_counter", clock.perf_counter)
    return clock


def test_a_steady_rate_is_reported_as_it_is(clock):
    calls = []

    def work(steps):
        calls.append(steps)
        clock.now += steps * 0.01
        return steps * 64

    found = measure_windows(work, seconds=5, device=CPU)
    assert found.steady
    assert found.first_step_seconds == pytest.approx(0.01)
    assert found.steps == [100] * 5, "five windows of a second each"
    assert found.images == [6400] * 5
    assert found.seconds == pytest.approx([1.0] * 5)
    assert found.warmup_steps == sum(calls) - 500
    assert found.warmup_seconds == pytest.approx(found.warmup_steps * 0.01)


def test_warmup_is_excluded_from_the_windows(clock):
    done = 0

    def work(steps):
        nonlocal done
        for _ in range(steps):
            clock.now += 2.0 if done == 0 else 0.05 if done < 20 else 0.01
            done += 1
        return steps

    found = measure_windows(work, seconds=10, device=CPU)
    assert found.first_step_seconds == pytest.approx(2.0)
    assert found.steady
    assert found.warmup_steps > 20
    assert [steps / seconds for steps, seconds in zip(found.steps, found.seconds, strict=True)] == pytest.approx(
        [100.0] * 5
    )


def test_unsteady_rate_is_measured_and_flagged(clock):
    speeds = iter(np.random.default_rng(0).uniform(0.005, 0.05, 100_000))

    def work(steps):
        clock.now += sum(next(speeds) for _ in range(steps)) if steps < 5 else steps * next(speeds)
        return steps

    found = measure_windows(work, seconds=3, device=CPU)
    assert not found.steady
    assert 3 <= found.warmup_seconds < 6


def test_windows_hold_whole_cycles_and_exclude_time_at_the_edges(clock):
    edges = []

    calls = []

    def work(steps):
        calls.append(steps)
        assert steps % 16 == 0 or len(calls) == 1, "but for the first step, which is timed alone"
        clock.now += steps * 0.01
        return steps

    def at_edge():
        edges.append(clock.now)
        clock.now += 7

    found = measure_windows(work, seconds=1, device=CPU, cycle=16, at_edge=at_edge)
    assert found.steps == [16] * 5
    assert found.seconds == pytest.approx([0.16] * 5)
    assert len(edges) == 6


def test_windows_use_the_real_clock():
    found = measure_windows(lambda steps: time.sleep(0.002 * steps) or steps, seconds=0.2, device=CPU)
    rates = [steps / seconds for steps, seconds in zip(found.steps, found.seconds, strict=True)]
    assert all(rate < 500 for rate in rates), "sleeping takes at least as long as asked"


def test_a_summary_holds_median_interval_extremes_and_every_sample():
    samples = [101.0, 99.0, 100.0, 102.0, 98.0, 100.5, 99.5]
    told = summary(samples)
    assert told["median"] == statistics.median(samples)
    assert (told["min"], told["max"]) == (98.0, 102.0)
    assert told["min"] <= told["low"] <= told["median"] <= told["high"] <= told["max"]
    assert told["samples"] == samples
    assert told["outliers"] == []
    assert told == summary(samples), "the resamples are seeded"


def test_interval_covers_the_true_median_at_its_nominal_rate():
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(200):
        told = summary(rng.normal(100, 5, 25))
        hits += told["low"] <= 100 <= told["high"]
    assert 0.88 <= hits / 200 <= 1.0


def test_an_outlier_is_marked_and_kept():
    told = summary([100.0, 101.0, 99.0, 100.0, 20.0])
    assert told["outliers"] == [4]
    assert told["samples"][4] == told["min"] == 20.0


def test_equal_samples_have_no_outlier_and_no_width():
    told = summary([3.0] * 5)
    assert (told["low"], told["high"], told["outliers"]) == (3.0, 3.0, [])


AGE = """
import time
from ganzoo.running.speed import process_seconds
print(time.monotonic(), process_seconds(), time.monotonic())
"""


@needs_system(sys.platform == "linux", "the clocks are those of Linux")
def test_process_age_is_the_time_since_its_start():
    """The process begins during its start; its age is read between two looks at the clock that all processes share."""
    before = time.monotonic()
    with subprocess.Popen([sys.executable, "-c", AGE], stdout=subprocess.PIPE, text=True) as process:
        after = time.monotonic()
        earlier, age, later = map(float, process.communicate()[0].split())
    tick = 0.01
    assert earlier - after - tick < age < later - before + 2 * tick
