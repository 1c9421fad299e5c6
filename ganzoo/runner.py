"""Run specs to records: each run in a fresh process, whatever happens to it becomes its record, the others go on."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

from ganzoo.errors import RecordError
from ganzoo.execute import RunRequest
from ganzoo.plan import ResolvedPlan
from ganzoo.plugins import ALLOW_LIST, Registry
from ganzoo.records import GENERATOR, RECORD, SAMPLES, read_record, run_folder, run_id_of, write_record
from ganzoo.text import printable
from ganzoo.types import (
    SCHEMA,
    Event,
    RunFinished,
    RunRecord,
    RunSpec,
    RunStarted,
    Scored,
    StageChanged,
    TrainingProgress,
)

TAIL_LINES = 40
"""How much of a failed run's stderr its record keeps."""

SHORT_SPINS = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "10000"}
"""OpenMP's threads spin while they wait. Where anything else wants the cores, a spinning thread keeps out the one it
waits for: one busy process beside a DCGAN on 2 cores took its step from 2500 to 100 images/s, and to 770 with these
settings, which cost some 5 % on an idle machine."""

KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**33)}
"""glibc gives every large block back to the system as soon as it is freed, and a step frees its activations and
gradients each time: the next step then meets a page fault for each 4 KiB. Kept memory made the step of the MLP-GAN 1.2
times as fast on 2 cores, and that of DCGAN at 64 px 1.1 times."""

RUN_ENVIRONMENT = SHORT_SPINS | KEEP_MEMORY
"""What a run's process is started with. The user's own environment wins."""

Message = Mapping[str, Any]


class Launcher(Protocol):
    """Carries out one run somewhere. Implement this to run specs on another engine."""

    def launch(self, request: RunRequest, on_message: Callable[[Message], None]) -> dict[str, Any]:
        """Do the run, pass on its messages as they come, and return the outcome: the fields of a record.

        A run that ends without an outcome gives `status` and `error` instead; nothing is raised for it.
        """


