"""ACGAN: the discriminator also says which class an image is of (Odena et al. 2017, arXiv:1610.09585).

`acgan` is the discriminator's term and brings the generator's with it: `--models dcgan-heads+hinge+acgan`. The variant
has DCGAN's networks and recipe in place of the paper's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor
from torch.nn.functional import cross_entropy

import ganzoo
from ganzoo_plugins.losses.of_heads import head


def discriminator_term(
    real_heads: Mapping[str, Tensor],
    fake_heads: Mapping[str, Tensor],
    labels: Tensor,
    fake_labels: Tensor,
    weight: Tensor,
) -> Tensor:
    """-L_C: the cross-entropy of the `classes` (N, K) of real images and of fakes with their labels."""
    of_real = cross_entropy(head(real_heads, "classes", "acgan", "dcgan-heads"), labels)
    return weight * (of_real + cross_entropy(head(fake_heads, "classes", "acgan", "dcgan-heads"), fake_labels))


def generator_term(fake_heads: Mapping[str, Tensor], fake_labels: Tensor, weight: Tensor) -> Tensor:
    """What of -L_C the generator can change: the cross-entropy of fakes with the labels that they were made for."""
    return weight * cross_entropy(head(fake_heads, "classes", "acgan-generator", "dcgan-heads"), fake_labels)


@ganzoo.hookimpl
def ganzoo_losses() -> Iterator[ganzoo.Penalty]:
    """Both of the weight 1, as in the paper."""
    yield ganzoo.Penalty(
        "acgan",
        discriminator_term,
        hyper={"weight": 1.0},
        penalties=("acgan-generator",),
        summary="the discriminator tells the classes of real images and of fakes",
        reference="Odena et al. 2017, arXiv:1610.09585",
    )
    yield ganzoo.Penalty(
        "acgan-generator",
        generator_term,
        hyper={"weight": 1.0},
        player="generator",
        summary="the discriminator can tell the classes of fakes",
        reference="Odena et al. 2017, arXiv:1610.09585",
    )


@ganzoo.hookimpl
def ganzoo_variants() -> Iterator[ganzoo.Variant]:
    """Needs a dataset with labels. Adam is the paper's (appendix A); its batches are of 100 images."""
    yield ganzoo.Variant(
        "acgan",
        architecture="dcgan-heads",
        loss="non-saturating",
        penalties=("acgan",),
        optimizer=ganzoo.Optimizer("adam", 2e-4, betas=(0.5, 0.999)),
        summary="conditional DCGAN whose discriminator tells classes (needs labels)",
        reference="Odena et al. 2017, arXiv:1610.09585",
    )
