"""Bootstrap intervals (Efron 1979, the percentile method) that every version of Python and NumPy draws alike.

NumPy promises the raw output of a bit generator for a seed ("Compatibility Guarantee" in the documentation of
`numpy.random.PCG64`), and not what a `Generator` makes of it (NEP 19). So resamples are made from the raw output here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
CONFIDENCE = 0.95

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


def resampled(stream: np.random.PCG64, sample: NDArray[np.float64], times: int = RESAMPLES) -> NDArray[np.float64]:
    """(times, len(sample)): as many samples of the same size, drawn from `sample` with replacement."""
    return sample.take(draw_places(stream, len(sample), (times, len(sample))))


def percentile_interval(figures: NDArray[np.float64]) -> tuple[float, float]:
    """The interval that holds the middle 95 % of the figures of all resamples."""
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(figures, (tail, 100 - tail))
    return float(low), float(high)


def median_interval(samples: NDArray[np.float64]) -> tuple[float, float]:
    """The bootstrap 95 % interval of the median of `samples`."""
    return percentile_interval(np.median(resampled(seeded_stream(), samples), axis=1))
