"""Stopping a run or the command early by SIGINT or SIGTERM: at once, or after a part that must not be interrupted."""

from __future__ import annotations

import _thread
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """SIGINT, SIGTERM or `ask` raise `KeyboardInterrupt` in the main thread, once.

    While `deferred` is true nothing is raised; the code checks `asked` and raises when it is ready.
    """

    def __init__(self) -> None:
        self.asked = False
        self.deferred = False

    def listen(self) -> None:
        """Install the handlers. Call it in the main thread."""
        # Also where the signals are ignored, as in a background job of a script.
        signal.signal(signal.SIGINT, self._meet)
        signal.signal(signal.SIGTERM, self._meet)

    def ask(self) -> None:
        """Request the stop, from any thread."""
        _thread.interrupt_main()

    def _meet(self, number: int, frame: FrameType | None) -> None:
        first, self.asked = not self.asked, True
        if first and not self.deferred:
            raise KeyboardInterrupt

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """A part of deferred code that may be interrupted."""
        if self.asked:
            raise KeyboardInterrupt
        self.deferred = False
        try:
            yield
        finally:
            self.deferred = True


STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""The signals that stop a command, those of them that this system has."""


@contextmanager
def held_back() -> Iterator[None]:
    """Delay the signals that stop a command until the block ends; then the first that arrived is raised.

    Does nothing outside of the main thread, where Python runs no handler.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []
    before = {number: signal.getsignal(number) for number in STOPPING}
    # A signal that is ignored, as under nohup, stays ignored; a handler set outside of Python (None) is left alone.
    held = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    for number in held:
        signal.signal(number, lambda number, frame: arrived.append(number))
    try:
        yield
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
        if arrived:
            signal.raise_signal(arrived[0])
