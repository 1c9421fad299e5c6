"""The convolutional GAN of the first PyTorch write-ups: DCGAN's networks, the saturating game, plain SGD."""

from __future__ import annotations

import ganzoo


@ganzoo.hookimpl
def ganzoo_variants():
    """DCGAN under the original minimax objective."""
    yield ganzoo.Variant(
        "conv-sgd",
        architecture="dcgan",
        loss="minimax",
        optimizer=ganzoo.Optimizer("sgd", 2e-4, momentum=0.9),
        generator_first=True,
        expect_learning=False,
        reason="the saturating generator loss gives almost no gradient, and SGD at 2e-4 does not make up for it",
        summary="DCGAN's networks with the saturating minimax loss and SGD",
        reference="Goodfellow et al. 2014, arXiv:1406.2661, equation 1; Radford et al. 2015, arXiv:1511.06434",
    )
