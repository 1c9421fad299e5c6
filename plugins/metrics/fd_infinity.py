"""The Fréchet distance for infinitely many fakes (Chong and Forsyth 2020, arXiv:1911.07023)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

import ganzoo
from ganzoo_plugins.metrics.fid import FrechetDistance, spread
from ganzoo_plugins.metrics.intervals import normal_interval
from ganzoo_plugins.metrics.neighbours import all_finite

SIZES = 15
"""Numbers of fakes, evenly spaced (section 4)."""


def settings(n_real: int, n_fake: int) -> Mapping[str, Any]:
    """15 numbers of fakes from a tenth of them to all, each drawn at random without replacement."""
    sizes = np.linspace(max(2, n_fake // 10), n_fake, SIZES).astype(int)
    return {"sizes": [int(size) for size in sizes], "subset_seed": 2020}


def score(
    real: ganzoo.Sample, fake: ganzoo.Sample, settings: Mapping[str, Any]
) -> Mapping[str, float | ganzoo.Estimate | ganzoo.NoScore]:
    """The intercept of a line through the Fréchet distances over 1 / N, N the number of fakes, by least squares.

    Against all real images, whose own number biases it still; fakes are drawn anew for each N. It may be below 0, more
    so where a tenth of the fakes are fewer than the features, since the distance is then no line. In float64. None for
    fewer than 20 images of a side, NaN for features that are not finite. The interval is by the delta method, as of
    `fid`, with the weight that each fake has in the intercept.
    """
    if not all_finite(real, fake):
        return {"fd-infinity": float("nan")}
    if min(len(real.features), len(fake.features)) < 20:
        return {"fd-infinity": ganzoo.NoScore("a side has fewer than 20 images")}
    of_real = real.statistics()
    features = fake.features.to(of_real[0].device)
    chosen = subsets(settings["sizes"], len(features), settings["subset_seed"])
    distances = [FrechetDistance.between(*mean_and_covariance(features[places]), *of_real).value for places in chosen]
    weights = intercept_weights(settings["sizes"])
    value = float(weights @ np.array(distances))
    return {"fd-infinity": normal_interval(value, variance(real, fake, chosen, weights))}


def mean_and_covariance(features: Tensor) -> tuple[Tensor, Tensor]:
    """Float64 mean (D,) and unbiased covariance (D, D) of float32 features (N, D)."""
    features = features.double()
    return features.mean(0), features.T.cov()


def subsets(sizes: Sequence[int], count: int, seed: int) -> list[Tensor]:
    """For each size so many of `count` places, at random."""
    rng = torch.Generator().manual_seed(seed)
    return [torch.randperm(count, generator=rng)[:size] for size in sizes]


def intercept_weights(sizes: Sequence[int]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """What the distance at each size adds to the intercept of a line over 1 / size: (sizes,), 1 in all."""
    line = np.stack([np.ones(len(sizes)), 1 / np.array(sizes)], 1)
    return np.linalg.pinv(line)[0]


def variance(
    real: ganzoo.Sample,
    fake: ganzoo.Sample,
    chosen: Sequence[Tensor],
    weights: np.ndarray[Any, np.dtype[np.float64]],
) -> float:
    """The variance of the intercept over draws of so many images of both sides.

    A distance is, to second order, a sum over images and over pairs of images. In the intercept a fake has the weight
    w = Σ cₛ / Nₛ over the subsets s that hold it, and a pair of fakes Σ cₛ / Nₛ² over those that hold both.
    """
    n, m = len(real.features), len(fake.features)
    whole = FrechetDistance.between(*fake.statistics(), *real.statistics())
    of_fakes, of_reals = (
        float(whole.influences(side.features[spread(len(side.features))], place).var())
        for place, side in enumerate((fake, real))
    )
    pairs = whole.pair_variance()
    # The variance of influences holds that of the pairs which an image is in.
    of_fakes -= pairs * (2 / m + 2 / n)
    of_reals -= pairs * (2 / n + 2 / m)
    held = torch.zeros(len(chosen), m, dtype=torch.float64)
    for subset, places in enumerate(chosen):
        held[subset, places] = 1 / len(places)
    single = torch.from_numpy(weights) @ held
    shared = (held @ held.T).square()
    squares = float(torch.from_numpy(weights) @ shared @ torch.from_numpy(weights))
    of_single = of_fakes * float(single.square().sum()) + of_reals / n
    return max(of_single, 0.0) + pairs * (squares + 2 * float(single.square().sum()) / n + 1 / n**2)


@ganzoo.hookimpl
def ganzoo_metrics() -> Iterator[ganzoo.Metric]:
    """`--metrics fd-infinity`."""
    yield ganzoo.Metric(
        "fd-infinity",
        score,
        better={"fd-infinity": "lower"},
        title={"fd-infinity": "FD∞"},
        settings=settings,
        summary="Fréchet distance extrapolated to infinitely many fakes",
        reference="Chong and Forsyth 2020, arXiv:1911.07023",
    )
