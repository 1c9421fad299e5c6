"""DCGAN's networks as the first GAN was trained: the saturating game, and SGD with momentum.

Goodfellow et al. 2014 (arXiv:1406.2661, algorithm 1) say that they used momentum, not how much, nor at what rate; here
it is 0.9, and the rate that DCGAN has for Adam.
"""

from __future__ import annotations

from collections.abc import Iterator

import ganzoo


@ganzoo.hookimpl
def ganzoo_variants() -> Iterator[ganzoo.Variant]:
    """DCGAN under the original minimax objective, generator first."""
    yield ganzoo.Variant(
        "conv-sgd",
        architecture="dcgan",
        loss="minimax",
        optimizer=ganzoo.Optimizer("sgd", 2e-4, momentum=0.9),
        generator_first=True,
        expect_learning=False,
        reason="the saturating generator loss gives almost no gradient, and SGD at 2e-4 does not make up for it",
        summary="DCGAN's networks with the saturating minimax loss and SGD",
        reference="Goodfellow et al. 2014, arXiv:1406.2661, algorithm 1; Radford et al. 2015, arXiv:1511.06434",
    )
