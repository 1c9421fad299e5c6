"""What each command does: ask the library, print data on stdout and everything else on stderr, return the exit code."""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext, redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganzoo.errors import RecordError, UsageError
from ganzoo.plugins import KINDS, Kind, Registry, discover
from ganzoo.streams import print_note, reader_may_leave
from ganzoo.terminal import stdout
from ganzoo.text import printable

if TYPE_CHECKING:
    from ganzoo.plan import BenchPlan, ResolvedPlan
    from ganzoo.types import RunRecord


def run_bench(arguments: Namespace) -> int:
    """`ganzoo bench`."""
    from ganzoo.compare import comparison, shown_protocols
    from ganzoo.harness import ignore, prepare_bench
    from ganzoo.progress import ProgressDisplay, say_preparing
    from ganzoo.tables import comparison_table

    plan = _plan(arguments)
    with redirect_stdout(sys.stderr):
        prepared = prepare_bench(plan, print_note, ignore if arguments.quiet else say_preparing)
    if arguments.dry_run:
        return _dry_run(prepared.resolved, arguments.json)
    display: Any = nullcontext(ignore) if arguments.quiet else ProgressDisplay()
    interrupted = False
    try:
        with display as on_event:
            records = prepared.run(
                Path(arguments.results), force=arguments.force, on_event=on_event, on_note=print_note
            )
    except KeyboardInterrupt as interrupt:
        records, interrupted = getattr(interrupt, "records", []), True
    # The exit code is that of the runs, whether or not anyone reads the table to its end.
    with reader_may_leave():
        if arguments.json:
            print(json.dumps([record.to_json() for record in records], indent=1))
        elif records:
            stdout().print(comparison_table(comparison(records), shown_protocols(records)))
    if not arguments.json:
        _say_where(records)
    if plan.sweep_batch is not None:
        _say_largest(records)
    if interrupted:
        raise KeyboardInterrupt
    # Finding the batch that fits no more is what a sweep is for.
    sweeping = plan.sweep_batch is not None
    return 0 if all(record.ok or (sweeping and _took_too_much(record)) for record in records) else 1


def _took_too_much(record: RunRecord) -> bool:
    """Whether a run ended for want of memory; on the CPU the system kills what takes too much."""
    return record.status == "oom" or (record.error or {}).get("type") == "SIGKILL"


def _say_largest(records: Sequence[RunRecord]) -> None:
    """For each variant of a sweep, the largest batch that ran, and what became of the next."""
    for variant in dict.fromkeys(record.spec["variant"] for record in records):
        own = [record for record in records if record.spec["variant"] == variant]
        sizes = [record.spec["batch_size"] for record in own if record.ok]
        failed = next((record for record in own if not record.ok), None)
        beyond = f"; {failed.spec['batch_size']} ended as {failed.status}" if failed else ""
        print_note(f"{variant}: the largest batch that fits is {max(sizes, default='none of them')}{beyond}")


def _plan(arguments: Namespace) -> BenchPlan:
    from ganzoo.plan import BenchPlan

    kimg: float | str | None = arguments.kimg
    if kimg is not None and kimg != "full":
        try:
            kimg = float(kimg)
        except ValueError:
            raise UsageError(f"--kimg {printable(kimg)}: give thousands of images, or 'full'") from None
    return BenchPlan(
        models=tuple(arguments.models),
        kimg=kimg,
        metrics=_listed(arguments.metrics),
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
                "batch_size",
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
            )
        },
    )


