"""stdout and stderr: readers may leave before the end, as in `ganzoo list | head`, terminals too; disks may fill up."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, cast

from ganzoo.util.text import printable

STDOUT, STDERR = 1, 2

NOBODY_THERE = (errno.EPIPE, errno.EIO)
"""The reader of a pipe has left, or the terminal is gone. A disk that is full may have room again."""


def print_note(line: str) -> None:
    """One line for the user, on stderr."""
    say(f"ganzoo: {printable(line, 2000)}")


def say(line: str) -> None:
    """Write a line to stderr at once. Where it cannot be written, the work that it tells of goes on in silence."""
    with _ignore_write_errors():
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def unfailing_stderr() -> IO[str]:
    """stderr as a file for rich to write to, which fails as little as `say` does."""
    return cast("IO[str]", _Unfailing(sys.stderr))


class _Unfailing:
    """A stream to stderr that drops what cannot be written."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with _ignore_write_errors():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with _ignore_write_errors():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _ignore_write_errors() -> Iterator[None]:
    """Write to stderr inside of it: what cannot be written is dropped, and all that follows where nobody is there."""
    try:
        yield
    except OSError as error:
        if error.errno in NOBODY_THERE:
            _discard(STDERR)


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """Print data inside of it: where the reader of stdout has left, the rest is skipped, for nothing is wrong."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        _discard(STDOUT)


def settle() -> None:
    """Write out what is left. What cannot be written is dropped, or Python would complain of it again at its end."""
    for stream, descriptor in ((sys.stdout, STDOUT), (sys.stderr, STDERR)):
        try:
            stream.flush()
        except OSError:
            _discard(descriptor)


def _discard(descriptor: int) -> None:
    """Let everything that still goes to `descriptor` vanish, what is in its buffer included."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)
