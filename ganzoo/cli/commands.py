"""What each command does: ask the library, print data on stdout and everything else on stderr, return the exit code."""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganzoo.cli.bench import run_bench
from ganzoo.cli.comparing import compare_folders, diff_runs, make_leaderboard, make_report
from ganzoo.cli.options import asked_for, discover_asked
from ganzoo.errors import UnknownName, UsageError
from ganzoo.output.console import print_all, stdout
from ganzoo.planning.request import BenchPlan
from ganzoo.records.store import RECORD
from ganzoo.registry.discovery import discover
from ganzoo.registry.importing import ended_imports
from ganzoo.registry.registry import KINDS, Kind
from ganzoo.running.bench import distinct_plugins
from ganzoo.types import Augmentation, Penalty
from ganzoo.util.destination import cannot_write, check_destination, check_parent
from ganzoo.util.options import options_of
from ganzoo.util.streams import print_note
from ganzoo.util.text import did_you_mean, printable

if TYPE_CHECKING:
    from torch import Tensor

    from ganzoo.runs import RunRecord
    from ganzoo.testing import Subject


def list_offers(arguments: Namespace) -> int:
    """`ganzoo list`."""
    from ganzoo.output.tables import offers_table, players_table
    from ganzoo.planning.describe import describe_offer

    if arguments.kind == "suites":
        return _list_suites(arguments.json)
    registry = discover_asked(arguments)
    asked: Kind | None = {"penalties": "losses", "augmentations": "losses", "players": "architectures"}.get(
        arguments.kind, arguments.kind
    )
    kinds: tuple[Kind, ...] = (asked,) if asked else KINDS
    offers = {kind: [offer for offer in registry.offers[kind] if not offer.inline] for kind in kinds}
    if one := {"penalties": Penalty, "augmentations": Augmentation}.get(arguments.kind):
        offers = {kind: [offer for offer in found if isinstance(offer.record, one)] for kind, found in offers.items()}
    if arguments.kind == "players" and not arguments.json:
        print_all([players_table(offers["architectures"])])
        return 0
    if arguments.json:
        described = [
            describe_offer(offer, None if arguments.kind else kind) for kind in kinds for offer in offers[kind]
        ]
        print(json.dumps(described, indent=1))
    else:
        print_all(offers_table(kind, offers[kind], titled=not arguments.kind) for kind in kinds)
    return 0


def _list_suites(as_json: bool) -> int:
    from ganzoo.output.tables import simple_table
    from ganzoo.running.suites import FOLDER, read_suite, suite_names

    suites = [
        {"name": suite.name, "summary": suite.summary, "path": str(FOLDER / f"{suite.name}.toml")}
        for suite in map(read_suite, suite_names())
    ]
    if as_json:
        print(json.dumps(suites, indent=1))
    else:
        print_all([simple_table(("name", "summary", "file"), [tuple(suite.values()) for suite in suites])])
    return 0


def show_name(arguments: Namespace) -> int:
    """`ganzoo show NAME`: of an offer of a plugin, or else of a run."""
    from ganzoo.output.tables import description_lines
    from ganzoo.planning.describe import describe_offer, describe_variant, find_by_name
    from ganzoo.records.store import find_run, runs_called

    registry = discover_asked(arguments)
    descriptions = []
    try:
        offers = find_by_name(registry, arguments.name)
    except UsageError:
        if not Path(arguments.name).exists() and not runs_called(arguments.name):
            raise
        return _show_run(find_run(arguments.name), arguments.json)
    for kind, offer in offers:
        description = describe_offer(offer, kind)
        if kind == "variants":
            with redirect_stdout(sys.stderr):
                description |= describe_variant(registry, arguments.name, offer)
        descriptions.append(description)
    if arguments.json:
        print(json.dumps(descriptions, indent=1))
    else:
        print_all((line for description in descriptions for line in description_lines(description)), soft_wrap=True)
    return 0


def _show_run(record: RunRecord, as_json: bool) -> int:
    from ganzoo.output.tables import run_page

    if as_json:
        print(json.dumps(record.to_json(), indent=1))
    else:
        print_all(run_page(record), soft_wrap=True)
    return 0


