"""Improved consistency regularization: bCR and zCR (Zhao et al. 2020, arXiv:2002.04724).

bCR asks the discriminator to say the same of an image and of the image a little moved, zCR of the images of a latent
and of one beside it; the generator's part of zCR keeps these two images apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

import ganzoo
from ganzoo_plugins.augmentations.one_logit import one_logit
from ganzoo_plugins.augmentations.pixels import picked, reflected

SHIFT = 1 / 8
"""The furthest shift, as a share of the image's size: 4 of 32 pixels, as in CR-GAN (Zhang et al. 2020,
arXiv:1910.12027)."""


def moved(images: Tensor) -> Tensor:
    """Mirrored with probability 1/2 and shifted by up to `SHIFT` along each axis, with reflected borders."""
    n, _, height, width = images.shape

    def shifted(size: int) -> Tensor:
        furthest = int(SHIFT * size)
        shift = torch.randint(-furthest, furthest + 1, (n, 1), device=images.device).float()
        return reflected(torch.arange(size, device=images.device) + shift, size)

    columns = shifted(width)
    mirrored = torch.rand(n, 1, device=images.device) < 0.5
    return picked(images, shifted(height), torch.where(mirrored, width - 1 - columns, columns))


def with_images_moved(inputs: Any) -> Any:
    """What a judge is given, with all images in it moved; codes and labels as they are."""
    if isinstance(inputs, ganzoo.Inputs):
        return ganzoo.Inputs(with_images_moved(part) for part in inputs)
    return moved(inputs) if isinstance(inputs, Tensor) and inputs.dim() == 4 else inputs


def bcr(
    discriminator: Any,
    real: Any,
    fake: Any,
    real_logits: Tensor,
    fake_logits: Tensor,
    real_weight: Tensor,
    fake_weight: Tensor,
) -> dict[str, Tensor]:
    """weight · E(D(x) − D(T(x)))² on either side, where T mirrors and shifts.

    D(x) is what the phase says of x: of the augmented image where the variant has an augmentation.
    """
    moved_real = one_logit(discriminator.plain(with_images_moved(real)))
    moved_fake = one_logit(discriminator.plain(with_images_moved(fake)))
    return {
        "real": real_weight * (one_logit(real_logits) - moved_real).square().mean(),
        "fake": fake_weight * (one_logit(fake_logits) - moved_fake).square().mean(),
    }


def zcr(
    generator: Callable[..., Tensor],
    discriminator: Any,
    latent: Tensor,
    fake_labels: Tensor | None,
    fake_logits: Tensor,
    weight: Tensor,
    sigma: Tensor,
) -> Tensor:
    """weight · E(D(G(z)) − D(G(z + Δz)))² with Δz from N(0, sigma²) (the discriminator's part)."""
    with torch.no_grad():
        beside = generator(latent + sigma * torch.randn_like(latent), fake_labels)
    return weight * (one_logit(fake_logits) - one_logit(discriminator(beside, fake_labels))).square().mean()


def zcr_generator(
    generator: Callable[..., Tensor],
    fake: Any,
    latent: Tensor,
    fake_labels: Tensor | None,
    weight: Tensor,
    sigma: Tensor,
) -> Tensor:
    """−weight · E(G(z) − G(z + Δz))², the mean over pixels (the generator's part)."""
    images: Tensor = fake[0] if isinstance(fake, ganzoo.Inputs) else fake
    beside = generator(latent + sigma * torch.randn_like(latent), fake_labels)
    return -weight * (images - beside.view_as(images)).square().mean()


@ganzoo.hookimpl
def ganzoo_losses() -> Iterator[ganzoo.Penalty]:
    """ICR is all three, as in `--models sngan+bcr+zcr+zcr-generator`.

    The weights are those of PyTorch-StudioGAN for CIFAR-10 (`BigGAN-Mod-ICR.yaml`).
    """
    reference = "Zhao et al. 2020, arXiv:2002.04724"
    yield ganzoo.Penalty(
        "bcr",
        bcr,
        hyper={"real_weight": 10.0, "fake_weight": 10.0},
        summary="the discriminator says the same of an image, real or fake, and of the image moved",
        reference=reference,
    )
    yield ganzoo.Penalty(
        "zcr",
        zcr,
        hyper={"weight": 20.0, "sigma": 0.05},
        summary="the discriminator says the same of the images of two latents close together",
        reference=reference,
    )
    yield ganzoo.Penalty(
        "zcr-generator",
        zcr_generator,
        hyper={"weight": 0.5, "sigma": 0.05},
        player="generator",
        summary="the generator keeps the images of two latents close together apart",
        reference=reference,
    )
