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


def share_interval(value: float, variance: float, count: int) -> ganzoo.Estimate:
    """A share with the interval of Wilson (1927), for as many independent images as would give that variance.

    At most `count`, the number of images that the share is of: so a share of 0 or 1 has an interval too.
    """
    scatter = value * (1 - value)
    # What it would be with one more image of either kind: none is seen in a share of 0 or 1, and there may be some.
    expected = (value * count + 1) * (count - value * count + 1) / (count + 2) ** 2
    images = min(max(expected / variance, 1.0), count) if variance > 0 else count
    square = NORMAL**2 / images
    reach = NORMAL * math.sqrt(scatter / images + square / images / 4)
    low, high = ((value + square / 2 + sign * reach) / (1 + square) for sign in (-1, 1))
    # By rounding an end may lie beyond the value where that is 0 or 1.
    return ganzoo.Estimate(value, min(low, value), max(high, value))
