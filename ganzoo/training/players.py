"""Wrappers of the networks with one calling convention: float32 outputs, logits in the form that the loss wants.

The networks of an architecture differ in whether they take labels, in how many logits they give and in what else they
give. A player hides that, so that any loss works with any architecture, and raises `PluginError` when a network breaks
its contract.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ganzoo.errors import PluginError, UsageError
from ganzoo.losses import Together, original
from ganzoo.training.progressive import enlarged
from ganzoo.types import PACKED_SHAPE, Architecture, ImageShape, Inputs, Phase
from ganzoo.util.text import printable


class Player(nn.Module):
    """Wraps a network; other attributes are looked up on the network (`discriminator.code_head`).

    It passes on the inputs that it is given. Trailing labels, or None, for which the network's `forward` has no room
    are left out, so that one loss serves conditional and unconditional networks.

    Weights that `build` froze, by `requires_grad_(False)`, are no part of training: they stay as they were made.
    """

    def __init__(self, name: str, network: nn.Module, conditional: bool) -> None:
        super().__init__()
        self.player_name = name
        self.network = network
        self.conditional = conditional
        self.progress: Tensor | float = 1.0
        self.image_size = 0
        self.room = Room.of(network.forward, conditional)
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

    def forward(self, *inputs: Any) -> Any:
        """What the network gives for these inputs, or for those in one `Inputs`; tensors of real numbers as float32."""
        return _as_float32(self.call(self.network, self.room, inputs))

    def call(self, function: Callable[..., Any], room: Room, inputs: tuple[Any, ...]) -> Any:
        """Apply the network, or a method of it, to the inputs for which it has room."""
        fitting = room.fitting(inputs, self.player_name)
        return function(*fitting, **{name: getattr(self, name) for name in room.named})

    def parameters_now(self) -> dict[str, Tensor]:
        """The weights as they are, by name, for `called_with` and `ganzoo.losses.gradient`."""
        return dict(self.network.named_parameters())

    def called_with(self, parameters: Mapping[str, Tensor], *inputs: Any) -> Any:
        """The player with other weights in place of its own, those of `parameters`; differentiable by them."""
        return torch.func.functional_call(
            self, {f"network.{name}": tensor for name, tensor in parameters.items()}, inputs
        )

    def trained_weights(self, path: str = "") -> list[nn.Parameter]:
        """The weights of the network, or of its submodule at `path`, that training updates: those not frozen.

        Raises `AttributeError` where there is no such submodule.
        """
        module = self.network.get_submodule(path)
        frozen = {id(weight) for name, weight in _all_names(self.network) if name in self.frozen_weights}
        return [weight for weight in module.parameters() if id(weight) not in frozen]


@dataclass(frozen=True)
class Room:
    """How many inputs a `forward` takes by position (None: any number), and what of `NAMED` it asks for by name."""

    inputs: int | None
    named: tuple[str, ...] = ()

    @classmethod
    def of(cls, function: Callable[..., Any], conditional: bool) -> Room:
        """The room of a function. An unconditional network's optional `labels`, its last input, are left out."""
        try:
            parameters = list(inspect.signature(function).parameters.values())
        except (ValueError, TypeError):
            return cls(None)
        named = tuple(parameter.name for parameter in parameters if parameter.name in NAMED)
        if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
            return cls(None, named)
        positional = [
            parameter
            for parameter in parameters
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
            and parameter.name not in NAMED
        ]
        if positional and not conditional and positional[-1].name == "labels":
            optional = positional[-1].default is not inspect.Parameter.empty
            return cls(len(positional) - optional, named)
        return cls(len(positional), named)

    def fitting(self, inputs: tuple[Any, ...], player: str) -> tuple[Any, ...]:
        """The inputs without trailing labels for which there is no room. Raises `PluginError` for another surplus."""
        while inputs and inputs[-1] is None:
            inputs = inputs[:-1]
        if self.inputs is None or len(inputs) <= self.inputs:
            return inputs
        surplus = inputs[self.inputs :]
        if not all(isinstance(value, Tensor) and value.dtype == torch.int64 for value in surplus):
            raise PluginError(
                f"the {player} is given {len(inputs)} inputs, and its forward takes {self.inputs}; only labels are "
                "left out where a network has no room for them"
            )
        return inputs[: self.inputs]


NAMED = ("progress", "image_size")
"""What the harness tells a `forward` that names it: the share of the budget used up, and the size of the images now."""


