"""A wish that a run end early: met at once, or between two steps where a step must not be torn."""

from __future__ import annotations

import _thread
import signal
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
