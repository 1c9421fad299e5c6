"""A perceptron generator against a convolutional discriminator: the sides of `mlp` and `dcgan` crossed.

The discriminator has the better prior and wins: with such a pair, a generator of four layers of 512 units, Arjovsky et
al. 2017 (arXiv:1701.07875, figure 7) show mode collapse under the standard objective, and none under theirs
(`--models mlp-conv+wasserstein`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import nn

import ganzoo
from ganzoo_plugins.variants import dcgan, mlp


def build(
    image_shape: tuple[int, int, int],
    latent: int,
    classes: int,
    *,
    generator_widths: Sequence[int] = (256, 512, 512),
    base_channels: int = 64,
    slope: float = 0.2,
    discriminator_norm: str = "batch",
    init_std: float = 0.02,
) -> tuple[nn.Module, nn.Module]:
    """The options are those of the two that it is made of."""
    discriminator = dcgan.Discriminator(*dcgan.trunk(image_shape, base_channels, slope, discriminator_norm))
    return mlp.generator(image_shape, latent, generator_widths), dcgan.initialize(discriminator, init_std)


@ganzoo.hookimpl
def ganzoo_architectures() -> Iterator[ganzoo.Architecture]:
    """The crossed pair."""
    yield ganzoo.Architecture(
        "mlp-conv",
        build,
        image_sizes=dcgan.SIZES,
        summary="the generator of mlp, the discriminator of dcgan",
        reference="Goodfellow et al. 2014, arXiv:1406.2661; Radford et al. 2015, arXiv:1511.06434",
    )


@ganzoo.hookimpl
def ganzoo_variants() -> Iterator[ganzoo.Variant]:
    """What convolutions do for the discriminator alone."""
    yield ganzoo.Variant(
        "mlp-conv",
        architecture="mlp-conv",
        loss="non-saturating",
        optimizer=ganzoo.Optimizer("adam", 2e-4, betas=(0.5, 0.999)),
        summary="a perceptron generator against a convolutional discriminator",
        reference="Goodfellow et al. 2014, arXiv:1406.2661; Radford et al. 2015, arXiv:1511.06434",
    )
