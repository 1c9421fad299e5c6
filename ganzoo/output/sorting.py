"""In which order the rows stand: the grammar of `--sort COLUMN`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ganzoo.comparing.comparison import Comparison
from ganzoo.comparing.figures import figure_called
from ganzoo.comparing.table import column_names, comparison_cells
from ganzoo.errors import UnknownName
from ganzoo.output.columns import columns_called, columns_of
from ganzoo.output.console import missing
from ganzoo.util.text import did_you_mean, printable

Keys = list[list[Any]]
"""What the rows are sorted by: the values of a column for each row, then of a column that decides between equals."""


def sort_rows(comparison: Comparison, order: str) -> Comparison:
    """The rows by a column, ascending, or descending for `-COLUMN`; those without a value come last.

    A column is one of a DataFrame by its name, or one that people see by its head. A score with several protocols sorts
    within each of them, one protocol after another. Raises `UnknownName`.
    """
    return sort_each([comparison], order)[0]


def sort_each(comparisons: Sequence[Comparison], order: str) -> list[Comparison]:
    """`sort_rows` of each that has the column. Raises `UnknownName` where none has."""
    column = order.removeprefix("-")
    keys = [_keys(comparison, column) for comparison in comparisons]
    if not any(keys):
        known = did_you_mean(column, dict.fromkeys(name for each in comparisons for name in _names(each)))
        raise UnknownName(f"--sort {printable(order)}: no column is called '{printable(column)}'{known}")
    descending = order.startswith("-")
    return [
        replace(
            comparison, rows=tuple(comparison.rows[place] for place in _order(by, len(comparison.rows), descending))
        )
        for comparison, by in zip(comparisons, keys, strict=True)
    ]


def _keys(comparison: Comparison, column: str) -> Keys:
    cells = comparison_cells(comparison)
    scores = column_names(comparison.scores).items()
    names = [name for name in (figure_called(column),) if name in cells[0]] or [
        name for score, name in scores if column.lower() in (score.name.lower(), str(score).lower())
    ]
    if names:
        return [[row[name] for row in cells] for name in names]
    return [[seen.value(row) for row in comparison.rows] for seen in columns_called(column, comparison)]


def _names(comparison: Comparison) -> list[str]:
    return [*comparison_cells(comparison)[0], *(column.head for column in columns_of(comparison))]


def _order(keys: Keys, count: int, descending: bool) -> list[int]:
    """The places of the rows."""
    order = list(range(count))
    for values in reversed(keys):
        known = [place for place in order if not missing(values[place])]
        unknown = [place for place in order if missing(values[place])]
        order = sorted(known, key=values.__getitem__, reverse=descending) + unknown
    return order
