"""Installations: the wheel has every file and works alone; an editable install is importable from any folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import ganzoo

ROOT = Path(__file__).parent.parent
INSTALLED_AS = {"ganzoo": "ganzoo", "plugins": "ganzoo_plugins"}
EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.py"))


@dataclass(frozen=True)
class Installation:
    """An environment with ganzoo from a wheel and the dependencies of the test environment."""

    python: Path

    def __call__(self, *arguments: object, cwd: Path) -> str:
        """Run `python ARGUMENTS…` and return what it prints; fail if it fails."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        done = subprocess.run(
            [self.python, *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository in a folder called `ganzoo`, as a clone has it, without files of earlier builds."""
    copy = tmp_path_factory.mktemp("above") / "ganzoo"
    for folder in ("ganzoo", "plugins", "tools"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, copy)
    return copy


@pytest.fixture(scope="module")
def build(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`build("build_wheel")`: call this hook of the build backend as pip does; return the path of its result."""

    def build(hook: str) -> Path:
        out = tmp_path_factory.mktemp(hook)
        command = "import sys, build_backend as backend; getattr(backend, sys.argv[1])(sys.argv[2])"
        done = subprocess.run(
            [sys.executable, "-c", command, hook, out],
            cwd=checkout,
            env=os.environ | {"PYTHONPATH": str(checkout / "tools")},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        (made,) = out.iterdir()
        return made

    return build


def install(wheel: Path, folder: Path) -> Installation:
    venv.create(folder, symlinks=os.name != "nt")
    (site,) = folder.glob("[Ll]ib/**/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    # A path named in a .pth file is searched after this folder, and .pth files in that path are not read.
    others = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (site / "zz-of-the-tests.pth").write_text("\n".join(others), encoding="utf-8")
    return Installation(next(folder.glob("[Bbs]*in*/python*")))


@pytest.fixture(scope="module")
def wheel(build: Callable[[str], Path]) -> Path:
    return build("build_wheel")


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    return install(wheel, tmp_path_factory.mktemp("from-wheel"))


@pytest.fixture(scope="module")
def editable(build: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Installation:
    return install(build("build_editable"), tmp_path_factory.mktemp("editable"))


def test_wheel_holds_every_file_of_the_core_and_the_zoo_and_nothing_else(wheel, checkout):
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == {
        f"{package}/{path.relative_to(checkout / folder).as_posix()}"
        for folder, package in INSTALLED_AS.items()
        for path in (checkout / folder).rglob("*")
        if path.is_file()
    }


def test_every_path_of_an_editable_wheel_is_in_its_record(build):
    with zipfile.ZipFile(build("build_editable")) as archive:
        names = archive.namelist()
        (record,) = (name for name in names if name.endswith("/RECORD"))
        assert [line.split(",")[0] for line in archive.read(record).decode().splitlines()] == names


def test_wheel_has_templates_suites_and_weights_that_work(installed, tmp_path):
    where = installed("-c", "import ganzoo; print(ganzoo.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(installed.python.parents[1])
    assert "quick" in installed("-m", "ganzoo", "list", "suites", cwd=tmp_path)
    installed("-m", "ganzoo", "new", "my-gan", cwd=tmp_path)
    bench = ("bench", "--models", "hinge-dcgan", "--plugin", ROOT / "docs" / "examples" / "hinge.py", "--device", "cpu")
    short = ("--kimg", "0.256", "--fakes", "100", "--throughput-seconds", "0.1", "--quiet", "--json")
    (record,) = json.loads(installed("-m", "ganzoo", *bench, *short, cwd=tmp_path))
    assert record["status"] == "ok"
    assert record["training"]["final"]["fid/ema"]["value"] > 0
    assert record["environment"]["git"] is None, "it is the copy in the wheel that ran"
    installed("-m", "ganzoo", "report", "runs", cwd=tmp_path)
    assert "hinge-dcgan" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_examples_of_the_docs_load_from_a_wheel(installed, tmp_path):
    assert EXAMPLES
    plugins = [argument for path in EXAMPLES for argument in ("--plugin", path)]
    listed = json.loads(installed("-m", "ganzoo", "plugins", "--json", *plugins, cwd=tmp_path))
    states = {plugin["name"]: plugin["state"] for plugin in listed}
    assert {path.name: states[path.name] for path in EXAMPLES} == {path.name: "ok" for path in EXAMPLES}
    assert set(states.values()) == {"ok"}


@pytest.mark.parametrize("place", ["above the checkout", "in the checkout", "elsewhere"])
def test_editable_install_is_found_from_any_folder(editable, checkout, tmp_path, place):
    cwd = {"above the checkout": checkout.parent, "in the checkout": checkout, "elsewhere": tmp_path}[place]
    code = "import ganzoo, ganzoo_plugins; print(ganzoo.__file__, ganzoo_plugins.__file__, ganzoo.API_VERSION)"
    found = editable("-c", code, cwd=cwd).split()
    packages = [checkout / "ganzoo" / "__init__.py", checkout / "plugins" / "__init__.py"]
    assert found == [*map(str, packages), str(ganzoo.API_VERSION)]


def test_editable_install_sees_a_file_that_is_added_later(editable, checkout, tmp_path):
    added = checkout / "plugins" / "variants" / "added_later.py"
    added.write_text("NAME = 'added later'\n", encoding="utf-8")
    try:
        code = "from ganzoo_plugins.variants.added_later import NAME; print(NAME)"
        assert editable("-c", code, cwd=tmp_path) == "added later\n"
    finally:
        added.unlink()
