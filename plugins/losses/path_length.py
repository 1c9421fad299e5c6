"""Path length regularization (Karras et al. 2020, arXiv:1912.04958, section 3.2, equation 4)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

import ganzoo
from ganzoo.losses import gradient


def path_length(generator: Any, latent: Tensor, *, weight: Tensor, decay: Tensor, mean: Tensor) -> ganzoo.Terms:
    """weight · E(‖J_wᵀy‖ − a)²: a step in w should change the image by as much everywhere.

    w = `generator.mapping(latent)` is (N, D), J the Jacobian of `generator.synthesis` by w, and y are images of normal
    noise, divided by the square root of the number of pixels as in the authors' code. a, the state `mean`, moves by
    1 − `decay` towards the mean length of this batch, and is a constant of the gradient. Raises `UsageError` for a
    generator without these two methods.
    """
    if not hasattr(generator, "mapping") or not hasattr(generator, "synthesis"):
        raise ganzoo.UsageError(
            "penalty path-length needs a generator with mapping(latent) and synthesis(w), such as architecture "
            "stylegan2's"
        )

    def projected(w: Tensor) -> Tensor:
        images: Tensor = generator.synthesis(w)
        # `randn_like` would fill it in the order in which the images lie in memory.
        noise = torch.randn(images.shape, device=images.device, dtype=images.dtype)
        return images * noise / math.sqrt(images.shape[2] * images.shape[3])

    by_w = gradient(projected, generator.mapping(latent))
    lengths = (by_w.square().sum(1) + 1e-12).sqrt()
    average = decay * mean + (1 - decay) * lengths.detach().mean()
    return ganzoo.Terms(
        {"deviation": weight * (lengths - average).square().mean()},
        monitors={"length": lengths.detach().mean()},
        state={"mean": average},
    )


@ganzoo.hookimpl
def ganzoo_losses() -> Iterator[ganzoo.Penalty]:
    """A lazy term of the generator."""
    yield ganzoo.Penalty(
        "path-length",
        path_length,
        hyper={"weight": 2.0, "decay": 0.99},
        state={"mean": 0.0},
        every=4,
        player="generator",
        summary="weight · E(‖J_wᵀy‖ − a)² in every fourth step, a the running mean of the lengths",
        reference="Karras et al. 2020, arXiv:1912.04958, equation 4",
    )
