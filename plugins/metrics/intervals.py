"""95 % intervals of scores, from what is known of their variance over draws of the images."""

from __future__ import annotations

import math
import statistics

import ganzoo

NORMAL = statistics.NormalDist().inv_cdf(0.975)
"""Standard deviations from the mean to an end of the interval."""


def normal_interval(value: float, variance: float, std: float | None = None) -> ganzoo.Estimate:
    """A value with the interval of a normal distribution of that variance; one below 0 is an estimate of 0."""
    reach = NORMAL * math.sqrt(max(variance, 0.0))
    return ganzoo.Estimate(value, value - reach, value + reach, std)


def disjoint_interval(value: float, std: float, parts: int) -> ganzoo.Estimate:
    """The mean over `parts` disjoint parts of a sample, whose deviation is `std` (divisor `parts`), by Student's t."""
    from scipy.special import stdtrit

    reach = float(stdtrit(parts - 1, 0.975)) * std / math.sqrt(parts - 1) if parts > 1 else math.nan
    return ganzoo.Estimate(value, value - reach, value + reach, std)
