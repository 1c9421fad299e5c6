"""Descriptions as JSON-safe data: of a record that a plugin offers, of a variant with its recipe, of this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

from ganzoo.errors import GanzooError, UsageError
from ganzoo.machine.fingerprint import environment, hardware_fingerprint
from ganzoo.machine.onednn import linear_backend
from ganzoo.machine.settings import resolve_step_mode
from ganzoo.planning.recipe import resolve_recipe
from ganzoo.planning.selection import Selection, select
from ganzoo.registry.registry import KINDS, SINGULAR, Kind, Offer, PluginStatus, Registry
from ganzoo.runs import PluginFacts
from ganzoo.training.players import Players, build_players
from ganzoo.training.preflight import count_parameters, meta_players
from ganzoo.types import Architecture, ImageShape, Penalty, Recipe
from ganzoo.util.cache import cache_sizes
from ganzoo.util.files import cache_folder
from ganzoo.util.text import did_you_mean, error_line, printable

SIZES = (16, 28, 32, 64)
"""The image sizes at which to count parameters if the architecture builds for any size."""

ASSUMED_CLASSES = 10
"""The number of classes to assume when counting parameters."""


def find_by_name(registry: Registry, name: str) -> list[tuple[Kind, Offer]]:
    """The offers of every kind called `name` or `plugin:name`; any `architecture+loss` is a variant.

    Raises `UsageError` with the nearest names if there is none.
    """
    kinds = [
        kind for kind in KINDS if any(name in (offer.qualified, _unqualified(offer)) for offer in registry.offers[kind])
    ]
    if not kinds and "+" in name and "," not in name:
        # Such a pair belongs to no plugin.
        return [("variants", Offer("-", select(registry, [name])[0].variant))]
    if not kinds:
        known = {offered for kind in KINDS for offered in registry.names(kind)}
        raise UsageError(f"nothing is called '{printable(name)}'{did_you_mean(name, known)}")
    return [(kind, registry.get(kind, name)) for kind in kinds]


def _unqualified(offer: Offer) -> str | None:
    return None if offer.inline else str(offer.record.name)


def describe_offer(offer: Offer, kind: Kind | None) -> dict[str, Any]:
    """A record as JSON: its name, summary, plugin and reference, then its other fields without the functions.

    Of a variant what sets it apart from others comes before the options of training that it shares with them.
    """
    record = offer.record
    head = {"kind": "penalty" if isinstance(record, Penalty) else SINGULAR[kind]} if kind else {}
    description = {
        **head,
        "name": record.name,
        "summary": record.summary,
        "plugin": offer.plugin,
        "reference": record.reference,
    }
    inherited = Recipe.__dataclass_fields__ if isinstance(record, Recipe) else ()
    for field in sorted(fields(record), key=lambda field: field.name in inherited):
        value = getattr(record, field.name)
        if field.name not in description and not callable(value):
            description[field.name] = _json_safe(value)
    if hasattr(record, "build"):
        description["options"] = _json_safe(record.options)
    return description


def describe_variant(registry: Registry, name: str, offer: Offer) -> dict[str, Any]:
    """The `recipe` with every default filled in, and the `parameters` at each size that the architecture claims.

    A size that cannot be built is None in `parameters` and has its reason in `cannot_build`.
    """
    recipe = resolve_recipe(Selection(name, offer.record, offer.plugin), registry, (), None, None)
    architecture = registry.get("architectures", recipe["architecture"], Architecture).record
    parameters: dict[str, dict[str, int] | None] = {}
    reasons: dict[str, str] = {}
    for size in architecture.image_sizes or SIZES:
        for channels in architecture.channels:
            shape = f"{channels}x{size}x{size}"
            try:
                parameters[shape] = count_parameters(_build(architecture, (channels, size, size), recipe))
            except (Exception, SystemExit) as error:
                parameters[shape] = None
                reasons[shape] = printable(error) if isinstance(error, GanzooError) else error_line(error)
    description = {"recipe": _json_safe(recipe), "parameters": parameters}
    return description | {"cannot_build": reasons} if reasons else description


def _build(architecture: Architecture, shape: ImageShape, recipe: Mapping[str, Any]) -> Players:
    latent, options, pack = recipe["latent"], dict(recipe["options"]), recipe["pack"]
    return meta_players(
        lambda: build_players(architecture, shape, latent, ASSUMED_CLASSES, options, logits=1, pack=pack)
    )


def describe_machine(device: str, threads: int, statuses: Sequence[PluginStatus]) -> dict[str, Mapping[str, Any]]:
    """`hardware` and `environment` as a run would record them, and the `folders` that ganzoo uses."""
    used: dict[str, PluginFacts] = {
        status.name: {"version": status.version, "source_sha256": status.source_sha256} for status in statuses
    }
    cache = cache_folder()
    sizes = cache_sizes(cache)
    return {
        "hardware": {"device": device, **hardware_fingerprint(device, threads)},
        "environment": environment(used, linear_backend(device, "fp32", resolve_step_mode(None, device))),
        "folders": {
            "data": str(Path(os.environ.get("GANZOO_DATA") or "data").resolve()),
            "cache": str(cache),
            "cache_bytes": sum(sizes.values()),
            **{f"{part}_bytes": size for part, size in sizes.items()},
        },
    }


def _json_safe(value: object) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        if hasattr(value, "name"):
            return value.name
        return _json_safe(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _json_safe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_json_safe(item) for item in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else printable(value)
