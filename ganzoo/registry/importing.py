"""Which plugin is being imported, written down for the case that its import ends the process without a word.

A file in the cache names it, and is locked as long as the process lives. One that is there and not locked was left by a
process that ended meanwhile, by `os._exit`, from C, or killed.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from ganzoo.errors import DataUnavailable
from ganzoo.util.files import cache_folder, cache_place, open_regular

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

MARKER = ".importing-"
"""What the names of these files begin with."""

LONGEST_NAME = 512
"""Bytes of a name in the file, which it is padded to: writing one over another is then a single call."""


class ImportMarker:
    """Names the plugin that is being imported, until it is closed. Does nothing where no such file can be written.

    Nor in the process of a run (`in_run`): its end is in the record.
    """

    def __init__(self, in_run: bool) -> None:
        self._path: Path | None = None
        self._descriptor = -1
        if in_run or fcntl is None:
            return
        with contextlib.suppress(OSError, DataUnavailable, RuntimeError):
            path = cache_folder() / f"{MARKER}{secrets.token_hex(4)}"
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:  # No locks here: nobody could tell whether this process lives.
                os.close(self._descriptor)
                path.unlink(missing_ok=True)
            else:
                self._path = path

    def name(self, plugin: str) -> None:
        """`plugin` is being imported from now on."""
        if self._path is not None:
            with contextlib.suppress(OSError):
                os.pwrite(self._descriptor, os.fsencode(plugin)[:LONGEST_NAME].ljust(LONGEST_NAME, b"\0"), 0)

    def close(self) -> None:
        """Remove the file."""
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
                os.close(self._descriptor)
            self._path = None


def ended_imports() -> dict[str, Path]:
    """The plugins whose import a process did not survive, each with the file that says so; of several one is kept."""
    found: dict[str, Path] = {}
    for path, plugin in _left_behind():
        if plugin and plugin not in found:
            found[plugin] = path
        else:
            with contextlib.suppress(OSError):
                path.unlink()
    return found


def _left_behind() -> Iterator[tuple[Path, str]]:
    if fcntl is None:
        return
    try:
        paths = sorted(cache_place().glob(f"{MARKER}*"))
    except (OSError, RuntimeError):
        return
    for path in paths:
        with contextlib.suppress(OSError), open_regular(path, limit=LONGEST_NAME) as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
            yield path, os.fsdecode(stream.read(LONGEST_NAME).rstrip(b"\0"))
