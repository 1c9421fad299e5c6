"""Progress on stderr: a live bar for each run on a terminal, a few plain lines elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ganzoo.output.console import safe, show_duration, show_score
from ganzoo.records.settings import setting
from ganzoo.runs import Event, RunFinished, RunStarted, Scored, StageChanged, TrainingProgress
from ganzoo.util.streams import say, unfailing_stderr
from ganzoo.util.text import printable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID
    from torch import Tensor

LINES_PER_RUN = 10
LINE_SECONDS = 60
"""Where stderr is no terminal: a plain line for each tenth of a run, and one a minute where a tenth takes longer."""

IMAGES_PER_LINE = 10_000
"""How often a dataset that is being prepared is heard of; a smaller one is done before anyone wonders."""


def say_preparing(done: int, total: int, size: int) -> None:
    """Follows the preparation of a dataset, and says before it what it will take."""
    if total >= IMAGES_PER_LINE and done % IMAGES_PER_LINE == 0:
        say(f"preparing the dataset, {size / 2**20:,.0f} MiB in the cache: {done:,} of {total:,} images")


def say_drawn(batches: Iterable[Tensor], total: int) -> Iterator[Tensor]:
    """Passes batches of images on, and says how many are done as often."""
    done = 0
    for batch in batches:
        yield batch
        before, done = done, done + len(batch)
        if done // IMAGES_PER_LINE > before // IMAGES_PER_LINE and done < total:
            say(f"{done:,} of {total:,} images")


class ProgressDisplay:
    """Follows events: a live bar for each run on a terminal, a few plain lines elsewhere. A context manager."""

    def __init__(self) -> None:
        self.console = Console(file=unfailing_stderr(), highlight=False)
        self.live: Progress | None = None
        # By the id of the run; those that are measured in turn are under way together.
        self.tasks: dict[str, TaskID] = {}
        self.started: dict[str, float] = {}
        self.label = ""
        self.printed = 0.0
        self.last_line = 0.0

    def __enter__(self) -> ProgressDisplay:
        if self.console.is_terminal:
            from rich.progress import BarColumn, Progress, TextColumn

            self.live = Progress(
                TextColumn("{task.description}", table_column=None),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[state]}"),
                console=self.console,
            )
            self.live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self.live is not None:
            self.live.stop()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        match event:
            case RunStarted():
                self.label = f"[{event.index}/{event.total}] {_run_name(event.spec)}"
                self.printed, self.started[event.run_id] = 0.0, time.monotonic()
                if self.live is not None:
                    kimg = setting(event.spec, "kimg") or 1
                    self.tasks[event.run_id] = self.live.add_task(safe(self.label), total=kimg, state="starting")
                else:
                    self._line("started")
            case StageChanged():
                self._update(event.run_id, state=event.stage)
            case TrainingProgress():
                terms = "  ".join(f"{_term_label(name)} {value:.3g}" for name, value in event.terms.items())
                state = (
                    f"{event.kimg:,.1f}/{event.total_kimg:,.1f} kimg  {event.images_per_second:,.0f} images/s  "
                    f"{terms}  {show_duration(event.seconds_left)} left"
                )
                self._update(event.run_id, completed=event.kimg, state=safe(state))
                share = event.kimg / event.total_kimg
                waited = time.monotonic() - self.last_line
                if self.live is None and (share >= self.printed + 1 / LINES_PER_RUN or waited > LINE_SECONDS):
                    self.printed = math.floor(share * LINES_PER_RUN) / LINES_PER_RUN
                    self._line(state)
            case Scored():
                averaged = any(score["ema"] for score in event.scores)
                values = "  ".join(
                    f"{score['metric']} {show_score(score['value'])}"
                    for score in event.scores
                    if score["ema"] == averaged
                )
                if self.live is not None:
                    self._update(event.run_id, state=safe(values))
                else:
                    self._line(f"scored at {event.kimg:,.1f} kimg: {values}")
            case RunFinished():
                self._finish(event)

    def _finish(self, event: RunFinished) -> None:
        record = event.record
        self.label = f"[{event.index}/{event.total}] {_run_name(record.spec)}"
        if event.skipped:
            failed = f"{record.status} already, and not tried again"
            self._say("done before, skipped (--force does it again)" if record.ok else failed)
            return
        seconds = show_duration(time.monotonic() - self.started[event.run_id])
        message = (record.error or {}).get("message", "")
        state = f"done in {seconds}" if record.ok else f"{record.status}: {message}"
        if self.live is not None:
            style = "green" if record.ok else "red"
            self._update(event.run_id, state=f"[{style}]{safe(state)}[/{style}]")
            if record.ok:
                self._update(event.run_id, completed=setting(record.spec, "kimg") or 1)
        else:
            self._line(state)

    def _update(self, run_id: str, **fields: Any) -> None:
        if self.live is not None and run_id in self.tasks:
            self.live.update(self.tasks[run_id], **fields)

    def _say(self, text: str) -> None:
        if self.live is not None:
            self.live.console.print(safe(f"{self.label}: {text}"))
        else:
            self._line(text)

    def _line(self, text: str) -> None:
        self.last_line = time.monotonic()
        say(f"{printable(self.label)}: {printable(text)}")


def _term_label(term: str) -> str:
    phase, _, name = term.partition("/")
    return f"{phase[:1].upper()}.{name}" if phase in ("discriminator", "generator") else term


def _run_name(spec: Mapping[str, Any]) -> str:
    variant, dataset, seed = (setting(spec, name) for name in ("variant", "dataset", "seed"))
    return f"{variant} on {dataset}, seed {seed}"
