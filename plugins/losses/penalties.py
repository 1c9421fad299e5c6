"""Gradient penalties on the discriminator; each joins any loss (`penalties=("r1",)` in a variant, `--set`)."""

from __future__ import annotations

from collections.abc import Iterator

import ganzoo
from ganzoo.losses import gradient_penalty, r1, r2


@ganzoo.hookimpl
def ganzoo_losses() -> Iterator[ganzoo.Penalty]:
    """R1 on real images, R2 on fakes, and WGAN-GP's penalty between the two."""
    yield ganzoo.Penalty(
        "r1",
        r1,
        hyper={"gamma": 10.0},
        summary="gamma/2 · E‖∇D(x)‖² on real images",
        reference="Mescheder et al. 2018, arXiv:1801.04406, equation 9",
    )
    yield ganzoo.Penalty(
        "r2",
        r2,
        hyper={"gamma": 10.0},
        summary="gamma/2 · E‖∇D(x)‖² on fake images",
        reference="Mescheder et al. 2018, arXiv:1801.04406, equation 10",
    )
    yield ganzoo.Penalty(
        "gradient-penalty",
        gradient_penalty,
        hyper={"weight": 10.0},
        summary="weight · E(‖∇D(x)‖ - 1)² at random points between real and fake",
        reference="Gulrajani et al. 2017, arXiv:1704.00028, equation 3",
    )
