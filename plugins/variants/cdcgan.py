"""Conditional DCGAN: a label embedding in the generator, a projection discriminator.

The generator joins the embedded label to the latent (Mirza & Osindero 2014, arXiv:1411.1784, who join the two one
hidden layer later). The discriminator adds the inner product of its features and the embedded label to the
unconditional logit (Miyato & Koyama 2018, arXiv:1802.05637, equation 3). The networks and the recipe are DCGAN's
otherwise, without the residual blocks, the spectral normalization and the hinge loss of the latter paper.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

import ganzoo
from ganzoo_plugins.variants import dcgan


class ConditionalGenerator(nn.Module):
    """(N, latent) and labels (N,) to (N, C, H, W) in [-1, 1]."""

    def __init__(self, embedding: nn.Embedding, generator: nn.Module):
        super().__init__()
        self.embedding = embedding
        self.generator = generator

    def forward(self, latent: Tensor, labels: Tensor) -> Tensor:
        """The images of `generator` for [latent, embedded label]."""
        return self.generator(torch.cat([latent, self.embedding(labels)], 1))


class Projection(nn.Module):
    """f(x, y) = v_y·φ(x) + w·φ(x) + b: features φ(x), (N, D), and labels y, (N,), to logits (N,)."""

    def __init__(self, classes: int, features: int):
        super().__init__()
        self.linear = nn.Linear(features, 1)
        self.embedding = nn.Embedding(classes, features)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """The unconditional logit and the label's."""
        return self.linear(features).squeeze(1) + (self.embedding(labels) * features).sum(1)


class ConditionalDiscriminator(nn.Module):
    """Images (N, C, H, W) and labels (N,) to logits (N,)."""

    def __init__(self, trunk: nn.Module, head: Projection):
        super().__init__()
        self.trunk = trunk
        self.head = head

    def features(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """What the head sees, the same for every label: (N, C, H, W) to (N, D)."""
        return self.trunk(images)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """How real the images are as members of their classes."""
        return self.head(self.features(images), labels)


def build(
    image_shape: tuple[int, int, int],
    latent: int,
    classes: int,
    *,
    embedding: int = 50,
    base_channels: int = 64,
    slope: float = 0.2,
    discriminator_norm: str = "batch",
    init_std: float = 0.02,
) -> tuple[nn.Module, nn.Module]:
    """`embedding` is the length of the generator's label vectors, drawn from N(0, 1) like the latent they join."""
    if classes < 1:
        raise ValueError("a conditional architecture needs a dataset with labels")
    trunk, features = dcgan.trunk(image_shape, base_channels, slope, discriminator_norm)
    head = Projection(classes, features)
    nn.init.normal_(head.embedding.weight, 0.0, init_std)
    generator = dcgan.generator(image_shape, latent + embedding, base_channels)
    return (
        ConditionalGenerator(nn.Embedding(classes, embedding), dcgan.initialize(generator, init_std)),
        dcgan.initialize(ConditionalDiscriminator(trunk, head), init_std),
    )


@ganzoo.hookimpl
def ganzoo_architectures() -> Iterator[ganzoo.Architecture]:
    """DCGAN with labels on both sides."""
    yield ganzoo.Architecture(
        "cdcgan",
        build,
        conditional=True,
        image_sizes=dcgan.SIZES,
        summary="DCGAN with a label embedding in the generator and a projection discriminator",
        reference="Mirza & Osindero 2014, arXiv:1411.1784; Miyato & Koyama 2018, arXiv:1802.05637",
    )


@ganzoo.hookimpl
def ganzoo_variants() -> Iterator[ganzoo.Variant]:
    """Needs a dataset with labels."""
    yield ganzoo.Variant(
        "cdcgan",
        architecture="cdcgan",
        loss="non-saturating",
        optimizer=ganzoo.Optimizer("adam", 2e-4, betas=(0.5, 0.999)),
        summary="conditional DCGAN with a projection discriminator (needs labels)",
        reference="Mirza & Osindero 2014, arXiv:1411.1784; Miyato & Koyama 2018, arXiv:1802.05637",
    )
