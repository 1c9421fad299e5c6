"""How to carry out the runs of a `BenchPlan`, as plain data: limits, retries, checkpoints."""

from __future__ import annotations

from dataclasses import dataclass

from ganzoo.errors import UsageError
from ganzoo.records.generators import KEEP
from ganzoo.util.options import option
from ganzoo.util.text import printable, split_at_commas

MAY_BE_RETRIED = ("oom", "crashed", "timeout", "disturbed")
"""The statuses that `--retry` accepts: a diverged run would diverge again, an interrupted one was meant to stop."""


@dataclass(frozen=True)
class RunOptions:
    """How runs are carried out; no option here changes what a run computes.

    Each field declares its command-line option. With `wait_until_quiet` each run waits until other processes leave the
    CPU alone; one during whose measurement they used more than `max_disturbance` of it ends as disturbed. With
    `interleave` speeds are measured in turn (see `ganzoo.running.in_turn`). A run that takes longer than `timeout`
    seconds is stopped; in turn, one window of it. `retry` names the statuses after which a run is tried again at once,
    `keep_going=False` ends the plan at the first run that fails. A checkpoint is written every `checkpoint_seconds`,
    and thrown away when its run is done unless `keep_checkpoints`. `keep` says which generators stay: that at the end
    of the budget (`final`), the best by the first metric too (`best`), or one for each evaluation (`all`). With `force`
    finished runs are done again from the start; until a run is done again its files stay in a folder beside, whose
    name ends in `.before`.
    """

    timeout: float | None = option("--timeout", default=None, metavar="S", help="stop a run after S seconds")
    retry: tuple[str, ...] = option(
        "--retry",
        default=(),
        metavar="LIST",
        help=f"retry, up to twice, runs that end as one of {','.join(MAY_BE_RETRIED)}",
        read=split_at_commas,
    )
    keep_going: bool = option(
        "--keep-going", default=True, help="go on with the other runs when one fails (default)", negatable=True
    )
    checkpoint_seconds: float = option(
        "--checkpoint-seconds", default=60.0, metavar="S", help="save a checkpoint every S seconds (default: {default})"
    )
    bounds: bool = option(
        "--bounds",
        default=True,
        help="also score real images, a Gaussian of the pixels and the untrained generator (default)",
        negatable=True,
    )
    keep: str = option(
        "--keep",
        default="final",
        metavar="WHICH",
        help="generators to keep: final, best (that one too), all (one for each evaluation); default: {default}",
    )
    keep_checkpoints: bool = option(
        "--discard-checkpoints", default=True, help="remove the checkpoint of a run when it is done"
    )
    wait_until_quiet: bool = option(
        "--wait-until-quiet", default=False, help="start each run only when other processes leave the CPU alone"
    )
    max_disturbance: float | None = option(
        "--max-disturbance",
        default=None,
        metavar="SHARE",
        help="end a run as disturbed if others used more than SHARE of the CPU (0.05) while it was measured",
    )
    interleave: bool = option(
        "--interleave",
        default=False,
        help="measure the speeds of --throughput-only in turn, window by window, so that a machine that drifts "
        "affects all alike",
    )
    force: bool = option("--force", default=False, help="run finished runs again")


DEFAULTS = RunOptions()


def check_run_options(options: RunOptions) -> None:
    """Raise `UsageError` for an unknown status or a number out of range."""
    for status in options.retry:
        if status not in MAY_BE_RETRIED:
            raise UsageError(f"--retry {printable(status)}: choose from {', '.join(MAY_BE_RETRIED)}")
    if not options.checkpoint_seconds >= 0:
        raise UsageError(f"--checkpoint-seconds {options.checkpoint_seconds}: give a number from 0")
    if options.max_disturbance is not None and not 0 <= options.max_disturbance < 1:
        raise UsageError(f"--max-disturbance {options.max_disturbance}: give a share from 0 to below 1, as in 0.05")
    if options.keep not in KEEP:
        raise UsageError(f"--keep {printable(options.keep)}: choose from {', '.join(KEEP)}")
    if options.timeout is not None and not options.timeout > 0:
        raise UsageError(f"--timeout {options.timeout}: give a number of seconds above 0")
