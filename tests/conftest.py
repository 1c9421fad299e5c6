"""Shared fixtures: the command line as users meet it, a cache for the session, installed third-party plugins."""

from __future__ import annotations

import importlib
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import fork_server
import pytest
from filelock import FileLock
from skips import pytest_make_collect_report, pytest_runtest_makereport  # noqa: F401, what is skipped by accident fails

Made = TypeVar("Made")

# Two processes that share the cores slow each other down twentyfold while their threads wait for one another.
os.environ["OMP_NUM_THREADS"] = "1"

STRANGERS = Path(__file__).parent / "plugins_from_strangers"
"""Plugins as other people write them: good, careless and broken ones."""

ONE_MACHINE = Path(__file__).parent / "records" / "one-machine"
"""Records of 18 real runs: 15 variants on digits and three on MNIST, a seed each. What lies in `results` may change."""

UNSET = ("GANZOO_PLUGINS", "COLUMNS", "FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE")
"""Variables that tests must not inherit from the developer's environment."""

ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in UNSET}
"""The environment before any test."""

FRESH = (sys.executable, "-m", "ganzoo")
"""`ganzoo` in a process that has loaded nothing yet; the processes of its runs are started in the same way."""


def forked(module: str, ending: str = "short") -> tuple[str, ...]:
    """`python -m MODULE` without the seconds that it takes to import torch; see `fork_server`."""
    if sys.platform != "linux":
        return (sys.executable, "-m", module)
    return fork_server.command(fork_server.start(tuple(ENVIRONMENT.items())), module, ending)


def fresh_with_forked_runs() -> tuple[str, ...]:
    """`ganzoo` in a process that has loaded nothing yet; the processes of its runs are forked."""
    runs = f"from ganzoo.running import process; process.COMMAND = {forked('ganzoo.running.worker')}"
    return (sys.executable, "-c", f"{runs}; from ganzoo.cli.main import run; run()")


@pytest.fixture
def forked_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork the processes of runs that a bench in this process starts."""
    monkeypatch.setattr("ganzoo.running.process.COMMAND", forked("ganzoo.running.worker"))


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Two more workers than there are cores, since many tests wait for a command."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores + 2


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest tests first, so that no worker is left alone with one at the end; others stay in their order."""
    items.sort(key=lambda item: item.get_closest_marker("longest") is None)


@pytest.fixture(scope="session", autouse=True)
def session_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One cache for the whole session, so that a dataset is prepared once and the developer's cache stays untouched.

    Compiled code goes to a folder of this process: two processes that compile into one folder wait for each other.
    """
    compiled = tmp_path_factory.mktemp("compiled")
    with pytest.MonkeyPatch.context() as patch:
        cache = tmp_path_factory.mktemp("cache")
        patch.setenv("GANZOO_CACHE", str(cache))
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(compiled))
        for name in UNSET:
            patch.delenv(name, raising=False)
        yield cache
    # It is large, and pytest would keep it for two more sessions.
    shutil.rmtree(compiled, ignore_errors=True)


HANGING = 600.0
"""Seconds after which a command that takes a few seconds counts as hanging, however busy the machine is."""

Found = TypeVar("Found")


def wait_for(condition: Callable[[], Found]) -> Found:
    """Poll `condition` and return its first true value; fail after `HANGING` seconds."""
    deadline = time.monotonic() + HANGING
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {HANGING:.0f} s"
        time.sleep(0.02)
    return found


def restore_default_signals() -> None:
    """For `preexec_fn`: obey the signals that stop a command even if the tests were started with them ignored.

    Scripts start background jobs with SIGINT ignored, and nohup its command with SIGHUP.
    """
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)


def made_once(name: str, make: Callable[[Path], Made], tmp_path_factory: pytest.TempPathFactory) -> Made:
    """What `make(folder)` gives, made by the first worker that needs it; all are given the same, to read only."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder, made = root / name, root / f"{name}.pickle"
    with FileLock(root / f"{name}.lock"):
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            made.write_bytes(pickle.dumps(make(folder)))
    found: Made = pickle.loads(made.read_bytes())
    return found


