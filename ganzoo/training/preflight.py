"""Checks before training: build the networks on the meta device, run every phase once, count parameters and FLOPs."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import parametrizations
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ganzoo.errors import GanzooError, PluginError, UsageError
from ganzoo.losses import beyond_transforms
from ganzoo.machine.settings import memory_format
from ganzoo.registry.isolation import undisturbed
from ganzoo.registry.registry import Registry
from ganzoo.runs import RunSpec
from ganzoo.training.assembly import (
    follows_progress,
    latent_drawer,
    materials_of,
    phase_updates,
    spec_phases,
    spec_players,
    spec_values,
)
from ganzoo.training.augmenting import Augmenting
from ganzoo.training.objective import StepPhases
from ganzoo.training.optimizers import optimizer_of
from ganzoo.training.phase_update import PhaseUpdate, Values
from ganzoo.training.players import Players
from ganzoo.training.progressive import stages_of
from ganzoo.training.schedules import follows_budget, moving_betas
from ganzoo.types import Augmentation, Batch
from ganzoo.util.text import error_line, printable


@dataclass(frozen=True)
class Preflight:
    """What is known of a run before it starts.

    `parameters` of each player; `memory_format` that suits its networks; `flops_per_image` of training, for each real
    image shown, or None if unknown; `uncounted` names the operators that have no FLOP formula and are taken for free.
    `fault` is what a phase raised on the meta device, or empty.
    """

    parameters: Mapping[str, int]
    memory_format: str
    flops_per_image: float | None
    uncounted: tuple[str, ...] = ()
    fault: str = ""
    phases: tuple[str, ...] = ()
    """What each phase updates and how often, in words, and whether fakes are shared."""
    follows_budget: bool = False
    """Whether what is done in a step depends on the length of the run: by a schedule, `progress`, or stages."""


@undisturbed()
def preflight(spec: RunSpec, registry: Registry) -> Preflight:
    """Check what a run will do, on the meta device: shapes, names of terms, what each phase updates, what it reads.

    Raises `GanzooError` where the contract is broken or the combination is refused. Other exceptions are the `fault`,
    since an operator may merely lack a meta implementation: `tryout` tells, and the FLOPs are unknown.
    Process state that a plugin changes is restored.
    """
    materials = materials_of(spec, registry)
    try:
        players = meta_players(lambda: spec_players(spec, materials))
        values = spec_values(spec, materials, "meta")
        stages = stages_of(materials.architecture, spec.image_shape)
        updates = phase_updates(spec, materials, players, {}, values, compiled=False)
        _check_updated(players, updates)
        for name, settings in spec.recipe.optimizers.items():
            optimizer_of(
                players[name],
                settings,
                [update.phase for update in updates],
                capturable=spec.step_mode == "graph",
                moving_betas=moving_betas(spec.recipe.schedules, name),
            )
        drawn = latent_drawer(spec, materials.architecture)(2, torch.Generator().manual_seed(0))
    except GanzooError:
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(f"its plugin raised {type(error).__name__}: {printable(error)}") from error
    parameters = count_parameters(players)
    weights = [weight for player in players.values() for weight in player.parameters()]
    layout = memory_format(weights, spec.device, spec.precision)
    plan = spec_phases(spec, materials)
    phases = tuple(_in_words(plan, updates))
    schedules = [spec.recipe.rate_decay, *spec.recipe.schedules.values()]
    by_budget = follows_progress(plan, players) or len(stages) > 1 or any(map(follows_budget, schedules))
    flops, count = None, FlopCount()
    try:
        with TensorsRead() as read:
            with count:
                for _, size in stages:
                    players.at_size(size)
                    flops = _step_flops(updates, spec, players.generator.image_shape, drawn.shape[1], count)
            for update in updates:
                update.call_after()
    except GanzooError:
        raise
    except (Exception, SystemExit) as error:
        fault = error_line(error)
    else:
        fault = ""
        _check_augmented(materials.augmentations, players)
        _check_read(values, read)
        _check_written(values, updates)
        if spec.step_mode == "compile" and any(map(beyond_transforms, (*players.values(), players.together))):
            raise PluginError(
                "a term differentiates a network whose autograd.Function, backward hook or checkpointing torch.func "
                "refuses, and compiled steps know no other way; pass --step-mode eager"
            )
        if spec.step_mode == "compile" and any(not each.same_for_real_and_fake for each in materials.augmentations):
            raise PluginError(
                "an augmentation that treats real images and fakes differently cannot be compiled with gradients by "
                "its inputs; pass --step-mode eager"
            )
    if flops is None:
        return Preflight(parameters, layout, None, fault=fault, phases=phases, follows_budget=by_budget)
    draws = 1 + sum((update.phase.repeats - 1) / update.phase.every for update in updates if update.phase.judges)
    per_image = flops / draws / spec.recipe.batch_size
    return Preflight(parameters, layout, per_image, tuple(sorted(count.uncounted)), fault, phases, by_budget)


def _in_words(plan: StepPhases, updates: Sequence[PhaseUpdate]) -> Iterator[str]:
    """`discriminator updates discriminator 5 times`, and why fakes are not shared where they are not."""
    for phase in plan.phases:
        often = f" {phase.repeats} times" * (phase.repeats > 1) + f" in every {phase.every}th step" * (phase.every > 1)
        yield f"{phase.name} updates {', '.join(phase.targets)}{often}"
    if any(update.takes_fakes for update in updates):
        yield "one forward pass of the generator serves both"
    elif plan.own_fakes_because:
        yield f"each phase makes its own fakes, for {plan.own_fakes_because}"


def _check_updated(players: Players, updates: Sequence[PhaseUpdate]) -> None:
    """Raise `UsageError` for a player that no phase updates, not even a part of it, and that is not frozen."""
    updated = {id(weight) for update in updates for weight in update.updated}
    for name, player in players.items():
        weights = player.trained_weights()
        if weights and not any(id(weight) in updated for weight in weights):
            raise UsageError(
                f"no phase updates the player '{name}', and `build` does not freeze it; choose a loss whose phases do, "
                "or freeze it by requires_grad_(False)"
            )


def count_parameters(players: Players) -> dict[str, int]:
    """The number of parameters of each player that training updates."""
    return {name: sum(parameter.numel() for parameter in players.parameters((name,))) for name in players}


def meta_players(build: Callable[[], Players]) -> Players:
    """The players on the meta device; built on the CPU and moved there if `build` reads a tensor's values."""
    try:
        with building_on_meta():
            return build()
    except Exception:
        players = build()
        for player in players.values():
            player.to("meta")
        return players


