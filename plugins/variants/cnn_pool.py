"""A deep generator of plain 3 x 3 convolutions against a pooling discriminator with a two-way softmax.

The zoo's own, in the manner of Simonyan & Zisserman 2014 (arXiv:1409.1556), under DCGAN's recipe.
The sizes of the maps are the image's, halved and rounded up (28: 4, 7, 14, 28). Convolutions beyond one for each
doubling are stacked at the smallest, where they are cheap, so `--set cnn-pool.depth=100` is a matter of depth alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from torch import nn

import ganzoo
from ganzoo_plugins.variants.dcgan import SIZES, Discriminator
from ganzoo_plugins.variants.dcgan_dense import halvings


def build(
    image_shape: tuple[int, int, int],
    latent: int,
    classes: int,
    *,
    depth: int = 6,
    width: int = 256,
    dense: int = 1024,
    start_channels: int = 512,
    base_channels: int = 64,
    slope: float = 0.2,
) -> tuple[nn.Module, nn.Module]:
    """`depth` convolutions of `width` channels in the generator, which starts at `start_channels` x 4 x 4.

    The discriminator has `base_channels` channels next to the image, doubling down to 4 x 4; its two logits are fake
    and real.
    """
    sizes = halvings(image_shape, stages=image_shape[1], smallest=4)
    start, doublings = sizes[-1], len(sizes) - 1
    if depth < doublings:
        raise ValueError(f"depth must be {doublings} at least for {sizes[0]} pixels, not {depth}")

    layers: list[nn.Module] = []
    for before, after in pairwise([latent, dense, dense, dense]):
        layers += [nn.Linear(before, after), nn.LeakyReLU(slope), nn.BatchNorm1d(after)]
    layers += [nn.Linear(dense, start_channels * start**2), nn.Unflatten(1, (start_channels, start, start))]
    channels = [start_channels] + [width] * depth
    maps = [start] * (depth - doublings) + sizes[::-1]
    for (before, after), (smaller, size) in zip(pairwise(channels), pairwise(maps), strict=True):
        if smaller != size:
            layers.append(nn.Upsample((size, size)))
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(after)]
    generator = nn.Sequential(*layers, nn.Conv2d(width, image_shape[0], 3, padding=1), nn.Tanh())

    widths = [image_shape[0], *(base_channels << stage for stage in range(doublings))]
    trunk: list[nn.Module] = []
    for before, after in pairwise(widths):
        trunk += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        trunk += [nn.MaxPool2d(2, ceil_mode=True)]
    return generator, Discriminator(nn.Sequential(*trunk, nn.Flatten()), widths[-1] * start**2, logits=2)


@ganzoo.hookimpl
def ganzoo_architectures() -> Iterator[ganzoo.Architecture]:
    """Plain convolutions of any depth."""
    yield ganzoo.Architecture(
        "cnn-pool",
        build,
        logits=2,
        image_sizes=SIZES,
        summary="a stack of 3 x 3 convolutions, upsampled, against convolutions with max-pooling and a two-way head",
        reference="after Simonyan & Zisserman 2014, arXiv:1409.1556 (plain 3 x 3 stacks with pooling)",
    )


@ganzoo.hookimpl
def ganzoo_variants() -> Iterator[ganzoo.Variant]:
    """Softmax cross-entropy on the two-way head."""
    yield ganzoo.Variant(
        "cnn-pool",
        architecture="cnn-pool",
        loss="softmax",
        optimizer=ganzoo.Optimizer("adam", 2e-4, betas=(0.5, 0.999)),
        summary="a plain deep generator against a pooling discriminator that classifies real and fake",
        reference="after Simonyan & Zisserman 2014, arXiv:1409.1556; loss: Goodfellow et al. 2014, arXiv:1406.2661",
    )
