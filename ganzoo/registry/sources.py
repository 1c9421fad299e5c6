"""The code of a plugin: the files that it is made of, told without running them, and one hash of all of them.

It is the plugin's module and what that imports, also inside functions, from its own package, from the folder of a
plugin that `--plugin` names, and from the packages of other plugins; and so on from there. Where a package imports by
names that are not written out, all of its .py files are taken. Of ganzoo it is `LIBRARY`, whose parts end up in
networks and losses; the rest of it, and other people's libraries, are told by their versions
(`ganzoo.registry.distributions`).
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.machinery
import importlib.metadata
import importlib.util
import os
import pkgutil
import sys
import sysconfig
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from types import ModuleType

from ganzoo.util.files import read_regular, sha256_of_file

FILE_MODULE = "ganzoo_plugin_"
"""What the module name of a plugin that is a file begins with."""

LIBRARY = ("ganzoo.losses",)

LARGEST_SOURCE = 64 << 20
"""Bytes of a Python file; a larger one is refused before it is read."""

DYNAMIC = {
    *("import_module", "__import__", "exec_module", "load_module", "spec_from_file_location", "SourceFileLoader"),
    *("walk_packages", "iter_modules", "resolve_name", "run_path", "run_module", "exec"),
}
"""Functions that load code by a name or a path that they are given."""


@dataclass(frozen=True)
class Places:
    """Where the code of plugins lies.

    `plugins` are their packages, or their files where they are single files. From each of `folders` Python imports
    modules and packages of the user's own: they are the folders around plugins that are not installed.
    """

    plugins: frozenset[Path] = frozenset()
    folders: frozenset[Path] = frozenset()

    def __or__(self, other: Places) -> Places:
        return Places(self.plugins | other.plugins, self.folders | other.folders)

    def hold(self, module: str, file: Path) -> bool:
        """Whether `file`, which Python imports as `module`, is code of a plugin."""
        root = module.partition(".")[0]
        if root == __package__.partition(".")[0]:
            return False
        return any(file == place or _lies_in(file, place) for place in self.plugins) or any(
            _lies_in(file, folder) and file.relative_to(folder).parts[0] in (root, f"{root}{file.suffix}")
            for folder in self.folders
        )


def _lies_in(file: Path, folder: Path) -> bool:
    """Whether an absolute path begins with another; `folder in file.parents` makes a path of each parent first."""
    return str(file).startswith(f"{folder}{os.sep}")


def places_of_module(name: str, *, installed: bool) -> Places:
    """The places of the plugin that is the module `name`; where it is not installed, with the folder around it."""
    root = name.partition(".")[0]
    spec = root_spec(root)
    if spec is None:
        return Places()
    if spec.submodule_search_locations is None:
        paths = [_resolved(spec.origin)] if spec.has_location and spec.origin else []
    else:
        paths = [_resolved(folder) for folder in spec.submodule_search_locations]
    return Places(frozenset(paths), frozenset() if installed else _folders(paths))


def places_of_file(path: Path) -> Places:
    """The places of a plugin that is a file."""
    return Places(frozenset({path}), _folders([path]))


def _folders(paths: Iterable[Path]) -> frozenset[Path]:
    """The folders around, without those into which Python or an installer puts everybody's modules."""
    shared = {Path(path).resolve() for path in sysconfig.get_paths().values()}
    return frozenset(
        path.parent
        for path in paths
        if path.parent not in shared and path.parent.name not in ("site-packages", "dist-packages")
    )


@dataclass(frozen=True)
class Code:
    """The code of a plugin: its files by the names of their modules, none where it has no source.

    `imports` has the top-level modules that they import, those of the plugin itself included.
    """

    files: Mapping[str, Path] = field(default_factory=dict)
    imports: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Sources:
    """Of each plugin, by its name, the files and the top-level modules that they import; where plugins' code lies."""

    places: Places = Places()
    files: dict[str, frozenset[Path]] = field(default_factory=dict)
    imports: dict[str, frozenset[str]] = field(default_factory=dict)

    @cached_property
    def distributions_by_import(self) -> Mapping[str, Sequence[str]]:
        """The distributions behind each top-level module that is installed.

        To find out takes a look at all that is installed, for which no start of a command should wait.
        """
        return importlib.metadata.packages_distributions()

    def loaded_beside(self, modules_before: Collection[str]) -> list[str]:
        """The files of plugins' code that were loaded since `modules_before`, and are no plugin's by these `files`."""
        known = frozenset().union(*self.files.values())
        found = set()
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if name not in modules_before and isinstance(file, str):
                path = Path(file).resolve()
                if path not in known and self.places.hold(name, path):
                    found.add(str(path))
        return sorted(found)


@dataclass(frozen=True)
class _Part:
    """A file of a plugin: `name` is its module's, and relative imports in it start from `package`."""

    name: str
    file: Path
    package: str


def code_behind(module: ModuleType, places: Places) -> Code:
    """The code of the plugin that is `module`."""
    file = Path(getattr(module, "__file__", None) or "").resolve()
    if module.__name__.startswith(FILE_MODULE):
        # Its module is named after the folder it lies in.
        pending = [_Part(file.name, file, "")]
    else:
        pending = [_Part(module.__name__, file, module.__package__ or ""), *_imported_parts(module.__name__, places)]
    files: dict[str, Path] = {}
    imports: set[str] = set()
    while pending:
        part = pending.pop()
        if part.name in files or not part.file.is_file():
            continue
        files[part.name] = part.file
        if part.file.suffix != ".py" or part.name in LIBRARY:
            continue
        names, dynamic = imports_of(read_regular(part.file, LARGEST_SOURCE, links=True), part.package)
        for name in names:
            imports.add(name.partition(".")[0])
            pending += _imported(name, places)
        if dynamic:
            pending += _whole_package(part.name.partition(".")[0])
    return Code(files, frozenset(imports))


