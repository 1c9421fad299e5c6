"""Wrappers of the two networks with one calling convention: float32 outputs, logits in the form that the loss wants.

The networks of an architecture differ in whether they take labels and in how many logits they give. A player hides
both, so that any loss works with any architecture, and raises `PluginError` when a network breaks its contract.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ganzoo.errors import PluginError, UsageError
from ganzoo.types import Architecture, ImageShape, Phase


class Player(nn.Module):
    """Wraps a network; other attributes are looked up on the network (`discriminator.code_head`).

    Weights that `build` froze, by `requires_grad_(False)`, are no part of training: they stay as they were made.
    """

    def __init__(self, network: nn.Module, conditional: bool) -> None:
        super().__init__()
        self.network = network
        self.conditional = conditional
        # By name, for a move to the meta device makes parameters anew. While a phase runs it freezes others too.
        self.frozen_weights = frozenset(name for name, weight in _all_names(network) if not weight.requires_grad)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("__"):
                # copy and pickle look up special methods, and must not get the network's.
                raise
            return getattr(super().__getattr__("network"), name)

    def trained_weights(self, path: str = "") -> list[nn.Parameter]:
        """The weights of the network, or of its submodule at `path`, that training updates: those not frozen.

        Raises `AttributeError` where there is no such submodule.
        """
        module = self.network.get_submodule(path)
        frozen = {id(weight) for name, weight in _all_names(self.network) if name in self.frozen_weights}
        return [weight for weight in module.parameters() if id(weight) not in frozen]

    def call(self, function: Any, x: Tensor, labels: Tensor | None) -> Tensor:
        """Apply the network (or a method of it) with the labels it takes; float32 whatever the precision."""
        output = function(x, labels) if self.conditional else function(x)
        if not isinstance(output, Tensor):
            player = type(self).__name__.removesuffix("Player").lower()
            raise PluginError(f"the {player} gave a {type(output).__name__}; it must give one tensor")
        return output.float()


def _all_names(network: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Every weight under each of its names: one that is tied has several."""
    return network.named_parameters(remove_duplicate=False)


