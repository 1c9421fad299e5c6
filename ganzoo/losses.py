"""Helpers for authors of losses and penalties.

Use `input_gradient`, and nothing else, to differentiate a discriminator by its input: it works eagerly, compiled and
under graph capture, and does not change BatchNorm's running statistics or spectral norm's vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from weakref import WeakSet

import torch
from torch import Tensor, nn

_BEYOND_TRANSFORMS: WeakSet[nn.Module] = WeakSet()
"""The discriminators that `torch.func` cannot differentiate."""

_REFUSALS = ("setup_context", "saved tensor hooks")
"""What torch.func's errors say of a classic `autograd.Function`, of backward hooks, and of activation checkpointing."""


def input_gradient(discriminator: nn.Module, images: Tensor, labels: Tensor | None = None) -> Tensor:
    """The gradient of the summed logits by the images, itself differentiable by the discriminator's weights.

    `images`: (N, C, H, W), `labels`: (N,) or None; returns (N, C, H, W) float32. A two-way head counts as z1 - z0.
    The buffers are cloned inside the differentiated function, because an in-place update of a captured buffer
    (BatchNorm in training mode) is an error under `torch.func.grad`, and because a penalty must not move them.

    A discriminator that torch.func cannot differentiate (one with an `autograd.Function` without `setup_context`, a
    backward hook or activation checkpointing) is differentiated by `torch.autograd.grad`, but not in compiled steps.
    """
    parameters = dict(discriminator.named_parameters())
    buffers = dict(discriminator.named_buffers())
    arguments = (labels,) if labels is not None else ()

    def summed_logits(images: Tensor) -> Tensor:
        state = parameters | {name: buffer.clone() for name, buffer in buffers.items()}
        logits = torch.func.functional_call(discriminator, state, (images, *arguments))
        logits = logits[:, 1] - logits[:, 0] if logits.dim() == 2 else logits
        return logits.float().sum()

    # Autocast does not support the meta device, on which a run is checked before it starts.
    device_type = "cpu" if images.is_meta else images.device.type
    with torch.autocast(device_type, enabled=False):
        if torch.compiler.is_compiling():
            return torch.func.grad(summed_logits)(images.float())
        return _gradient(discriminator, summed_logits, images.float())


def beyond_transforms(discriminator: nn.Module) -> bool:
    """Whether `input_gradient` has found that torch.func cannot differentiate this discriminator."""
    return discriminator in _BEYOND_TRANSFORMS


def _gradient(discriminator: nn.Module, function: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """The gradient of `function` by the images, by torch.func unless it has refused this discriminator before."""
    if not beyond_transforms(discriminator):
        random_numbers = torch.get_rng_state()
        try:
            return torch.func.grad(function)(images)
        except RuntimeError as error:
            if not any(text in str(error) for text in _REFUSALS):
                raise
        # As if nothing had been tried, so that a run that goes on from a checkpoint draws what this one draws.
        torch.set_rng_state(random_numbers)
        _BEYOND_TRANSFORMS.add(discriminator)
    with torch.enable_grad():
        given = images if images.requires_grad else images.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(function(given), given, create_graph=True)
    return gradient


def squared_norm(gradient: Tensor) -> Tensor:
    """The squared Euclidean norm of each image's gradient: (N, C, H, W) to (N,)."""
    return gradient.square().flatten(1).sum(1)


def r1(discriminator: nn.Module, real: Tensor, labels: Tensor | None = None, *, gamma: Tensor) -> Tensor:
    """gamma/2 · E‖∇D(x)‖² on real images (Mescheder et al. 2018, equation 9)."""
    return gamma / 2 * squared_norm(input_gradient(discriminator, real, labels)).mean()


def r2(discriminator: nn.Module, fake: Tensor, labels: Tensor | None = None, *, gamma: Tensor) -> Tensor:
    """gamma/2 · E‖∇D(x)‖² on fake images (Mescheder et al. 2018, equation 10)."""
    return gamma / 2 * squared_norm(input_gradient(discriminator, fake, labels)).mean()


def gradient_penalty(
    discriminator: nn.Module, real: Tensor, fake: Tensor, labels: Tensor | None = None, *, weight: Tensor
) -> Tensor:
    """weight · E(‖∇D(x̂)‖ − 1)² at random points between real and fake (Gulrajani et al. 2017, equation 3)."""
    mix = torch.rand(len(real), 1, 1, 1, device=real.device, dtype=real.dtype)
    between = real + mix * (fake - real)
    norm = (squared_norm(input_gradient(discriminator, between, labels)) + 1e-12).sqrt()
    return weight * (norm - 1).square().mean()


def clip_weights(parameters: Sequence[Tensor], clip: Tensor) -> None:
    """Clamp every weight to [−clip, clip] in place (Arjovsky et al. 2017, algorithm 1)."""
    for parameter in parameters:
        parameter.clamp_(-clip, clip)
