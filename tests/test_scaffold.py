"""`ganzoo new`, and the tutorial step by step: from nothing to a wheel that installs in a new environment."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import site
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from conftest import HANGING, CommandLine
from test_checks import OF_SOME

from ganzoo.conformance.checks import CHECKS
from ganzoo.conformance.metric_checks import METRIC_CHECKS
from ganzoo.conformance.scaffold import PLUGIN_KINDS
from ganzoo.planning.plan import resolve
from ganzoo.planning.request import BenchPlan
from ganzoo.registry.discovery import discover
from ganzoo.testing import subjects_of
from ganzoo.training.assembly import assemble
from ganzoo.training.loop import train

ROOT = Path(__file__).parent.parent
TUTORIAL = (ROOT / "docs" / "first-plugin.md").read_text(encoding="utf-8")

SHORT = "--kimg 0.5 --batch-size 32 --fakes 64 --throughput-seconds 0.1 --device cpu --json --quiet"
"""Options that shorten a bench of the tutorial to seconds."""

EXTRA = {"bench": SHORT.split(), "check": ["--json"]}

INSTALLING = "pip install -e './my-gan[test]'"
"""The first step of the part about a package; from here on every step runs in a new process."""

VARIABLES = {"PYTHONPATH": None, "PYTEST_ADDOPTS": None, "CXX": "no-compiler"}
"""Compiling takes a minute each time; the tests of the checks cover it."""

NEEDS_AN_ACCOUNT = {"pip install twine", "twine upload dist/*"}
"""Steps that need an account and so cannot be tested."""


class Environment:
    """A new virtual environment that sees the packages of the present one."""

    def __init__(self, folder: Path, cwd: Path) -> None:
        venv.create(folder, with_pip=False)
        self.python, self.cwd = folder / "bin" / "python", cwd
        (packages,) = (folder / "lib").glob("python*/site-packages")
        seen = [path for path in (*site.getsitepackages(), *sys.path) if path.endswith("-packages")]
        lines = [f"import site; site.addsitedir({path!r})" for path in dict.fromkeys(seen)]
        (packages / "present.pth").write_text("\n".join(lines) + "\n")

    def run(self, *command: object, cwd: Path | None = None) -> str:
        """Run Python with these arguments and return what it prints; fail if it fails."""
        variables = {**os.environ, **VARIABLES}
        done = subprocess.run(
            # As for an installed script, the working folder is not on sys.path.
            [str(self.python), "-P", *map(str, command)],
            cwd=cwd or self.cwd,
            env={name: value for name, value in variables.items() if value is not None},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=HANGING,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def install(self, *what: str) -> None:
        pip = (sys.executable, "-m", "pip", "--python", str(self.python), "install", "-q", "--no-deps", "--no-index")
        subprocess.run([*pip, "--no-build-isolation", *what], cwd=self.cwd, check=True, capture_output=True)


@pytest.mark.longest
def test_tutorial_steps_lead_to_an_installable_package(tmp_path):
    steps = [
        line.split("  ")[0]
        for block in re.findall(r"^```sh\n(.*?)^```$", TUTORIAL, re.M | re.S)
        for line in block.splitlines()
    ]
    assert len(steps) == 12, "a step without its test"
    installing = steps.index(INSTALLING)
    said = {step: run_single_file_step(step, CommandLine(tmp_path)) for step in steps[:installing]}
    environment = Environment(tmp_path / "author", tmp_path)
    said |= {step: run_package_step(environment, step) for step in steps[installing:] if step not in NEEDS_AN_ACCOUNT}

    for step in ("ganzoo check my_gan.py", "ganzoo check my-gan"):
        results = {result["check"]: result["status"] for result in json.loads(said[step])}
        assert list(results) == list(CHECKS)
        skipped = {name for name, status in results.items() if status == "skipped"}
        assert skipped <= OF_SOME | {"captured-gradients", "compiled-gradients"}
    assert re.search(r"\d+ passed, \d skipped", said["cd my-gan && pytest"])
    (single,) = (step for step in steps if step.startswith("ganzoo bench --models my-gan,dcgan"))
    assert [record["status"] for record in json.loads(said[single])] == ["ok", "ok"]

    (wheel,) = (tmp_path / "dist").glob("*.whl")
    user = Environment(tmp_path / "user", tmp_path)
    user.install(str(wheel))
    listed = {
        entry["name"]: entry["plugin"] for entry in json.loads(user.run("-m", "ganzoo", "list", "variants", "--json"))
    }
    assert listed["my-gan"] == "my-gan"
    (record,) = json.loads(
        user.run("-m", "ganzoo", "bench", "--models", "my-gan", *SHORT.split(), "--results", "theirs")
    )
    assert record["status"] == "ok"
    assert record["environment"]["plugins"]["my-gan"]["version"] == "0.1.0"


def run_single_file_step(step: str, run_cli: CommandLine) -> str:
    """Run one command of the tutorial on a single file, before anything is installed."""
    program, *arguments = shlex.split(step)
    assert program == "ganzoo"
    done = run_cli(*arguments, *EXTRA.get(arguments[0], []), env=VARIABLES, timeout=600)
    assert done.returncode == 0, f"{step}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def run_package_step(environment: Environment, step: str) -> str:
    """Run one command of the tutorial on the package, without network."""
    program, *arguments = shlex.split(step)
    if program == "ganzoo":
        return environment.run("-m", "ganzoo", *arguments, *EXTRA.get(arguments[0], []))
    if step == "cd my-gan && pytest":
        # The step before, `ganzoo check`, has run the slow checks (compilation and learning) already.
        checked = "not compiled and not learns"
        return environment.run("-m", "pytest", "-q", "-k", checked, cwd=environment.cwd / "my-gan")
    if step == INSTALLING:
        environment.install("-e", "./my-gan")
        return ""
    assert step == "pip wheel --no-deps -w dist ./my-gan"
    return environment.run("-m", *shlex.split(step), "--no-build-isolation", "--no-index", "-q")


# --- the files of `ganzoo new` ----------------------------------------------------------------------------------------


def test_a_package_is_four_files_and_its_module_is_short(invoke, tmp_path):
    outcome = invoke("new", "My.Gan-2")
    assert outcome.code == 0
    files = ["pyproject.toml", "README.md", "my_gan_2.py", "tests/test_my_gan_2.py"]
    assert outcome.out.splitlines() == [f"My.Gan-2/{name}" for name in files]
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()) == sorted(
        f"My.Gan-2/{name}" for name in files
    )
    module = (tmp_path / "My.Gan-2" / "my_gan_2.py").read_text()
    assert 50 <= len(module.splitlines()) <= 70
    for path in (tmp_path / "My.Gan-2").rglob("*"):
        assert path.is_dir() or not re.search(r"\$|TODO|FIXME", path.read_text())


def test_new_files_pass_ruff_with_its_defaults(invoke, tmp_path):
    ruff = shutil.which("ruff") or shutil.which("ruff", path=str(Path(sys.executable).parent))
    invoke("new", "my-gan")
    invoke("new", "other-gan", "--single-file")
    for path in tmp_path.rglob("*.py"):
        ast.parse(path.read_text())
    if ruff is None:
        pytest.skip("ruff is not installed")
    for command in (("check",), ("format", "--check")):
        done = subprocess.run([ruff, *command, "--isolated", str(tmp_path)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_new_single_file_prints_the_next_steps(invoke, tmp_path):
    outcome = invoke("new", "my-gan", "--single-file")
    assert (outcome.code, outcome.out) == (0, "my_gan.py\n")
    assert outcome.err == "ganzoo: next: ganzoo check my_gan.py, then ganzoo bench --models my-gan --plugin my_gan.py\n"
    assert "--plugin my_gan.py" in (tmp_path / "my_gan.py").read_text()


# --- each kind --------------------------------------------------------------------------------------------------------

SIZES = (16, 28, 32, 64)

OF_NETWORKS = [kind for kind in PLUGIN_KINDS if kind != "metric"]


@pytest.mark.parametrize("kind", PLUGIN_KINDS)
def test_each_kind_writes_a_package_that_ruff_likes(kind, invoke, tmp_path):
    """Under names as short and as long as names may be, for the lines of a template may not depend on them."""
    ruff = shutil.which("ruff") or shutil.which("ruff", path=str(Path(sys.executable).parent))
    for name in ("q", "q" * 64, "My.Own-2"):
        assert invoke("new", name, "--kind", kind).code == 0
    files = list(tmp_path.rglob("*.py"))
    assert len(files) == 6
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or not re.search(r"\$|TODO|FIXME", path.read_text())
    for path in files:
        ast.parse(path.read_text())
    if ruff is None:
        pytest.skip("ruff is not installed")
    for command in (("check",), ("format", "--check")):
        done = subprocess.run([ruff, *command, "--isolated", str(tmp_path)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("kind", PLUGIN_KINDS)
def test_each_kind_of_single_file_offers_what_it_says_and_nothing_by_halves(kind, invoke, tmp_path):
    outcome = invoke("new", "my-own", "--kind", kind, "--single-file")
    assert (outcome.code, outcome.out) == (0, "my_own.py\n")
    (bench,) = re.findall(r"then ganzoo (bench .*)", outcome.err)
    asked = [*shlex.split(bench), "--dry-run", "--device", "cpu", "--image-size", "16"]
    assert invoke(*asked).code == 0
    (subject,) = subjects_of(tmp_path / "my_own.py")
    assert (subject.name, set(subject.checks)) == ("my-own", set(METRIC_CHECKS if kind == "metric" else CHECKS))


@pytest.mark.parametrize("kind", OF_NETWORKS)
def test_each_kind_with_networks_builds_every_size_and_takes_a_step(kind, invoke, tmp_path):
    assert invoke("new", "my-own", "--kind", kind, "--single-file").code == 0
    registry = discover([str(tmp_path / "my_own.py")])
    for size in SIZES:
        plan = BenchPlan(
            ("my-own",), "digits", image_size=size, throughput_only=True, device="cpu", batch_size=4, step_mode="eager"
        )
        resolved = resolve(plan, registry)
        (planned,) = resolved.runs
        assert planned.preflight.flops_per_image, planned.preflight.fault
    trained = train(assemble(planned.spec, registry, resolved.dataset), 0.004)
    assert set(trained.updates.values()) == {1}
    assert ("encoder" in trained.updates) == (kind == "three-players")


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", PLUGIN_KINDS)
def test_each_kind_passes_its_checks_and_its_tests(kind, run_cli, tmp_path):
    assert run_cli("new", "my-own", "--kind", kind).returncode == 0
    environment = Environment(tmp_path / "author", tmp_path)
    environment.install("-e", "./my-own")
    results = json.loads(environment.run("-m", "ganzoo", "check", "my-own", "--json"))
    assert {result["status"] for result in results} <= {"passed", "skipped"}
    assert len(results) == len(METRIC_CHECKS if kind == "metric" else CHECKS)
    checked = "not test_conformance"
    said = environment.run("-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", checked, cwd=tmp_path / "my-own")
    assert re.search(r"\d passed", said)


def test_unknown_kind_is_refused(invoke, tmp_path):
    outcome = invoke("new", "my-own", "--kind", "diffusion")
    assert outcome.code == 2
    assert "invalid choice: 'diffusion'" in outcome.error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("../escape", "cannot be the name of a package and a variant"),
        ("", "cannot be the name of a package and a variant"),
        ("my gan", "cannot be the name of a package and a variant"),
        ("my-", "a letter or digit last"),
        ("x" * 65, "up to 64 letters"),
        ("ünlaut", "cannot be the name of a package and a variant"),
        ("3d-gan", "cannot be the name of a Python module ('3d_gan'); begin with a letter"),
        ("class", "cannot be the name of a Python module ('class')"),
        ("json", "would hide the module 'json'"),
        ("torch", "would hide the module 'torch'"),
        ("rich", "'rich' would hide the installed module 'rich'; choose another name"),
        ("dcgan", "'dcgan' is taken"),
        ("hinge", "'hinge' is taken"),
        ("kid", "'kid' is taken"),
    ],
)
def test_invalid_name_is_refused_and_writes_nothing(name, fix, invoke, tmp_path):
    for flags in ((), ("--single-file",)):
        outcome = invoke("new", name, *flags)
        assert outcome.code == 2
        assert fix in outcome.error
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("flags", "taken"), [((), "my-gan"), (("--single-file",), "my_gan.py")])
def test_existing_files_are_not_overwritten(flags, taken, invoke, tmp_path):
    (tmp_path / taken).symlink_to("nowhere")
    outcome = invoke("new", "my-gan", *flags)
    assert outcome.code == 2
    assert outcome.error == f"ganzoo: {taken}: exists already; choose another name or move it away"
    assert [path.name for path in tmp_path.iterdir()] == [taken]


def test_new_package_may_stand_beside_a_single_file_of_the_same_name(run_cli):
    """With `python -m ganzoo` the working folder is on sys.path, and so the single file is importable."""
    for flags in (("--single-file",), ()):
        done = run_cli("new", "my-gan", *flags)
        assert done.returncode == 0, done.stderr
    again = run_cli("new", "my-gan")
    assert again.stderr == "ganzoo: my-gan: exists already; choose another name or move it away\n"


def test_name_of_an_installed_package_is_refused(fake_distribution, invoke, tmp_path):
    site = fake_distribution("ganzoo-theirs", {"broken-gan": "raise RuntimeError('unwell')\n"})
    (site / "broken_gan.py").write_text("")
    outcome = invoke("new", "broken-gan")
    assert outcome.code == 2
    assert outcome.err.splitlines()[-1] == (
        "ganzoo: 'broken-gan' would hide the installed module 'broken_gan'; choose another name"
    )
    assert not (tmp_path / "broken-gan").exists()
