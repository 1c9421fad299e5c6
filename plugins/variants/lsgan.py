"""Least-squares GAN on DCGAN's networks (Mao et al. 2017, arXiv:1611.04076)."""

from __future__ import annotations

from collections.abc import Iterator

import ganzoo


@ganzoo.hookimpl
def ganzoo_variants() -> Iterator[ganzoo.Variant]:
    """The targets 0 and 1, of the two codings that the paper proposes, under DCGAN's recipe with batches of 64.

    The paper's Adam has the same first moment, and this rate on handwritten characters (1e-3 on scenes).
    """
    yield ganzoo.Variant(
        "lsgan",
        architecture="dcgan",
        loss="least-squares",
        optimizer=ganzoo.Optimizer("adam", 2e-4, betas=(0.5, 0.999)),
        batch_size=64,
        summary="DCGAN with least squares in place of cross-entropy",
        reference="Mao et al. 2017, arXiv:1611.04076",
        reported=(
            ganzoo.Reported(
                "FID",
                40.22,
                "CIFAR-10 32 px",
                "50 000 fakes against the 50 000 training images, TensorFlow's Inception, best step",
                "PyTorch-StudioGAN, picture of its benchmark",
                differs="that project's network and options of training, not this variant's",
            ),
        ),
    )