@contextlib.contextmanager
def building_on_meta() -> Iterator[None]:
    """Networks are built on the meta device, without the work that only their numbers need."""
    normalization: Any = parametrizations._SpectralNorm
    power_method = normalization._power_method
    with torch.device("meta"), Undrawn(), warnings.catch_warnings():
        # Weights from elsewhere are not there yet, and need not be.
        warnings.filterwarnings("ignore", message=".*to a meta parameter in the current model, which is a no-op")
        # Spectral normalization starts with 15 power iterations, which take most of the time and change no shape.
        normalization._power_method = lambda *_: None
        try:
            yield
        finally:
            normalization._power_method = power_method


def _step_flops(
    updates: Sequence[PhaseUpdate], spec: RunSpec, image_shape: Sequence[int], latent: int, count: FlopCount
) -> float:
    """FLOPs of a step's forward and backward passes at the run's batch size, lazy phases by their share, on images of
    one of the sizes that the architecture goes through.
    """
    size = spec.recipe.batch_size
    with torch.device("meta"):
        real = torch.empty(size, *image_shape)
        labels = torch.empty(size, dtype=torch.int64) if spec.classes else None
        batch = Batch(real, labels, torch.empty(size, latent), classes=spec.classes)
        flops = 0.0
        for update in updates:
            before = count.total
            update.gradients(batch)
            update.check_others_untouched()
            flops += (count.total - before) * update.phase.repeats / update.phase.every
            for parameter in update.trainable:
                parameter.grad = None
    return flops


class Undrawn(TorchDispatchMode):
    """Fills no tensor with random numbers: on the meta device there is nothing to fill, and torch takes its time."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags and func._schema.is_mutable and "out" not in (kwargs or {}):
            return args[0]
        return func(*args, **(kwargs or {}))


class FlopCount(TorchDispatchMode):
    """Counts with torch's own formulas, two FLOPs for a multiply-add; `uncounted` names operators without one.

    torch's `FlopCounterMode` also tracks modules, and that tracker raises on input gradients and parametrizations.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0
        self.uncounted: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.total += formula(*args, **kwargs, out_val=out)
        elif not func.is_view:
            self.uncounted.add(str(func._overloadpacket).removeprefix("aten."))
        return out


def _check_augmented(augmentations: Sequence[Augmentation], players: Players) -> None:
    """Raise `UsageError` for augmentations where no judge has been given an image: they would change nothing."""
    installed = (judge.augment for judge in players.judges)
    if augmentations and not any(isinstance(augment, Augmenting) and augment.applied for augment in installed):
        named = " and ".join(printable(augmentation.name) for augmentation in augmentations)
        raise UsageError(f"{named} would change nothing, since no judge is given images in training; leave it out")


def _check_read(values: Values, read: TensorsRead) -> None:
    """Raise `PluginError` for a coefficient or a state that no operation has read: it would change nothing."""
    for kind, tensors in (("coefficient", values.hyper), ("state", values.state)):
        for name, value in tensors.items():
            if id(value) not in read.tensors:
                raise PluginError(
                    f"no function reads the {kind} '{printable(name)}'; take it out of its declaration, or read it "
                    "where it belongs"
                )


def _check_written(values: Values, updates: Sequence[PhaseUpdate]) -> None:
    """Raise `PluginError` for a state that no phase writes, or several: its course would depend on their order."""
    for name in values.state:
        writers = [update.phase.name for update in updates if name in update.writes]
        if not writers:
            raise PluginError(
                f"no function gives the state '{printable(name)}' its next value; return it in ganzoo.Terms(state=…)"
            )
        if len(writers) > 1:
            raise PluginError(
                f"the state '{printable(name)}' is written by several phases ({printable(', '.join(writers))}); let "
                "one of them do so"
            )


class TensorsRead(TorchDispatchMode):
    """The tensors that operations have been given, by id."""

    def __init__(self) -> None:
        super().__init__()
        self.tensors: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for value in (*args, *kwargs.values()):
            for part in value if isinstance(value, (list, tuple)) else (value,):
                if isinstance(part, Tensor):
                    self.tensors.add(id(part))
        return func(*args, **kwargs)
