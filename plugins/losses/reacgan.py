"""ReACGAN: ACGAN's classes by the Data-to-Data Cross-Entropy of normalized embeddings (Kang et al. 2021).

arXiv:2111.01118. `reacgan` is the discriminator's term, on real images, and brings the generator's with it. The variant
has DCGAN's networks in place of BigGAN's, and one linear map to embeddings of 128 numbers in place of 512.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor
from torch.nn.functional import normalize, relu

import ganzoo
from ganzoo_plugins.losses.of_heads import head

COEFFICIENTS = {"weight": 0.5, "margin": 0.98, "temperature": 0.5}
"""The paper's for CIFAR-10."""


def d2d_cross_entropy(
    heads: Mapping[str, Tensor], labels: Tensor, margin: Tensor, temperature: Tensor, penalty: str
) -> Tensor:
    """D2D-CE of the embeddings (N, D) and their classes' proxies (K, D), both normalized.

    Of each image the similarity to its proxy, as far as it is below `margin`, against those to the images of other
    classes in the batch, as far as they are above 1 - `margin`.
    """
    embeddings = normalize(head(heads, "embedding", penalty, "dcgan-heads"))
    proxies = normalize(head(heads, "proxies", penalty, "dcgan-heads"))[labels]
    similar = -relu(margin - (embeddings * proxies).sum(1)) / temperature
    others = relu(embeddings @ embeddings.T - (1 - margin)) / temperature
    same_class = labels[:, None] == labels[None, :]
    others = others.masked_fill(same_class, -torch.inf)
    return (torch.cat([similar[:, None], others], 1).logsumexp(1) - similar).mean()


def discriminator_term(
    real_heads: Mapping[str, Tensor], labels: Tensor, weight: Tensor, margin: Tensor, temperature: Tensor
) -> Tensor:
    """weight · D2D-CE of real images."""
    return weight * d2d_cross_entropy(real_heads, labels, margin, temperature, "reacgan")


def generator_term(
    fake_heads: Mapping[str, Tensor], fake_labels: Tensor, weight: Tensor, margin: Tensor, temperature: Tensor
) -> Tensor:
    """weight · D2D-CE of fakes and the labels that they were made for."""
    return weight * d2d_cross_entropy(fake_heads, fake_labels, margin, temperature, "reacgan-generator")


@ganzoo.hookimpl
def ganzoo_losses() -> Iterator[ganzoo.Penalty]:
    """`margin` is the paper's m_p; m_n is 1 - m_p, as there."""
    yield ganzoo.Penalty(
        "reacgan",
        discriminator_term,
        hyper=COEFFICIENTS,
        penalties=("reacgan-generator",),
        summary="real images are near the proxy of their class and far from images of other classes",
        reference="Kang et al. 2021, arXiv:2111.01118",
    )
    yield ganzoo.Penalty(
        "reacgan-generator",
        generator_term,
        hyper=COEFFICIENTS,
        player="generator",
        summary="fakes are near the proxy of their class and far from fakes of other classes",
        reference="Kang et al. 2021, arXiv:2111.01118",
    )


@ganzoo.hookimpl
def ganzoo_variants() -> Iterator[ganzoo.Variant]:
    """Needs a dataset with labels. The hinge loss is the paper's; Adam is that of this zoo's `hinge`."""
    yield ganzoo.Variant(
        "reacgan",
        architecture="dcgan-heads",
        loss="hinge",
        penalties=("reacgan",),
        optimizer=ganzoo.Optimizer("adam", 2e-4, betas=(0.0, 0.9)),
        summary="conditional DCGAN whose discriminator compares images of different classes (needs labels)",
        reference="Kang et al. 2021, arXiv:2111.01118",
    )
