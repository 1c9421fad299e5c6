"""SSGAN: the discriminator also tells by how much an image was turned (Chen et al. 2019, arXiv:1811.11212).

`ssgan` is the discriminator's term, on real images, and brings the generator's with it. A quarter of the batch is
turned all four ways, so that each term costs one more batch. The variant has DCGAN's networks, with BatchNorm, in place
of residual ones with spectral normalization.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

import ganzoo
from ganzoo_plugins.losses.of_heads import head

TURNS = 4


def turned(images: Tensor) -> tuple[Tensor, Tensor]:
    """The first quarter of images (N, C, S, S), rounded up, by 0, 90, 180 and 270 degrees; and the turns, 0 to 3."""
    some = images[: -(-len(images) // TURNS)]
    turns = torch.arange(TURNS, device=images.device).repeat_interleave(len(some))
    return torch.cat([some.rot90(turn, (2, 3)) for turn in range(TURNS)]), turns


def rotation_term(discriminator: Any, images: Tensor, penalty: str) -> Tensor:
    """-E log Q(R = r | images turned by r)."""
    some, turns = turned(images)
    return cross_entropy(head(discriminator.heads(some), "rotation", penalty, "dcgan-heads-unlabelled"), turns)


def discriminator_term(discriminator: Any, real: Tensor, weight: Tensor) -> Tensor:
    """weight · the cross-entropy of the turns of real images."""
    return weight * rotation_term(discriminator, real, "ssgan")


def generator_term(discriminator: Any, fake: Tensor, weight: Tensor) -> Tensor:
    """weight · the cross-entropy of the turns of fakes."""
    return weight * rotation_term(discriminator, fake, "ssgan-generator")


@ganzoo.hookimpl
def ganzoo_losses() -> Iterator[ganzoo.Penalty]:
    """The paper's beta and alpha, with the values of its authors' code (github.com/google/compare_gan)."""
    yield ganzoo.Penalty(
        "ssgan",
        discriminator_term,
        hyper={"weight": 1.0},
        penalties=("ssgan-generator",),
        summary="the discriminator tells how real images were turned",
        reference="Chen et al. 2019, arXiv:1811.11212",
    )
    yield ganzoo.Penalty(
        "ssgan-generator",
        generator_term,
        hyper={"weight": 0.2},
        player="generator",
        summary="the discriminator can tell how fakes were turned",
        reference="Chen et al. 2019, arXiv:1811.11212",
    )


@ganzoo.hookimpl
def ganzoo_variants() -> Iterator[ganzoo.Variant]:
    """The hinge loss, rate, moments and batches of 64 of a copy (github.com/kwotsin/mimicry), with residual networks.

    There the discriminator has five updates for each of the generator, here one.
    """
    yield ganzoo.Variant(
        "ssgan",
        architecture="dcgan-heads-unlabelled",
        loss="hinge",
        penalties=("ssgan",),
        options={"categories": 0, "continuous": 0},
        optimizer=ganzoo.Optimizer("adam", 2e-4, betas=(0.0, 0.9)),
        batch_size=64,
        summary="DCGAN whose discriminator tells how images were turned",
        reference="Chen et al. 2019, arXiv:1811.11212",
    )
