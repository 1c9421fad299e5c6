"""How things look on a terminal: the console for data, text from strangers made safe, numbers made readable."""

from __future__ import annotations

import io
import math
import os
import sys
from collections.abc import Iterable, Sequence
from itertools import pairwise

from rich.console import Console
from rich.markup import escape

from ganzoo.util.text import printable

PIPED_WIDTH = 200


class DataConsole(Console):
    """Writes to stdout. That the reader has left is for `ganzoo.util.streams` to judge; rich would exit with code 1."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def stdout() -> Console:
    """The console for data. Piped, it is as wide as `COLUMNS` says, or 200."""
    return DataConsole(width=None if sys.stdout.isatty() else _piped_width(), highlight=False)


def paper() -> Console:
    """A console for text that goes to a file: without colours, as wide as a pipe's."""
    return Console(file=io.StringIO(), width=_piped_width(), highlight=False, force_terminal=False, no_color=True)


def print_all(parts: Iterable[object], soft_wrap: bool = False) -> None:
    """Tables and lines to stdout, one after the other."""
    console = stdout()
    for part in parts:
        console.print(part, soft_wrap=soft_wrap)


def _piped_width() -> int:
    columns = os.environ.get("COLUMNS", "")
    return int(columns) if columns.isdecimal() and int(columns) else PIPED_WIDTH


def safe(text: object, limit: int = 500) -> str:
    """Text from a stranger: one printable line of at most `limit` characters, its markup inert."""
    return escape(printable(text, limit))


BLOCKS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float | None], width: int = 24) -> str:
    """A curve in a line of at most `width` characters, from its least value to its most; gaps where there is none.

    A longer curve is cut into as many equal pieces, and each shows its mean.
    """
    edges = [round(place * len(values) / width) for place in range(width + 1)] if len(values) > width else []
    pieces = [values[start:end] for start, end in pairwise(edges)] or [[value] for value in values]
    there = [[value for value in piece if value is not None and not missing(value)] for piece in pieces]
    means = [sum(piece) / len(piece) if piece else None for piece in there]
    known = [mean for mean in means if mean is not None]
    least, span = min(known, default=0.0), max(known, default=0.0) - min(known, default=0.0)
    top = len(BLOCKS) - 1
    return "".join(
        " " if mean is None else BLOCKS[round(top * (mean - least) / span) if span else top // 2] for mean in means
    )


def missing(value: object) -> bool:
    """Whether there is no number."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def show_plain(value: object) -> str:
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
