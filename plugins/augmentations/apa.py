"""APA: fakes that pass for real images, the more the discriminator overfits (Jiang et al. 2021, arXiv:2111.06849).

A gradient penalty on real images sees those that are left: a fake in the place of one does not depend on it.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

import ganzoo
from ganzoo_plugins.augmentations.overfitting import HEURISTIC, adapt


def deceive(images: Tensor, is_real: bool | None, fake: Tensor, p: Tensor) -> Tensor:
    """Real images (N, C, H, W), each replaced with probability p by the fake of its place; others as they are."""
    if is_real is not True:
        return images
    return torch.where(torch.rand(len(images), 1, 1, 1, device=images.device) < p, fake, images)


@ganzoo.hookimpl
def ganzoo_losses() -> Iterator[ganzoo.Augmentation]:
    """The paper's λ_r is ADA's r_t; target and speed are ADA's in its code, too (github.com/EndlessSora/DeceiveD)."""
    yield ganzoo.Augmentation(
        "apa",
        deceive,
        hyper={"target": 0.6, "kimg": 500.0},
        state={"p": 0.0, **HEURISTIC},
        adapt=adapt,
        same_for_real_and_fake=False,
        summary="fakes among the real images with a probability that follows overfitting",
        reference="Jiang et al. 2021, arXiv:2111.06849",
    )
