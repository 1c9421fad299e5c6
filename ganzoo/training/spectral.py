"""Spectral norm's vectors made those of the weights that a network has, for weights that no training step has iterated.

A layer divides its weight by u·Wv, where u and v follow the weights by one power iteration in each training step. Those
of an average have had none, and vectors of other weights give a norm that is too small: layers many times too strong.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.spectral_norm import SpectralNorm

ITERATIONS = 50


@torch.no_grad()
def settle_spectral_norms(network: nn.Module) -> None:
    """Iterate the vectors of every spectral norm of a network, by either of torch's; all else stays as it is."""
    for module in list(network.modules()):
        if is_parametrized(module):
            _settle_parametrized(module)
        for hook in module._forward_pre_hooks.values():
            if isinstance(hook, SpectralNorm):
                for _ in range(ITERATIONS):
                    hook.compute_weight(module, do_power_iteration=True)


def _settle_parametrized(module: nn.Module) -> None:
    """In training mode each look at the weight is one iteration."""
    for name, parametrizations in module.parametrizations.items():  # type: ignore[operator, union-attr]
        norms = [part for part in parametrizations if isinstance(part, _SpectralNorm) and not part.training]
        for norm in norms:
            norm.train()
        for _ in range(ITERATIONS if norms else 0):
            getattr(module, name)
        for norm in norms:
            norm.eval()
