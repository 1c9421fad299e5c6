"""The leaderboard: tables of committed records in the README beside them, made by one command."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from ganzoo.comparing.comparison import compare
from ganzoo.comparing.rows import Row
from ganzoo.comparing.settings import RACE
from ganzoo.errors import RecordError
from ganzoo.output.columns import HARDWARE, SEEDS, VARIANT, columns_of, in_groups, yardstick_rows
from ganzoo.output.console import show_plain
from ganzoo.output.notes import flag_lines, notes_of
from ganzoo.records.protocols import protocol_words
from ganzoo.records.settings import setting
from ganzoo.records.store import SAMPLES
from ganzoo.runs import RunRecord
from ganzoo.util.files import read_regular, write_atomically
from ganzoo.util.text import printable

PAGE = "README.md"
LARGEST_PAGE = 64 << 20
"""Bytes of the page; a larger file is refused before it is read."""

BEGIN = "<!-- leaderboard: from here to its end `ganzoo leaderboard` writes; edit the text around it -->"
END = "<!-- end of the leaderboard -->"


def updated_page(folder: Path, records: Sequence[RunRecord]) -> str:
    """The page of a folder of results with the tables of its `records` between the two marks.

    All else on it is kept; a page without the marks gets them at its end. Raises `RecordError` where it cannot be read.
    """
    path = folder / PAGE
    page = read_page(folder)
    page = "# Results\n" if page is None else page
    tables = "\n".join([BEGIN, "", *_sections(folder, records), END])
    before, mark, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not mark:
        return f"{page.rstrip()}\n\n{tables}\n"
    if not end:
        raise RecordError(f"{printable(path)}: the line '{END}' is gone; put it back where the tables end")
    return before + tables + after


def read_page(folder: Path) -> str | None:
    """The page of a folder of results, None where there is none. Raises `RecordError` where it cannot be read."""
    path = folder / PAGE
    try:
        return read_regular(path, LARGEST_PAGE).decode().replace("\r\n", "\n")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RecordError(f"{printable(path)}: cannot be read: {printable(reason)}") from error


def write_page(folder: Path, page: str) -> Path:
    """Write the page of a folder of results. Raises `RecordError` where that cannot be done."""
    path = folder / PAGE
    try:
        write_atomically(path, lambda stream: stream.write(page.encode()))
    except OSError as error:
        raise RecordError(f"{printable(path)}: {error.strerror}; it is as it was") from error
    return path


def _sections(folder: Path, records: Sequence[RunRecord]) -> Iterator[str]:
    """Lines of Markdown: a table for each race, its protocols, and the machines at the end."""
    races: dict[tuple[object, ...], list[RunRecord]] = defaultdict(list)
    for record in records:
        races[tuple(setting(record.spec, name) for name in RACE)].append(record)
    for _, race in sorted(races.items()):
        yield from _section(folder, race)
    yield from ("## Machines", "", "| hardware | what it is | software |", "| --- | --- | --- |")
    machines: dict[str, list[RunRecord]] = defaultdict(list)
    for record in records:
        if record.hardware:
            machines[setting(record.spec, "hardware")].append(record)
    for name, there in sorted(machines.items()):
        versions = ", ".join(sorted({str(record.environment.get("torch")) for record in there}))
        yield f"| {_escaped(name)} | {_escaped(_machine_line(there[-1]))} | torch {_escaped(versions)} |"
    yield ""


def _section(folder: Path, records: Sequence[RunRecord]) -> Iterator[str]:
    comparison = compare(records)
    dataset, size, kimg = (show_plain(comparison.rows[0].settings[name]) for name in RACE)
    yield from (
        f"## {_escaped(dataset)}, {size} px, {kimg} kimg" if kimg != "0" else f"## {_escaped(dataset)}: speed",
        "",
    )
    columns = columns_of(comparison)
    settings = [column for column in in_groups(columns, "setting") if column is not HARDWARE]
    figures = in_groups(columns, "score", "target", "speed", "cost")
    heads = [column.plain_head for column in [*settings, *figures, SEEDS, HARDWARE]]
    yield f"| {VARIANT.head} | {' | '.join(map(_escaped, heads))} |"
    yield f"| --- |{' ---: |' * len(heads)}"
    for kind, name in yardstick_rows(comparison):
        measured = (column.yardstick(kind) for column in figures)
        cells = [*("" for _ in settings), *measured, "", ""]
        yield f"| *{_escaped(name)}* | {' | '.join(map(_escaped, cells))} |"
    for row in comparison.rows:
        status = f" ({_escaped(row.failed)})" if row.failed else ""
        # A row whose runs have all failed has no figures.
        middle = [*(column.text(row) for column in figures), str(SEEDS.value(row))]
        middle = middle if row.finished else [""] * len(middle)
        cells = [*(column.text(row) for column in settings), *middle, HARDWARE.text(row)]
        yield f"| {_linked(folder, row)}{status} | {' | '.join(map(_escaped, cells))} |"
    yield ""
    protocols = comparison.protocols
    yield from (f"- {_code(identity)}: {_escaped(protocol_words(content))}" for identity, content in protocols.items())
    yield from (f"- {_escaped(note)}" for note in [*flag_lines(comparison.rows), *notes_of(comparison)])
    yield ""


def _linked(folder: Path, row: Row) -> str:
    """A variant's name, with a link to the samples of its first seed where they are there."""
    name = _escaped(VARIANT.text(row))
    for record in row.runs:
        picture = record.path.parent / SAMPLES if record.path else None
        if picture is not None and picture.exists() and picture.is_relative_to(folder):
            place = picture.relative_to(folder).as_posix()
            return f"[{name}]({place})" if re.fullmatch(r"[\w./-]+", place) else name
    return name


def _machine_line(record: RunRecord) -> str:
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
    """An id as code, without the characters by which a stranger's id could end the code or the table."""
    harmless = re.sub(r"[^\w.-]", "", printable(text))
    return f"`{harmless}`"


def _escaped(text: object) -> str:
    """Text from a stranger as Markdown that shows it as it is."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", printable(text))
