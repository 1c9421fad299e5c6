"""Diffusion-GAN: the discriminator sees diffused images, and how far each is diffused (Wang et al. 2022,
arXiv:2206.02262).

An image goes through a random part of a forward diffusion, whose length T grows where the discriminator overfits. The
paper's networks are those of StyleGAN2 and others; here they are DCGAN's, with a head that knows the timestep.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

import ganzoo
from ganzoo_plugins.augmentations.overfitting import HEURISTIC, adapt
from ganzoo_plugins.variants import dcgan

SHORTEST, LONGEST = 10, 1000
"""What T begins with, and the most that it can be."""

BETAS = (1e-4, 2e-2)
"""The variance of the noise that the first step of the diffusion adds, and the last, straight in between."""


def diffuse(images: Tensor, T: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:  # noqa: N803, the paper's name
    """`(y, t)` with y = √ᾱ_t · x + √(1 − ᾱ_t) · sigma · ε: (N, C, H, W), and t (N,) as float32.

    As in the authors' code (github.com/Zhendong-Wang/Diffusion-GAN) half of the images have t = 0 and stay as they are,
    and T is the length of the diffusion, whatever its variances begin and end with. The other images have a t from 1 to
    T, drawn in proportion to itself ("priority", equation 11).
    """
    steps = T.round()
    t = timesteps(torch.rand(len(images), device=images.device), steps)
    t = torch.where(torch.rand(len(images), device=images.device) < 0.5, t, 0)
    kept = signal_left(steps)[t.long()].view(-1, 1, 1, 1)
    return kept.sqrt() * images + (1 - kept).sqrt() * sigma * torch.randn_like(images), t


def timesteps(share: Tensor, steps: Tensor) -> Tensor:
    """The t from 1 to `steps` below which this share of the distribution P(t) = 2t / (steps (steps + 1)) lies."""
    return ((1 + 4 * share * steps * (steps + 1)).sqrt().sub(1) / 2).ceil().clamp(min=1).minimum(steps)


def signal_left(steps: Tensor) -> Tensor:
    """ᾱ_t for t from 0 to `LONGEST`, (LONGEST + 1,), of a diffusion of so many steps; beyond them it means nothing."""
    first, last = BETAS
    along = torch.arange(LONGEST + 1, device=steps.device) - 1
    betas = (first + (last - first) * along / (steps - 1)).clamp(max=last)
    return torch.where(along < 0, 1, 1 - betas).cumprod(0)


def adapt_length(
    real_logits: Tensor,
    images_seen: Tensor,
    T: Tensor,  # noqa: N803, the paper's name
    r_t: Tensor,
    signs: Tensor,
    minibatches: Tensor,
    target: Tensor,
    kimg: Tensor,
) -> dict[str, Tensor]:
    """T goes from its least to its most as ADA's p goes from 0 to 1."""
    p = (T - SHORTEST) / (LONGEST - SHORTEST)
    state = adapt(real_logits, images_seen, p, r_t, signs, minibatches, target, kimg)
    return {"T": SHORTEST + (LONGEST - SHORTEST) * state.pop("p"), **state}


class TimedDiscriminator(dcgan.Discriminator):
    """Diffused images (N, C, H, W) and timesteps (N,) to logits (N,). A timestep weighs the features."""

    def __init__(self, trunk: nn.Module, features: int, frequencies: int, slope: float):
        super().__init__(trunk, features)
        self.register_buffer("frequencies", LONGEST ** -torch.linspace(0, 1, frequencies))
        self.weigh = nn.Sequential(
            nn.Linear(2 * frequencies, 2 * frequencies),
            nn.LeakyReLU(slope),
            nn.Linear(2 * frequencies, features),
        )

    def features(self, images: Tensor, timestep: Tensor | None = None) -> Tensor:
        """What the head sees: (N, features)."""
        if timestep is None or not timestep.is_floating_point():
            # Images as they are, with nothing behind them, or with their labels, for which there is no use here.
            timestep = images.new_zeros(len(images))
        angles = timestep[:, None] * self.frequencies
        return self.trunk(images) * (1 + self.weigh(torch.cat([angles.sin(), angles.cos()], 1)))

    def forward(self, images: Tensor, timestep: Tensor | None = None) -> Tensor:
        """The logits."""
        return self.head(self.features(images, timestep)).squeeze(1)


def build(
    image_shape: tuple[int, int, int],
    latent: int,
    classes: int,
    *,
    base_channels: int = 64,
    slope: float = 0.2,
    discriminator_norm: str = "batch",
    frequencies: int = 32,
    init_std: float = 0.02,
) -> tuple[nn.Module, nn.Module]:
    """DCGAN's networks, whose discriminator knows the timestep by sines and cosines of so many frequencies."""
    trunk, features = dcgan.trunk(image_shape, base_channels, slope, discriminator_norm)
    discriminator = TimedDiscriminator(trunk, features, frequencies, slope)
    generator = dcgan.generator(image_shape, latent, base_channels)
    return dcgan.initialize(generator, init_std), dcgan.initialize(discriminator, init_std)


@ganzoo.hookimpl
def ganzoo_architectures() -> Iterator[ganzoo.Architecture]:
    """DCGAN's pair, with a discriminator for the augmentation `diffusion`."""
    yield ganzoo.Architecture(
        "diffusion-gan",
        build,
        image_sizes=dcgan.SIZES,
        summary="DCGAN's networks with a discriminator that knows how far its images are diffused",
        reference="Wang et al. 2022, arXiv:2206.02262",
    )


@ganzoo.hookimpl
def ganzoo_losses() -> Iterator[ganzoo.Augmentation]:
    """The target, σ and the speed are those of the authors' code for CIFAR-10."""
    yield ganzoo.Augmentation(
        "diffusion",
        diffuse,
        hyper={"target": 0.6, "kimg": 100.0, "sigma": 0.05},
        state={"T": float(SHORTEST), **HEURISTIC},
        adapt=adapt_length,
        summary="a random part of a diffusion, whose length follows overfitting, and how long that part is",
        reference="Wang et al. 2022, arXiv:2206.02262",
    )


@ganzoo.hookimpl
def ganzoo_variants() -> Iterator[ganzoo.Variant]:
    """Diffusion-GAN with DCGAN's recipe."""
    yield ganzoo.Variant(
        "diffusion-gan",
        architecture="diffusion-gan",
        loss="non-saturating",
        augment=("diffusion",),
        optimizer=ganzoo.Optimizer("adam", 2e-4, betas=(0.5, 0.999)),
        summary="DCGAN whose discriminator sees diffused images, the more so the more it overfits",
        reference="Wang et al. 2022, arXiv:2206.02262",
    )
