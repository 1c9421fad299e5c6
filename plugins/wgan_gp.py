"""WGAN with gradient penalty on DCGAN's networks (Gulrajani et al. 2017, arXiv:1704.00028)."""

from __future__ import annotations

import ganzoo


@ganzoo.hookimpl
def ganzoo_variants():
    """Algorithm 1 with its defaults. The critic has no BatchNorm: the penalty is defined for each image on its own."""
    yield ganzoo.Variant(
        "wgan-gp",
        architecture="dcgan",
        loss="wasserstein-gp",
        options={"discriminator_norm": "none"},
        optimizer=ganzoo.Optimizer("adam", 1e-4, betas=(0.0, 0.9)),
        batch_size=64,
        summary="Wasserstein distance with a penalty on the norm of the critic's gradient",
        reference="Gulrajani et al. 2017, arXiv:1704.00028, algorithm 1",
    )
