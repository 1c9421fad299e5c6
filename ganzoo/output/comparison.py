"""Comparisons on a terminal: a table for each dataset, matched machines, two runs side by side."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from rich.table import Table

from ganzoo.comparing.baseline import check_baseline, with_baseline
from ganzoo.comparing.comparison import Comparison, compare
from ganzoo.comparing.diff import RecordDiff
from ganzoo.comparing.order import in_words
from ganzoo.comparing.rows import Row, by_dataset
from ganzoo.comparing.targets import Goal
from ganzoo.output.columns import SEEDS, VARIANT, Column, Fold, columns_of, in_groups, shared_settings, yardstick_rows
from ganzoo.output.console import safe
from ganzoo.output.fitting import Field, fits_width, in_pieces, table_of
from ganzoo.output.notes import flag_lines, notes_of
from ganzoo.output.sorting import sort_each
from ganzoo.output.tables import simple_table
from ganzoo.records.protocols import protocol_words
from ganzoo.records.settings import setting
from ganzoo.runs import RunRecord


def comparison_tables(
    records: Sequence[RunRecord],
    *,
    goal: Goal | None = None,
    baseline: str | None = None,
    sort: str | None = None,
    doubtful: bool = False,
    width: int | None = None,
) -> list[Table]:
    """A table for each dataset and image size, or two where one does not fit into `width` characters.

    With `doubtful` speeds that are doubtful have ratios too.

    Raises `UnknownName` for a baseline or a column to sort by that no table has.
    """
    if baseline is not None:
        check_baseline(baseline, [setting(record.spec, "variant") for record in records])
    comparisons = [compare(part, goal) for part in by_dataset(records)]
    if baseline is not None:
        comparisons = [
            with_baseline(part, baseline, doubtful)
            if any(row.settings["variant"] == baseline for row in part.rows)
            else part
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
    return [table for comparison, lines in pairs for table in _tables(comparison, lines, width)]


def _tables(comparison: Comparison, notes: Sequence[str], width: int | None) -> list[Table]:
    """A comparison as a table, with its protocols, any failures and `notes` underneath.

    Where it would have to break words to fit into `width` characters there are two: the scores and what they cost, and
    the speed; and more where these do not fit either.
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
        lead = _lead(comparison, in_groups(columns, "setting"), whole)
        parts = [_figures(comparison, half, whole) for half in layout]
        if all(fits_width([*lead, *part], width) for part in parts):
            break
    pieces = [piece for part in parts for piece in in_pieces(lead, part, width)]
    title = safe(", ".join(f"{name} {value}" for name, value in shared_settings(comparison)))
    tables = [table_of(piece, width, title=title) for piece in pieces]
    lines = [f"{identity}: {protocol_words(content)}" for identity, content in comparison.protocols.items()]
    failed = (f"{in_words(row.label)}: {row.error}" for row in comparison.rows if isinstance(row.error, str))
    lines += [*dict.fromkeys(failed), *flag_lines(comparison.rows)]
    tables[-1].caption = "\n".join(safe(line) for line in [*lines, *notes])
    return tables


SCORES = ("score", "target")


def _lead(comparison: Comparison, settings: Sequence[Column], whole: Fold) -> list[Field]:
    """The columns that say which row it is. Those that fold no more readily than `whole` keep each cell on one line."""
    rows = comparison.rows
    sticks = yardstick_rows(comparison)
    names = [*(f"[not bold italic]{safe(name)}[/]" for _, name in sticks), *(safe(VARIANT.text(row)) for row in rows)]
    variant = Field(VARIANT.head, names, whole=True, style="bold")
    return [
        variant,
        *(
            Field(
                safe(column.short or column.plain_head),
                ["" for _ in sticks] + [safe(column.text(row)) for row in rows],
                whole=column.fold.value >= whole.value,
            )
            for column in settings
        ),
    ]


def _figures(comparison: Comparison, columns: Sequence[Column], whole: Fold) -> list[Field]:
    """The columns of figures, and the seeds; a row whose runs have all failed says how in the first of them."""
    fields, sticks = [], yardstick_rows(comparison)
    for place, column in enumerate(columns):
        cells = [f"[italic]{safe(column.yardstick(kind))}[/]" for kind, _ in sticks]
        cells += [
            safe(column.text(row)) if row.finished else "" if place else f"[red]{safe(row.failed)}[/red]"
            for row in comparison.rows
        ]
        fields.append(Field(safe(column.plain_head), cells, right=True, whole=column.fold.value >= whole.value))
    return [*fields, Field(SEEDS.head, ["" for _ in sticks] + [_seeds(row) for row in comparison.rows], right=True)]


def _seeds(row: Row) -> str:
    endings = f" [red]({safe(row.failed)})[/red]" if row.finished and row.failed else ""
    return f"{SEEDS.value(row)}{endings}"


def diff_tables(diff: RecordDiff, names: tuple[str, str]) -> Iterator[Table | str]:
    """Two records side by side: a table for each part that differs, and the figures with how they moved."""
    parts = [part for part in ("hardware", "software", "flags", "plugins", "settings") if getattr(diff, part)]
    for part in parts:
        rows = [(name, *map(show_any, sides)) for name, sides in getattr(diff, part).items()]
        yield simple_table(("", *names), rows, part)
    if not parts:
        yield "machine, software, flags, plugins and settings are the same"
    rows = [
        (name, *map(show_any, sides), "–" if (change := diff.change(name)) is None else f"{change:+.1%}")
        for name, sides in diff.figures.items()
    ]
    yield simple_table(("", *names, "change"), rows, "figures")
    if any(map(diff.is_doubtful, diff.figures)):
        reasons = [f"{name}: {'; '.join(flags)}" for name, flags in zip(names, diff.doubts, strict=True) if flags]
        yield safe(f"no change of a doubtful speed ({', '.join(reasons)}); --doubtful shows it all the same")


def show_any(value: object) -> str:
    """A value of a record: numbers with six digits, what is missing as a dash."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.6g}"
    return value if isinstance(value, str) else json.dumps(value)
