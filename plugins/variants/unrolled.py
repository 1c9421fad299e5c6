"""Unrolled GAN: the generator meets the discriminator as it will be after a few more updates (Metz et al. 2017).

arXiv:1611.02163. Its gradient goes through those updates, so it learns how the discriminator will respond.

Three differences from the paper: the updates that are looked ahead are gradient descent, as in its equations (its
experiments unroll Adam); the generator maximizes log D of its fakes, where the paper's minimizes all of the
discriminator's objective, real images included; and both networks are DCGAN's, narrow as those for stacked MNIST.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor
from torch.nn.functional import softplus

import ganzoo
from ganzoo.losses import gradient


def discriminator_terms(generator: Any, discriminator: Any, batch: ganzoo.Batch) -> dict[str, Tensor]:
    """Real against fake, as in the non-saturating loss; nothing is unrolled."""
    fake = generator(batch.latent, batch.fake_labels)
    return {
        "real": softplus(-discriminator(batch.real, batch.labels)).mean(),
        "fake": softplus(discriminator(fake, batch.fake_labels)).mean(),
    }


def generator_terms(
    generator: Any, discriminator: Any, batch: ganzoo.Batch, rate: Tensor, steps: int = 5
) -> dict[str, Tensor]:
    """Fool the discriminator with the weights that `steps` updates on this batch would give it (equations 6 to 9).

    For another number of steps, bind it: `functools.partial(generator_terms, steps=10)`.
    """
    fake = generator(batch.latent, batch.fake_labels)

    def cost(weights: Mapping[str, Tensor]) -> Tensor:
        real_logits = discriminator.called_with(weights, batch.real, batch.labels)
        fake_logits = discriminator.called_with(weights, fake, batch.fake_labels)
        return softplus(-real_logits).mean() + softplus(fake_logits).mean()

    weights = discriminator.parameters_now()
    for _ in range(steps):
        slopes = gradient(cost, weights)
        weights = {name: weight - rate * slopes[name] for name, weight in weights.items()}
    return {"fool": softplus(-discriminator.called_with(weights, fake, batch.fake_labels)).mean()}


@ganzoo.hookimpl
def ganzoo_losses() -> Iterator[ganzoo.Loss]:
    """For any architecture. The rate of the updates looked ahead is chosen here."""
    yield ganzoo.Loss(
        "unrolled",
        phases=(
            ganzoo.Phase("discriminator", discriminator_terms, updates="discriminator"),
            ganzoo.Phase("generator", generator_terms, updates="generator"),
        ),
        hyper={"rate": 0.01},
        share_fakes=True,
        summary="non-saturating, where the generator looks five updates of the discriminator ahead",
        reference="Metz et al. 2017, arXiv:1611.02163, sections 2.2 and 2.3",
    )


@ganzoo.hookimpl
def ganzoo_variants() -> Iterator[ganzoo.Variant]:
    """Adam at 1e-4 for the generator and 2e-4 for the discriminator, batches of 128.

    So PacGAN's authors repeat the experiments on stacked MNIST (github.com/fjxmlzn/PacGAN), with these moments.
    """
    yield ganzoo.Variant(
        "unrolled",
        architecture="dcgan",
        loss="unrolled",
        options={"base_channels": 16},
        optimizer=ganzoo.Optimizer("adam", 2e-4, betas=(0.5, 0.99)),
        optimizers={"generator": ganzoo.Optimizer("adam", 1e-4, betas=(0.5, 0.99))},
        summary="a generator that looks five updates of the discriminator ahead",
        reference="Metz et al. 2017, arXiv:1611.02163",
        reported=(
            ganzoo.Reported(
                "modes",
                48.7,
                "stacked MNIST 28 px, 128 000 fixed images",
                "quoted there from another paper",
                "arXiv:1712.04086, table 2",
                differs="the quoted paper's own network and options of training",
            ),
            ganzoo.Reported(
                "KL",
                4.32,
                "stacked MNIST 28 px, 128 000 fixed images",
                "quoted there from another paper",
                "arXiv:1712.04086, table 2",
                differs="the quoted paper's own network and options of training",
            ),
        ),
    )
