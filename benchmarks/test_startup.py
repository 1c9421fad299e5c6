"""How long a command takes to start, in processes of their own, beside the interpreter and `import torch` alone."""

from __future__ import annotations

import subprocess
import sys

import pytest

COMMANDS = {
    "python -c pass": ("-c", "pass"),
    "ganzoo --help": ("-m", "ganzoo", "--help"),
    "python -c 'import torch'": ("-c", "import torch"),
    "ganzoo list": ("-m", "ganzoo", "list"),
}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.benchmark(group="start-up")
def test_startup(benchmark, name):
    command = [sys.executable, *COMMANDS[name]]
    benchmark.pedantic(
        lambda: subprocess.run(command, check=True, capture_output=True), rounds=5, warmup_rounds=1, iterations=1
    )
