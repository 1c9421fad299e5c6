"""Two-player objectives as functions of logits; each goes with any architecture (`--models dcgan+hinge`).

Terms are minimized. The discriminator's are called `real` and `fake` wherever the loss separates the two, the
generator's `fool`. Logits are (N,), or (N, 2) with column 1 = real for `softmax`; every term is a 0-dim tensor.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch.nn.functional import log_softmax, relu, softplus

import ganzoo
from ganzoo.losses import clip_weights


@ganzoo.hookimpl
def ganzoo_losses() -> Iterator[ganzoo.Loss]:
    """Eight objectives. With D = sigmoid(logit): softplus(-logit) = -log D and softplus(logit) = -log(1 - D)."""
    yield ganzoo.Loss.of_logits(
        "minimax",
        discriminator=lambda real, fake: {"real": softplus(-real).mean(), "fake": softplus(fake).mean()},
        generator=lambda fake: {"fool": -softplus(fake).mean()},
        summary="the saturating game: the generator minimizes E[log(1 - D(G(z)))]",
        reference="Goodfellow et al. 2014, arXiv:1406.2661, equation 1",
    )
    yield ganzoo.Loss.of_logits(
        "non-saturating",
        discriminator=lambda real, fake: {"real": softplus(-real).mean(), "fake": softplus(fake).mean()},
        generator=lambda fake: {"fool": softplus(-fake).mean()},
        summary="binary cross-entropy; the generator maximizes E[log D(G(z))]",
        reference="Goodfellow et al. 2014, arXiv:1406.2661, section 3",
    )
    yield ganzoo.Loss.of_logits(
        "softmax",
        discriminator=lambda real, fake: {
            "real": -log_softmax(real, dim=1)[:, 1].mean(),
            "fake": -log_softmax(fake, dim=1)[:, 0].mean(),
        },
        generator=lambda fake: {"fool": -log_softmax(fake, dim=1)[:, 1].mean()},
        logits=2,
        summary="softmax cross-entropy over the classes fake (0) and real (1), non-saturating",
        reference="Goodfellow et al. 2014, arXiv:1406.2661, section 3, with a two-way head",
    )
    yield ganzoo.Loss.of_logits(
        "least-squares",
        discriminator=lambda real, fake: {"real": (real - 1).square().mean() / 2, "fake": fake.square().mean() / 2},
        generator=lambda fake: {"fool": (fake - 1).square().mean() / 2},
        summary="squared distance to the targets 0 (fake) and 1 (real)",
        reference="Mao et al. 2017, arXiv:1611.04076 (targets 0 and 1)",
    )
    yield ganzoo.Loss.of_logits(
        "wasserstein",
        discriminator=lambda real, fake: {"real": -real.mean(), "fake": fake.mean()},
        generator=lambda fake: {"fool": -fake.mean()},
        hyper={"clip": 0.01},
        repeats=5,
        after=clip_weights,
        summary="earth mover's distance, with a critic of clipped weights, 5 updates of it per generator update",
        reference="Arjovsky et al. 2017, arXiv:1701.07875, algorithm 1",
    )
    yield ganzoo.Loss.of_logits(
        "wasserstein-gp",
        discriminator=lambda real, fake: {"real": -real.mean(), "fake": fake.mean()},
        generator=lambda fake: {"fool": -fake.mean()},
        penalties=("gradient-penalty",),
        repeats=5,
        summary="earth mover's distance with a gradient penalty, 5 critic updates per generator update",
        reference="Gulrajani et al. 2017, arXiv:1704.00028, algorithm 1",
    )
    yield ganzoo.Loss.of_logits(
        "hinge",
        discriminator=lambda real, fake: {"real": relu(1 - real).mean(), "fake": relu(1 + fake).mean()},
        generator=lambda fake: {"fool": -fake.mean()},
        summary="margin of 1 on either side for the discriminator, linear for the generator",
        reference="Lim & Ye 2017, arXiv:1705.02894; Miyato et al. 2018, arXiv:1802.05957, equations 16 and 17",
    )
    yield ganzoo.Loss.of_logits(
        "relativistic",
        discriminator=lambda real, fake: {"pair": softplus(fake - real).mean()},
        generator=lambda fake, real: {"fool": softplus(real - fake).mean()},
        summary="the real image of each pair should be more realistic than the fake one, and the reverse",
        reference="Jolicoeur-Martineau 2018, arXiv:1807.00734; Huang et al. 2024, arXiv:2501.05441, equation 2",
    )
