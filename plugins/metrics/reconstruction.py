"""How far G(E(x)) is from x, for held-out images x (Donahue et al. 2017, arXiv:1605.09782, section 3.2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

import ganzoo
from ganzoo_plugins.metrics.codes import BATCH, CODE_SEED, codes_of, in_range
from ganzoo_plugins.metrics.intervals import normal_interval


def settings(n_real: int, n_fake: int) -> Mapping[str, Any]:
    """The seed of encoders that draw their codes."""
    return {"code_seed": CODE_SEED}


def score(
    held_out: ganzoo.Sample,
    held_out_images: Tensor,
    generator: ganzoo.ImageSource,
    encoder: nn.Module,
    settings: Mapping[str, Any],
) -> Mapping[str, float | ganzoo.Estimate | ganzoo.NoScore]:
    """The squared error of a pixel in [-1, 1], (G(E(x)) − x)², averaged over pixels and images: from 0 to 4.

    Where the encoder gives twice as many numbers as a latent has, the first half are the means of a Gaussian, and they
    are taken. A conditional generator is given the images' labels. Fakes and the extractor play no part. None where
    codes or images do not fit. The interval is normal, over the images.
    """
    latents, drawn_labels = generator.draw(1)
    width = latents[0].numel()
    codes = codes_of(encoder, held_out_images, settings["code_seed"])
    if codes.shape[1] not in (width, 2 * width):
        what = f"the encoder gives {codes.shape[1]} numbers, and a latent has {width}"
        return {"reconstruction-error": ganzoo.NoScore(what)}
    labels = None if drawn_labels is None else held_out.labels
    errors = []
    for start in range(0, len(codes), BATCH):
        some = slice(start, start + BATCH)
        given = codes[some, :width].to(latents).reshape(-1, *latents.shape[1:])
        rebuilt = generator.images(given, None if labels is None else labels[some].to(latents.device))
        images = in_range(encoder, held_out_images[some])
        if rebuilt.shape != images.shape:
            return {"reconstruction-error": ganzoo.NoScore("the generator gives images of another size")}
        errors.append((rebuilt.to(images).double() - images).square().flatten(1).mean(1))
    error = torch.cat(errors)
    if len(error) < 2:
        return {"reconstruction-error": float(error.mean())}
    return {"reconstruction-error": normal_interval(float(error.mean()), float(error.var()) / len(error))}


@ganzoo.hookimpl
def ganzoo_metrics() -> Iterator[ganzoo.Metric]:
    """`--metrics reconstruction-error`, of variants with a player `encoder`."""
    yield ganzoo.Metric(
        "reconstruction-error",
        score,
        better={"reconstruction-error": "lower"},
        bounds={"reconstruction-error": (0, 4)},
        log=("reconstruction-error",),
        settings=settings,
        players=("encoder",),
        summary="mean squared error per pixel, in [-1, 1], of held-out images through encoder and generator",
        reference="Donahue et al. 2017, arXiv:1605.09782, section 3.2",
    )
