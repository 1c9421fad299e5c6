"""Linear layers through oneDNN, where the BLAS that torch was built with is slow: on AMD processors.

torch multiplies float32 matrices by MKL, which does not use all that these processors can do; oneDNN, which torch uses
for convolutions, does. The values are the same but for the order of summation.
"""

from __future__ import annotations

import platform
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn


def linear_backend(device: str, precision: str, step_mode: str) -> str:
    """`onednn` or `blas`, chosen by a rule; docs/performance.md has the measured gains."""
    fits = device == "cpu" and precision == "fp32" and step_mode == "eager"
    return "onednn" if fits and _is_amd() and has_onednn() else "blas"


def use_onednn(network: nn.Module, least_weights: int = 2**16) -> None:
    """Make the linear layers of `network` multiply by oneDNN, in place; weights and their names stay as they are.

    Layers with fewer than `least_weights` gain less than the call costs.
    """
    for module in network.modules():
        if not isinstance(module, nn.Linear) or module.in_features * module.out_features < least_weights:
            continue
        # A layer that overrides `forward` computes something else; torch's parametrized layers inherit it.
        if type(module).forward is nn.Linear.forward and "forward" not in vars(module):
            module.forward = MethodType(_forward, module)  # type: ignore[method-assign]


def _forward(self: nn.Linear, x: Tensor) -> Tensor:
    # Of a network that its plugin compiles, as a whole or in parts, the compiler sees the ordinary product.
    # torch.func's transforms (vmap, jvp, skipped gradients) are implemented for that only, too.
    ordinary = torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
    if ordinary or x.dim() != 2 or x.dtype != torch.float32 or not len(x):
        return nn.functional.linear(x, self.weight, self.bias)
    product = Product.apply(x, self.weight)
    return product if self.bias is None else product + self.bias


def onednn_product(x: Tensor, weight: Tensor) -> Tensor:
    """x Wᵀ of x (N, I) and W (O, I), without a gradient."""
    # torch's compiler takes the operator for weights that never change only. It may compile this function by itself,
    # where it cannot trace the one that calls it.
    if torch.compiler.is_compiling():
        return nn.functional.linear(x, weight)
    return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")


class Product(torch.autograd.Function):
    """x Wᵀ of float32 x (N, I) and W (O, I), differentiable any number of times."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        """(N, O)."""
        ctx.save_for_backward(x, weight)
        return onednn_product(x, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """G W and Gᵀ x; where gradients of these are wanted, as products again."""
        x, weight = ctx.saved_tensors
        product = Product.apply if torch.is_grad_enabled() else onednn_product
        by_x = product(gradient, weight.t()) if ctx.needs_input_grad[0] else None
        by_weight = product(gradient.t().contiguous(), x.t()) if ctx.needs_input_grad[1] else None
        return by_x, by_weight


def _is_amd() -> bool:
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return "AuthenticAMD" in platform.processor()


def has_onednn() -> bool:
    """Whether this build of torch can multiply by oneDNN."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
