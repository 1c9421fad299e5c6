"""WGAN with weight clipping on DCGAN's networks (Arjovsky et al. 2017, arXiv:1701.07875)."""

from __future__ import annotations

from collections.abc import Iterator

import ganzoo


@ganzoo.hookimpl
def ganzoo_variants() -> Iterator[ganzoo.Variant]:
    """Algorithm 1 with its defaults: RMSprop 5e-5, clipping at 0.01, five critic updates per generator update.

    In the authors' code the critic is updated a hundred times at the start and now and then; not so in the algorithm.
    """
    yield ganzoo.Variant(
        "wgan",
        architecture="dcgan",
        loss="wasserstein",
        optimizer=ganzoo.Optimizer("rmsprop", 5e-5),
        batch_size=64,
        summary="Wasserstein distance with a critic of clipped weights",
        reference="Arjovsky et al. 2017, arXiv:1701.07875, algorithm 1",
        reported=(
            ganzoo.Reported(
                "FID",
                40.03,
                "CIFAR-10 32 px",
                "50 000 fakes against the training images",
                "w86763777/pytorch-gan-collections, README",
                differs="Adam, weights clipped at 0.1, one update of the critic",
            ),
            ganzoo.Reported(
                "FID",
                107.68,
                "CIFAR-10 32 px",
                "50 000 fakes against the 50 000 training images, TensorFlow's Inception, best step",
                "PyTorch-StudioGAN, picture of its benchmark",
                differs="another network; weights clipped at 0.01",
            ),
        ),
    )
