"""One phase as a callable: freeze, forward, backward, update; and a step as phases called one after another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ganzoo.errors import PluginError
from ganzoo.losses import in_training
from ganzoo.training.players import AnyPlayer, Player, Players, StandIn
from ganzoo.types import Batch, Phase, Terms


class Values(NamedTuple):
    """The coefficients and the state of a run by name, small tensors on its device; those of a penalty and of an
    augmentation begin with its name. `progress` is the share of the budget that is done, from 0 to 1.
    """

    hyper: Mapping[str, Tensor]
    state: Mapping[str, Tensor] = {}
    progress: Tensor | float = 1.0


class Given(NamedTuple):
    """What a phase is called with: the players by name, some of them replaced by stand-ins, its batch and values."""

    players: Mapping[str, AnyPlayer]
    batch: Batch
    values: Values


@dataclass(frozen=True)
class StepPhase(Phase):
    """A phase of a step: its functions are given everything, and give `Terms`."""

    function: Callable[[Given], Terms]
    after: Callable[[Sequence[Tensor], Values], None] | None = None
    judges: bool = False
    """Whether it updates a judge, or a part of one: such a phase consumes real images."""


class SharingGenerator(StandIn):
    """The generator in one of two phases that share fakes; it is called once, and `beside` serves all other calls."""

    def __init__(self, player: Player, function: Callable[..., Any], beside: AnyPlayer) -> None:
        super().__init__(player, function)
        self.beside = beside


class SharedFakes:
    """One forward pass for two phases: the discriminator's makes the fakes, the generator's takes them.

    Allowed if nothing in between updates the generator. `maker` and `taker` replace the generator in the two phases.
    """

    def __init__(self, generator: Player) -> None:
        self.generator = generator
        self.maker = SharingGenerator(generator, self._make, StandIn(generator, self._make_apart))
        self.taker = SharingGenerator(generator, self._take, generator)
        self._images: Tensor | None = None
        self._calls = 0

    def begin(self) -> None:
        """A phase begins, which may call the generator once."""
        self._calls = 0

    def _make_apart(self, *inputs: Any) -> Tensor:
        # The generator is not frozen in the discriminator's phase, which must not push it.
        with torch.no_grad():
            images: Tensor = self.generator(*inputs)
        return images

    def _make(self, *inputs: Any) -> Tensor:
        self._calls += 1
        if self._calls > 1:
            raise PluginError(f"the discriminator's phase {_ONCE}")
        images: Tensor = self.generator(*inputs)
        self._images = images
        return images.detach()

    def _take(self, *inputs: Any) -> Tensor:
        images, self._images = self._images, None
        if images is None:
            raise PluginError(f"the generator's phase {_ONCE}")
        return images


def beside_shared_fakes(given: Given) -> Given:
    """What a phase is called with, its generator free for calls beside the one that makes or takes shared fakes."""
    generator = given.players["generator"]
    while isinstance(generator, StandIn):
        if isinstance(generator, SharingGenerator):
            return given._replace(players={**given.players, "generator": generator.beside})
        generator = generator.player
    return given


_ONCE = "must call the generator once, with batch.latent, to share fakes; take share_fakes=True out of the loss"


class PhaseUpdate:
    """Runs one update of a phase and returns its detached terms; no host synchronization.

    Parameters that the phase does not update are frozen while it runs, so that their gradients stay None and are never
    computed; what `build` froze stays so in every phase. With `shared` it makes the fakes for the step's other phase,
    or takes those.
    """

    def __init__(
        self,
        phase: StepPhase,
        players: Players,
        optimizers: Mapping[str, torch.optim.Optimizer],
        values: Values,
        precision: str = "fp32",
        shared: SharedFakes | None = None,
        compiled: bool = False,
        clip_norms: Mapping[str, float] | None = None,
    ) -> None:
        clip_norms = clip_norms or {}
        self.phase = phase
        self.players = players
        self.values = values
        self.function = torch.compile(phase.function, dynamic=False) if compiled else phase.function
        self.updated = players.updated_by(phase)
        if not self.updated:
            named = ", ".join(f"'{target}'" for target in phase.targets)
            raise PluginError(
                f"phase '{phase.name}' updates {named}, which has no weight to train; leave the phase out, or "
                "give it one that `build` does not freeze"
            )
        self.takes_fakes = shared is not None and not phase.judges
        self.shared = shared
        makes_fakes = shared is not None and not self.takes_fakes
        self.given_players: Mapping[str, AnyPlayer] = dict(players)
        if shared is not None:
            self.given_players = {**players, "generator": shared.taker if self.takes_fakes else shared.maker}
        updated = {id(parameter) for parameter in self.updated}
        # Fakes made for the generator's phase carry its graph, so the generator is not frozen while they are made;
        # they are detached for the discriminator, whose backward pass then leaves the generator alone.
        others = players.parameters(name for name in players if not (makes_fakes and name == "generator"))
        self.trainable = [*self.updated, *(players.parameters(("generator",)) if makes_fakes else ())]
        self.frozen = [parameter for parameter in others if id(parameter) not in updated]
        names = sorted(phase.updated_players & set(optimizers))
        self.optimizers = [(optimizers[name], clip_norms.get(name, 0.0)) for name in names]
        self.writes: frozenset[str] = frozenset()
        """The state that its last forward pass gave the next values of."""
        device_type = self.updated[0].device.type
        # Autocast does not support the meta device, on which `preflight` checks a run.
        self.device_type = "cpu" if device_type == "meta" else device_type
        self.autocast = precision == "bf16"

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        terms = self._forward_and_backward(batch)
        for optimizer, clip_norm in self.optimizers:
            if clip_norm:
                weights = [weight for group in optimizer.param_groups for weight in group["params"]]
                torch.nn.utils.clip_grad_norm_(weights, clip_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.call_after()
        for name, value in terms.state.items():
            # In place, so that a captured step writes what the next replay reads.
            self.values.state[name].copy_(value.detach())
        return _logged(terms)

    def call_after(self) -> None:
        """The phase's `after`, where it has one, on what it updates."""
        if self.phase.after is not None:
            with torch.no_grad():
                self.phase.after(self.updated, self.values)

    def check_others_untouched(self) -> None:
        """Raise `PluginError` where the last backward pass gave a gradient to weights that this phase leaves alone.

        The fakes of the generator's phase are made in the discriminator's, with the generator's graph. Only a tensor of
        the generator that the discriminator holds too, where it cannot be found, gets a gradient there.
        """
        updated = {id(parameter) for parameter in self.updated}
        if any(parameter.grad is not None for parameter in self.trainable if id(parameter) not in updated):
            raise PluginError(
                f"phase '{self.phase.name}' gives the generator a gradient: the discriminator holds a tensor of it "
                "where it is not found; make what they share a submodule of both"
            )

    def gradients(self, batch: Batch) -> dict[str, Tensor]:
        """The forward and backward pass: gradients on what the phase updates, and its detached terms."""
        return _logged(self._forward_and_backward(batch))

    def _forward_and_backward(self, batch: Batch) -> Terms:
        if self.shared is not None:
            self.shared.begin()
        for parameter in self.frozen:
            parameter.requires_grad_(False)
        for parameter in self.trainable:
            parameter.requires_grad_(True)
        with (
            in_training(self.players.together),
            torch.autocast(self.device_type, dtype=torch.bfloat16, enabled=self.autocast, cache_enabled=False),
        ):
            terms = self.function(Given(self.given_players, batch, self.values))
        check_terms(terms, self.phase, self.values.state)
        self.writes = frozenset(terms.state)
        torch.stack(list(terms.losses.values())).sum().backward()
        return terms


