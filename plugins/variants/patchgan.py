"""PatchGAN: a discriminator of overlapping patches, at one scale or more (Isola et al. 2017, arXiv:1611.07004).

The papers translate images into images; here DCGAN's generator makes them from latents. The patches are of 16 pixels,
for small images, where the papers' are of 70, and the paper of several scales (Wang et al. 2018, arXiv:1711.11585) has
three and InstanceNorm.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

import ganzoo
from ganzoo_plugins.variants import dcgan

MOST = 8
"""The width grows to this many times that of the first layer at most, as in the paper."""


def patch_discriminator(channels: int, size: int, halvings: int, base_channels: int, slope: float) -> nn.Sequential:
    """(N, C, S, S) to logits (N, 1, s, s) of patches of 16, 34 or 70 pixels: 1, 2 or 3 `halvings` (appendix 6.1.2).

    Convolutions of 4 x 4: `halvings` of stride 2, then two of stride 1, BatchNorm in all but the first and the last.
    """
    if halvings < 1 or (size >> halvings) < 3:
        raise ValueError(
            f"images of {size} pixels are too small for {halvings} halvings; at least 1, down to a map of 3"
        )
    layers: list[nn.Module] = [nn.Conv2d(channels, base_channels, 4, 2, 1), nn.LeakyReLU(slope)]
    width = base_channels
    for stage in range(1, halvings + 1):
        wider = base_channels * min(2**stage, MOST)
        stride = 2 if stage < halvings else 1
        layers += [nn.Conv2d(width, wider, 4, stride, 1, bias=False), nn.BatchNorm2d(wider), nn.LeakyReLU(slope)]
        width = wider
    return nn.Sequential(*layers, nn.Conv2d(width, 1, 4, 1, 1))


class Scales(nn.Module):
    """A discriminator of its own for the images and for each halving of them: (N, C, H, W) to a list of maps."""

    def __init__(self, discriminators: list[nn.Module]):
        super().__init__()
        self.discriminators = nn.ModuleList(discriminators)
        self.halved = nn.AvgPool2d(3, 2, 1, count_include_pad=False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """The map of the images as they are comes first."""
        maps = []
        for index, discriminator in enumerate(self.discriminators):
            images = self.halved(images) if index else images
            maps.append(discriminator(images))
        return maps


def build(
    image_shape: tuple[int, int, int],
    latent: int,
    classes: int,
    *,
    halvings: int = 1,
    base_channels: int = 64,
    slope: float = 0.2,
    init_std: float = 0.02,
) -> tuple[nn.Module, nn.Module]:
    """`halvings` decide the size of the patches: 16 pixels for 1, 34 for 2, 70 for 3."""
    generator = dcgan.generator(image_shape, latent, base_channels)
    discriminator = patch_discriminator(image_shape[0], image_shape[1], halvings, base_channels, slope)
    return dcgan.initialize(generator, init_std), dcgan.initialize(discriminator, init_std)


def build_scales(
    image_shape: tuple[int, int, int],
    latent: int,
    classes: int,
    *,
    scales: int = 2,
    halvings: int = 1,
    base_channels: int = 64,
    slope: float = 0.2,
    init_std: float = 0.02,
) -> tuple[nn.Module, nn.Module]:
    """`scales` discriminators of the same form, each for images of half the size of those of the one before."""
    generator = dcgan.generator(image_shape, latent, base_channels)
    channels, size, _ = image_shape
    sizes = [size]
    while len(sizes) < scales:
        sizes.append((sizes[-1] + 1) // 2)
    discriminator = Scales([patch_discriminator(channels, s, halvings, base_channels, slope) for s in sizes])
    return dcgan.initialize(generator, init_std), dcgan.initialize(discriminator, init_std)


@ganzoo.hookimpl
def ganzoo_architectures() -> Iterator[ganzoo.Architecture]:
    """Maps of logits from one discriminator, and from several."""
    yield ganzoo.Architecture(
        "patchgan",
        build,
        image_sizes=dcgan.SIZES,
        gives="patches",
        summary="DCGAN's generator against a discriminator of overlapping patches",
        reference="Isola et al. 2017, arXiv:1611.07004, appendix 6.1.2",
    )
    yield ganzoo.Architecture(
        "patchgan-scales",
        build_scales,
        image_sizes=tuple(size for size in dcgan.SIZES if size >= 16),
        gives="patches",
        summary="DCGAN's generator against discriminators of patches of the images and of halved images",
        reference="Wang et al. 2018, arXiv:1711.11585",
    )


@ganzoo.hookimpl
def ganzoo_variants() -> Iterator[ganzoo.Variant]:
    """Adam at 2e-4 with a first moment of 0.5, as in both papers; their losses without what translation adds."""
    yield ganzoo.Variant(
        "patchgan",
        architecture="patchgan",
        loss="non-saturating",
        optimizer=ganzoo.Optimizer("adam", 2e-4, betas=(0.5, 0.999)),
        batch_size=64,
        summary="DCGAN against a judge of patches",
        reference="Isola et al. 2017, arXiv:1611.07004",
    )
    yield ganzoo.Variant(
        "patchgan-scales",
        architecture="patchgan-scales",
        loss="least-squares",
        optimizer=ganzoo.Optimizer("adam", 2e-4, betas=(0.5, 0.999)),
        batch_size=64,
        summary="DCGAN against judges of patches at two scales, with least squares",
        reference="Wang et al. 2018, arXiv:1711.11585",
    )
