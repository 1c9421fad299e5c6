"""How much of the classes a linear classifier reads from an encoder's codes (Donahue et al. 2017, section 4)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

import ganzoo
from ganzoo_plugins.metrics.codes import CODE_SEED, codes_of
from ganzoo_plugins.metrics.intervals import share_interval

RIDGE = 1e-3
"""What is added to the variances of the codes, which are 1."""


def settings(n_real: int, n_fake: int) -> Mapping[str, Any]:
    """Ridge regression of standardized codes onto the classes, one column each; the largest one is predicted."""
    return {"classifier": "ridge", "ridge": RIDGE, "code_seed": CODE_SEED}


def score(
    real: ganzoo.Sample,
    held_out: ganzoo.Sample,
    real_images: Tensor,
    held_out_images: Tensor,
    encoder: nn.Module,
    settings: Mapping[str, Any],
) -> Mapping[str, float | ganzoo.Estimate | ganzoo.NoScore]:
    """The share of held-out images whose class is predicted, by a classifier fitted to all images of the reference.

    Fakes and the extractor play no part. In float64 and in closed form, so nothing is tuned. None without labels, for a
    single class, and where the reference holds the held-out images; NaN for codes that are not finite. The interval is
    Wilson's over held-out images, for the classifier as it was fitted.
    """
    if real.labels is None or held_out.labels is None:
        return {"linear-probe": ganzoo.NoScore("the dataset has no labels")}
    count = len(held_out_images)
    if torch.equal(real_images[-count:], held_out_images):
        return {"linear-probe": ganzoo.NoScore("the reference has the held-out images: take --reference train")}
    if len(real.labels.unique()) < 2:
        return {"linear-probe": ganzoo.NoScore("the real images are of one class")}
    seed = settings["code_seed"]
    known, asked = (codes_of(encoder, images, seed).cpu().double() for images in (real_images, held_out_images))
    if not (known.isfinite().all() and asked.isfinite().all()):
        return {"linear-probe": float("nan")}
    predicted = predict(known, real.labels.cpu(), asked, settings["ridge"])
    accuracy = float((predicted == held_out.labels.cpu()).double().mean())
    # With a variance of 0 it counts as many independent images as there are.
    return {"linear-probe": share_interval(accuracy, 0.0, count)}


def predict(codes: Tensor, labels: Tensor, asked: Tensor, ridge: float) -> Tensor:
    """Labels (M,) of float64 codes (M, K), by ridge regression on codes (N, K) with labels (N,).

    W = (ZᵀZ / N + λI)⁻¹ Zᵀ(Y − Ȳ) / N, where Z are standardized codes and Y a 1 for the class of each image.
    """
    mean, deviation = codes.mean(0), codes.std(0, correction=0)
    # A number that is the same in all codes tells nothing.
    scale = torch.where(deviation > 0, 1 / deviation, 0.0)
    known, asked = ((side - mean) * scale for side in (codes, asked))
    targets = torch.nn.functional.one_hot(labels).double()
    shares = targets.mean(0)
    moments = known.T @ known / len(known) + ridge * torch.eye(known.shape[1], dtype=torch.float64)
    weights = torch.linalg.solve(moments, known.T @ (targets - shares) / len(known))
    return (asked @ weights + shares).argmax(1)


@ganzoo.hookimpl
def ganzoo_metrics() -> Iterator[ganzoo.Metric]:
    """`--metrics linear-probe`, of variants with a player `encoder`."""
    yield ganzoo.Metric(
        "linear-probe",
        score,
        better={"linear-probe": "higher"},
        title={"linear-probe": "linear probe"},
        bounds={"linear-probe": (0, 1)},
        settings=settings,
        labelled=True,
        players=("encoder",),
        summary="share of held-out images whose class a linear classifier reads from the variant's own encoder",
        reference="Donahue et al. 2017, arXiv:1605.09782, section 4; Alain and Bengio 2016, arXiv:1610.01644",
    )
