"""Energy counters and other processes, against a fake powercap tree and a fake NVML."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from ganzoo.machine import meters
from ganzoo.machine.meters import NvmlMeter, RaplMeter, Watch, datasheet_flops

CPU = torch.device("cpu")


def zone(root: Path, name: str, microjoules: int, most: int = 10**9) -> Path:
    folder = root / name
    folder.mkdir()
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text(f"{most}\n")
    (folder / "name").write_text("psys\n" if microjoules == 13 else "package-0\n")
    return folder


def test_rapl_adds_up_packages_and_follows_a_wrap(tmp_path):
    first = zone(tmp_path, "intel-rapl:0", 5_000_000)
    second = zone(tmp_path, "intel-rapl:1", 999_000_000)
    zone(tmp_path, "intel-rapl:0:0", 77)  # part of package 0, which counts it already
    platform = zone(tmp_path, "intel-rapl:2", 13)  # the whole machine, including the packages
    meter = RaplMeter(tmp_path)
    assert meter.reason is None
    assert meter.joules() == 0
    (first / "energy_uj").write_text("7000000")
    (second / "energy_uj").write_text("1000000")
    (platform / "energy_uj").write_text("9000000")
    assert meter.joules() == pytest.approx(2 + 2)
    (first / "energy_uj").write_text("7500000")
    assert meter.joules() == pytest.approx(4.5)
    (first / "energy_uj").unlink()
    assert meter.joules() is None, "a counter that goes away ends no run"


def test_missing_rapl_gives_a_reason(tmp_path):
    meter = RaplMeter(tmp_path)
    assert meter.joules() is None
    assert "no RAPL" in meter.reason


def test_an_unreadable_rapl_is_named(tmp_path):
    folder = zone(tmp_path, "intel-rapl:0", 1)
    (folder / "energy_uj").unlink()
    (folder / "energy_uj").mkdir()  # a folder cannot be read as a file, not even by root
    meter = RaplMeter(tmp_path)
    assert meter.joules() is None
    assert "energy_uj" in meter.reason


class FakeNvml:
    """The used part of pynvml, with a GPU that draws 100 W."""

    class NVMLError(Exception):
        pass

    NVML_CLOCK_SM = 1
    NVML_TEMPERATURE_GPU = 0

    def __init__(self, uuid="GPU-abc", mig=False, energy=True, pids=(), reasons=0, divided=False):
        self.uuid, self.mig, self.energy, self.pids, self.reasons = uuid, mig, energy, pids, reasons
        self.divided = divided
        self.millijoules = 1000

    def nvmlInit(self):  # noqa: N802
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid):  # noqa: N802
        if uuid.decode() != self.uuid:
            raise self.NVMLError("Not Found")
        return "handle"

    def nvmlDeviceIsMigDeviceHandle(self, handle):  # noqa: N802
        return self.mig

    def nvmlDeviceGetMigMode(self, handle):  # noqa: N802
        return [1 if self.divided else 0, 0]

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):  # noqa: N802
        if not self.energy:
            raise self.NVMLError("Not Supported")
        return self.millijoules

    def nvmlDeviceGetClockInfo(self, handle, kind):  # noqa: N802
        return 1980

    def nvmlDeviceGetTemperature(self, handle, kind):  # noqa: N802
        raise self.NVMLError("Not Supported")

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle):  # noqa: N802
        return self.reasons

    def nvmlDeviceGetComputeRunningProcesses(self, handle):  # noqa: N802
        return [SimpleNamespace(pid=pid) for pid in self.pids]

    def nvmlSystemGetDriverVersion(self):  # noqa: N802
        return "570.1"

    def nvmlDeviceGetEnforcedPowerLimit(self, handle):  # noqa: N802
        return 700_000


@pytest.fixture
def nvml(monkeypatch):
    def install(**facts):
        fake = FakeNvml(**facts)
        monkeypatch.setitem(sys.modules, "pynvml", fake)
        return fake

    return install


def test_nvml_reads_energy_clocks_and_limits_and_leaves_out_unsupported_ones(nvml):
    fake = nvml(reasons=0x24)
    meter = NvmlMeter("abc")
    assert (meter.source, meter.reason) == ("NVML, GPU board", None)
    assert meter.joules() == 1.0
    fake.millijoules = 301_000
    assert meter.joules() == 301.0
    assert meter.state() == {
        "sm_clock_mhz": 1980,
        "throttled_by": ["software power cap", "software thermal slowdown"],
    }
    assert meter.facts() == {"driver": "570.1", "power_limit_watts": 700.0}


@pytest.mark.parametrize("facts", [{"uuid": "MIG-abc", "mig": True}, {"divided": True}])
def test_mig_instance_has_no_energy_but_a_reason(nvml, facts):
    nvml(**facts)
    meter = NvmlMeter("abc")
    assert meter.joules() is None
    assert "MIG" in meter.reason


@pytest.mark.parametrize("facts", [{"energy": False}, {"uuid": "GPU-other"}])
def test_missing_nvml_energy_counter_gives_a_reason(nvml, facts):
    nvml(**facts)
    meter = NvmlMeter("abc")
    assert meter.joules() is None
    assert meter.reason.startswith("NVML: Not")


def test_missing_nvml_package_gives_a_reason(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    meter = NvmlMeter("abc")
    assert meter.joules() is None
    assert meter.reason == "nvidia-ml-py is not installed"
    assert meter.state() == {}
    assert meter.neighbours() == []


def test_other_gpu_processes_are_counted_without_the_own_container(nvml):
    nvml(pids=(os.getpid(), 999))
    assert NvmlMeter("abc").neighbours() == [999]
    nvml(pids=(4242,))  # this process, by its id outside the container
    assert NvmlMeter("abc").neighbours() == []
    nvml(pids=(4242, 999))
    assert len(NvmlMeter("abc").neighbours()) == 1


class Scripted:
    """A meter that returns readings from a list."""

    source, reason = "test", None

    def __init__(self, joules, others=(), states=({},)):
        self.readings, self.others, self.states = iter(joules), list(others), iter(states)

    def joules(self):
        return next(self.readings)

    def state(self):
        return next(self.states, {})

    def neighbours(self):
        return self.others


def watched(monkeypatch, meter, seconds, device=CPU):
    monkeypatch.setattr(meters, "meter_of", lambda device: meter)
    watch = Watch(device)
    now = 50.0
    monkeypatch.setattr(meters.time, "perf_counter", lambda: now)
    for gap in (0, *seconds):
        now += gap
        watch.edge()
    return watch


def test_energy_is_from_the_first_edge_to_the_last(monkeypatch):
    watch = watched(monkeypatch, Scripted([10.0, 150.0, 310.0]), (2, 2))
    assert watch.energy() == (300.0, None)


def test_energy_over_less_than_three_seconds_is_left_out(monkeypatch):
    joules, reason = watched(monkeypatch, Scripted([0.0, 5.0]), (1,)).energy()
    assert joules is None
    assert "3 s" in reason


def test_neighbours_and_throttling_are_flagged(monkeypatch):
    states = [{"throttled_by": []}, {"throttled_by": ["hardware thermal slowdown"]}]
    watch = watched(monkeypatch, Scripted([0.0, 1.0], [7, 8], states), (4,), torch.device("meta"))
    assert watch.flags() == ["2 other process(es) used the device", "throttled: hardware thermal slowdown"]


def test_a_busy_cpu_is_flagged_and_an_idle_one_is_not(monkeypatch):
    seconds = iter([(100.0, 10.0), (100.0 + 4 * 3.5, 10.0 + 4)])
    monkeypatch.setattr(meters, "cpu_seconds", lambda: next(seconds))
    monkeypatch.setattr(meters.os, "cpu_count", lambda: 4)
    assert watched(monkeypatch, Scripted([None, None]), (4,)).flags() == ["other processes used 62% of the CPU"]
    seconds = iter([(100.0, 10.0), (108.0, 18.0)])
    assert watched(monkeypatch, Scripted([None, None]), (4,)).flags() == []


def test_datasheet_is_looked_up_by_device_name():
    assert datasheet_flops("NVIDIA H200", "bf16") == 989.4e12
    assert datasheet_flops("Tesla T4", "bf16") is None
    assert datasheet_flops("some GPU", "fp32") is None
    assert datasheet_flops(None, "fp32") is None
