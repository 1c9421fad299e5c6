"""LeCam regularization of the discriminator (Tseng et al. 2021, arXiv:2104.03310)."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

import ganzoo
from ganzoo_plugins.augmentations.one_logit import one_logit


def lecam(
    real_logits: Tensor,
    fake_logits: Tensor,
    weight: Tensor,
    decay: Tensor,
    real_mean: Tensor,
    fake_mean: Tensor,
    remembered: Tensor,
) -> ganzoo.Terms:
    """weight · (E(D(x) − α_F)² + E(D(G(z)) − α_R)²), with α the moving averages of the two sides.

    The averages take this minibatch in first, and are corrected for their start at 0, as in the authors' code
    (github.com/google/lecam-gan, stylegan2). That code also clips either difference at 0, which the paper does not.
    """
    real, fake = one_logit(real_logits), one_logit(fake_logits)
    real_mean = decay * real_mean + (1 - decay) * real.mean().detach()
    fake_mean = decay * fake_mean + (1 - decay) * fake.mean().detach()
    remembered = decay * remembered + (1 - decay)
    distance = (real - fake_mean / remembered).square().mean() + (fake - real_mean / remembered).square().mean()
    return ganzoo.Terms(
        {"distance": weight * distance},
        state={"real_mean": real_mean, "fake_mean": fake_mean, "remembered": remembered},
    )


@ganzoo.hookimpl
def ganzoo_losses() -> Iterator[ganzoo.Penalty]:
    """Weight and γ of the authors' code for BigGAN on CIFAR-10, where the term sets in later."""
    yield ganzoo.Penalty(
        "lecam",
        lecam,
        hyper={"weight": 0.3, "decay": 0.99},
        state={"real_mean": 0.0, "fake_mean": 0.0, "remembered": 0.0},
        summary="weight · squared distance of each side's logits from the moving average of the other's",
        reference="Tseng et al. 2021, arXiv:2104.03310",
    )
