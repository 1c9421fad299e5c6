"""The distributions of third parties that plugins import, told from the plugins' files without running them."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from ganzoo.registry.sources import Sources, root_spec

KNOWN_OTHERWISE = {"ganzoo", "torch", *sys.stdlib_module_names}
"""Top-level modules whose versions a record has anyway."""


def imported_distributions(sources: Sources, plugins: Iterable[str]) -> dict[str, str | None]:
    """The versions of the distributions that the code of these plugins imports, by the distributions' names.

    They are the versions that are installed now. An import is one as in `ganzoo.registry.sources`, also inside a
    function; what is not installed is left out. Where several distributions share a top-level package, as they do
    `google`, all of them count. Code of plugins is told by its files, and not by a version.
    """
    imported = frozenset().union(*(sources.imports.get(plugin, frozenset()) for plugin in plugins)) - KNOWN_OTHERWISE
    names = [name for name in imported if not _is_of_plugins(name, sources)]
    if not names:
        return {}
    by_import = sources.distributions_by_import
    distributions = {distribution for name in names for distribution in by_import.get(name, ())}
    return {distribution: _version(distribution) for distribution in sorted(filter(None, distributions))}


def _is_of_plugins(root: str, sources: Sources) -> bool:
    """Whether a top-level module is the code of a plugin, as one beside a plugin's file is."""
    spec = root_spec(root)
    if spec is None:
        return False
    files = [Path(folder, "__init__.py") for folder in spec.submodule_search_locations or ()]
    files += [Path(spec.origin)] if spec.has_location and spec.origin else []
    return any(sources.places.hold(root, file.resolve()) for file in files)


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
