"""Run specs to records: each run is claimed, launched, and its outcome recorded, whatever it is; the others go on."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ganzoo.errors import RecordError, UsageError
from ganzoo.planning.plan import ResolvedPlan
from ganzoo.planning.provenance import INSTALLED, code_of, reproducing_command
from ganzoo.records.checkpoint import CHECKPOINT
from ganzoo.records.folder import claim, clear_away, known_record, lay_aside, remove, stamp_of
from ganzoo.records.store import BEFORE, RECORD, run_folder, run_id_of, write_record
from ganzoo.registry.registry import Registry
from ganzoo.running.process import Launcher, Message, ProcessLauncher
from ganzoo.runs import (
    SCHEMA,
    Event,
    RunFinished,
    RunRecord,
    RunRequest,
    RunSpec,
    RunStarted,
    Scored,
    StageChanged,
    TrainingProgress,
)
from ganzoo.util.files import remove_partial_files
from ganzoo.util.signals import held_back
from ganzoo.util.text import printable

RETRIES = 2
"""How often a run is done again whose status `--retry` names."""


MAY_BE_RETRIED = ("oom", "crashed", "timeout")
"""A run that diverged would do so again, and one that was interrupted was so on purpose."""


@dataclass(frozen=True)
class RunOptions:
    """How runs are carried out; nothing here decides what they give.

    With `force` finished runs are done again from the start; until a run is done again its files stay in a folder
    beside, whose name ends in `.before`. `retry` names the statuses after which a run is tried again at once,
    `keep_going=False` ends the plan at the first run that fails. A checkpoint is written every `checkpoint_seconds`,
    and thrown away when its run is done unless `keep_checkpoints`.
    """

    plugins: tuple[str, ...] = ()
    weights: str | None = None
    weights_sha256: str | None = None
    force: bool = False
    retry: tuple[str, ...] = ()
    keep_going: bool = True
    checkpoint_seconds: float = 60.0
    keep_checkpoints: bool = True


def run_plan(
    plan: ResolvedPlan,
    registry: Registry,
    results: Path,
    options: RunOptions = RunOptions(),
    *,
    launcher: Launcher | None = None,
    on_event: Callable[[Event], None] = lambda event: None,
    on_note: Callable[[str], None] = lambda line: None,
) -> list[RunRecord]:
    """Do every run of the plan that `results` does not hold yet, and return a record for each, in order.

    What another process is doing already is left to it, and its record waited for at the end. Raises `RecordError`
    before anything is trained where `results` cannot be written to, and `RecordUnreadable` where the record of a run is
    there and cannot be read. On `KeyboardInterrupt` the run in progress saves itself and is recorded as interrupted,
    and the exception goes on with the records so far attached as `records`.
    """
    _check_options(options)
    _check_writable(results)

    def tell(event: Event) -> None:
        on_event(event)
        registry.notify(event, on_note)

    bench = _Bench(plan, registry, results, options, launcher or ProcessLauncher(), tell, on_note)
    try:
        bench.carry_out()
    except KeyboardInterrupt as interrupt:
        interrupt.records = bench.records_in_order()  # type: ignore[attr-defined]
        raise
    return bench.records_in_order()


def start_over(
    plan: ResolvedPlan, registry: Registry, results: Path, on_note: Callable[[str], None] = lambda line: None
) -> None:
    """Lay aside what `results` holds of a plan, as `RunOptions.force` does before the first run."""
    _check_writable(results)
    _Bench(plan, registry, results, RunOptions(), ProcessLauncher(), lambda event: None, on_note).start_over()


@dataclass(frozen=True)
class _Run:
    """One run of a plan, counted from 1, and where its results go.

    `code` is what its record says of its code, `stamp` which record was there when the bench began.
    """

    index: int
    spec: RunSpec
    run_id: str
    folder: Path
    continues: str | None
    code: dict[str, Any]
    stamp: tuple[int, int] | None


@dataclass
class _Bench:
    """A plan under way: `records` by the index of their run."""

    plan: ResolvedPlan
    registry: Registry
    results: Path
    options: RunOptions
    launcher: Launcher
    tell: Callable[[Event], None]
    on_note: Callable[[str], None]
    records: dict[int, RunRecord] = field(default_factory=dict)

    def carry_out(self) -> None:
        """Do what nobody else is doing; then see to what others were doing, which by then is done as a rule."""
        runs = list(self._runs())
        if self.options.force:
            self.start_over()
        left: list[_Run] = []
        for run in runs:
            if self._given_up():
                return
            if self._wanted(run.spec) and not self._do(run):
                left.append(run)
        for run in left:
            if self._given_up():
                return
            self._do(run, wait=True)

    def start_over(self) -> None:
        """Lay aside what is there, of all runs at once: without --force the plan then goes on with what is left."""
        finished = 0
        with held_back():
            for run in (each for planned in self._runs() for each in self._and_smaller(planned)):
                with claim(self.results, run.run_id) as claimed:
                    finished += claimed and self._begin_anew(run)
        if finished:
            self.on_note(f"--force: {finished} finished run(s) stay in folders *{BEFORE} until they are done again")

    def _begin_anew(self, run: _Run) -> bool:
        """See to it that a run begins anew; whether it was finished, and is kept beside."""
        known = known_record(run.folder, self.on_note)
        if known is not None and known.ok:
            lay_aside(run.folder)
            return True
        remove(run.folder, CHECKPOINT)
        if known is not None and self._counts(known, run):
            # Nor is it known any more that the batch does not fit.
            remove(run.folder, RECORD)
        return False

    def records_in_order(self) -> list[RunRecord]:
        return [self.records[index] for index in sorted(self.records)]

    def _given_up(self) -> bool:
        return not self.options.keep_going and not all(record.ok for record in self.records.values())

    def _wanted(self, spec: RunSpec) -> bool:
        """A sweep goes on to the next batch size while the last one fits, and a step the time it is measured for."""
        if not self.plan.until_it_fits_no_more:
            return True
        return all(
            record.ok and record.throughput["step_seconds"]["median"] < spec.throughput_seconds
            for record in self.records.values()
            if (record.spec["variant"], record.spec["seed"]) == (spec.variant, spec.seed)
        )

    def _runs(self) -> Iterator[_Run]:
        for index, planned in enumerate(self.plan.runs, 1):
            yield self._run(index, planned.spec, planned.checkpoint)

    def _run(self, index: int, spec: RunSpec, continues: str | None) -> _Run:
        code = code_of(spec, self.registry)
        hashes = {name: facts["source_sha256"] for name, facts in code["plugins"].items()}
        run_id = run_id_of(spec, hashes, {name: code[name] for name in INSTALLED})
        folder = run_folder(self.results, spec, run_id)
        return _Run(index, spec, run_id, folder, continues, code, stamp_of(folder / RECORD))

    def _do(self, run: _Run, *, wait: bool = False) -> bool:
        """Do one run, or find it done; False where another process is at it."""

        def on_wait() -> None:
            self.on_note(f"{printable(run.folder.name)} is being done by another process; waiting for it")

        with claim(self.results, run.run_id, on_wait=on_wait if wait else None) as claimed:
            if not claimed:
                return False
            remove_partial_files(run.folder)
            known = known_record(run.folder, self.on_note)
            if known is not None:
                # Its process was killed, perhaps, right after the record.
                clear_away(run.folder, known)
            if known is not None and (self._counts(known, run) or _done_by_another(known, run)):
                self.records[run.index] = known
                self._finish(run, skipped=True)
            else:
                self._attempt(run)
        if self.plan.shrinks_to_fit and (smaller := self._halved(run)):
            return self._do(smaller, wait=True)
        return True

    def _counts(self, record: RunRecord, run: _Run) -> bool:
        """Whether the run need not be done: it is done, or is known not to fit where that is asked."""
        done = record.ok or (self.plan.shrinks_to_fit and record.status == "oom")
        return done and record.run_id == run.run_id

    def _attempt(self, run: _Run) -> None:
        """Launch until it ends in a way that is not to be tried again, and record how it ended."""
        request = RunRequest(
            run_id=run.run_id,
            spec=run.spec.to_json(),
            dataset=asdict(self.plan.dataset),
            folder=str(run.folder),
            plugins=self.options.plugins,
            weights=self.options.weights,
            weights_sha256=self.options.weights_sha256,
            checkpoint_seconds=self.options.checkpoint_seconds,
            continues=run.continues,
            code=run.code,
        )
        for retries_left in range(RETRIES, -1, -1):
            try:
                total = len(self.plan.runs)
                self.tell(RunStarted(run.run_id, run.spec.to_json(), run.index, total, str(run.folder)))
                outcome = self.launcher.launch(request, _Translator(run.run_id, run.spec, self.tell, self.on_note))
            except KeyboardInterrupt as interrupt:
                outcome = getattr(interrupt, "outcome", None) or dict(INTERRUPTED)
                with held_back():
                    self.records[run.index] = self._record(run, outcome)
                raise
            # A run that has ended is recorded, whoever is in a hurry by now.
            with held_back():
                self.records[run.index] = record = self._record(run, outcome)
            self._finish(run, skipped=False)
            if record.status not in self.options.retry or not retries_left:
                return
            self.on_note(f"{printable(run.folder.name)} is tried again after it ended as {record.status}")

    def _record(self, run: _Run, outcome: dict[str, Any]) -> RunRecord:
        """Write the record; only then is there anything to be removed."""
        outcome["environment"] = {**outcome.get("environment", {}), **run.code}
        base: dict[str, Any] = {
            "schema": SCHEMA,
            "run_id": run.run_id,
            "spec": run.spec.to_json(),
            "command": reproducing_command(self.plan.asked, run.spec),
        }
        record = write_record(RunRecord(**base | outcome), run.folder)
        clear_away(run.folder, record)
        if record.ok and not self.options.keep_checkpoints:
            remove(run.folder, CHECKPOINT)
        return record

    def _finish(self, run: _Run, *, skipped: bool) -> None:
        record, total = self.records[run.index], len(self.plan.runs)
        self.tell(RunFinished(run.run_id, record, skipped=skipped, index=run.index, total=total))

    def _halved(self, run: _Run) -> _Run | None:
        """Where the batch did not fit, the same run with half of it."""
        smaller = self._with_half_the_batch(run)
        if smaller is None or self.records[run.index].status != "oom":
            return None
        size, half = run.spec.recipe.batch_size, smaller.spec.recipe.batch_size
        self.on_note(f"{printable(run.spec.variant)}: batch size {size} does not fit into memory; trying {half}")
        return smaller

    def _and_smaller(self, run: _Run | None) -> Iterator[_Run]:
        """A run, and where its batch may be halved those that may stand in for it."""
        while run is not None:
            yield run
            run = self._with_half_the_batch(run) if self.plan.shrinks_to_fit else None

    def _with_half_the_batch(self, run: _Run) -> _Run | None:
        spec = run.spec
        if spec.recipe.batch_size < 2 * SMALLEST_BATCH:
            return None
        requested = spec.requested_batch_size or spec.recipe.batch_size
        smaller = replace(
            spec, recipe=replace(spec.recipe, batch_size=spec.recipe.batch_size // 2), requested_batch_size=requested
        )
        return self._run(run.index, smaller, run.continues)


def _done_by_another(record: RunRecord, run: _Run) -> bool:
    """Whether another process has come to this record since the bench began; one that was stopped left its run."""
    return record.status != "interrupted" and stamp_of(run.folder / RECORD) != run.stamp


SMALLEST_BATCH = 2
"""BatchNorm in training mode needs two images."""

INTERRUPTED = {
    "status": "interrupted",
    "error": {"type": "KeyboardInterrupt", "message": "stopped by the user", "tail": ""},
}
"""What is left of a run whose launcher left it at that."""


class _Translator:
    """A run's messages to events; the rate is over the time since the last message."""

    def __init__(
        self, run_id: str, spec: RunSpec, tell: Callable[[Event], None], on_note: Callable[[str], None]
    ) -> None:
        self.run_id = run_id
        self.spec = spec
        self.tell = tell
        self.on_note = on_note
        self.last = (0.0, 0.0)

    def __call__(self, message: Message) -> None:
        match message["kind"]:
            case "note":
                self.on_note(message["line"])
            case "stage":
                self.tell(StageChanged(self.run_id, message["stage"]))
            case "scored":
                self.tell(Scored(self.run_id, message["kimg"], message["scores"]))
            case "progress":
                kimg, seconds = message["kimg"], message["seconds"]
                rate = 1000 * (kimg - self.last[0]) / max(1e-9, seconds - self.last[1])
                overall = 1000 * kimg / max(1e-9, seconds)
                self.last = (kimg, seconds)
                left = max(0.0, 1000 * (self.spec.kimg - kimg) / max(1e-9, overall))
                self.tell(TrainingProgress(self.run_id, kimg, self.spec.kimg, rate, left, message["terms"]))


def _check_options(options: RunOptions) -> None:
    for status in options.retry:
        if status not in MAY_BE_RETRIED:
            raise UsageError(f"--retry {printable(status)}: choose from {', '.join(MAY_BE_RETRIED)}")
    if not options.checkpoint_seconds >= 0:
        raise UsageError(f"--checkpoint-seconds {options.checkpoint_seconds}: give a number from 0")


def _check_writable(results: Path) -> None:
    """Fail now rather than after an hour of training."""
    probe = results / f".writable-{os.getpid()}-{time.time_ns()}"
    try:
        results.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"ganzoo")
    except OSError as error:
        reason = error.strerror or str(error)
        raise RecordError(f"--results {printable(results)}: {reason}; choose a folder you can write to") from error
    finally:
        # It may be what the folder does not let one do; the reason is the one above.
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
