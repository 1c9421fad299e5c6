"""The facts about hardware and software that a record holds."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from ganzoo.machine.meters import NvmlMeter
from ganzoo.runs import Environment, HardwareFacts, PluginFacts
from ganzoo.util.float32 import float32_settings
from ganzoo.util.text import printable, slug

RECORDED_VARIABLES = (
    *("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"),
    *("CUDA_LAUNCH_BLOCKING", "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "NVIDIA_TF32_OVERRIDE"),
)
"""Environment variables that change the speed of a run; the last also changes bits, see `resolve_precision`."""


def hardware_fingerprint(device: str, threads: int) -> HardwareFacts:
    """The record's `hardware`: `id` is a slug of model, count and threads, free of software versions.

    `memory_bytes` is the accelerator's where the run used one, else the machine's.
    """
    cpu = _cpu_model()
    cores = os.cpu_count() or 1
    accelerator = _accelerator(device)
    model, count = (accelerator["name"], 1) if accelerator else (cpu, cores)
    return {
        "id": slug(f"{model} x{count} t{threads}"),
        "accelerator": accelerator["name"] if accelerator else None,
        "cpu": cpu,
        "cores": cores,
        "threads": threads,
        "memory_bytes": accelerator["memory_bytes"] if accelerator else _machine_memory(),
        "machine_memory_bytes": _machine_memory(),
        "driver": accelerator["driver"] if accelerator else None,
        "cuda": torch.version.cuda if device.startswith("cuda") else None,
        "cudnn": torch.backends.cudnn.version() if device.startswith("cuda") else None,
        "power_limit_watts": accelerator["power_limit_watts"] if accelerator else None,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


def environment(plugins: Mapping[str, PluginFacts], linear_backend: str) -> Environment:
    """The record's `environment`: the machine's name, versions of what ran, the plugins used, and the flags that
    change it, among them what multiplies matrices in linear layers.
    """
    packages = ("torchvision", "torch-fidelity", "numpy", "pluggy")
    return {
        "host": printable(platform.node()),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "ganzoo": metadata.version("ganzoo"),
        "packages": {name: _version(name) for name in packages},
        "platform": platform.platform(),
        "plugins": dict(plugins),
        # Of a run, those that its plugins import.
        "distributions": {},
        "plugin_allow_list": os.environ.get("GANZOO_PLUGINS"),
        "git": _git_revision(),
        "flags": {
            "linear_backend": linear_backend,
            # Torch cannot say it where its two interfaces contradict each other.
            "float32_matmul_precision": float32_settings().get("matmul"),
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
            # These two cannot be put back where a plugin has changed them.
            "interop_threads": torch.get_num_interop_threads(),
            "niceness": os.nice(0) if hasattr(os, "nice") else None,
            **{name.lower(): os.environ.get(name) for name in RECORDED_VARIABLES},
        },
    }


def _accelerator(device: str) -> dict[str, Any] | None:
    kind, _, index = device.partition(":")
    if kind == "cpu":
        return None
    if kind != "cuda":
        return {"name": f"{kind} ({_cpu_model()})", "memory_bytes": None, "driver": None, "power_limit_watts": None}
    properties = torch.cuda.get_device_properties(int(index or 0))
    facts = {"driver": None, "power_limit_watts": None}
    if torch.version.hip is None:
        facts = NvmlMeter(str(properties.uuid)).facts()
    return {"name": properties.name, "memory_bytes": properties.total_memory, **facts}


def _output_of(*command: str) -> str | None:
    """The stdout of a command, or None where it is absent, fails, hangs or prints nothing."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def _cpu_model() -> str:
    """The processor's name as the system gives it; the architecture where it gives none."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return printable(line.partition(":")[2])
    except OSError:
        pass
    if sys.platform == "darwin" and (brand := _output_of("sysctl", "-n", "machdep.cpu.brand_string")):
        return printable(brand)
    return printable(platform.processor() or platform.machine() or "unknown CPU")


def _machine_memory() -> int:
    import psutil

    return int(psutil.virtual_memory().total)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    """The commit of the checkout ganzoo runs from, marked `-dirty` where it differs; None for an installed copy."""
    git = ("git", "-C", str(Path(__file__).resolve().parent.parent))
    if _output_of(*git, "ls-files", "--error-unmatch", "types.py") is None:
        return None
    return _output_of(*git, "describe", "--always", "--dirty", "--abbrev=12", "--match=")
