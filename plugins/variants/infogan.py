"""InfoGAN: codes in the latent that can be read back from the image (Chen et al. 2016, arXiv:1606.03657).

A latent is [one-hot category, continuous codes, noise]. A code head on the discriminator's trunk recovers the codes;
its log-likelihood is the variational lower bound on the mutual information of codes and images (equations 4 and 5).

Two differences from the paper. The Gaussians of the continuous codes have unit variance, as in the authors'
code for MNIST (github.com/openai/InfoGAN); the paper's is learned. And the trunk learns from real and fake only: the
bound trains the generator and the code head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, softplus

import ganzoo
from ganzoo_plugins.variants import dcgan
from ganzoo_plugins.variants.dcgan_dense import dense_layers


def draw_latent(
    n: int, latent: int, rng: torch.Generator, *, categories: int = 10, continuous: int = 2, **options: object
) -> Tensor:
    """(n, latent) on `rng.device`: a one-hot category, then continuous codes and noise, uniform on [-1, 1).

    The paper says so of the codes, its code of the noise.
    """
    category = torch.randint(categories, (n,), generator=rng, device=rng.device)
    uniform = torch.rand(n, latent - categories, generator=rng, device=rng.device) * 2 - 1
    return torch.cat([torch.eye(categories, device=rng.device)[category], uniform], 1)


class CodeDiscriminator(dcgan.Discriminator):
    """Images (N, C, H, W) to logits (N,), and `code_head`: features (N, D) to codes (N, categories + continuous)."""

    def __init__(self, trunk: nn.Module, features: int, categories: int, continuous: int, hidden: int, slope: float):
        super().__init__(trunk, features)
        self.categories = categories
        self.code_head = nn.Sequential(
            *dense_layers([features, hidden], slope), nn.Linear(hidden, categories + continuous)
        )


def build(
    image_shape: tuple[int, int, int],
    latent: int,
    classes: int,
    *,
    categories: int = 10,
    continuous: int = 2,
    base_channels: int = 64,
    dense: int = 1024,
    code_hidden: int = 128,
    slope: float = 0.1,
    init_std: float = 0.02,
) -> tuple[nn.Module, nn.Module]:
    """Table 1 of the paper at 28 px: DCGAN's stages with a fully connected layer of `dense` units at either end.

    The weights start as DCGAN's.
    """
    if categories < 1 or continuous < 0 or categories + continuous > latent:
        raise ValueError(f"a latent of {latent} cannot hold {categories} categories and {continuous} continuous codes")
    generator = nn.Sequential(
        nn.Linear(latent, dense, bias=False),
        nn.BatchNorm1d(dense),
        nn.ReLU(),
        dcgan.generator(image_shape, dense, base_channels),
    )
    convolutions, flat = dcgan.trunk(image_shape, base_channels, slope)
    trunk = nn.Sequential(convolutions, *dense_layers([flat, dense], slope))
    discriminator = CodeDiscriminator(trunk, dense, categories, continuous, code_hidden, slope)
    return dcgan.initialize(generator, init_std), dcgan.initialize(discriminator, init_std)


def discriminator_terms(
    generator: Callable[..., Tensor],
    discriminator: Callable[..., Tensor],
    batch: ganzoo.Batch,
) -> dict[str, Tensor]:
    """Real against fake, as in the non-saturating loss."""
    fake = generator(batch.latent, batch.labels)
    return {
        "real": softplus(-discriminator(batch.real, batch.labels)).mean(),
        "fake": softplus(discriminator(fake, batch.labels)).mean(),
    }


def generator_terms(
    generator: Callable[..., Tensor],
    discriminator: Callable[..., Tensor],
    batch: ganzoo.Batch,
) -> dict[str, Tensor]:
    """Fool the discriminator."""
    fake = generator(batch.latent, batch.labels)
    return {"fool": softplus(-discriminator(fake, batch.labels)).mean()}


def information_terms(
    generator: Callable[..., Tensor], discriminator: Any, batch: ganzoo.Batch, category: Tensor, continuous: Tensor
) -> dict[str, Tensor]:
    """-L_I without its constant: the negative log-likelihood of the codes of `batch.latent` (N, latent) given G(z).

    The category is softmax, each continuous code a Gaussian of unit variance around the code head's guess.
    """
    if not hasattr(discriminator, "code_head"):
        raise ganzoo.UsageError("loss infogan needs a discriminator with a code_head, such as architecture infogan's")
    fake = generator(batch.latent, batch.labels)
    guess = discriminator.code_head(discriminator.features(fake))
    code, categories = batch.latent[:, : guess.shape[1]], discriminator.categories
    log_likelihood = (code[:, :categories] * log_softmax(guess[:, :categories], 1)).sum(1)
    squared_error = (code[:, categories:] - guess[:, categories:]).square().sum(1)
    return {
        "category": -category * log_likelihood.mean(),
        "continuous": continuous * squared_error.mean() / 2,
    }


@ganzoo.hookimpl
def ganzoo_architectures() -> Iterator[ganzoo.Architecture]:
    """DCGAN with codes in its latent: 62 noise, 10 categories, 2 continuous."""
    yield ganzoo.Architecture(
        "infogan",
        build,
        latent=74,
        image_sizes=dcgan.SIZES,
        draw_latent=draw_latent,
        summary="DCGAN stages with dense layers, a latent with codes and a head that reads them back",
        reference="Chen et al. 2016, arXiv:1606.03657, appendix C.1",
    )


@ganzoo.hookimpl
def ganzoo_losses() -> Iterator[ganzoo.Loss]:
    """The coefficients are the paper's lambda, for either kind of code.

    It is 1 for MNIST in the paper, which advises less for continuous codes (section 6); how much less is chosen here.
    """
    yield ganzoo.Loss(
        "infogan",
        phases=(
            ganzoo.Phase("discriminator", discriminator_terms, updates="discriminator"),
            ganzoo.Phase("generator", generator_terms, updates="generator"),
            # The trunk is left to the discriminator's phase: here it only carries gradients to the generator.
            ganzoo.Phase("information", information_terms, updates=("generator", "discriminator.code_head")),
        ),
        hyper={"category": 1.0, "continuous": 0.1},
        summary="non-saturating, and a lower bound on the mutual information of codes and images",
        reference="Chen et al. 2016, arXiv:1606.03657, equation 6",
    )


@ganzoo.hookimpl
def ganzoo_variants() -> Iterator[ganzoo.Variant]:
    """The learning rates of appendix C, 1e-3 for the generator and 2e-4 for the discriminator; moments of the code."""
    yield ganzoo.Variant(
        "infogan",
        architecture="infogan",
        loss="infogan",
        optimizer=ganzoo.Optimizer("adam", 1e-3, betas=(0.5, 0.999)),
        optimizers={"discriminator": ganzoo.Optimizer("adam", 2e-4, betas=(0.5, 0.999))},
        summary="unsupervised codes: a category and two continuous factors",
        reference="Chen et al. 2016, arXiv:1606.03657, appendix C",
    )
