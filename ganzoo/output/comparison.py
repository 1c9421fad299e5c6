"""Comparisons on a terminal: a table for each dataset, matched machines, two runs side by side."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.measure import measure_renderables
from rich.table import Table

from ganzoo.comparing.baseline import check_baseline, with_baseline
from ganzoo.comparing.comparison import Comparison, compare
from ganzoo.comparing.diff import RecordDiff, change_of
from ganzoo.comparing.filters import sort_each
from ganzoo.comparing.rows import Row, by_dataset
from ganzoo.output.columns import Column, Fold, columns_of, in_groups, shared_settings
from ganzoo.output.console import safe
from ganzoo.output.notes import flag_lines, notes_of
from ganzoo.output.tables import simple_table
from ganzoo.records.protocols import protocol_words
from ganzoo.records.settings import setting
from ganzoo.runs import RunRecord

if TYPE_CHECKING:
    from ganzoo.util.significance import Direction


def comparison_tables(
    records: Sequence[RunRecord],
    better: Mapping[str, Direction],
    *,
    target_fid: float | None = None,
    baseline: str | None = None,
    sort: str | None = None,
    width: int | None = None,
) -> list[Table]:
    """A table for each dataset and image size, or two where one does not fit into `width` characters.

    `better` says in which direction each score is.

    Raises `UnknownName` for a baseline or a column to sort by that no table has.
    """
    if baseline is not None:
        check_baseline(baseline, [setting(record.spec, "variant") for record in records])
    comparisons = [compare(part, better, target_fid) for part in by_dataset(records)]
    if baseline is not None:
        comparisons = [
            with_baseline(part, baseline) if any(row.settings["variant"] == baseline for row in part.rows) else part
            for part in comparisons
        ]
    return _tables_with_notes(comparisons, sort, width)


def matched_tables(comparison: Comparison, *, sort: str | None = None, width: int | None = None) -> list[Table]:
    """A table for each dataset and image size of what `ganzoo.comparing.machines.by_hardware` gives; two where one is
    too wide.

    The baseline's row is the first in each cell, unless sorted. Raises `UnknownName` for a column that is not there.
    """
    assert comparison.baseline is not None
    explained = (
        f"ratio: of images/s to those of {comparison.baseline.name}, bootstrap 95 % interval over runs and windows",
        "per peak: the same, each rate as a share of the peak that was measured in its own run",
    )
    return _tables_with_notes(comparison.parts(), sort, width, explained)


def _tables_with_notes(
    comparisons: Sequence[Comparison], sort: str | None, width: int | None, explained: Sequence[str] = ()
) -> list[Table]:
    # The first of two rows is the one that was first before any sorting.
    notes = [[*explained, *notes_of(comparison)] for comparison in comparisons]
    ordered = comparisons if sort is None else sort_each(comparisons, sort)
    pairs = zip(ordered, notes, strict=True)
    return [table for comparison, lines in pairs for table in comparison_table(comparison, lines, width)]


def comparison_table(comparison: Comparison, notes: Sequence[str] = (), width: int | None = None) -> list[Table]:
    """A comparison as a table, with its protocols, any failures and `notes` underneath.

    Where it would have to break words to fit into `width` characters there are two: the scores and what they cost, and
    the speed.
    """
    columns = columns_of(comparison)
    scores, speed, cost = (in_groups(columns, *groups) for groups in (SCORES, ("speed",), ("cost",)))
    halves, together = [[*scores, *cost], speed], [*scores, *speed, *cost]
    if comparison.by_hardware:
        # Speed is what machines are compared for.
        halves, together = [speed, [*scores, *cost]], [*speed, *scores, *cost]
    layouts = [[together], halves] if scores else [[together]]
    tries = [(layout, Fold.IN_NEED) for layout in layouts] + [(layouts[-1], Fold.NEVER)]
    for layout, whole in tries:
        tables = [_filled(comparison, in_groups(columns, "setting"), half, whole) for half in layout]
        if width is None or max(map(_least_width, tables)) <= width:
            break
    lines = [f"{identity}: {protocol_words(content)}" for identity, content in comparison.protocols.items()]
    failed = (f"{row.settings['variant']}: {row.error}" for row in comparison.rows if isinstance(row.error, str))
    lines += [*dict.fromkeys(failed), *flag_lines(comparison.rows)]
    tables[-1].caption = "\n".join(safe(line) for line in [*lines, *notes])
    return tables


SCORES = ("rank", "score", "target")


def _least_width(table: Table) -> int:
    """How many characters a table takes if no word breaks; a column that does not wrap takes all of its widest cell."""
    console = Console(width=10_000)
    sizes = [measure_renderables(console, console.options, [one.header, *one.cells]) for one in table.columns]
    widths = [size.maximum if one.no_wrap else size.minimum for one, size in zip(table.columns, sizes, strict=True)]
    return sum(widths) + PADDING * (len(widths) + 1)


PADDING = 2
"""Characters between two columns, and at either end."""


def _filled(comparison: Comparison, settings: Sequence[Column], columns: Sequence[Column], whole: Fold) -> Table:
    """A table of the variants with these columns; a row whose runs have all failed says how.

    Columns that fold no more readily than `whole` keep each cell on one line.
    """
    table = _titled_table(comparison)
    table.add_column("variant", style="bold", no_wrap=True)
    for column in settings:
        no_wrap = column.fold.value >= whole.value
        table.add_column(safe(column.short or column.plain_head), overflow="fold", no_wrap=no_wrap)
    for column in columns:
        no_wrap = column.fold.value >= whole.value
        table.add_column(safe(column.plain_head), justify="right", overflow="fold", no_wrap=no_wrap)
    table.add_column("seeds", justify="right")
    for row in comparison.rows:
        table.add_row(*_row_texts(row, settings, columns))
    return table


def _row_texts(row: Row, settings: Sequence[Column], columns: Sequence[Column]) -> Iterator[str]:
    yield safe(row.settings["variant"])
    yield from (safe(column.text(row)) for column in settings)
    if row.finished:
        yield from (safe(column.text(row)) for column in columns)
        yield f"{len(row.finished)}" + (f" [red]({safe(row.failed)})[/red]" if row.failed else "")
    else:
        yield from (f"[red]{safe(row.failed)}[/red]", *[""] * (len(columns) - 1), "0")


def _titled_table(comparison: Comparison) -> Table:
    """An empty table with what all rows agree in above it."""
    title = ", ".join(f"{name} {value}" for name, value in shared_settings(comparison))
    return Table(
        box=box.SIMPLE_HEAD, title=safe(title), title_justify="left", caption_justify="left", collapse_padding=True
    )


def diff_tables(diff: RecordDiff, names: tuple[str, str]) -> Iterator[Table | str]:
    """Two records side by side: a table for each part that differs, and the figures with how they moved."""
    parts = [part for part in ("hardware", "software", "flags", "plugins", "settings") if getattr(diff, part)]
    for part in parts:
        rows = [(name, *map(show_any, sides)) for name, sides in getattr(diff, part).items()]
        yield simple_table(("", *names), rows, part)
    if not parts:
        yield "machine, software, flags, plugins and settings are the same"
    rows = [
        (name, *map(show_any, sides), "–" if (change := change_of(*sides)) is None else f"{change:+.1%}")
        for name, sides in diff.figures.items()
    ]
    yield simple_table(("", *names, "change"), rows, "figures")


def show_any(value: object) -> str:
    """A value of a record: numbers with six digits, what is missing as a dash."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.6g}"
    return value if isinstance(value, str) else json.dumps(value)
