"""From the messages of a run to the events that observers see."""

from __future__ import annotations

from collections.abc import Callable

from ganzoo.running.wire import Message, Note, Progress, Scores, Stage
from ganzoo.runs import Event, RunSpec, Scored, StageChanged, TrainingProgress

OnEvent = Callable[[Event], None]
OnNote = Callable[[str], None]


class EventRelay:
    """Passes the messages of one run on: notes to `on_note`, all others as events to `tell`."""

    def __init__(self, run_id: str, spec: RunSpec, tell: OnEvent, on_note: OnNote) -> None:
        self.run_id = run_id
        self.spec = spec
        self.tell = tell
        self.on_note = on_note
        self.last = Progress(0.0, 0.0, {})

    def __call__(self, message: Message) -> None:
        match message:
            case Note(line):
                self.on_note(line)
            case Stage(stage):
                self.tell(StageChanged(self.run_id, stage))
            case Scores(kimg, scores):
                self.tell(Scored(self.run_id, kimg, scores))
            case Progress():
                self.tell(self._progress(message))

    def _progress(self, now: Progress) -> TrainingProgress:
        """The rate is over the time since the last message, the time left by the rate over all."""
        rate = 1000 * (now.kimg - self.last.kimg) / max(1e-9, now.seconds - self.last.seconds)
        overall = 1000 * now.kimg / max(1e-9, now.seconds)
        left = max(0.0, 1000 * (self.spec.kimg - now.kimg) / max(1e-9, overall))
        self.last = now
        return TrainingProgress(self.run_id, now.kimg, self.spec.kimg, rate, left, now.terms)
