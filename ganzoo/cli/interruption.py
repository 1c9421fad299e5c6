"""Ctrl-C and other signals that stop a command: how they are met, and what the command says and exits with."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ganzoo.util.streams import print_note

INTERRUPTED = 130
"""The exit code of a command that the user stopped: 128 + SIGINT, as shells have it."""


def say_interrupted(*, without: str = "") -> None:
    """Say how to go on; `without` is an option that the same command must then be given without."""
    again = f"run the same command again without {without}" if without else "run the same command again"
    print_note(f"interrupted; {again} to go on")


@contextmanager
def stopped_by(*names: str) -> Iterator[None]:
    """Meet these signals as Ctrl-C is met, unless they are ignored, as under nohup.

    Does nothing outside of the main thread, where Python sets no handler.
    """
    in_main = threading.current_thread() is threading.main_thread()
    signals = [getattr(signal, name) for name in names if in_main and hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in signals}
    # A handler that was set outside of Python (None) cannot be put back, and is left alone.
    met = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    for number in met:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in met.items():
            signal.signal(number, handler)