def source_sha256(files: Mapping[str, Path]) -> str | None:
    """The sha256 of the files of a plugin's `Code`, wherever the files lie; None where there are none."""
    if not files:
        return None
    digest = hashlib.sha256()
    for name, file in sorted(files.items()):
        digest.update(f"{name}\0{sha256_of_file(file)}\n".encode())
    return digest.hexdigest()


def _imported(name: str, places: Places) -> Iterator[_Part]:
    """What an import of `name` runs; of `package.*` all of it, for its `__all__` may name modules."""
    base = name.removesuffix(".*")
    yield from (parts := list(_imported_parts(base, places)))
    if name != base and any(part.name == base and part.file.stem == "__init__" for part in parts):
        yield from _whole_package(base.partition(".")[0])


def _imported_parts(name: str, places: Places) -> Iterator[_Part]:
    """What an import of `name` runs of the code of plugins: packages have an `__init__.py` on the way to a module."""
    for module, spec in _specs(name):
        if not spec.has_location or spec.origin is None:
            continue  # A folder without __init__.py; plugins' code may lie in it.
        file = _resolved(spec.origin)
        if module in LIBRARY or places.hold(module, file):
            yield _Part(module, file, spec.parent or "")
        elif not any(library.startswith(f"{module}.") for library in LIBRARY):
            return


def _specs(name: str) -> Iterator[tuple[str, importlib.machinery.ModuleSpec]]:
    """The import specs of a module and the packages around it, as far as they are there. Nothing is imported."""
    module, *rest = name.split(".")
    spec = root_spec(module)
    while spec is not None:
        yield module, spec
        if not rest:
            return
        module = f"{module}.{rest.pop(0)}"
        # One finder at a time: Python's search needs parent packages without __init__.py to be loaded.
        finders = filter(None, map(pkgutil.get_importer, spec.submodule_search_locations or ()))
        found = [found for finder in finders if (found := finder.find_spec(module))]
        spec = min(found, key=lambda one: one.loader is None, default=None)


def root_spec(root: str) -> importlib.machinery.ModuleSpec | None:
    """The import spec of a top-level module, loaded or not. Nothing is imported."""
    spec = getattr(sys.modules.get(root), "__spec__", None)
    if spec is None:
        try:
            spec = importlib.util.find_spec(root)
        except (ImportError, ValueError, AttributeError):
            return None
    return spec if isinstance(spec, importlib.machinery.ModuleSpec) else None


def _whole_package(root: str) -> Iterator[_Part]:
    """All that Python can import from a top-level package: .py files and extensions."""
    spec = root_spec(root)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for file in Path(folder).resolve().rglob("*"):
            if file.suffix not in (".py", Path(importlib.machinery.EXTENSION_SUFFIXES[-1]).suffix):
                continue
            package = [root, *file.parent.relative_to(Path(folder).resolve()).parts]
            # The name of an extension may go on with the Python that it is for.
            module = package if file.name == "__init__.py" else [*package, file.name.partition(".")[0]]
            yield _Part(".".join(module), file, ".".join(package))


@lru_cache(maxsize=4096)
def _resolved(path: str) -> Path:
    """The path behind all links; a link of an installation stays what it is as long as a process lives."""
    return Path(path).resolve()


@lru_cache(maxsize=1024)
def imports_of(source: bytes, package: str) -> tuple[tuple[str, ...], bool]:
    """The names that a source in `package` imports, modules and what may be submodules; whether there may be others."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return (), False  # A file for another version of Python, or one that is never imported.
    names: list[str] = []
    written_out: set[int] = set()
    dynamic = False
    for node in _nodes_that_run(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _absolute_import("." * node.level + (node.module or ""), package)
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)] if base else []
            dynamic |= any(alias.name in DYNAMIC and alias.asname for alias in node.names)
        elif isinstance(node, ast.Call) and (name := _name_written_out(node)):
            names.append(_absolute_import(name, package))
            written_out.add(id(node.func))
        elif id(node) not in written_out:
            dynamic |= _last_word(node) in DYNAMIC
    return tuple(filter(None, names)), dynamic


def _nodes_that_run(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a tree, parents first, without what only type checkers read."""
    pending = [tree]
    while pending:
        node = pending.pop()
        yield node
        typing_only = isinstance(node, ast.If) and _last_word(node.test) == "TYPE_CHECKING"
        pending += node.orelse if typing_only else ast.iter_child_nodes(node)  # type: ignore[attr-defined]


def _last_word(node: ast.AST) -> str:
    """`b` of the expressions `b` and `a.b`; empty for others."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _name_written_out(call: ast.Call) -> str:
    """The name in `import_module("name")`; empty for other calls."""
    first = call.args[0] if call.args else None
    if _last_word(call.func) not in ("import_module", "__import__") or not isinstance(first, ast.Constant):
        return ""
    return first.value if isinstance(first.value, str) else ""


def _absolute_import(name: str, package: str) -> str:
    """A name in an import, absolute; empty where it goes beyond the top package: for type checkers, or in a try."""
    try:
        return importlib.util.resolve_name(name, package)
    except ImportError:
        return ""
