"""R3GAN, shrunk for short budgets: a relativistic loss, R1 and R2, and plain residual networks.

Huang et al. 2024, arXiv:2501.05441, section 3 (their config E). There is no normalization anywhere; instead the last
convolution of each residual branch starts at zero, so that both networks begin as almost linear maps.

Differences from the paper: fewer and narrower layers, without groups (see `build`); a tanh at the end; halving by the
mean of four pixels; and the branches' other convolutions start with He's variance, which fix-up scales down further.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn

import ganzoo
from ganzoo_plugins.variants.dcgan import SIZES, Discriminator, stages


class Residual(nn.Module):
    """x + branch(x), (N, C, H, W) to the same: 1 x 1, 3 x 3 in groups, 1 x 1 (ResNeXt without normalization)."""

    def __init__(self, channels: int, expansion: int, groups: int, slope: float):
        super().__init__()
        hidden = channels * expansion
        self.branch = nn.Sequential(
            nn.Conv2d(channels, hidden, 1),
            nn.LeakyReLU(slope),
            nn.Conv2d(hidden, hidden, 3, padding=1, groups=groups),
            nn.LeakyReLU(slope),
            nn.Conv2d(hidden, channels, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """The sum of the input and the branch."""
        return x + self.branch(x)


class Basis(nn.Module):
    """The latent weighs learned maps, which open the generator: (N, latent) to (N, channels, start, start)."""

    def __init__(self, latent: int, channels: int, start: int):
        super().__init__()
        self.maps = nn.Parameter(torch.empty(channels, start, start))
        self.weights = nn.Linear(latent, channels, bias=False)
        nn.init.normal_(self.maps)

    def forward(self, latent: Tensor) -> Tensor:
        """One weight for each map."""
        return self.maps * self.weights(latent)[:, :, None, None]


def initialize(network: nn.Module, slope: float) -> nn.Module:
    """He initialization, zero biases, and zero for the last convolution of each branch; returns `network`."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in network.modules():
        if isinstance(module, Residual):
            first, middle, last = (layer for layer in module.branch if isinstance(layer, nn.Conv2d))
            nn.init.kaiming_normal_(first.weight, a=slope)
            nn.init.kaiming_normal_(middle.weight, a=slope)
            nn.init.zeros_(last.weight)
    return network


def build(
    image_shape: tuple[int, int, int],
    latent: int,
    classes: int,
    *,
    base_channels: int = 16,
    max_channels: int = 256,
    blocks: int = 1,
    expansion: int = 2,
    groups: int = 1,
    slope: float = 0.2,
) -> tuple[nn.Module, nn.Module]:
    """`blocks` residual blocks at each size, of `base_channels` next to the image, doubling up to `max_channels`.

    As published for CIFAR-10: 768 channels at every size, 2 blocks, 3 x 3 convolutions in 96 groups. The tanh keeps
    the images in [-1, 1].
    """
    start, n = stages(image_shape)
    widths = [min(base_channels << stage, max_channels) for stage in range(n + 1)]

    def stage(channels: int) -> list[nn.Module]:
        return [Residual(channels, expansion, groups, slope) for _ in range(blocks)]

    up: list[nn.Module] = [Basis(latent, widths[-1], start), *stage(widths[-1])]
    for before, after in pairwise(reversed(widths)):
        up += [nn.Conv2d(before, after, 1, bias=False), nn.Upsample(scale_factor=2, mode="bilinear"), *stage(after)]
    generator = nn.Sequential(*up, nn.Conv2d(widths[0], image_shape[0], 1), nn.Tanh())

    # Halving by AvgPool2d(2) is bilinear: each output lies in the middle of four pixels.
    down: list[nn.Module] = [nn.Conv2d(image_shape[0], widths[0], 1), *stage(widths[0])]
    for before, after in pairwise(widths):
        down += [nn.AvgPool2d(2), nn.Conv2d(before, after, 1, bias=False), *stage(after)]
    down += [nn.Conv2d(widths[-1], widths[-1], start, groups=widths[-1], bias=False), nn.Flatten()]
    discriminator = Discriminator(nn.Sequential(*down), widths[-1])
    return initialize(generator, slope), initialize(discriminator, slope)


@ganzoo.hookimpl
def ganzoo_architectures() -> Iterator[ganzoo.Architecture]:
    """Residual networks without normalization."""
    yield ganzoo.Architecture(
        "r3gan",
        build,
        latent=64,
        image_sizes=SIZES,
        summary="residual networks without normalization, bilinear resampling",
        reference="Huang et al. 2024, arXiv:2501.05441, section 3 (shrunk)",
    )


@ganzoo.hookimpl
def ganzoo_variants() -> Iterator[ganzoo.Variant]:
    """Pairing, R1 and R2 in every step, EMA, and cosine schedules of the learning rate and of gamma, as in their code.

    There gamma is chosen for each dataset, from 0.05 for CIFAR-10 to 150 for FFHQ at 256 px, and falls to a tenth; 1 is
    theirs for ImageNet at 64 px. Their second moment rises from 0.9 to 0.99 and their augmentation from none; here the
    moment stays and there is no augmentation.
    """
    gamma = ganzoo.Schedule("cosine", to=0.1)
    yield ganzoo.Variant(
        "r3gan",
        architecture="r3gan",
        loss="relativistic",
        penalties=("r1", "r2"),
        hyper={"r1.gamma": 1.0, "r2.gamma": 1.0},
        schedules={"r1.gamma": gamma, "r2.gamma": gamma},
        optimizer=ganzoo.Optimizer("adam", 2e-4, betas=(0.0, 0.99)),
        rate_decay=ganzoo.Schedule("cosine", to=0.25),
        batch_size=64,
        summary="relativistic pairing with R1 and R2 on residual networks",
        reference="Huang et al. 2024, arXiv:2501.05441",
        reported=(
            ganzoo.Reported(
                "FID",
                1.96,
                "CIFAR-10 32 px",
                "conditional; its extractor, split and number of images are not given here",
                "README of the authors' code (arXiv:2501.05441)",
                budget="250 million images, by issue 18 of that repository",
                differs="conditional, wider networks, batch 512, augmentation, scheduled betas",
            ),
        ),
    )
