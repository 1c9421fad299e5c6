"""What each command does: ask the library, print data on stdout and everything else on stderr, return the exit code."""

from __future__ import annotations

import json
import os
import signal
import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganzoo.errors import RecordError, UsageError
from ganzoo.plugins import KINDS, Kind, Registry, discover
from ganzoo.streams import print_note, reader_may_leave
from ganzoo.terminal import paper, stdout
from ganzoo.text import printable

if TYPE_CHECKING:
    from rich.console import Console
    from torch import Tensor

    from ganzoo.harness import Bench
    from ganzoo.plan import BenchPlan, PlannedRun
    from ganzoo.suites import SuiteBench
    from ganzoo.types import Reporter, RunRecord


def run_bench(arguments: Namespace) -> int:
    """`ganzoo bench`."""
    from ganzoo.compare import score_directions
    from ganzoo.comparison_tables import comparison_tables
    from ganzoo.harness import ignore, prepare_bench
    from ganzoo.progress import ProgressDisplay, say_preparing

    plan, results = _plan(arguments), Path(arguments.results)
    on_progress = ignore if arguments.quiet else say_preparing
    prepared: Bench | SuiteBench
    with redirect_stdout(sys.stderr):
        if arguments.suite is None:
            prepared = prepare_bench(plan, print_note, on_progress, results=results, logs=arguments.log)
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
                retry=_listed(arguments.retry),
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
            _print_all(comparison_tables(records, score_directions(prepared.registry)))
    if not arguments.json:
        _say_where(records)
    if plan.sweep_batch is not None:
        _say_largest(records)
    if interrupted:
        raise KeyboardInterrupt
    # Finding the batch that fits no more is what a sweep is for.
    sweeping = plan.sweep_batch is not None
    return 0 if all(record.ok or (sweeping and _took_too_much(record)) for record in records) else 1


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


def _prepare_suite(arguments: Namespace, plan: BenchPlan, on_progress: Callable[..., None]) -> SuiteBench:
    """The suite, with what was really given on the command line in place of its own."""
    from dataclasses import fields

    from ganzoo.suites import prepare_suite, read_suite, with_options

    given = {"plugins" if name == "plugin" else name for name in arguments.given}
    options = {field.name: getattr(plan, field.name) for field in fields(plan) if field.name in given}
    suite = with_options(read_suite(arguments.suite), options)
    return prepare_suite(suite, print_note, on_progress, arguments.log)


def _plan(arguments: Namespace) -> BenchPlan:
    from ganzoo.plan import BenchPlan

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


