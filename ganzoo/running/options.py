"""How the runs of a plan are carried out, as plain data: what `BenchPlan` asks for is carried out by these rules."""

from __future__ import annotations

from dataclasses import dataclass

from ganzoo.errors import UsageError
from ganzoo.util.options import option
from ganzoo.util.text import printable, split_at_commas

MAY_BE_RETRIED = ("oom", "crashed", "timeout")
"""A run that diverged would do so again, and one that was interrupted was so on purpose."""


@dataclass(frozen=True)
class RunOptions:
    """How runs are carried out; nothing here decides what they give.

    Each field says its option of the command line. A run that takes longer than `timeout` seconds is stopped. `retry`
    names the statuses after which a run is tried again at once, `keep_going=False` ends the plan at the first run that
    fails. A checkpoint is written every `checkpoint_seconds`, and thrown away when its run is done unless
    `keep_checkpoints`. With `force` finished runs are done again from the start; until a run is done again its files
    stay in a folder beside, whose name ends in `.before`.
    """

    timeout: float | None = option(
        "--timeout", default=None, metavar="S", help="stop a run that takes longer, in seconds"
    )
    retry: tuple[str, ...] = option(
        "--retry",
        default=(),
        metavar="LIST",
        help=f"try again, twice, what ends so: of {','.join(MAY_BE_RETRIED)}",
        read=split_at_commas,
    )
    keep_going: bool = option(
        "--keep-going", default=True, help="do the other runs when one fails (default)", negatable=True
    )
    checkpoint_seconds: float = option(
        "--checkpoint-seconds", default=60.0, metavar="S", help="save a run this often (default: {default})"
    )
    keep_checkpoints: bool = option(
        "--discard-checkpoints", default=True, help="throw a run's checkpoint away when it is done"
    )
    force: bool = option("--force", default=False, help="do finished runs again")


DEFAULTS = RunOptions()


def check_run_options(options: RunOptions) -> None:
    """Raise `UsageError` for a status or a number that cannot be."""
    for status in options.retry:
        if status not in MAY_BE_RETRIED:
            raise UsageError(f"--retry {printable(status)}: choose from {', '.join(MAY_BE_RETRIED)}")
    if not options.checkpoint_seconds >= 0:
        raise UsageError(f"--checkpoint-seconds {options.checkpoint_seconds}: give a number from 0")
    if options.timeout is not None and not options.timeout > 0:
        raise UsageError(f"--timeout {options.timeout}: give a number of seconds above 0")