def sample_run(arguments: Namespace) -> int:
    """`ganzoo sample RUN`."""
    from ganzoo.evaluation.sampling import image_batches

    output = Path(arguments.output)
    to_folder = arguments.output.endswith(("/", os.sep)) or output.is_dir()
    if to_folder and output.is_dir() and any(output.iterdir()) and not arguments.force:
        raise UsageError(f"-o {printable(output)}: is not empty; choose another folder or pass --force")
    if to_folder:
        check_parent(output)
    else:
        check_destination(output, force=arguments.force)
    registry = discover_asked(arguments)
    with redirect_stdout(sys.stderr):
        batches = image_batches(
            arguments.run,
            registry,
            arguments.n,
            label=arguments.label,
            seed=arguments.seed,
            interpolate=arguments.interpolate,
            drawing=_drawing(arguments.draw),
            at=arguments.at,
        )
        try:
            count = _write_pngs(batches, output, arguments.n) if to_folder else _write_grid(batches, output)
        except OSError as error:
            raise cannot_write(output, error) from error
    print_note(f"wrote {count} images to {printable(output)}")
    return 0


def _drawing(texts: Sequence[str]) -> dict[str, Any]:
    """The options of `--draw NAME=VALUE`. Raises `UsageError` for another form."""
    options: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        try:
            options[name] = json.loads(value)
        except ValueError:
            raise UsageError(f"--draw {printable(text)}: write NAME=NUMBER, as in truncation=0.7") from None
        if not equals or not isinstance(options[name], (int, float, bool)):
            raise UsageError(f"--draw {printable(text)}: write NAME=NUMBER, as in truncation=0.7")
    return options


def _write_grid(batches: Iterable[Tensor], output: Path) -> int:
    import torch

    from ganzoo.util.images import enlargement, grid, save_png

    images = torch.cat(list(batches))
    save_png(grid(images), output, scale=enlargement(images.shape[2]))
    return len(images)


def _write_pngs(batches: Iterable[Tensor], folder: Path, asked: int) -> int:
    """Write to a folder that is empty or may be overwritten; numbered PNGs of an earlier draw are removed first."""
    from ganzoo.output.progress import say_drawn
    from ganzoo.util.images import save_numbered_pngs

    folder.mkdir(exist_ok=True)
    for earlier in folder.glob("*.png"):
        if earlier.stem.isdecimal():
            earlier.unlink()
    return save_numbered_pngs(say_drawn(batches, asked), folder, digits=max(5, len(str(asked))))


def score(arguments: Namespace) -> int:
    """`ganzoo score RUN…`, or `ganzoo score IMAGES --dataset NAME`."""
    against_images = "dataset" in vars(arguments) and not any(Path(name).exists() for name in arguments.of)
    of_images = [name for name in arguments.of if _holds_images(Path(name))]
    if images := of_images or (arguments.of if against_images else []):
        if len(arguments.of) > 1:
            raise UsageError(f"{printable(images[0])}: images are scored alone; give them in their own command")
        return _score_images(arguments, Path(images[0]))
    return _score_runs(arguments)


def _holds_images(path: Path) -> bool:
    """Whether a path is a folder or a file of images, and no run nor a folder of runs."""
    from ganzoo.evaluation.image_files import is_image_file

    return is_image_file(path) or (path.is_dir() and not any(path.rglob(RECORD)))


