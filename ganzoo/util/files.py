"""Files: the cache folder, reads of what strangers may have put there, atomic writes, hashes."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterable, Sequence
from io import BufferedReader
from itertools import chain, count
from pathlib import Path
from typing import BinaryIO

from ganzoo.errors import DataUnavailable, RecordError, RecordMissing, RecordUnreadable
from ganzoo.util.rights import make_folder, share_with_group, with_owner
from ganzoo.util.text import printable

PUT_ASIDE = ".broken"
"""What `put_aside` adds to the name of a file."""


def cache_place() -> Path:
    """The folder of the cache, which need not exist: `GANZOO_CACHE`, else `~/.cache/ganzoo`."""
    base = os.environ.get("GANZOO_CACHE")
    return Path(base) if base else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ganzoo"


def cache_folder(*parts: str) -> Path:
    """The folder for things that can be made again: `GANZOO_CACHE`, else `~/.cache/ganzoo`; created on demand.

    Raises `DataUnavailable` where it cannot be created.
    """
    folder = cache_place().joinpath(*parts)
    try:
        make_folder(folder)
    except OSError as error:
        reason = with_owner(error, folder)
        raise DataUnavailable(
            f"cannot create the cache folder {printable(folder)}: {reason}; set GANZOO_CACHE to a folder you can "
            "write to"
        ) from error
    return folder


# --- what strangers may have put there --------------------------------------------------------------------------------

LINK = "a symbolic link, which is not followed"
NOT_A_PLAIN_FILE = "not a plain file"


class NotRegular(OSError):
    """Not a regular file, or larger than allowed."""


def open_regular(path: Path, *, limit: int | None = None, links: bool = False) -> BufferedReader:
    """Open a regular file of at most `limit` bytes to be read. A pipe would block, and a device has no end.

    A symbolic link may lead to any file of the user's: it is followed only with `links`. Raises `NotRegular` for
    anything else, and `OSError` where it cannot be read.
    """

    def check(status: os.stat_result) -> None:
        if stat.S_ISLNK(status.st_mode):
            raise NotRegular(errno.ELOOP, LINK, str(path))
        if not stat.S_ISREG(status.st_mode):
            raise NotRegular(errno.EINVAL, NOT_A_PLAIN_FILE, str(path))
        if limit is not None and status.st_size > limit:
            raise NotRegular(errno.EFBIG, f"larger than {limit >> 20} MiB", str(path))

    # Opening a pipe must not wait for its other end.
    extra = getattr(os, "O_NONBLOCK", 0) | (0 if links else getattr(os, "O_NOFOLLOW", 0))

    def open_checked(name: str, flags: int) -> int:
        descriptor = os.open(name, flags | extra)
        try:
            check(os.fstat(descriptor))
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    # First by name, for opening a device may do something; then what was opened, which may be another file by now.
    check(path.stat(follow_symlinks=links))
    return open(path, "rb", opener=open_checked)


def read_regular(path: Path, limit: int, *, links: bool = False) -> bytes:
    """The bytes of a regular file of at most `limit` bytes; see `open_regular`, also for what it raises."""
    with open_regular(path, limit=limit, links=links) as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise NotRegular(errno.EFBIG, f"larger than {limit >> 20} MiB", str(path))
    return content


# --- hashes -----------------------------------------------------------------------------------------------------------


def reading_error(path: Path, error: OSError) -> RecordError:
    """The `RecordError` to raise for an `OSError` met while reading a record or checkpoint.

    `RecordMissing` where the file is absent, `RecordError` where it is no regular file, else `RecordUnreadable`.
    """
    kind: type[RecordError] = RecordError
    if not isinstance(error, NotRegular):
        kind = RecordMissing if isinstance(error, FileNotFoundError) else RecordUnreadable
    return kind(f"{printable(path)}: cannot be read: {error.strerror}")


def joint_sha256(hashes: Sequence[str]) -> str:
    """What several things together are known by: the sha256 of their hashes; of one, its own."""
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def sha256_of_file(path: Path, *, links: bool = True) -> str:
    """The sha256 of a regular file, in hexadecimal. Raises `OSError` for anything else: a pipe would never end."""
    with open_regular(path, links=links) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fingerprint_files(paths: Iterable[Path], *, below: Path | None = None) -> str:
    """A short hash of where files lie and in what state they are: another one as soon as one is another file.

    No file is read. The state is size, times, device and inode: an archive may put other files of the same sizes and
    modification times into the same place, and only the time of the inode's change tells. The place is the real path,
    and the path below the folder `below`, which may name a class; without it below the folder that all have in common.
    A link that leads nowhere counts as it is. Raises `OSError` where nothing is there at all.
    """
    files = sorted(paths)
    common = below or os.path.commonpath([path.parent for path in files])
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


def write_atomically(path: Path, write: Callable[[BinaryIO], object], *, shared: bool = False) -> None:
    """Call `write(stream)` on a temporary file beside `path`, fsync it, and move it into place.

    A reader sees the old file or the whole new one; when `write` raises, the temporary file is removed. The umask says
    who may read it; in the cache (`shared`) the group of a shared folder may too, see `share_with_group`. Raises
    `NotRegular` where a device or another thing that is no file would be replaced, also through a link, but for what
    lies in the cache: root may do that to /dev/null.
    """
    if not shared and os.path.exists(path) and not os.path.isfile(path):
        raise NotRegular(errno.EINVAL, NOT_A_PLAIN_FILE, str(path))
    temporary = unique_beside(path, ".part")
    # The system applies the umask itself. No other file is followed or written over.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(temporary, flags, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        if shared:
            share_with_group(temporary)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def unique_beside(path: Path, suffix: str = "") -> Path:
    """A hidden name beside `path` that nothing else has: `.NAME.` and eight random digits."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}{suffix}")


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
