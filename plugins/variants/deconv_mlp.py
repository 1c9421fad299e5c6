"""A transposed-convolution generator against a multi-layer perceptron, both with BatchNorm and LeakyReLU.

The zoo's own: one side after Radford et al. 2015, the other after Goodfellow et al. 2014, under DCGAN's recipe.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

from torch import nn

import ganzoo
from ganzoo_plugins.variants.dcgan import Discriminator, initialize
from ganzoo_plugins.variants.dcgan_dense import dense_layers


def build(
    image_shape: tuple[int, int, int],
    latent: int,
    classes: int,
    *,
    generator_widths: Sequence[int] = (128, 256, 512, 1024),
    channels: Sequence[int] = (256, 128, 64),
    discriminator_widths: Sequence[int] = (1024, 512, 256),
    slope: float = 0.2,
    init_std: float = 0.02,
) -> tuple[nn.Module, nn.Module]:
    """`channels` are the generator's at a quarter of the image's size, at half of it and at the whole.

    The weights start as DCGAN's: PyTorch would scale the last layer for 7 x 7 x C inputs to each value, not for the
    7 x 7 x 64 that there are, and saturate the tanh.
    """
    _, height, width = image_shape
    if height % 4 or width % 4:
        raise ValueError(f"the sides of the images must be multiples of 4 pixels, not {height} x {width}")
    quarter, half, whole = channels
    generator = nn.Sequential(
        *dense_layers([latent, *generator_widths], slope),
        nn.Linear(generator_widths[-1], quarter * (height // 4) * (width // 4), bias=False),
        nn.Unflatten(1, (quarter, height // 4, width // 4)),
        nn.BatchNorm2d(quarter),
        nn.LeakyReLU(slope),
        nn.ConvTranspose2d(quarter, half, 5, 2, 2, output_padding=1, bias=False),
        nn.BatchNorm2d(half),
        nn.LeakyReLU(slope),
        nn.ConvTranspose2d(half, whole, 5, 2, 2, output_padding=1, bias=False),
        nn.BatchNorm2d(whole),
        nn.LeakyReLU(slope),
        nn.ConvTranspose2d(whole, image_shape[0], 7, 1, 3),
        nn.Tanh(),
    )
    trunk = nn.Sequential(nn.Flatten(), *dense_layers([prod(image_shape), *discriminator_widths], slope))
    discriminator = Discriminator(trunk, discriminator_widths[-1])
    return initialize(generator, init_std), initialize(discriminator, init_std)


@ganzoo.hookimpl
def ganzoo_architectures() -> Iterator[ganzoo.Architecture]:
    """Convolutions on one side only."""
    yield ganzoo.Architecture(
        "deconv-mlp",
        build,
        image_sizes=(8, 16, 28, 32, 48, 64),
        summary="four dense layers and three transposed convolutions against a multi-layer perceptron",
        reference="after Radford et al. 2015, arXiv:1511.06434 (generator), Goodfellow et al. 2014, arXiv:1406.2661",
    )


@ganzoo.hookimpl
def ganzoo_variants() -> Iterator[ganzoo.Variant]:
    """10 000 updates on MNIST are the full budget."""
    yield ganzoo.Variant(
        "deconv-mlp",
        architecture="deconv-mlp",
        loss="non-saturating",
        optimizer=ganzoo.Optimizer("adam", 2e-4, betas=(0.5, 0.999)),
        batch_size=128,
        full_kimg=1280,
        summary="a convolutional generator against a multi-layer perceptron",
        reference="after Radford et al. 2015, arXiv:1511.06434 (generator), Goodfellow et al. 2014, arXiv:1406.2661",
    )
