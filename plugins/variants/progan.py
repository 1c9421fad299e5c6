"""ProGAN: small images first, and layers for larger ones faded in as the budget is used up (Karras et al. 2018,
arXiv:1710.10196).

Differences from the paper: the stages share the budget evenly, a third of each fading in, where the paper fades and
trains for 800 kimg each whatever the size; one batch size serves all stages; and images go through a tanh, since here
they have to be in [-1, 1]. Its configuration for CIFAR-10 (in the authors' first code) has 400 kimg in place of 800,
batches of 16, 128 channels at every size, and a gradient penalty that draws norms towards 750, here towards 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, leaky_relu

import ganzoo
from ganzoo_plugins.variants.dcgan import STAGES
from ganzoo_plugins.variants.stylegan2 import EqualizedConv, EqualizedLinear, with_deviation

FADE = 1 / 3
"""The share of each stage in which its layers are faded in; half in the paper, which fades and trains for 800 kimg."""


def normalized(x: Tensor) -> Tensor:
    """Each pixel's vector of features with a mean square of 1 (section 4.2): (N, C, …) to the same."""
    return x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()


def sizes_of(image_shape: tuple[int, int, int]) -> list[int]:
    """The sizes of the stages, each twice the one before: 4, 8, 16, 32 for 32 px."""
    if image_shape[1] not in STAGES:
        raise ValueError(f"images must be of {', '.join(map(str, STAGES))} pixels, not {image_shape[1]}")
    start, doublings = STAGES[image_shape[1]]
    return [start << stage for stage in range(doublings + 1)]


def stages(image_shape: tuple[int, int, int]) -> tuple[tuple[float, int], ...]:
    """Equal shares of the budget."""
    sizes = sizes_of(image_shape)
    return tuple(((index + 1) / len(sizes), size) for index, size in enumerate(sizes))


def faded(larger: Tensor, smaller: Tensor, stage: int, count: int, progress: Tensor | float) -> Tensor:
    """A mixture of what the larger layers and the smaller ones give, all of the larger at the end of the fade."""
    within = torch.as_tensor(progress, device=larger.device) * count - stage
    share = (within / FADE).clamp(0, 1)
    return smaller + share * (larger - smaller)


class Convolutions(nn.Sequential):
    """Two 3 x 3 convolutions with leaky ReLU, for a generator normalized after each: (N, C, …) to (N, outputs, …)."""

    def __init__(self, inputs: int, hidden: int, outputs: int, normalize: bool):
        super().__init__(EqualizedConv(inputs, hidden, 3), EqualizedConv(hidden, outputs, 3))
        self.normalize = normalize

    def forward(self, x: Tensor) -> Tensor:
        """The features."""
        for convolution in self:
            x = leaky_relu(convolution(x), 0.2)
            x = normalized(x) if self.normalize else x
        return x


class Generator(nn.Module):
    """Latents (N, D) to images (N, C, size, size) of the size that the run is at."""

    def __init__(self, sizes: list[int], widths: list[int], latent: int, channels: int):
        super().__init__()
        self.sizes, self.width = sizes, widths[0]
        self.first = EqualizedLinear(latent, widths[0] * sizes[0] ** 2)
        self.start = EqualizedConv(widths[0], widths[0], 3)
        self.blocks = nn.ModuleList(Convolutions(before, after, after, True) for before, after in pairwise(widths))
        self.to_images = nn.ModuleList(EqualizedConv(width, channels, 1) for width in widths)

    def forward(self, latent: Tensor, *, progress: Tensor | float, image_size: int) -> Tensor:
        """Between two stages the images of the smaller one, enlarged, are mixed in."""
        stage = self.sizes.index(image_size)
        x = self.first(normalized(latent)).view(-1, self.width, self.sizes[0], self.sizes[0])
        x = normalized(leaky_relu(self.start(normalized(leaky_relu(x, 0.2))), 0.2))
        before = x
        for block in list(self.blocks)[:stage]:
            before, x = x, block(interpolate(x, scale_factor=2))
        images = self.to_images[stage](x)
        if stage:
            smaller = interpolate(self.to_images[stage - 1](before), scale_factor=2)
            images = faded(images, smaller, stage, len(self.sizes), progress)
        return torch.tanh(images)


