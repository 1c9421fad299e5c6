"""The size of the cache folder, and clearing it of the files that ganzoo wrote.

Symbolic links are neither counted nor followed nor removed, because ganzoo makes none. A file is removed only if its
name, or the note that `download` leaves beside it, shows that ganzoo wrote it.
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
from ganzoo.util.files import begun_file, read_regular, sha256_of_file

CACHE_FOLDERS = ("datasets", "weights", "references")
"""The folders in the cache: prepared datasets, downloaded weights, features and statistics of real images."""

DATASET_FILES = ("dataset.json", "images.npy", "labels.npy")
HELD_OUT = "held-out"
"""The folder of the images that are held out of training, in that of the others."""

PREPARED_FOLDER = re.compile(r"[a-z0-9-]+-\d+-[0-9a-f]{16}")
"""The folder of a prepared dataset."""

DATASET_FOLDER = re.compile(rf"{PREPARED_FOLDER.pattern}|\.{PREPARED_FOLDER.pattern}\.\w+")
"""The same, or the temporary one of a dataset that is being prepared."""

REFERENCE_FILE = re.compile(r"[a-z0-9-]+-[0-9a-f]{16}-(features|statistics)\.safetensors")
"""Features or statistics of real images."""

IN_THE_MAKING_SECONDS = 60
"""A temporary file or folder younger than this may belong to a process that is still writing it."""


def cache_sizes(cache: Path) -> dict[str, int]:
    """The bytes in each part of the cache."""
    return {part: sum(_size(path) for path in _files_below(cache / part)) for part in CACHE_FOLDERS}


def clear_cache(cache: Path) -> dict[str, int]:
    """Remove the files that ganzoo wrote and return the bytes freed in each part.

    Raises `OSError` where something may not be removed.
    """
    freed = dict.fromkeys(CACHE_FOLDERS, 0)
    prepared = [part for folder in _dataset_folders(cache) for part in (folder / HELD_OUT, folder)]
    files = {
        "datasets": [path for folder in prepared for path in _plain_files(folder) if path.name in DATASET_FILES],
        "weights": _downloads_and_notes(cache / "weights"),
        "references": [path for path in _plain_files(cache / "references") if _is_reference(path)],
    }
    for part, paths in files.items():
        for path in paths:
            freed[part] += _size(path)
            path.unlink(missing_ok=True)
    for folder in prepared:
        # A folder that holds anything else is kept.
        with contextlib.suppress(OSError):
            folder.rmdir()
    return freed


def _dataset_folders(cache: Path) -> Iterator[Path]:
    for path in _entries(cache / "datasets"):
        in_the_making = path.name.startswith(".") and not _is_abandoned(path)
        if DATASET_FOLDER.fullmatch(path.name) and not in_the_making and path.is_dir() and not path.is_symlink():
            yield path


def _downloads_and_notes(folder: Path) -> list[Path]:
    """Downloads that are unchanged, each with its note of the sha256, and unfinished downloads."""
    files = _plain_files(folder)
    removable = [path for path in files if begun_file(path.name) and _is_abandoned(path)]
    for path in files:
        note = path.with_name(path.name + FETCHED)
        if note in files and _noted(note) == sha256_of_file(path).encode():
            removable += [path, note]
    return removable


def _noted(note: Path) -> bytes:
    # Of a file of another kind nothing is the sha256.
    with contextlib.suppress(OSError):
        return read_regular(note, 1 << 10)
    return b""


def _is_reference(path: Path) -> bool:
    begun = begun_file(path.name)
    whole = begun if begun and _is_abandoned(path) else path.name
    return REFERENCE_FILE.fullmatch(whole) is not None


def _is_abandoned(path: Path) -> bool:
    return time.time() - path.lstat().st_mtime >= IN_THE_MAKING_SECONDS


def _entries(folder: Path) -> list[Path]:
    """The entries of a folder; none where it is absent or a symbolic link."""
    return sorted(folder.iterdir()) if folder.is_dir() and not folder.is_symlink() else []


def _plain_files(folder: Path) -> list[Path]:
    return [path for path in _entries(folder) if stat.S_ISREG(path.lstat().st_mode)]


def _files_below(folder: Path) -> Iterator[Path]:
    if not folder.is_symlink():
        for place, _, files in os.walk(folder):
            yield from (Path(place, name) for name in files)


def _size(path: Path) -> int:
    # Another process may remove the file meanwhile: then it takes no room.
    with contextlib.suppress(OSError):
        status = path.lstat()
        return status.st_size if stat.S_ISREG(status.st_mode) else 0
    return 0
