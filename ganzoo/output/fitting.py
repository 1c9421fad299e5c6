"""Tables as wide as the terminal: no number breaks, and what does not fit beside the rest becomes a table below it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.markup import render
from rich.table import Table

BETWEEN, EDGE = 2, 1
"""Characters behind each column, and before the first."""

NUMBER = re.compile(r"[-+−±~≤(\[]*\d[\d.,:/x%e+-]*[)\],;*]*")
"""A word that means something else when it breaks: `154,945`, `313/313`, `[12.3,`, `1x28x28`."""

LONGEST_WORD = 24
"""A longer word may break, unless it is a number: no table could be made to hold it."""


@dataclass(frozen=True)
class Field:
    """A column of a table: its head and its cells, with rich's markup. With `whole` each cell stays on one line."""

    head: str
    cells: Sequence[str]
    right: bool = False
    whole: bool = False
    style: str = ""

    @property
    def most(self) -> int:
        """The width at which nothing is folded."""
        return max(len(line) for text in (self.head, *self.cells) for line in _plain(text).split("\n"))

    @property
    def least(self) -> int:
        """The width below which a word breaks, or a cell that is to stay on one line."""
        words = (min(len(word), LONGEST_WORD) for word in self._words)
        whole = (len(_plain(cell)) for cell in self.cells if self.whole)
        return max([*words, *whole, self.number, 1])

    @property
    def number(self) -> int:
        """The width below which a number breaks."""
        return max([len(word) for word in self._words if NUMBER.fullmatch(word)], default=1)

    @property
    def _words(self) -> list[str]:
        return [word for text in (self.head, *self.cells) for word in _plain(text).split()]


def fits_width(fields: Sequence[Field], width: int | None) -> bool:
    """Whether a table of these columns needs no more than `width` characters."""
    return width is None or _total([field.least for field in fields]) <= width


def in_pieces(lead: Sequence[Field], rest: Sequence[Field], width: int | None) -> list[list[Field]]:
    """The columns as tables that fit, each with the columns of `lead` before as many others as there is room for."""
    pieces: list[list[Field]] = []
    for field in rest:
        if pieces and fits_width([*pieces[-1], field], width):
            pieces[-1].append(field)
        else:
            pieces.append([*lead, field])
    return pieces or [[*lead]]


def table_of(fields: Sequence[Field], width: int | None, **options: Any) -> Table:
    """A table of these columns, no wider than `width` where they fit into it; `options` are those of rich."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left", caption_justify="left", **options)
    for field, wide in zip(fields, _widths(fields, width), strict=True):
        justify = "right" if field.right else "left"
        table.add_column(field.head, justify=justify, style=field.style, overflow="fold", width=wide)  # type: ignore[arg-type]
    for cells in zip(*(field.cells for field in fields), strict=True):
        table.add_row(*cells)
    return table


def _widths(fields: Sequence[Field], width: int | None) -> list[int]:
    """The widest that fit together: the widest column gives way first. Words break in need, numbers in utter need."""
    widths = [field.most for field in fields]
    for leasts in ([field.least for field in fields], [field.number for field in fields], [1] * len(fields)):
        while width is not None and _total(widths) > width:
            able = [place for place, wide in enumerate(widths) if wide > leasts[place]]
            if not able:
                break
            widths[max(able, key=widths.__getitem__)] -= 1
    return widths


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + BETWEEN * len(widths) + EDGE


def _plain(text: str) -> str:
    return render(text).plain
