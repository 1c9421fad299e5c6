"""Improved precision and recall (Kynkäänniemi et al. 2019, arXiv:1904.06991)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import ganzoo


def settings(n_real: int, n_fake: int) -> Mapping[str, Any]:
    """The third nearest neighbour, as in the paper; nearer where one side has fewer than four images."""
    return {"neighborhood": min(3, n_real - 1, n_fake - 1)}


def score(
    real: ganzoo.Sample, fake: ganzoo.Sample, settings: Mapping[str, Any]
) -> Mapping[str, float | ganzoo.NoScore]:
    """Precision: the share of fakes near a real image. Recall: the share of real images near a fake. Both in [0, 1].

    A point is near another when it lies in the ball around it that reaches its `neighborhood`-th nearest neighbour on
    its own side. The features are the extractor's (the paper's are VGG-16's). In float64, where the distance between
    equal points is 0 to 1e-7 of their size, and a thousand rows of distances at a time. None where a side has one
    image, which has no neighbour; NaN for features that are not finite.
    """
    from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

    if settings["neighborhood"] < 1:
        alone = ganzoo.NoScore("a side has one image, which has no neighbour")
        return {"precision": alone, "recall": alone}
    fakes, reals = fake.features.double(), real.features.double()
    if not (fakes.isfinite().all() and reals.isfinite().all()):
        return {"precision": float("nan"), "recall": float("nan")}
    result = prc_features_to_metric(
        fakes,
        reals,
        prc_neighborhood=settings["neighborhood"],
        prc_batch_size=1000,
        save_cpu_ram=True,
        verbose=False,
    )
    return {"precision": result[KEY_METRIC_PRECISION], "recall": result[KEY_METRIC_RECALL]}


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
