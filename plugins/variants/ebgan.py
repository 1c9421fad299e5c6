"""EBGAN: the discriminator is an auto-encoder, and what it cannot rebuild is fake (Zhao et al. 2017, arXiv:1609.03126).

DCGAN's stages stand in for the paper's networks, and the energy is the mean over pixels of the squared error, on images
in [-1, 1], so that a margin serves every size; the paper's margins (10 for digits, 80 for bedrooms) are on another
scale.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, relu

import ganzoo
from ganzoo_plugins.losses.of_heads import head
from ganzoo_plugins.variants import dcgan


class AutoEncoder(nn.Module):
    """Images (N, C, H, W) to their energies (N,), as `logits`, and their codes, as the head `features`, (N, D).

    The energy is the mean over pixels of |decoded - image| to the `power`: 1 or 2.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, power: int):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.power = power

    def features(self, images: Tensor) -> Tensor:
        """The codes: (N, C, H, W) to (N, D)."""
        return self.encoder(images)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """How far off the decoded images are, and what they were decoded from."""
        codes = self.features(images)
        error = (self.decoder(codes) - images).abs() ** self.power
        return {"logits": error.flatten(1).mean(1), "features": codes}


def build(
    image_shape: tuple[int, int, int],
    latent: int,
    classes: int,
    *,
    base_channels: int = 64,
    slope: float = 0.2,
    init_std: float = 0.02,
) -> tuple[nn.Module, nn.Module]:
    """The encoder is DCGAN's discriminator without its head, the decoder its generator without the first linear map."""
    generator = dcgan.generator(image_shape, latent, base_channels)
    encoder, features = dcgan.trunk(image_shape, base_channels, slope)
    decoder = dcgan.generator(image_shape, features, base_channels)[1:]
    discriminator = AutoEncoder(encoder, decoder, power=2)
    return dcgan.initialize(generator, init_std), dcgan.initialize(discriminator, init_std)


def discriminator_terms(real: Tensor, fake: Tensor, margin: Tensor) -> dict[str, Tensor]:
    """D(x) + [margin - D(G(z))]⁺ of energies (N,) (equation 1)."""
    return {"real": real.mean(), "fake": relu(margin - fake).mean()}


def pull_away(fake_heads: Mapping[str, Tensor], weight: Tensor) -> Tensor:
    """weight · the mean squared cosine of the codes (N, D) of two different fakes (section 2.4)."""
    codes = normalize(head(fake_heads, "features", "pull-away", "ebgan"))
    cosines = codes @ codes.T
    others = 1 - torch.eye(len(codes), device=codes.device)
    return weight * (others * cosines.square()).sum() / others.sum()


@ganzoo.hookimpl
def ganzoo_architectures() -> Iterator[ganzoo.Architecture]:
    """DCGAN's generator against an auto-encoder of its parts."""
    yield ganzoo.Architecture(
        "ebgan",
        build,
        image_sizes=dcgan.SIZES,
        gives="energy",
        summary="DCGAN's generator against an auto-encoder of the same stages, which gives squared errors",
        reference="Zhao et al. 2017, arXiv:1609.03126",
    )


@ganzoo.hookimpl
def ganzoo_losses() -> Iterator[ganzoo.Loss | ganzoo.Penalty]:
    """The margin loss of energies, and the pull-away term, of weight 0.1 as in the paper."""
    yield ganzoo.Loss.of_logits(
        "ebgan",
        discriminator=discriminator_terms,
        generator=lambda fake: {"fool": fake.mean()},
        hyper={"margin": 0.1},
        needs="energy",
        summary="low energy for real images, high for fakes up to a margin",
        reference="Zhao et al. 2017, arXiv:1609.03126, equations 1 and 2",
    )
    yield ganzoo.Penalty(
        "pull-away",
        pull_away,
        hyper={"weight": 0.1},
        player="generator",
        summary="fakes of one batch have features that are orthogonal to one another",
        reference="Zhao et al. 2017, arXiv:1609.03126, section 2.4",
    )


@ganzoo.hookimpl
def ganzoo_variants() -> Iterator[ganzoo.Variant]:
    """EBGAN-PT."""
    yield ganzoo.Variant(
        "ebgan",
        architecture="ebgan",
        loss="ebgan",
        penalties=("pull-away",),
        optimizer=ganzoo.Optimizer("adam", 2e-4, betas=(0.5, 0.999)),
        batch_size=128,
        summary="an auto-encoder as discriminator, a margin, and fakes that pull away from one another",
        reference="Zhao et al. 2017, arXiv:1609.03126",
    )
