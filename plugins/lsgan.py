"""Least-squares GAN on DCGAN's networks (Mao et al. 2017, arXiv:1611.04076)."""

from __future__ import annotations

import ganzoo


@ganzoo.hookimpl
def ganzoo_variants():
    """Equation 9, the targets 0 and 1, under DCGAN's recipe."""
    yield ganzoo.Variant(
        "lsgan",
        architecture="dcgan",
        loss="least-squares",
        optimizer=ganzoo.Optimizer("adam", 2e-4, betas=(0.5, 0.999)),
        batch_size=64,
        summary="DCGAN with least squares in place of cross-entropy",
        reference="Mao et al. 2017, arXiv:1611.04076, equation 9",
    )
