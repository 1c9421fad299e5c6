"""Inception Score (Salimans et al. 2016, arXiv:1606.03498, section 4)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import ganzoo
from ganzoo_plugins.metrics.intervals import disjoint_interval


def settings(n_real: int, n_fake: int) -> Mapping[str, Any]:
    """Ten splits of the fakes, shuffled with a fixed seed; fewer splits only where there are fewer fakes."""
    return {"splits": min(10, n_fake), "shuffle_seed": 2020}


def score(
    real: ganzoo.Sample, fake: ganzoo.Sample, settings: Mapping[str, Any]
) -> Mapping[str, ganzoo.Estimate | ganzoo.NoScore]:
    """exp(E KL(p(y|x) ‖ p(y))) of the fakes' class probabilities: mean and standard deviation over the splits.

    From 1, all alike or all ambiguous, to the number of classes. Real images play no part. The splits are disjoint, so
    their scores are independent, and the interval of their mean is Student's. NaN for NaN logits, and no score by an
    extractor that tells no classes apart.
    """
    if not fake.logits.shape[1]:
        return {"is": ganzoo.NoScore("the extractor tells no classes apart")}
    from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric

    result = isc_features_to_metric(
        fake.logits, splits=settings["splits"], shuffle=True, rng_seed=settings["shuffle_seed"]
    )
    mean, std = result[KEY_METRIC_ISC_MEAN], result[KEY_METRIC_ISC_STD]
    return {"is": disjoint_interval(mean, std, settings["splits"])}


@ganzoo.hookimpl
def ganzoo_metrics() -> Iterator[ganzoo.Metric]:
    """`--metrics is`."""
    yield ganzoo.Metric(
        "is",
        score,
        better={"is": "higher"},
        title={"is": "IS"},
        bounds={"is": (1, None)},
        settings=settings,
        summary="Inception Score: fakes that are each of one class and together of all",
        reference="Salimans et al. 2016, arXiv:1606.03498",
    )
