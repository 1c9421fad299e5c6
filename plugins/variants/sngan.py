"""SNGAN, the standard CNN: spectral normalization in the discriminator (Miyato et al. 2018, arXiv:1802.05957)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

import ganzoo
from ganzoo_plugins.variants.dcgan import SIZES, Discriminator, initialize, stages


def build(
    image_shape: tuple[int, int, int],
    latent: int,
    classes: int,
    *,
    base_channels: int = 64,
    max_channels: int = 512,
    slope: float = 0.1,
    init_std: float = 0.02,
) -> tuple[nn.Module, nn.Module]:
    """Table 3 of the paper at 32 px; other sizes have fewer or more stages, of `max_channels` channels at most.

    Widths at 32 px: generator 512-256-128-64, discriminator 64-64-128-128-256-256-512.
    """
    start, n = stages(image_shape)
    widths = [min(base_channels << stage, max_channels) for stage in range(n + 1)]

    layers: list[nn.Module] = [
        nn.Linear(latent, widths[-1] * start**2, bias=False),
        nn.Unflatten(1, (widths[-1], start, start)),
        nn.BatchNorm2d(widths[-1]),
        nn.ReLU(),
    ]
    for before, after in pairwise(reversed(widths)):
        layers += [nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    generator = nn.Sequential(*layers, nn.Conv2d(widths[0], image_shape[0], 3, padding=1), nn.Tanh())

    trunk: list[nn.Module] = []
    for before, after in pairwise([image_shape[0], *widths]):
        trunk += [nn.Conv2d(before, after, 3, padding=1), nn.LeakyReLU(slope)]
        trunk += [nn.Conv2d(after, after, 4, 2, 1), nn.LeakyReLU(slope)]
    discriminator = Discriminator(nn.Sequential(*trunk[:-2], nn.Flatten()), widths[-1] * start**2)
    initialize(discriminator, init_std)
    for layer in list(discriminator.modules()):
        if isinstance(layer, nn.Conv2d | nn.Linear):
            spectral_norm(layer)
    return initialize(generator, init_std), discriminator


@ganzoo.hookimpl
def ganzoo_architectures() -> Iterator[ganzoo.Architecture]:
    """The CNN of table 3."""
    yield ganzoo.Architecture(
        "sngan",
        build,
        latent=128,
        image_sizes=SIZES,
        summary="DCGAN's generator against a spectrally normalized stack of 3 x 3 and 4 x 4 convolutions",
        reference="Miyato et al. 2018, arXiv:1802.05957, table 3",
    )


@ganzoo.hookimpl
def ganzoo_variants() -> Iterator[ganzoo.Variant]:
    """The hinge loss (equations 16 and 17) with the Adam that the paper has for its residual networks (appendix B.2).

    For this CNN the paper compares six other settings. One discriminator update per generator update (five in B.2),
    batches of 128 and a learning rate that falls all along (the paper's does so at the end of its ImageNet runs) are
    chosen here. The full budget is the paper's 100 000 generator updates.
    """
    yield ganzoo.Variant(
        "sngan",
        architecture="sngan",
        loss="hinge",
        optimizer=ganzoo.Optimizer("adam", 2e-4, betas=(0.0, 0.9)),
        batch_size=128,
        rate_decay=ganzoo.Schedule("linear", to=0.0),
        full_kimg=12_800,
        summary="spectral normalization with the hinge loss, the cheapest sound baseline",
        reference="Miyato et al. 2018, arXiv:1802.05957",
        reported=(
            ganzoo.Reported(
                "FID",
                17.81,
                "CIFAR-10 32 px",
                "50 000 fakes against the training images",
                "w86763777/pytorch-gan-collections, README",
                differs="that project's network and options of training, not this variant's",
            ),
            ganzoo.Reported(
                "FID",
                15.66,
                "CIFAR-10 32 px",
                "not said for this figure",
                "PyTorch-StudioGAN, picture of its reproductions",
                differs="that project's network and options of training, not this variant's",
            ),
        ),
    )
