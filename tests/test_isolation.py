"""What a plugin changes of the process is put back, and a run's process loads only the plugins that it draws on."""

from __future__ import annotations

import json
import os
import sys

import pytest
import torch
from conftest import FRESH
from skips import needs_system

from ganzoo.errors import PluginError
from ganzoo.machine.settings import apply_settings, ieee_float32
from ganzoo.planning.plan import resolve
from ganzoo.planning.request import BenchPlan
from ganzoo.registry.discovery import discover
from ganzoo.registry.isolation import PROCESS_SETTINGS, check_settings, settings_in_force, undisturbed
from ganzoo.util.float32 import float32_settings, restore_float32, set_float32

pytestmark = needs_system(sys.platform == "linux", "signals, umask and cores as Linux has them")

VARIANT = """
import ganzoo

@ganzoo.hookimpl
def ganzoo_variants():
    yield ganzoo.Variant("{name}", architecture="{architecture}", loss="non-saturating")
"""

MEDDLERS = {
    "anomaly detection": "import torch; torch.autograd.set_detect_anomaly(True)",
    "NumPy errors": "import numpy; numpy.seterr(all='raise')",
    "warnings": "import warnings; warnings.simplefilter('error'); warnings.showwarning = print",
    "logging": (
        "import logging; logging.basicConfig(level=1, force=True); logging.disable(40)\n"
        "logging.getLogger('torch').setLevel(1)"
    ),
    "garbage collector": "import gc; gc.disable(); gc.set_threshold(1, 1, 1); gc.freeze()",
    "umask": "import os; os.umask(0o777)",
    "denormals": "import torch; torch.set_flush_denormal(True)",
    "cuDNN": "import torch; torch.backends.cudnn.benchmark = True",
    "oneDNN": "import torch; torch.backends.mkldnn.deterministic = not torch.backends.mkldnn.deterministic",
    "CUDA products": "import torch; torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False",
    "float32": "import torch; torch.set_float32_matmul_precision('medium')",
    "dtype": "import torch; torch.set_default_dtype(torch.float64)",
    "device": "import torch; torch.set_default_device('cpu')",
    "gradients": "import torch; torch.set_grad_enabled(False)",
    "threads": "import torch; torch.set_num_threads(torch.get_num_threads() + 1)",
    "deterministic": "import torch; torch.use_deterministic_algorithms(True)",
    "random numbers": "import torch; torch.manual_seed(torch.initial_seed() + 1)",
    "start method": "import multiprocessing; multiprocessing.set_start_method('forkserver', force=True)",
    "signal handlers": (
        "import signal\nfor name in ('SIGINT', 'SIGTERM', 'SIGHUP', 'SIGUSR1'):\n"
        "    signal.signal(getattr(signal, name), signal.SIG_IGN)"
    ),
    "hooks": "import sys, threading; sys.excepthook = threading.excepthook = print; sys.setprofile(lambda *_: None)",
    "switch interval": "import sys; sys.setswitchinterval(1)",
    "locale": (
        "import locale; now = locale.setlocale(locale.LC_ALL)\n"
        "locale.setlocale(locale.LC_ALL, 'C' if now != 'C' else 'C.UTF-8')"
    ),
    "cores": "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})",
    "folder": "import os; os.chdir('/')",
    "streams": "import io, sys; sys.stderr = io.StringIO()",
    "environment": "import os; os.environ['OMP_NUM_THREADS'] = '77'",
    "search path": "import sys; sys.path.clear()",
    "recursion limit": "import sys; sys.setrecursionlimit(sys.getrecursionlimit() - 1)",
}
"""For each setting that is put back, a line of a plugin that changes it."""


@pytest.mark.parametrize("name", MEDDLERS)
def test_what_an_import_changes_is_put_back(name, tmp_path):
    (tmp_path / "meddler.py").write_text(MEDDLERS[name] + "\n" + VARIANT.format(name="meddler", architecture="mlp"))
    torch.set_rng_state(torch.get_rng_state())
    before = PROCESS_SETTINGS[name].read()
    registry = discover([str(tmp_path / "meddler.py")])
    assert registry.status_of("meddler.py").state == "ok"
    assert PROCESS_SETTINGS[name].read() == before


def test_a_thread_that_openmp_has_bound_at_the_users_wish_stays_bound(monkeypatch):
    cores = os.sched_getaffinity(0)
    monkeypatch.setenv("OMP_PROC_BIND", "true")
    try:
        with undisturbed():
            os.sched_setaffinity(0, {min(cores)})
        assert os.sched_getaffinity(0) == {min(cores)}
    finally:
        os.sched_setaffinity(0, cores)


def test_a_plugin_is_tried_for_every_setting():
    assert set(MEDDLERS) == set(PROCESS_SETTINGS)


@pytest.mark.parametrize("name", MEDDLERS)
def test_each_of_these_plugins_does_change_its_setting(name):
    with undisturbed():
        before = PROCESS_SETTINGS[name].read()
        exec(MEDDLERS[name], {})
        changed = PROCESS_SETTINGS[name].read() != before
    assert changed or (name == "cores" and len(os.sched_getaffinity(0)) == 1)


