"""LOGAN: latents take a natural-gradient step towards what the discriminator likes (Wu et al. 2019, arXiv:1912.00953).

Both players learn through that step, which is taken in training only: images are drawn from the prior as it is.

Differences from the paper: SNGAN's small networks, where its main results are BigGAN-deep's; z' is kept within the
range of its batch, so that the loss goes with any prior (the paper clips it to the range of its uniform one, [-1, 1]);
and a share of the latents takes the step, as in PyTorch-StudioGAN, not a share of each latent's elements. The
coefficients are those of that project's recipe for CIFAR-10; with BigGAN-deep the paper has a beta of 5, half of the
elements and a weight of 300.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import relu

import ganzoo
from ganzoo.losses import gradient
from ganzoo_plugins.variants import sngan


def draw_latent(n: int, latent: int, rng: torch.Generator, **options: object) -> Tensor:
    """(n, latent) on `rng.device`, uniform on [-1, 1)."""
    return torch.rand(n, latent, generator=rng, device=rng.device) * 2 - 1


def optimized(
    generator: Any, discriminator: Any, batch: ganzoo.Batch, alpha: Tensor, beta: Tensor, share: Tensor
) -> tuple[Tensor, Tensor]:
    """z' = z + Δz and E‖Δz‖², with Δz = α g / (‖g‖² + β) and g = ∂D(G(z))/∂z, which may be differentiated again.

    This is the natural gradient by the empirical Fisher matrix g gᵀ, damped by β. Each image's latent (N, latent) takes
    the step with the probability `share`.
    """
    labels = batch.fake_labels
    slope = gradient(lambda z: discriminator(generator(z, labels), labels), batch.latent)
    step = alpha * slope / (slope.square().sum(1, keepdim=True) + beta)
    taken = (torch.rand(len(step), 1, device=step.device) < share).to(step.dtype)
    moved = batch.latent + taken * step
    return moved.clamp(batch.latent.min(), batch.latent.max()), step.square().sum(1).mean()


def discriminator_terms(
    generator: Any,
    discriminator: Any,
    batch: ganzoo.Batch,
    alpha: Tensor,
    beta: Tensor,
    share: Tensor,
    weight: Tensor,
) -> ganzoo.Terms:
    """The hinge loss at z'. Its gradient goes through the step as well."""
    latent, length = optimized(generator, discriminator, batch, alpha, beta, share)
    fake = generator(latent, batch.fake_labels)
    losses = {
        "real": relu(1 - discriminator(batch.real, batch.labels)).mean(),
        "fake": relu(1 + discriminator(fake, batch.fake_labels)).mean(),
        "step": weight * length,
    }
    return ganzoo.Terms(losses, judged=(batch.real, fake))


def generator_terms(
    generator: Any,
    discriminator: Any,
    batch: ganzoo.Batch,
    alpha: Tensor,
    beta: Tensor,
    share: Tensor,
    weight: Tensor,
) -> ganzoo.Terms:
    """-D(G(z')), and the same term of the step's length."""
    latent, length = optimized(generator, discriminator, batch, alpha, beta, share)
    fake = generator(latent, batch.fake_labels)
    losses = {"fool": -discriminator(fake, batch.fake_labels).mean(), "step": weight * length}
    return ganzoo.Terms(losses, judged=(batch.real, fake))


@ganzoo.hookimpl
def ganzoo_architectures() -> Iterator[ganzoo.Architecture]:
    """The paper's prior."""
    yield ganzoo.Architecture(
        "logan",
        sngan.build,
        latent=128,
        draw_latent=draw_latent,
        summary="SNGAN's networks with a uniform prior",
        reference="Wu et al. 2019, arXiv:1912.00953; Miyato et al. 2018, arXiv:1802.05957, table 3",
    )


@ganzoo.hookimpl
def ganzoo_losses() -> Iterator[ganzoo.Loss]:
    """For any architecture; `alpha` and `beta` are the paper's names."""
    yield ganzoo.Loss(
        "logan",
        phases=(
            ganzoo.Phase("discriminator", discriminator_terms, updates="discriminator"),
            ganzoo.Phase("generator", generator_terms, updates="generator"),
        ),
        hyper={"alpha": 0.9, "beta": 0.1, "share": 0.8, "weight": 0.1},
        summary="the hinge loss at latents that have taken a natural-gradient step",
        reference="Wu et al. 2019, arXiv:1912.00953, algorithm 1",
    )


@ganzoo.hookimpl
def ganzoo_variants() -> Iterator[ganzoo.Variant]:
    """SNGAN's recipe."""
    yield ganzoo.Variant(
        "logan",
        architecture="logan",
        loss="logan",
        optimizer=ganzoo.Optimizer("adam", 2e-4, betas=(0.0, 0.9)),
        batch_size=64,
        summary="SNGAN with latents that are optimized by natural gradient in training",
        reference="Wu et al. 2019, arXiv:1912.00953",
        reported=(
            ganzoo.Reported(
                "IS",
                7.89,
                "CIFAR-10 32 px",
                "50 000 fakes against the 50 000 training images, TensorFlow's Inception, best step",
                "PyTorch-StudioGAN, picture of its benchmark",
                differs="a ResNet; its code optimizes latents for a single step only",
            ),
            ganzoo.Reported(
                "FID",
                20.45,
                "CIFAR-10 32 px",
                "50 000 fakes against the 50 000 training images, TensorFlow's Inception, best step",
                "PyTorch-StudioGAN, picture of its benchmark",
                differs="a ResNet; its code optimizes latents for a single step only",
            ),
        ),
    )
