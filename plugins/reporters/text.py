"""Comparisons as text: CSV, JSON and Markdown, without a newline at the end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ganzoo

MARKUP = "\\|<>*`[]"
"""Characters with a meaning in Markdown or in the HTML within it."""


FORMULA = ("=", "+", "-", "@")
"""A spreadsheet computes a text that begins so."""


def csv(table: Any) -> str:
    """One header line and one line per row, numbers in full; what is missing is empty.

    A text that a spreadsheet would compute gets an apostrophe before it; in the header too, where plugins name scores.
    """
    harmless = inert(plain(table)).map(uncomputed).rename(columns=uncomputed)
    return harmless.to_csv(index=False, lineterminator="\n").rstrip("\n")


def uncomputed(value: Any) -> Any:
    """A cell; an apostrophe before a text that begins like a formula keeps it a text."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def json(table: Any) -> str:
    """An array with an object per row, numbers in full; what is missing is null."""
    return inert(plain(table)).to_json(orient="records", indent=2, double_precision=15, force_ascii=False)


def markdown(table: Any) -> str:
    """A table as GitHub renders it: columns of numbers to the right, four significant digits; missing is a dash."""
    from pandas.api.types import is_numeric_dtype

    table = inert(plain(table))
    lines = [
        [cell(name) for name in table.columns],
        ["---:" if is_numeric_dtype(table[name]) else "---" for name in table.columns],
        *([cell(value) for value in row] for row in table.itertuples(index=False)),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def plain(table: Any) -> Any:
    """The table with a meaningful index turned into columns."""
    return table.reset_index() if any(name is not None for name in table.index.names) else table


def inert(table: Any) -> Any:
    """The table with control characters removed from texts: records come from anyone, escape sequences included."""
    texts = table.map(lambda value: readable(value) if isinstance(value, str) else value)
    return texts.rename(columns=lambda name: readable(str(name)))


def readable(text: str) -> str:
    """One line; what cannot be printed is a space."""
    return "".join(character if character.isprintable() else " " for character in text)


def cell(value: Any) -> str:
    """A value as one Markdown cell."""
    from pandas import isna
    from pandas.api.types import is_scalar

    if is_scalar(value) and isna(value):
        return "–"
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    for character in MARKUP:
        text = text.replace(character, f"\\{character}")
    return text


@ganzoo.hookimpl
def ganzoo_reporters() -> Iterator[ganzoo.Reporter]:
    """`--format csv`, `--format json`, `--format md`."""
    yield ganzoo.Reporter("csv", csv, summary="comma-separated values, for spreadsheets")
    yield ganzoo.Reporter("json", json, summary="an array of objects, for scripts")
    yield ganzoo.Reporter("md", markdown, summary="a Markdown table, for READMEs and issues")