class ProcessLauncher:
    """Runs each spec in a fresh Python process on this machine, so that no run touches another."""

    def launch(self, request: RunRequest, on_message: Callable[[Message], None]) -> dict[str, Any]:
        """Start the process, feed it the request, and follow its messages until it ends."""
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "ganzoo.execute"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=os.name == "posix",
            env=RUN_ENVIRONMENT | os.environ,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        tail: deque[str] = deque(maxlen=TAIL_LINES)
        reader = threading.Thread(target=tail.extend, args=(process.stderr,), daemon=True)
        reader.start()
        outcome: dict[str, Any] | None = None
        try:
            try:
                # stdin stays open: its end tells the run that its parent is gone.
                process.stdin.write(json.dumps(asdict(request)) + "\n")
                process.stdin.flush()
            except BrokenPipeError:
                pass
            for line in process.stdout:
                message = json.loads(line)
                if message.pop("kind") == "outcome":
                    outcome = message
                else:
                    on_message(json.loads(line))
            process.wait()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            reader.join(timeout=5)
            process.stdout.close()
            process.stderr.close()
        if outcome is not None:
            return outcome
        ended = _how_it_ended(process.returncode)
        return {
            "status": "crashed",
            "error": {"type": ended, "message": f"the run's process ended by {ended}", "tail": "".join(tail)},
        }


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def run_plan(
    plan: ResolvedPlan,
    registry: Registry,
    results: Path,
    *,
    plugins: Sequence[str] = (),
    weights: str | None = None,
    weights_sha256: str | None = None,
    force: bool = False,
    launcher: Launcher | None = None,
    on_event: Callable[[Event], None] = lambda event: None,
    on_note: Callable[[str], None] = lambda line: None,
) -> list[RunRecord]:
    """Do every run of the plan that `results` does not hold yet, and return a record for each, in order.

    Raises `RecordError` before anything is trained where `results` cannot be written to. On `KeyboardInterrupt` the
    run in progress is ended and recorded as interrupted, and the exception goes on with the records so far attached
    as `records`.
    """
    launcher = launcher or ProcessLauncher()
    _check_writable(results)

    def tell(event: Event) -> None:
        on_event(event)
        registry.notify(event, on_note)

    records: list[RunRecord] = []
    ended: set[tuple[str, int]] = set()
    for index, planned in enumerate(plan.runs, 1):
        spec = planned.spec
        if (spec.variant, spec.seed) in ended:
            continue
        used = used_plugins(spec, registry)
        run_id = run_id_of(spec, {name: facts["source_sha256"] for name, facts in used.items()}, _versions())
        folder = run_folder(results, spec, run_id)
        finished = None if force else _finished(folder, run_id, on_note)
        if finished is not None:
            records.append(finished)
            tell(RunFinished(run_id, finished, skipped=True, index=index, total=len(plan.runs)))
            if plan.until_it_fits_no_more and not _worth_doubling(finished):
                ended.add((spec.variant, spec.seed))
            continue
        request = RunRequest(
            run_id=run_id,
            spec=spec.to_json(),
            dataset=asdict(plan.dataset),
            folder=str(folder),
            plugins=tuple(plugins),
            weights=weights,
            weights_sha256=weights_sha256,
        )
        base: dict[str, Any] = {"schema": SCHEMA, "run_id": run_id, "spec": spec.to_json()}
        loaded = {"plugins": used, "plugin_allow_list": os.environ.get(ALLOW_LIST), **_versions()}
        try:
            tell(RunStarted(run_id, spec.to_json(), index, len(plan.runs), str(folder)))
            outcome = launcher.launch(request, _Translator(run_id, spec, tell, on_note))
        except KeyboardInterrupt as interrupt:
            message = {"type": "KeyboardInterrupt", "message": "stopped by the user", "tail": ""}
            stopped = RunRecord(**base, status="interrupted", error=message, environment=loaded)
            # With --force there may be a finished record of this run already; it is worth more.
            records.append(_finished(folder, run_id, on_note) or write_record(stopped, folder))
            interrupt.records = records  # type: ignore[attr-defined]
            raise
        outcome["environment"] = {**outcome.get("environment", {}), **loaded}
        if outcome["status"] != "ok":
            # The pictures and weights of an earlier attempt are not this run's.
            for name in (SAMPLES, GENERATOR):
                (folder / name).unlink(missing_ok=True)
        record = write_record(RunRecord(**base | outcome), folder)
        records.append(record)
        tell(RunFinished(run_id, record, skipped=False, index=index, total=len(plan.runs)))
        if plan.until_it_fits_no_more and not _worth_doubling(record):
            ended.add((spec.variant, spec.seed))
    return records


def _worth_doubling(record: RunRecord) -> bool:
    """Whether a sweep goes on to the next batch size: this one fits, and a step fits the time it is measured for."""
    return record.ok and record.throughput["step_seconds"]["median"] < record.spec["throughput_seconds"]


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


def used_plugins(spec: RunSpec, registry: Registry) -> dict[str, dict[str, Any]]:
    """Version and source hash of every plugin that a run draws on."""
    names: list[tuple[Any, str]] = [("architectures", spec.architecture), ("losses", spec.loss)]
    names += [("losses", penalty["name"]) for penalty in spec.penalties]
    names += [("metrics", metric) for metric in spec.metrics]
    names += [("features", spec.features)] if spec.features else []
    plugins = {registry.get(kind, name).plugin for kind, name in names}
    # A pair of the grid is in no plugin, and a dataset's name may carry its argument.
    for kind, name in (
        ("variants", spec.variant),
        ("datasets", spec.dataset),
        ("datasets", spec.dataset.split(":")[0]),
    ):
        plugins |= {offer.plugin for offer in registry.offers[kind] if name in (offer.record.name, offer.qualified)}  # type: ignore[index]
    statuses = {name: registry.status_of(name) for name in sorted(plugins)}
    return {
        name: {"version": status.version, "source_sha256": status.source_sha256} for name, status in statuses.items()
    }


def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in ("ganzoo", "torch")}


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
        probe.unlink(missing_ok=True) if probe.parent.is_dir() else None


def _finished(folder: Path, run_id: str, on_note: Callable[[str], None]) -> RunRecord | None:
    path = folder / RECORD
    if not path.exists():
        return None
    try:
        record = read_record(path)
    except RecordError as error:
        aside = path.with_name(f"{RECORD}.broken")
        path.replace(aside)
        on_note(f"{error}; moved to {printable(aside)}, and the run is done again")
        return None
    return record if record.ok and record.run_id == run_id else None
