"""Many broken plugins installed at once: each is listed with its reason, and the zoo is unaffected."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import FRESH, HANGING, ONE_MACHINE, forked, restore_default_signals
from skips import needs_system
from test_plugins import BROKEN as STRANGERS_BROKEN

from ganzoo.registry.discovery import discover
from ganzoo.runs import StageChanged

HEALTHY = """
import ganzoo

@ganzoo.hookimpl
def ganzoo_variants():
    yield ganzoo.Variant("unharmed", architecture="mlp", loss="hinge")
"""

VARIANT = """
@ganzoo.hookimpl
def ganzoo_variants():
    yield ganzoo.Variant("{name}", architecture="dcgan", loss="hinge")
"""

BROKEN = {
    "syntax": ("import ganzoo\ndef (:\n", "SyntaxError"),
    "indentation": ("import ganzoo\n  x = 1\n", "IndentationError"),
    "encoding": ("# coding: no-such-coding\n", "SyntaxError"),
    "recursion": ("def f(): f()\nf()\n", "RecursionError: maximum recursion depth"),
    "base-exception": ("class Odd(BaseException): pass\nraise Odd('not an Exception')\n", "Odd: not an Exception"),
    "generator-exit": ("raise GeneratorExit('early')\n", "GeneratorExit: early"),
    "os-noise": (
        "import os\nos.write(2, b'noise')\nos.write(1, b'noise on stdout')\nraise OSError(5, 'Input/output error')\n",
        "OSError: [Errno 5] Input/output error",
    ),
    "enormous-message": (
        "raise ValueError('\\x1b[31m[red]' + 'very long ' * 10**6)\n",
        "ValueError: [31m[red]very long",
    ),
    "speechless-base": (
        "class Mute(BaseException):\n    def __str__(self): raise Mute()\nraise Mute()\n",
        "Mute",
    ),
    "metaclass": (
        "class Meta(type):\n    def __getattribute__(cls, name): raise RuntimeError('no')\n"
        "class Tricky(Exception, metaclass=Meta): pass\nraise Tricky('tricks')\n",
        "Tricky",
    ),
    "no-module": ("import sys\nsys.modules[__name__] = 7\n", "implements no hook"),
    "raises-midway": (
        "import ganzoo\n@ganzoo.hookimpl\ndef ganzoo_losses():\n    yield from ()\n    raise MemoryError('midway')\n",
        "ganzoo_losses raised MemoryError: midway",
    ),
    "markup-name": ("import ganzoo\n" + VARIANT.format(name="[red]loud[/red]"), "the name '[red]loud[/red]'"),
    "script-name": ("import ganzoo\n" + VARIANT.format(name="<script>"), "the name '<script>'"),
    "absolute-name": ("import ganzoo\n" + VARIANT.format(name="/etc/passwd"), "the name '/etc/passwd'"),
    "coroutine": (
        "import ganzoo\n@ganzoo.hookimpl\nasync def ganzoo_variants():\n    return []\n",
        "ganzoo_variants raised TypeError",
    ),
    "endless-repr": (
        "import ganzoo\nclass Odd:\n    def __repr__(self): raise SystemExit('repr')\n"
        "@ganzoo.hookimpl\ndef ganzoo_metrics():\n    yield Odd()\n",
        "SystemExit: repr",
    ),
    "hooked-class": (
        "import ganzoo\nclass Plugin:\n    @ganzoo.hookimpl\n    def ganzoo_variants(self): pass\n",
        "implements no hook",
    ),
    "takes-the-streams": (
        "import io, sys\nsys.stdout = sys.stderr = io.StringIO()\nprint('gone')\nraise KeyError('streams')\n",
        "KeyError: 'streams'",
    ),
    "closes-the-stream": (
        "import sys\nsys.stdout = None\nsys.stdin = None\nraise KeyError('stream')\n",
        "KeyError: 'stream'",
    ),
    "environment": (
        "import os\nos.environ['OMP_NUM_THREADS'] = '7'\nos.environ['ADDED'] = '1'\ndel os.environ['PATH']\n"
        "raise KeyError('environment')\n",
        "KeyError: 'environment'",
    ),
    "goes-elsewhere": ("import os\nos.chdir('/')\nraise KeyError('cwd')\n", "KeyError: 'cwd'"),
    "torch-settings": (
        "import torch\ntorch.set_default_dtype(torch.float64)\ntorch.set_grad_enabled(False)\ntorch.manual_seed(7)\n"
        "torch.set_default_device('meta')\ntorch.use_deterministic_algorithms(True)\nraise KeyError('torch')\n",
        "KeyError: 'torch'",
    ),
    "search-path": ("import sys\nsys.path.clear()\nraise KeyError('path')\n", "KeyError: 'path'"),
    "deaf": (
        "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nraise KeyError('deaf')\n",
        "KeyError: 'deaf'",
    ),
    "stray-thread": (
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(3600,), name='[red]stray\\x1b').start()\nraise KeyError('thread')\n",
        "KeyError: 'thread'",
    ),
    "lonely-surrogate": ("raise ValueError('\\ud800 alone')\n", "ValueError:"),
    "dependency": ("import a_package_that_nobody_has.at_all\n", "ModuleNotFoundError: No module named 'a_package_that"),
}
"""The source of each broken plugin, and what its status must say."""

QUIET = {name: source for name, (source, _) in BROKEN.items() if name != "stray-thread"}
"""Plugins that can be loaded into the process of the tests, where a thread would stay."""


@pytest.fixture
def installed(fake_distribution, stranger, tmp_path, monkeypatch) -> list[str]:
    """Install every broken plugin, including those in `plugins_from_strangers`, before the zoo, and a healthy one."""
    strangers = {f"stranger-{name}": stranger(name) for name in STRANGERS_BROKEN}
    fake_distribution("ganzoo-broken", {**QUIET, **strangers, "unharmed": HEALTHY})
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return [*QUIET, *strangers]


def test_at_least_this_many_kinds_of_broken_plugins_are_tried():
    assert len(BROKEN) + len(STRANGERS_BROKEN) >= 40
    assert len({source for source, _ in BROKEN.values()}) == len(BROKEN)


def test_broken_plugins_are_listed_with_reasons_beside_every_healthy_variant(
    installed, monkeypatch, invoke, tmp_path, capsys
):
    monkeypatch.chdir(tmp_path)
    outcome = invoke("plugins", "--json")
    assert outcome.code == 0
    statuses = {status["name"]: status for status in json.loads(outcome.out)}
    assert {name for name, status in statuses.items() if status["state"] == "broken"} == set(installed)
    for name in QUIET:
        assert BROKEN[name][1] in statuses[name]["error"], name
        assert statuses[name]["error"].isprintable()
    for name, reason in STRANGERS_BROKEN.items():
        assert reason in statuses[f"stranger-{name}"]["error"]
    outcome = invoke("plugins")
    assert all(line.isprintable() for line in outcome.out.splitlines())
    # The zoo is complete: all of it is listed and planned, together with the healthy plugin.
    with monkeypatch.context() as patch:
        patch.setenv("GANZOO_PLUGINS", ",".join(name for name, status in statuses.items() if status["state"] == "ok"))
        alone = json.loads(invoke("list", "variants", "--json").out)
    assert json.loads(invoke("list", "variants", "--json").out) == alone
    assert len(alone) >= 16
    options = ("--throughput-only", "--device", "cpu", "--batch-size", "8", "--dry-run", "--json")
    large = ("biggan", "biggan-small", "projected-gan", "projected-gan-small", "stylegan2", "stylegan2-small")
    outcome = invoke("bench", "--models", ",".join(("all", *(f"!{name}" for name in large))), *options)
    assert outcome.code == 0, outcome.err
    planned = {entry["spec"]["variant"] for entry in json.loads(outcome.out)}
    assert planned == {variant["name"] for variant in alone} - {*large}
    assert outcome.err.count("is broken and left out: ") == len(installed)
    assert len(outcome.err.splitlines()) == len(installed)


def test_broken_plugins_leave_the_process_unchanged(installed, capsys):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    before = (os.getcwd(), sys.stdin, sys.stdout, sys.stderr, list(sys.path), signal.getsignal(signal.SIGINT))
    settings = (torch.get_default_dtype(), torch.get_default_device(), torch.get_num_threads())
    environment = dict(os.environ)
    discover()
    assert (os.getcwd(), sys.stdin, sys.stdout, sys.stderr, list(sys.path), signal.getsignal(signal.SIGINT)) == before
    assert (torch.get_default_dtype(), torch.get_default_device(), torch.get_num_threads()) == settings
    assert dict(os.environ) == environment
    assert torch.is_grad_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.rand(1) == expected


def test_bench_runs_healthy_variants_beside_broken_plugins(installed, run_cli, tmp_path):
    options = ("--throughput-only", "--throughput-seconds", "0.1", "--device", "cpu", "--batch-size", "8", "--json")
    done = run_cli("bench", "--models", "mlp,unharmed", *options)
    assert done.returncode == 0, done.stderr
    assert [record["status"] for record in json.loads(done.stdout)] == ["ok", "ok"]
    folders = [path.parent.name.split("-")[0] for path in (tmp_path / "runs").glob("*/*/record.json")]
    assert sorted(folders) == ["mlp", "unharmed"]


def test_a_stray_thread_does_not_keep_the_command_alive(tmp_path, run_cli):
    (tmp_path / "stray.py").write_text(BROKEN["stray-thread"][0])
    done = run_cli("plugins", "--json", "--plugin", "stray.py", env={"GANZOO_PLUGINS": ""}, program=FRESH)
    assert done.returncode == 0
    (status,) = (status for status in json.loads(done.stdout) if status["state"] == "broken")
    assert status["error"] == "KeyError: 'thread'"
    assert done.stderr == "ganzoo: a plugin's thread '[red]stray' does not end; it is left behind\n"


PATIENT = """
from ganzoo.cli import main as cli

