"""Meters of energy, clocks and other processes on the device, read while a rate is measured.

NVML on an NVIDIA GPU, RAPL on a CPU whose counters are readable; elsewhere a `NoMeter` with the reason.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

LEAST_SECONDS = 3.0
"""The shortest span for an energy measurement: the counters advance in steps of up to 100 ms, with a lag."""

THROTTLE_REASONS = {
    0x0004: "software power cap",
    0x0008: "hardware slowdown",
    0x0020: "software thermal slowdown",
    0x0040: "hardware thermal slowdown",
    0x0080: "hardware power brake",
}
"""Bits of nvmlDeviceGetCurrentClocksEventReasons that mean less speed than asked for (NVML API reference)."""

LIMITS = {0: "power", 1: "temperature"}
"""Policies of nvmlDeviceGetViolationStatus, which counts how long each holds the clocks down (NVML API reference)."""

LIMITED_SHARE = 0.01
"""A measurement is flagged when the clocks were held down for more than this share of it."""

DATASHEET_FLOPS = {
    ("H200",): {"fp32": 67e12, "tf32": 494.7e12, "bf16": 989.4e12},
    ("H200 NVL",): {"fp32": 60e12, "tf32": 417.5e12, "bf16": 835.5e12},
    ("H100 80GB HBM3",): {"fp32": 67e12, "tf32": 494.7e12, "bf16": 989.4e12},
    ("H100 PCIe",): {"fp32": 51e12, "tf32": 378e12, "bf16": 756e12},
    ("A100-SXM4-40GB", "A100-SXM4-80GB", "A100-PCIE-40GB", "A100 80GB PCIe"): {
        "fp32": 19.5e12,
        "tf32": 156e12,
        "bf16": 312e12,
    },
    ("L40S",): {"fp32": 91.6e12, "tf32": 183e12, "bf16": 362e12},
    ("V100-SXM2-16GB", "V100-SXM2-32GB"): {"fp32": 15.7e12},
    ("T4",): {"fp32": 8.1e12},
}
"""Dense peaks from NVIDIA's datasheets, by whole names without the maker's: "H200 NVL" and "A100-SXM4-40GB MIG 1g.5gb"
are other devices than "H200" and "A100-SXM4-40GB"."""


class Meter(Protocol):
    """Reads counters of the device. `source` names the energy counter, or `reason` says why there is none."""

    source: str | None
    reason: str | None

    def joules(self) -> float | None:
        """Joules since some fixed moment, or None."""

    def state(self) -> Mapping[str, Any]:
        """Clock, temperature and throttle reasons of the device now; empty where unknown."""

    def neighbours(self) -> list[int]:
        """Ids of other processes that use the device."""


def meter_of(device: torch.device) -> Meter:
    """The meter of a device."""
    if device.type == "cuda" and torch.version.hip is None:
        return NvmlMeter(str(torch.cuda.get_device_properties(device).uuid))
    if device.type == "cpu":
        return RaplMeter()
    return NoMeter(f"no energy counter is known for {device.type}")


def datasheet_flops(name: str | None, precision: str) -> float | None:
    """The peak on the datasheet, where it is known."""
    model = (name or "").removeprefix("NVIDIA ").removeprefix("Tesla ")
    return next((peaks.get(precision) for models, peaks in DATASHEET_FLOPS.items() if model in models), None)


class NoMeter:
    """No meter on this machine; `reason` says why."""

    def __init__(self, reason: str) -> None:
        self.source: str | None = None
        self.reason: str | None = reason

    def joules(self) -> float | None:
        return None

    def state(self) -> Mapping[str, Any]:
        return {}

    def neighbours(self) -> list[int]:
        return []


class RaplMeter(NoMeter):
    """The energy of all CPU packages, from Linux's powercap interface; counter overflows are handled."""

    def __init__(self, root: Path = Path("/sys/class/powercap")) -> None:
        super().__init__("this machine shows no RAPL energy counter")
        self._total = 0.0
        self._counters: dict[Path, int] = {}
        for zone in sorted(root.glob("intel-rapl:*")):
            # Subzones (intel-rapl:0:0) are counted in their package already, and the platform's zone counts it again.
            try:
                if zone.name.count(":") == 1 and (zone / "name").read_text().startswith("package"):
                    self._counters[zone] = int((zone / "energy_uj").read_text())
            except OSError as error:
                self.reason = f"{error.filename}: {error.strerror}"
                self._counters.clear()
                return
        if self._counters:
            self.source, self.reason = "RAPL, CPU packages", None

    def joules(self) -> float | None:
        """Energy since the meter was made, in joules."""
        if not self._counters:
            return None
        try:
            for zone, last in self._counters.items():
                now = int((zone / "energy_uj").read_text())
                step = now - last
                if step < 0:
                    step += int((zone / "max_energy_range_uj").read_text())
                self._total += step / 1e6
                self._counters[zone] = now
        except (OSError, ValueError):
            return None
        return self._total