def unpacked(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The inputs of a call, those in one `Inputs` included."""
    return tuple(inputs[0]) if len(inputs) == 1 and isinstance(inputs[0], Inputs) else inputs


def _as_float32(output: Any) -> Any:
    """Real numbers as float32, whatever the precision of the step; in tuples, lists and mappings too."""
    if isinstance(output, Tensor):
        return output.float() if output.is_floating_point() else output
    if isinstance(output, Mapping):
        return {name: _as_float32(value) for name, value in output.items()}
    if isinstance(output, (list, tuple)):
        return [_as_float32(value) for value in output]
    return output


def _all_names(network: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Every weight under each of its names: one that is tied has several."""
    return network.named_parameters(remove_duplicate=False)


class GeneratorPlayer(Player):
    """`generator(latent, labels=None) -> images`: (N, latent) to (N, C, H, W) float32 in [-1, 1]."""

    def __init__(self, network: nn.Module, conditional: bool, image_shape: ImageShape) -> None:
        super().__init__("generator", network, conditional)
        self.full_shape = self.image_shape = tuple(image_shape)
        self.image_size = self.full_shape[1]

    def forward(self, latent: Tensor, *others: Any) -> Tensor:
        """The images of latents, and of labels where it takes them; in eval mode always of the full size."""
        images = super().forward(latent, *others)
        if not isinstance(images, Tensor):
            raise PluginError(f"the generator gave a {type(images).__name__}; it must give one tensor")
        if images.shape != (len(latent), *self.image_shape):
            raise PluginError(
                f"the generator gave shape {tuple(images.shape)}; it must give {(len(latent), *self.image_shape)}"
            )
        return images if self.training else enlarged(images, self.full_shape)


class StandIn:
    """Replaces the call of a player by `function(*inputs)`; attributes are the player's."""

    def __init__(self, player: Player | StandIn, function: Callable[..., Any]) -> None:
        self.player = player
        self._function = function

    def __call__(self, *inputs: Any) -> Any:
        return self._function(*inputs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.player, name)


AnyPlayer: TypeAlias = Player | StandIn
"""What a phase may get as a player."""

Logits: TypeAlias = Tensor | list[Tensor]
"""What a judge gives: one tensor, or a list of maps."""


@dataclass(frozen=True)
class Judgement:
    """One call of a judge: its inputs before augmentation, and what it gave."""

    judge: str
    inputs: tuple[Any, ...]
    logits: Logits
    heads: Mapping[str, Tensor]


class PhaseTrace:
    """What the players of a phase have made and judged while it ran.

    `real` are the real images; `made` the images of the generator. A tensor is `is_real` where it is one of the former,
    or stands for it; None where it is neither, such as a mixture of both.
    """

    def __init__(self, real: Tensor) -> None:
        self.sides: list[tuple[Tensor, bool]] = [(real, True)]
        self.calls: list[Judgement] = []
        self.made: list[Tensor] = []
        self.closed = False
        """Whether the phase's own function is done; what penalties make and judge after it is not noted."""

    def note_fakes(self, images: Tensor) -> Tensor:
        """Take note of images of the generator, and return them."""
        self.made.append(images)
        return self.note_side(images, False)

    def note_side(self, tensor: Tensor, is_real: bool | None) -> Tensor:
        """Take note of another tensor of one side, such as a detached copy, and return it."""
        if is_real is not None:
            self.sides.append((tensor, is_real))
        return tensor

    def is_real(self, tensor: object) -> bool | None:
        """The side of a tensor; None if it has none."""
        if not isinstance(tensor, Tensor):
            return None
        tensor = original(tensor)
        return next((side for known, side in self.sides if known is tensor), None)


Augment: TypeAlias = Callable[[Tensor, Tensor | None, bool | None], tuple[Tensor, ...]]
"""`augment(images, labels, is_real) -> (images,)`, or `(images, condition)`."""


class Judge(Player):
    """`discriminator(images, labels=None) -> logits`: (N,) when the loss wants one for each image, (N, 2) for two.

    A two-way head under a one-logit loss gives z1 - z0, on which BCE equals softmax cross-entropy; a one-logit head
    under a two-logit loss gives (0, z). In training images are augmented, once for each call, and packed.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        architecture: Architecture,
        *,
        wanted: int,
        image_shape: ImageShape,
        pack: int,
    ) -> None:
        super().__init__(name, network, architecture.conditional)
        self.gives = architecture.gives
        self.logits = architecture.logits
        self.wanted = wanted
        self.full_shape = self.image_shape = tuple(image_shape)
        self.image_size = self.full_shape[1]
        self.pack = pack
        self.augment: Augment | None = None
        self.trace: PhaseTrace | None = None

    def forward(self, *inputs: Any) -> Logits:
        """The logits, or what else a judge of this architecture gives."""
        return self._judge(inputs).logits

    def heads(self, *inputs: Any) -> Mapping[str, Any]:
        """All that one forward pass gives by name, that of `forward` under `logits`."""
        judgement = self._judge(inputs)
        return {"logits": judgement.logits, **judgement.heads}

    def plain(self, *inputs: Any) -> Logits:
        """The same without augmentation."""
        return self._judge(inputs, augmented=False).logits

    def features(self, *inputs: Any) -> Tensor:
        """What the network computes just before its head, (N, D); for feature matching. Augmented like a call."""
        if not hasattr(self.network, "features"):
            raise UsageError("feature matching needs a discriminator with a method features(images) -> (N, D)")
        function: Any = self.network.features
        given = self._prepared(unpacked(inputs), augmented=True)
        features = _as_float32(self.call(function, Room.of(function, self.conditional), given))
        if not isinstance(features, Tensor):
            raise PluginError(f"features gave a {type(features).__name__}; it must give one tensor")
        return features.flatten(1)

    def packed(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) as packs (N / m, m · C, H, W); what is packed already, or no image, as it is."""
        if self.pack == 1 or not self._are_images(images) or images.shape[1] != self.image_shape[0]:
            return images
        return images.reshape(len(images) // self.pack, -1, *images.shape[2:])

    def _judge(self, inputs: tuple[Any, ...], *, augmented: bool = True) -> Judgement:
        given = unpacked(inputs)
        output = _as_float32(self.call(self.network, self.room, self._prepared(given, augmented)))
        logits, heads = self._parsed(output, given)
        judgement = Judgement(self.player_name, self.room.fitting(given, self.player_name), logits, heads)
        if self.trace is not None and augmented and not self.trace.closed:
            self.trace.calls.append(judgement)
        return judgement

    def _prepared(self, inputs: tuple[Any, ...], augmented: bool) -> tuple[Any, ...]:
        """The inputs as the network gets them: images augmented, each with the condition that this gave, and packed."""
        augment = self.augment if augmented and self.training else None
        if augment is None and self.pack == 1:
            return inputs
        labels = next((value for value in inputs if isinstance(value, Tensor) and value.dtype == torch.int64), None)
        prepared: list[Any] = []
        for value in inputs:
            if not self._are_images(value):
                prepared.append(value)
                continue
            images: Tensor = value
            condition: list[Tensor] = []
            if augment is not None:
                side = self.trace.is_real(value) if self.trace is not None else None
                apart = images.reshape(-1, *self.image_shape)
                images, *condition = augment(apart, labels, side)
            prepared += [self.packed(images), *condition]
        return tuple(prepared)

    def _are_images(self, value: object) -> bool:
        """Whether a value is a batch of images or of packs of them."""
        channels, height, width = self.image_shape
        return (
            isinstance(value, Tensor)
            and value.dim() == 4
            and value.is_floating_point()
            and value.shape[1] in (channels, self.pack * channels)
            and value.shape[2:] == (height, width)
        )

    def _parsed(self, output: Any, given: tuple[Any, ...]) -> tuple[Logits, Mapping[str, Tensor]]:
        """What the network gave as logits in the form that the loss wants, and its heads. Raises `PluginError`."""
        heads: dict[str, Tensor] = {}
        if isinstance(output, Mapping):
            if "logits" not in output:
                named = ", ".join(f"'{printable(name)}'" for name in output)
                raise PluginError(f"the {self.player_name} gave {named}; a mapping of heads needs 'logits'")
            heads = {name: value for name, value in output.items() if name != "logits"}
            output = output["logits"]
        rows = len(given[0])
        if self.pack > 1 and self._are_images(given[0]) and given[0].shape[1] == self.image_shape[0]:
            rows //= self.pack
        if self.gives == "patches" and isinstance(output, list):
            return [self._checked(part, rows) for part in output], heads
        return self._checked(output, rows), heads

    def _checked(self, output: Any, rows: int) -> Tensor:
        if not isinstance(output, Tensor):
            raise PluginError(f"the {self.player_name} gave a {type(output).__name__}; it must give one tensor")
        if self.gives in ("logits", "energy"):
            declared = (rows,) if self.logits == 1 else (rows, 2)
            if output.shape != declared:
                # (N, 1) against (N,) would broadcast to (N, N) in a relativistic loss and train on nonsense.
                raise PluginError(
                    f"the {self.player_name} gave logits of shape {tuple(output.shape)}; it must give {declared}"
                    + ("" if self.gives == "energy" else _OTHER_FORMS)
                )
            return self._as_wanted(output)
        if output.dim() < 1 or len(output) != rows:
            raise PluginError(
                f"the {self.player_name} gave shape {tuple(output.shape)}; it must give {rows} rows of {self.gives}"
            )
        return output

    def _as_wanted(self, logits: Tensor) -> Tensor:
        if self.logits == self.wanted:
            return logits
        return torch.stack([torch.zeros_like(logits), logits], 1) if self.wanted == 2 else logits[:, 1] - logits[:, 0]


_OTHER_FORMS = " (maps of logits: say gives='patches' in the Architecture)"


class Players(Mapping[str, Player]):
    """The players of one run by name."""

    def __init__(self, players: Mapping[str, Player]) -> None:
        self._players = dict(players)

    def __getitem__(self, name: str) -> Player:
        return self._players[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._players)

    def __len__(self) -> int:
        return len(self._players)

    @property
    def generator(self) -> GeneratorPlayer:
        """The player that makes images."""
        generator = self["generator"]
        assert isinstance(generator, GeneratorPlayer)
        return generator

    @property
    def judges(self) -> list[Judge]:
        """The players that tell real from fake."""
        return [player for player in self.values() if isinstance(player, Judge)]

    def at_size(self, size: int) -> None:
        """Work on images of another size from now on."""
        for player in self.values():
            player.image_size = size
            if isinstance(player, (GeneratorPlayer, Judge)):
                channels, height, _ = player.full_shape
                player.image_shape = player.full_shape if size == height else (channels, size, size)

    @cached_property
    def together(self) -> Together:
        """All of them as one module."""
        return Together(list(self.values()))

    def parameters(self, targets: Iterable[str]) -> list[nn.Parameter]:
        """The weights that training updates, of players or submodules: `generator` or `discriminator.code_head`.

        Raises `PluginError` for a target that names no player, `UsageError` for a part that this one lacks.
        """
        parameters: dict[int, nn.Parameter] = {}
        for target in targets:
            player, _, path = target.partition(".")
            if player not in self:
                raise PluginError(
                    f"a phase updates '{printable(target)}', and the players are {', '.join(map(printable, self))}"
                )
            try:
                trained = self[player].trained_weights(path)
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
    options: Mapping[str, Any],
    logits: int,
    pack: int = 1,
) -> Players:
    """Build the networks and check what can be checked without running them.

    `logits` is how many the loss wants, `pack` how many images a judge sees at once. Raises `UsageError` when the
    architecture cannot build this image shape or packs, or needs labels and the dataset has none.
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
    given = dict(options)
    if pack > 1:
        if not architecture.packs:
            raise UsageError(
                f"architecture '{name}' builds no discriminator for packs of images; let its build name {PACKED_SHAPE}"
            )
        if architecture.conditional:
            raise UsageError(
                f"architecture '{name}' is conditional, and packs of images have no labels; leave pack at 1"
            )
        given[PACKED_SHAPE] = (pack * channels, height, width)
    try:
        built = architecture.build(image_shape, latent, classes, **given)
    except (ValueError, TypeError) as error:
        raise UsageError(f"architecture '{name}' cannot be built: {error}; give other options by --set") from error
    networks = _networks_by_name(architecture, built)
    _refuse_lazy_layers(name, networks)
    _refuse_state_that_cannot_be_given_back(name, networks)

    def wrapped(player: str, network: nn.Module) -> Player:
        if player == "generator":
            return GeneratorPlayer(network, architecture.conditional, image_shape)
        if player in architecture.judges:
            return Judge(player, network, architecture, wanted=logits, image_shape=image_shape, pack=pack)
        return Player(player, network, architecture.conditional)

    return Players({player: wrapped(player, network) for player, network in networks.items()})


def _networks_by_name(architecture: Architecture, built: Any) -> Mapping[str, nn.Module]:
    """What `build` gave, by the names that the architecture declares. Raises `PluginError` for other names."""
    declared = architecture.players
    if isinstance(built, Mapping):
        networks = dict(built)
    elif isinstance(built, (tuple, list)) and len(built) == len(declared):
        networks = dict(zip(declared, built, strict=True))
    else:
        raise PluginError(
            f"architecture '{architecture.name}' builds {type(built).__name__}; its build must give {_joined(declared)}"
        )
    if set(networks) != set(declared):
        raise PluginError(
            f"architecture '{architecture.name}' builds the players {_joined(networks)} and declares "
            f"{_joined(declared)}; name them in players=(…)"
        )
    for name, network in networks.items():
        if not isinstance(network, nn.Module):
            raise PluginError(
                f"architecture '{architecture.name}' builds a {type(network).__name__} as its {name}; give a module"
            )
    return {name: networks[name] for name in declared}


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


def _joined(values: Iterable[object] | Collection[object]) -> str:
    return ", ".join(printable(value) for value in values)
