"""A wish that a run, or the command, end early: met at once, or later where something must not be torn."""

from __future__ import annotations

import _thread
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """SIGINT, SIGTERM or `ask` make the main thread meet a `KeyboardInterrupt`, once.

    A part that must not be torn is `deferred`: it looks at `asked`, and raises when it is ready.
    """

    def __init__(self) -> None:
        self.asked = False
        self.deferred = False

    def listen(self) -> None:
        """Take over the signals of this process. Its main thread only."""
        # Also where they are ignored, as in a job that a script has put in the background.
        signal.signal(signal.SIGINT, self._meet)
        signal.signal(signal.SIGTERM, self._meet)

    def ask(self) -> None:
        """Wish that the run end, from any thread."""
        _thread.interrupt_main()

    def _meet(self, number: int, frame: FrameType | None) -> None:
        first, self.asked = not self.asked, True
        if first and not self.deferred:
            raise KeyboardInterrupt

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Within what is deferred, a part that may be interrupted."""
        if self.asked:
            raise KeyboardInterrupt
        self.deferred = False
        try:
            yield
        finally:
            self.deferred = True


STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""The signals that a user or a system stops a command with, as far as this one has them."""


@contextmanager
def held_back() -> Iterator[None]:
    """Meet the signals that stop a command when the block is left, and not within it; then the first of them.

    In another thread than the main one nothing is to be held back: Python meets no signal there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []
    before = {number: signal.getsignal(number) for number in STOPPING}
    # One that is ignored, as under nohup, stays so; one that was set outside of Python is left alone.
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
