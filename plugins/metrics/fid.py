"""Fréchet inception distance (Heusel et al. 2017, arXiv:1706.08500)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import ganzoo
from ganzoo_plugins.metrics.intervals import normal_interval

MOST_INFLUENCES = 10_000
"""Images of a side, evenly spaced, whose influence is computed; the variance over them is right to 1.4 % of itself."""


def score(
    real: ganzoo.Sample, fake: ganzoo.Sample, settings: Mapping[str, Any]
) -> Mapping[str, float | ganzoo.Estimate | ganzoo.NoScore]:
    """The Fréchet distance between the Gaussians that have the features' means and covariances, in float64.

    In the square of the features' unit, with an interval by the delta method. It falls with the number of fakes, so
    only equal counts compare. None where a side has one image only, NaN where a feature is not finite.
    """
    moments = (*fake.statistics(), *real.statistics())
    for side, mean, covariance in (("generated", *moments[:2]), ("real", *moments[2:])):
        if bool(mean.isfinite().all()) and bool(covariance.isnan().all()):
            return {"fid": ganzoo.NoScore(f"there is one {side} image, which has no covariance")}
    if not all(bool(torch.isfinite(moment).all()) for moment in moments):
        return {"fid": float("nan")}
    try:
        distance = FrechetDistance.between(*moments)
    except torch.linalg.LinAlgError:
        # Solvers differ in what they converge on, and the CPU's are the more patient.
        distance = FrechetDistance.between(*(moment.cpu() for moment in moments))
    return {"fid": normal_interval(distance.value, distance.variance(fake.features, real.features))}


@dataclass(frozen=True)
class Side:
    """One Gaussian, in the coordinates in which it is standard and the map of optimal transport is diagonal."""

    mean: Tensor
    """float64 (D,)."""
    covariance: Tensor
    """float64 (D, D)."""
    whitening: Tensor
    """float64 (D, R): `(x − μ) @ whitening` has the covariance I."""


@dataclass(frozen=True)
class FrechetDistance:
    """‖μ − μ'‖² + tr(Σ + Σ' − 2(ΣΣ')^½) of two Gaussians (Dowson and Landau 1982)."""

    value: float
    sides: tuple[Side, Side]
    overlap: Tensor
    """float64 (R,): the eigenvalues of (ΣΣ')^½ above 0."""

    @classmethod
    def between(cls, mean: Tensor, covariance: Tensor, other_mean: Tensor, other_covariance: Tensor) -> FrechetDistance:
        """Of float64 means (D,) and covariances (D, D).

        With symmetric factors Σ = FFᵀ and Σ' = F'F'ᵀ from eigen-decompositions, the trace of (ΣΣ')^½ is the sum of the
        singular values of FᵀF'. So no eigenvalue of the unsymmetric product is taken, and directions without variance,
        which rounding would give one, are left out. 0 where what is left of the traces is no more than their rounding.
        """
        factors, inverses = [], []
        for matrix in (covariance, other_covariance):
            variances, directions = torch.linalg.eigh(matrix)
            kept = variances > variances[-1] * len(variances) * torch.finfo(variances.dtype).eps
            deviations = variances[kept].sqrt()
            factors.append(directions[:, kept] * deviations)
            inverses.append(directions[:, kept] / deviations)
        left, overlap, right = torch.linalg.svd(factors[0].T @ factors[1], full_matrices=False)
        traces = covariance.trace() + other_covariance.trace()
        distance = (mean - other_mean).square().sum() + traces - 2 * overlap.sum()
        rounding = len(mean) * torch.finfo(mean.dtype).eps * traces
        return cls(
            0.0 if distance.abs() <= rounding else float(distance),
            (
                Side(mean, covariance, inverses[0] @ left),
                Side(other_mean, other_covariance, inverses[1] @ right.T),
            ),
            overlap,
        )

    def variance(self, features: Tensor, other_features: Tensor) -> float:
        """The variance of the distance over draws of so many images, from the features (N, D) of both sides.

        The delta method: the variance of the mean of the images' influences, from both sides. That counts what is of
        second order twice (Efron and Stein 1981), which is all there is where the two distributions are equal; so it is
        taken off once, by its value for Gaussians.
        """
        first_order = sum(
            float(self.influences(samples[spread(len(samples))], place).var()) / len(samples)
            for place, samples in enumerate((features, other_features))
        )
        return first_order - self.pair_variance() * (1 / len(features) + 1 / len(other_features)) ** 2

    def influences(self, features: Tensor, place: int) -> Tensor:
        """The derivative of the distance by the weight of each image of a side: float64 (N,), up to a constant.

        2(μ − μ')ᵀ(x − μ) + (x − μ)ᵀ(I − T)(x − μ), where T = Σ^{−½}(Σ^½ Σ' Σ^½)^½ Σ^{−½} is the map of optimal
        transport, on the directions in which Σ has variance.
        """
        own, other = self.sides[place], self.sides[1 - place]
        centred = features.to(own.mean.device, torch.float64) - own.mean
        transported = ((centred @ own.whitening).square() * self.overlap).sum(1)
        return 2 * centred @ (own.mean - other.mean) + centred.square().sum(1) - transported

    def pair_variance(self) -> float:
        """The variance of the terms of second order for Gaussians with one covariance, times (1 / N + 1 / M)⁻².

        The terms are ‖Δμ‖² and Σᵢⱼ wᵢⱼ(ΔAᵢⱼ − ΔA'ᵢⱼ)² / 2, with A and A' the covariances in the coordinates of the
        sides, s the overlap and wᵢⱼ = sᵢsⱼ / (sᵢ + sⱼ); the entries of A have the variance (1 + δᵢⱼ) / N.
        """
        overlap = self.overlap[self.overlap > 0]
        weights = overlap[:, None] * overlap / (overlap[:, None] + overlap)
        of_covariances = weights.square().sum() + weights.diagonal().square().sum()
        return float(of_covariances + 2 * (self.sides[0].covariance * self.sides[1].covariance).sum())


def spread(count: int) -> slice:
    """At most `MOST_INFLUENCES` places, evenly spaced: images may be in the order of their classes."""
    return slice(0, None, -(-count // MOST_INFLUENCES))


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
