"""Helpers for authors of losses and penalties.

Use `gradient`, and nothing else, to differentiate by an input, a latent, features or weights: it works eagerly,
compiled and under graph capture, and does not change BatchNorm's running statistics or spectral norm's vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn

from ganzoo.types import Inputs

_BEYOND_TRANSFORMS: WeakSet[nn.Module] = WeakSet()
"""The networks that `torch.func` cannot differentiate."""

_REFUSALS = ("setup_context", "saved tensor hooks")
"""What torch.func's errors say of a classic `autograd.Function`, of backward hooks, and of activation checkpointing."""

_STAND_INS: list[tuple[Tensor, Tensor]] = []
"""In a differentiated function: each tensor that it is given, and the one of the caller that this stands for."""


class Together(nn.Module):
    """Several players as one module, so that the buffers of all can be replaced while a function calls them."""

    def __init__(self, players: Sequence[nn.Module]) -> None:
        super().__init__()
        self.players = nn.ModuleList(players)

    def forward(self, function: Callable[[Any], Any], given: Any) -> Any:
        """What the function gives."""
        return function(given)


_IN_TRAINING: list[Together] = []
"""The players of the phase that is running, whose buffers no gradient moves."""


@contextmanager
def in_training(players: Together) -> Iterator[None]:
    """Inside, `gradient` leaves the buffers of these players as they are, whichever a function calls."""
    _IN_TRAINING.append(players)
    try:
        yield
    finally:
        _IN_TRAINING.pop()


def original(tensor: Tensor) -> Tensor:
    """What a tensor stands for inside a function that `gradient` differentiates; elsewhere the tensor itself."""
    for inner, outer in reversed(_STAND_INS):
        if tensor is inner:
            tensor = outer
    return tensor


def gradient(function: Callable[..., Any], by: Any) -> Any:
    """The gradient of what a function gives, summed, by what it is given; itself differentiable again.

    `function` is a player, or any function of one argument that calls players. `by` is a tensor, `Inputs` (the result
    has those that are real numbers, not the labels), or a mapping of names to tensors, such as
    `player.parameters_now()`. A judge's logits are summed over all it gives; a two-way head counts as z1 - z0. Returns
    float32 of the same form.

    Buffers are cloned inside the differentiated function, because an in-place update of a captured buffer (BatchNorm in
    training mode) is an error under `torch.func.grad`, and because a gradient must not move them.

    Networks that torch.func cannot differentiate (with an `autograd.Function` without `setup_context`, a backward hook
    or activation checkpointing) are differentiated by `torch.autograd.grad`, but not in compiled steps.
    """
    network = function if isinstance(function, nn.Module) else _IN_TRAINING[-1] if _IN_TRAINING else None
    buffers = {} if network is None else dict(network.named_buffers())

    def summed(given: Any) -> Tensor:
        if network is None:
            return _total(function(given))
        copies = {name: buffer.clone() for name, buffer in buffers.items()}
        if network is not function:
            return _total(torch.func.functional_call(network, copies, (function, given)))
        inputs = tuple(given) if isinstance(given, Inputs) else (given,)
        return _total(torch.func.functional_call(network, copies, inputs), of_judge=True)

    if isinstance(by, Inputs):
        values: Any = tuple(value for value in by if _is_real(value))

        def of_values(given: Any) -> Tensor:
            numbers = iter(given)
            return summed(Inputs(next(numbers) if _is_real(value) else value for value in by))

        return Inputs(_gradient(network, of_values, values))
    return _gradient(network, summed, dict(by) if isinstance(by, Mapping) else by)


def input_gradient(discriminator: nn.Module, images: Tensor, labels: Tensor | None = None) -> Tensor:
    """`gradient` of a discriminator by its images, (N, C, H, W) to the same; labels ride along where there are any."""
    given = images if labels is None or isinstance(images, Inputs) else Inputs((images, labels))
    found = gradient(discriminator, given)
    by_images: Tensor = found[0] if isinstance(found, Inputs) else found
    return by_images


