"""The rights of what is written: the umask's, and in the folder of a group the group's; who owns what is in the way."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

from ganzoo.util.text import printable


def make_folder(folder: Path) -> None:
    """Create a folder and those above it that are missing, with the rights of `share_with_group`."""
    if not folder.parent.exists() and folder.parent != folder:
        make_folder(folder.parent)
    try:
        folder.mkdir()
    except OSError:
        if not folder.is_dir():
            raise
    else:
        share_with_group(folder)


def share_with_group(path: Path) -> None:
    """Let the group use what was made in a folder that the group may write to, whatever the umask says.

    It gets the rights that it has to the folder around, a file without that to be run. Not where the two belong to
    different groups, nor in a folder that everyone may write to, such as /tmp.
    """
    around, status = path.parent.stat(), path.stat()
    shared = around.st_mode & stat.S_IWGRP and not around.st_mode & stat.S_IWOTH and around.st_gid == status.st_gid
    if os.name == "posix" and shared:
        mask = stat.S_IRWXG if stat.S_ISDIR(status.st_mode) else stat.S_IRGRP | stat.S_IWGRP
        with contextlib.suppress(OSError):
            path.chmod(stat.S_IMODE(status.st_mode) | around.st_mode & mask)


def with_owner(error: OSError, place: Path) -> str:
    """The reason of an error at `place`; where it is the rights of another user, with the owner and what helps.

    For root's folders no `chmod` is suggested: they are seldom to be shared.
    """
    reason = error.strerror or str(error)
    nearest = next((path for path in (place, *place.parents) if os.path.lexists(path)), place)
    if error.errno not in (errno.EACCES, errno.EPERM) or os.name != "posix":
        return reason
    try:
        owner = nearest.lstat().st_uid
    except OSError:
        return reason
    if owner == os.geteuid():
        return reason
    name, shown = _name_of_user(owner), printable(nearest)
    if owner == 0:
        return f"{reason}: {shown} belongs to {name}"
    return f"{reason}: {shown} belongs to {name}, and `chmod g+w {shown}` by {name} would let its group write there"


def cache_fault(error: OSError, place: Path) -> str:
    """Why something cannot be kept in a folder of the cache, with what helps."""
    own = isinstance(error, PermissionError)
    fix = "set GANZOO_CACHE to a folder of your own" if own else "free space there or set GANZOO_CACHE"
    return f"{with_owner(error, place)}; {'or ' if own else ''}{fix}"


def _name_of_user(number: int) -> str:
    import pwd

    try:
        return printable(pwd.getpwuid(number).pw_name, 80)
    except KeyError:
        return f"user {number}"
