"""What a record keeps of an error: its type and message, and the last lines of a traceback or of stderr."""

from __future__ import annotations

import traceback

from ganzoo.running.wire import Failure
from ganzoo.util.text import printable

STDERR_LINES = 40
"""How many of the last lines of a failed run's stderr a record keeps."""

TRACEBACK_LINES = 60
"""How many of the last lines of a traceback a record keeps: enough for its head."""

LONGEST_LINE, LONGEST_TAIL = 2000, 65_536
"""How many characters a record keeps of a line, and in all."""


def failure_of(error: BaseException) -> Failure:
    """An exception as a record keeps it, with its traceback."""
    name = printable(type(error).__name__)
    tail = last_lines("".join(traceback.format_exception(error)), TRACEBACK_LINES)
    return Failure(name, printable(error) or name, tail)


def last_lines(text: str, lines: int) -> str:
    """The last lines of a text, as a record keeps them: each is cut, and so is the whole."""
    kept = [line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}…" for line in text.splitlines()[-lines:]]
    return "\n".join(kept)[-LONGEST_TAIL:]
