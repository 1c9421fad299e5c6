"""Speeds measured in turn: round after round over the runs, a window of each, so that drift affects all of them alike.

A machine that grows slower, by heat or by what else it does, makes whatever is measured last look slow. Here each round
times one window of every run, in a fresh process as ever, and every other round goes the other way around. A run's
record holds the windows of all rounds, and which runs took turns with it; of two such runs the ratio of speeds is
taken from pairs of windows of one round (`ganzoo.comparing.pairs`).
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from ganzoo.machine.timing import WINDOWS
from ganzoo.planning.plan import ResolvedPlan
from ganzoo.records.folder import known_record
from ganzoo.registry.registry import Registry
from ganzoo.running.events import OnEvent, OnNote
from ganzoo.running.identified import IdentifiedRun
from ganzoo.running.launcher import Launcher
from ganzoo.running.options import RunOptions, check_run_options
from ganzoo.running.process import ProcessLauncher
from ganzoo.running.rounds import throughput_of_rounds
from ganzoo.running.runner import (
    RETRIES,
    PlanUnderWay,
    check_writable,
    outcome_of_interrupted,
    start_over,
    telling,
)
from ganzoo.running.wire import Outcome
from ganzoo.runs import BenchInterrupted, RunRecord

ROUNDS = WINDOWS


def run_in_turn(
    parts: Sequence[tuple[ResolvedPlan, OnEvent]],
    registry: Registry,
    results: Path,
    options: RunOptions,
    *,
    launcher: Launcher | None = None,
    on_note: OnNote = lambda line: None,
) -> list[RunRecord]:
    """Measure the speeds of all runs of these plans in turn, and return a record for each, in order.

    Each plan comes with who hears of its events. Where `results` holds records of just these runs from one such
    measurement, nothing is done; else all are measured, those that were measured alone or in part included. A run that
    fails is recorded and drops out. Raises what `run_plan` does; what was interrupted is measured anew another time.
    """
    check_run_options(options)
    check_writable(results)
    if options.force:
        for plan, _ in parts:
            start_over(plan, registry, results, on_note)
    launcher = launcher or ProcessLauncher(options.timeout)
    plans = [
        PlanUnderWay(plan, registry, results, options, launcher, telling(registry, on_event, on_note), on_note)
        for plan, on_event in parts
    ]
    turns = {run.run_id: _Turn(plan, run) for plan in plans for run in plan.runs}
    session = _Session(list(turns.values()), on_note)
    try:
        with ExitStack() as claims:
            # In one order everywhere, so that two of these never wait for each other.
            for turn in sorted(turns.values(), key=lambda turn: turn.run.run_id):
                claims.enter_context(turn.plan.claimed(turn.run, wait=True))
            session.measure()
    except KeyboardInterrupt as interrupt:
        raise BenchInterrupted(_records(plans)) from interrupt
    return _records(plans)


def _records(plans: Iterable[PlanUnderWay]) -> list[RunRecord]:
    return [record for plan in plans for record in plan.records_in_order()]


@dataclass
class _Turn:
    """A run of a plan, and the outcome of each round so far; it is `out` once it has failed."""

    plan: PlanUnderWay
    run: IdentifiedRun
    rounds: list[Outcome] = field(default_factory=list)
    begun: bool = False
    out: bool = False

    def take(self) -> None:
        """Time one window; a failure is recorded unless it is to be tried again, and then succeeds."""
        for retries_left in range(RETRIES, -1, -1):
            begun, self.begun = self.begun, True
            outcome = self.plan.launch(self.run, windows=1, begun=begun)
            if outcome.status == "ok":
                self.rounds.append(outcome)
                return
            if not self.plan.tries_again(self.run, outcome, retries_left):
                break
        self.out = True
        self.plan.record(self.run, outcome)
        self.plan.finish(self.run, skipped=False)

    def finish(self, others: Sequence[str], session: str) -> None:
        """Record the windows of all rounds."""
        outcome = self.rounds[0]
        outcome.throughput = throughput_of_rounds([each.throughput for each in self.rounds])
        outcome.throughput |= {"in_turn_with": list(others), "in_turn_session": session}
        self.plan.record(self.run, outcome)
        self.plan.finish(self.run, skipped=False)


@dataclass
class _Session:
    """One measurement of runs in turn."""

    turns: Sequence[_Turn]
    on_note: OnNote

    def measure(self) -> None:
        """Measure all, unless all are measured already."""
        known = [known_record(turn.run.folder, self.on_note) for turn in self.turns]
        if _are_of_one_session(known):
            for turn, record in zip(self.turns, known, strict=True):
                assert record is not None
                turn.plan.records[turn.run.index] = record
                turn.plan.finish(turn.run, skipped=True)
            return
        for number in range(ROUNDS):
            left = [turn for turn in self.turns if not turn.out]
            self.on_note(f"--interleave: round {number + 1} of {ROUNDS}, {len(left)} runs")
            for turn in left if number % 2 == 0 else reversed(left):
                self._take(turn)
                if turn.plan.given_up:
                    return
        done = [turn for turn in self.turns if not turn.out]
        session = uuid.uuid4().hex
        for turn in done:
            turn.finish(sorted(other.run.run_id for other in done if other is not turn), session)

    def _take(self, turn: _Turn) -> None:
        try:
            turn.take()
        except KeyboardInterrupt as interrupt:
            known, left = known_record(turn.run.folder, self.on_note), outcome_of_interrupted(interrupt)
            # A run that had just ended has one window, which is no measurement.
            if left.status != "ok" and (known is None or not known.ok):
                turn.plan.record(turn.run, left)
            raise


def _are_of_one_session(records: Sequence[RunRecord | None]) -> bool:
    """Whether these are whole records of runs that took turns with each other, and with no others."""
    there = [record for record in records if record is not None and record.ok]
    ids = {record.run_id for record in there}
    sessions = {record.throughput.get("in_turn_session") for record in there}
    return (
        len(there) == len(records)
        and len(sessions) == 1
        and None not in sessions
        and all(set(record.throughput.get("in_turn_with", ())) == ids - {record.run_id} for record in there)
    )