POISONS = {
    "in general": "torch.backends.fp32_precision = 'tf32'",
    "of cuDNN": "torch.backends.cudnn.fp32_precision = 'tf32'",
    "of convolutions": "torch.backends.cudnn.conv.fp32_precision = 'tf32'",
    "of recurrent networks": "torch.backends.cudnn.rnn.fp32_precision = 'tf32'",
    "of products": "torch.backends.cuda.matmul.fp32_precision = 'tf32'",
    "of oneDNN's convolutions": "torch.backends.mkldnn.conv.fp32_precision = 'bf16'",
    "of oneDNN's products": "torch.backends.mkldnn.matmul.fp32_precision = 'bf16'",
    "the older setters": "torch.set_float32_matmul_precision('medium'); torch.backends.cudnn.allow_tf32 = True",
    "both": "torch.backends.cudnn.allow_tf32 = False; torch.backends.fp32_precision = 'tf32'",
}
"""Ways to ask torch for less than IEEE float32."""

COARSE = {"tf32", "bf16"}


def precisions() -> dict[str, str]:
    """What each operator of each backend computes in."""
    return {
        f"{backend}.{operator}": torch._C._get_fp32_precision_getter(backend, operator)
        for backend in ("cuda", "mkldnn")
        for operator in ("matmul", "conv", "rnn")
    }


@pytest.mark.parametrize("poison", POISONS)
def test_fp32_is_ieee_whatever_a_plugin_has_asked_for(poison):
    with undisturbed():
        exec(POISONS[poison], {"torch": torch})
        apply_settings(1, "fp32")
        assert not COARSE & set(precisions().values()), precisions()
        assert torch.get_float32_matmul_precision() == "highest"
        assert not torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("poison", POISONS)
def test_tf32_is_tf32_whatever_a_plugin_has_asked_for(poison):
    with undisturbed():
        exec(POISONS[poison], {"torch": torch})
        apply_settings(1, "tf32")
        assert {precisions()[f"cuda.{operator}"] for operator in ("matmul", "conv", "rnn")} == {"tf32"}
        assert torch.get_float32_matmul_precision() == "high"
        assert torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("poison", POISONS)
def test_scores_are_ieee_whatever_a_network_has_asked_for(poison):
    with undisturbed():
        apply_settings(1, "fp32")
        exec(POISONS[poison], {"torch": torch})
        before = precisions()
        with ieee_float32():
            assert not COARSE & set(precisions().values()), precisions()
        assert precisions() == before


@pytest.mark.parametrize("poison", POISONS)
def test_the_float32_settings_are_restored(poison):
    with undisturbed():
        set_float32(tf32=False)
        before = float32_settings()
        exec(POISONS[poison], {"torch": torch})
        assert float32_settings() != before
        restore_float32(before)
        assert float32_settings() == before


IMPORTED = """
import os, pathlib, torch
with pathlib.Path(os.environ["IMPORTED"]).open("a") as file:
    file.write(f"{__name__} {os.getpid()}\\n")
torch.autograd.set_detect_anomaly(True)
"""


def test_a_run_loads_the_plugins_that_it_draws_on_and_no_others(run_cli, tmp_path):
    (tmp_path / "unused.py").write_text(IMPORTED + VARIANT.format(name="unused", architecture="dcgan"))
    (tmp_path / "used.py").write_text(IMPORTED + VARIANT.format(name="used", architecture="mlp"))
    done = run_cli(
        *("bench", "--models", "used", "--batch-size", "8", "--throughput-only", "--throughput-seconds", "0.05"),
        *("--device", "cpu", "--json", "--plugin", "unused.py", "--plugin", "used.py"),
        env={"IMPORTED": str(tmp_path / "imported")},
    )
    assert done.returncode == 0, done.stderr
    processes: dict[str, set[str]] = {}
    for line in (tmp_path / "imported").read_text().splitlines():
        module, process = line.split()
        processes.setdefault(process, set()).add(module)
    assert sorted(map(len, processes.values())) == [1, 2], "the run's process has loaded one plugin, its bench both"


def test_names_of_plugins_are_the_same_where_some_are_passed_over(tmp_path, stranger):
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "twin.py").write_text(VARIANT.format(name=folder, architecture="mlp"))
    paths = [str(tmp_path / folder / "twin.py") for folder in ("first", "second")]
    whole = discover(paths)
    part = discover(paths, only=("twin.py@2", "dcgan"))
    assert [status.name for status in part.statuses] == [status.name for status in whole.statuses]
    assert {status.name for status in part.statuses if status.state == "ok"} == {"twin.py@2", "dcgan"}
    assert part.names("variants") == ["dcgan", "second"]


TALKER = "import atexit, os\natexit.register(print, 'bye')\natexit.register(os.write, 1, b'from C')\n"


