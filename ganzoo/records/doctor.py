"""Look a folder of results over: every record, picture, weights file and checkpoint, and what a crash left behind.

Nothing is ever deleted: what is broken can be moved to a folder `quarantine` beside the rest.
"""

from __future__ import annotations

import glob
import math
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ganzoo.errors import RecordError
from ganzoo.records import consistency
from ganzoo.records.checkpoint import CHECKPOINT, verify_checkpoint
from ganzoo.records.folder import FOLDER, claim
from ganzoo.records.store import (
    BEFORE,
    GENERATOR,
    QUARANTINE,
    RECORD,
    RUN_FILES,
    SAMPLE_IMAGES,
    SAMPLES,
    read_content,
    record_of,
)
from ganzoo.runs import RunRecord
from ganzoo.util.files import PUT_ASIDE, begun_file, free_place, sha256_of_file
from ganzoo.util.images import read_grid
from ganzoo.util.tensorfiles import read_header
from ganzoo.util.text import printable

NAMES = "|".join(map(re.escape, RUN_FILES))
OF_A_RUN = re.compile(rf"({NAMES})({re.escape(PUT_ASIDE)}[.\d]*)?")
"""A file of a run, and one that was put aside."""

TRIAL = re.compile(r"\.writable-\d+-\d+")
"""The trial whether a folder can be written to."""

SETTLED_SECONDS = 60
"""A leftover that was written to more recently may be in the works on another machine that shares the folder."""


@dataclass(frozen=True)
class Finding:
    """One fault. `path` is the file it is in, `fix` what `--fix` moves: a run, by its folder, a file, or nothing."""

    path: Path
    what: str
    fix: Path | None


@dataclass(frozen=True)
class Examination:
    """What was looked at in `folder`, and what is wrong with it."""

    folder: Path
    records: int
    checkpoints: int
    findings: Sequence[Finding]


def examine(folder: Path) -> Examination:
    """Look over every run below `folder`. Raises `RecordError` where it is not there."""
    if not folder.is_dir():
        raise RecordError(f"{printable(folder)}: no such folder; run `ganzoo bench` first, or name another")
    findings: list[Finding] = []
    places = list(_places(folder, findings))
    runs = [place for place, files in places if RECORD in files]
    checkpoints = [place / CHECKPOINT for place, files in places if CHECKPOINT in files]
    records: list[RunRecord] = []
    for run in runs:
        found = list(_run_findings(run, records))
        findings += found
    findings += _duplicates(records, broken={finding.fix for finding in findings})
    identities = {record.path.parent: record.run_id for record in records if record.path}
    for path in checkpoints:
        if fault := _checkpoint_fault(path, identities.get(path.parent)):
            findings.append(Finding(path, fault, path))
    for place, files in places:
        findings += _leftovers(place, files)
    return Examination(folder, len(runs), len(checkpoints), findings)


def quarantine(examination: Examination, on_note: Callable[[str], None] = lambda line: None) -> list[tuple[Path, Path]]:
    """Move what the findings say to `quarantine/` in the folder, as it lay there; `(from, to)` of each.

    Of a run move its own files only, and its folder where there is nothing else in it. A run that some `ganzoo bench`
    has claimed stays, with a note. Nothing is overwritten: where a name is taken, a number follows it. Raises
    `RecordError` where something cannot be moved.
    """
    folder, moved = examination.folder, []
    for path in sorted({finding.fix for finding in examination.findings if finding.fix is not None}):
        run = path if os.path.lexists(path / RECORD) else path.parent
        with _claimed(run) as claimed:
            if not claimed:
                on_note(f"{printable(path)} stays where it is: `ganzoo bench` is at work on the run")
                continue
            for part in _parts(path, folder):
                target = free_place(folder / QUARANTINE / part.relative_to(folder))
                try:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    part.rename(target)
                except OSError as error:
                    what = f"{printable(part)} to {printable(target)}"
                    raise RecordError(f"cannot move {what}: {error.strerror}") from error
                moved.append((part, target))
    return moved


def _parts(path: Path, folder: Path) -> list[Path]:
    """What moves for `path`: of a run's folder the files of the run, or all of it where there is nothing else in it."""
    if not os.path.lexists(path / RECORD):
        return [path] if os.path.lexists(path) else []  # It may have lain in a run that has been moved.
    entries = sorted(path.iterdir())
    own = [entry for entry in entries if OF_A_RUN.fullmatch(entry.name)]
    # A folder cannot move into itself.
    return [path] if own == entries and path != folder else own


@contextmanager
def _claimed(run: Path) -> Iterator[bool]:
    """Whether no `ganzoo bench` is at the run in a folder; the claims to it are held for as long as the context lasts.

    A claim is named after the run's id, with the first ten digits of which the folder's name ends.
    """
    run = run.resolve()
    results, begin = run.parent.parent, run.name.removesuffix(BEFORE).rpartition("-")[2]
    with ExitStack() as stack:
        known = list((results / FOLDER).glob(f"{glob.escape(begin)}*.lock"))
        yield all(stack.enter_context(claim(results, lock.stem)) for lock in known)


