"""Where Python looks for modules: a run's process looks where its bench has looked, so that it finds the same ones."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def absolute_search_path() -> tuple[str, ...]:
    """The search path of this process, with the folders that it names relative to the working folder spelt out."""
    return tuple(dict.fromkeys(os.path.abspath(entry) for entry in sys.path if isinstance(entry, str)))


def search_like(path: Sequence[str]) -> None:
    """Look for modules along `path` first, an answer of `absolute_search_path`, then where this process did already."""
    sys.path[:] = [*path, *(entry for entry in sys.path if entry not in path)]