class Discriminator(nn.Module):
    """Images (N, C, size, size), of any of the sizes, to logits (N,)."""

    def __init__(self, sizes: list[int], widths: list[int], channels: int, group: int):
        super().__init__()
        self.sizes, self.group = sizes, group
        self.from_images = nn.ModuleList(EqualizedConv(channels, width, 1) for width in widths)
        self.blocks = nn.ModuleList(Convolutions(after, after, before, False) for before, after in pairwise(widths))
        self.last = EqualizedConv(widths[0] + 1, widths[0], 3)
        self.dense = EqualizedLinear(widths[0] * sizes[0] ** 2, widths[0])
        self.head = EqualizedLinear(widths[0], 1)

    def forward(self, images: Tensor, *, progress: Tensor | float) -> Tensor:
        """Between two stages what the smaller one sees of the image, halved, is mixed in."""
        stage = self.sizes.index(images.shape[2])
        x = leaky_relu(self.from_images[stage](images), 0.2)
        for index in reversed(range(stage)):
            x = avg_pool2d(self.blocks[index](x), 2)
            if index == stage - 1:
                smaller = leaky_relu(self.from_images[index](avg_pool2d(images, 2)), 0.2)
                x = faded(x, smaller, stage, len(self.sizes), progress)
        x = leaky_relu(self.last(with_deviation(x, self.group)), 0.2)
        return self.head(leaky_relu(self.dense(x.flatten(1)), 0.2)).squeeze(1)


def build(
    image_shape: tuple[int, int, int],
    latent: int,
    classes: int,
    *,
    base_channels: int = 16,
    max_channels: int = 128,
    group: int = 4,
) -> tuple[nn.Module, nn.Module]:
    """`base_channels` next to the image, doubling up to `max_channels`. (As published: 16 at 1024 px, 512 at most.)"""
    sizes = sizes_of(image_shape)
    widths = [min(max_channels, base_channels << place) for place in reversed(range(len(sizes)))]
    return (
        Generator(sizes, widths, latent, image_shape[0]),
        Discriminator(sizes, widths, image_shape[0], group),
    )


@ganzoo.hookimpl
def ganzoo_architectures() -> Iterator[ganzoo.Architecture]:
    """Networks that grow."""
    yield ganzoo.Architecture(
        "progan",
        build,
        latent=128,
        image_sizes=(16, 28, 32, 64),
        stages=stages,
        summary="networks that grow with the budget, from 4 px",
        reference="Karras et al. 2018, arXiv:1710.10196, section 2 and appendix A",
    )


@ganzoo.hookimpl
def ganzoo_losses() -> Iterator[ganzoo.Loss | ganzoo.Penalty]:
    """The Wasserstein loss with one update of each player, and what keeps logits from drifting away from 0."""
    yield ganzoo.Loss.of_logits(
        "progan",
        discriminator=lambda real, fake: {"real": -real.mean(), "fake": fake.mean()},
        generator=lambda fake: {"fool": -fake.mean()},
        penalties=("gradient-penalty", "drift"),
        summary="WGAN-GP with drift and one update of the critic per update of the generator",
        reference="Karras et al. 2018, arXiv:1710.10196, appendix A.1",
    )
    yield ganzoo.Penalty(
        "drift",
        lambda real_logits, *, weight: weight * real_logits.square().mean(),
        hyper={"weight": 0.001},
        summary="weight · E D(x)² on real images",
        reference="Karras et al. 2018, arXiv:1710.10196, appendix A.1",
    )


@ganzoo.hookimpl
def ganzoo_variants() -> Iterator[ganzoo.Variant]:
    """WGAN-GP with drift, Adam without a first moment, as in appendix A.1."""
    yield ganzoo.Variant(
        "progan",
        architecture="progan",
        loss="progan",
        optimizer=ganzoo.Optimizer("adam", 1e-3, betas=(0.0, 0.99)),
        batch_size=64,
        summary="grows from 4 px to the images' size",
        reference="Karras et al. 2018, arXiv:1710.10196",
        reported=(
            ganzoo.Reported("IS", 8.80, "CIFAR-10 32 px", "best of a training", "arXiv:1710.10196, section 6.5"),
        ),
    )
