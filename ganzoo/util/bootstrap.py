"""Bootstrap intervals (Efron 1979, the percentile method) that every version of Python and NumPy draws alike.

NumPy promises the raw output of a bit generator for a seed ("Compatibility Guarantee" in the documentation of
`numpy.random.PCG64`), and not what a `Generator` makes of it (NEP 19). So resamples are made from the raw output here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
CONFIDENCE = 0.95

BLOCK = 1 << 20
"""So many numbers are drawn at once, which takes 16 MiB, however large a sample is."""

Statistic = Callable[..., Any]
"""`numpy.mean` or `numpy.median`."""

INTERVAL = "bootstrap-2000-pcg64-raw"
"""What a record calls an interval of `RESAMPLES` resamples drawn as here; another way to draw has another name."""


def seeded_stream() -> np.random.PCG64:
    """The random numbers of one interval, the same ones each time."""
    return np.random.PCG64(0)


def draw_places(stream: np.random.PCG64, count: int, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Places from 0 to `count` - 1, drawn with replacement: `count` times the upper 32 bits of a raw output over 2**32.

    No place is likelier than another by more than 2**-32. `count` is below 2**32.
    """
    raw = stream.random_raw(int(np.prod(shape))).reshape(shape)
    raw >>= np.uint64(32)
    raw *= np.uint64(count)
    raw >>= np.uint64(32)
    return raw.view(np.int64)


def resampled(
    stream: np.random.PCG64, sample: NDArray[np.float64], statistic: Statistic, times: int = RESAMPLES
) -> NDArray[np.float64]:
    """(times,): the `statistic` of as many samples of the same size, drawn from `sample` with replacement."""
    return in_blocks(lambda count: draw_places(stream, len(sample), (count, len(sample))), sample, statistic, times)


def in_blocks(
    draw: Callable[[int], NDArray[np.int64]], sample: NDArray[np.float64], statistic: Statistic, times: int = RESAMPLES
) -> NDArray[np.float64]:
    """As `resampled`, with the places of `count` samples, (count, len(sample)), by `draw(count)`.

    No more than `BLOCK` numbers are drawn at once, unless a single sample has more.
    """
    figures = np.empty(times)
    at_once = max(1, BLOCK // len(sample))
    for start in range(0, times, at_once):
        count = min(at_once, times - start)
        figures[start : start + count] = statistic(sample.take(draw(count)), axis=1)
    return figures


def percentile_interval(figures: NDArray[np.float64]) -> tuple[float, float]:
    """The interval that holds the middle 95 % of the figures of all resamples."""
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(figures, (tail, 100 - tail))
    return float(low), float(high)


def median_interval(samples: NDArray[np.float64]) -> tuple[float, float]:
    """The bootstrap 95 % interval of the median of `samples`."""
    return percentile_interval(resampled(seeded_stream(), samples, np.median))
