"""Timing: warm up until the rate is steady, then time windows, synchronized only at their edges; their statistics."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ganzoo.machine.settings import synchronize
from ganzoo.runs import Summary
from ganzoo.util.bootstrap import INTERVAL, median_interval

WINDOWS = 5
WINDOW_SECONDS = 1.0
"""Windows shorter than this are marked as short."""

CHUNK_SECONDS = 0.2
STEADY_CHUNKS = 3
STEADY_SPREAD = 0.05
LEAST_WARMUP = 0.2
"""Warm-up ends when the last chunks of at least that length differ by no more than this share of their median, but not
before it took this share of the time that the windows take."""


@dataclass(frozen=True)
class Windows:
    """`images`, `steps` and `seconds` of each window, and the warm-up before them; `steady` says how it ended."""

    images: Sequence[int]
    steps: Sequence[int]
    seconds: Sequence[float]
    first_step_seconds: float
    warmup_seconds: float
    warmup_steps: int
    steady: bool

    @property
    def rates(self) -> list[float]:
        """Images per second of each window."""
        return [images / elapsed for images, elapsed in zip(self.images, self.seconds, strict=True)]


def measure_windows(
    work: Callable[[int], int],
    *,
    seconds: float,
    device: torch.device,
    windows: int = WINDOWS,
    cycle: int = 1,
    least_warmup: int = 3,
    at_edge: Callable[[], None] = lambda: None,
) -> Windows:
    """Time `work(steps) -> images` in `windows` windows, of which `WINDOWS` would take `seconds` in all.

    Steps come in multiples of `cycle`, so that every window is the same mixture of work. Warm-up lasts at least
    `least_warmup` cycles, until the rate is steady, and at most as long as the windows. `at_edge` is called off the
    clock before the first window and after each.
    """
    beginning = time.perf_counter()
    work(1)
    synchronize(device)
    started = time.perf_counter()
    done, chunk, rates = 1, cycle, []
    while True:
        elapsed = _timed(lambda: work(chunk), device)[1]  # noqa: B023
        done += chunk
        rates.append(chunk / elapsed)
        spent = time.perf_counter() - started
        steady = _is_steady(rates[-STEADY_CHUNKS:]) and spent > LEAST_WARMUP * seconds
        if done >= least_warmup * cycle and (steady or spent > seconds):
            break
        chunk = max(cycle, round(CHUNK_SECONDS * rates[-1] / cycle) * cycle)
    rate = statistics.median(rates[-STEADY_CHUNKS:])
    per_window = max(cycle, round(seconds / WINDOWS * rate / cycle) * cycle)
    first, warmup_seconds = started - beginning, time.perf_counter() - beginning
    images, spans = [], []
    at_edge()
    for _ in range(windows):
        shown, elapsed = _timed(lambda: work(per_window), device)
        at_edge()
        images.append(shown)
        spans.append(elapsed)
    return Windows(images, [per_window] * windows, spans, first, warmup_seconds, done, steady)


def _timed(work: Callable[[], int], device: torch.device) -> tuple[int, float]:
    """The result of `work` and the seconds it took, by the device's clock where it has one."""
    if device.type in ("cuda", "xpu"):
        start, end = (torch.Event(device, enable_timing=True) for _ in range(2))
        start.record()
        result = work()
        end.record()
        end.synchronize()
        return result, start.elapsed_time(end) / 1000
    since = time.perf_counter()
    result = work()
    synchronize(device)
    return result, time.perf_counter() - since


def _is_steady(rates: Sequence[float]) -> bool:
    if len(rates) < STEADY_CHUNKS:
        return False
    return max(rates) - min(rates) <= STEADY_SPREAD * statistics.median(rates)


def summary(samples: Sequence[float]) -> Summary:
    """What the samples tell, in their own unit, with all of them.

    `median`; `low` and `high`, the bootstrap 95 % interval of the median; `interval`, how that was drawn; `min` and
    `max`; `outliers`, the places of samples further than 3.5 scaled median absolute deviations from the median
    (Iglewicz and Hoaglin 1993), which are marked and never dropped.
    """
    values = np.asarray(samples, dtype=np.float64)
    median = float(np.median(values))
    low, high = median_interval(values)
    deviations = np.abs(values - median)
    # A spread below 1 % is noise of the clock, whatever its share of the others.
    scale = max(float(np.median(deviations)) / 0.6745, 0.01 * abs(median) / 3.5)
    outliers = np.flatnonzero(deviations > 3.5 * scale).tolist() if len(values) >= WINDOWS and scale else []
    return {
        "median": median,
        "low": low,
        "high": high,
        "interval": INTERVAL,
        "min": float(values.min()),
        "max": float(values.max()),
        "samples": values.tolist(),
        "outliers": outliers,
    }
