"""Orthogonal regularization without the norms of the filters (Brock et al. 2019, arXiv:1809.11096)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

import ganzoo


def orthogonal(generator: Any, *, weight: Tensor) -> Tensor:
    """weight · Σ ‖W Wᵀ ⊙ (1 − I)‖² over the generator's weights W, each filter a row of W.

    Biases and other vectors are left out, and embeddings, whose rows are no filters. Under spectral normalization W is
    the weight before it is divided, as in the authors' code (github.com/ajbrock/BigGAN-PyTorch). That adds half of this
    term's gradient.
    """
    embeddings = {
        id(parameter)
        for module in generator.modules()
        if isinstance(module, nn.Embedding)
        for parameter in module.parameters()
    }
    terms = []
    for parameter in generator.parameters_now().values():
        if parameter.dim() >= 2 and id(parameter) not in embeddings:
            rows = parameter.flatten(1)
            products = rows @ rows.T
            terms.append(products.square().sum() - products.diagonal().square().sum())
    return weight * torch.stack(terms).sum()


@ganzoo.hookimpl
def ganzoo_losses() -> Iterator[ganzoo.Penalty]:
    """A term of the generator, from its weights alone."""
    yield ganzoo.Penalty(
        "orthogonal",
        orthogonal,
        hyper={"weight": 1e-4},
        player="generator",
        summary="weight · Σ‖W Wᵀ ⊙ (1 − I)‖² over the generator's weights: filters at right angles",
        reference="Brock et al. 2019, arXiv:1809.11096",
    )
