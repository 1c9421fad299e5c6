"""Improved precision and recall (Kynkäänniemi et al. 2019, arXiv:1904.06991)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

import ganzoo
from ganzoo_plugins.metrics.intervals import share_interval
from ganzoo_plugins.metrics.neighbours import Balls, all_finite, jackknife_variance, points_of


def settings(n_real: int, n_fake: int) -> Mapping[str, Any]:
    """The third nearest neighbour, as in the paper; nearer where one side has fewer than four images."""
    return {"neighborhood": min(3, n_real - 1, n_fake - 1)}


def score(
    real: ganzoo.Sample, fake: ganzoo.Sample, settings: Mapping[str, Any]
) -> Mapping[str, float | ganzoo.Estimate | ganzoo.NoScore]:
    """Precision: the share of fakes near a real image. Recall: the share of real images near a fake. Both in [0, 1].

    A point is near another when it lies in the ball around it that reaches its `neighborhood`-th nearest neighbour on
    its own side. The features are the extractor's (the paper's are VGG-16's). In float64, where the distance between
    equal points is 0 to 1e-7 of their size, and by blocks, so that memory grows with the number of images and not with
    that of pairs. None where a side has one image, which has no neighbour; NaN for features that are not finite.
    """
    k = settings["neighborhood"]
    if k < 1:
        alone = ganzoo.NoScore("a side has one image, which has no neighbour")
        return {"precision": alone, "recall": alone}
    if not all_finite(real, fake):
        return {"precision": float("nan"), "recall": float("nan")}
    real_balls, fake_balls = Balls.around(points_of(real), k), Balls.around(points_of(fake), k)
    around_fakes = []
    around_reals = torch.zeros_like(fake_balls.radii[:1]).repeat(len(real.features), 1)
    for first, distances in fake_balls.centres.distances_to(real_balls.centres.points):
        around_fakes.append(real_balls.around_each(distances))
        around_reals += fake_balls.around_each(distances.T, first)
    return {"precision": share_near(torch.cat(around_fakes)), "recall": share_near(around_reals)}


def share_near(balls: Tensor) -> ganzoo.Estimate:
    """The share of images that lie in any ball of the other side, from the number of these, (N, 1 + G)."""
    near = (balls > 0).double()
    variance = float(near[:, 0].var()) / len(near) + jackknife_variance(near)
    return share_interval(float(near[:, 0].mean()), variance, len(near))


@ganzoo.hookimpl
def ganzoo_metrics() -> Iterator[ganzoo.Metric]:
    """`--metrics prc`, which gives `precision` and `recall`."""
    yield ganzoo.Metric(
        "prc",
        score,
        better={"precision": "higher", "recall": "higher"},
        bounds={"precision": (0, 1), "recall": (0, 1)},
        settings=settings,
        summary="precision and recall by nearest neighbours among the features",
        reference="Kynkäänniemi et al. 2019, arXiv:1904.06991",
    )