def _listed(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _dry_run(runs: Sequence[PlannedRun], as_json: bool) -> int:
    from ganzoo.estimate import dry_run
    from ganzoo.tables import dry_run_page

    entries, rate = dry_run(runs)
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

    if arguments.kind == "suites":
        return _list_suites(arguments.json)
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


def _list_suites(as_json: bool) -> int:
    from ganzoo.suites import FOLDER, read_suite, suite_names
    from ganzoo.tables import simple_table

    suites = [
        {"name": suite.name, "summary": suite.summary, "path": str(FOLDER / f"{suite.name}.toml")}
        for suite in map(read_suite, suite_names())
    ]
    if as_json:
        print(json.dumps(suites, indent=1))
    else:
        _print_all([simple_table(("name", "summary", "file"), [tuple(suite.values()) for suite in suites])])
    return 0


def show_name(arguments: Namespace) -> int:
    """`ganzoo show NAME`, or of a run where nothing that plugins offer is called that."""
    from ganzoo.describe import describe_offer, describe_variant, find_by_name
    from ganzoo.generators import find_run, runs_called
    from ganzoo.tables import description_lines

    registry = _discover(arguments)
    descriptions = []
    try:
        found = find_by_name(registry, arguments.name)
    except UsageError:
        if not Path(arguments.name).exists() and not runs_called(arguments.name):
            raise
        return _show_run(find_run(arguments.name), arguments.json)
    for kind, offer in found:
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


def _show_run(record: RunRecord, as_json: bool) -> int:
    from ganzoo.tables import run_page

    if as_json:
        print(json.dumps(record.to_json(), indent=1))
    else:
        _print_all(run_page(record), soft_wrap=True)
    return 0


def compare_records(arguments: Namespace) -> int:
    """`ganzoo compare DIR…`."""
    from ganzoo.compare import score_directions
    from ganzoo.filters import keep, parse_condition
    from ganzoo.regressions import changes, parse_tolerance

    _check_output(arguments)
    if bool(arguments.against) != bool(arguments.fail_on):
        raise UsageError("--against and --fail-on: give both, as in --against results --fail-on fid:5%")
    if arguments.target_fid is not None and not arguments.target_fid > 0:
        raise UsageError(f"--target-fid {arguments.target_fid:g}: give a number above 0")
    registry = _discover(arguments)
    better = score_directions(registry)
    reporter = None if arguments.format == "table" else registry.get("reporters", arguments.format).record
    conditions = [parse_condition(text) for text in arguments.where]
    tolerances = [parse_tolerance(text, better) for text in arguments.fail_on]
    records = keep(_load_records(arguments.folders), conditions)
    earlier = keep(_load_records(arguments.against), conditions) if arguments.against else []
    text = _comparison_text(records, arguments, better, reporter)
    found, notes = changes(earlier, records, tolerances) if tolerances else ([], [])
    _write_output(text, arguments)
    _note_some("not compared", notes)
    for change in found:
        print_note(f"{'regression: ' if change.too_much else ''}{change}")
    return 3 if any(change.too_much for change in found) else 0


def _comparison_text(
    records: Sequence[RunRecord], arguments: Namespace, better: Mapping[str, Any], reporter: Reporter | None
) -> str:
    """What `compare` gives: tables for people, or a reporter's text."""
    from ganzoo.baseline import with_baseline
    from ganzoo.compare import comparison
    from ganzoo.comparison_tables import comparison_tables, hardware_table
    from ganzoo.filters import sort_rows
    from ganzoo.matched import by_hardware

    sorting, baseline, target = arguments.sort, arguments.baseline, arguments.target_fid
    if arguments.by == "hardware":
        summary, _, notes = by_hardware(records, baseline, better, target)
        _note_some("not matched", notes)
    elif reporter is None:
        tables = comparison_tables(records, better, target_fid=target, baseline=baseline, sort=sorting)
        return _as_text(tables, stdout() if arguments.output is None else paper())
    else:
        summary = comparison(records, better, target)
        summary = summary if baseline is None else with_baseline(summary, records, baseline)
    summary = sort_rows(summary, sorting) if sorting else summary
    if reporter is None:
        return _as_text([hardware_table(summary)], stdout() if arguments.output is None else paper())
    with redirect_stdout(sys.stderr):
        return str(reporter.render(summary)).rstrip("\n")


def diff_runs(arguments: Namespace) -> int:
    """`ganzoo diff A B`."""
    from ganzoo.comparison_tables import diff_tables
    from ganzoo.environment_diff import diff_records
    from ganzoo.generators import find_run

    first, second = find_run(arguments.first), find_run(arguments.second)
    diff = diff_records(first, second)
    if arguments.json:
        print(json.dumps(diff.to_json(), indent=1))
    else:
        _print_all(diff_tables(diff, ("A", "B")))
    return 0


def make_leaderboard(arguments: Namespace) -> int:
    """`ganzoo leaderboard DIR`."""
    from ganzoo.compare import score_directions
    from ganzoo.leaderboard import PAGE, updated_page, write_page

    registry = _discover(arguments)
    folder = Path(arguments.folder)
    page = updated_page(folder, _load_records([arguments.folder]), score_directions(registry))
    path = folder / PAGE
    stale = not path.exists() or path.read_text(encoding="utf-8") != page
    if arguments.check and stale:
        print_note(f"{printable(path)}: is not what its records give; run `ganzoo leaderboard {printable(folder)}`")
        return 1
    if stale:
        write_page(folder, page)
    print_note(f"{'wrote' if stale else 'up to date:'} {printable(path)}")
    return 0


def _load_records(folders: Sequence[str]) -> list[RunRecord]:
    """The records below the folders, with a note for each that is left out; at least one."""
    from ganzoo.records import find_records

    records, complaints = find_records([Path(folder) for folder in folders])
    for complaint in complaints:
        print_note(f"left out: {complaint}")
    if not records:
        where = ", ".join(printable(folder) for folder in folders)
        raise RecordError(f"{where}: holds no record; run `ganzoo bench` first, or name another folder")
    return records


def _note_some(what: str, notes: Sequence[str], most: int = 30) -> None:
    for note in notes[:most]:
        print_note(f"{what}: {note}")
    if len(notes) > most:
        print_note(f"{what}: {len(notes) - most} more")


def _check_output(arguments: Namespace) -> None:
    """Refuse to overwrite `-o FILE`, before any work."""
    if arguments.output is None:
        return
    output = Path(arguments.output)
    if output.exists() and not arguments.force:
        raise UsageError(f"-o {printable(output)}: exists; choose another file or pass --force")
    if not output.parent.is_dir():
        raise UsageError(f"-o {printable(output)}: the folder {printable(output.parent)} does not exist")


def _write_output(text: str, arguments: Namespace) -> None:
    """Text to `-o FILE`, whole or not at all, or to stdout."""
    from ganzoo.files import write_atomically

    if arguments.output is None:
        print(text)
        return
    output = Path(arguments.output)
    try:
        write_atomically(output, lambda stream: stream.write(f"{text}\n".encode()))
    except OSError as error:
        raise RecordError(f"-o {printable(output)}: {error.strerror}; choose another place") from error
    print_note(f"wrote {printable(output)}")


def _as_text(parts: Iterable[object], console: Console) -> str:
    with console.capture() as captured:
        for part in parts:
            console.print(part)
    return captured.get().rstrip("\n")


def make_report(arguments: Namespace) -> int:
    """`ganzoo report DIR… -o report.html`."""
    from ganzoo.records import find_records
    from ganzoo.report import write_report

    _discover(arguments)
    records, complaints = find_records([Path(folder) for folder in arguments.folders])
    for complaint in complaints:
        print_note(f"left out: {complaint}")
    output = Path(arguments.output)
    size = write_report(
        records, complaints, arguments.folders, output, neighbours=arguments.neighbours, force=arguments.force
    )
    what = f"{len(records)} record{'s'[: len(records) != 1]}" if records else "no record, and a page that says so"
    print_note(f"wrote {printable(output)}, {size / 1e6:.1f} MB: {what}")
    return 0


def sample_run(arguments: Namespace) -> int:
    """`ganzoo sample RUN`."""
    from ganzoo.generators import image_batches

    output = Path(arguments.output)
    to_folder = arguments.output.endswith(("/", os.sep)) or output.is_dir()
    if to_folder and output.is_dir() and any(output.iterdir()) and not arguments.force:
        raise UsageError(f"-o {printable(output)}: is not empty; choose another folder or pass --force")
    if not to_folder:
        _check_output(arguments)
    elif not output.parent.is_dir():
        raise UsageError(f"-o {printable(output)}: the folder {printable(output.parent)} does not exist")
    registry = _discover(arguments)
    with redirect_stdout(sys.stderr):
        batches = image_batches(
            arguments.run,
            registry,
            arguments.n,
            label=arguments.label,
            seed=arguments.seed,
            interpolate=arguments.interpolate,
        )
        try:
            count = (_write_pngs if to_folder else _write_grid)(batches, output, arguments.n)
        except OSError as error:
            reason = printable(error.strerror or error)
            raise UsageError(f"-o {printable(output)}: cannot be written: {reason}; choose another place") from error
    print_note(f"wrote {count} images to {printable(output)}")
    return 0


def _write_grid(batches: Iterable[Tensor], output: Path, asked: int) -> int:
    import torch

    from ganzoo.images import grid, save_png

    images = torch.cat(list(batches))
    save_png(grid(images), output, scale=max(1, 64 // images.shape[2]))
    return len(images)


def _write_pngs(batches: Iterable[Tensor], folder: Path, asked: int) -> int:
    """Into a folder that is empty or may be overwritten; the numbered images of an earlier draw would mix in."""
    from ganzoo.images import save_numbered_pngs
    from ganzoo.progress import say_drawn

    folder.mkdir(exist_ok=True)
    for earlier in folder.glob("*.png"):
        if earlier.stem.isdecimal():
            earlier.unlink()
    return save_numbered_pngs(say_drawn(batches, asked), folder, digits=max(5, len(str(asked))))


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


def examine_results(arguments: Namespace) -> int:
    """`ganzoo doctor DIR`."""
    from ganzoo.doctor import examine, quarantine

    examination = examine(Path(arguments.folder))
    moved = quarantine(examination) if arguments.fix else []
    if arguments.json:
        findings = [{"path": str(one.path), "what": one.what} for one in examination.findings]
        counts = {"records": examination.records, "checkpoints": examination.checkpoints}
        places = [{"from": str(origin), "to": str(target)} for origin, target in moved]
        print(json.dumps({**counts, "findings": findings, "moved": places}, indent=1))
    else:
        for one in examination.findings:
            print(f"{printable(one.path)}: {printable(one.what)}")
        found = f"{len(examination.findings)} fault(s)" if examination.findings else "all is well"
        print(f"{examination.records} record(s), {examination.checkpoints} checkpoint(s): {found}")
    for origin, target in moved:
        print_note(f"moved {printable(origin)} to {printable(target)}")
    if not arguments.fix and any(one.fix for one in examination.findings):
        print_note("--fix moves what is broken to quarantine/, and deletes nothing")
    return 1 if examination.findings else 0


def show_environment(arguments: Namespace) -> int:
    """`ganzoo env`."""
    if arguments.clear_cache:
        return _clear_cache(arguments.json)
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


def _clear_cache(as_json: bool) -> int:
    from ganzoo.cache import clear_cache
    from ganzoo.files import cache_folder
    from ganzoo.terminal import show_memory

    freed = clear_cache(cache_folder())
    if as_json:
        print(json.dumps({"freed": freed}, indent=1))
    else:
        print(f"freed {show_memory(sum(freed.values()))} in {printable(cache_folder())}")
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
    "diff": diff_runs,
    "leaderboard": make_leaderboard,
    "report": make_report,
    "sample": sample_run,
    "score": score_images,
    "check": check_conformance,
    "new": write_new,
    "plugins": list_plugins,
    "env": show_environment,
    "doctor": examine_results,
}
"""What the command line calls for each command."""
