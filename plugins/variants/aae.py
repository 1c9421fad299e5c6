"""Adversarial auto-encoder: an auto-encoder whose codes are made to follow the prior by a discriminator of codes.

Makhzani et al. 2015, arXiv:1511.05644. The decoder is the generator: images are drawn by decoding draws of the prior.

Three differences from the paper: the prior has a standard deviation of 1, images end in a tanh, and the optimizer is
Adam.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import prod
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import softplus

import ganzoo
from ganzoo_plugins.variants import mlp


class CodeDiscriminator(nn.Module):
    """Codes (N, latent) to logits (N,)."""

    def __init__(self, layers: nn.Module):
        super().__init__()
        self.layers = layers

    def forward(self, codes: Tensor) -> Tensor:
        """How much the codes look like draws of the prior."""
        return self.layers(codes).squeeze(1)


def perceptron(widths: Sequence[int]) -> nn.Sequential:
    """ReLU layers of the given widths, the last one linear: (N, first) to (N, last)."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return mlp.initialize(nn.Sequential(*layers[:-1]))


def build(
    image_shape: tuple[int, int, int], latent: int, classes: int, *, widths: Sequence[int] = (1000, 1000)
) -> dict[str, nn.Module]:
    """Appendix A: each network has two layers of 1000 units."""
    return {
        "generator": mlp.generator(image_shape, latent, widths),
        "discriminator": CodeDiscriminator(perceptron([latent, *widths, 1])),
        "encoder": nn.Sequential(nn.Flatten(), perceptron([prod(image_shape), *widths, latent])),
    }


def codes(encoder: Any, real: Tensor, latent: Tensor) -> tuple[Tensor, Tensor]:
    """What the discriminator is to tell apart: draws of the prior, and codes of images."""
    return latent, encoder(real)


def reconstruction_terms(generator: Any, encoder: Any, batch: ganzoo.Batch) -> dict[str, Tensor]:
    """The mean squared error of what is decoded."""
    return {"error": (generator(encoder(batch.real)) - batch.real).square().mean()}


def discriminator_terms(encoder: Any, discriminator: Any, batch: ganzoo.Batch) -> ganzoo.Terms:
    """Draws of the prior against codes of images."""
    code = encoder(batch.real)
    losses = {"real": softplus(-discriminator(batch.latent)).mean(), "fake": softplus(discriminator(code)).mean()}
    return ganzoo.Terms(losses, judged=(batch.latent, code))


def encoder_terms(encoder: Any, discriminator: Any, batch: ganzoo.Batch) -> dict[str, Tensor]:
    """Codes are to pass for draws of the prior."""
    return {"fool": softplus(-discriminator(encoder(batch.real))).mean()}


@ganzoo.hookimpl
def ganzoo_architectures() -> Iterator[ganzoo.Architecture]:
    """Perceptrons for images of any size. The latent has the 8 dimensions that the paper takes for MNIST."""
    yield ganzoo.Architecture(
        "aae",
        build,
        latent=8,
        image_sizes=None,
        players=("generator", "discriminator", "encoder"),
        present=codes,
        summary="perceptrons: encoder, decoder, and a discriminator of codes",
        reference="Makhzani et al. 2015, arXiv:1511.05644, appendix A",
    )


@ganzoo.hookimpl
def ganzoo_losses() -> Iterator[ganzoo.Loss]:
    """A reconstruction phase, and the two of the adversarial game."""
    yield ganzoo.Loss(
        "aae",
        phases=(
            ganzoo.Phase("reconstruction", reconstruction_terms, updates=("encoder", "generator")),
            ganzoo.Phase("discriminator", discriminator_terms, updates="discriminator"),
            ganzoo.Phase("encoder", encoder_terms, updates="encoder"),
        ),
        summary="squared error of an auto-encoder, and non-saturating on its codes",
        reference="Makhzani et al. 2015, arXiv:1511.05644",
    )


@ganzoo.hookimpl
def ganzoo_variants() -> Iterator[ganzoo.Variant]:
    """Adam, and batches of 100."""
    yield ganzoo.Variant(
        "aae",
        architecture="aae",
        loss="aae",
        optimizer=ganzoo.Optimizer("adam", 2e-4, betas=(0.5, 0.999)),
        batch_size=100,
        summary="an auto-encoder whose codes are matched to the prior adversarially",
        reference="Makhzani et al. 2015, arXiv:1511.05644",
    )