def _score_runs(arguments: Namespace) -> int:
    """Everything that can be checked of every run comes first; then one after another is scored."""
    from ganzoo.output.comparison import comparison_tables
    from ganzoo.planning.request import check_numbers
    from ganzoo.registry.isolation import undisturbed
    from ganzoo.running.process import ProcessLauncher
    from ganzoo.running.rescoring import ScoringFailed, prepare_run, score_run

    for option in options_of(BenchPlan):
        if option.name in ("dataset", "image_size") and option.name in vars(arguments):
            raise UsageError(f"{option.flag}: a run is scored against the images it was trained on; leave it out")
    plan = asked_for(BenchPlan, arguments)
    plan = replace(plan, plugins=distinct_plugins(plan.plugins))
    check_numbers(plan)
    registry = discover_asked(arguments)
    with redirect_stdout(sys.stderr), undisturbed():
        runs = [prepare_run(record, plan, registry, print_note) for record in _runs_named(arguments.of)]
        records, failed = [], False
        for run in runs:
            try:
                records.append(score_run(run, plan, registry, ProcessLauncher(), print_note))
            except ScoringFailed as error:
                print_note(f"{error.run}: could not be scored: {printable(error)}; its record stays as it was")
                failed = True
    if arguments.json:
        print(json.dumps([record.to_json() for record in records], indent=1))
    elif records:
        print_all(comparison_tables(records, width=stdout().width))
    return 1 if failed else 0


def _runs_named(names: Sequence[str]) -> list[RunRecord]:
    """The runs that were named, each once; of a folder of runs the finished ones. Raises `RecordError`."""
    from ganzoo.records.store import find_records, find_run

    found: dict[Path | None, RunRecord] = {}
    for name in names:
        if Path(name).is_dir() and not (Path(name) / RECORD).exists():
            records, complaints = find_records([Path(name)])
            for complaint in complaints:
                print_note(f"left out: {complaint}")
            found |= {record.path: record for record in records if record.ok and record.spec["kimg"]}
        else:
            record = find_run(name)
            found[record.path] = record
    return list(found.values())


def _score_images(arguments: Namespace, source: Path) -> int:
    from ganzoo.evaluation.given_images import score_images
    from ganzoo.output.tables import scores_table

    asked = asked_for(BenchPlan, arguments)
    if asked.fakes is not None:
        raise UsageError("--fakes: all images that are given are scored; leave it out")
    registry = discover_asked(arguments)
    shared = {
        option.name: getattr(asked, option.name)
        for option in options_of(BenchPlan)
        if option.group in ("machine", "data", "scoring") and option.name != "fakes"
    }
    with redirect_stdout(sys.stderr):
        scores, protocols, notes = score_images(registry, source, **shared)
    for note in notes:
        print_note(note)
    if arguments.json:
        print(json.dumps({"scores": scores, "protocols": protocols}, indent=1))
    else:
        stdout().print(scores_table(scores, protocols))
    return 0


def check_conformance(arguments: Namespace) -> int:
    """`ganzoo check NAME|path.py`."""
    from ganzoo.machine.settings import apply_settings, resolve_device
    from ganzoo.output.checking import each_shown
    from ganzoo.output.tables import checks_table
    from ganzoo.testing import subjects_of

    plugins = asked_for(BenchPlan, arguments).plugins
    # The networks are small: a second thread does not help, and it slows other processes.
    apply_settings(threads=1, precision="fp32")
    subjects = subjects_of(arguments.target, plugins, resolve_device(arguments.device))
    only = [name.strip() for names in arguments.only for name in names.split(",")]
    _check_only(only, subjects)
    results = []
    for subject in subjects:
        wanted = [name for name in subject.checks if not only or name in only]
        of_subject = [subject.result(name) for name in each_shown(subject.name, wanted)] if wanted else []
        if not of_subject:
            continue
        results += of_subject
        if not arguments.json:
            stdout().print(checks_table(of_subject))
    if arguments.json:
        print(json.dumps([asdict(result) for result in results], indent=1))
    return 1 if any(result.status == "failed" for result in results) else 0


def _check_only(names: Sequence[str], subjects: Sequence[Subject]) -> None:
    """Raise `UnknownName` for a check that none of the subjects has."""
    known = dict.fromkeys(check for subject in subjects for check in subject.checks)
    for name in names:
        if name not in known:
            raise UnknownName(f"--only {printable(name)}: no check is called that{did_you_mean(name, known)}")


