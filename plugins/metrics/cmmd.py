"""CMMD, a maximum mean discrepancy of CLIP's embeddings (Jayasumana et al. 2024, arXiv:2401.09603, section 5)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import ganzoo
from ganzoo_plugins.metrics.intervals import normal_interval
from ganzoo_plugins.metrics.kid import variance_over_all
from ganzoo_plugins.metrics.neighbours import all_finite

SIGMA = 10.0
"""Width of the kernel, for embeddings of length 1."""

SCALE = 1000
"""What the squared discrepancy is multiplied by, so that it is easier to read."""

BLOCK = 1 << 22
"""Pairs of images whose kernels are in memory at a time."""


def settings(n_real: int, n_fake: int) -> Mapping[str, Any]:
    """k(x, y) = exp(−‖x − y‖² / 2σ²) of features at unit length."""
    return {"kernel": "Gaussian", "sigma": SIGMA, "scale": SCALE, "estimator": "biased"}


def score(
    real: ganzoo.Sample, fake: ganzoo.Sample, settings: Mapping[str, Any]
) -> Mapping[str, float | ganzoo.Estimate | ganzoo.NoScore]:
    """1000 (E k(x, x') + E k(y, y') − 2 E k(x, y)) over all pairs, each image with itself too.

    The biased estimate, as in the paper's code (Gretton et al. 2012, equation 5): 0 for the same images, and about
    1000 (1 − E k)(1 / N + 1 / M) for equal distributions. In float64. None where a feature vector is 0, which has no
    direction; NaN for features that are not finite. The interval is by the U-statistic's variance, as that of `kid`;
    without one where a side has one image.
    """
    if not all_finite(real, fake):
        return {"cmmd": float("nan")}
    device = real.statistics()[0].device
    sides = [side.features.to(device, torch.float64) for side in (real, fake)]
    if not all(bool(side.any(1).all()) for side in sides):
        return {"cmmd": ganzoo.NoScore("an image has features of 0, which have no direction")}
    x, y = (side / side.norm(dim=1, keepdim=True) for side in sides)
    # Rounding may leave a little below 0 of what is 0.
    value = max(settings["scale"] * (mean_kernel(x, x) + mean_kernel(y, y) - 2 * mean_kernel(x, y)), 0.0)
    if min(len(x), len(y)) < 2:
        return {"cmmd": value}
    variance = variance_over_all(x.cpu().numpy(), y.cpu().numpy(), gaussian_kernel)
    return {"cmmd": normal_interval(value, settings["scale"] ** 2 * variance)}


def mean_kernel(x: Tensor, y: Tensor) -> float:
    """The mean of k − 1 over all pairs of images x (N, D) and y (M, D) of length 1.

    Kernels lie between exp(−2 / σ²) and 1; what they lack of 1 keeps the digits that tell them apart.
    """
    rows = max(1, BLOCK // len(y))
    total = sum(float(((block @ y.T - 1) / SIGMA**2).expm1().sum()) for block in x.split(rows))
    return total / (len(x) * len(y))


def gaussian_kernel(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """k − 1 of every pair of images of length 1: (N, M)."""
    lacking: NDArray[np.float64] = np.expm1((x @ y.T - 1) / SIGMA**2)
    return lacking


@ganzoo.hookimpl
def ganzoo_metrics() -> Iterator[ganzoo.Metric]:
    """`--metrics cmmd`. The C is CLIP's: by the features of another extractor it is a MMD, and titled so."""
    yield ganzoo.Metric(
        "cmmd",
        score,
        better={"cmmd": "lower"},
        title={"cmmd": "MMD"},
        bounds={"cmmd": (0, None)},
        log=("cmmd",),
        settings=settings,
        summary="squared maximum mean discrepancy under a Gaussian kernel, times 1000: CMMD by clip-vit-l-14-336px",
        reference="Jayasumana et al. 2024, arXiv:2401.09603; Gretton et al. 2012, equation 5",
    )
