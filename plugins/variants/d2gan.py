"""D2GAN: two discriminators, one that rewards real images and one that rewards fakes (Nguyen et al. 2017).

arXiv:1709.03831. At their optimum the generator minimizes the Kullback-Leibler divergence in both directions.

Each discriminator ends in a softplus, which is part of the loss here, for the networks give logits. They are DCGAN's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

import ganzoo
from ganzoo_plugins.variants import dcgan


def build(
    image_shape: tuple[int, int, int],
    latent: int,
    classes: int,
    *,
    base_channels: int = 64,
    slope: float = 0.2,
    init_std: float = 0.02,
) -> dict[str, nn.Module]:
    """DCGAN's pair, and a second discriminator of the same form that shares nothing with the first."""
    players = {
        "generator": dcgan.generator(image_shape, latent, base_channels),
        "discriminator": dcgan.Discriminator(*dcgan.trunk(image_shape, base_channels, slope)),
        "reverse_discriminator": dcgan.Discriminator(*dcgan.trunk(image_shape, base_channels, slope)),
    }
    return {name: dcgan.initialize(network, init_std) for name, network in players.items()}


def log_softplus(logits: Tensor) -> Tensor:
    """log(softplus(x)), (N,) to the same: below -15 x itself, from which it differs by less than float32 can tell."""
    return torch.where(logits > -15, softplus(logits.clamp_min(-15)).log(), logits)


def discriminator_terms(
    generator: Any,
    discriminator: Any,
    reverse_discriminator: Any,
    batch: ganzoo.Batch,
    alpha: Tensor,
    beta: Tensor,
) -> dict[str, Tensor]:
    """What both maximize: α log D1(x) − D1(G(z)) − D2(x) + β log D2(G(z))."""
    fake = generator(batch.latent)
    return {
        "real": -alpha * log_softplus(discriminator(batch.real)).mean(),
        "fake": softplus(discriminator(fake)).mean(),
        "reverse_real": softplus(reverse_discriminator(batch.real)).mean(),
        "reverse_fake": -beta * log_softplus(reverse_discriminator(fake)).mean(),
    }


def generator_terms(
    generator: Any, discriminator: Any, reverse_discriminator: Any, batch: ganzoo.Batch, beta: Tensor
) -> dict[str, Tensor]:
    """What the same objective has of the fakes, which the generator minimizes."""
    fake = generator(batch.latent)
    return {
        "fool": -softplus(discriminator(fake)).mean(),
        "reverse_fool": beta * log_softplus(reverse_discriminator(fake)).mean(),
    }


@ganzoo.hookimpl
def ganzoo_architectures() -> Iterator[ganzoo.Architecture]:
    """Two judges."""
    yield ganzoo.Architecture(
        "d2gan",
        build,
        players=("generator", "discriminator", "reverse_discriminator"),
        judges=("discriminator", "reverse_discriminator"),
        summary="DCGAN with a second discriminator",
        reference="Nguyen et al. 2017, arXiv:1709.03831",
    )


@ganzoo.hookimpl
def ganzoo_losses() -> Iterator[ganzoo.Loss]:
    """The logarithms' weights, up to 1, keep what the discriminators give small.

    They are chosen here; in the authors' code for points in a plane (github.com/tund/D2GAN) both are 1.
    """
    yield ganzoo.Loss(
        "d2gan",
        phases=(
            ganzoo.Phase("discriminators", discriminator_terms, updates=("discriminator", "reverse_discriminator")),
            ganzoo.Phase("generator", generator_terms, updates="generator"),
        ),
        hyper={"alpha": 0.2, "beta": 0.1},
        share_fakes=True,
        summary="both directions of the Kullback-Leibler divergence, by two discriminators",
        reference="Nguyen et al. 2017, arXiv:1709.03831",
    )


@ganzoo.hookimpl
def ganzoo_variants() -> Iterator[ganzoo.Variant]:
    """Adam as DCGAN has it, batches of 64."""
    yield ganzoo.Variant(
        "d2gan",
        architecture="d2gan",
        loss="d2gan",
        optimizer=ganzoo.Optimizer("adam", 2e-4, betas=(0.5, 0.999)),
        batch_size=64,
        summary="two discriminators against one generator, for both directions of the divergence",
        reference="Nguyen et al. 2017, arXiv:1709.03831",
    )