def write_new(arguments: Namespace) -> int:
    """`ganzoo new NAME`."""
    from ganzoo.conformance.scaffold import PLUGIN_KINDS, new_plugin

    registry = discover_asked(arguments)
    files = new_plugin(arguments.name, Path(), registry, kind=arguments.kind, single_file=arguments.single_file)
    for file in files:
        print(printable(file))
    name = arguments.name
    if arguments.single_file:
        bench = PLUGIN_KINDS[arguments.kind].bench.format(name=name)
        print_note(f"next: ganzoo check {files[0]}, then ganzoo bench {bench} --plugin {files[0]}")
    else:
        print_note(f"next: pip install -e './{name}[test]', then ganzoo check {name}, and pytest in ./{name}")
    return 0


def list_plugins(arguments: Namespace) -> int:
    """`ganzoo plugins`."""
    from ganzoo.output.tables import plugins_page

    asked = asked_for(BenchPlan, arguments)
    registry = discover(distinct_plugins(asked.plugins), strict=asked.strict, spared=ended_imports())
    if arguments.json:
        print(json.dumps([asdict(status) for status in registry.statuses], indent=1))
    else:
        print_all(plugins_page(registry))
    return 0


def examine_results(arguments: Namespace) -> int:
    """`ganzoo doctor DIR`."""
    from ganzoo.evaluation.cache_faults import cache_faults
    from ganzoo.records.doctor import Finding, examine, quarantine
    from ganzoo.util.files import cache_place

    examination = examine(Path(arguments.folder))
    remedy = "; a bench that needs it makes it again, and `ganzoo env --clear-cache` removes it"
    in_cache = [Finding(path, f"{fault}{remedy}", None) for path, fault in cache_faults(cache_place())]
    examination = replace(examination, findings=[*examination.findings, *in_cache])
    moved = quarantine(examination, print_note) if arguments.fix else []
    if arguments.json:
        findings = [{"path": str(one.path), "what": one.what} for one in examination.findings]
        counts = {"records": examination.records, "checkpoints": examination.checkpoints}
        places = [{"from": str(origin), "to": str(target)} for origin, target in moved]
        print(json.dumps({**counts, "findings": findings, "moved": places}, indent=1))
    else:
        for one in examination.findings:
            print(f"{printable(one.path)}: {printable(one.what)}")
        verdict = f"{len(examination.findings)} fault(s)" if examination.findings else "all is well"
        print(f"{examination.records} record(s), {examination.checkpoints} checkpoint(s): {verdict}")
    for origin, target in moved:
        print_note(f"moved {printable(origin)} to {printable(target)}")
    if not arguments.fix and any(one.fix for one in examination.findings):
        print_note("to move what is broken to quarantine/, pass --fix; it deletes nothing")
    return 1 if examination.findings else 0


def show_environment(arguments: Namespace) -> int:
    """`ganzoo env`."""
    if arguments.clear_cache:
        return _clear_cache(arguments.json)
    from ganzoo.machine.settings import resolve_device, resolve_threads
    from ganzoo.output.tables import facts_tables
    from ganzoo.planning.describe import describe_machine

    asked = asked_for(BenchPlan, arguments)
    statuses = discover(distinct_plugins(asked.plugins), strict=asked.strict).statuses
    facts = describe_machine(resolve_device(asked.device), resolve_threads(asked.threads), statuses)
    if arguments.json:
        print(json.dumps(facts, indent=1))
    else:
        print_all(facts_tables(facts))
    return 0


def _clear_cache(as_json: bool) -> int:
    from ganzoo.output.console import show_memory
    from ganzoo.util.cache import clear_cache
    from ganzoo.util.files import cache_folder

    freed = clear_cache(cache_folder())
    if as_json:
        print(json.dumps({"freed": freed}, indent=1))
    else:
        print(f"freed {show_memory(sum(freed.values()))} in {printable(cache_folder())}")
    return 0


FUNCTIONS: dict[str, Callable[[Namespace], int]] = {
    "bench": run_bench,
    "list": list_offers,
    "show": show_name,
    "compare": compare_folders,
    "diff": diff_runs,
    "leaderboard": make_leaderboard,
    "report": make_report,
    "sample": sample_run,
    "score": score,
    "check": check_conformance,
    "new": write_new,
    "plugins": list_plugins,
    "env": show_environment,
    "doctor": examine_results,
}
"""The function of each command."""
