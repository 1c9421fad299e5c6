"""The code that a run uses: plugins with the hashes of their sources, ganzoo and torch; whether it has changed."""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Iterator, Mapping
from importlib import metadata
from typing import Any

from ganzoo.errors import PluginError, UsageError
from ganzoo.planning.overrides import parse_overrides
from ganzoo.planning.request import BenchPlan
from ganzoo.records.store import INSTALLED
from ganzoo.registry.discovery import ALLOW_LIST
from ganzoo.registry.distributions import imported_distributions
from ganzoo.registry.registry import Kind, Registry
from ganzoo.runs import Environment, PluginFacts, RunSpec, Scoring
from ganzoo.util.options import options_of
from ganzoo.util.text import printable


def code_of(spec: RunSpec, registry: Registry) -> Environment:
    """The code that a training uses, as in a record's `environment`: plugins, their allow-list, versions.

    `distributions` are those that the plugins import which train: a dataset is told by the sha256 of its images. A
    score is told by its protocol, and its code is none of this: see `code_of_scoring`.
    """
    return {
        "plugins": used_plugins(spec, registry),
        "plugin_allow_list": os.environ.get(ALLOW_LIST),
        "distributions": imported_distributions(registry.sources, _training_plugins(spec, registry)),
        # Those installed now, not those imported: an upgrade may come while Python runs.
        "ganzoo": metadata.version("ganzoo"),
        "torch": metadata.version("torch"),
    }


def _training_plugins(spec: RunSpec, registry: Registry) -> set[str]:
    """The plugins that a run has its variant, networks, loss, penalties and augmentations from."""
    names: list[tuple[Kind, str]] = [("architectures", spec.recipe.architecture), ("losses", spec.recipe.loss)]
    names += [("losses", name) for name in (*(penalty.name for penalty in spec.recipe.penalties), *spec.recipe.augment)]
    # A pair such as dcgan+hinge belongs to no plugin.
    return {registry.get(kind, name).plugin for kind, name in names} | _plugins_with(registry, "variants", spec.variant)


def _plugins_with(registry: Registry, kind: Kind, name: str) -> set[str]:
    return {offer.plugin for offer in registry.offers[kind] if name in (offer.record.name, offer.qualified)}


def used_plugins(spec: RunSpec, registry: Registry) -> dict[str, PluginFacts]:
    """Version and source hash of every plugin that a training uses."""
    plugins = _training_plugins(spec, registry)
    # A dataset's name may carry its argument.
    for name in (spec.dataset, spec.dataset.split(":")[0]):
        plugins |= _plugins_with(registry, "datasets", name)
    statuses = {name: registry.status_of(name) for name in sorted(plugins)}
    return {
        name: {"version": status.version, "source_sha256": status.source_sha256} for name, status in statuses.items()
    }


def code_of_scoring(scoring: Scoring, registry: Registry) -> dict[str, str | None]:
    """The plugins of metrics and extractors, each with the hash of its source."""
    names: list[tuple[Kind, str]] = [("metrics", metric) for metric in scoring.metrics]
    names += [("features", extractor.name) for extractor in scoring.features]
    return registry.sources_of(*sorted({registry.get(kind, name).plugin for kind, name in names}))


def what_changed(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """The differences between two answers of `code_of`, in words; that of a record may lack parts."""
    before, after = then.get("plugins", {}), now["plugins"]
    for name in sorted({*before, *after}):
        if before.get(name, {}).get("source_sha256") != after.get(name, {}).get("source_sha256"):
            yield f"plugin '{printable(name)}' has changed"
    for name in INSTALLED:
        if then.get(name) != now[name]:
            yield f"{name} went from {printable(then.get(name))} to {printable(now[name])}"
    # Earlier records do not say what their plugins imported.
    imported = then.get("distributions", now["distributions"])
    for name in sorted({*imported, *now["distributions"]}):
        if imported.get(name) != now["distributions"].get(name):
            sides = (printable(side.get(name) or "none") for side in (imported, now["distributions"]))
            yield f"{printable(name)} went from {' to '.join(sides)}"


def check_unchanged(
    planned: Mapping[str, Any], of_scoring: Mapping[str, str | None], spec: RunSpec, registry: Registry
) -> None:
    """Check that this process has loaded the code that the run was planned with, answers of `code_of` and
    `code_of_scoring`.

    Raises `PluginError` if it differs: the run's id, its protocols and its record would name code that did not run.
    """
    differing = list(what_changed(planned, code_of(spec, registry)))
    now = registry.sources_of(*of_scoring)
    differing += [f"plugin '{printable(name)}' has changed" for name in of_scoring if of_scoring[name] != now[name]]
    changes = " and ".join(dict.fromkeys(differing))
    if changes:
        raise PluginError(f"{changes} since the bench began; give the command again")


def check_code_inside(registry: Registry, modules_before: Collection[str]) -> None:
    """Check that all code of plugins that was loaded since `modules_before` is in the hashes of `registry`'s plugins.

    Raises `PluginError` if there is more: an edit of it would leave the run's id as it is.
    """
    if more := registry.sources.loaded_beside(modules_before):
        raise PluginError(
            f"code outside its id: {printable(', '.join(more), 400)}; its plugin loads it by a name that is not "
            "written out: import it by a statement, or let the package around the plugin do so"
        )


TAKEN_FROM_SPEC = ("models", "seeds", "seed", "device", "threads", "batch_size", "sweep_batch")
"""Options for which the reproducing command gives the values of the spec, or none."""


def reproducing_command(plan: BenchPlan, spec: RunSpec) -> str:
    """`ganzoo bench …` for the one run of `plan` that `spec` is, quoted for a POSIX shell."""
    words = ["ganzoo", "bench"]
    if plan.resume is None:
        words += ["--models", spec.variant, "--seed", str(spec.seed), "--batch-size", str(spec.recipe.batch_size)]
    words += ["--device", spec.device, "--threads", str(spec.threads)]
    for option in options_of(BenchPlan):
        if option.name not in TAKEN_FROM_SPEC:
            value = getattr(plan, option.name)
            if option.name == "set":
                value = tuple(override for override in value if _concerns(override, spec))
            words += option.words(value)
    return shlex.join(words)


def _concerns(override: str, spec: RunSpec) -> bool:
    try:
        return bool(parse_overrides([override], [spec.variant]))
    except UsageError:
        return False