def _places(folder: Path, findings: list[Finding]) -> Iterator[tuple[Path, list[str]]]:
    """Every folder below, itself included, with its files; links are not followed, nor is what was put aside."""

    def complain(error: OSError) -> None:
        findings.append(Finding(Path(error.filename), f"cannot be read: {printable(error.strerror)}", None))

    for place, folders, files in os.walk(folder, onerror=complain):
        folders[:] = sorted(name for name in folders if name != QUARANTINE)
        yield Path(place), sorted(files)


# --- one run ----------------------------------------------------------------------------------------------------------


def _run_findings(folder: Path, records: list[RunRecord]) -> Iterator[Finding]:
    """What is wrong with the record in `folder` and the files beside it; a record that can be read joins `records`."""
    path = folder / RECORD
    try:
        content = read_content(path)
        record = record_of(content, path)
    except RecordError as error:
        yield Finding(path, str(error).removeprefix(f"{printable(path)}: "), folder)
        return
    records.append(record)
    yield from (Finding(path, what, folder) for what in consistency.faults(content, record))
    yield from (Finding(path, what, None) for what in consistency.doubts(record))
    files = content.get("files")
    # An older record names no file at all.
    if fault := _samples_fault(record, folder / SAMPLES, kept=files is None or SAMPLES in files):
        yield Finding(folder / SAMPLES, fault, folder)
    if os.path.lexists(folder / GENERATOR) and (fault := _generator_fault(record, folder / GENERATOR)):
        yield Finding(folder / GENERATOR, fault, folder / GENERATOR)


def _samples_fault(record: RunRecord, path: Path, kept: bool) -> str | None:
    """What is wrong with the picture of a run that trained to its end; its size follows from the spec.

    Unless it was `kept`, for which the disk may have been too full, it need not be there.
    """
    if not record.ok or not record.spec["kimg"]:
        return None
    if not path.is_file():
        return "is not there, and the run trained to its end" if kept else None
    try:
        read_grid(path, record.spec["image_shape"], SAMPLE_IMAGES)
    except ValueError as error:
        return str(error)
    return _hash_fault(record, path)


def _generator_fault(record: RunRecord, path: Path) -> str | None:
    """What is wrong with the weights, as far as the record tells without the plugin that builds the network."""
    try:
        header = read_header(path)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except ValueError as error:
        return str(error)
    numbers = sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
    learned = record.parameters.get("generator", 0)
    # Buffers come on top of what is learned.
    if numbers < learned:
        return f"holds {numbers:,} numbers, and the generator learns {learned:,}"
    return _hash_fault(record, path)


def _hash_fault(record: RunRecord, path: Path) -> str | None:
    """Whether a file is the one that the run wrote; an older record does not say."""
    try:
        changed = path.name in record.files and sha256_of_file(path) != record.files[path.name]
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return "is damaged or was changed: its sha256 is not that in the record" if changed else None


def _checkpoint_fault(path: Path, run_id: str | None) -> str | None:
    """What is wrong with a checkpoint; `run_id` is that of the record beside it, where there is one."""
    if fault := verify_checkpoint(path):
        return fault
    try:
        found = read_header(path)["__metadata__"]["run_id"]
    except (OSError, ValueError):
        return None  # Its run has ended meanwhile, and thrown it away.
    if run_id in (None, found):
        return None
    return f"is of run {printable(found, 10)}, and the record beside it of {printable(run_id, 10)}"


def _duplicates(records: Sequence[RunRecord], broken: set[Path | None]) -> Iterator[Finding]:
    """One run lies in one place, the first in which nothing else is wrong; what `--force` laid aside may stay."""
    places: dict[str, list[Path]] = {}
    for record in records:
        assert record.path is not None
        if not record.path.parent.name.endswith(BEFORE):
            places.setdefault(record.run_id, []).append(record.path)
    for identity, paths in places.items():
        kept, *others = sorted(paths, key=lambda path: (path.parent in broken, path))
        for path in others:
            yield Finding(path, f"run {printable(identity, 10)} lies in {printable(kept.parent)} too", path.parent)


# --- what a crash left ------------------------------------------------------------------------------------------------


def _leftovers(place: Path, files: Sequence[str]) -> Iterator[Finding]:
    for name in files:
        path = place / name
        if (known := OF_A_RUN.fullmatch(name)) and known[2]:
            yield Finding(path, f"a broken {RUN_FILES[known[1]]} that `ganzoo bench` put aside", path)
        elif begun_file(name) in RUN_FILES or TRIAL.fullmatch(name):
            fix = path if _settled(path) else None
            later = "" if fix else "; somebody may be writing it, look again in a minute"
            yield Finding(path, f"left over from a write that did not end{later}", fix)


def _settled(path: Path) -> bool:
    """Whether no process on this machine has the file open, and none elsewhere seems to write to it."""
    try:
        if time.time() - path.lstat().st_mtime < SETTLED_SECONDS:
            return False
    except OSError:
        return False
    return os.path.realpath(path) not in _open_files()


def _open_files() -> set[str]:
    """The files that processes of this machine have open, as far as one may look."""
    import psutil

    opened: set[str] = set()
    for process in psutil.process_iter():
        try:
            opened |= {entry.path for entry in process.open_files()}
        except (psutil.Error, OSError):
            continue
    return opened
