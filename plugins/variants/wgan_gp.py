"""WGAN with gradient penalty on DCGAN's networks (Gulrajani et al. 2017, arXiv:1704.00028)."""

from __future__ import annotations

from collections.abc import Iterator

import ganzoo


@ganzoo.hookimpl
def ganzoo_variants() -> Iterator[ganzoo.Variant]:
    """Algorithm 1 with its defaults, and batches of 64 as in the authors' code for CIFAR-10.

    The critic has no BatchNorm: the penalty is defined for each image on its own (section 4).
    """
    yield ganzoo.Variant(
        "wgan-gp",
        architecture="dcgan",
        loss="wasserstein-gp",
        options={"discriminator_norm": "none"},
        optimizer=ganzoo.Optimizer("adam", 1e-4, betas=(0.0, 0.9)),
        batch_size=64,
        summary="Wasserstein distance with a penalty on the norm of the critic's gradient",
        reference="Gulrajani et al. 2017, arXiv:1704.00028, algorithm 1",
        reported=(
            ganzoo.Reported(
                "FID",
                19.83,
                "CIFAR-10 32 px",
                "50 000 fakes against the training images",
                "w86763777/pytorch-gan-collections, README",
                differs="that project's network and options of training, not this variant's",
            ),
            ganzoo.Reported(
                "FID",
                53.98,
                "CIFAR-10 32 px",
                "50 000 fakes against the 50 000 training images, TensorFlow's Inception, best step",
                "PyTorch-StudioGAN, picture of its benchmark",
                differs="that project's network and options of training, not this variant's",
            ),
        ),
    )
