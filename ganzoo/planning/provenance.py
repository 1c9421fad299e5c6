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
from ganzoo.registry.discovery import ALLOW_LIST
from ganzoo.registry.registry import Registry
from ganzoo.runs import RunSpec
from ganzoo.util.options import options_of
from ganzoo.util.text import printable

INSTALLED = ("ganzoo", "torch")
"""The distributions whose versions belong to a run's id."""


def code_of(spec: RunSpec, registry: Registry) -> dict[str, Any]:
    """The code that a run uses, as in a record's `environment`: plugins, their allow-list, versions."""
    allowed = os.environ.get(ALLOW_LIST)
    return {"plugins": used_plugins(spec, registry), "plugin_allow_list": allowed, **versions()}


def used_plugins(spec: RunSpec, registry: Registry) -> dict[str, dict[str, Any]]:
    """Version and source hash of every plugin that a run uses."""
    names: list[tuple[Any, str]] = [("architectures", spec.recipe.architecture), ("losses", spec.recipe.loss)]
    names += [("losses", penalty.name) for penalty in spec.recipe.penalties]
    names += [("metrics", metric) for metric in spec.metrics]
    names += [("features", spec.features)] if spec.features else []
    plugins = {registry.get(kind, name).plugin for kind, name in names}
    # A pair such as dcgan+hinge belongs to no plugin, and a dataset's name may carry its argument.
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


def versions() -> dict[str, str]:
    """The versions of ganzoo and torch installed now, not those imported: an upgrade may come while Python runs."""
    return {name: metadata.version(name) for name in INSTALLED}


def what_changed(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """The differences between two answers of `code_of`, in words; that of a record may lack parts."""
    before, after = then.get("plugins", {}), now["plugins"]
    for name in sorted({*before, *after}):
        if before.get(name, {}).get("source_sha256") != after.get(name, {}).get("source_sha256"):
            yield f"plugin '{printable(name)}' has changed"
    for name in INSTALLED:
        if then.get(name) != now[name]:
            yield f"{name} went from {printable(then.get(name))} to {printable(now[name])}"


def check_unchanged(planned: Mapping[str, Any], spec: RunSpec, registry: Registry) -> None:
    """Check that this process has loaded the code that the run was planned with, an answer of `code_of`.

    Raises `PluginError` if it differs: the run's id and record would name code that did not run.
    """
    changes = " and ".join(what_changed(planned, code_of(spec, registry)))
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