def _logged(terms: Terms) -> dict[str, Tensor]:
    return {name: term.detach() for name, term in (*terms.losses.items(), *terms.monitors.items())}


Call = tuple[PhaseUpdate, Batch]
"""One update of a step, and what it is given."""


def eager_step(calls: Sequence[Call]) -> list[dict[str, Tensor]]:
    """Make the updates of a step one after another; their terms in the same order."""
    return [update(batch) for update, batch in calls]


def check_terms(terms: Terms, phase: Phase, state: Mapping[str, Tensor]) -> None:
    """Raise `PluginError` where losses and monitors are not 0-dim tensors of names of their own, or a state changes its
    shape.
    """
    if not terms.losses:
        raise PluginError(f"phase '{phase.name}' gave no loss; it must give {{name: 0-dim tensor}}")
    if both := terms.losses.keys() & terms.monitors.keys():
        raise PluginError(f"phase '{phase.name}' gave '{min(both)}' as a loss and as a monitor; rename one")
    for name, term in (*terms.losses.items(), *terms.monitors.items()):
        if not isinstance(term, Tensor) or term.dim() != 0:
            raise PluginError(f"phase '{phase.name}' gave a term '{name}' of {_shape(term)}; it must be a 0-dim tensor")
    for name, value in terms.state.items():
        if not isinstance(value, Tensor) or value.shape != state[name].shape:
            raise PluginError(
                f"phase '{phase.name}' gave the state '{name}' as {_shape(value)}; it was declared with the shape "
                f"{tuple(state[name].shape)}"
            )


def _shape(value: object) -> str:
    return f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"type {type(value).__name__}"
