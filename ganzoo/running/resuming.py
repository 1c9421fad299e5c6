"""What a checkpoint keeps of a run, and how a run goes on from it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from ganzoo.errors import RecordError, RecordMissing, RecordUnreadable
from ganzoo.records.checkpoint import CHECKPOINT, Checkpoint, read_checkpoint
from ganzoo.running.wire import Note, OnMessage, Outcome
from ganzoo.runs import FileFacts, Protocol, RunRequest, Score, Throughput
from ganzoo.training.assembly import Assembly
from ganzoo.training.loop import TermLog
from ganzoo.training.snapshot import restore
from ganzoo.util.conversion import fault_of
from ganzoo.util.files import put_aside
from ganzoo.util.text import printable


class Kept(TypedDict):
    """What a checkpoint keeps of the outcome; a run that goes on makes the rest again."""

    scores: list[Score]
    protocols: dict[str, Protocol]
    throughput: Throughput
    files: NotRequired[dict[str, FileFacts]]
    """The generators that were kept so far; absent from older checkpoints."""


KEPT = tuple(Kept.__annotations__)


def find_checkpoint(request: RunRequest, folder: Path, emit: OnMessage) -> Checkpoint | None:
    """The checkpoint to go on from: this run's, or that of the run which it continues.

    Raises `RecordUnreadable` where there is one and it cannot be read, which may pass.
    """
    path = folder / CHECKPOINT
    try:
        checkpoint = read_checkpoint(path)
        if checkpoint.run_id == request.run_id and kept_outcome(checkpoint):
            return checkpoint
        fault = f"{printable(path)}: is of another run"
    except RecordMissing:
        fault = ""
    except RecordUnreadable:
        raise
    except RecordError as error:
        fault = str(error)
    if fault:
        put_aside(path)
        emit(Note(f"{fault}; put aside, and the run starts again"))
    if not request.continues:
        return None
    continued = read_checkpoint(Path(request.continues))
    if continued.run_id != request.spec["continues"]:
        raise RecordError(f"{printable(request.continues)}: is of another run than the one to be trained on")
    return continued


def kept_outcome(saved: Checkpoint) -> dict[str, Any]:
    """The parts of the outcome that a checkpoint keeps, by `KEPT`. Raises `RecordError` where it holds other things."""
    kept = saved.state.get("outcome") if isinstance(saved.state, dict) else None
    if not isinstance(kept, dict):
        raise RecordError(f"the checkpoint does not hold a run: it lacks {', '.join(KEPT)}")
    if fault := fault_of(kept, Kept):
        raise RecordError(f"the checkpoint does not hold a run: {fault}")
    return kept


def take_over(outcome: Outcome, saved: Checkpoint, *names: str) -> None:
    """Put these parts of `KEPT` into the outcome."""
    kept = kept_outcome(saved)
    for name in names:
        if name in kept:
            setattr(outcome, name, kept[name])


RESUMED = "resumed: measured by the process that began the run"


def restore_checkpoint(
    saved: Checkpoint, request: RunRequest, assembly: Assembly, outcome: Outcome, emit: OnMessage
) -> TermLog:
    """Put the checkpoint into the networks and optimizers; gives the log of the training so far.

    Puts a checkpoint aside that does not fit, and raises `RecordError`.
    """
    take_over(outcome, saved, "scores", "protocols")
    try:
        log = restore(assembly, saved.tensors, saved.state)
    except RecordError:
        with contextlib.suppress(FileNotFoundError):
            put_aside(Path(request.folder) / CHECKPOINT)
        raise
    result = log.result
    result.resumed_at_kimg.append(result.kimg)
    outcome.training = result.facts()
    if saved.run_id == request.run_id:
        flags = outcome.throughput.get("flags", [])
        outcome.throughput["flags"] = flags if RESUMED in flags else [*flags, RESUMED]
    label = f"{printable(request.spec['variant'])}, seed {request.spec['seed']}"
    emit(Note(f"{label}: goes on at {result.kimg:g} kimg"))
    return log
