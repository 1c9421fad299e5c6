"""Who does a run: one `ganzoo bench` at a time holds the claim to it, and a dead process holds none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ganzoo.errors import RecordError
from ganzoo.util.text import printable

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
