"""DCGAN with a fully connected layer at either end and 5 x 5 kernels, in four stages.

The zoo's own variation on Radford et al. 2015 (arXiv:1511.06434), who advise against the fully connected layers.
Every stage halves the map and rounds up (28: 28, 14, 7, 4, 2); transposed convolutions retrace the same sizes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from torch import nn

import ganzoo
from ganzoo_plugins.variants.dcgan import SIZES, Discriminator, initialize


def halvings(image_shape: tuple[int, int, int], stages: int, smallest: int) -> list[int]:
    """The image size, halved and rounded up at most `stages` times and never below `smallest`: 28, 14, 7, 4, 2."""
    _, height, width = image_shape
    if height != width or height < 2 * smallest:
        raise ValueError(f"images must be square, of at least {2 * smallest} pixels, not {height} x {width}")
    sizes = [height]
    while len(sizes) <= stages and (half := (sizes[-1] + 1) // 2) >= smallest:
        sizes.append(half)
    return sizes


def dense_layers(widths: Sequence[int], slope: float) -> list[nn.Module]:
    """Linear layers between the given widths, each with BatchNorm and LeakyReLU: (N, first) to (N, last)."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.LeakyReLU(slope)]
    return layers


def build(
    image_shape: tuple[int, int, int],
    latent: int,
    classes: int,
    *,
    widths: Sequence[int] = (64, 128, 256, 512),
    dense: int = 1024,
    slope: float = 0.2,
    init_std: float = 0.02,
) -> tuple[nn.Module, nn.Module]:
    """`widths` are the channels of the stages, from the image inwards, as many as leave a map of 2 x 2 or more.

    The generator is the discriminator mirrored: dense, then 512-256-128-64, each with BatchNorm and LeakyReLU.
    """
    sizes = halvings(image_shape, len(widths), smallest=2)
    channels = [image_shape[0], *widths[: len(sizes) - 1]]
    flat = channels[-1] * sizes[-1] ** 2

    inwards: list[nn.Module] = []
    for before, after in pairwise(channels):
        inwards += [nn.Conv2d(before, after, 5, 2, 2, bias=False), nn.BatchNorm2d(after), nn.LeakyReLU(slope)]
    trunk = nn.Sequential(*inwards, nn.Flatten(), *dense_layers([flat, dense], slope))

    outwards: list[nn.Module] = [*dense_layers([latent, dense], slope), nn.Linear(dense, flat, bias=False)]
    outwards += [nn.Unflatten(1, (channels[-1], sizes[-1], sizes[-1]))]
    for (before, after), target in zip(pairwise(channels[::-1]), sizes[-2::-1], strict=True):
        convolution = nn.ConvTranspose2d(before, after, 5, 2, 2, output_padding=1 - target % 2, bias=target == sizes[0])
        outwards += [nn.BatchNorm2d(before), nn.LeakyReLU(slope), convolution]
    generator = nn.Sequential(*outwards, nn.Tanh())
    return initialize(generator, init_std), initialize(Discriminator(trunk, dense), init_std)


@ganzoo.hookimpl
def ganzoo_architectures() -> Iterator[ganzoo.Architecture]:
    """The dense pair."""
    yield ganzoo.Architecture(
        "dcgan-dense",
        build,
        image_sizes=SIZES,
        summary="four 5 x 5 stages and a fully connected layer on both sides, with BatchNorm and LeakyReLU",
        reference="after Radford et al. 2015, arXiv:1511.06434",
    )


@ganzoo.hookimpl
def ganzoo_variants() -> Iterator[ganzoo.Variant]:
    """100 epochs of CIFAR-10 are the full budget."""
    yield ganzoo.Variant(
        "dcgan-dense",
        architecture="dcgan-dense",
        loss="non-saturating",
        optimizer=ganzoo.Optimizer("adam", 2e-4, betas=(0.5, 0.999)),
        batch_size=64,
        rate_decay=ganzoo.Schedule("exponential", factor=0.5, per_updates=100_000),
        full_kimg=5000,
        summary="DCGAN with fully connected layers; the learning rate halves every 100 000 updates",
        reference="after Radford et al. 2015, arXiv:1511.06434",
    )
