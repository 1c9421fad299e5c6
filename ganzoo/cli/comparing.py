"""The commands that read records and set them against each other: compare, diff, leaderboard, report."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from ganzoo.cli.options import discover_asked
from ganzoo.errors import RecordError, UsageError
from ganzoo.output.console import paper, print_all, safe, stdout
from ganzoo.util.destination import check_destination, write_destination
from ganzoo.util.streams import print_note
from ganzoo.util.text import printable

if TYPE_CHECKING:
    from rich.console import Console

    from ganzoo.comparing.regressions import Change, Verdict
    from ganzoo.comparing.targets import Goal
    from ganzoo.runs import RunRecord
    from ganzoo.types import Reporter

MOST_NOTES = 30
"""Lines on stderr that say what was not compared, before the rest is only counted."""


def compare_folders(arguments: Namespace) -> int:
    """`ganzoo compare DIR…`."""
    from ganzoo.comparing.filters import keep, parse_condition
    from ganzoo.comparing.regressions import changes, parse_tolerance
    from ganzoo.comparing.scores import scores_of
    from ganzoo.output.published import published_figures

    if arguments.output is not None:
        check_destination(Path(arguments.output), force=arguments.force)
    if bool(arguments.against) != bool(arguments.fail_on):
        raise UsageError("--against and --fail-on: give both, as in --against results --fail-on fid:5%")
    if arguments.verdicts is not None and not arguments.fail_on:
        raise UsageError("--verdicts: needs --fail-on, whose verdicts it is for")
    if arguments.reported and arguments.format != "table":
        raise UsageError("--reported: goes with the table; `ganzoo list variants --json` has the figures for programs")
    goal = _goal(arguments)
    registry = discover_asked(arguments)
    better = {score: way for offer in registry.offers["metrics"] for score, way in offer.record.better.items()}
    reporter = None if arguments.format == "table" else registry.get("reporters", arguments.format).record
    conditions = [parse_condition(text) for text in arguments.where]
    tolerances = [parse_tolerance(text, better) for text in arguments.fail_on]
    records = keep(_load_records(arguments.folders), conditions)
    earlier = keep(_load_records(arguments.against), conditions) if arguments.against else []
    if goal is not None and not any(score.name == goal.score for score in scores_of(records)):
        asked = f"-fid {goal.value:g}" if arguments.target is None else f" {printable(arguments.target)}"
        print_note(f"--target{asked}: no finished run has that score; nothing is added")
    text = _comparison_text(records, arguments, goal, reporter)
    if arguments.reported:
        reported = {offer.record.name: offer.record.reported for offer in registry.offers["variants"]}
        text += "\n\n" + _as_text(published_figures(records, reported), _console_of(arguments))
    changed: list[Change] = []
    notes: list[str] = []
    if tolerances:
        allowed = {"allow_missing": arguments.allow_missing, "doubtful": arguments.doubtful}
        changed, notes = changes(earlier, records, tolerances, **allowed)
    _write_output(text, arguments)
    if arguments.verdicts is not None:
        _write_verdicts(changed, notes, Path(arguments.verdicts))
    _note_some("not compared", notes)
    for change in changed:
        print_note(f"{'regression: ' if change.too_much else ''}{change}")
    return 3 if any(change.too_much for change in changed) else 0


def _goal(arguments: Namespace) -> Goal | None:
    """What `--target` asks for, or `--target-fid`."""
    from ganzoo.comparing.targets import Goal, parse_goal

    if arguments.target_fid is None:
        return parse_goal(arguments.target) if arguments.target is not None else None
    if not arguments.target_fid > 0:
        raise UsageError(f"--target-fid {arguments.target_fid:g}: give a number above 0")
    return Goal("fid", arguments.target_fid)


def _comparison_text(
    records: Sequence[RunRecord], arguments: Namespace, goal: Goal | None, reporter: Reporter | None
) -> str:
    """The output of `compare`: tables for people, or a reporter's text."""
    from ganzoo.comparing.baseline import with_baseline
    from ganzoo.comparing.comparison import compare
    from ganzoo.comparing.machines import by_hardware
    from ganzoo.comparing.table import comparison_table
    from ganzoo.output.comparison import comparison_tables, matched_tables
    from ganzoo.output.sorting import sort_rows

    sorting, baseline = arguments.sort, arguments.baseline
    console = _console_of(arguments)
    if arguments.by == "hardware":
        comparison, notes = by_hardware(records, baseline, goal, doubtful=arguments.doubtful)
        _note_some("not matched", notes)
        if reporter is None:
            return _as_text(matched_tables(comparison, sort=sorting, width=console.width), console)
    elif reporter is None:
        tables = comparison_tables(
            records,
            goal=goal,
            baseline=baseline,
            sort=sorting,
            doubtful=arguments.doubtful,
            width=console.width,
        )
        return _as_text(tables, console)
    else:
        comparison = compare(records, goal)
        comparison = comparison if baseline is None else with_baseline(comparison, baseline, arguments.doubtful)
    comparison = sort_rows(comparison, sorting) if sorting else comparison
    with redirect_stdout(sys.stderr):
        return str(reporter.render(comparison_table(comparison))).rstrip("\n")


