"""Files: the cache folder, bounded reads, atomic writes, hashes."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterable
from itertools import chain, count
from pathlib import Path
from typing import BinaryIO

from ganzoo.errors import DataUnavailable, RecordError, RecordMissing, RecordUnreadable
from ganzoo.util.text import printable

PUT_ASIDE = ".broken"
"""What `put_aside` adds to the name of a file."""


def cache_folder(*parts: str) -> Path:
    """The folder for things that can be made again: `GANZOO_CACHE`, else `~/.cache/ganzoo`; created on demand.

    Raises `DataUnavailable` where it cannot be created.
    """
    base = os.environ.get("GANZOO_CACHE")
    root = Path(base) if base else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ganzoo"
    folder = root.joinpath(*parts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataUnavailable(
            f"cannot create the cache folder {folder}: {error.strerror}; set GANZOO_CACHE to a folder you can write to"
        ) from error
    return folder


class NotRegular(OSError):
    """Not a regular file, or larger than allowed."""


def read_regular(path: Path, limit: int) -> bytes:
    """The bytes of a regular file of at most `limit` bytes. Reading a pipe could block, and a device has no end.

    Raises `NotRegular` for anything else, and `OSError` where it cannot be read.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise NotRegular(errno.EINVAL, "not a plain file", str(path))
    if status.st_size > limit:
        raise NotRegular(errno.EFBIG, f"larger than {limit >> 20} MiB", str(path))
    return path.read_bytes()


def reading_error(path: Path, error: OSError) -> RecordError:
    """The `RecordError` to raise for an `OSError` met while reading a record or checkpoint.

    `RecordMissing` where the file is absent, `RecordError` where it is no regular file, else `RecordUnreadable`.
    """
    kind: type[RecordError] = RecordError
    if not isinstance(error, NotRegular):
        kind = RecordMissing if isinstance(error, FileNotFoundError) else RecordUnreadable
    return kind(f"{printable(path)}: cannot be read: {error.strerror}")


def sha256_of_file(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fingerprint_files(paths: Iterable[Path]) -> str:
    """A short hash of where files lie and in what state they are: another one as soon as one is another file.

    No file is read. The state is size, times, device and inode: an archive may put other files of the same sizes and
    modification times into the same place, and only the time of the inode's change tells. The place is the real path,
    and the path below the common folder, which may name a class. A link that leads nowhere counts as it is. Raises
    `OSError` where nothing is there at all.
    """
    files = sorted(paths)
    common = os.path.commonpath([path.parent for path in files])
    real_folders: dict[Path, str] = {}
    digest = hashlib.sha256()
    for path in files:
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            place = os.path.realpath(path)
            with contextlib.suppress(OSError):
                status = path.stat()
        else:
            folder = path.parent
            if folder not in real_folders:
                real_folders[folder] = os.path.realpath(folder)
            place = os.path.join(real_folders[folder], path.name)
        state = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_dev, status.st_ino)
        # As the system has them: a name need not be UTF-8.
        names = (os.fsencode(place), os.fsencode(path.relative_to(common)))
        digest.update(repr((names, state)).encode())
    return digest.hexdigest()[:16]


BEGUN = re.compile(r"\.(.+)\.\w{8}\.part")
"""The name of a temporary file of `write_atomically`; group 1 is the name of the file it becomes."""


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Call `write(stream)` on a temporary file beside `path`, fsync it, and move it into place.

    A reader sees the old file or the whole new one; when `write` raises, the temporary file is removed.
    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    """fsync a folder, so that a new name in it survives a power cut; where the system allows it."""
    if os.name == "posix":
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def put_aside(path: Path) -> Path:
    """Rename an unusable file to `NAME.broken`, so that the next attempt does not meet it; returns the new path.

    Nothing is overwritten: the second is called `.broken.2`.
    """
    return path.rename(free_place(path.with_name(path.name + PUT_ASIDE)))


def free_place(path: Path) -> Path:
    """`path` if nothing is there, else `path.2`, `path.3`, …: the first that is free."""
    numbered = (path.with_name(f"{path.name}.{number}") for number in count(2))
    return next(place for place in chain([path], numbered) if not os.path.lexists(place))


def begun_file(name: str) -> str | None:
    """The final name of the file whose temporary file of `write_atomically` is called `name`; None for other names."""
    begun = BEGUN.fullmatch(name)
    return begun and begun[1]


def remove_partial_files(folder: Path) -> None:
    """Remove the temporary files that `write_atomically` leaves when its process is killed. Nobody may be writing."""
    for path in folder.glob(".*.part"):
        if begun_file(path.name):
            with contextlib.suppress(OSError):
                path.unlink()
