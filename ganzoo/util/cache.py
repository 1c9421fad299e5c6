"""The cache folder from outside: how large its parts are, and how to empty it of what ganzoo put there.

Links are neither counted nor followed nor removed: nobody at ganzoo made them. Nor is a file removed that ganzoo cannot
know for its own by its name, or by the note that a download leaves beside it.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from ganzoo.util.download import FETCHED
from ganzoo.util.files import begun_file, sha256_of_file

PARTS = ("datasets", "weights", "references")
"""The folders in the cache: prepared datasets, downloaded weights, features and statistics of real images."""

DATASET_FILES = ("dataset.json", "images.npy", "labels.npy")
DATASET_FOLDER = re.compile(r"[a-z0-9-]+-\d+-[0-9a-f]{16}|\.[a-z0-9-]+-\d+-[0-9a-f]{16}\.\w+")
"""A prepared dataset, and one in the making."""

REFERENCE_FILE = re.compile(r"[a-z0-9-]+-[0-9a-f]{16}-(features|statistics)\.safetensors")
"""Features or statistics of real images."""

IN_THE_MAKING_SECONDS = 60
"""What was begun this recently may be wanted by the process that began it."""


def cache_sizes(cache: Path) -> dict[str, int]:
    """The bytes in each part of the cache."""
    return {part: sum(_size(path) for path in _files_below(cache / part)) for part in PARTS}


def clear_cache(cache: Path) -> dict[str, int]:
    """Remove what ganzoo put there and give the bytes that came free in each part.

    Raises `OSError` where something may not be removed.
    """
    freed = dict.fromkeys(PARTS, 0)
    prepared = list(_dataset_folders(cache))
    files = {
        "datasets": [path for folder in prepared for path in _plain_files(folder) if path.name in DATASET_FILES],
        "weights": _fetched(cache / "weights"),
        "references": [path for path in _plain_files(cache / "references") if _is_reference(path)],
    }
    for part, paths in files.items():
        for path in paths:
            freed[part] += _size(path)
            path.unlink(missing_ok=True)
    for folder in prepared:
        # It stays where somebody keeps something else in it.
        with contextlib.suppress(OSError):
            folder.rmdir()
    return freed


def _dataset_folders(cache: Path) -> Iterator[Path]:
    for path in _entries(cache / "datasets"):
        in_the_making = path.name.startswith(".") and not _left_behind(path)
        if DATASET_FOLDER.fullmatch(path.name) and not in_the_making and path.is_dir() and not path.is_symlink():
            yield path


def _fetched(folder: Path) -> list[Path]:
    """What was downloaded and is as it came, each with the note that says so; and downloads that did not end."""
    files = _plain_files(folder)
    found = [path for path in files if begun_file(path.name) and _left_behind(path)]
    for path in files:
        note = path.with_name(path.name + FETCHED)
        if note in files and note.read_bytes() == sha256_of_file(path).encode():
            found += [path, note]
    return found


def _is_reference(path: Path) -> bool:
    begun = begun_file(path.name)
    whole = begun if begun and _left_behind(path) else path.name
    return REFERENCE_FILE.fullmatch(whole) is not None


def _left_behind(path: Path) -> bool:
    return time.time() - path.lstat().st_mtime >= IN_THE_MAKING_SECONDS


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder, or nothing where it is a link or not there."""
    return sorted(folder.iterdir()) if folder.is_dir() and not folder.is_symlink() else []


def _plain_files(folder: Path) -> list[Path]:
    return [path for path in _entries(folder) if stat.S_ISREG(path.lstat().st_mode)]


def _files_below(folder: Path) -> Iterator[Path]:
    if not folder.is_symlink():
        for place, _, files in os.walk(folder):
            yield from (Path(place, name) for name in files)


def _size(path: Path) -> int:
    # Another process may be at work there: what has gone meanwhile takes no room.
    with contextlib.suppress(OSError):
        status = path.lstat()
        return status.st_size if stat.S_ISREG(status.st_mode) else 0
    return 0