class GeneratorPlayer(Player):
    """`generator(latent, labels=None) -> images`: (N, latent) to (N, C, H, W) float32 in [-1, 1]."""

    def __init__(self, network: nn.Module, conditional: bool, image_shape: ImageShape) -> None:
        super().__init__(network, conditional)
        self.image_shape = tuple(image_shape)

    def forward(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        images = self.call(self.network, latent, labels)
        if images.shape != (len(latent), *self.image_shape):
            raise PluginError(
                f"the generator gave shape {tuple(images.shape)}; it must give {(len(latent), *self.image_shape)}"
            )
        return images


class StandIn:
    """Replaces the call of a generator by `function(latent, labels)`; attributes are the generator's."""

    def __init__(self, generator: Generator, function: Callable[..., Tensor]) -> None:
        self._generator = generator
        self._function = function

    def __call__(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        return self._function(latent, labels)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._generator, name)


Generator: TypeAlias = GeneratorPlayer | StandIn
"""What a phase may get as its generator."""


class DiscriminatorPlayer(Player):
    """`discriminator(images, labels=None) -> logits`: (N,) when the loss wants one for each image, (N, 2) for two.

    A two-way head under a one-logit loss gives z1 - z0, on which BCE equals softmax cross-entropy; a one-logit head
    under a two-logit loss gives (0, z).
    """

    def __init__(self, network: nn.Module, conditional: bool, logits: int, wanted: int) -> None:
        super().__init__(network, conditional)
        self.logits = logits
        self.wanted = wanted
        self._calls: list[tuple[Tensor, Tensor]] | None = None

    @contextmanager
    def watched(self, calls: list[tuple[Tensor, Tensor]]) -> Iterator[None]:
        """Add the images and the logits of each call to `calls`."""
        self._calls = calls
        try:
            yield
        finally:
            self._calls = None

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        logits = self._logits(images, labels)
        if self._calls is not None:
            self._calls.append((images, logits))
        return logits

    def _logits(self, images: Tensor, labels: Tensor | None) -> Tensor:
        logits = self.call(self.network, images, labels)
        declared = (len(images),) if self.logits == 1 else (len(images), 2)
        if logits.shape != declared:
            # (N, 1) against (N,) would broadcast to (N, N) in a relativistic loss and train on nonsense.
            raise PluginError(f"the discriminator gave logits of shape {tuple(logits.shape)}; it must give {declared}")
        if self.logits == self.wanted:
            return logits
        return torch.stack([torch.zeros_like(logits), logits], 1) if self.wanted == 2 else logits[:, 1] - logits[:, 0]

    def features(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """What the network computes just before its head, (N, D); for feature matching."""
        if not hasattr(self.network, "features"):
            raise UsageError("feature matching needs a discriminator with a method features(images) -> (N, D)")
        return self.call(self.network.features, images, labels).flatten(1)


@dataclass(frozen=True)
class Players:
    """The two players of one run."""

    generator: GeneratorPlayer
    discriminator: DiscriminatorPlayer

    def parameters(self, targets: Iterable[str]) -> list[nn.Parameter]:
        """The weights that training updates, of players or submodules: `generator` or `discriminator.code_head`.

        Raises `PluginError` for a target that names no player, `UsageError` for a part that this one lacks.
        """
        parameters: dict[int, nn.Parameter] = {}
        for target in targets:
            player, _, path = target.partition(".")
            if player not in ("generator", "discriminator"):
                raise PluginError(f"a phase updates '{target}'; it must start with 'generator' or 'discriminator'")
            try:
                trained = getattr(self, player).trained_weights(path)
            except AttributeError as error:
                raise UsageError(
                    f"a phase updates '{target}', which this {player} does not have; choose an architecture that has it"
                ) from error
            parameters |= {id(parameter): parameter for parameter in trained}
        return list(parameters.values())

    def updated_by(self, phase: Phase) -> list[nn.Parameter]:
        """The parameters that `phase` updates."""
        return self.parameters(phase.targets)


def build_players(
    architecture: Architecture,
    image_shape: ImageShape,
    latent: int,
    classes: int,
    options: dict[str, Any],
    logits: int,
) -> Players:
    """Build the networks and check what can be checked without running them.

    `logits` is how many the loss wants. Raises `UsageError` when the architecture cannot build this image shape, or
    needs labels and the dataset has none.
    """
    channels, height, width = image_shape
    name = architecture.name
    if architecture.conditional and not classes:
        raise UsageError(f"architecture '{name}' is conditional and needs a dataset with labels; this one has none")
    if channels not in architecture.channels:
        raise UsageError(f"architecture '{name}' builds for {_joined(architecture.channels)} channels, not {channels}")
    if architecture.image_sizes is not None and (height != width or height not in architecture.image_sizes):
        raise UsageError(
            f"architecture '{name}' builds for {_joined(architecture.image_sizes)} px, not {height}"
            + ("" if height == width else f" x {width}")
            + "; choose with --image-size"
        )
    try:
        generator, discriminator = architecture.build(image_shape, latent, classes, **options)
    except (ValueError, TypeError) as error:
        raise UsageError(f"architecture '{name}' cannot be built: {error}") from error
    networks = {"generator": generator, "discriminator": discriminator}
    _refuse_lazy_layers(name, networks)
    _refuse_state_that_cannot_be_given_back(name, networks)
    return Players(
        GeneratorPlayer(generator, architecture.conditional, image_shape),
        DiscriminatorPlayer(discriminator, architecture.conditional, architecture.logits, logits),
    )


def _refuse_lazy_layers(architecture: str, networks: Mapping[str, nn.Module]) -> None:
    """Raise `PluginError` where a first forward pass would have to make the weights: until then there are none."""
    for player, network in networks.items():
        for name, tensor in (*network.named_parameters(), *network.named_buffers()):
            if is_lazy(tensor):
                raise PluginError(
                    f"architecture '{architecture}' has a lazy layer in its {player} ('{name}' has no size yet); "
                    "give the layer its number of inputs"
                )


def _refuse_state_that_cannot_be_given_back(architecture: str, networks: Mapping[str, nn.Module]) -> None:
    """Raise `PluginError` for a module that gives extra state and takes none: averages and checkpoints give it back."""
    for player, network in networks.items():
        for name, module in network.named_modules():
            gives, takes = (
                getattr(type(module), method) is not getattr(nn.Module, method)
                for method in ("get_extra_state", "set_extra_state")
            )
            if gives and not takes:
                part = f" ('{name}')" if name else ""
                raise PluginError(
                    f"architecture '{architecture}' has a module in its {player}{part} with get_extra_state and "
                    "without set_extra_state; give it both, or neither"
                )


def _joined(values: Iterable[int]) -> str:
    return ", ".join(str(value) for value in values)
