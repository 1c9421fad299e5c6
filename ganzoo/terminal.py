"""What a person sees: tables on stdout, progress on stderr (rich on a terminal, plain lines elsewhere)."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ganzoo.text import printable
from ganzoo.types import Event, RunFinished, RunStarted, Scored, StageChanged, TrainingProgress

if TYPE_CHECKING:
    import pandas
    from rich.progress import Progress, TaskID

LINES_PER_RUN = 10
LINE_SECONDS = 60
"""Where stderr is no terminal: a plain line for each tenth of a run, and one a minute where a tenth takes longer."""

UNITS = {"fid": "FID", "is": "IS", "kid": "KID"}


def stdout() -> Console:
    """The console for data. Piped, it is as wide as `COLUMNS` says, or 200."""
    width = None if sys.stdout.isatty() else int(os.environ.get("COLUMNS", "0")) or 200
    return Console(width=width, highlight=False)


def safe(text: object, limit: int = 500) -> str:
    """Text from a stranger: one printable line of at most `limit` characters, its markup inert."""
    return escape(printable(text, limit))


def print_note(line: str) -> None:
    """One line for the user, on stderr."""
    sys.stderr.write(f"ganzoo: {printable(line, 2000)}\n")


def simple_table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str | None = None) -> Table:
    """A plain table of text from strangers."""
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(safe(cell) for cell in row))
    return table


def comparison_table(summary: pandas.DataFrame, protocols: Mapping[str, Mapping[str, Any]]) -> Table:
    """A comparison as a table, with its protocols and any failures underneath."""
    scores: list[str] = summary.attrs["scores"]
    shared = {
        name: summary[name].iloc[0]
        for name in ("dataset", "image_size", "kimg", "batch_size", "precision", "hardware")
        if summary[name].nunique() == 1
    }
    title = ", ".join(f"{name.replace('_', ' ')} {_plain(value)}" for name, value in shared.items())
    table = Table(box=box.SIMPLE_HEAD, title=safe(title), title_justify="left", caption_justify="left")
    table.add_column("variant", style="bold", no_wrap=True)
    varying = [
        name
        for name in ("dataset", "image_size", "kimg", "batch_size", "precision", "hardware")
        if summary[name].nunique() > 1
    ]
    for name in varying:
        table.add_column(name.replace("_", " "), overflow="fold")
    for name in scores:
        head, _, protocol = name.partition(" ")
        table.add_column(safe(f"{UNITS.get(head, head)} {protocol}".strip()), justify="right")
    for name in ("images/s", "samples/s", "memory", "updates D/G", "train time", "seeds"):
        table.add_column(name, justify="right")
    for _, row in summary.iterrows():
        cells = [safe(row["variant"]), *(safe(_plain(row[name])) for name in varying)]
        if not row["n"]:
            cells += [f"[red]{safe(row['failed'])}[/red]", *[""] * (len(scores) + 4)]
        else:
            cells += [_with_deviation(row[name], row[f"{name}_sd"], _score) for name in scores]
            cells.append(_with_deviation(row["train_images_per_second"], row["train_images_per_second_sd"], _rate))
            cells.append(_rate(row["sample_images_per_second"]))
            cells.append(_memory(row["peak_memory_bytes"]))
            cells.append(_updates(row["discriminator_updates"], row["generator_updates"]))
            cells.append(_duration(row["train_seconds"]))
        cells.append(f"{row['n']}" + (f" [red]({safe(row['failed'])})[/red]" if row["failed"] and row["n"] else ""))
        table.add_row(*cells)
    lines = [_protocol_line(identity, content) for identity, content in protocols.items()]
    lines += [f"{row['variant']}: {row['error']}" for _, row in summary.iterrows() if isinstance(row["error"], str)]
    table.caption = "\n".join(safe(line) for line in lines)
    return table


def _protocol_line(identity: str, content: Mapping[str, Any]) -> str:
    settings = ", ".join(f"{name} {value}" for name, value in (content.get("settings") or {}).items())
    weights = {True: "EMA generator", False: "raw generator", None: "images"}[content.get("ema")]
    return (
        f"{identity}: {content.get('extractor')} features, {content.get('n_real')} real ({content.get('real_split')}) "
        f"against {content.get('n_fake')} fakes, {weights}" + (f", {settings}" if settings else "")
    )


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _score(value: float) -> str:
    return "–" if _missing(value) else f"{value:.4g}" if abs(value) < 1 else f"{value:.2f}"


def _rate(value: float) -> str:
    return "–" if _missing(value) else f"{value:,.0f}" if value >= 10 else f"{value:.2f}"


def _with_deviation(value: float, deviation: float, show: Callable[[float], str]) -> str:
    return show(value) if _missing(deviation) or _missing(value) else f"{show(value)} ± {show(deviation)}"


def _memory(value: float) -> str:
    return "–" if _missing(value) else f"{value / 2**20:,.0f} MiB"


def _updates(discriminator: float, generator: float) -> str:
    return "–" if _missing(discriminator) else f"{discriminator:,.0f}/{generator:,.0f}"


def _duration(seconds: float) -> str:
    if _missing(seconds):
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class ProgressDisplay:
    """Follows events: a live bar for each run on a terminal, a few plain lines elsewhere. A context manager."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.live: Progress | None = None
        self.task: TaskID | None = None
        self.label = ""
        self.stage = ""
        self.printed = 0.0
        self.started = 0.0
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
                name = f"{event.spec['variant']} on {event.spec['dataset']}, seed {event.spec['seed']}"
                self.label = f"[{event.index}/{event.total}] {name}"
                self.printed, self.started = 0.0, time.monotonic()
                if self.live is not None:
                    kimg = event.spec["kimg"] or 1
                    self.task = self.live.add_task(safe(self.label), total=kimg, state="starting")
                else:
                    self._line("started")
            case StageChanged():
                self.stage = event.stage
                self._update(state=event.stage)
            case TrainingProgress():
                terms = "  ".join(f"{_short(name)} {value:.3g}" for name, value in event.terms.items())
                state = (
                    f"{event.kimg:,.1f}/{event.total_kimg:,.1f} kimg  {event.images_per_second:,.0f} images/s  "
                    f"{terms}  {_duration(event.seconds_left)} left"
                )
                self._update(completed=event.kimg, state=safe(state))
                share = event.kimg / event.total_kimg
                waited = time.monotonic() - self.last_line
                if self.live is None and (share >= self.printed + 1 / LINES_PER_RUN or waited > LINE_SECONDS):
                    self.printed = math.floor(share * LINES_PER_RUN) / LINES_PER_RUN
                    self._line(state)
            case Scored():
                averaged = any(score["ema"] for score in event.scores)
                values = "  ".join(
                    f"{score['metric']} {_score(score['value'])}" for score in event.scores if score["ema"] == averaged
                )
                if self.live is not None:
                    self._update(state=safe(values))
                else:
                    self._line(f"scored at {event.kimg:,.1f} kimg: {values}")
            case RunFinished():
                self._finish(event)

    def _finish(self, event: RunFinished) -> None:
        record = event.record
        if event.skipped:
            spec = record.spec
            name = f"{spec['variant']} on {spec['dataset']}, seed {spec['seed']}"
            self.label = f"[{event.index}/{event.total}] {name}"
            self._say("done before, skipped (--force does it again)")
            return
        seconds = _duration(time.monotonic() - self.started)
        message = (record.error or {}).get("message", "")
        state = f"done in {seconds}" if record.ok else f"{record.status}: {message}"
        if self.live is not None and self.task is not None:
            style = "green" if record.ok else "red"
            self.live.update(self.task, state=f"[{style}]{safe(state)}[/{style}]")
            if record.ok:
                self.live.update(self.task, completed=record.spec["kimg"] or 1)
        else:
            self._line(state)

    def _update(self, **fields: Any) -> None:
        if self.live is not None and self.task is not None:
            self.live.update(self.task, **fields)

    def _say(self, text: str) -> None:
        if self.live is not None:
            self.live.console.print(safe(f"{self.label}: {text}"))
        else:
            self._line(text)

    def _line(self, text: str) -> None:
        self.last_line = time.monotonic()
        sys.stderr.write(f"{printable(self.label)}: {printable(text)}\n")
        sys.stderr.flush()


def _short(term: str) -> str:
    phase, _, name = term.partition("/")
    return f"{phase[:1].upper()}.{name}" if phase in ("discriminator", "generator") else term