@dataclass(frozen=True)
class CommandLine:
    """`ganzoo` in a subprocess. `cwd` is its folder unless a call gives another."""

    cwd: Path

    def __call__(
        self,
        *args: object,
        env: Mapping[str, str | None] | None = None,
        cwd: Path | None = None,
        program: tuple[str, ...] | None = None,
        timeout: float = HANGING,
        largest_file: int | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run the command to its end; None in `env` removes a variable. Raises `TimeoutExpired` if it hangs.

        `program=FRESH` is for tests of imports, of signals and of the lifetime of processes. `largest_file` is
        the nearest thing to a full disk without a disk of one's own: what would make a file longer fails.
        """

        def limit() -> None:
            import resource

            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

        changed = {**os.environ, **(env or {})}
        return subprocess.run(
            [*(program or forked("ganzoo")), *map(str, args)],
            cwd=cwd or self.cwd,
            env={name: value for name, value in changed.items() if value is not None},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=timeout,
            preexec_fn=None if largest_file is None else limit,
        )


@pytest.fixture
def run_cli(tmp_path: Path) -> CommandLine:
    """`run_cli("bench", "--models", "dcgan", env={...}, cwd=...)` runs in `tmp_path`, returns the completed process."""
    return CommandLine(tmp_path)


@dataclass(frozen=True)
class Outcome:
    """Output and exit code of a command."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The only line on stderr; fails if there is another, or anything on stdout."""
        lines = self.err.splitlines()
        assert len(lines) == 1, f"one line expected on stderr, got:\n{self.err}"
        assert self.err.endswith("\n")
        assert self.out == ""
        return lines[0]


@pytest.fixture
def invoke(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Outcome]:
    """Run the command line in this process, which has torch already, and in `tmp_path`."""
    from ganzoo.cli.main import main

    monkeypatch.chdir(tmp_path)

    def invoke(*args: object) -> Outcome:
        capsys.readouterr()
        try:
            code = main([str(arg) for arg in args])
        except SystemExit as end:  # argparse ends the process itself
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return invoke


@pytest.fixture(scope="session")
def stranger() -> Callable[[str], Path]:
    """`stranger("hinge")`: the path of a plugin in `plugins_from_strangers`."""

    def find(name: str) -> Path:
        path = STRANGERS / f"{name}.py"
        assert path.is_file(), f"no plugin is called {name}"
        return path

    return find


@dataclass(frozen=True)
class StrangersBench:
    """A finished bench. `arguments` are its arguments without `--models`, `--results` and the observers."""

    done: subprocess.CompletedProcess[str]
    arguments: tuple[str, ...]
    results: Path
    records: list[dict[str, Any]]
    events: list[dict[str, Any]]


@pytest.fixture(scope="session")
def strangers_bench(
    tmp_path_factory: pytest.TempPathFactory, stranger: Callable[[str], Path], session_environment: Path
) -> StrangersBench:
    """A bench of two third-party variants and a dataset, with healthy and failing observers and a broken plugin."""

    def plugins(*names: str) -> tuple[str, ...]:
        return tuple(argument for name in names for argument in ("--plugin", str(stranger(name))))

    def make(folder: Path) -> StrangersBench:
        run = CommandLine(folder)
        done = run(
            *(*arguments, "--models", "hinge-dcgan,chatty"),
            *plugins("observer", "raising_observer", "quitting_observer", "import_error"),
            env={"GANZOO_PLUGINS": "dcgan,losses", "OBSERVED": "observed.jsonl"},
        )
        assert done.returncode == 0, done.stderr
        events = [json.loads(line) for line in (folder / "observed.jsonl").read_text().splitlines()]
        return StrangersBench(done, arguments, folder / "runs", json.loads(done.stdout), events)

    arguments = (
        *("bench", "--batch-size", "64", "--dataset", "stripes", "--metrics", "mean-gap", "--eval-every", "0.256"),
        *("--throughput-seconds", "0.1", "--device", "cpu", "--json", *plugins("hinge", "chatty", "laboratory")),
    )
    return made_once("strangers", make, tmp_path_factory)


@pytest.fixture
def fake_distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Install plugins so that importlib.metadata finds them, in this process and in those it starts.

    `fake_distribution("ganzoo-zebra", {"zebra": source}, version="1.0")`: for each entry point a module with that
    source, given as text or as the path of a file. Distributions installed later come first on the path.
    """
    modules: set[str] = set()

    def install(name: str, plugins: Mapping[str, str | Path], version: str = "1.0") -> Path:
        site = tmp_path / "site-packages" / name
        information = site / f"{name.replace('-', '_')}-{version}.dist-info"
        information.mkdir(parents=True)
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        lines = ["[ganzoo]"]
        for index, (entry_point, source) in enumerate(plugins.items()):
            module = f"{name}_{index}".replace("-", "_")
            text = source.read_text(encoding="utf-8") if isinstance(source, Path) else source
            (site / f"{module}.py").write_text(text, encoding="utf-8")
            lines.append(f"{entry_point} = {module}")
            modules.add(module)
        (information / "entry_points.txt").write_text("\n".join(lines) + "\n")
        monkeypatch.syspath_prepend(str(site))
        monkeypatch.setenv("PYTHONPATH", str(site), prepend=os.pathsep)
        importlib.invalidate_caches()
        return site

    yield install
    for module in modules:
        sys.modules.pop(module, None)


def with_settings(spec: Mapping[str, Any], **settings: Any) -> dict[str, Any]:
    """The JSON of a spec with `settings` changed, by their names in `ganzoo.records.settings`."""
    changed = {**spec, "recipe": {**spec["recipe"], "optimizers": {**spec["recipe"]["optimizers"]}}}
    changed["scoring"] = {**spec["scoring"]}
    players = {"optimizer": "generator", "discriminator_optimizer": "discriminator"}
    for name, value in settings.items():
        if name in players:
            changed["recipe"]["optimizers"][players[name]] = value
        else:
            holder = next((part for part in (changed["recipe"], changed["scoring"], changed) if name in part), None)
            assert holder is not None, f"no setting is called {name}"
            holder[name] = value
    return changed


@pytest.fixture(scope="session")
def random_weights(tmp_path_factory):
    """A weights file in the format of torch-fidelity's, 91 MB, with seeded default initialization."""
    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Unloaded(FeatureExtractorInceptionV3):
        def load_state_dict(self, state_dict):
            """Load nothing, and so keep the initialization."""

    def make(folder):
        path = folder / "random.pth"
        torch.save({}, path)
        torch.manual_seed(0)
        network = Unloaded("unloaded", ["2048"], feature_extractor_weights_path=str(path))
        torch.save(network.state_dict(), path)
        return path

    return made_once("inception", make, tmp_path_factory)


@pytest.fixture(scope="session")
def sampled_run(tmp_path_factory: pytest.TempPathFactory, session_environment: Path) -> Path:
    """The folder of a finished MLP-GAN run on digits; its generator is untrained."""
    import torch
    from safetensors.torch import save_file

    from ganzoo.planning.plan import resolve
    from ganzoo.planning.request import BenchPlan
    from ganzoo.records.store import GENERATOR, write_record
    from ganzoo.registry.discovery import discover
    from ganzoo.runs import SCHEMA, RunRecord
    from ganzoo.training.assembly import materials_of, spec_players

    registry = discover()
    spec = resolve(BenchPlan(("mlp",), device="cpu", throughput_only=True), registry).runs[0].spec
    folder = tmp_path_factory.mktemp("sampled") / "mlp-digits-s0-0123456789"
    write_record(RunRecord(SCHEMA, "0123456789" + "0" * 54, "ok", spec.to_json()), folder)
    torch.manual_seed(0)
    save_file(spec_players(spec, materials_of(spec, registry)).generator.network.state_dict(), folder / GENERATOR)
    return folder
