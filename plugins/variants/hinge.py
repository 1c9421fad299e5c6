"""The hinge loss on DCGAN's networks (Lim & Ye 2017, arXiv:1705.02894)."""

from __future__ import annotations

from collections.abc import Iterator

import ganzoo


@ganzoo.hookimpl
def ganzoo_variants() -> Iterator[ganzoo.Variant]:
    """DCGAN under the margin of 1.

    The authors' code (github.com/lim0606/pytorch-geometric-gan) trains with RMSprop at the same rate and ten generator
    updates for each of the discriminator. Here the two take turns, and Adam has the moments that Miyato et al. 2018
    (arXiv:1802.05957, appendix B.2) took for their residual networks and that hinge GANs have had since.
    """
    yield ganzoo.Variant(
        "hinge",
        architecture="dcgan",
        loss="hinge",
        optimizer=ganzoo.Optimizer("adam", 2e-4, betas=(0.0, 0.9)),
        summary="DCGAN with the hinge loss",
        reference="Lim & Ye 2017, arXiv:1705.02894",
        reported=(
            ganzoo.Reported(
                "IS",
                6.61,
                "CIFAR-10 32 px",
                "50 000 fakes against the 50 000 training images, TensorFlow's Inception, best step",
                "PyTorch-StudioGAN, picture of its benchmark",
                budget="200 000 steps",
                differs="a deeper network, two updates of the discriminator",
            ),
            ganzoo.Reported(
                "FID",
                43.16,
                "CIFAR-10 32 px",
                "50 000 fakes against the 50 000 training images, TensorFlow's Inception, best step",
                "PyTorch-StudioGAN, picture of its benchmark",
                budget="200 000 steps",
                differs="a deeper network, two updates of the discriminator",
            ),
        ),
    )
