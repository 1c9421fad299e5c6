"""`ganzoo new`: write a plugin to start from, as a package or one file, from the templates beside this file."""

from __future__ import annotations

import importlib.util
import keyword
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template

from ganzoo.errors import UsageError
from ganzoo.registry.registry import Registry
from ganzoo.util.text import NAME, printable

PROJECT_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
"""What a package may be called: the packaging specifications, "Names and normalization"."""

TAKEN_MODULES = {"ganzoo", "ganzoo_plugins", "torch", "torchvision", "numpy", "pluggy", "pytest", "tests"}

PACKAGE = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "{module}.py": "{template}.py",
    "tests/test_{module}.py": "test_{template}.py",
}
"""The files of a package, and the template of each."""


@dataclass(frozen=True)
class PluginKind:
    """What a plugin may be at first: its template, what it is in words, and the options of a bench that tries it."""

    template: str
    what: str
    bench: str = "--models {name}"
    beside: str = ",dcgan"
    """What follows in a bench that sets it beside something of the zoo."""


PLUGIN_KINDS = {
    "gan": PluginKind("gan", "a GAN of one's own"),
    "loss": PluginKind("loss", "a loss of one's own", beside=",dcgan+hinge"),
    "architecture": PluginKind("architecture", "an architecture of one's own"),
    "augmentation": PluginKind("augmentation", "an augmentation of one's own"),
    "metric": PluginKind("metric", "a metric of one's own", "--models dcgan --metrics fid,{name}", beside=""),
    "three-players": PluginKind("three_players", "a GAN of three players", beside=",mlp"),
}
"""What `ganzoo new --kind` may name."""


def new_plugin(
    name: str, folder: Path, registry: Registry, *, kind: str = "gan", single_file: bool = False
) -> list[Path]:
    """Write a plugin of a kind below `folder`, and return its files. It offers a variant called `name`, or a metric.

    A package in `folder/NAME/`, or with `single_file` one file `folder/MODULE.py`, where the module is the name in
    lower case with underscores. Raises `UsageError` where the name cannot be that of a package, a module and a variant,
    where a plugin in `registry` offers it, where the path is there already, or where it would hide an installed module;
    then nothing is written.
    """
    of_kind = PLUGIN_KINDS[kind]
    module = check_name(name, registry)
    target = folder / (f"{module}.py" if single_file else name)
    if target.exists() or target.is_symlink():
        raise UsageError(f"{printable(target)}: exists already; choose another name or move it away")
    if _is_installed(module, folder):
        raise UsageError(f"'{printable(name)}' would hide the installed module '{module}'; choose another name")
    values = {
        "name": name,
        "module": module,
        "what": of_kind.what,
        "sentence": of_kind.what[0].upper() + of_kind.what[1:],
        "bench": of_kind.bench.format(name=name) + of_kind.beside,
        "option": f" --plugin {module}.py" if single_file else "",
    }
    files = (
        {target: f"{of_kind.template}.py"}
        if single_file
        else {
            target / path.format(module=module): template.format(template=of_kind.template)
            for path, template in PACKAGE.items()
        }
    )
    contents = {path: _render(template, values) for path, template in files.items()}
    for path, content in contents.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return list(contents)


def check_name(name: str, registry: Registry) -> str:
    """The module name for a plugin called `name`. Raises `UsageError` for a name that is invalid or taken."""
    shown = printable(name, 80)
    if not NAME.fullmatch(name) or not PROJECT_NAME.fullmatch(name):
        raise UsageError(
            f"'{shown}' cannot be the name of a package and a variant: give up to 64 letters, digits, '-', '_' and "
            "'.', with a letter first and a letter or digit last"
        )
    module = re.sub(r"[-_.]+", "_", name).lower()
    if not module.isidentifier() or keyword.iskeyword(module):
        raise UsageError(
            f"'{shown}' cannot be the name of a Python module ('{module}'); begin with a letter, as in my-gan"
        )
    if module in TAKEN_MODULES or module in sys.stdlib_module_names:
        raise UsageError(f"'{shown}' would hide the module '{module}'; choose another name, as in my-{shown}")
    for kind in ("variants", "architectures", "losses", "metrics"):
        if name in registry.names(kind):
            raise UsageError(f"'{shown}' is taken: a plugin offers one of that name (see `ganzoo show {shown}`)")
    return module


def _is_installed(module: str, folder: Path) -> bool:
    """Whether Python finds such a module outside of `folder`, which may hold the same plugin as a single file."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return True
    if spec is None or spec.origin is None:
        return False
    in_folder = (folder / f"{module}.py", folder / module / "__init__.py")
    return Path(spec.origin).resolve() not in [path.resolve() for path in in_folder]


def _render(template: str, values: Mapping[str, str]) -> str:
    text = resources.files("ganzoo.conformance").joinpath("templates", f"{template}.txt").read_text(encoding="utf-8")
    return Template(text).substitute(values)
