"""Run specs to records: each run is claimed, launched, and its outcome recorded, whatever it is; the others go on."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from ganzoo.errors import RecordError
from ganzoo.planning.plan import ResolvedPlan
from ganzoo.planning.provenance import code_of_scoring, reproducing_command
from ganzoo.records.checkpoint import CHECKPOINT
from ganzoo.records.folder import claim, clear_away, known_record, lay_aside, make_run_folder, remove
from ganzoo.records.store import BEFORE, RECORD, write_record
from ganzoo.registry.registry import Registry
from ganzoo.registry.search_path import absolute_search_path
from ganzoo.running.events import EventRelay, OnEvent, OnNote
from ganzoo.running.identified import IdentifiedRun, RunsOfPlan, is_done_by_another
from ganzoo.running.launcher import Launcher, RunInterrupted
from ganzoo.running.options import DEFAULTS, RunOptions, check_run_options
from ganzoo.running.process import ProcessLauncher
from ganzoo.running.quiet import wait_until_quiet
from ganzoo.running.rescoring import Rescoring, ScoringFailed
from ganzoo.running.wire import Failure, Outcome
from ganzoo.runs import (
    SCHEMA,
    BenchInterrupted,
    Event,
    RunFinished,
    RunRecord,
    RunRequest,
    RunSpec,
    RunStarted,
)
from ganzoo.util.files import remove_partial_files
from ganzoo.util.rights import make_folder, with_owner
from ganzoo.util.signals import held_back
from ganzoo.util.text import printable

RETRIES = 2
"""How often a run is done again whose status `--retry` names."""


def run_plan(
    plan: ResolvedPlan,
    registry: Registry,
    results: Path,
    options: RunOptions = DEFAULTS,
    *,
    launcher: Launcher | None = None,
    on_event: OnEvent = lambda event: None,
    on_note: OnNote = lambda line: None,
) -> list[RunRecord]:
    """Do every run of the plan that `results` does not hold yet, and return a record for each, in order.

    What another process is doing already is left to it, and its record waited for at the end. Raises `UsageError` for
    options that cannot be and `RecordError` where `results` cannot be written to, both before anything is trained, and
    `RecordUnreadable` where the record of a run is there and cannot be read. On `KeyboardInterrupt` the run in progress
    saves itself and is recorded as interrupted; then raises `BenchInterrupted` with the records so far.
    """
    check_run_options(options)
    check_writable(results)
    tell = telling(registry, on_event, on_note)
    bench = PlanUnderWay(plan, registry, results, options, launcher or ProcessLauncher(options.timeout), tell, on_note)
    try:
        bench.run_all()
    except KeyboardInterrupt as interrupt:
        raise BenchInterrupted(bench.records_in_order()) from interrupt
    return bench.records_in_order()


def telling(registry: Registry, on_event: OnEvent, on_note: OnNote) -> OnEvent:
    """A function that gives an event to `on_event`, then to the observers of the registry."""

    def tell(event: Event) -> None:
        on_event(event)
        registry.notify(event, on_note)

    return tell


def start_over(plan: ResolvedPlan, registry: Registry, results: Path, on_note: OnNote = lambda line: None) -> None:
    """Lay aside what `results` holds of a plan, as `RunOptions.force` does before the first run.

    It is done for all runs at once, so that the plan without `force` then goes on with those that are left.
    """
    check_writable(results)
    runs = RunsOfPlan(plan, registry, results)
    finished = 0
    with held_back():
        for run in runs.with_smaller():
            with claim(results, run.run_id) as claimed:
                finished += claimed and _begin_anew(run, runs, on_note)
    if finished:
        on_note(f"--force: {finished} finished run(s) stay in folders *{BEFORE} until they are done again")


def _begin_anew(run: IdentifiedRun, runs: RunsOfPlan, on_note: OnNote) -> bool:
    """Remove what a run would go on from; whether it was finished, and is kept beside."""
    known = known_record(run.folder, on_note)
    if known is not None and known.ok:
        lay_aside(run.folder)
        return True
    remove(run.folder, CHECKPOINT)
    if known is not None and runs.counts(known, run):
        # Whether the batch fits is tried again too.
        remove(run.folder, RECORD)
    return False


@dataclass
class PlanUnderWay:
    """A plan under way: `records` by the index of their run."""

    plan: ResolvedPlan
    registry: Registry
    results: Path
    options: RunOptions
    launcher: Launcher
    tell: OnEvent
    on_note: OnNote
    records: dict[int, RunRecord] = field(default_factory=dict)

    def run_all(self) -> None:
        """Do the runs that no other process is doing; then wait for those others, most of which are done by then."""
        runs = list(self.runs)
        if self.options.force:
            start_over(self.plan, self.registry, self.results, self.on_note)
        left: list[IdentifiedRun] = []
        for run in runs:
            if self.given_up:
                return
            if self._wanted(run.spec) and not self._do(run):
                left.append(run)
        for run in left:
            if self.given_up:
                return
            self._do(run, wait=True)

    def records_in_order(self) -> list[RunRecord]:
        """The records so far, in the order of the plan."""
        return [self.records[index] for index in sorted(self.records)]

    @property
    def runs(self) -> RunsOfPlan:
        """The runs of the plan."""
        return RunsOfPlan(self.plan, self.registry, self.results)

    @property
    def given_up(self) -> bool:
        """Whether a run has failed where that ends the plan."""
        return not self.options.keep_going and not all(record.ok for record in self.records.values())

    def _wanted(self, spec: RunSpec) -> bool:
        """A sweep goes on to the next batch size while the last one fits, and a step the time it is measured for."""
        if not self.plan.sweeps_until_failure:
            return True
        return all(
            record.ok and record.throughput["step_seconds"]["median"] < spec.throughput_seconds
            for record in self.records.values()
            if (record.spec["variant"], record.spec["seed"]) == (spec.variant, spec.seed)
        )

    def _do(self, run: IdentifiedRun, *, wait: bool = False) -> bool:
        """Do one run unless its record is there; False where another process is doing it."""
        with self.claimed(run, wait=wait) as claimed:
            if not claimed:
                return False
            remove_partial_files(run.folder)
            known = known_record(run.folder, self.on_note)
            if known is not None:
                # Its process was killed, perhaps, right after the record.
                clear_away(run.folder, known)
            if known is not None and (self.runs.counts(known, run) or is_done_by_another(known, run)):
                self.records[run.index] = known
                if known.ok:
                    self.records[run.index] = self._with_all_scores(run, known)
                self.finish(run, skipped=True)
            else:
                self._attempt(run)
        if self.records[run.index].status == "oom" and (smaller := self.runs.half_of(run)):
            self._say_halved(run, smaller)
            return self._do(smaller, wait=True)
        return True

    def _with_all_scores(self, run: IdentifiedRun, known: RunRecord) -> RunRecord:
        """The record of a finished run with the scores that the plan asks for and that it lacked.

        Where they cannot be computed, the record as that of a failed run; on disk it stays as it was.
        """
        asked = self.plan.asked
        if asked.eval_every is not None and not self._scored_at(known, run.spec.scoring.evaluate_at_kimg):
            self.on_note(
                f"{printable(run.folder.name)}: --eval-every says nothing of a finished run, which was scored at other "
                "kimg; --force trains it again"
            )
        rescoring = Rescoring(
            self.registry,
            self.plan.dataset,
            self.launcher,
            asked.plugins,
            self.on_note,
            asked.weights,
            asked.weights_sha256,
        )
        try:
            return rescoring.complete(known, run.spec, run.code)
        except ScoringFailed as failed:
            name, error = printable(run.folder.name), failed.outcome.error
            self.on_note(f"{name}: could not be scored: {printable(failed)}; its record stays as it was")
            return replace(known, status=failed.outcome.status, error=asdict(error) if error else None)

    @staticmethod
    def _scored_at(record: RunRecord, points: Sequence[float]) -> bool:
        return list(record.spec["scoring"]["evaluate_at_kimg"]) == list(points)

    def claimed(self, run: IdentifiedRun, *, wait: bool) -> AbstractContextManager[bool]:
        """Lock a run for this process; see `ganzoo.records.folder.claim`."""

        def on_wait() -> None:
            self.on_note(f"{printable(run.folder.name)} is being done by another process; waiting for it")

        return claim(self.results, run.run_id, on_wait=on_wait if wait else None)

    def _attempt(self, run: IdentifiedRun) -> None:
        """Launch until it ends in a way that is not to be tried again, and record how it ended."""
        make_run_folder(run.folder)
        for retries_left in range(RETRIES, -1, -1):
            try:
                outcome = self.launch(run)
            except KeyboardInterrupt as interrupt:
                self.record(run, outcome_of_interrupted(interrupt))
                raise
            self.record(run, outcome)
            self.finish(run, skipped=False)
            if not self.tries_again(run, outcome, retries_left):
                return

    def tries_again(self, run: IdentifiedRun, outcome: Outcome, retries_left: int) -> bool:
        """Whether a run that has ended so is to be tried again, which is said then."""
        again = outcome.status in self.options.retry and retries_left > 0
        if again:
            self.on_note(f"{printable(run.folder.name)} is tried again after it ended as {outcome.status}")
        return again

    def launch(self, run: IdentifiedRun, windows: int | None = None, *, begun: bool = False) -> Outcome:
        """Do a run and give its outcome; with `windows`, time so many windows of its speed.

        That it is about to start is told, unless it has `begun`.
        """
        asked = self.plan.asked
        if self.options.wait_until_quiet:
            wait_until_quiet(self.options.max_disturbance, self.on_note)
        request = RunRequest(
            run_id=run.run_id,
            spec=run.spec.to_json(),
            dataset=asdict(self.plan.dataset),
            folder=str(run.folder),
            plugins=asked.plugins,
            weights=asked.weights,
            weights_sha256=asked.weights_sha256,
            checkpoint_seconds=self.options.checkpoint_seconds,
            continues=run.continues,
            code=run.code,
            search_path=absolute_search_path(),
            max_disturbance=self.options.max_disturbance,
            windows=windows,
            scoring_code=code_of_scoring(run.spec.scoring, self.registry),
            keep=self.options.keep,
            yardsticks=self.options.bounds,
        )
        if not begun:
            self.tell(RunStarted(run.run_id, run.spec.to_json(), run.index, len(self.plan.runs), str(run.folder)))
        return self.launcher.launch(request, EventRelay(run.run_id, run.spec, self.tell, self.on_note))

    def record(self, run: IdentifiedRun, outcome: Outcome) -> None:
        """Write the record; stop signals are held back meanwhile."""
        with held_back():
            self.records[run.index] = self._write_record(run, outcome)

    def _write_record(self, run: IdentifiedRun, outcome: Outcome) -> RunRecord:
        """Write the record first; only then remove what it makes needless."""
        # A process that died has said nothing of its environment.
        outcome.environment = outcome.environment or run.code
        record = RunRecord(
            schema=SCHEMA,
            run_id=run.run_id,
            spec=run.spec.to_json(),
            command=reproducing_command(self.plan.asked_of(run.spec.variant), run.spec),
            **asdict(outcome),
        )
        record = write_record(record, run.folder)
        clear_away(run.folder, record)
        if record.ok and not self.options.keep_checkpoints:
            remove(run.folder, CHECKPOINT)
        return record

    def finish(self, run: IdentifiedRun, *, skipped: bool) -> None:
        """Tell that a run has a record."""
        record, total = self.records[run.index], len(self.plan.runs)
        self.tell(RunFinished(run.run_id, record, skipped=skipped, index=run.index, total=total))

    def _say_halved(self, run: IdentifiedRun, smaller: IdentifiedRun) -> None:
        size, half = run.spec.recipe.batch_size, smaller.spec.recipe.batch_size
        self.on_note(f"{printable(run.spec.variant)}: batch size {size} does not fit into memory; trying {half}")


def outcome_of_interrupted(interrupt: KeyboardInterrupt) -> Outcome:
    """Outcome of an interrupted run, also if it had not started."""
    if isinstance(interrupt, RunInterrupted):
        return interrupt.outcome
    return Outcome().failed("interrupted", Failure("KeyboardInterrupt", "stopped by the user"))


def check_writable(results: Path) -> None:
    """Fail now rather than after an hour of training. Raises `RecordError`."""
    probe = results / f".writable-{os.getpid()}-{time.time_ns()}"
    try:
        make_folder(results)
        with probe.open("xb") as stream:
            stream.write(b"ganzoo")
    except OSError as error:
        reason = with_owner(error, results)
        raise RecordError(f"--results {printable(results)}: {reason}; choose a folder you can write to") from error
    finally:
        # A folder that may not be written to refuses this too; the reason is the one above.
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