def _console_of(arguments: Namespace) -> Console:
    """Where the text is for: the terminal, or a file, which has no width."""
    return stdout() if arguments.output is None else paper()


def _write_verdicts(changed: Sequence[Change], notes: Sequence[str], path: Path) -> None:
    """What `--fail-on` found, as JSON: the verdict, one for each figure of each row, and what was not compared."""
    verdict: Verdict = "regression" if any(change.too_much for change in changed) else "ok"
    content = {"verdict": verdict, "figures": [change.to_json() for change in changed], "not_compared": list(notes)}
    write_destination(path, f"{json.dumps(content, indent=1)}\n".encode(), "--verdicts")


def diff_runs(arguments: Namespace) -> int:
    """`ganzoo diff A B`."""
    from ganzoo.comparing.diff import diff_records
    from ganzoo.output.comparison import diff_tables
    from ganzoo.records.store import find_run

    first, second = find_run(arguments.first), find_run(arguments.second)
    diff = diff_records(first, second, doubtful=arguments.doubtful)
    if arguments.json:
        print(json.dumps(diff.to_json(), indent=1))
    else:
        print_all(_failure_lines({"A": first, "B": second}))
        print_all(diff_tables(diff, ("A", "B")))
    return 0


def _failure_lines(records: Mapping[str, RunRecord]) -> Iterator[str]:
    """One line for each run that did not finish: how it ended."""
    for name, record in records.items():
        if not record.ok:
            message = (record.error or {}).get("message")
            yield f"{name} ended as {record.status}" + (f": {safe(message)}" if message else "")


def make_leaderboard(arguments: Namespace) -> int:
    """`ganzoo leaderboard DIR`."""
    from ganzoo.output.markdown import PAGE, read_page, updated_page, write_page

    folder = Path(arguments.folder)
    page = updated_page(folder, _load_records([arguments.folder]))
    path = folder / PAGE
    stale = read_page(folder) != page
    if arguments.check and stale:
        print_note(f"{printable(path)}: is out of date; run `ganzoo leaderboard {printable(folder)}`")
        return 1
    if stale:
        write_page(folder, page)
    print_note(f"{'wrote' if stale else 'up to date:'} {printable(path)}")
    return 0


def make_report(arguments: Namespace) -> int:
    """`ganzoo report DIR… -o report.html`."""
    from ganzoo.output.report.report import write_report

    records, complaints = _find_records(arguments.folders)
    output = Path(arguments.output)
    size = write_report(
        records,
        complaints,
        arguments.folders,
        output,
        neighbours=arguments.neighbours,
        doubtful=arguments.doubtful,
        force=arguments.force,
    )
    what = f"{len(records)} record{'s'[: len(records) != 1]}" if records else "no record, and a page that says so"
    print_note(f"wrote {printable(output)}, {size / 1e6:.1f} MB: {what}")
    return 0


def _load_records(folders: Sequence[str]) -> list[RunRecord]:
    """The records below the folders. Raises `RecordError` if there is none."""
    records, _ = _find_records(folders)
    if not records:
        where = ", ".join(printable(folder) for folder in folders)
        raise RecordError(f"{where}: holds no record; run `ganzoo bench` first, or name another folder")
    return records


def _find_records(folders: Sequence[str]) -> tuple[list[RunRecord], list[str]]:
    """The records below the folders, and the reason for each that is left out, after noting it on stderr."""
    from ganzoo.records.store import find_records

    records, complaints = find_records([Path(folder) for folder in folders])
    for complaint in complaints:
        print_note(f"left out: {complaint}")
    return records, complaints


def _note_some(what: str, notes: Sequence[str]) -> None:
    for note in notes[:MOST_NOTES]:
        print_note(f"{what}: {note}")
    if len(notes) > MOST_NOTES:
        print_note(f"{what}: {len(notes) - MOST_NOTES} more")


def _write_output(text: str, arguments: Namespace) -> None:
    """Write text to `-o FILE`, or to stdout."""
    if arguments.output is None:
        print(text)
        return
    write_destination(Path(arguments.output), f"{text}\n".encode())
    print_note(f"wrote {printable(arguments.output)}")


def _as_text(parts: Iterable[object], console: Console) -> str:
    with console.capture() as captured:
        for part in parts:
            console.print(part)
    return captured.get().rstrip("\n")
