"""Density and coverage (Naeem et al. 2020, arXiv:2002.09797)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

import ganzoo
from ganzoo_plugins.metrics.intervals import normal_interval, share_interval
from ganzoo_plugins.metrics.neighbours import Balls, Grouped, all_finite, jackknife_variance, points_of


def settings(n_real: int, n_fake: int) -> Mapping[str, Any]:
    """The fifth nearest neighbour, as in the paper's experiments; nearer where there are fewer than six real images."""
    return {"neighbours": min(5, n_real - 1)}


def score(
    real: ganzoo.Sample, fake: ganzoo.Sample, settings: Mapping[str, Any]
) -> Mapping[str, float | ganzoo.Estimate | ganzoo.NoScore]:
    """Density: how many balls of real images a fake lies in, over k. Coverage: the share of balls that hold a fake.

    A ball reaches from a real image to its k-th nearest real neighbour. Density is 1 on average where the distributions
    are equal, and above 1 where fakes crowd in the midst of the real images; coverage is in [0, 1]. A real outlier,
    whose ball is large, counts for little in either. None where a side has one image; NaN for features that are not
    finite.
    """
    k = settings["neighbours"]
    if k < 1 or len(fake.features) < 2:
        alone = ganzoo.NoScore("a side has one image, which has no neighbour")
        return {"density": alone, "coverage": alone}
    if not all_finite(real, fake):
        return {"density": float("nan"), "coverage": float("nan")}
    balls, others = Balls.around(points_of(real), k), Grouped.of(points_of(fake))
    densities = []
    nearest = torch.full_like(balls.radii[:, 0], torch.inf).repeat(others.count, 1)
    for first, distances in others.distances_to(balls.centres.points):
        densities.append(balls.around_each(distances) / k)
        groups = others.groups[first : first + len(distances)]
        for group in groups.unique().tolist():
            nearest[group] = nearest[group].minimum(distances[groups == group].amin(0))
    density = torch.cat(densities)
    of_density = float(density[:, 0].var()) / len(density) + jackknife_variance(density)
    without = [nearest[[other for other in range(others.count) if other != group]] for group in range(-1, others.count)]
    to_nearest = torch.stack([distances.amin(0) for distances in without], 1)
    covered, covered_by_others = to_nearest[:, :1] <= balls.radii, to_nearest <= balls.radii[:, :1]
    of_coverage = jackknife_variance(covered.double(), balls.centres.kept())
    of_coverage += jackknife_variance(covered_by_others.double())
    return {
        "density": normal_interval(float(density[:, 0].mean()), of_density),
        "coverage": share_interval(float(covered[:, 0].double().mean()), of_coverage, len(covered)),
    }


@ganzoo.hookimpl
def ganzoo_metrics() -> Iterator[ganzoo.Metric]:
    """`--metrics dc`, which gives `density` and `coverage`."""
    yield ganzoo.Metric(
        "dc",
        score,
        better={"density": "higher", "coverage": "higher"},
        bounds={"density": (0, None), "coverage": (0, 1)},
        settings=settings,
        summary="density and coverage by nearest neighbours among the real features",
        reference="Naeem et al. 2020, arXiv:2002.09797",
    )
