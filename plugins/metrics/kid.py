"""Kernel Inception distance (Bińkowski et al. 2018, arXiv:1801.01401, section 4)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import ganzoo


def settings(n_real: int, n_fake: int) -> Mapping[str, Any]:
    """100 random subsets of 1000 images (section 5), or of all where one side has fewer; k(x, y) = (x·y / D + 1)³."""
    return {
        "subsets": 100,
        "subset_size": min(1000, n_real, n_fake),
        "kernel": "polynomial of degree 3",
        "subset_seed": 2020,
    }


def score(real: ganzoo.Sample, fake: ganzoo.Sample, settings: Mapping[str, Any]) -> Mapping[str, tuple[float, float]]:
    """The unbiased estimate of the squared maximum mean discrepancy: mean and standard deviation over the subsets.

    Around 0, also a little below, for equal distributions, for any number of images. In float64: the sums that
    are subtracted differ in late digits only.
    """
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

    result = kid_features_to_metric(
        fake.features.double(),
        real.features.double(),
        kid_subsets=settings["subsets"],
        kid_subset_size=settings["subset_size"],
        rng_seed=settings["subset_seed"],
        verbose=False,
    )
    return {"kid": (result[KEY_METRIC_KID_MEAN], result[KEY_METRIC_KID_STD])}


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
