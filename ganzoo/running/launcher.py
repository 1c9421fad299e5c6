"""Where one run is carried out: in a process of this machine (`ganzoo.running.process`), or on another engine."""

from __future__ import annotations

from typing import Protocol

from ganzoo.running.wire import OnMessage, Outcome
from ganzoo.runs import RunRequest


class Launcher(Protocol):
    """Carries out one run at a time. Implement this to run specs on another engine."""

    def launch(self, request: RunRequest, on_message: OnMessage) -> Outcome:
        """Do the run, pass on its messages as they come, and return its outcome.

        A run that ends without saying its outcome gives one with `status` and `error`; nothing is raised for it. Where
        a `KeyboardInterrupt` was met by asking the run to save itself, raises `RunInterrupted` with what it left.
        """


class RunInterrupted(KeyboardInterrupt):
    """The user stopped a run, which has ended by now; `outcome` is what it left."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__()
        self.outcome = outcome
