"""What is damaged in the cache: prepared datasets, and features and statistics of real images.

A bench believes none of it: what it needs is made again, or lies in another place where it cannot be replaced.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ganzoo.data.prepared import whole_dataset
from ganzoo.evaluation.features import fault_of_reference
from ganzoo.util.cache import PREPARED_FOLDER, REFERENCE_FILE


def cache_faults(cache: Path) -> Iterator[tuple[Path, str]]:
    """Every damaged thing in a cache, with its fault. All of them are read whole; links are followed."""
    for folder in _entries_called(PREPARED_FOLDER, cache / "datasets"):
        if whole_dataset(folder) is None:
            yield folder, "is damaged: its images and labels do not have the sha256 they came with"
    for path in _entries_called(REFERENCE_FILE, cache / "references"):
        try:
            fault = fault_of_reference(path)
        except OSError as error:
            fault = f"cannot be read: {error.strerror}"
        if fault:
            yield path, fault


def _entries_called(name: re.Pattern[str], folder: Path) -> list[Path]:
    """The entries of a folder with such names; none where it is absent or closed."""
    try:
        return sorted(path for path in folder.iterdir() if name.fullmatch(path.name))
    except OSError:
        return []
