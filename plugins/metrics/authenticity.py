"""AuthPct, the share of fakes that are no copies of real images (Alaa et al. 2022, arXiv:2102.08921)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

import ganzoo
from ganzoo_plugins.metrics.intervals import share_interval
from ganzoo_plugins.metrics.neighbours import Balls, Grouped, all_finite, jackknife_variance, points_of


def score(real: ganzoo.Sample, fake: ganzoo.Sample) -> Mapping[str, float | ganzoo.Estimate | ganzoo.NoScore]:
    """In percent, the fakes that are further from the nearest real image than that is from the nearest other one.

    0 where every fake is a copy. It depends on the counts, and says nothing of quality: noise is authentic. Held-out
    real images have a value below 100 too, so set a generator against them. None where a side has one image, NaN for
    features that are not finite.
    """
    if min(len(real.features), len(fake.features)) < 2:
        return {"authpct": ganzoo.NoScore("a side has one image, which has no neighbour")}
    if not all_finite(real, fake):
        return {"authpct": float("nan")}
    balls = Balls.around(points_of(real), 1)
    groups, columns = balls.centres.groups, range(-1, balls.centres.count)
    blocks = []
    for _, distances in Grouped.of(points_of(fake)).distances_to(balls.centres.points):
        without: list[torch.Tensor] = []
        for column, group in enumerate(columns):
            nearest = distances.masked_fill(groups == group, torch.inf).min(1)
            without.append(nearest.values > balls.radii[nearest.indices, column])
        blocks.append(torch.stack(without, 1))
    authentic = torch.cat(blocks).double()
    variance = float(authentic[:, 0].var()) / len(authentic) + jackknife_variance(authentic)
    share = share_interval(float(authentic[:, 0].mean()), variance, len(authentic))
    return {"authpct": ganzoo.Estimate(100 * share.value, 100 * share.low, 100 * share.high)}


@ganzoo.hookimpl
def ganzoo_metrics() -> Iterator[ganzoo.Metric]:
    """`--metrics authpct`."""
    yield ganzoo.Metric(
        "authpct",
        score,
        better={"authpct": "higher"},
        title={"authpct": "AuthPct"},
        bounds={"authpct": (0, 100)},
        memorization=True,
        summary="percent of fakes that are no copies: further from a real image than its own neighbour is",
        reference="Alaa et al. 2022, arXiv:2102.08921",
    )
