"""What code a run draws on: its plugins with the hashes of their sources, ganzoo and torch."""

from __future__ import annotations

import functools
from importlib import metadata
from typing import Any

from ganzoo.plugins import Registry
from ganzoo.types import RunSpec


def used_plugins(spec: RunSpec, registry: Registry) -> dict[str, dict[str, Any]]:
    """Version and source hash of every plugin that a run draws on."""
    names: list[tuple[Any, str]] = [("architectures", spec.architecture), ("losses", spec.loss)]
    names += [("losses", penalty["name"]) for penalty in spec.penalties]
    names += [("metrics", metric) for metric in spec.metrics]
    names += [("features", spec.features)] if spec.features else []
    plugins = {registry.get(kind, name).plugin for kind, name in names}
    # A pair of the grid is in no plugin, and a dataset's name may carry its argument.
    for kind, name in (
        ("variants", spec.variant),
        ("datasets", spec.dataset),
        ("datasets", spec.dataset.split(":")[0]),
    ):
        plugins |= {offer.plugin for offer in registry.offers[kind] if name in (offer.record.name, offer.qualified)}  # type: ignore[index]
    statuses = {name: registry.status_of(name) for name in sorted(plugins)}
    return {
        name: {"version": status.version, "source_sha256": status.source_sha256} for name, status in statuses.items()
    }


@functools.cache
def versions() -> dict[str, str]:
    """Of ganzoo and torch."""
    return {name: metadata.version(name) for name in ("ganzoo", "torch")}
