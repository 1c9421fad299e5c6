"""Suites: benches that belong together, written down as a TOML file and run one after another."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from ganzoo.errors import DataUnavailable, PluginError, UnknownName, UsageError, WeightsUnavailable
from ganzoo.planning.plan import PlannedRun
from ganzoo.planning.request import BenchPlan, SuitePlan
from ganzoo.registry.registry import Registry
from ganzoo.registry.validation import check_record
from ganzoo.running.bench import (
    Bench,
    check_interleaved,
    check_several,
    discover_noting,
    ignore,
    prepare_bench,
)
from ganzoo.running.events import OnEvent, OnNote
from ganzoo.running.in_turn import run_in_turn
from ganzoo.running.options import DEFAULTS, RunOptions, check_run_options
from ganzoo.runs import BenchInterrupted, Event, RunFinished, RunRecord, RunStarted
from ganzoo.util.files import read_regular
from ganzoo.util.options import options_of
from ganzoo.util.text import did_you_mean, printable

FOLDER = Path(__file__).parent / "suite_plans"

LARGEST_SUITE = 1 << 20
"""Bytes of a suite's file; a larger one is refused before it is read."""

FIELDS = tuple(option.name for option in options_of(BenchPlan) if option.name != "resume")
LISTS = tuple(option.name for option in options_of(BenchPlan) if isinstance(option.default, tuple))
ADDED = ("plugins",)
"""What the command line adds to the values of a suite; any other option replaces the suite's, but for `set`, which
wins over the suite's field by field."""


@dataclass(frozen=True)
class SuitePart:
    """One `[[bench]]` of a suite; an `optional` one is left out with a note where its data or weights are not there."""

    plan: BenchPlan
    optional: bool = False


@dataclass(frozen=True)
class Suite:
    """What a suite's file holds."""

    name: str
    summary: str
    parts: tuple[SuitePart, ...]


@dataclass(frozen=True)
class SuiteBench:
    """A suite of which every part is a `Bench`; nothing has run yet. It runs as one `Bench` does."""

    benches: tuple[Bench, ...]

    @property
    def registry(self) -> Registry:
        """The plugins that all parts share."""
        return self.benches[0].registry

    @property
    def runs(self) -> tuple[PlannedRun, ...]:
        """The runs of all parts, in order."""
        return tuple(run for bench in self.benches for run in bench.runs)

    @property
    def swept(self) -> tuple[PlannedRun, ...]:
        """The runs of those parts that are sweeps over batches."""
        return tuple(run for bench in self.benches for run in bench.swept)

    def run(self, results: Path, options: RunOptions, *, on_event: OnEvent, on_note: OnNote) -> list[RunRecord]:
        """Do what `results` does not hold yet, part by part, as `Bench.run` does.

        Events count the runs of the whole suite. `BenchInterrupted` has the records of all parts. With
        `options.interleave` the runs of all parts are measured in turn with each other.
        """
        if options.interleave:
            places = [sum(len(bench.runs) for bench in self.benches[:index]) for index in range(len(self.benches))]
            parts = [
                (bench.resolved, self._counted_from(before, on_event))
                for bench, before in zip(self.benches, places, strict=True)
            ]
            return run_in_turn(parts, self.registry, results, options, on_note=on_note)
        if options.force:
            # Of all parts at once: without it the suite then goes on with what is left.
            for bench in self.benches:
                bench.start_over(results, on_note)
            options = replace(options, force=False)
        records: list[RunRecord] = []
        before = 0
        for bench in self.benches:
            try:
                records += bench.run(results, options, on_event=self._counted_from(before, on_event), on_note=on_note)
            except BenchInterrupted as interrupt:
                raise BenchInterrupted([*records, *interrupt.records]) from interrupt
            before += len(bench.runs)
            if not options.keep_going and not all(record.ok for record in records):
                break
        return records

    def _counted_from(self, before: int, on_event: OnEvent) -> OnEvent:
        """Events of a part, with the runs counted that come before it in the suite."""
        total = len(self.runs)

        def tell(event: Event) -> None:
            if isinstance(event, (RunStarted, RunFinished)):
                event = replace(event, index=before + event.index, total=total)
            on_event(event)

        return tell


