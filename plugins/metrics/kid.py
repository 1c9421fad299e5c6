"""Kernel Inception distance (Bińkowski et al. 2018, arXiv:1801.01401, section 4)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

import ganzoo


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
) -> Mapping[str, tuple[float, float] | ganzoo.NoScore]:
    """The unbiased estimate of the squared maximum mean discrepancy: mean and standard deviation over the subsets.

    Around 0, also a little below, for equal distributions, for any number of images. In float64: the sums that
    are subtracted differ in late digits only. None for subsets of one image.
    """
    if settings["subset_size"] < 2:
        return {"kid": ganzoo.NoScore("a side has one image, and the unbiased estimate needs two")}
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

    # NumPy says on stderr that large features overflow; the score is then not finite, and says so itself.
    with np.errstate(all="ignore"):
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
