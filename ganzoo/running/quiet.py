"""Waits until other processes leave the machine alone, before a run measures its speed."""

from __future__ import annotations

import time

from ganzoo.machine.meters import BUSY_SHARE, cpu_seconds, share_of_others
from ganzoo.running.events import OnNote

LOOK_SECONDS = 1.0
QUIET_LOOKS = 3
"""So many looks in a row must find the machine quiet: a process that computes pauses now and then."""

NOTE_SECONDS = 60.0
"""How often the user hears what is being waited for."""


def wait_until_quiet(allowed: float | None, on_note: OnNote) -> None:
    """Return as soon as other processes have used at most the share `allowed` of the CPU for `QUIET_LOOKS` looks.

    `allowed` is `BUSY_SHARE` unless given, from which on a measurement is flagged.
    """
    limit = BUSY_SHARE if allowed is None else allowed
    quiet, said = 0, -NOTE_SECONDS
    while quiet < QUIET_LOOKS:
        share = others_now()
        quiet = quiet + 1 if share <= limit else 0
        if not quiet and time.monotonic() - said > NOTE_SECONDS:
            said = time.monotonic()
            on_note(f"waiting until the machine is quiet: other processes use {share:.0%} of the CPU")


def others_now() -> float:
    """The share of the CPU that other processes use now, for `LOOK_SECONDS`."""
    since, (busy, ours) = time.monotonic(), cpu_seconds()
    time.sleep(LOOK_SECONDS)
    busy_after, ours_after = cpu_seconds()
    return share_of_others(busy_after - busy, ours_after - ours, time.monotonic() - since)
