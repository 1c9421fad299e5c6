"""Writes to stdout and stderr that survive a closed pipe (`ganzoo list | head`), a lost terminal and a full disk."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, cast

from ganzoo.util.text import printable

STDOUT, STDERR = 1, 2

STREAMS = {0: "stdin", STDOUT: "stdout", STDERR: "stderr"}
"""The standard streams by their file descriptors."""

READER_GONE = (errno.EPIPE, errno.EIO)
"""Errors for good: the reader of a pipe has left, or the terminal is gone. A full disk (ENOSPC) may have room again."""


def open_streams() -> None:
    """Make stdin, stdout and stderr fit to be used, whatever the caller has left of them; see `open_descriptors`.

    A character that the encoding of a stream lacks is replaced.
    """
    open_descriptors()
    for name, descriptor in (("stdout", STDOUT), ("stderr", STDERR)):
        stream = getattr(sys, name)
        if stream is None:
            stream = os.fdopen(descriptor, "w", encoding="utf-8", closefd=False)
            setattr(sys, name, stream)
        stream.reconfigure(errors="replace")


def open_descriptors() -> None:
    """Make those of the standard streams that are closed (`>&-`, some cron jobs) the null device.

    Else the next file that is opened would take such a number, and what is printed would land in it.
    """
    for descriptor in STREAMS:
        if not is_open(descriptor):
            # The lowest number that is free is this one: those below are open by now.
            os.open(os.devnull, os.O_RDONLY if descriptor == 0 else os.O_WRONLY)


def is_open(descriptor: int) -> bool:
    """Whether a file descriptor leads to anything."""
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def reopen_closed_streams() -> list[str]:
    """Replace those of `sys.stdin`, `stdout` and `stderr` that were closed, and give their names.

    Python's own do not close their descriptors with them. Where stdout is redirected to stderr it stays so.
    """
    anew: dict[int, IO[str]] = {}
    names = []
    for descriptor in (STDERR, STDOUT, 0):
        name = STREAMS[descriptor]
        for place in (f"__{name}__", name):
            stream = getattr(sys, place)
            if stream is None or not getattr(stream, "closed", False):
                continue
            if id(stream) not in anew:
                encoding, mode = getattr(stream, "encoding", None) or "utf-8", "w" if descriptor else "r"
                anew[id(stream)] = os.fdopen(descriptor, mode, encoding=encoding, errors="replace", closefd=False)
                names.append(name)
            setattr(sys, place, anew[id(stream)])
    return list(dict.fromkeys(names))


def print_note(line: str) -> None:
    """One line for the user, on stderr."""
    say(f"ganzoo: {printable(line, 2000)}")


def say(line: str) -> None:
    """Write a line to stderr and flush it. A line that cannot be written is dropped, so that the work goes on."""
    reopen_closed_streams()
    with _ignore_write_errors():
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def unfailing_stderr() -> IO[str]:
    """stderr as a file object that drops what cannot be written, as `say` does; for rich to write to."""
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
    """Drop what the block cannot write to stderr; once the reader is gone, drop all that follows too."""
    try:
        yield
    except OSError as error:
        if error.errno in READER_GONE:
            _discard(STDERR)


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """Skip the rest of the block when the reader of stdout has left, as `head` does; that is no error."""
    try:
        yield
        reopen_closed_streams()
        sys.stdout.flush()
    except BrokenPipeError:
        _discard(STDOUT)


def settle() -> None:
    """Flush stdout and stderr. What cannot be written is dropped, or Python would report it once more at exit."""
    reopen_closed_streams()
    for stream, descriptor in ((sys.stdout, STDOUT), (sys.stderr, STDERR)):
        try:
            stream.flush()
        except OSError:
            _discard(descriptor)


def _discard(descriptor: int) -> None:
    """Point `descriptor` at the null device: what is buffered and what is written later is dropped."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)
