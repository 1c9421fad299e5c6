"""stdout and stderr, whose readers may leave before the end, as in `ganzoo list | head`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ganzoo.text import printable

STDOUT, STDERR = 1, 2


def print_note(line: str) -> None:
    """One line for the user, on stderr."""
    say(f"ganzoo: {printable(line, 2000)}")


def say(line: str) -> None:
    """Write a line to stderr at once. Where its reader has left, the work that it tells of goes on in silence."""
    try:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
    except BrokenPipeError:
        _discard(STDERR)


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """Print data inside of it: where the reader of stdout has left, the rest is skipped, for nothing is wrong."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        _discard(STDOUT)


def settle_stdout() -> None:
    """Write out what is left. What cannot be written is dropped, or Python would complain of it again at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        _discard(STDOUT)


def _discard(descriptor: int) -> None:
    """Let everything that still goes to `descriptor` vanish, what is in its buffer included."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)
