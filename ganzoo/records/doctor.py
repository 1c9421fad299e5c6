"""Examine a folder of results: every record, picture, weights file and checkpoint, and leftovers of a crash.

Nothing is ever deleted: `--fix` moves what is broken to a folder `quarantine` beside the rest.
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
from ganzoo.records.folder import CLAIMS, claim, refuse_links
from ganzoo.records.store import (
    BEFORE,
    GENERATOR,
    KEPT_GENERATOR,
    QUARANTINE,
    RECORD,
    RUN_FILES,
    SAMPLE_IMAGES,
    SAMPLES,
    is_run_file,
    links_among,
    read_content,
    record_of,
)
from ganzoo.runs import LARGEST_FIGURE, RunRecord
from ganzoo.util.files import LINK, PUT_ASIDE, begun_file, free_place, sha256_of_file
from ganzoo.util.images import read_grid
from ganzoo.util.rights import make_folder
from ganzoo.util.tensorfiles import count_absurd, read_header
from ganzoo.util.text import printable

RUN_FILE_NAMES = "|".join(map(re.escape, RUN_FILES))
RUN_FILE = re.compile(rf"({RUN_FILE_NAMES}|{KEPT_GENERATOR.pattern})({re.escape(PUT_ASIDE)}[.\d]*)?")
"""The name of a file of a run, or of a broken one that was put aside."""

WRITE_TEST = re.compile(r"\.writable-\d+-\d+")
"""The file by which `ganzoo bench` tests whether a folder is writable."""

SETTLED_SECONDS = 60
"""Another machine that shares the folder may still be writing a leftover that is younger than this."""


@dataclass(frozen=True)
class Finding:
    """A fault in the file `path`. `fix` is what `--fix` moves: the folder of a run, a file, or None for nothing."""

    path: Path
    what: str
    fix: Path | None


@dataclass(frozen=True)
class Examination:
    """The result of examining `folder`: how much was examined, and every fault."""

    folder: Path
    records: int
    checkpoints: int
    findings: Sequence[Finding]


def examine(folder: Path) -> Examination:
    """Examine every run below `folder`. Raises `RecordError` if the folder does not exist."""
    if not folder.is_dir():
        raise RecordError(f"{printable(folder)}: no such folder; run `ganzoo bench` first, or name another")
    findings: list[Finding] = []
    places = list(_folders_below(folder, findings))
    runs = [place for place, files in places if RECORD in files]
    checkpoints = [place / CHECKPOINT for place, files in places if CHECKPOINT in files]
    records: list[RunRecord] = []
    for run in runs:
        findings += _run_findings(run, records)
    findings += _duplicates(records, broken={finding.fix for finding in findings})
    identities = {record.path.parent: record.run_id for record in records if record.path}
    for path in checkpoints:
        if fault := _checkpoint_fault(path, identities.get(path.parent)):
            findings.append(Finding(path, fault, path))
    for place, files in places:
        findings += _leftovers(place, files)
    return Examination(folder, len(runs), len(checkpoints), findings)


def quarantine(examination: Examination, on_note: Callable[[str], None] = lambda line: None) -> list[tuple[Path, Path]]:
    """Move what is broken to `quarantine/` in the folder, under its relative path; return `(from, to)` of each move.

    Of a run only ganzoo's files move, and the whole folder if it holds nothing else. A run that a `ganzoo bench` has
    claimed stays, with a note. Nothing is overwritten: if a name is taken, a number is appended. Raises `RecordError`
    if something cannot be moved, or would leave the folder by a symbolic link.
    """
    folder, moved = examination.folder, []
    for path in sorted({finding.fix for finding in examination.findings if finding.fix is not None}):
        run = path if os.path.lexists(path / RECORD) else path.parent
        with _claimed(run) as claimed:
            if not claimed:
                on_note(f"{printable(path)} stays where it is: `ganzoo bench` is at work on the run")
                continue
            for part in _paths_to_move(path, folder):
                target = free_place(folder / QUARANTINE / part.relative_to(folder))
                refuse_links(folder, target)
                try:
                    make_folder(target.parent)
                    part.rename(target)
                except OSError as error:
                    what = f"{printable(part)} to {printable(target)}"
                    raise RecordError(f"cannot move {what}: {error.strerror}") from error
                moved.append((part, target))
    return moved


def _paths_to_move(path: Path, folder: Path) -> list[Path]:
    """What moves for `path`: of a run's folder ganzoo's files, or the folder itself if it holds nothing else."""
    if not os.path.lexists(path / RECORD):
        return [path] if os.path.lexists(path) else []  # Its run may have moved already.
    entries = sorted(path.iterdir())
    of_run = [entry for entry in entries if RUN_FILE.fullmatch(entry.name)]
    # A folder cannot move into itself.
    return [path] if of_run == entries and path != folder else of_run


@contextmanager
def _claimed(run: Path) -> Iterator[bool]:
    """Claim the run in a folder for the length of the context; False if a `ganzoo bench` has claimed it.

    A claim is named after the run's id; the folder's name ends with the first ten digits of the id.
    """
    run = run.resolve()
    results, begin = run.parent.parent, run.name.removesuffix(BEFORE).rpartition("-")[2]
    with ExitStack() as stack:
        locks = list((results / CLAIMS).glob(f"{glob.escape(begin)}*.lock"))
        yield all(stack.enter_context(claim(results, lock.stem)) for lock in locks)


def _folders_below(folder: Path, findings: list[Finding]) -> Iterator[tuple[Path, list[str]]]:
    """Every folder below `folder`, and itself, with its files; names links, follows none, and skips the quarantine."""

    def complain(error: OSError) -> None:
        findings.append(
            Finding(Path(error.filename), f"cannot be read: {printable(error.strerror)}; make it readable", None)
        )

    for place, folders, files in os.walk(folder, onerror=complain):
        findings += [
            Finding(path, f"is {LINK}; put what it leads to in its place", None) for path in links_among(folders, place)
        ]
        folders[:] = sorted(name for name in folders if name != QUARANTINE)
        yield Path(place), sorted(files)


# --- one run ----------------------------------------------------------------------------------------------------------


def _run_findings(folder: Path, records: list[RunRecord]) -> Iterator[Finding]:
    """The faults of the record in `folder` and of the files beside it; appends a readable record to `records`."""
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
    # A record before `files` names none, but its run wrote the picture.
    if fault := _samples_fault(record, folder / SAMPLES, kept=files is None or SAMPLES in files):
        yield Finding(folder / SAMPLES, fault, folder)
    generators = (name for name in sorted(os.listdir(folder)) if name == GENERATOR or KEPT_GENERATOR.fullmatch(name))
    for weights in (folder / name for name in generators):
        if fault := _generator_fault(record, weights):
            yield Finding(weights, fault, weights)
        elif record.ok and (absurd := count_absurd(weights, LARGEST_FIGURE)):
            what = (
                f"holds {absurd:,} numbers that are not finite or beyond {LARGEST_FIGURE:g}: the run has diverged, and"
            )
            yield Finding(weights, f"{what} its scores are those of empty images", folder)


def _samples_fault(record: RunRecord, path: Path, kept: bool) -> str | None:
    """The fault of the picture of a run that trained to its end; its size follows from the spec.

    It may be absent unless it was `kept`: the disk may have been full.
    """
    if not record.ok or not record.spec["kimg"]:
        return None
    if not os.path.lexists(path):
        return "is not there, and the run trained to its end" if kept else None
    try:
        read_grid(path, record.spec["image_shape"], SAMPLE_IMAGES)
    except ValueError as error:
        return str(error)
    return _hash_fault(record, path)


def _generator_fault(record: RunRecord, path: Path) -> str | None:
    """The fault of the weights, as far as it shows without the plugin that builds the network."""
    try:
        header = read_header(path)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except ValueError as error:
        return str(error)
    numbers = sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
    learned = record.parameters.get("generator", 0)
    # The file holds buffers besides the learned parameters.
    if numbers < learned:
        return f"holds {numbers:,} numbers, and the generator learns {learned:,}"
    return _hash_fault(record, path)


def _hash_fault(record: RunRecord, path: Path) -> str | None:
    """The fault of a file that differs from the one that the run wrote; None if an older record has no hash."""
    try:
        facts = record.files.get(path.name)
        changed = facts is not None and sha256_of_file(path, links=False) != facts["sha256"]
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return "is damaged or was changed: its sha256 is not that in the record" if changed else None


def _checkpoint_fault(path: Path, run_id: str | None) -> str | None:
    """The fault of a checkpoint; `run_id` is that of the record beside it, None if there is no record."""
    if fault := verify_checkpoint(path):
        return fault
    try:
        written_by = read_header(path)["__metadata__"]["run_id"]
    except (OSError, ValueError):
        return None  # Its run has ended meanwhile and removed it.
    if run_id in (None, written_by):
        return None
    return f"is of run {printable(written_by, 10)}, and the record beside it of {printable(run_id, 10)}"


def _duplicates(records: Sequence[RunRecord], broken: set[Path | None]) -> Iterator[Finding]:
    """All records of one run but the first without another fault; what `--force` moved to `.before` is no duplicate."""
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
        if (match := RUN_FILE.fullmatch(name)) and match[2]:
            yield Finding(
                path, f"a broken {RUN_FILES.get(match[1], RUN_FILES[GENERATOR])} that `ganzoo bench` put aside", path
            )
        elif ((begun := begun_file(name)) and is_run_file(begun)) or WRITE_TEST.fullmatch(name):
            fix = path if _settled(path) else None
            later = "" if fix else "; a process may still be writing it, try again in a minute"
            yield Finding(path, f"left over from a write that did not finish{later}", fix)


def _settled(path: Path) -> bool:
    """Whether no process on this machine has the file open, and it is too old to be written on another."""
    try:
        if time.time() - path.lstat().st_mtime < SETTLED_SECONDS:
            return False
    except OSError:
        return False
    return os.path.realpath(path) not in _open_files()


def _open_files() -> set[str]:
    """The files that processes of this machine have open, as far as this user may see."""
    import psutil

    opened: set[str] = set()
    for process in psutil.process_iter():
        try:
            opened |= {entry.path for entry in process.open_files()}
        except (psutil.Error, OSError):
            continue
    return opened
