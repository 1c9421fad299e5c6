"""The source of a plugin: its files, and the sha256 of them all."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.machinery
import importlib.metadata
import importlib.util
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType


def source_sha256(module: ModuleType) -> str | None:
    """The sha256 of a plugin's source and of the modules of its own package that it imports, or None without source."""
    files = sorted(_source_files(module))
    if not files:
        return None
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _source_files(module: ModuleType) -> set[Path]:
    """The file of a module, and those of its own package that it imports, now or later, directly or not."""
    own_package = module.__name__.partition(".")[0]
    files: set[Path] = set()
    pending = [(Path(getattr(module, "__file__", None) or ""), module.__package__ or "")]
    while pending:
        path, package = pending.pop()
        if path.suffix != ".py" or path in files or not path.is_file():
            continue
        files.add(path)
        for name in _imported_names(path.read_bytes(), package):
            spec = _spec_of(name) if name.partition(".")[0] == own_package else None
            if spec is not None and spec.origin is not None:
                pending.append((Path(spec.origin), spec.parent or ""))
    return files


def _imported_names(source: bytes, package: str) -> Iterator[str]:
    """What a source of `package` names where it imports: modules, and what may be modules or only names in one."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return  # A part that is imported for another Python only, or never.
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            try:
                base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            except ImportError:
                continue  # No package is that high: the module does without, or names it for type checkers only.
            yield from (base, *(f"{base}.{alias.name}" for alias in node.names))


def _spec_of(name: str) -> importlib.machinery.ModuleSpec | None:
    """Where a module of a package that is loaded lies; nothing is imported, and what else is loaded does not matter."""
    root, *parts = name.split(".")
    package = sys.modules.get(root)
    spec, folders = getattr(package, "__spec__", None), getattr(package, "__path__", None)
    for part in parts:
        root = f"{root}.{part}"
        # Asked one by one: Python's own search wants the packages above to be loaded where they have no __init__.py.
        finders = filter(None, map(pkgutil.get_importer, folders or ()))
        found = [spec for finder in finders if (spec := finder.find_spec(root))]
        spec = min(found, key=lambda one: one.loader is None, default=None)
        folders = spec.submodule_search_locations if spec else None
    return spec