class NvmlMeter(NoMeter):
    """An NVIDIA GPU by its uuid, which holds whatever CUDA_VISIBLE_DEVICES says. A MIG instance has no counter."""

    def __init__(self, uuid: str) -> None:
        super().__init__("nvidia-ml-py is not installed")
        self._device: Any = None
        try:
            import pynvml
        except ImportError:
            return
        self._nvml = pynvml
        try:
            pynvml.nvmlInit()
            self._device = _nvml_device(pynvml, uuid)
            if pynvml.nvmlDeviceIsMigDeviceHandle(self._device) or _is_divided(pynvml, self._device):
                self.reason = "a MIG instance has no energy counter of its own"
                return
            pynvml.nvmlDeviceGetTotalEnergyConsumption(self._device)
            self.source, self.reason = "NVML, GPU board", None
        except pynvml.NVMLError as error:
            self.reason = f"NVML: {error}"

    def joules(self) -> float | None:
        """Energy since the driver was loaded, in joules."""
        if self.source is None:
            return None
        with contextlib.suppress(self._nvml.NVMLError):
            return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._device)) / 1000
        return None

    def state(self) -> Mapping[str, Any]:
        """`sm_clock_mhz`, `temperature_celsius`, `throttled_by`, `limited_seconds`; what cannot be read is left out.

        The last are totals, by what held the clocks down, and show what came and went between two looks.
        """
        if self._device is None:
            return {}
        nvml, state = self._nvml, {}
        with contextlib.suppress(nvml.NVMLError):
            state["sm_clock_mhz"] = nvml.nvmlDeviceGetClockInfo(self._device, nvml.NVML_CLOCK_SM)
        with contextlib.suppress(nvml.NVMLError):
            state["temperature_celsius"] = nvml.nvmlDeviceGetTemperature(self._device, nvml.NVML_TEMPERATURE_GPU)
        with contextlib.suppress(nvml.NVMLError):
            reasons = nvml.nvmlDeviceGetCurrentClocksThrottleReasons(self._device)
            state["throttled_by"] = [name for bit, name in THROTTLE_REASONS.items() if reasons & bit]
        with contextlib.suppress(nvml.NVMLError):
            state["limited_seconds"] = {
                name: nvml.nvmlDeviceGetViolationStatus(self._device, policy).violationTime / 1e9
                for policy, name in LIMITS.items()
            }
        return state

    def neighbours(self) -> list[int]:
        """Ids of other processes that compute on the GPU."""
        if self._device is None:
            return []
        with contextlib.suppress(self._nvml.NVMLError):
            running = self._nvml.nvmlDeviceGetComputeRunningProcesses(self._device)
            # In a container the ids are the host's, and this process is not found among them: then it is the one.
            others = [process.pid for process in running if process.pid != os.getpid()]
            return others[1:] if len(others) == len(running) else others
        return []

    def facts(self) -> dict[str, Any]:
        """`driver` and `power_limit_watts`, None where unknown."""
        facts: dict[str, Any] = {"driver": None, "power_limit_watts": None}
        if self._device is None:
            return facts
        with contextlib.suppress(self._nvml.NVMLError):
            version = self._nvml.nvmlSystemGetDriverVersion()
            facts["driver"] = version.decode() if isinstance(version, bytes) else version
        with contextlib.suppress(self._nvml.NVMLError):
            facts["power_limit_watts"] = self._nvml.nvmlDeviceGetEnforcedPowerLimit(self._device) / 1000
        return facts


