"""The leaderboard: tables of committed records in the README beside them, made by one command."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganzoo.comparing.filters import sort_rows
from ganzoo.comparing.rows import (
    RACE,
    by_dataset,
    comparison,
    leading_score,
    same_settings,
    score_of_column,
    shown_protocols,
)
from ganzoo.errors import RecordError
from ganzoo.output.comparison import (
    EXTRAS,
    Column,
    flag_lines,
    notes_of,
    rank_of,
    rate_with_error,
    score_heads,
    score_over_seeds,
    updates_of,
)
from ganzoo.output.console import missing, show_duration, show_memory, show_plain, show_rate
from ganzoo.records.protocols import protocol_words
from ganzoo.records.store import SAMPLES
from ganzoo.runs import RunRecord
from ganzoo.util.files import write_atomically
from ganzoo.util.text import printable

if TYPE_CHECKING:
    import pandas

    from ganzoo.comparing.baseline import Runs
    from ganzoo.util.significance import Direction

PAGE = "README.md"
BEGIN = "<!-- leaderboard: from here to its end `ganzoo leaderboard` writes; edit the text around it -->"
END = "<!-- end of the leaderboard -->"


def updated_page(folder: Path, records: Sequence[RunRecord], better: Mapping[str, Direction]) -> str:
    """The page of a folder of results with the tables of its `records` between the two marks.

    All else on it is kept; a page without the marks gets them at its end. Raises `RecordError` where it cannot be read.
    """
    path = folder / PAGE
    try:
        page = path.read_text(encoding="utf-8") if path.exists() else "# Results\n"
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{printable(path)}: cannot be read: {printable(error)}") from error
    tables = "\n".join([BEGIN, "", *_sections(folder, records, better), END])
    before, mark, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not mark:
        return f"{page.rstrip()}\n\n{tables}\n"
    if not end:
        raise RecordError(f"{printable(path)}: the line '{END}' is gone; put it back where the tables end")
    return before + tables + after


def write_page(folder: Path, page: str) -> Path:
    """Write the page of a folder of results. Raises `RecordError` where that cannot be done."""
    path = folder / PAGE
    try:
        write_atomically(path, lambda stream: stream.write(page.encode()))
    except OSError as error:
        raise RecordError(f"{printable(path)}: {error.strerror}; it is as it was") from error
    return path


def _sections(folder: Path, records: Sequence[RunRecord], better: Mapping[str, Direction]) -> Iterator[str]:
    """Lines of Markdown: a table for each race, its protocols, and the machines at the end."""
    for part in sorted(by_dataset(records), key=lambda part: (part[0].spec["dataset"], part[0].spec["image_shape"][1])):
        races: dict[float, list[RunRecord]] = {}
        for record in part:
            races.setdefault(record.spec["kimg"], []).append(record)
        for _, race in sorted(races.items()):
            yield from _section(folder, race, better)
    yield from ("## Machines", "", "| hardware | what it is | software |", "| --- | --- | --- |")
    machines: dict[str, list[RunRecord]] = {}
    for record in records:
        if record.hardware:
            machines.setdefault(record.spec["hardware"], []).append(record)
    for name, own in sorted(machines.items()):
        versions = ", ".join(sorted({str(record.environment.get("torch")) for record in own}))
        yield f"| {_cell(name)} | {_cell(_machine(own[-1]))} | torch {_cell(versions)} |"
    yield ""


def _section(folder: Path, records: Sequence[RunRecord], better: Mapping[str, Direction]) -> Iterator[str]:
    summary = comparison(records, better)
    rows = same_settings(records)
    summary["row"] = range(len(summary))
    notes = notes_of(summary, records)
    score, way = leading_score(records)
    by_score = score if way == "lower" else f"-{score}"
    summary = sort_rows(summary, by_score if score else "-train_images_per_second")
    dataset, size, kimg = (show_plain(summary[name].iloc[0]) for name in RACE)
    yield from (f"## {_cell(dataset)}, {size} px, {kimg} kimg" if kimg != "0" else f"## {_cell(dataset)}: speed", "")
    columns = _columns(summary)
    yield f"| variant | {' | '.join(_cell(head) for head, _ in columns)} |"
    yield f"| --- |{' ---: |' * len(columns)}"
    for row in summary.to_dict("records"):
        cells = [_cell(show(row)) if row["n"] or head in SETTINGS else "" for head, show in columns]
        status = f" ({_cell(row['failed'])})" if row["failed"] else ""
        yield f"| {_linked(folder, rows[row['row']])}{status} | {' | '.join(cells)} |"
    yield ""
    protocols = shown_protocols(records)
    yield from (f"- {_code(identity)}: {_cell(protocol_words(content))}" for identity, content in protocols.items())
    yield from (f"- {_cell(note)}" for note in [*flag_lines(summary), *notes])
    yield ""


SETTINGS = ("batch size", "precision", "differs", "hardware")
"""Columns that a row has whose runs have all failed, too."""


def _columns(summary: pandas.DataFrame) -> list[Column]:
    """The columns of a section; settings only where the rows differ in them.

    Before each protocol of the first score with ranks stand these: a rank is by one protocol.
    """
    columns: list[Column] = []
    for name in ("batch_size", "precision", "differs"):
        if summary[name].nunique() > 1:
            columns.append((name.replace("_", " "), partial(_plain, name=name)))
    ranked = [name for name in summary.attrs["scores"] if _any(summary, f"{name}_rank")]
    for name, head in score_heads(summary).items():
        if name in ranked and score_of_column(name) == score_of_column(ranked[0]):
            columns.append(("rank", partial(rank_of, name=name)))
        columns.append((head, partial(score_over_seeds, name=name)))
    columns += [
        ("images/s", rate_with_error),
        ("samples/s", lambda row: show_rate(row["sample_images_per_second"])),
        ("memory", lambda row: show_memory(row["peak_memory_bytes"])),
    ]
    for name, (head, show) in EXTRAS.items():
        if _any(summary, name):
            columns.append((head, partial(_shown, name=name, show=show)))
    return [
        *columns,
        ("updates D/G", lambda row: updates_of(row["discriminator_updates"], row["generator_updates"])),
        ("train time", lambda row: show_duration(row["train_seconds"])),
        ("seeds", lambda row: str(row["n"])),
        ("hardware", lambda row: row["hardware"]),
    ]


def _any(summary: pandas.DataFrame, name: str) -> bool:
    return name in summary and bool(summary[name].notna().any())


def _plain(row: Mapping[str, Any], name: str) -> str:
    return show_plain(row[name])


def _shown(row: Mapping[str, Any], name: str, show: Callable[[float], str]) -> str:
    return "–" if missing(row[name]) else show(row[name])


def _linked(folder: Path, runs: Runs) -> str:
    """A variant's name, with a link to the samples of its first seed where they are there."""
    name = _cell(runs[0].spec["variant"])
    for record in runs:
        picture = record.path.parent / SAMPLES if record.path else None
        if picture is not None and picture.exists() and picture.is_relative_to(folder):
            place = picture.relative_to(folder).as_posix()
            return f"[{name}]({place})" if re.fullmatch(r"[\w./-]+", place) else name
    return name


def _machine(record: RunRecord) -> str:
    facts = record.hardware
    cores, threads = (facts.get(name) for name in ("cores", "threads"))
    memory = facts.get("memory_bytes")
    parts = [
        facts.get("accelerator"),
        f"{facts.get('cpu')}, {cores} cores, {threads} threads",
        f"{memory / 2**30:.0f} GiB" if isinstance(memory, (int, float)) else None,
        f"driver {facts['driver']}" if facts.get("driver") else None,
        f"CUDA {facts['cuda']}" if facts.get("cuda") else None,
    ]
    return ", ".join(str(part) for part in parts if part)


def _code(text: object) -> str:
    """An id as code: of a stranger's nothing is left that could end the code, or the tables."""
    harmless = re.sub(r"[^\w.-]", "", printable(text))
    return f"`{harmless}`"


def _cell(text: object) -> str:
    """Text from a stranger as Markdown that shows it as it is."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", printable(text))
