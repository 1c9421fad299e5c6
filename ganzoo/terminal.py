"""How things look on a terminal: the console for data, text from strangers made safe, numbers made readable."""

from __future__ import annotations

import io
import math
import os
import sys
from typing import Any

from rich.console import Console
from rich.markup import escape

from ganzoo.text import printable

PIPED_WIDTH = 200


class DataConsole(Console):
    """Writes to stdout. That the reader has left is for `ganzoo.streams` to judge; rich would exit with code 1."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def stdout() -> Console:
    """The console for data. Piped, it is as wide as `COLUMNS` says, or 200."""
    return DataConsole(width=None if sys.stdout.isatty() else _piped_width(), highlight=False)


def paper() -> Console:
    """A console for text that goes to a file: without colours, as wide as a pipe's."""
    return Console(file=io.StringIO(), width=_piped_width(), highlight=False, force_terminal=False, no_color=True)


def _piped_width() -> int:
    columns = os.environ.get("COLUMNS", "")
    return int(columns) if columns.isdecimal() and int(columns) else PIPED_WIDTH


def safe(text: object, limit: int = 500) -> str:
    """Text from a stranger: one printable line of at most `limit` characters, its markup inert."""
    return escape(printable(text, limit))


def missing(value: Any) -> bool:
    """Whether there is no number."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def show_plain(value: Any) -> str:
    """A setting."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def show_score(value: float | None) -> str:
    """A score, with four significant digits below 1."""
    return "–" if value is None or missing(value) else f"{value:.4g}" if abs(value) < 1 else f"{value:.2f}"


def show_rate(value: float | None) -> str:
    """Things per second."""
    return "–" if value is None or missing(value) else f"{value:,.0f}" if value >= 10 else f"{value:.2f}"


def show_memory(value: float | None) -> str:
    """Bytes as MiB."""
    return "–" if value is None or missing(value) else f"{value / 2**20:,.0f} MiB"


def show_duration(seconds: float | None) -> str:
    """Minutes and seconds, and hours where there are any."""
    if seconds is None or missing(seconds):
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
