"""A bench from its plan to its records: what the command line and Python share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ganzoo.errors import UsageError
from ganzoo.planning.budgets import auto_limit
from ganzoo.registry.discovery import discover
from ganzoo.registry.isolation import undisturbed
from ganzoo.registry.registry import Registry
from ganzoo.running.events import OnEvent, OnNote
from ganzoo.running.options import DEFAULTS, RunOptions, check_run_options
from ganzoo.runs import RunRecord
from ganzoo.util.text import printable

if TYPE_CHECKING:
    from ganzoo.planning.plan import PlannedRun, ResolvedPlan
    from ganzoo.planning.request import BenchPlan


def ignore(*anything: object) -> None:
    """The observer of those who want none."""


@dataclass(frozen=True)
class Bench:
    """A plan with every name looked up and every default filled in; nothing has run yet."""

    plan: BenchPlan
    registry: Registry
    resolved: ResolvedPlan

    @property
    def runs(self) -> tuple[PlannedRun, ...]:
        """What the plan asks for, done or not."""
        return self.resolved.runs

    @property
    def swept(self) -> tuple[PlannedRun, ...]:
        """The runs of a sweep over batches: that one of these takes too much memory is what is asked."""
        return self.runs if self.plan.sweep_batch is not None else ()

    def start_over(self, results: Path, on_note: OnNote) -> None:
        """Lay aside what `results` holds of it; see `ganzoo.running.runner.start_over`."""
        from ganzoo.running.runner import start_over

        start_over(self.resolved, self.registry, results, on_note)

    def run(self, results: Path, options: RunOptions, *, on_event: OnEvent, on_note: OnNote) -> list[RunRecord]:
        """Do what `results` does not hold yet; see `ganzoo.running.runner.run_plan`, also for what it raises."""
        from ganzoo.running.growing import run_growing
        from ganzoo.running.in_turn import run_in_turn
        from ganzoo.running.runner import run_plan

        if options.interleave:
            return run_in_turn([(self.resolved, on_event)], self.registry, results, options, on_note=on_note)
        run = run_plan if auto_limit(self.plan.kimg) is None else run_growing
        return run(self.resolved, self.registry, results, options, on_event=on_event, on_note=on_note)


def prepare_bench(
    plan: BenchPlan,
    on_note: OnNote,
    on_progress: Callable[[int, int, int], None] = ignore,
    *,
    options: RunOptions = DEFAULTS,
    results: Path = Path("runs"),
    registry: Registry | None = None,
    logs: Sequence[str] = (),
    given: Collection[str] = (),
) -> Bench:
    """Discover the plugins and resolve the plan, with a note for each plugin and variant that is left out.

    The `options` that the runs will be carried out by are checked first, so that a dry run refuses what a run would.
    A `registry` of the plan's plugins and logs is taken as it is. `results` is where a run that the plan goes on with
    is looked for, and `given` names the fields of the plan that were given, even as their default. `logs` observe in
    this process only, so that none takes part in what a run measures.
    `on_progress(done, total, size)` follows the images of a dataset that is prepared for the first time. Raises
    `UsageError` and its kin where something cannot be done; then nothing was trained.
    """
    from ganzoo.planning.continuation import resolve_continuation
    from ganzoo.planning.plan import resolve

    check_run_options(options)
    check_interleaved(options, plan)
    check_growing(options, plan)
    plan = replace(plan, plugins=distinct_plugins(plan.plugins))
    registry = registry or discover_noting(plan.plugins, plan.strict, on_note, logs)
    with undisturbed():
        if plan.resume is None:
            resolved = resolve(plan, registry, on_progress)
        else:
            resolved = resolve_continuation(plan, registry, results, on_progress, given)
    check_several(options, len(resolved.runs))
    for note in resolved.notes:
        on_note(note)
    return Bench(plan, registry, resolved)


def check_interleaved(options: RunOptions, plan: BenchPlan) -> None:
    """Raise `UsageError` where runs that are to be measured in turn do more than measure, or are not known before."""
    if not options.interleave:
        return
    if not plan.throughput_only and plan.sweep_batch is None:
        raise UsageError("--interleave: only speeds can be measured in turn; add --throughput-only")
    for flag, value in (("--batch-size", plan.batch_size), ("--sweep-batch", plan.sweep_batch)):
        if value == "auto":
            raise UsageError(f"--interleave and {flag} auto: the batches must be known before; give numbers")


def check_growing(options: RunOptions, plan: BenchPlan) -> None:
    """Raise `UsageError` where a budget is to grow, and nothing would be kept to go on from."""
    if auto_limit(plan.kimg) is not None and not options.keep_checkpoints:
        raise UsageError("--kimg auto and --discard-checkpoints: each round goes on from a checkpoint; leave one out")


def check_several(options: RunOptions, count: int) -> None:
    """Raise `UsageError` where there are not even two runs to be measured in turn."""
    if options.interleave and count < 2:
        raise UsageError("--interleave: measures runs in turn with each other, and there is one; name more --models")


def discover_noting(plugins: Sequence[str], strict: bool, on_note: OnNote, logs: Sequence[str] = ()) -> Registry:
    """Discover, with a note for each broken plugin; raises what `discover` raises."""
    registry = discover(distinct_plugins(plugins), strict=strict, logs=logs)
    for status in registry.statuses:
        if status.state == "broken":
            on_note(f"plugin {printable(status.name)} is broken and left out: {status.error}")
    return registry


def distinct_plugins(plugins: Sequence[str]) -> tuple[str, ...]:
    """Each file once, however often and in whatever spelling it is named; a file twice would conflict with itself."""
    return tuple(dict.fromkeys(map(_absolute_path, plugins)))


def _absolute_path(plugin: str) -> str:
    """A path made absolute, so that a run's process finds it; a module as it is."""
    return str(Path(plugin).resolve()) if Path(plugin).is_file() else plugin
