"""The Fréchet distance within classes, intra FID (Miyato and Koyama 2018, arXiv:1802.05637, section 5)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

import ganzoo
from ganzoo_plugins.metrics.fd_infinity import mean_and_covariance
from ganzoo_plugins.metrics.fid import FrechetDistance
from ganzoo_plugins.metrics.intervals import normal_interval
from ganzoo_plugins.metrics.modes import few
from ganzoo_plugins.metrics.neighbours import all_finite

LEAST = 10
"""Images that a class must have on either side."""


def settings(n_real: int, n_fake: int) -> Mapping[str, Any]:
    """How many images a class must have on either side."""
    return {"least_of_a_class": LEAST}


def score(
    real: ganzoo.Sample, fake: ganzoo.Sample, settings: Mapping[str, Any]
) -> Mapping[str, float | ganzoo.Estimate | ganzoo.NoScore]:
    """The mean over classes of the Fréchet distance of a class's fakes to its real images, in float64.

    A fake is of the class that the generator was asked for, and every class of the real images counts alike. Each
    distance has the bias of the few images of its class, so it is far above that of all. None for a generator without
    labels, and where a class has fewer than ten images on a side; NaN where a feature is not finite. The interval is by
    the delta method in each class, as of `fid`; the classes' images are independent.
    """
    if not all_finite(real, fake):
        return {"intra-fd": float("nan")}
    for labels, whose in ((real.labels, "the dataset has"), (fake.labels, "the generated images have")):
        if labels is None:
            return {"intra-fd": ganzoo.NoScore(f"{whose} no labels, and this is a distance within classes")}
    of_real, of_fake = (places_by_class(side) for side in (real, fake))
    least = settings["least_of_a_class"]
    for by_class, side in ((of_real, "real"), (of_fake, "generated")):
        if lacking := [name for name in of_real if len(by_class.get(name, ())) < least]:
            return {"intra-fd": ganzoo.NoScore(f"there are fewer than {least} {side} images of class {few(lacking)}")}
    distances, variance = [], 0.0
    device = real.statistics()[0].device
    for name, places in of_real.items():
        pair = [fake.features[of_fake[name]].to(device), real.features[places].to(device)]
        distance = between(pair)
        distances.append(distance.value)
        # By its estimate below 0, of what is close to 0, a class must not take from what the others contribute.
        variance += max(distance.variance(*pair), 0.0)
    return {"intra-fd": normal_interval(sum(distances) / len(distances), variance / len(distances) ** 2)}


def places_by_class(side: ganzoo.Sample) -> dict[str, Tensor]:
    """Where the images of each class are, by its name, or its number where it has none: numbers may differ by side."""
    assert side.labels is not None
    labels = side.labels
    names = side.class_names or [str(label) for label in range(int(labels.max()) + 1)]
    return {names[label]: (labels == label).nonzero().flatten() for label in labels.unique().tolist()}


def between(sides: Sequence[Tensor]) -> FrechetDistance:
    """The distance of two sides' features (N, D). Solvers differ in what they converge on; the CPU's are patient."""
    moments = [moment for side in sides for moment in mean_and_covariance(side)]
    try:
        return FrechetDistance.between(*moments)
    except torch.linalg.LinAlgError:
        return FrechetDistance.between(*(moment.cpu() for moment in moments))


@ganzoo.hookimpl
def ganzoo_metrics() -> Iterator[ganzoo.Metric]:
    """`--metrics intra-fd`."""
    yield ganzoo.Metric(
        "intra-fd",
        score,
        better={"intra-fd": "lower"},
        title={"intra-fd": "intra FID"},
        bounds={"intra-fd": (0, None)},
        log=("intra-fd",),
        title_by_other={"intra-fd": "intra FD"},
        settings=settings,
        labelled=True,
        summary="mean over classes of the Fréchet distance between the fakes and the real images of a class",
        reference="Miyato and Koyama 2018, arXiv:1802.05637, section 5",
    )
