"""A variant's recipe as data: defaults of its parts filled in, `--set` applied, every value checked.

`resolve_recipe` returns it under the names that `--set` takes, `recipe_of` in the form that a run and its record have.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from ganzoo.errors import UsageError
from ganzoo.planning.overrides import Override, apply_overrides
from ganzoo.planning.selection import Selection
from ganzoo.records.settings import GENERATOR_PLAYER, optimizer_field
from ganzoo.registry.registry import Kind, Registry
from ganzoo.runs import PenaltyFrequency, PhaseFrequency, ResolvedRecipe
from ganzoo.types import (
    SCHEDULED_OF_PLAYER,
    SCHEDULED_OF_RUN,
    Architecture,
    Augmentation,
    Loss,
    Optimizer,
    Penalty,
    Range,
    Recipe,
    Schedule,
    Variant,
)
from ganzoo.util.conversion import convert
from ganzoo.util.text import printable

HINTS: Mapping[str, Any] = {
    **get_type_hints(Variant, include_extras=True),
    "phases": Mapping[str, PhaseFrequency],
    "lazy": Mapping[str, PenaltyFrequency],
}
"""The types of a recipe's fields, with the ranges of their numbers; that of `PLAYER_optimizer` is `optimizer`'s."""


def resolve_recipe(
    selection: Selection,
    registry: Registry,
    overrides: Sequence[Override],
    loss_name: str | None,
    batch_size: int | None,
) -> dict[str, Any]:
    """A variant as a nested dict of JSON values; see `settled_recipe`."""
    return settled_recipe(selection, registry, overrides, loss_name, batch_size)[0]


def settled_recipe(
    selection: Selection,
    registry: Registry,
    overrides: Sequence[Override],
    loss_name: str | None,
    batch_size: int | None,
) -> tuple[dict[str, Any], list[Override]]:
    """A variant as a nested dict of JSON values, and the overrides that no other of higher precedence replaced.

    `loss_name` and `batch_size` are the options that apply to all variants; an override wins over them. Overrides of
    the parts go first, because the parts decide which other fields exist. Raises `UsageError`.
    """
    variant = selection.variant
    own_loss = _part_name(registry, "losses", variant.loss, Loss, selection.plugin)
    parts: dict[str, Any] = {
        "architecture": _part_name(registry, "architectures", variant.architecture, Architecture, selection.plugin),
        "loss": loss_name or own_loss,
        "penalties": tuple(
            _part_name(registry, "losses", value, Penalty, selection.plugin) for value in variant.penalties
        ),
        "augment": tuple(
            _part_name(registry, "losses", value, Augmentation, selection.plugin) for value in variant.augment
        ),
    }
    applied = apply_overrides(parts, [override for override in overrides if override.field in parts], selection.label)
    architecture = registry.get("architectures", parts["architecture"], Architecture).record
    loss_offer = registry.get("losses", parts["loss"], Loss)
    loss = loss_offer.record
    own = (_part_name(registry, "losses", value, Penalty, loss_offer.plugin) for value in loss.penalties)
    penalties = _with_their_own(registry, (*parts["penalties"], *own))
    augmentations = [registry.get("losses", name, Augmentation).record for name in parts["augment"]]

    options = _merged(architecture.options, variant.options, f"architecture '{architecture.name}' has no option")
    hyper = {name: float(value) for name, value in loss.hyper.items()}
    for part in (*penalties.values(), *augmentations):
        hyper |= {f"{part.name}.{name}": float(value) for name, value in part.hyper.items()}
    companions = "penalties and augmentations" if augmentations else "penalties"
    # A recipe written for one loss may run with another; coefficients that the other lacks are dropped then.
    as_written = parts["loss"] == own_loss and all(
        set(parts[kind]) >= {_name(part) for part in getattr(variant, kind)} for kind in ("penalties", "augment")
    )
    given = {name: float(value) for name, value in variant.hyper.items() if as_written or name in hyper}
    hyper = _merged(hyper, given, f"loss '{loss.name}' with its {companions} has no coefficient")
    if as_written:
        schedulable = dict.fromkeys(_scheduled_names(hyper, architecture.players))
        _merged(schedulable, variant.schedules, "schedules: there is no")
    frequencies = (
        {phase.name: {"repeats": phase.repeats, "every": phase.every} for phase in loss.phases}
        if loss.phases
        else {"discriminator": {"repeats": loss.repeats, "every": 1}, "generator": {"repeats": 1, "every": 1}}
    )
    recipe = _plain_options(variant) | {
        "batch_size": variant.batch_size if batch_size is None else batch_size,
        "latent": architecture.latent if variant.latent is None else variant.latent,
        "optimizer": _as_floats(variant.optimizer),
        "options": options,
        "hyper": hyper,
        "phases": frequencies,
        "lazy": {name: {"every": penalty.every} for name, penalty in penalties.items()},
        "rate_decay": _as_floats(variant.rate_decay),
        "schedules": {
            name: _as_floats(variant.schedules.get(name, Schedule()))
            for name in _scheduled_names(hyper, architecture.players)
            if name in hyper or name in variant.schedules or _is_set(f"schedules.{name}", overrides)
        },
        "ema_half_life_kimg": float(variant.ema_half_life_kimg),
        "ema_rampup": float(variant.ema_rampup),
    }
    remaining = [override for override in overrides if override.field not in parts]
    recipe |= _own_optimizers(variant, architecture, remaining)
    _check_players_exist("averaged", variant.averaged, architecture)
    applied += apply_overrides(recipe, remaining, selection.label)
    for field in map(optimizer_field, architecture.players):
        recipe.setdefault(field, dict(recipe["optimizer"]))
    recipe["averaged"] = tuple(dict.fromkeys((GENERATOR_PLAYER, *variant.averaged)))
    _check_recipe(recipe)
    return recipe | parts | {"players": architecture.players}, applied


def _own_optimizers(
    variant: Variant, architecture: Architecture, overrides: Sequence[Override]
) -> dict[str, dict[str, Any]]:
    """The optimizers that are not the common one, by the fields under which `--set` reaches them.

    `optimizer` is the generator's, and serves every player that has none of its own.
    """
    _check_players_exist("optimizers", variant.optimizers, architecture)
    own = {optimizer_field(name): _as_floats(optimizer) for name, optimizer in variant.optimizers.items()}
    common = _as_floats(variant.optimizer)
    for field in map(optimizer_field, set(architecture.players) - {GENERATOR_PLAYER}):
        # What only the generator has is not common; and what is set for one player changes no other.
        if GENERATOR_PLAYER in variant.optimizers or _is_set(field, overrides):
            own.setdefault(field, dict(common))
    return own


def recipe_of(settings: Mapping[str, Any]) -> ResolvedRecipe:
    """The recipe of a run from the result of `resolve_recipe`."""
    options = {field.name: settings[field.name] for field in fields(Recipe)}
    schedules = {name: value for name, value in settings["schedules"].items() if value["kind"] != "constant"}
    average = {"half_life_kimg": settings["ema_half_life_kimg"], "rampup": settings["ema_rampup"]}
    parts = {
        "architecture": settings["architecture"],
        "loss": settings["loss"],
        "latent": settings["latent"],
        "phases": [{"name": name, **frequency} for name, frequency in settings["phases"].items()],
        "penalties": [{"name": name, **frequency} for name, frequency in settings["lazy"].items()],
        "optimizers": {
            player: settings[field] for player in settings["players"] if (field := optimizer_field(player)) in settings
        },
        "averages": dict.fromkeys(settings["averaged"], average),
        "augment": settings["augment"],
    }
    return convert({**options, **parts, "schedules": schedules}, ResolvedRecipe)


def _plain_options(variant: Variant) -> dict[str, Any]:
    """The options of a variant that are single values; real numbers as floats, so that 1 and 1.0 are one recipe."""
    hints = get_type_hints(Recipe)
    values = {name: getattr(variant, name) for name, hint in hints.items() if hint in (bool, int, float, str)}
    return {name: float(value) if hints[name] is float else value for name, value in values.items()}


def _part_name(registry: Registry, kind: Kind, value: Any, type_: type, plugin: str | None) -> str:
    """The name by which the registry finds a part; `value` is that name or, in a record of `plugin`, the object."""
    if isinstance(value, str):
        return registry.reference(kind, registry.get(kind, value, type_, prefer=plugin))
    return registry.reference(kind, registry.get(kind, f"{plugin}:{value.name}", type_))


def _with_their_own(registry: Registry, names: Sequence[str]) -> dict[str, Penalty]:
    """Penalties by name, each before those that come with it."""
    penalties: dict[str, Penalty] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop(0)
        if name not in penalties:
            offer = registry.get("losses", name, Penalty)
            penalties[name] = offer.record
            own = [_part_name(registry, "losses", value, Penalty, offer.plugin) for value in offer.record.penalties]
            waiting[:0] = own
    return penalties


def _name(value: Any) -> str:
    return value if isinstance(value, str) else str(value.name)


def _as_floats(record: Optimizer | Schedule) -> dict[str, Any]:
    """The fields of an optimizer or schedule, numbers as floats, so that 1 and 1.0 are one recipe."""
    return {name: _with_floats(value) for name, value in asdict(record).items()}


def _with_floats(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _with_floats(item) for name, item in value.items()}
    if isinstance(value, (tuple, list)):
        return tuple(map(_with_floats, value))
    return value if isinstance(value, (str, bool)) else float(value)


def _check_players_exist(field: str, names: Iterable[str], architecture: Architecture) -> None:
    """Raise `UsageError` where a field of a recipe names a player that the architecture lacks."""
    for name in names:
        if name not in architecture.players:
            raise UsageError(
                f"{field} names '{printable(name)}', and the players of architecture '{architecture.name}' are "
                f"{', '.join(architecture.players)}"
            )


def _is_set(field: str, overrides: Sequence[Override]) -> bool:
    """Whether a `--set` names a field, or a part of it, by its whole path."""
    return any(override.field == field or override.field.startswith(f"{field}.") for override in overrides)


def _scheduled_names(coefficients: Iterable[str], players: Iterable[str]) -> tuple[str, ...]:
    """What a recipe can schedule: coefficients, rate and betas of each player, and the half-life of the averages."""
    of_players = (f"{player}.{name}" for player in players for name in SCHEDULED_OF_PLAYER)
    return (*coefficients, *of_players, *SCHEDULED_OF_RUN)


def _merged(defaults: Mapping[str, Any], given: Mapping[str, Any], complaint: str) -> dict[str, Any]:
    for name in given:
        if name not in defaults:
            raise UsageError(f"{complaint} '{printable(name)}' (it has: {', '.join(defaults) or 'none'})")
    return {**defaults, **given}


def _check_recipe(recipe: Mapping[str, Any]) -> None:
    """Raise `UsageError` for a number out of its range and for a value that JSON cannot hold."""
    for fault in (fault for name, value in recipe.items() for fault in _range_faults(name, value, _hint(name))):
        raise UsageError(fault)
    for name, schedule in (("rate_decay", recipe["rate_decay"]), *recipe["schedules"].items()):
        fractions = [fraction for fraction, _ in schedule["points"]]
        if schedule["kind"] == "points" and (not fractions or fractions != sorted(fractions)):
            raise UsageError(f"{printable(name)} goes by points; give pairs (fraction, multiplier) in ascending order")
    try:
        json.dumps(recipe, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UsageError(f"the recipe must be made of text and finite numbers: {error}; give such values") from error


def _hint(field: str) -> Any:
    return HINTS[field] if field in HINTS else HINTS["optimizer"]


def _range_faults(path: str, value: Any, hint: Any) -> Iterator[str]:
    """The numbers in `value` that are out of range: `batch_size is 1; give a whole number from 2`."""
    if get_origin(hint) is Annotated:
        for limits in hint.__metadata__:
            if isinstance(limits, Range) and value not in limits:
                kind = "a whole number" if isinstance(value, int) else "a number"
                yield f"{path} is {value}; give {kind} {limits}"
    elif is_dataclass(hint):
        hints = get_type_hints(hint, include_extras=True)
        for name, part in value.items():
            yield from _range_faults(f"{path}.{name}", part, hints[name])
    elif isinstance(value, Mapping) and hint is not Any:
        for name, part in value.items():
            yield from _range_faults(f"{path}.{printable(name)}", part, get_args(hint)[1])
    elif isinstance(value, tuple) and get_origin(hint) is tuple:
        wanted = get_args(hint)
        if Ellipsis in wanted:
            wanted = (wanted[0],) * len(value)
        if len(value) != len(wanted):
            yield f"{path} is {value}; give {len(wanted)} numbers"
        for index, (part, inner) in enumerate(zip(value, wanted, strict=False)):
            yield from _range_faults(f"{path}[{index}]", part, inner)
    elif get_origin(hint) is not None:
        # An optional value: if there is one, its type has the range.
        for inner in get_args(hint):
            if inner is not type(None):
                yield from _range_faults(path, value, inner)
