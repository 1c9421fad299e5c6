"""The file that an option such as `-o FILE` names: refused before any work, and written as a whole."""

from __future__ import annotations

from pathlib import Path

from ganzoo.errors import UsageError
from ganzoo.util.files import write_atomically
from ganzoo.util.text import printable


def check_destination(path: Path, *, force: bool) -> None:
    """Raise `UsageError` if `-o` names a folder, a file that exists (unless `force`), or one in no folder."""
    if path.is_dir():
        raise UsageError(f"-o {printable(path)}: is a folder; give the name of a file")
    if path.exists() and not force:
        raise UsageError(f"-o {printable(path)}: exists; choose another file or pass --force")
    check_parent(path)


def check_parent(path: Path) -> None:
    """Raise `UsageError` if what `-o` names would lie in no folder."""
    if not path.parent.is_dir():
        raise UsageError(f"-o {printable(path)}: the folder {printable(path.parent)} does not exist")


def write_destination(path: Path, content: bytes, option: str = "-o") -> None:
    """Write the file that `option` names, atomically. Raises `UsageError` where that cannot be done."""
    try:
        write_atomically(path, lambda stream: stream.write(content))
    except OSError as error:
        raise cannot_write(path, error, option) from error


def cannot_write(path: Path, error: OSError, option: str = "-o") -> UsageError:
    """The error for a file or folder that `option` names and that cannot be written."""
    reason = printable(error.strerror or error)
    return UsageError(f"{option} {printable(path)}: cannot be written: {reason}; choose another place")
