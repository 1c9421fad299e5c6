"""A bench from its plan to its records: what the command line and Python have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ganzoo.plugins import Registry, discover
from ganzoo.text import printable
from ganzoo.types import Event, RunRecord

if TYPE_CHECKING:
    from ganzoo.plan import BenchPlan, ResolvedPlan

Note = Callable[[str], None]


def ignore(*anything: object) -> None:
    """The observer of those who want none."""


@dataclass(frozen=True)
class Bench:
    """A plan in which everything is settled; nothing has run yet."""

    plan: BenchPlan
    registry: Registry
    resolved: ResolvedPlan

    def run(self, results: Path, *, force: bool, on_event: Callable[[Event], None], on_note: Note) -> list[RunRecord]:
        """Do what `results` does not hold yet; see `run_plan` for what it raises."""
        from ganzoo.runner import run_plan

        return run_plan(
            self.resolved,
            self.registry,
            results,
            plugins=self.plan.plugins,
            weights=self.plan.weights,
            weights_sha256=self.plan.weights_sha256,
            force=force,
            on_event=on_event,
            on_note=on_note,
        )


def prepare_bench(
    plan: BenchPlan, on_note: Note, on_progress: Callable[[int, int, int], None] = ignore, logs: Sequence[str] = ()
) -> Bench:
    """Discover the plugins and resolve the plan, with a note for each plugin and variant that is left out.

    `logs` observe in this process only, so that none takes part in what a run measures. `on_progress(done,
    total, size)` follows the images of a dataset that is prepared for the first time. Raises `UsageError` and its kin
    where something cannot be done; then nothing was trained.
    """
    from ganzoo.plan import resolve

    plan = replace(plan, plugins=tuple(map(_absolute, plan.plugins)))
    registry = discover_noting(plan.plugins, plan.strict, on_note, logs)
    resolved = resolve(plan, registry, on_progress)
    for note in resolved.notes:
        on_note(note)
    return Bench(plan, registry, resolved)


def discover_noting(plugins: Sequence[str], strict: bool, on_note: Note, logs: Sequence[str] = ()) -> Registry:
    """Discover, with a note for each broken plugin; raises what `discover` raises."""
    registry = discover(plugins, strict=strict, logs=logs)
    for status in registry.statuses:
        if status.state == "broken":
            on_note(f"plugin {printable(status.name)} is broken and left out: {status.error}")
    return registry


def _absolute(plugin: str) -> str:
    """A path made absolute, so that a run's process finds it; a module as it is."""
    return str(Path(plugin).resolve()) if Path(plugin).is_file() else plugin
