"""Fréchet inception distance (Heusel et al. 2017, arXiv:1706.08500)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

import ganzoo


def score(
    real: ganzoo.Sample, fake: ganzoo.Sample, settings: Mapping[str, Any]
) -> Mapping[str, float | ganzoo.NoScore]:
    """The Fréchet distance between the Gaussians that have the features' means and covariances, in float64.

    In the square of the features' unit. It falls with the number of fakes, so only equal counts compare. None where a
    side has one image only, NaN where a feature is not finite.
    """
    moments = (*fake.statistics(), *real.statistics())
    for side, mean, covariance in (("generated", *moments[:2]), ("real", *moments[2:])):
        if bool(mean.isfinite().all()) and bool(covariance.isnan().all()):
            return {"fid": ganzoo.NoScore(f"there is one {side} image, which has no covariance")}
    if not all(bool(torch.isfinite(moment).all()) for moment in moments):
        return {"fid": float("nan")}
    try:
        return {"fid": frechet_distance(*moments)}
    except torch.linalg.LinAlgError:
        # Solvers differ in what they converge on, and the CPU's are the more patient.
        return {"fid": frechet_distance(*(moment.cpu() for moment in moments))}


def frechet_distance(mean: Tensor, covariance: Tensor, other_mean: Tensor, other_covariance: Tensor) -> float:
    """‖μ − μ'‖² + tr(Σ + Σ' − 2(ΣΣ')^½) of float64 means (D,) and covariances (D, D) (Dowson and Landau 1982).

    With symmetric factors Σ = FFᵀ and Σ' = F'F'ᵀ from eigen-decompositions, the trace of (ΣΣ')^½ is the sum of the
    singular values of FᵀF'. So no eigenvalue of the unsymmetric product is taken, and directions without variance,
    which rounding would give one, are left out. 0 where what is left of the traces is no more than their rounding.
    """
    factors = []
    for matrix in (covariance, other_covariance):
        variances, directions = torch.linalg.eigh(matrix)
        kept = variances > variances[-1] * len(variances) * torch.finfo(variances.dtype).eps
        factors.append(directions[:, kept] * variances[kept].sqrt())
    overlap = torch.linalg.svdvals(factors[0].T @ factors[1]).sum()
    traces = covariance.trace() + other_covariance.trace()
    distance = (mean - other_mean).square().sum() + traces - 2 * overlap
    rounding = len(mean) * torch.finfo(mean.dtype).eps * traces
    return 0.0 if distance.abs() <= rounding else float(distance)


@ganzoo.hookimpl
def ganzoo_metrics() -> Iterator[ganzoo.Metric]:
    """`--metrics fid`."""
    yield ganzoo.Metric(
        "fid",
        score,
        better={"fid": "lower"},
        title={"fid": "FID"},
        bounds={"fid": (0, None)},
        log=("fid",),
        title_by_other={"fid": "FD"},
        summary="Fréchet distance between the features of real and fake",
        reference="Heusel et al. 2017, arXiv:1706.08500",
    )
