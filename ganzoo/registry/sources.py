"""The sha256 of a plugin's source files."""

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
    """The sha256 of a plugin's source and of the modules of its package that it imports, or None without source."""
    files = sorted(_source_files(module))
    if not files:
        return None
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _source_files(module: ModuleType) -> set[Path]:
    """The file of a module, and of the modules of its package that it imports, also indirectly or inside functions."""
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
    """The names in the import statements of a source in `package`: modules, and names that may be submodules."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return  # A file for another version of Python, or one that is never imported.
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            try:
                base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            except ImportError:
                continue  # The relative import goes beyond the top package: it is for type checkers, or in a try.
            yield from (base, *(f"{base}.{alias.name}" for alias in node.names))


def _spec_of(name: str) -> importlib.machinery.ModuleSpec | None:
    """The import spec of a module in a loaded package. Nothing is imported, and other loaded modules do not matter."""
    root, *parts = name.split(".")
    package = sys.modules.get(root)
    spec, folders = getattr(package, "__spec__", None), getattr(package, "__path__", None)
    for part in parts:
        root = f"{root}.{part}"
        # One finder at a time: Python's search needs parent packages without __init__.py to be loaded.
        finders = filter(None, map(pkgutil.get_importer, folders or ()))
        specs = [spec for finder in finders if (spec := finder.find_spec(root))]
        spec = min(specs, key=lambda one: one.loader is None, default=None)
        folders = spec.submodule_search_locations if spec else None
    return spec