def _listed(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _dry_run(resolved: ResolvedPlan, as_json: bool) -> int:
    from ganzoo.estimate import dry_run
    from ganzoo.tables import dry_run_page

    entries, rate = dry_run(resolved)
    if as_json:
        print(json.dumps(entries, indent=1))
    else:
        _print_all(dry_run_page(entries, rate))
    return 0


def _say_where(records: Sequence[RunRecord]) -> None:
    from ganzoo.records import SAMPLES

    for record in records:
        if record.path and (picture := record.path.parent / SAMPLES).exists():
            print_note(f"samples of {record.spec['variant']}, seed {record.spec['seed']}: {os.path.relpath(picture)}")


def list_offers(arguments: Namespace) -> int:
    """`ganzoo list`."""
    from ganzoo.describe import describe_offer
    from ganzoo.tables import offers_table

    registry = _discover(arguments)
    kinds: tuple[Kind, ...] = (arguments.kind,) if arguments.kind else KINDS
    offers = {kind: [offer for offer in registry.offers[kind] if not offer.inline] for kind in kinds}
    if arguments.json:
        described = [
            describe_offer(offer, None if arguments.kind else kind) for kind in kinds for offer in offers[kind]
        ]
        print(json.dumps(described, indent=1))
    else:
        _print_all(offers_table(kind, offers[kind], titled=not arguments.kind) for kind in kinds)
    return 0


def show_name(arguments: Namespace) -> int:
    """`ganzoo show NAME`."""
    from ganzoo.describe import describe_offer, describe_variant, find_by_name
    from ganzoo.tables import description_lines

    registry = _discover(arguments)
    descriptions = []
    for kind, offer in find_by_name(registry, arguments.name):
        description = describe_offer(offer, kind)
        if kind == "variants":
            with redirect_stdout(sys.stderr):
                description |= describe_variant(registry, arguments.name, offer)
        descriptions.append(description)
    if arguments.json:
        print(json.dumps(descriptions, indent=1))
    else:
        _print_all((line for description in descriptions for line in description_lines(description)), soft_wrap=True)
    return 0


def compare_records(arguments: Namespace) -> int:
    """`ganzoo compare DIR…`."""
    from ganzoo.compare import comparison, shown_protocols
    from ganzoo.records import find_records
    from ganzoo.tables import comparison_table

    registry = _discover(arguments)
    reporter = None if arguments.format == "table" else registry.get("reporters", arguments.format).record
    records, complaints = find_records([Path(folder) for folder in arguments.folders])
    for complaint in complaints:
        print_note(f"left out: {complaint}")
    if not records:
        where = ", ".join(printable(folder) for folder in arguments.folders)
        raise RecordError(f"{where}: holds no record; run `ganzoo bench` first, or name another folder")
    summary = comparison(records)
    if reporter is None:
        stdout().print(comparison_table(summary, shown_protocols(records)))
    else:
        with redirect_stdout(sys.stderr):
            rendered = str(reporter.render(summary))
        print(rendered.rstrip("\n"))
    return 0


def sample_run(arguments: Namespace) -> int:
    """`ganzoo sample RUN`."""
    from ganzoo.generators import draw_images
    from ganzoo.images import grid, save_png

    output = Path(arguments.output)
    if output.exists() and not arguments.force:
        raise UsageError(f"-o {printable(output)}: exists; choose another file or pass --force")
    if not output.parent.is_dir():
        raise UsageError(f"-o {printable(output)}: the folder {printable(output.parent)} does not exist")
    registry = _discover(arguments)
    with redirect_stdout(sys.stderr):
        images = draw_images(arguments.run, registry, arguments.n, label=arguments.label, seed=arguments.seed)
    save_png(grid(images), output, scale=max(1, 64 // images.shape[2]))
    print_note(f"wrote {len(images)} images to {printable(output)}")
    return 0


def score_images(arguments: Namespace) -> int:
    """`ganzoo score DIR --dataset NAME`."""
    from ganzoo.scoring import score_folder
    from ganzoo.tables import scores_table

    registry = _discover(arguments)
    with redirect_stdout(sys.stderr):
        scores, protocols, notes = score_folder(
            registry,
            Path(arguments.folder),
            dataset=arguments.dataset,
            metrics=_listed(arguments.metrics),
            **{
                name: getattr(arguments, name)
                for name in (
                    "image_size",
                    "data_root",
                    "skip_bad_images",
                    "features",
                    "weights",
                    "weights_sha256",
                    "device",
                    "threads",
                )
            },
        )
    for note in notes:
        print_note(note)
    if arguments.json:
        print(json.dumps({"scores": scores, "protocols": protocols}, indent=1))
    else:
        stdout().print(scores_table(scores))
    return 0


def check_conformance(arguments: Namespace) -> int:
    """`ganzoo check NAME|path.py`."""
    from ganzoo.hardware import apply_settings, resolve_device
    from ganzoo.tables import checks_table
    from ganzoo.testing import subjects_of

    # The networks are small: a second thread gains nothing, and beside another process it costs.
    apply_settings(threads=1, precision="fp32")
    subjects = subjects_of(arguments.target, arguments.plugin, resolve_device(arguments.device))
    results = []
    for subject in subjects:
        own = [subject.result(name) for name in subject.checks]
        results += own
        if not arguments.json:
            stdout().print(checks_table(own))
    if arguments.json:
        print(json.dumps([asdict(result) for result in results], indent=1))
    return 1 if any(result.status == "failed" for result in results) else 0


def write_new(arguments: Namespace) -> int:
    """`ganzoo new NAME`."""
    from ganzoo.scaffold import new_plugin

    registry = _discover(arguments)
    files = new_plugin(arguments.name, Path(), registry, single_file=arguments.single_file)
    for file in files:
        print(printable(file))
    name = arguments.name
    if arguments.single_file:
        print_note(f"next: ganzoo check {files[0]}, then ganzoo bench --models {name} --plugin {files[0]}")
    else:
        print_note(f"next: pip install -e './{name}[test]', then ganzoo check {name}, and pytest in ./{name}")
    return 0


def list_plugins(arguments: Namespace) -> int:
    """`ganzoo plugins`."""
    from ganzoo.tables import plugins_page

    registry = discover(arguments.plugin, strict=arguments.strict)
    if arguments.json:
        print(json.dumps([asdict(status) for status in registry.statuses], indent=1))
    else:
        _print_all(plugins_page(registry))
    return 0


def show_environment(arguments: Namespace) -> int:
    """`ganzoo env`."""
    from ganzoo.describe import describe_machine
    from ganzoo.hardware import resolve_device, resolve_threads
    from ganzoo.tables import facts_tables

    statuses = discover(arguments.plugin, strict=arguments.strict).statuses
    facts = describe_machine(resolve_device(arguments.device), resolve_threads(arguments.threads), statuses)
    if arguments.json:
        print(json.dumps(facts, indent=1))
    else:
        _print_all(facts_tables(facts))
    return 0


def _discover(arguments: Namespace) -> Registry:
    from ganzoo.harness import discover_noting

    return discover_noting(arguments.plugin, arguments.strict, print_note)


def _print_all(parts: Iterable[object], soft_wrap: bool = False) -> None:
    console = stdout()
    for part in parts:
        console.print(part, soft_wrap=soft_wrap)


COMMANDS: dict[str, Callable[[Namespace], int]] = {
    "bench": run_bench,
    "list": list_offers,
    "show": show_name,
    "compare": compare_records,
    "sample": sample_run,
    "score": score_images,
    "check": check_conformance,
    "new": write_new,
    "plugins": list_plugins,
    "env": show_environment,
}
"""What the command line calls for each command."""
