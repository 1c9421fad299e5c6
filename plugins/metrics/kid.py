"""Kernel Inception distance (Bińkowski et al. 2018, arXiv:1801.01401, section 4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

import ganzoo
from ganzoo_plugins.metrics.intervals import normal_interval

MOST_IN_VARIANCE = 2000
"""Images of a side, evenly spaced, whose kernels the variance of the score is estimated from."""


def settings(n_real: int, n_fake: int) -> Mapping[str, Any]:
    """100 random subsets of 1000 images (section 5), or of all where one side has fewer; k(x, y) = (x·y / D + 1)³.

    One subset where it holds all images of both sides: drawn again it would be the same.
    """
    size = min(1000, n_real, n_fake)
    every = {"drawn": "all images"} if size == n_real == n_fake else {}
    return {
        "subsets": 1 if every else 100,
        "subset_size": size,
        **every,
        "kernel": "polynomial of degree 3",
        "subset_seed": 2020,
    }


def score(
    real: ganzoo.Sample, fake: ganzoo.Sample, settings: Mapping[str, Any]
) -> Mapping[str, ganzoo.Estimate | ganzoo.NoScore]:
    """The unbiased estimate of the squared maximum mean discrepancy: mean and standard deviation over the subsets.

    Around 0, also a little below, for equal distributions, for any number of images. In float64: the sums that
    are subtracted differ in late digits only. None for subsets of one image. The interval has the variance of the
    estimate over all images, and that of the mean over so many subsets of them.
    """
    if settings["subset_size"] < 2:
        return {"kid": ganzoo.NoScore("a side has one image, and the unbiased estimate needs two")}
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

    # NumPy says on stderr that large features overflow; the score is then not finite, and says so itself.
    with np.errstate(all="ignore"):
        fakes, reals = fake.features.double(), real.features.double()
        result = kid_features_to_metric(
            fakes,
            reals,
            kid_subsets=settings["subsets"],
            kid_subset_size=settings["subset_size"],
            rng_seed=settings["subset_seed"],
            verbose=False,
        )
        mean, std = result[KEY_METRIC_KID_MEAN], result[KEY_METRIC_KID_STD]
        of_subsets = 0.0 if "drawn" in settings else std**2 / settings["subsets"]
        variance = variance_over_all(fakes.numpy(), reals.numpy(), polynomial_kernel) + of_subsets
    return {"kid": normal_interval(mean, variance, std)}


def variance_over_all(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    kernel: Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]],
) -> float:
    """The variance, over draws of so many images, of the unbiased estimate over all pairs of images x (N, D), y (M, D).

    By Hoeffding's decomposition of the U-statistic: 4ζₓ/N + 4ζᵧ/M for what single images contribute, where ζ is the
    variance of E k(x, X') − E k(x, Y) over x, and 2σₓₓ²/N(N−1) + 2σᵧᵧ²/M(M−1) + 4σₓᵧ²/NM for what is left of pairs,
    which is all there is where the distributions are equal. Observed mean kernels vary by the pairs too; ζ is without.
    """
    counts = len(x), len(y)
    x, y = (side[:: -(-len(side) // MOST_IN_VARIANCE)] for side in (x, y))
    rows, columns, across = _additive(kernel(x, y))
    of_single, of_pairs = 0.0, 4 * across / (counts[0] * counts[1])
    for side, count, crossing, others in ((x, counts[0], rows, len(y)), (y, counts[1], columns, len(x))):
        means, within = _additive_symmetric(kernel(side, side))
        single = float(np.var(means - crossing, ddof=1)) - within / (len(side) - 1) - across / others
        of_single += 4 * single / count
        of_pairs += 2 * within / (count * (count - 1))
    # An estimate below 0, of what is 0 where the distributions are equal, must not take from what pairs contribute.
    return float(max(of_single, 0.0) + of_pairs)


def polynomial_kernel(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """(x·y / D + 1)³ of every pair: (N, M)."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def _additive(kernel: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Means of the rows and of the columns of (N, M), and the variance of what they leave."""
    rows, columns = kernel.mean(1), kernel.mean(0)
    return rows, columns, float(np.mean((kernel - rows[:, None] - columns + kernel.mean()) ** 2))


def _additive_symmetric(kernel: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """The same of (N, N) without its diagonal, the kernel of an image with itself."""
    others = len(kernel) - 1
    means = (kernel.sum(1) - kernel.diagonal()) / others
    left = kernel - means[:, None] - means + means.mean()
    np.fill_diagonal(left, 0)
    return means, float(np.sum(left**2) / (len(kernel) * others))


@ganzoo.hookimpl
def ganzoo_metrics() -> Iterator[ganzoo.Metric]:
    """`--metrics kid`."""
    yield ganzoo.Metric(
        "kid",
        score,
        better={"kid": "lower"},
        title={"kid": "KID"},
        log=("kid",),
        settings=settings,
        summary="squared maximum mean discrepancy between the features of real and fake",
        reference="Bińkowski et al. 2018, arXiv:1801.01401",
    )