# Only Ctrl-C can end this wait.
cli.PATIENCE_SECONDS = 3600
command = cli.main

def main():
    code = command()
    print("and now it waits", flush=True)
    return code

cli.main = main
cli.run()
"""


@needs_system(os.name == "posix", "Ctrl-C as POSIX has it")
def test_ctrl_c_while_a_stray_thread_is_waited_for_ends_the_command_at_once(tmp_path):
    (tmp_path / "stray.py").write_text(BROKEN["stray-thread"][0])
    process = subprocess.Popen(
        [sys.executable, "-c", PATIENT, "plugins", "--json", "--plugin", "stray.py"],
        cwd=tmp_path,
        env={**os.environ, "GANZOO_PLUGINS": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=restore_default_signals,
    )
    try:
        assert "and now it waits\n" in iter(process.stdout.readline, "")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=HANGING)
    finally:
        process.kill()
    assert (process.returncode, said) == (130, "")


def test_a_thread_that_ends_is_waited_for(tmp_path, run_cli):
    (tmp_path / "sender.py").write_text(
        "import threading, time\nfrom pathlib import Path\n"
        "def send():\n    time.sleep(1)\n    Path('sent').touch()\n"
        "threading.Thread(target=send).start()\n" + HEALTHY
    )
    done = run_cli("plugins", "--plugin", "sender.py", env={"GANZOO_PLUGINS": ""}, program=FRESH)
    assert (done.returncode, done.stderr) == (0, "")
    assert Path(tmp_path / "sent").exists()


LATE = """
import sys
import ganzoo