def test_what_is_printed_at_exit_goes_to_stderr(run_cli, tmp_path):
    (tmp_path / "talker.py").write_text(TALKER + VARIANT.format(name="talker", architecture="mlp"))
    done = run_cli("list", "variants", "--json", "--plugin", "talker.py", program=FRESH)
    assert "talker" in {entry["name"] for entry in json.loads(done.stdout)}
    assert "bye" in done.stderr
    assert "from C" in done.stderr


def test_what_others_print_at_exit_stays_where_it_was(run_cli, tmp_path):
    (tmp_path / "talker.py").write_text(TALKER + VARIANT.format(name="talker", architecture="mlp"))
    (tmp_path / "script.py").write_text(
        "import atexit, ganzoo.registry.discovery as discovery\natexit.register(print, 'before')\n"
        "discovery.discover(['talker.py'])\natexit.register(print, 'after')\n"
    )
    done = run_cli(program=(sys.executable, "script.py"))
    assert done.stdout.splitlines() == ["after", "before"], done.stderr


# --- during a run -----------------------------------------------------------------------------------------------------

IN_BUILD = """
import ganzoo, torch
from ganzoo_plugins.variants import mlp

def build(image_shape, latent, classes):
    torch.set_num_threads(1)
    torch.autograd.set_detect_anomaly(True)
    torch.backends.fp32_precision = "tf32"
    torch.set_default_dtype(torch.float32)
    return mlp.build(image_shape, latent, classes)

@ganzoo.hookimpl
def ganzoo_variants():
    yield ganzoo.Variant("in-build", ganzoo.Architecture("in-build-networks", build), loss="non-saturating")
"""


def test_what_build_changes_is_put_back_before_the_first_step(tmp_path, session_environment):
    from ganzoo.training.assembly import assemble

    (tmp_path / "in_build.py").write_text(IN_BUILD)
    registry = discover([str(tmp_path / "in_build.py")])
    plan = BenchPlan(("in-build",), device="cpu", threads=2, batch_size=8, throughput_only=True)
    resolved = resolve(plan, registry)
    with undisturbed():
        apply_settings(2, "fp32")
        before = settings_in_force()
        assemble(resolved.runs[0].spec, registry, resolved.dataset)
        assert settings_in_force() == before
        assert torch.get_num_threads() == 2


IN_PHASE = """
import ganzoo, torch
from torch.nn.functional import softplus

def discriminator(generator, discriminator, batch, hyper):
    {change}
    fake = generator(batch.latent, batch.labels).detach()
    return {{"real": softplus(-discriminator(batch.real)).mean(), "fake": softplus(discriminator(fake)).mean()}}

def generator(generator, discriminator, batch, hyper):
    return {{"fool": softplus(-discriminator(generator(batch.latent, batch.labels))).mean()}}

@ganzoo.hookimpl
def ganzoo_variants():
    phases = (
        ganzoo.Phase("discriminator", discriminator, updates="discriminator"),
        ganzoo.Phase("generator", generator, updates="generator"),
    )
    yield ganzoo.Variant("in-phase", architecture="mlp", loss=ganzoo.Loss("in-phase-loss", phases=phases))
"""


def test_a_run_whose_phase_changes_the_threads_is_refused_by_name(run_cli, tmp_path):
    (tmp_path / "in_phase.py").write_text(IN_PHASE.format(change="torch.set_num_threads(1)"))
    done = run_cli(
        *("bench", "--models", "in-phase", "--batch-size", "8", "--throughput-only", "--throughput-seconds", "0.05"),
        *("--device", "cpu", "--threads", "2", "--json", "--plugin", "in_phase.py"),
    )
    assert done.returncode == 1
    (record,) = json.loads(done.stdout)
    assert record["status"] == "crashed"
    expected = "a network or a phase has changed a setting of the process: threads, from 2 to 1; leave it"
    assert record["error"]["message"] == expected


def test_settings_that_stay_are_no_fault():
    check_settings(settings_in_force())
    before = settings_in_force()
    with undisturbed():
        torch.autograd.set_detect_anomaly(True)
        with pytest.raises(PluginError, match="anomaly detection"):
            check_settings(before)


IN_SCORE = """
import ganzoo, torch

def score(real, fake, settings):
    torch.set_num_threads(1)
    torch.autograd.set_detect_anomaly(True)
    return {"gap": float((real.features.mean(0) - fake.features.mean(0)).norm())}

@ganzoo.hookimpl
def ganzoo_metrics():
    yield ganzoo.Metric("meddling-gap", score, better={"gap": "lower"})
"""


def test_what_a_metric_changes_is_put_back_before_the_training_goes_on(run_cli, tmp_path):
    (tmp_path / "in_score.py").write_text(IN_SCORE)
    done = run_cli(
        *("bench", "--models", "mlp", "--batch-size", "8", "--kimg", "0.032", "--eval-every", "0.016", "--fakes", "64"),
        *("--metrics", "meddling-gap", "--throughput-seconds", "0.05", "--device", "cpu", "--threads", "2", "--json"),
        *("--plugin", "in_score.py"),
    )
    assert done.returncode == 0, done.stderr + done.stdout
    (record,) = json.loads(done.stdout)
    assert (record["status"], len(record["scores"])) == ("ok", 4)