def suite_names() -> list[str]:
    """The suites that come with ganzoo."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def read_suite(name: str) -> Suite:
    """A suite by its name, or from the TOML file at that path.

    A file has a `summary` and any number of `[[bench]]` tables, whose keys are the fields of `BenchPlan` and
    `optional`. Paths of plugins and weights are taken from the file's folder where they are there. Raises `UnknownName`
    and `UsageError`, naming the table.
    """
    path = FOLDER / f"{name}.toml" if name in suite_names() else Path(name)
    where = f"--suite {printable(name)}"
    if path.suffix != ".toml":
        raise UnknownName(f"{where}: no suite is called that{did_you_mean(name, suite_names())}; or give a .toml file")
    try:
        content = tomllib.loads(read_regular(path, LARGEST_SUITE, links=True).decode())
    except OSError as error:
        raise UsageError(f"{where}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{where}: is not TOML: {printable(error)}") from error
    _refuse_unknown(where, content, ("summary", "bench"))
    tables, summary = content.get("bench"), content.get("summary", "")
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise UsageError(f"{where}: has no [[bench]] table")
    if not isinstance(summary, str):
        raise UsageError(f"{where}: summary must be a text")
    parts = tuple(_suite_part(f"{where}, bench {index}", table, path.parent) for index, table in enumerate(tables, 1))
    return Suite(path.stem, summary, parts)


def with_options(suite: Suite, options: Mapping[str, Any]) -> Suite:
    """The suite with these fields of `BenchPlan` replaced in every part; `ADDED` ones come after the suite's."""

    def changed(plan: BenchPlan) -> BenchPlan:
        added = {name: (*getattr(plan, name), *options[name]) for name in ADDED if name in options}
        if "set" not in options:
            return replace(plan, **{**options, **added})
        own = {field.name: getattr(plan, field.name) for field in fields(BenchPlan)}
        return SuitePlan(**{**own, **options, **added}, set_by_suite=(*plan.set_by_suite, *plan.set))

    return replace(suite, parts=tuple(replace(part, plan=changed(part.plan)) for part in suite.parts))


def prepare_suite(
    suite: Suite,
    on_note: OnNote,
    on_progress: Callable[[int, int, int], None] = ignore,
    logs: Sequence[str] = (),
    *,
    options: RunOptions = DEFAULTS,
) -> SuiteBench:
    """Resolve every part before any runs, under all the plugins that any part names; `options` are checked first.

    Raises what `prepare_bench` does; an optional part without its data or weights is left out with a note.
    """
    check_run_options(options)
    for part in suite.parts:
        check_interleaved(options, part.plan)
    plugins = tuple(dict.fromkeys(plugin for part in suite.parts for plugin in part.plan.plugins))
    registry = discover_noting(plugins, any(part.plan.strict for part in suite.parts), on_note, logs)
    benches: list[Bench] = []
    for part in suite.parts:
        plan = replace(part.plan, plugins=plugins)
        try:
            benches.append(prepare_bench(plan, on_note, on_progress, registry=registry))
        except (DataUnavailable, WeightsUnavailable) as error:
            if not part.optional:
                raise
            on_note(f"suite {printable(suite.name)}: left out {printable(plan.dataset)}: {error}")
    if not benches:
        raise DataUnavailable(f"suite {printable(suite.name)}: no part of it has its data here")
    prepared = SuiteBench(tuple(benches))
    check_several(options, len(prepared.runs))
    return prepared


def _suite_part(where: str, table: Mapping[str, Any], folder: Path) -> SuitePart:
    _refuse_unknown(where, table, (*FIELDS, "optional"))
    values = dict(table)
    optional = values.pop("optional", False)
    if isinstance(values.get("features"), str):
        # Suites from before a run had several extractors name the one.
        values["features"] = [values["features"]]
    if "models" not in values:
        raise UsageError(f'{where}: names no models; write models = ["dcgan"]')
    for name in LISTS:
        if name in values and not isinstance(values[name], list):
            raise UsageError(f'{where}: {name} must be a list, as in {name} = ["…"]')
        values[name] = tuple(values.get(name, getattr(BenchPlan, name, ())))
    part = SuitePart(BenchPlan(**values), optional)
    try:
        check_record(part)
    except PluginError as error:
        raise UsageError(f"{where}: {str(error).removeprefix('plan.')}") from error
    plan = part.plan
    weights = plan.weights and _beside(folder, plan.weights)
    return replace(part, plan=replace(plan, plugins=_all_beside(folder, plan.plugins), weights=weights))


def _refuse_unknown(where: str, table: Mapping[str, Any], known: Sequence[str]) -> None:
    for name in table:
        if name not in known:
            raise UnknownName(f"{where}: no key is called '{printable(name)}'{did_you_mean(name, known)}")


def _all_beside(folder: Path, paths: Sequence[str]) -> tuple[str, ...]:
    return tuple(_beside(folder, path) for path in paths)


def _beside(folder: Path, path: str) -> str:
    """A path as seen from the suite's folder where it leads to something there, else as it is: it may be a module."""
    return str(folder / path) if (folder / path).exists() else path
