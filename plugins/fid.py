"""Fréchet Inception distance (Heusel et al. 2017, arXiv:1706.08500, equation 6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ganzoo


def score(real: ganzoo.Sample, fake: ganzoo.Sample, settings: Mapping[str, Any]) -> Mapping[str, float]:
    """‖μ − μ'‖² + tr(Σ + Σ' − 2(ΣΣ')^½) of the features' means and covariances, in float64.

    In the square of the features' unit, 0 for equal statistics (±1e-9 of their size by rounding). It falls with the
    number of fakes, so only equal counts compare. NaN where a feature is not finite or a side has one image only.
    """
    import numpy
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

    sides = [dict(zip(("mu", "sigma"), sample.statistics(), strict=True)) for sample in (fake, real)]
    if not all(numpy.isfinite(moment).all() for side in sides for moment in side.values()):
        return {"fid": float("nan")}
    return {"fid": fid_statistics_to_metric(*sides, verbose=False)[KEY_METRIC_FID]}


@ganzoo.hookimpl
def ganzoo_metrics():
    """`--metrics fid`."""
    yield ganzoo.Metric(
        "fid",
        score,
        better={"fid": "lower"},
        summary="Fréchet distance between the features of real and fake",
        reference="Heusel et al. 2017, arXiv:1706.08500",
    )
