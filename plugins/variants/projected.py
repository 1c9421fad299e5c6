"""Projected GAN: a discriminator on the features of a frozen network (Sauer et al. 2021, arXiv:2111.01007).

Images pass through EfficientNet-Lite0, trained on ImageNet; random, frozen convolutions mix its maps of four sizes, and
each size has a small discriminator. Differences: the paper augments what passes through the features, and has more
channels in FastGAN's generator (Liu et al. 2021, arXiv:2101.04775), which is cut here to images of at most 64 px.

The features tell ImageNet's classes apart, as Inception's do: its FID flatters what was trained on them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import glu, interpolate
from torch.nn.utils.parametrizations import spectral_norm

import ganzoo
from ganzoo_plugins.features.lite0_network import EXTRA, SHA256, file_of_package, lite0
from ganzoo_plugins.variants.dcgan import stages

SIZES = (16, 28, 32, 64)

GROUPS = ((0, 3), (3, 5), (5, 11), (11, 16))
"""The blocks of EfficientNet-Lite0, first and past the last, up to its maps of 1/4, 1/8, 1/16 and 1/32 of the input."""

CHANNELS = (24, 40, 112, 320)
"""The channels of these maps."""


def pretrained() -> nn.ModuleList:
    """The four parts of EfficientNet-Lite0, frozen: images (N, 3, H, W) in [-1, 1] to maps of `CHANNELS`.

    On the meta device the weights stay unknown. Raises `UsageError` where a package is not installed, and
    `WeightsUnavailable` where the file is not the known one.
    """
    try:
        path = file_of_package()
    except ImportError:
        raise ganzoo.UsageError(f"projected-gan needs a pretrained EfficientNet-Lite0: {EXTRA}") from None
    if not path.is_file() or ganzoo.sha256_of_file(path) != SHA256:
        raise ganzoo.WeightsUnavailable(
            f"{path} is not the known file of EfficientNet-Lite0: {EXTRA} --force-reinstall"
        )
    network = lite0(path)
    opening = [network._conv_stem, network._bn0, nn.ReLU6()]
    parts = [nn.Sequential(*network._blocks[first:end]) for first, end in GROUPS]
    parts[0] = nn.Sequential(*opening, *parts[0])
    return nn.ModuleList(parts)


class Features(nn.Module):
    """Images (N, C, H, W) in [-1, 1] to four maps of 1/2, 1/4, 1/8 and 1/16 of `input_size`; frozen, in eval mode.

    Random 1 x 1 convolutions mix the channels of each map (cross-channel mixing); from the smallest map on, the mixed
    map above is added, the sum doubled in size, and its channels are halved by another (cross-scale mixing, figure
    3, which has 3 x 3 convolutions there; 1 x 1 as in the authors' code).
    """

    def __init__(self, channels: int, input_size: int):
        super().__init__()
        self.input_size = input_size
        self.parts = pretrained()
        mixed = [channels << index for index in range(len(CHANNELS))]
        self.channels = [channels, *mixed[:-1]]
        self.across_channels = nn.ModuleList(nn.Conv2d(*pair, 1) for pair in zip(CHANNELS, mixed, strict=True))
        self.across_scales = nn.ModuleList(nn.Conv2d(*pair, 1) for pair in zip(mixed, self.channels, strict=True))
        self.requires_grad_(False)

    def train(self, mode: bool = True) -> Features:
        """Stays in eval mode: the statistics are those of ImageNet."""
        return super().train(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """The maps, the largest first; grey images count as three equal colours."""
        size = (self.input_size, self.input_size)
        x = interpolate(images.expand(-1, 3, -1, -1), size=size, mode="bilinear", align_corners=False)
        maps = []
        for part, mix in zip(self.parts, self.across_channels, strict=True):
            x = part(x)
            maps.append(mix(x))
        below: Tensor | None = None
        for index in reversed(range(len(maps))):
            total = maps[index] if below is None else maps[index] + below
            enlarged = interpolate(total, scale_factor=2, mode="bilinear", align_corners=True)
            below = maps[index] = self.across_scales[index](enlarged)
        return maps


def head(channels: int, size: int) -> nn.Sequential:
    """(N, channels, size, size) to a map of logits: halved, channels doubled, while larger than 7 x 7, then 4 x 4."""
    layers: list[nn.Module] = []
    while size > 7:
        convolution = spectral_norm(nn.Conv2d(channels, 2 * channels, 4, 2, 1))
        layers += [convolution, nn.BatchNorm2d(2 * channels), nn.LeakyReLU(0.2)]
        channels, size = 2 * channels, size // 2
    return nn.Sequential(*layers, spectral_norm(nn.Conv2d(channels, 1, 4, bias=False)))


class Discriminator(nn.Module):
    """Images (N, C, H, W) to four maps of logits, one for each size of the features."""

    def __init__(self, channels: int, input_size: int):
        super().__init__()
        self.frozen = Features(channels, input_size)
        self.heads = nn.ModuleList(
            head(channels, input_size >> (index + 1)) for index, channels in enumerate(self.frozen.channels)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """How real each place looks, at each size."""
        return [head(features) for head, features in zip(self.heads, self.frozen(images), strict=True)]


class Noise(nn.Module):
    """x + strength · noise, one value for all channels of a pixel, drawn anew in each call; strength starts at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        return x + self.strength * torch.randn(len(x), 1, *x.shape[2:], device=x.device, dtype=x.dtype)


class GatedLayer(nn.Sequential):
    """A convolution, BatchNorm and a gated linear unit: half of the channels decide what passes of the others."""

    def __init__(self, convolution: nn.Module, outputs: int, noise: bool = False):
        super().__init__(spectral_norm(convolution), Noise() if noise else nn.Identity(), nn.BatchNorm2d(2 * outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, outputs, …)."""
        return glu(super().forward(x), 1)


def doubling(inputs: int, outputs: int, noise: bool) -> nn.Sequential:
    """Nearest neighbours and a layer; with `noise` two of them that have it."""
    layers: list[nn.Module] = [
        nn.Upsample(scale_factor=2),
        GatedLayer(nn.Conv2d(inputs, 2 * outputs, 3, padding=1, bias=False), outputs, noise),
    ]
    if noise:
        layers.append(GatedLayer(nn.Conv2d(outputs, 2 * outputs, 3, padding=1, bias=False), outputs, noise))
    return nn.Sequential(*layers)


class Generator(nn.Module):
    """Latents (N, D), put on a sphere, to images (N, C, H, W) in [-1, 1].

    At 64 px the smallest map decides which channels of the largest pass (FastGAN's skip-layer excitation).
    """

    def __init__(self, latent: int, widths: list[int], start: int, channels: int):
        super().__init__()
        self.first = GatedLayer(nn.ConvTranspose2d(latent, 2 * widths[0], start, bias=False), widths[0])
        pairs = list(pairwise(widths))
        self.doubling = nn.ModuleList(doubling(*pair, noise=index % 2 == 0) for index, pair in enumerate(pairs))
        self.excitation = None
        if len(pairs) > 3:
            self.excitation = nn.Sequential(
                spectral_norm(nn.Conv2d(widths[0], widths[-1], start, bias=False)),
                nn.SiLU(),
                spectral_norm(nn.Conv2d(widths[-1], widths[-1], 1, bias=False)),
                nn.Sigmoid(),
            )
        self.last = nn.Sequential(spectral_norm(nn.Conv2d(widths[-1], channels, 3, padding=1)), nn.Tanh())

    def forward(self, latent: Tensor) -> Tensor:
        """The images."""
        latent = latent * (latent.square().mean(1, keepdim=True) + 1e-8).rsqrt()
        smallest = x = self.first(latent[:, :, None, None])
        for double in self.doubling:
            x = double(x)
        return self.last(x if self.excitation is None else x * self.excitation(smallest))


def build(
    image_shape: tuple[int, int, int],
    latent: int,
    classes: int,
    *,
    base_channels: int = 16,
    max_channels: int = 128,
    projected_channels: int = 16,
    input_size: int = 64,
) -> tuple[nn.Module, nn.Module]:
    """`base_channels` next to the image, doubling with every halving of the map up to `max_channels`.

    `projected_channels` is the width of the largest projected map, doubling likewise; `input_size` that to which images
    are resized before the features, a multiple of 32 from 64 on. The authors' code has 64 and 224, and 2048 channels
    at 4 px, twice those of variant `projected-gan`.
    """
    if input_size < 64 or input_size % 32:
        raise ValueError(f"input_size is a multiple of 32 from 64 on, not {input_size}")
    start, n = stages(image_shape)
    widths = [min(base_channels << stage, max_channels) for stage in reversed(range(n + 1))]
    return Generator(latent, widths, start, image_shape[0]), Discriminator(projected_channels, input_size)


@ganzoo.hookimpl
def ganzoo_architectures() -> Iterator[ganzoo.Architecture]:
    """Needs `pip install 'ganzoo[natural]'`."""
    yield ganzoo.Architecture(
        "projected-gan",
        build,
        latent=256,
        image_sizes=SIZES,
        gives="patches",
        teachers=(SHA256,),
        summary="FastGAN's generator against heads on randomly projected, frozen features of EfficientNet-Lite0",
        reference="Sauer et al. 2021, arXiv:2111.01007",
    )


@ganzoo.hookimpl
def ganzoo_variants() -> Iterator[ganzoo.Variant]:
    """The hinge loss over all heads, with the recipe of the authors' code (github.com/autonomousvision/projected-gan).

    There DiffAugment comes before the features; with a plugin that has it, `--models projected-gan+diffaug`.
    """
    recipe = ganzoo.Optimizer("adam", 2e-4, betas=(0.0, 0.99))
    yield ganzoo.Variant(
        "projected-gan",
        architecture="projected-gan",
        loss="hinge",
        options={"base_channels": 128, "max_channels": 1024, "projected_channels": 64, "input_size": 224},
        optimizer=recipe,
        batch_size=64,
        ema_half_life_kimg=20.0,
        summary="heads on projected features of a frozen network (needs 'ganzoo[natural]')",
        reference="Sauer et al. 2021, arXiv:2111.01007",
    )
    yield ganzoo.Variant(
        "projected-gan-small",
        architecture="projected-gan",
        loss="hinge",
        optimizer=recipe,
        batch_size=32,
        summary="Projected GAN with few channels and smaller features, for a CPU (needs 'ganzoo[natural]')",
        reference="Sauer et al. 2021, arXiv:2111.01007 (shrunk)",
    )
