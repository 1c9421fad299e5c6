"""VAE-GAN: a variational auto-encoder whose likelihood is measured on the discriminator's features, and a GAN in one.

Larsen et al. 2016, arXiv:1512.09300. The decoder is the generator, and each network has an objective of its own.

Differences from the paper: DCGAN's trunks serve as encoder and discriminator, and the generator's adversarial terms are
non-saturating. In the authors' code (github.com/andersbll/autoencoding_beyond_pixels) the rate falls with time, and
updates are skipped where one side is ahead; here neither is done. What `gamma` weighs is summed over the features;
their code has 1e-5 for faces, here it is chosen for small images.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

import ganzoo
from ganzoo_plugins.variants import dcgan


class FeatureDiscriminator(nn.Module):
    """Images (N, C, H, W) to logits (N,), and the features (N, D) on which reconstructions are compared."""

    def __init__(self, trunk: nn.Module, features: int, hidden: int):
        super().__init__()
        self.trunk = trunk
        self.head = nn.Sequential(
            nn.Linear(features, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, 1)
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """One pass gives both: what the last convolution has, and what becomes of it."""
        features = self.trunk(images)
        return {"logits": self.head(features).squeeze(1), "features": features}


def build(
    image_shape: tuple[int, int, int],
    latent: int,
    classes: int,
    *,
    base_channels: int = 64,
    hidden: int = 512,
    slope: float = 0.2,
    init_std: float = 0.02,
) -> dict[str, nn.Module]:
    """DCGAN's networks; the encoder ends in means and logarithms of variances, (N, 2 · latent).

    `hidden` is the width of the discriminator's dense layer, 512 as in the authors' code.
    """
    trunk, features = dcgan.trunk(image_shape, base_channels, slope)
    of_encoder, _ = dcgan.trunk(image_shape, base_channels, slope)
    players = {
        "generator": dcgan.generator(image_shape, latent, base_channels),
        "discriminator": FeatureDiscriminator(trunk, features, hidden),
        "encoder": nn.Sequential(of_encoder, nn.Linear(features, 2 * latent)),
    }
    return {name: dcgan.initialize(network, init_std) for name, network in players.items()}


def encoded(encoder: Any, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A draw of q(z|x), its mean and the logarithm of its variance, (N, latent) each."""
    mean, log_variance = encoder(images).chunk(2, 1)
    return mean + (log_variance / 2).exp() * torch.randn_like(mean), mean, log_variance


def unlikelihood(rebuilt: Tensor, features: Tensor) -> Tensor:
    """-log p of the features (N, D) of images under Gaussians of unit variance around those of their reconstructions.

    Summed over the features, without the constant: equations 6 and 7.
    """
    return (rebuilt - features).square().sum(1).mean() / 2


def encoder_terms(generator: Any, discriminator: Any, encoder: Any, batch: ganzoo.Batch) -> dict[str, Tensor]:
    """L_prior + L_llike: the negative evidence lower bound."""
    code, mean, log_variance = encoded(encoder, batch.real)
    features = discriminator.heads(batch.real)["features"]
    return {
        "prior": (mean.square() + log_variance.exp() - log_variance - 1).sum(1).mean() / 2,
        "likelihood": unlikelihood(discriminator.heads(generator(code))["features"], features),
    }


def generator_terms(
    generator: Any, discriminator: Any, encoder: Any, batch: ganzoo.Batch, gamma: Tensor
) -> dict[str, Tensor]:
    """γ · L_llike, and both reconstructions and draws are to pass for real."""
    code, *_ = encoded(encoder, batch.real)
    features = discriminator.heads(batch.real)["features"]
    rebuilt = discriminator.heads(generator(code))
    return {
        "likelihood": gamma * unlikelihood(rebuilt["features"], features),
        "fool_rebuilt": softplus(-rebuilt["logits"]).mean(),
        "fool": softplus(-discriminator(generator(batch.latent))).mean(),
    }


def discriminator_terms(generator: Any, discriminator: Any, encoder: Any, batch: ganzoo.Batch) -> ganzoo.Terms:
    """-L_GAN: real images against reconstructions and draws."""
    code, *_ = encoded(encoder, batch.real)
    fake = generator(batch.latent)
    losses = {
        "real": softplus(-discriminator(batch.real)).mean(),
        "rebuilt": softplus(discriminator(generator(code))).mean(),
        "fake": softplus(discriminator(fake)).mean(),
    }
    return ganzoo.Terms(losses, judged=(batch.real, fake))


@ganzoo.hookimpl
def ganzoo_architectures() -> Iterator[ganzoo.Architecture]:
    """Three players, and a latent as long as that of the authors' code for faces."""
    yield ganzoo.Architecture(
        "vaegan",
        build,
        latent=128,
        players=("generator", "discriminator", "encoder"),
        summary="DCGAN with a Gaussian encoder and a discriminator that shows its features",
        reference="Larsen et al. 2016, arXiv:1512.09300 (DCGAN's stages)",
    )


@ganzoo.hookimpl
def ganzoo_losses() -> Iterator[ganzoo.Loss]:
    """The encoder, the generator and the discriminator, each by its own terms."""
    yield ganzoo.Loss(
        "vaegan",
        phases=(
            ganzoo.Phase("encoder", encoder_terms, updates="encoder"),
            ganzoo.Phase("generator", generator_terms, updates="generator"),
            ganzoo.Phase("discriminator", discriminator_terms, updates="discriminator"),
        ),
        hyper={"gamma": 1e-3},
        summary="evidence lower bound on the discriminator's features, and non-saturating",
        reference="Larsen et al. 2016, arXiv:1512.09300, equations 6 to 10",
    )


@ganzoo.hookimpl
def ganzoo_variants() -> Iterator[ganzoo.Variant]:
    """RMSprop at 3e-4, where the authors' code begins, and batches of 64."""
    yield ganzoo.Variant(
        "vaegan",
        architecture="vaegan",
        loss="vaegan",
        optimizer=ganzoo.Optimizer("rmsprop", 3e-4),
        batch_size=64,
        summary="variational auto-encoder and GAN in one; likelihood on the discriminator's features",
        reference="Larsen et al. 2016, arXiv:1512.09300",
    )
