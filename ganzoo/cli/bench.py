"""`ganzoo bench`: from the command line to a plan, the runs, the table, and an exit code."""

from __future__ import annotations

import json
import os
import signal
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganzoo.cli.options import listed
from ganzoo.errors import UsageError
from ganzoo.output.console import print_all, stdout
from ganzoo.util.streams import print_note, reader_may_leave
from ganzoo.util.text import printable

if TYPE_CHECKING:
    from ganzoo.planning.plan import PlannedRun
    from ganzoo.planning.request import BenchPlan
    from ganzoo.running.bench import Bench
    from ganzoo.running.suites import SuiteBench
    from ganzoo.runs import RunRecord


def run_bench(arguments: Namespace) -> int:
    """`ganzoo bench`."""
    from ganzoo.comparing.scores import score_directions
    from ganzoo.output.comparison import comparison_tables
    from ganzoo.output.progress import ProgressDisplay, say_preparing
    from ganzoo.running.bench import ignore, prepare_bench

    # Wherever a plugin takes the process meanwhile, the records go there.
    plan, results = _plan(arguments), Path(arguments.results).absolute()
    on_progress = ignore if arguments.quiet else say_preparing
    prepared: Bench | SuiteBench
    with redirect_stdout(sys.stderr):
        if arguments.suite is None:
            prepared = prepare_bench(
                plan,
                print_note,
                on_progress,
                results=Path(arguments.results),
                logs=arguments.log,
                given=arguments.given,
            )
        else:
            prepared = _prepare_suite(arguments, plan, on_progress)
    if arguments.dry_run:
        return _dry_run(prepared.runs, arguments.json)
    display: Any = nullcontext(ignore) if arguments.quiet else ProgressDisplay()
    interrupted = False
    try:
        with display as on_event, _stopped_by("SIGTERM", "SIGHUP"):
            records = prepared.run(
                results,
                timeout=arguments.timeout,
                force=arguments.force,
                retry=listed(arguments.retry),
                keep_going=arguments.keep_going,
                checkpoint_seconds=arguments.checkpoint_seconds,
                keep_checkpoints=not arguments.discard_checkpoints,
                on_event=on_event,
                on_note=print_note,
            )
    except KeyboardInterrupt as interrupt:
        records, interrupted = getattr(interrupt, "records", []), True
    # The exit code is that of the runs, whether or not anyone reads the table to its end.
    with reader_may_leave():
        if arguments.json:
            print(json.dumps([record.to_json() for record in records], indent=1))
        elif records:
            print_all(comparison_tables(records, score_directions(prepared.registry), width=stdout().width))
    if not arguments.json:
        _say_where(records)
    sweeps = _of_sweeps(prepared, records)
    _say_largest(sweeps)
    if interrupted:
        # With it, what was done again by now would be done once more.
        raise KeyboardInterrupt(*["without --force"] * arguments.force)
    # Finding the batch that fits no more is what a sweep is for.
    too_large = {record.run_id for record in sweeps if _took_too_much(record)}
    return 0 if all(record.ok or record.run_id in too_large for record in records) else 1


@contextmanager
def _stopped_by(*names: str) -> Iterator[None]:
    """Meet these signals as Ctrl-C is met, unless they are ignored, as under nohup."""
    signals = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in signals}
    met = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    for number in met:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in met.items():
            signal.signal(number, handler)


def _of_sweeps(prepared: Bench | SuiteBench, records: Sequence[RunRecord]) -> list[RunRecord]:
    """The records of sweeps over batches; of a suite some parts may be such, and others not."""
    from ganzoo.records.store import identity_of

    asked = {identity_of(run.spec.to_json(), {}, {}) for run in prepared.swept}
    return [record for record in records if asked and identity_of(record.spec, {}, {}) in asked]


def _took_too_much(record: RunRecord) -> bool:
    """Whether a run ended for want of memory; on the CPU the system kills what takes too much."""
    return record.status == "oom" or (record.error or {}).get("type") == "SIGKILL"


def _say_largest(records: Sequence[RunRecord]) -> None:
    """For each variant of a sweep, the largest batch that ran, and what became of the next."""
    sweeps: dict[tuple[str, str, int], list[RunRecord]] = {}
    for record in records:
        place = record.spec["variant"], record.spec["dataset"], record.spec["image_shape"][1]
        sweeps.setdefault(place, []).append(record)
    several = len({place[1:] for place in sweeps}) > 1
    for (variant, dataset, size), own in sweeps.items():
        name = f"{variant} on {printable(dataset)}, {size} px" if several else variant
        sizes = [record.spec["batch_size"] for record in own if record.ok]
        failed = next((record for record in own if not record.ok), None)
        beyond = f"; {failed.spec['batch_size']} ended as {failed.status}" if failed else ""
        print_note(f"{name}: the largest batch that fits is {max(sizes, default='none of them')}{beyond}")


def _prepare_suite(arguments: Namespace, plan: BenchPlan, on_progress: Callable[..., None]) -> SuiteBench:
    """The suite, with what was really given on the command line in place of its own."""
    from dataclasses import fields

    from ganzoo.running.suites import prepare_suite, read_suite, with_options

    given = {"plugins" if name == "plugin" else name for name in arguments.given}
    options = {field.name: getattr(plan, field.name) for field in fields(plan) if field.name in given}
    suite = with_options(read_suite(arguments.suite), options)
    return prepare_suite(suite, print_note, on_progress, arguments.log)


def _plan(arguments: Namespace) -> BenchPlan:
    from ganzoo.planning.request import BenchPlan

    if not arguments.models and arguments.suite is None and arguments.resume is None:
        raise UsageError("bench: give --models, as in --models dcgan,mlp, or --suite (see `ganzoo list suites`)")
    if arguments.suite is not None and arguments.resume is not None:
        raise UsageError("--suite and --resume: give one of them")
    kimg: float | str | None = arguments.kimg
    if kimg is not None and kimg != "full":
        try:
            kimg = float(kimg)
        except ValueError:
            raise UsageError(f"--kimg {printable(kimg)}: give thousands of images, or 'full'") from None
    batch_size = arguments.batch_size
    if batch_size is not None and batch_size != "auto":
        try:
            batch_size = int(batch_size)
        except ValueError:
            raise UsageError(f"--batch-size {printable(batch_size)}: give a number of images, or auto") from None
    return BenchPlan(
        models=tuple(arguments.models),
        kimg=kimg,
        batch_size=batch_size,
        metrics=listed(arguments.metrics),
        set=tuple(arguments.set),
        plugins=tuple(arguments.plugin),
        **{
            name: getattr(arguments, name)
            for name in (
                "dataset",
                "image_size",
                "seeds",
                "seed",
                "device",
                "precision",
                "threads",
                "features",
                "weights",
                "weights_sha256",
                "fakes",
                "eval_every",
                "loss",
                "strict",
                "data_root",
                "skip_bad_images",
                "throughput_only",
                "throughput_seconds",
                "step_mode",
                "sweep_batch",
                "deterministic",
                "resume",
            )
        },
    )


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
