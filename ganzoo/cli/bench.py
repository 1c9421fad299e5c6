"""`ganzoo bench`: from the command line to a plan, the runs, the table, and an exit code."""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganzoo.cli.interruption import INTERRUPTED, say_interrupted
from ganzoo.cli.options import asked_for
from ganzoo.cli.parser import BenchOutput
from ganzoo.errors import UsageError
from ganzoo.output.console import print_all, stdout
from ganzoo.planning.request import BenchPlan
from ganzoo.records.settings import setting
from ganzoo.running.options import RunOptions
from ganzoo.runs import BenchInterrupted
from ganzoo.util.options import options_of
from ganzoo.util.streams import print_note, reader_may_leave
from ganzoo.util.text import printable

if TYPE_CHECKING:
    from ganzoo.planning.plan import PlannedRun
    from ganzoo.running.bench import Bench
    from ganzoo.running.suites import SuiteBench
    from ganzoo.runs import RunRecord


def run_bench(arguments: Namespace) -> int:
    """`ganzoo bench`."""
    from ganzoo.output.progress import ProgressDisplay, say_preparing
    from ganzoo.running.bench import ignore

    plan, options = asked_for(BenchPlan, arguments), asked_for(RunOptions, arguments)
    output = asked_for(BenchOutput, arguments)
    _check_what_to_run(plan, output)
    # Wherever a plugin takes the process meanwhile, the records go there.
    results = Path(output.results).absolute()
    with redirect_stdout(sys.stderr):
        prepared = _prepare(plan, options, output, vars(arguments), ignore if output.quiet else say_preparing)
    if output.dry_run:
        return _dry_run(prepared.runs, output.json)
    display: Any = nullcontext(ignore) if output.quiet else ProgressDisplay()
    records: Sequence[RunRecord] = []
    interrupted = False
    try:
        with display as on_event:
            records = prepared.run(results, options, on_event=on_event, on_note=print_note)
    except BenchInterrupted as interrupt:
        records, interrupted = interrupt.records, True
    except KeyboardInterrupt:
        interrupted = True
    # The exit code is that of the runs, whether or not anyone reads the table to its end.
    with reader_may_leave():
        _print_records(records, prepared, output)
    if not output.json:
        _say_where(records)
    sweeps = _of_sweeps(prepared, records)
    _say_largest(sweeps)
    if interrupted:
        # With it, what was done again by now would be done once more.
        say_interrupted(without="--force" if options.force else "")
        return INTERRUPTED
    # Finding the batch that fits no more is what a sweep is for.
    too_large = {record.run_id for record in sweeps if _took_too_much(record)}
    return 0 if all(record.ok or record.run_id in too_large for record in records) else 1


def _check_what_to_run(plan: BenchPlan, output: BenchOutput) -> None:
    if not plan.models and output.suite is None and plan.resume is None:
        raise UsageError("bench: give --models, as in --models dcgan,mlp, or --suite (see `ganzoo list suites`)")
    if output.suite is not None and plan.resume is not None:
        raise UsageError("--suite and --resume: give one of them")


def _prepare(
    plan: BenchPlan, how: RunOptions, output: BenchOutput, given: Mapping[str, Any], on_progress: Callable[..., None]
) -> Bench | SuiteBench:
    """The bench, or the suite, in which options that were `given` replace its values; `how` to run it is checked."""
    from ganzoo.running.bench import prepare_bench
    from ganzoo.running.suites import prepare_suite, read_suite, with_options

    options = {option.name: getattr(plan, option.name) for option in options_of(BenchPlan) if option.name in given}
    if output.suite is not None:
        suite = with_options(read_suite(output.suite), options)
        return prepare_suite(suite, print_note, on_progress, output.log, options=how)
    return prepare_bench(
        plan,
        print_note,
        on_progress,
        options=how,
        results=Path(output.results),
        logs=output.log,
        given=options,
    )


def _print_records(records: Sequence[RunRecord], prepared: Bench | SuiteBench, output: BenchOutput) -> None:
    from ganzoo.output.comparison import comparison_tables

    if output.json:
        print(json.dumps([record.to_json() for record in records], indent=1))
    elif records:
        print_all(comparison_tables(records, width=stdout().width))


def _of_sweeps(prepared: Bench | SuiteBench, records: Sequence[RunRecord]) -> list[RunRecord]:
    """The records of sweeps over batches; of a suite some parts may be such, and others not."""
    from ganzoo.records.store import identity_of

    asked = {identity_of(run.spec.to_json(), {}, {}) for run in prepared.swept}
    return [record for record in records if asked and identity_of(record.spec, {}, {}) in asked]


def _took_too_much(record: RunRecord) -> bool:
    """Whether a run ended for want of memory; on the CPU the system kills what takes too much."""
    return record.status == "oom" or (record.error or {}).get("type") == "SIGKILL"


def _say_largest(records: Sequence[RunRecord]) -> None:
    """For each variant of a sweep, the largest batch that fits, as far as that was found out."""
    sweeps: dict[tuple[str, str, int], list[RunRecord]] = {}
    for record in records:
        place = record.spec["variant"], record.spec["dataset"], record.spec["image_shape"][1]
        sweeps.setdefault(place, []).append(record)
    several = len({place[1:] for place in sweeps}) > 1
    for (variant, dataset, size), swept in sweeps.items():
        name = f"{variant} on {printable(dataset)}, {size} px" if several else variant
        print_note(f"{name}: {_limit_of(swept)}")


def _limit_of(swept: Sequence[RunRecord]) -> str:
    """The largest batch of a sweep that ran, and what became of the next; only that one says where the limit is."""
    sizes = [setting(record.spec, "batch_size") for record in swept if record.ok]
    failed = next((record for record in swept if not record.ok), None)
    if failed is None:
        return f"every batch that was tried fits; the largest of them is {max(sizes)}"
    fits = "that fits" if _took_too_much(failed) else "that ran"
    beyond = f"{setting(failed.spec, 'batch_size')} ended as {failed.status}"
    return f"the largest batch {fits} is {max(sizes)}; {beyond}" if sizes else f"no batch ran; {beyond}"


def _dry_run(runs: Sequence[PlannedRun], as_json: bool) -> int:
    from ganzoo.output.tables import dry_run_page
    from ganzoo.planning.plan import dry_run

    entries, rate = dry_run(runs)
    if as_json:
        print(json.dumps(entries, indent=1))
    else:
        print_all(dry_run_page(entries, rate))
    return 0


def _say_where(records: Sequence[RunRecord]) -> None:
    from ganzoo.records.store import SAMPLES

    for record in records:
        if record.path and (picture := record.path.parent / SAMPLES).exists():
            print_note(f"samples of {record.spec['variant']}, seed {record.spec['seed']}: {os.path.relpath(picture)}")
