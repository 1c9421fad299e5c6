"""Vendi score (Friedman and Dieng 2023, arXiv:2210.02410)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

import ganzoo
from ganzoo_plugins.metrics.intervals import normal_interval


def settings(n_real: int, n_fake: int) -> Mapping[str, Any]:
    """The kernel and the order of the entropy: Shannon's."""
    return {"kernel": "cosine", "order": 1}


def score(fake: ganzoo.Sample) -> Mapping[str, float | ganzoo.Estimate | ganzoo.NoScore]:
    """exp(−Σ λ log λ) of the eigenvalues λ of K / N, where K holds the cosines of the fakes' features.

    The effective number of different images: from 1, all alike, to the number of images or of features.
    Real images play no part. K / N has the eigenvalues of the D x D matrix S of the second moments of the features at
    unit length, so N x N numbers are never there. None where a feature vector is 0, which has no direction; NaN for
    features that are not finite.

    The interval is by the delta method: an image x changes the entropy −tr(S log S) by −xᵀ log(S) x, up to a constant.
    That counts what is of second order twice (Efron and Stein 1981); so it is taken off once, by its value for
    Gaussians.
    """
    features = fake.features.to(fake.statistics()[0].device, torch.float64)
    if not features.isfinite().all():
        return {"vendi": float("nan")}
    lengths = features.norm(dim=1, keepdim=True)
    if not (lengths > 0).all():
        return {"vendi": ganzoo.NoScore("an image has features of 0, which have no direction")}
    unit = features / lengths
    shares, directions = torch.linalg.eigh(unit.T @ unit / len(unit))
    kept = shares > shares[-1] * len(shares) * torch.finfo(shares.dtype).eps
    shares, directions = shares[kept], directions[:, kept]
    logs = shares.log()
    value = float((-(shares * logs).sum()).exp())
    if len(unit) < 2:
        return {"vendi": value}
    influences = (unit @ directions).square() @ logs
    variance = float(influences.var()) / len(unit) - second_order(shares, len(unit))
    return {"vendi": normal_interval(value, value**2 * variance)}


def second_order(shares: torch.Tensor, count: int) -> float:
    """The variance of Σᵢⱼ gᵢⱼ ΔSᵢⱼ² / 2, the entropy's term of second order, with Var ΔSᵢⱼ = λᵢλⱼ(1 + δᵢⱼ) / N.

    g are the divided differences of the logarithm (Daleckii and Krein 1965), 1 / λ for equal eigenvalues.
    """
    logs = shares.log()
    gaps = shares[:, None] - shares
    equal = gaps.abs() <= 1e-8 * shares
    slopes = torch.where(equal, 1 / shares, (logs[:, None] - logs) / gaps.where(~equal, 1.0))
    terms = (slopes * shares[:, None] * shares).square()
    return float(terms.sum() + terms.diagonal().sum()) / count**2


@ganzoo.hookimpl
def ganzoo_metrics() -> Iterator[ganzoo.Metric]:
    """`--metrics vendi`."""
    yield ganzoo.Metric(
        "vendi",
        score,
        better={"vendi": "higher"},
        title={"vendi": "Vendi"},
        bounds={"vendi": (1, None)},
        settings=settings,
        summary="Vendi score: the effective number of different fakes",
        reference="Friedman and Dieng 2023, arXiv:2210.02410",
    )
