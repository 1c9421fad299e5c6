"""MGAN: a mixture of generators, and a classifier that tells from which of them an image is (Hoang et al. 2018).

arXiv:1708.02556. A latent is [one-hot generator, noise], so one player holds all generators, and what is drawn from it
is the mixture that the paper evaluates. As in the paper they share all layers but the first, and the classifier is a
head of the discriminator.

Differences: the generator is drawn for each image, with noise of its own, so that their shares of a batch vary, where
the authors' code (github.com/qhoangdl/MGAN) gives all generators the same noise; BatchNorm after the first layer is
over all of them; and the networks are DCGAN's. The classifier's term has the weight 1 for the discriminator and `beta`
for the generator, as in that code.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, softplus

import ganzoo
from ganzoo_plugins.variants import dcgan


def draw_latent(n: int, latent: int, rng: torch.Generator, *, generators: int = 10, **options: object) -> Tensor:
    """(n, latent) on `rng.device`: a generator, one-hot, each as likely as the others, then noise on [-1, 1)."""
    chosen = torch.randint(generators, (n,), generator=rng, device=rng.device)
    noise = torch.rand(n, latent - generators, generator=rng, device=rng.device) * 2 - 1
    return torch.cat([torch.eye(generators, device=rng.device)[chosen], noise], 1)


class Mixture(nn.Module):
    """(N, latent) to (N, C, H, W) in [-1, 1]: noise goes into the columns of the chosen generator, all others get 0.

    So the first layer of `network` is as many linear maps as there are generators, of which each image uses one.
    """

    def __init__(self, network: nn.Module, generators: int):
        super().__init__()
        self.network = network
        self.generators = generators

    def forward(self, latent: Tensor) -> Tensor:
        """The images of the chosen generators."""
        chosen, noise = latent[:, : self.generators], latent[:, self.generators :]
        return self.network((chosen[:, :, None] * noise[:, None, :]).flatten(1))


class ClassifyingDiscriminator(dcgan.Discriminator):
    """Images (N, C, H, W) to logits (N,), and to logits of the generators (N, K)."""

    def __init__(self, trunk: nn.Module, features: int, generators: int):
        super().__init__(trunk, features)
        self.classifier = nn.Linear(features, generators)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Both heads on the same features."""
        features = self.features(images)
        return {"logits": self.head(features).squeeze(1), "generators": self.classifier(features)}


def build(
    image_shape: tuple[int, int, int],
    latent: int,
    classes: int,
    *,
    generators: int = 10,
    base_channels: int = 64,
    slope: float = 0.2,
    init_std: float = 0.02,
) -> tuple[nn.Module, nn.Module]:
    """DCGAN's networks, the generator with `generators` first layers."""
    if not 1 <= generators < latent:
        raise ValueError(f"a latent of {latent} cannot hold {generators} generators and noise")
    network = dcgan.generator(image_shape, generators * (latent - generators), base_channels)
    trunk, features = dcgan.trunk(image_shape, base_channels, slope)
    discriminator = ClassifyingDiscriminator(trunk, features, generators)
    return Mixture(dcgan.initialize(network, init_std), generators), dcgan.initialize(discriminator, init_std)


def told_apart(heads: Any, batch: ganzoo.Batch) -> Tensor:
    """-E[log C_k(G_k(z))], where k is the generator that the latent names."""
    if "generators" not in heads:
        raise ganzoo.UsageError("loss mgan needs a discriminator with a head 'generators', such as architecture mgan's")
    guess = heads["generators"]
    return cross_entropy(guess, batch.latent[:, : guess.shape[1]])


def discriminator_terms(generator: Any, discriminator: Any, batch: ganzoo.Batch) -> dict[str, Tensor]:
    """Real against fake, and the generators against each other."""
    fake = generator(batch.latent)
    real = discriminator(batch.real)
    heads = discriminator.heads(fake)
    return {
        "real": softplus(-real).mean(),
        "fake": softplus(heads["logits"]).mean(),
        "told_apart": told_apart(heads, batch),
    }


def generator_terms(generator: Any, discriminator: Any, batch: ganzoo.Batch, beta: Tensor) -> dict[str, Tensor]:
    """Fool the discriminator, each generator by images of its own."""
    heads = discriminator.heads(generator(batch.latent))
    return {"fool": softplus(-heads["logits"]).mean(), "told_apart": beta * told_apart(heads, batch)}


@ganzoo.hookimpl
def ganzoo_architectures() -> Iterator[ganzoo.Architecture]:
    """Ten generators and 100 units of noise, as in the authors' code for CIFAR-10."""
    yield ganzoo.Architecture(
        "mgan",
        build,
        latent=110,
        draw_latent=draw_latent,
        summary="DCGAN with ten first layers in its generator and a head that tells them apart",
        reference="Hoang et al. 2018, arXiv:1708.02556",
    )


@ganzoo.hookimpl
def ganzoo_losses() -> Iterator[ganzoo.Loss]:
    """`beta` is that of the authors' code for CIFAR-10."""
    yield ganzoo.Loss(
        "mgan",
        phases=(
            ganzoo.Phase("discriminator", discriminator_terms, updates="discriminator"),
            ganzoo.Phase("generator", generator_terms, updates="generator"),
        ),
        hyper={"beta": 0.01},
        share_fakes=True,
        summary="non-saturating, and a classifier by which generators of a mixture keep apart",
        reference="Hoang et al. 2018, arXiv:1708.02556",
    )


@ganzoo.hookimpl
def ganzoo_variants() -> Iterator[ganzoo.Variant]:
    """Adam at 2e-4 with a first moment of 0.5, batches of 64, as in the authors' code (with 12 fakes of each there)."""
    yield ganzoo.Variant(
        "mgan",
        architecture="mgan",
        loss="mgan",
        optimizer=ganzoo.Optimizer("adam", 2e-4, betas=(0.5, 0.999)),
        batch_size=64,
        summary="a mixture of ten generators that a classifier keeps apart",
        reference="Hoang et al. 2018, arXiv:1708.02556",
    )