class Odd(BaseException):
    pass

def render(table):
    {how}

def load(request):
    {how}

@ganzoo.hookimpl
def ganzoo_reporters():
    yield ganzoo.Reporter("late", render)

@ganzoo.hookimpl
def ganzoo_datasets():
    yield ganzoo.Dataset("late", load, lambda request: "1")

@ganzoo.hookimpl
def ganzoo_event(event):
    {how}
"""


@pytest.mark.parametrize("how", ["sys.exit(0)", "raise Odd('odd')"])
def test_plugin_that_calls_exit_when_used_is_a_failure(how, tmp_path, invoke):
    (tmp_path / "late.py").write_text(LATE.format(how=how))
    outcome = invoke("compare", ONE_MACHINE, "--format", "late", "--plugin", "late.py")
    assert outcome.code == 1
    name = "SystemExit: 0" if "exit" in how else "Odd: odd"
    assert outcome.error == f"ganzoo: failed unexpectedly with {name}; --debug shows where"
    outcome = invoke("bench", "--models", "mlp", "--dataset", "late", "--throughput-only", "--plugin", "late.py")
    assert outcome.code != 0
    assert name in outcome.error
    said: list[str] = []
    registry = discover([str(tmp_path / "late.py")])
    registry.notify(StageChanged("0", "training"), said.append)
    registry.notify(StageChanged("0", "scoring"), said.append)
    assert said == [f"plugin late.py: ganzoo_event raised {name}; it is not called again"]


# --- plugins that take the process with them --------------------------------------------------------------------------

CLOSERS = {
    "os.close(1)": "stdout",
    "os.close(2)": "stderr",
    "os.close(0)": "stdin",
    "sys.stdout.close()": "stderr",
    "sys.__stdout__.close()": "stdout",
    "sys.stderr.close()": "stderr",
    "sys.stdin.close()": "stdin",
}
"""What a plugin does on import, and what it has closed by that; `sys.stdout` is stderr meanwhile."""


@needs_system(os.name == "posix", "descriptors as POSIX has them")
def test_a_plugin_that_closes_a_standard_stream_is_broken_and_costs_one_line(tmp_path, run_cli):
    arguments, lines = [], []
    for index, (how, what) in enumerate(CLOSERS.items()):
        (tmp_path / f"closer_{index}.py").write_text(f"import os, sys\n{how}\n" + HEALTHY)
        arguments += ["--plugin", f"closer_{index}.py"]
        why = f"{what} closed: a plugin has to leave the standard streams open"
        lines.append(f"ganzoo: plugin closer_{index}.py is broken and left out: {why}")
    options = {"env": {"GANZOO_PLUGINS": ""}, "program": forked("ganzoo", ending="whole")}
    done = run_cli("list", "variants", "--json", *arguments, **options)
    assert (done.returncode, done.stdout) == (0, "[]\n")
    assert done.stderr.splitlines() == lines


@needs_system(os.name == "posix", "descriptors as POSIX has them")
def test_a_plugin_that_closes_everything_ends_in_no_dump(tmp_path, run_cli):
    (tmp_path / "closer.py").write_text("import os\nos.closerange(0, 1000)\n" + HEALTHY)
    options = {"env": {"GANZOO_PLUGINS": ""}, "program": forked("ganzoo", ending="whole")}
    done = run_cli("list", "--plugin", "closer.py", **options)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_system(hasattr(os, "fork"), "processes that fork")
def test_a_copy_that_a_plugin_forks_ends_with_its_import(tmp_path, run_cli):
    (tmp_path / "forker.py").write_text("import os\nos.fork()\n" + HEALTHY)
    (tmp_path / "worker.py").write_text("import os, sys\nif not os.fork(): sys.exit(0)\n")
    plugins = ("--plugin", "forker.py", "--plugin", "worker.py")
    done = run_cli("list", "variants", "--json", *plugins, env={"GANZOO_PLUGINS": ""})
    assert done.returncode == 0
    assert [variant["name"] for variant in json.loads(done.stdout)] == ["unharmed"]
    why = "has forked the process and let the copy run on; the copy ends here"
    said = [f"ganzoo: plugin {name}.py {why}" for name in ("forker", "worker")]
    assert set(said) <= set(done.stderr.splitlines())
    (other,) = set(done.stderr.splitlines()) - set(said)
    assert other.startswith("ganzoo: plugin worker.py is broken and left out: implements no hook")


@needs_system(os.name == "posix", "locks as POSIX has them")
def test_plugins_names_the_one_whose_import_ended_a_process(tmp_path, run_cli):
    (tmp_path / "ender.py").write_text("import os\nos._exit(0)\n")
    (tmp_path / "healthy.py").write_text(HEALTHY)
    both = ("--plugin", "healthy.py", "--plugin", "ender.py")
    environment = {"GANZOO_PLUGINS": "", "GANZOO_CACHE": str(tmp_path / "cache")}

    def states() -> dict[str, tuple[str, str | None]]:
        done = run_cli("plugins", "--json", *both, env=environment)
        assert done.returncode == 0, done.stderr
        return {
            status["name"]: (status["state"], status["error"])
            for status in json.loads(done.stdout)
            if status["name"].endswith(".py")
        }

    for _ in range(2):
        done = run_cli("list", *both, env=environment)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    why = "its import ended an earlier command; skipped here; fix or uninstall it"
    assert states() == {"healthy.py": ("ok", None), "ender.py": ("broken", why)}
    assert len(list((tmp_path / "cache").glob(".importing-*"))) == 1
    (tmp_path / "ender.py").write_text("import os\n" + HEALTHY.replace("unharmed", "mended"))
    assert run_cli("list", *both, env=environment).returncode == 0
    assert {state for state, _ in states().values()} == {"ok"}
    assert list((tmp_path / "cache").glob(".importing-*")) == []
