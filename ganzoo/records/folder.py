"""The files of a run: read its record, move them aside for a new attempt, remove stale ones, claim the run."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ganzoo.errors import RecordError, RecordMissing, RecordUnreadable
from ganzoo.records.checkpoint import CHECKPOINT
from ganzoo.records.store import (
    BEFORE,
    GENERATOR,
    KEPT_GENERATOR,
    RECORD,
    RUN_FILES,
    SAMPLES,
    is_run_file,
    read_record,
)
from ganzoo.runs import RunRecord
from ganzoo.util.files import LINK, put_aside
from ganzoo.util.rights import make_folder, share_with_group, with_owner
from ganzoo.util.text import printable


def known_record(folder: Path, on_note: Callable[[str], None]) -> RunRecord | None:
    """The record of an earlier attempt, or None; renames a broken one.

    Raises `RecordUnreadable` if the file system fails to read it: it may be a good record.
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
    """A stamp that changes when another record replaces the one at `path`; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def lay_aside(folder: Path) -> None:
    """Move the files of a finished run to `RUN.before` in one rename; files that are not ganzoo's stay."""
    _remove_laid_aside(folder)
    before = folder.with_name(folder.name + BEFORE)
    try:
        folder.rename(before)
        folder.mkdir()
        for path in list(before.iterdir()):
            if not is_run_file(path.name):
                path.rename(folder / path.name)
    except OSError as error:
        raise RecordError(
            f"--force: cannot move {printable(folder)} to {printable(before)}: {error.strerror}"
        ) from error


def clear_away(folder: Path, record: RunRecord) -> None:
    """Remove the files that this record makes stale."""
    # A failed run must not show the picture and weights of an earlier attempt.
    stale = [] if record.ok else [SAMPLES, GENERATOR]
    if record.status == "diverged":
        # A retry must start over: from just before the divergence it would be repeated until it happens to pass.
        stale.append(CHECKPOINT)
        remove_kept_generators(folder)
    remove(folder, *stale)
    if record.ok:
        _remove_laid_aside(folder)


def remove(folder: Path, *names: str) -> None:
    """Remove these files, if they exist."""
    for name in names:
        (folder / name).unlink(missing_ok=True)


def remove_kept_generators(folder: Path) -> None:
    """Remove the generators that were kept on the way to the end of the budget."""
    if folder.is_dir():
        remove(folder, *(path.name for path in folder.iterdir() if KEPT_GENERATOR.fullmatch(path.name)))


def _remove_laid_aside(folder: Path) -> None:
    """Remove `RUN.before`, the files of an earlier attempt."""
    before = folder.with_name(folder.name + BEFORE)
    if before.is_dir() and not before.is_symlink():
        remove(before, *RUN_FILES)
        remove_kept_generators(before)
        with contextlib.suppress(OSError):
            before.rmdir()


def make_run_folder(folder: Path) -> None:
    """Create the folder of a run. Raises `RecordError` where it cannot be written to, before anything is trained."""
    try:
        make_folder(folder)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        reason = with_owner(error, folder)
        raise RecordError(
            f"{printable(folder)}: cannot be written to: {reason}; or choose another --results"
        ) from error


def refuse_links(results: Path, *inside: Path) -> None:
    """Raise `RecordError` for a symbolic link below `results` on the way to a path: it may lead out of the folder."""
    for path in inside:
        for place in (path, *path.parents):
            if place == results:
                break
            if place.is_symlink():
                raise RecordError(f"{printable(place)}: is {LINK}; remove it, or put a folder in its place")


CLAIMS = ".claims"
"""The folder of the lock files in a folder of results."""


@contextmanager
def claim(results: Path, run_id: str, *, on_wait: Callable[[], None] | None = None) -> Iterator[bool]:
    """Lock a run for this process for the length of the context; False if another process has locked it.

    With `on_wait`, call it in that case and wait for the lock. The system releases the lock when its holder dies.
    Raises `RecordError` if the file system has no locks, or another user owns it.
    """
    folder = results / CLAIMS
    path = folder / f"{run_id[:16]}.lock"
    refuse_links(results, path)
    try:
        make_folder(folder)
        _make_lock_file(path)
        # No lock by mere existence of a file: that would survive the death of its holder.
        lock = FileLock(path, fallback_to_soft=False)
        taken = _take(lock, wait=False)
        if not taken and on_wait is not None:
            on_wait()
            taken = _take(lock, wait=True)
    except PermissionError as error:
        reason = with_owner(error, path)
        raise RecordError(f"{printable(path)}: cannot be locked: {reason}; or choose another --results") from error
    except (OSError, NotImplementedError) as error:
        raise RecordError(
            f"{printable(folder)}: cannot be locked ({printable(error)}); choose another --results"
        ) from error
    try:
        yield taken
    finally:
        if taken:
            lock.release()


def _make_lock_file(path: Path) -> None:
    """Create a lock file, if it is not there, by the umask and for the group of a shared folder."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        share_with_group(path)


def _take(lock: FileLock, *, wait: bool) -> bool:
    try:
        lock.acquire(timeout=-1 if wait else 0, poll_interval=0.2)
    except Timeout:
        return False
    return True
