"""Device, threads, precision, step mode and memory format: the options resolved by fixed rules, and applied."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from ganzoo.errors import UsageError
from ganzoo.util.float32 import float32_settings, restore_float32, set_float32
from ganzoo.util.text import printable

PRECISIONS = ("fp32", "tf32", "bf16")

STEP_MODES = ("eager", "graph", "compile")
"""`eager` calls the phases, `graph` replays the whole step as a CUDA graph, `compile` compiles each phase."""

TORCH_FORMATS = {"channels_last": "channels_last", "contiguous": "preserve_format"}
"""The name in torch of each memory format that a spec may hold, for `Module.to`."""


def resolve_device(request: str) -> str:
    """`auto`, `cpu`, `cuda`, `cuda:1`, `mps`, `xpu` … to one device with its index.

    `auto` is the accelerator if there is one, else the CPU. Raises `UsageError` for a device that is not there.
    """
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if request == "auto":
        return f"{accelerator.type}:0" if accelerator else "cpu"
    there = ["cpu"]
    if accelerator:
        there += [f"{accelerator.type}:{index}" for index in range(torch.accelerator.device_count())]
    try:
        device = torch.device(request)
    except RuntimeError:
        device = None
    name = None if device is None else device.type if device.type == "cpu" else f"{device.type}:{device.index or 0}"
    if name not in there:
        raise UsageError(f"--device {printable(request)}: not on this machine; it has {', '.join(there)} (or auto)")
    return name


def resolve_threads(request: int | None) -> int:
    """The number of CPU threads of a run: `request`, else `OMP_NUM_THREADS`, else every core this process may use.

    The count is fixed before a run and recorded, because one thread and two give different bits.
    """
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if request is None:
        wanted = os.environ.get("OMP_NUM_THREADS", "")
        return int(wanted) if wanted.isdecimal() and 1 <= int(wanted) <= 1024 else available
    if not 1 <= request <= 1024:
        raise UsageError(f"--threads {request}: give a number from 1 to 1024 (this machine has {available})")
    return request


def resolve_precision(request: str, device: str) -> str:
    """Check that `device` can do `request`; raises `UsageError` saying what it can."""
    if request not in PRECISIONS:
        raise UsageError(f"--precision {printable(request)}: choose from {', '.join(PRECISIONS)}")
    kind = device.partition(":")[0]
    override = os.environ.get("NVIDIA_TF32_OVERRIDE")
    if kind == "cuda" and (override, request == "tf32") in (("0", True), ("1", False)):
        raise UsageError(f"--precision {request}: NVIDIA_TF32_OVERRIDE={override} decides otherwise; unset it")
    if request == "tf32" and (kind != "cuda" or torch.cuda.get_device_capability(device) < (8, 0)):
        raise UsageError(f"--precision tf32: {device} has no tf32 units; use fp32")
    if request == "bf16" and kind == "cuda" and torch.cuda.get_device_capability(device) < (8, 0):
        raise UsageError(f"--precision bf16: {device} would only emulate it; use fp32")
    if request == "bf16" and kind == "cpu" and not _cpu_has_bf16():
        raise UsageError(
            "--precision bf16: this CPU has neither AMX nor AVX512-BF16 and would only emulate it; use fp32"
        )
    return request


def resolve_step_mode(request: str | None, device: str) -> str:
    """The step mode: `request`, else CUDA graphs on an NVIDIA GPU and eager elsewhere.

    Raises `UsageError` for a mode that `device` or this machine cannot do.
    """
    kind = device.partition(":")[0]
    if request is None:
        # ROCm calls its devices cuda too; captures have not been tried there.
        return "graph" if kind == "cuda" and torch.version.hip is None else "eager"
    if request not in STEP_MODES:
        raise UsageError(f"--step-mode {printable(request)}: choose from {', '.join(STEP_MODES)}")
    if request == "graph" and kind != "cuda":
        raise UsageError(f"--step-mode graph: {device} has no CUDA graphs; use eager or compile")
    compilers = (os.environ.get("CXX") or "g++", "clang++", "cl")
    if request == "compile" and kind == "cpu" and not any(map(shutil.which, compilers)):
        raise UsageError("--step-mode compile: no C++ compiler is installed (torch.compile needs one); use eager")
    return request


def memory_format(parameters: Iterable[torch.Tensor], device: str, precision: str) -> str:
    """`channels_last` for networks with convolutions, on devices where it is faster (docs/performance.md).

    Else `contiguous`. Chosen by a rule rather than by timing, because the two give different bits.
    """
    kind = device.partition(":")[0]
    faster = kind == "cpu" or (kind == "cuda" and precision != "fp32")
    return "channels_last" if faster and any(parameter.dim() == 4 for parameter in parameters) else "contiguous"


def _cpu_has_bf16() -> bool:
    if hasattr(torch.cpu, "get_capabilities"):
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def apply_settings(threads: int, precision: str) -> None:
    """Set the thread count and the float32 mode of this process: IEEE unless tf32 is asked for."""
    torch.set_num_threads(threads)
    set_float32(tf32=precision == "tf32")


@contextlib.contextmanager
def ieee_float32() -> Iterator[None]:
    """Compute in IEEE float32 within the block, whatever the run's precision, so that scores do not depend on it."""
    before = float32_settings()
    set_float32(tf32=False)
    try:
        yield
    finally:
        restore_float32(before)


def synchronize(device: str | torch.device) -> None:
    """Wait until `device` has finished its queue; does nothing on the CPU."""
    if torch.device(device).type != "cpu":
        torch.accelerator.synchronize(torch.device(device))
