"""The files in a run's folder: which are known, which are laid aside for a new attempt, and when they go."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ganzoo.errors import RecordError, RecordMissing, RecordUnreadable
from ganzoo.records.checkpoint import CHECKPOINT
from ganzoo.records.store import BEFORE, GENERATOR, RECORD, RUN_FILES, SAMPLES, read_record
from ganzoo.runs import RunRecord
from ganzoo.util.files import put_aside
from ganzoo.util.text import printable


def known_record(folder: Path, on_note: Callable[[str], None]) -> RunRecord | None:
    """The record that an earlier attempt left; one that is broken is put aside.

    Raises `RecordUnreadable` where it may well be good.
    """
    path = folder / RECORD
    try:
        return read_record(path)
    except RecordMissing:
        return None
    except RecordUnreadable as error:
        raise RecordUnreadable(f"{error}; make it readable and run the same command again") from error
    except RecordError as error:
        on_note(f"{error}; moved to {printable(put_aside(path))}, and the run is done again")
        return None


def stamp_of(path: Path) -> tuple[int, int] | None:
    """What tells one record at this place from the next, or None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def lay_aside(folder: Path) -> None:
    """Move a finished run's files to the folder beside it, all at once; what others have put there stays."""
    _remove_laid_aside(folder)
    before = folder.with_name(folder.name + BEFORE)
    try:
        folder.rename(before)
        folder.mkdir()
        for path in list(before.iterdir()):
            if path.name not in RUN_FILES:
                path.rename(folder / path.name)
    except OSError as error:
        raise RecordError(
            f"--force: cannot move {printable(folder)} to {printable(before)}: {error.strerror}"
        ) from error


def clear_away(folder: Path, record: RunRecord) -> None:
    """Remove what is not to be used beside this record, nor any more."""
    # The pictures and weights of an earlier attempt are not those of a run that failed.
    stale = [] if record.ok else [SAMPLES, GENERATOR]
    if record.status == "diverged":
        # It must not be tried from just before until it happens to go well.
        stale.append(CHECKPOINT)
    remove(folder, *stale)
    if record.ok:
        _remove_laid_aside(folder)


def remove(folder: Path, *names: str) -> None:
    """Remove these files, those that are there."""
    for name in names:
        (folder / name).unlink(missing_ok=True)


def _remove_laid_aside(folder: Path) -> None:
    """Remove what was laid aside of a run that is done again."""
    before = folder.with_name(folder.name + BEFORE)
    if before.is_dir():
        remove(before, *RUN_FILES)
        with contextlib.suppress(OSError):
            before.rmdir()


FOLDER = ".claims"


@contextmanager
def claim(results: Path, run_id: str, *, on_wait: Callable[[], None] | None = None) -> Iterator[bool]:
    """Whether the run is this process's to do, for as long as the context lasts.

    Where another process holds it the answer is no; with `on_wait` it is called, and the claim waited for. The system
    itself gives the lock back when its holder dies. Raises `RecordError` where the file system has no locks.
    """
    folder = results / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A lock that is only a file which exists would be held by the dead too.
        lock = FileLock(folder / f"{run_id[:16]}.lock", fallback_to_soft=False)
        taken = _take(lock, wait=False)
        if not taken and on_wait is not None:
            on_wait()
            taken = _take(lock, wait=True)
    except (OSError, NotImplementedError) as error:
        raise RecordError(
            f"{printable(folder)}: cannot be locked ({printable(error)}); choose another --results"
        ) from error
    try:
        yield taken
    finally:
        if taken:
            lock.release()


def _take(lock: FileLock, *, wait: bool) -> bool:
    try:
        lock.acquire(timeout=-1 if wait else 0, poll_interval=0.2)
    except Timeout:
        return False
    return True