def _is_real(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _total(output: Any, *, of_judge: bool = False) -> Tensor:
    """The sum of all that a function gives; of a judge's two-way head z1 - z0 for each image."""
    if isinstance(output, Mapping):
        output = output["logits"]
    if isinstance(output, (list, tuple)):
        return torch.stack([_total(part) for part in output]).sum()
    two_way = of_judge and output.dim() == 2 and output.shape[1] == 2
    total: Tensor = (output[:, 1] - output[:, 0] if two_way else output).float().sum()
    return total


def beyond_transforms(network: nn.Module | None) -> bool:
    """Whether `gradient` has found that torch.func cannot differentiate this network, or these players together."""
    return network is not None and network in _BEYOND_TRANSFORMS


def _gradient(network: nn.Module | None, function: Callable[[Any], Tensor], by: Any) -> Any:
    """The gradient of a function, by torch.func unless it has refused this network before."""
    leaves = _leaves(by)

    def standing_in(given: Any) -> Tensor:
        pairs = list(zip(_leaves(given), leaves, strict=True))
        _STAND_INS.extend(pairs)
        try:
            return function(given)
        finally:
            del _STAND_INS[-len(pairs) :]

    # Autocast does not support the meta device, on which a run is checked before it starts.
    device_type = "cpu" if leaves[0].is_meta else leaves[0].device.type
    with torch.autocast(device_type, enabled=False):
        given = _mapped(Tensor.float, by)
        if torch.compiler.is_compiling():
            # A function that is being compiled may not change what lies outside of it.
            return torch.func.grad(function)(given)
        if not beyond_transforms(network):
            random_numbers = torch.get_rng_state()
            try:
                return torch.func.grad(standing_in)(given)
            except RuntimeError as error:
                if not any(text in str(error) for text in _REFUSALS):
                    raise
            # As if nothing had been tried, so that a run that goes on from a checkpoint draws what this one draws.
            torch.set_rng_state(random_numbers)
            if network is not None:
                _BEYOND_TRANSFORMS.add(network)
        with torch.enable_grad():
            given = _mapped(lambda value: value if value.requires_grad else value.detach().requires_grad_(), given)
            found = iter(torch.autograd.grad(standing_in(given), _leaves(given), create_graph=True))
            return _mapped(lambda value: next(found), given)


def _leaves(by: Any) -> list[Tensor]:
    """The tensors of a tensor, a tuple or a mapping."""
    if isinstance(by, Tensor):
        return [by]
    return list(by.values()) if isinstance(by, Mapping) else list(by)


def _mapped(function: Callable[[Tensor], Tensor], by: Any) -> Any:
    if isinstance(by, Tensor):
        return function(by)
    if isinstance(by, Mapping):
        return {name: function(value) for name, value in by.items()}
    return tuple(function(value) for value in by)


def squared_norm(gradient: Tensor | Inputs) -> Tensor:
    """The squared Euclidean norm of each image's gradient: (N, …) to (N,); of several inputs the sum."""
    parts = gradient if isinstance(gradient, Inputs) else (gradient,)
    squares = [part.square().flatten(1).sum(1) for part in parts]
    return squares[0] if len(squares) == 1 else torch.stack(squares).sum(0)


def between(real: Any, fake: Any) -> Any:
    """A random point between each real image and each fake, (N, …) each; of `Inputs` one for all that are real numbers.

    Labels stay those of the real side.
    """
    one = isinstance(real, Tensor)
    pairs = [(real, fake)] if one else list(zip(real, fake, strict=True))
    rows = next(left for left, _ in pairs if _is_real(left))
    mix = torch.rand(len(rows), *[1] * (rows.dim() - 1), device=rows.device, dtype=rows.dtype)

    def shares(values: Tensor) -> Tensor:
        return mix if values.dim() == mix.dim() else mix.view(-1, *[1] * (values.dim() - 1))

    points = [left + shares(left) * (right - left) if _is_real(left) else left for left, right in pairs]
    return points[0] if one else Inputs(points)


def r1(discriminator: nn.Module, real: Any, *, gamma: Tensor) -> Tensor:
    """gamma/2 · E‖∇D(x)‖² on real images (Mescheder et al. 2018, equation 9)."""
    return gamma / 2 * squared_norm(gradient(discriminator, real)).mean()


def r2(discriminator: nn.Module, fake: Any, *, gamma: Tensor) -> Tensor:
    """gamma/2 · E‖∇D(x)‖² on fake images (Mescheder et al. 2018, equation 10)."""
    return gamma / 2 * squared_norm(gradient(discriminator, fake)).mean()


def gradient_penalty(discriminator: nn.Module, real: Any, fake: Any, *, weight: Tensor) -> Tensor:
    """weight · E(‖∇D(x̂)‖ − 1)² at random points between real and fake (Gulrajani et al. 2017, equation 3)."""
    norm = (squared_norm(gradient(discriminator, between(real, fake))) + 1e-12).sqrt()
    return weight * (norm - 1).square().mean()


def clip_weights(parameters: Sequence[Tensor], clip: Tensor) -> None:
    """Clamp every weight to [−clip, clip] in place (Arjovsky et al. 2017, algorithm 1)."""
    for parameter in parameters:
        parameter.clamp_(-clip, clip)
