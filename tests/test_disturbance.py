"""Speed beside other work: a run may wait until the machine is quiet, and end where its measurement was disturbed."""

from __future__ import annotations

import pytest
import torch
from test_power import Scripted, watched
from test_runner import Launcher, bench, registry  # noqa: F401, fixtures

from ganzoo.errors import Disturbed
from ganzoo.machine import meters
from ganzoo.machine.meters import BUSY_SHARE
from ganzoo.running import quiet, runner
from ganzoo.running.quiet import wait_until_quiet
from ganzoo.running.stages import _refuse_disturbed


def test_disturbance_is_the_share_of_the_cpu_that_others_used_or_of_an_accelerator_whether_they_did(monkeypatch):
    seconds = iter([(100.0, 10.0), (100.0 + 4 * 3.5, 10.0 + 4)])
    monkeypatch.setattr(meters, "cpu_seconds", lambda: next(seconds, (0.0, 0.0)))
    monkeypatch.setattr(meters.os, "cpu_count", lambda: 4)
    assert watched(monkeypatch, Scripted([None, None]), (4,)).disturbance() == pytest.approx(0.625)
    for neighbours, share in (([7], 1.0), ([], 0.0)):
        watch = watched(monkeypatch, Scripted([0.0, 1.0], neighbours, [{}, {}]), (4,), torch.device("meta"))
        assert watch.disturbance() == share


def test_a_run_that_was_disturbed_more_than_allowed_ends_before_it_is_trained():
    _refuse_disturbed({"disturbance": 0.3}, None)
    _refuse_disturbed({"disturbance": 0.05}, 0.05)
    with pytest.raises(Disturbed, match=r"other processes used 31\.2% of the device .*--max-disturbance allows 5\.0%"):
        _refuse_disturbed({"disturbance": 0.312}, 0.05)


def test_a_disturbed_run_has_a_status_of_its_own_and_is_done_again(bench):  # noqa: F811
    launcher = Launcher("disturbed", "disturbed", "ok")
    (record,) = bench(launcher, max_disturbance=0.05)
    assert (record.status, record.ok) == ("disturbed", False)
    (record,) = bench(launcher, max_disturbance=0.05, retry=("disturbed",))
    assert (record.status, len(launcher.found)) == ("ok", 3)


def test_a_run_waits_until_the_machine_has_been_quiet_for_some_looks(monkeypatch):
    shares = [0.5, 0.04, 0.2, *[0.04] * quiet.QUIET_LOOKS, 0.9]
    looks = iter(shares)
    monkeypatch.setattr(quiet, "others_now", lambda: next(looks))
    notes: list[str] = []
    wait_until_quiet(None, notes.append)
    assert list(looks) == [0.9]
    assert notes == ["waiting until the machine is quiet: other processes use 50% of the CPU"], "said once a minute"
    looks = iter([BUSY_SHARE, *[0.01] * quiet.QUIET_LOOKS])
    wait_until_quiet(0.01, notes.append)
    assert list(looks) == []


def test_each_run_waits_and_is_told_what_is_allowed(bench, monkeypatch):  # noqa: F811
    waits: list[float | None] = []
    monkeypatch.setattr(runner, "wait_until_quiet", lambda allowed, on_note: waits.append(allowed))
    asked: list[float | None] = []

    def ending(request):
        asked.append(request.max_disturbance)
        return runner.Outcome("ok")

    bench(Launcher(ending, ending), seeds=2, wait_until_quiet=True, max_disturbance=0.02)
    assert (waits, asked) == ([0.02, 0.02], [0.02, 0.02])
