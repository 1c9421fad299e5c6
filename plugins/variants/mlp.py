"""The first GAN: two multi-layer perceptrons (Goodfellow et al. 2014, arXiv:1406.2661).

Brought up to date: ReLU and tanh in the generator, where the paper has ReLU and sigmoids, LeakyReLU in the
discriminator, where it has maxout and dropout, and DCGAN's Adam in place of SGD with momentum.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import prod

from torch import nn

import ganzoo
from ganzoo_plugins.variants.dcgan import Discriminator


def initialize(network: nn.Module, slope: float = 0.0) -> nn.Module:
    """Draw weights for (leaky) ReLU as in He et al. 2015, arXiv:1502.01852, and zero the biases; returns `network`.

    PyTorch's own initialization lets the latent fade from layer to layer, and the generator collapses to one image.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, a=slope)
            nn.init.zeros_(module.bias)
    return network


def generator(image_shape: tuple[int, int, int], latent: int, widths: Sequence[int]) -> nn.Module:
    """(N, latent) to (N, C, H, W) in [-1, 1]."""
    layers: list[nn.Module] = []
    widths = [latent, *widths]
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    layers += [nn.Linear(widths[-1], prod(image_shape)), nn.Unflatten(1, image_shape), nn.Tanh()]
    return initialize(nn.Sequential(*layers))


def discriminator(image_shape: tuple[int, int, int], widths: Sequence[int], slope: float) -> nn.Module:
    """(N, C, H, W) to logits (N,)."""
    layers: list[nn.Module] = [nn.Flatten()]
    widths = [prod(image_shape), *widths]
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.LeakyReLU(slope)]
    return initialize(Discriminator(nn.Sequential(*layers), widths[-1]), slope)


def build(
    image_shape: tuple[int, int, int],
    latent: int,
    classes: int,
    *,
    discriminator_shape: tuple[int, int, int] | None = None,
    generator_widths: Sequence[int] = (256, 512, 512),
    discriminator_widths: Sequence[int] = (512, 512, 512),
    slope: float = 0.2,
) -> tuple[nn.Module, nn.Module]:
    """Hidden layers of the given widths: ReLU in the generator, LeakyReLU of `slope` in the discriminator.

    With `discriminator_shape`, (m * C, H, W), the discriminator judges packs of m images.
    """
    judged = discriminator_shape or image_shape
    return generator(image_shape, latent, generator_widths), discriminator(judged, discriminator_widths, slope)


@ganzoo.hookimpl
def ganzoo_architectures() -> Iterator[ganzoo.Architecture]:
    """The pair of perceptrons."""
    yield ganzoo.Architecture(
        "mlp",
        build,
        image_sizes=None,
        summary="two multi-layer perceptrons, any image size",
        reference="Goodfellow et al. 2014, arXiv:1406.2661",
    )


@ganzoo.hookimpl
def ganzoo_variants() -> Iterator[ganzoo.Variant]:
    """The vanilla GAN."""
    yield ganzoo.Variant(
        "mlp",
        architecture="mlp",
        loss="non-saturating",
        optimizer=ganzoo.Optimizer("adam", 2e-4, betas=(0.5, 0.999)),
        summary="the vanilla GAN: two multi-layer perceptrons",
        reference="Goodfellow et al. 2014, arXiv:1406.2661",
    )
