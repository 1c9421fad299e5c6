"""Which check is under way, on stderr: a bar on a terminal, a plain line for each check elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console

from ganzoo.output.console import safe
from ganzoo.util.streams import say, unfailing_stderr
from ganzoo.util.text import printable


def each_shown(subject: str, checks: Sequence[str]) -> Iterator[str]:
    """Gives the names of the checks of a subject one by one, and shows each while the caller works on it.

    On a terminal the bar is gone when all are done, so that what the caller prints then stands alone.
    """
    console = Console(file=unfailing_stderr(), highlight=False)
    if not console.is_terminal:
        for place, check in enumerate(checks, 1):
            say(f"{printable(subject)}: {check} ({place} of {len(checks)})")
            yield check
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as live:
        task = live.add_task(safe(subject), total=len(checks))
        for check in checks:
            live.update(task, description=f"{safe(subject)}: {check}", refresh=True)
            yield check
            live.advance(task)