def _is_divided(nvml: Any, device: Any) -> bool:
    """Whether the board is in MIG mode, where its counters are those of all instances together."""
    try:
        return bool(nvml.nvmlDeviceGetMigMode(device)[0])
    except nvml.NVMLError:
        return False


def _nvml_device(nvml: Any, uuid: str) -> Any:
    """torch gives the bare uuid, NVML wants it with its kind in front."""
    try:
        return nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}".encode())
    except nvml.NVMLError:
        return nvml.nvmlDeviceGetHandleByUUID(f"MIG-{uuid}".encode())


class Watch:
    """Records energy, throttling and other processes' CPU use at the edges of a measurement's windows."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.meter = meter_of(device)
        self.states: list[Mapping[str, Any]] = []
        self._edges: list[tuple[float, float | None, float, float]] = []

    def edge(self) -> None:
        """Call before the first window and after each."""
        self._edges.append((time.perf_counter(), self.meter.joules(), *cpu_seconds()))
        if state := self.meter.state():
            self.states.append(state)

    def energy(self) -> tuple[float | None, str | None]:
        """Joules between the first edge and the last, and None; or None and the reason."""
        (started, first, *_), (ended, last, *_) = self._edges[0], self._edges[-1]
        if first is None or last is None:
            return None, self.meter.reason or "the energy counter could not be read"
        if ended - started < LEAST_SECONDS:
            return None, f"measured for {ended - started:.1f} s, and energy needs {LEAST_SECONDS:g} s"
        return last - first, None

    def flags(self) -> list[str]:
        """Reasons to doubt the measurement, in words; empty if there is none."""
        flags = []
        if others := self.meter.neighbours():
            flags.append(f"{len(others)} other process(es) used the device")
        if reasons := sorted({reason for state in self.states for reason in state.get("throttled_by", ())}):
            flags.append(f"throttled: {', '.join(reasons)}")
        flags += self._limited()
        if self.device.type == "cpu" and self.disturbance() > BUSY_SHARE:
            flags.append(f"other processes used {self.disturbance():.0%} of the CPU")
        return flags

    def _limited(self) -> list[str]:
        """What held the clocks down between the first edge and the last, for how much of the time."""
        totals = [state["limited_seconds"] for state in self.states if "limited_seconds" in state]
        seconds = self._edges[-1][0] - self._edges[0][0]
        if len(totals) < len(self._edges) or seconds <= 0:
            return []
        shares = {name: (totals[-1][name] - totals[0][name]) / seconds for name in totals[0]}
        return [
            f"held down by {name} {share:.0%} of the time" for name, share in shares.items() if share > LIMITED_SHARE
        ]

    def disturbance(self) -> float:
        """The share of the CPU that other processes used between the first edge and the last.

        Of an accelerator it is not known: 1 where another process uses it, else 0.
        """
        if self.device.type != "cpu":
            return 1.0 if self.meter.neighbours() else 0.0
        (started, _, busy, ours), (ended, _, busy_after, ours_after) = self._edges[0], self._edges[-1]
        return share_of_others(busy_after - busy, ours_after - ours, ended - started)


def share_of_others(busy: float, ours: float, seconds: float) -> float:
    """What is left of the machine's seconds of work without ours, as a share of what all its cores could have done."""
    return max(0.0, busy - ours) / max(1e-9, seconds) / (os.cpu_count() or 1)


BUSY_SHARE = 0.1
"""A measurement on the CPU is flagged when other processes use more than this share of it."""


def cpu_seconds() -> tuple[float, float]:
    """Seconds of work so far: of the whole machine, and of this process."""
    import psutil

    machine, process = psutil.cpu_times(), psutil.Process().cpu_times()
    return machine.user + machine.system + getattr(machine, "nice", 0.0), process.user + process.system
