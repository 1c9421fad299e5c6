"""BEGAN: an auto-encoder as discriminator, in balance with the generator (Berthelot et al. 2017, arXiv:1703.10717).

Narrower than the paper's by default (whose n is 64 or 128), a tanh at either end, no skip connections, and weights
that start with the variance 1 / inputs. The fakes by which k is corrected are those of the discriminator's update,
before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor, nn

import ganzoo
from ganzoo_plugins.variants import dcgan
from ganzoo_plugins.variants.ebgan import AutoEncoder


def sizes(image_shape: tuple[int, int, int]) -> tuple[int, int]:
    """`(start, n)`: the smallest map is start x start, 8 or 14 pixels or so, and `n` doublings lead to the image."""
    start, doublings = dcgan.stages(image_shape)
    return 2 * start, doublings - 1


def convolutions(*widths: int) -> list[nn.Module]:
    """3 x 3 convolutions between these widths, each with an ELU."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ELU()]
    return layers


def decoder(image_shape: tuple[int, int, int], code: int, channels: int) -> nn.Sequential:
    """(N, code) to (N, C, H, W) in [-1, 1]: two convolutions at each size, doubled by repeating pixels."""
    start, doublings = sizes(image_shape)
    layers: list[nn.Module] = [nn.Linear(code, channels * start**2), nn.Unflatten(1, (channels, start, start))]
    layers += convolutions(channels, channels, channels)
    for _ in range(doublings):
        layers += [nn.Upsample(scale_factor=2), *convolutions(channels, channels, channels)]
    return nn.Sequential(*layers, nn.Conv2d(channels, image_shape[0], 3, padding=1), nn.Tanh())


def encoder(image_shape: tuple[int, int, int], code: int, channels: int) -> nn.Sequential:
    """(N, C, H, W) to (N, code): two convolutions at each size, halved by a stride, wider by `channels` each time."""
    start, halvings = sizes(image_shape)
    layers = convolutions(image_shape[0], channels, channels, channels)
    for width in range(channels, channels * (halvings + 1), channels):
        wider = width + channels
        layers += [nn.Conv2d(width, wider, 3, 2, 1), nn.ELU(), *convolutions(wider, wider, wider)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * (halvings + 1) * start**2, code))


def initialize(network: nn.Module) -> nn.Module:
    """Draw weights from N(0, 1 / inputs), and zero the biases; returns `network`."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


def build(
    image_shape: tuple[int, int, int], latent: int, classes: int, *, channels: int = 32, code: int = 64
) -> tuple[nn.Module, nn.Module]:
    """The decoder of the discriminator is built like the generator, for codes in place of latents."""
    generator = decoder(image_shape, latent, channels)
    discriminator = AutoEncoder(encoder(image_shape, code, channels), decoder(image_shape, code, channels), power=1)
    return initialize(generator), initialize(discriminator)


def discriminator_terms(real: Tensor, fake: Tensor, k: Tensor, gamma: Tensor, gain: Tensor) -> ganzoo.Terms:
    """L(x) - k · L(G(z)) of energies (N,), with the next k, in [0, 1], and the measure of convergence."""
    of_real, of_fake = real.mean(), fake.mean()
    imbalance = gamma * of_real - of_fake
    return ganzoo.Terms(
        {"real": of_real, "fake": -k * of_fake},
        monitors={"convergence": of_real + imbalance.abs()},
        state={"k": (k + gain * imbalance).clamp(0, 1)},
    )


@ganzoo.hookimpl
def ganzoo_architectures() -> Iterator[ganzoo.Architecture]:
    """The generator is a decoder, and so is half of the discriminator."""
    yield ganzoo.Architecture(
        "began",
        build,
        latent=64,
        image_sizes=dcgan.SIZES,
        gives="energy",
        summary="3 x 3 convolutions with ELU; an auto-encoder as discriminator, which gives absolute errors",
        reference="Berthelot et al. 2017, arXiv:1703.10717",
    )


@ganzoo.hookimpl
def ganzoo_losses() -> Iterator[ganzoo.Loss]:
    """`gamma` is the diversity ratio, from 0 to 1, and `gain` the paper's lambda."""
    yield ganzoo.Loss.of_logits(
        "began",
        discriminator=discriminator_terms,
        generator=lambda fake: {"fool": fake.mean()},
        hyper={"gamma": 0.5, "gain": 0.001},
        state={"k": 0.0},
        needs="energy",
        summary="energies of fakes are held at gamma times those of real images, by a weight k that is controlled",
        reference="Berthelot et al. 2017, arXiv:1703.10717",
    )


@ganzoo.hookimpl
def ganzoo_variants() -> Iterator[ganzoo.Variant]:
    """Adam at 1e-4 and batches of 16.

    The paper halves the rate when the measure of convergence stalls; here it halves every 100 000 updates, as in a copy
    (github.com/carpedm20/BEGAN-tensorflow), whose moments these are, too.
    """
    yield ganzoo.Variant(
        "began",
        architecture="began",
        loss="began",
        optimizer=ganzoo.Optimizer("adam", 1e-4, betas=(0.5, 0.999)),
        rate_decay=ganzoo.Schedule("exponential", factor=0.5, per_updates=100_000),
        batch_size=16,
        summary="an auto-encoder as discriminator, kept in balance with the generator",
        reference="Berthelot et al. 2017, arXiv:1703.10717",
    )
