"""Ctrl-Z stops a bench with its run, `fg` lets both go on, and neither outlives the other while it is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest
from conftest import FRESH, restore_default_signals, wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads the states of processes as Linux has them")


@pytest.fixture
def bench(tmp_path):
    """A bench whose run is in its long training; killed in the end."""
    command = ("bench", "--models", "mlp", "--kimg", "100000", "--threads", "1", "--throughput-seconds", "0.1")
    process = subprocess.Popen(
        [*FRESH, *command, "--eval-every", "50000"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=restore_default_signals,
    )
    yield psutil.Process(process.pid)
    process.kill()
    process.wait()


def run_of(bench):
    """The run's process, and the one that waits for its end."""
    return wait_for(lambda: found if len(found := bench.children(recursive=True)) == 2 else None)


def is_stopped(process):
    return process.status() == psutil.STATUS_STOPPED


def is_gone(process):
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


# One test, for it takes the seconds of two processes that import torch.
def test_a_run_is_stopped_and_goes_on_with_its_bench_and_ends_with_it_even_when_stopped(bench):
    run, keeper = run_of(bench)
    bench.send_signal(signal.SIGTSTP)
    wait_for(lambda: is_stopped(bench) and is_stopped(run))
    bench.send_signal(signal.SIGCONT)
    wait_for(lambda: not is_stopped(bench) and not is_stopped(run))
    os.killpg(run.pid, signal.SIGSTOP)
    wait_for(lambda: is_stopped(run))
    bench.kill()
    wait_for(lambda: is_gone(run) and is_gone(keeper))
