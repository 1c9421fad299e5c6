"""A variant's recipe as data: defaults of its parts filled in, `--set` applied, every value checked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ganzoo.errors import UsageError
from ganzoo.planning.overrides import Override, apply_overrides
from ganzoo.planning.selection import Selection
from ganzoo.registry.registry import Kind, Registry
from ganzoo.types import Architecture, Loss, Optimizer, Penalty, Schedule
from ganzoo.util.text import printable


def resolve_recipe(
    selection: Selection,
    registry: Registry,
    overrides: Sequence[Override],
    loss_name: str | None,
    batch_size: int | None,
) -> dict[str, Any]:
    """A variant as a nested dict of JSON values.

    `loss_name` and `batch_size` stand for the options that serve all variants; an override wins over them. Overrides
    of the parts go first, because the parts decide which other fields there are. Raises `UsageError` and its kin.
    """
    variant = selection.variant
    own_loss = _part(registry, "losses", variant.loss, Loss, selection.plugin)
    parts: dict[str, Any] = {
        "architecture": _part(registry, "architectures", variant.architecture, Architecture, selection.plugin),
        "loss": loss_name or own_loss,
        "penalties": tuple(_part(registry, "losses", value, Penalty, selection.plugin) for value in variant.penalties),
    }
    apply_overrides(parts, [override for override in overrides if override.field in parts])
    architecture = registry.get("architectures", parts["architecture"], Architecture).record
    loss_offer = registry.get("losses", parts["loss"], Loss)
    loss = loss_offer.record
    penalties = {name: registry.get("losses", name, Penalty).record for name in parts["penalties"]}
    for value in loss.penalties:
        name = _part(registry, "losses", value, Penalty, loss_offer.plugin)
        penalties[name] = registry.get("losses", name, Penalty).record

    options = _merged(architecture.options, variant.options, f"architecture '{architecture.name}' has no option")
    hyper = {name: float(value) for name, value in loss.hyper.items()}
    for penalty in penalties.values():
        hyper |= {f"{penalty.name}.{name}": float(value) for name, value in penalty.hyper.items()}
    # A recipe written for one loss may be run with another; coefficients that the other lacks do not apply then.
    as_written = parts["loss"] == own_loss and set(parts["penalties"]) >= {_name(p) for p in variant.penalties}
    given = {name: float(value) for name, value in variant.hyper.items() if as_written or name in hyper}
    hyper = _merged(hyper, given, f"loss '{loss.name}' with its penalties has no coefficient")
    if as_written:
        _merged(hyper, variant.schedules, f"schedules: loss '{loss.name}' with its penalties has no coefficient")
    frequencies = (
        {phase.name: {"repeats": phase.repeats, "every": phase.every} for phase in loss.phases}
        if loss.phases
        else {"discriminator": {"repeats": loss.repeats, "every": 1}, "generator": {"repeats": 1, "every": 1}}
    )
    schedules = {name: _settings(variant.schedules.get(name, Schedule())) for name in hyper}
    recipe: dict[str, Any] = {
        "batch_size": variant.batch_size if batch_size is None else batch_size,
        "latent": architecture.latent if variant.latent is None else variant.latent,
        "optimizer": _settings(variant.optimizer),
        "options": options,
        "hyper": hyper,
        "phases": frequencies,
        "lazy": {name: {"every": penalty.every} for name, penalty in penalties.items()},
        "rate_decay": _settings(variant.rate_decay),
        "schedules": schedules,
        "generator_first": variant.generator_first,
        "label_smoothing": float(variant.label_smoothing),
        "feature_matching": float(variant.feature_matching),
        "l1": float(variant.l1),
        "l2": float(variant.l2),
        "ema_half_life_kimg": float(variant.ema_half_life_kimg),
        "ema_rampup": float(variant.ema_rampup),
        "flips": variant.flips,
    }
    if variant.discriminator_optimizer is not None:
        recipe["discriminator_optimizer"] = _settings(variant.discriminator_optimizer)
    remaining = [override for override in overrides if override.field not in parts]
    if any(override.field.startswith("discriminator_optimizer.") for override in remaining):
        recipe.setdefault("discriminator_optimizer", dict(recipe["optimizer"]))
    apply_overrides(recipe, remaining)
    recipe.setdefault("discriminator_optimizer", dict(recipe["optimizer"]))
    _check_recipe(recipe)
    return recipe | parts


def _part(registry: Registry, kind: Kind, value: Any, type_: type, plugin: str | None) -> str:
    """The name under which a part can be found again; `value` is a name or, in `plugin`'s own records, an object."""
    if isinstance(value, str):
        return registry.reference(kind, registry.get(kind, value, type_, prefer=plugin))
    return registry.reference(kind, registry.get(kind, f"{plugin}:{value.name}", type_))


def _name(value: Any) -> str:
    return value if isinstance(value, str) else str(value.name)


def _settings(record: Optimizer | Schedule) -> dict[str, Any]:
    """The fields of a record whose numbers are all real ones, so that 1 and 1.0 are one recipe."""
    return {
        name: value if isinstance(value, str) else tuple(map(float, value)) if name == "betas" else float(value)
        for name, value in asdict(record).items()
    }


def _merged(defaults: Mapping[str, Any], given: Mapping[str, Any], complaint: str) -> dict[str, Any]:
    for name in given:
        if name not in defaults:
            raise UsageError(f"{complaint} '{printable(name)}' (it has: {', '.join(defaults) or 'none'})")
    return {**defaults, **given}


def _check_recipe(recipe: Mapping[str, Any]) -> None:
    def require(condition: bool, field: str, wanted: str, value: Any) -> None:
        if not condition:
            raise UsageError(f"{field} is {value}; give {wanted}")

    require(recipe["batch_size"] >= 2, "batch_size", "at least 2", recipe["batch_size"])
    require(recipe["latent"] >= 1, "latent", "at least 1", recipe["latent"])
    for player in ("optimizer", "discriminator_optimizer"):
        settings = recipe[player]
        require(settings["learning_rate"] > 0, f"{player}.learning_rate", "a number above 0", settings["learning_rate"])
        betas = settings["betas"]
        fine = len(betas) == 2 and all(0 <= beta < 1 for beta in betas)
        require(fine, f"{player}.betas", "two numbers from 0 to below 1", betas)
        require(0 <= settings["momentum"] < 1, f"{player}.momentum", "from 0 to below 1", settings["momentum"])
    for name, frequency in [*recipe["phases"].items(), *recipe["lazy"].items()]:
        for field, value in frequency.items():
            require(value >= 1, f"{name}.{field}", "a whole number from 1", value)
    require(0 <= recipe["label_smoothing"] < 1, "label_smoothing", "from 0 to below 1", recipe["label_smoothing"])
    for field in ("feature_matching", "l1", "l2", "ema_half_life_kimg", "ema_rampup"):
        require(recipe[field] >= 0, field, "a number from 0", recipe[field])
    for schedule in (recipe["rate_decay"], *recipe["schedules"].values()):
        require(0 <= schedule["start"] < 1, "a schedule's start", "from 0 to below 1", schedule["start"])
        require(schedule["factor"] > 0, "a schedule's factor", "a number above 0", schedule["factor"])
        require(schedule["per_updates"] > 0, "a schedule's per_updates", "a number above 0", schedule["per_updates"])
    try:
        json.dumps(recipe, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UsageError(f"the recipe must be made of text and finite numbers: {error}") from error
