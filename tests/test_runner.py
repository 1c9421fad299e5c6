"""What becomes of runs and of their files, however they end: the runner, with a launcher that only says how."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ONE_MACHINE

from ganzoo import runner
from ganzoo.checkpoint import CHECKPOINT
from ganzoo.data import PreparedDataset
from ganzoo.errors import RecordError
from ganzoo.plan import BenchPlan, PlannedRun, ResolvedPlan
from ganzoo.plugins import discover
from ganzoo.preflight import Preflight
from ganzoo.records import GENERATOR, RECORD, SAMPLES, read_record, read_spec
from ganzoo.runner import RunOptions, run_plan
from ganzoo.stop import held_back
from ganzoo.types import RunRecord, RunRequest

(MLP,) = ONE_MACHINE.glob("*/mlp-digits-s0-*")
SPEC = read_spec(read_record(MLP).spec)


class Launcher:
    """Ends its runs in turn as `endings` says: with a status, or by calling it with the request.

    A run leaves a checkpoint that names the attempt, and pictures and weights if it is ok. `found` is what lay in the
    folder as each began: names and contents.
    """

    def __init__(self, *endings: str | Callable[[RunRequest], dict]) -> None:
        self.endings = endings
        self.found: list[dict[str, str]] = []

    def launch(self, request, on_message):
        folder = Path(request.folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.found.append(files_in(folder))
        ending = self.endings[len(self.found) - 1]
        for name in (CHECKPOINT, *((SAMPLES, GENERATOR) if ending == "ok" else ())):
            (folder / name).write_text(f"{ending}, attempt {len(self.found)}")
        return ending(request) if callable(ending) else outcome_of(ending)


def outcome_of(status: str) -> dict:
    return {"status": status, "error": None if status == "ok" else {"type": status, "message": status, "tail": ""}}


def files_in(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


@pytest.fixture(scope="module")
def registry():
    return discover()


@pytest.fixture
def bench(registry, tmp_path):
    """`bench(launcher, seeds=2, asked={...}, **options)` does runs of the MLP-GAN; its notes are in `bench.notes`."""

    def bench(launcher, *, seeds: int = 1, asked=None, **options) -> list[RunRecord]:
        dataset = PreparedDataset("digits", "", (1, 8, 8), 9, 10, "0" * 64, "", "train", ())
        checked = Preflight({}, "contiguous", None)
        runs = tuple(PlannedRun(replace(SPEC, seed=seed), checked) for seed in range(seeds))
        plan = ResolvedPlan(runs, dataset, BenchPlan(("mlp",), seeds=seeds, **(asked or {})))
        return run_plan(plan, registry, tmp_path, RunOptions(**options), launcher=launcher, on_note=bench.notes.append)

    bench.notes = []
    return bench


def statuses(results: Path) -> list[str]:
    return [json.loads(path.read_text())["status"] for path in sorted(results.rglob(RECORD))]


# --- nothing is removed before the record is written ------------------------------------------------------------------


def test_a_checkpoint_is_thrown_away_when_the_record_is_there_and_not_before(bench, tmp_path, monkeypatch):
    def fail(record, folder):
        raise RecordError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(runner, "write_record", fail)
        with pytest.raises(RecordError, match="full"):
            bench(Launcher("ok"), keep_checkpoints=False)
    (folder,) = {path.parent for path in tmp_path.rglob(CHECKPOINT)}
    assert set(files_in(folder)) == {CHECKPOINT, SAMPLES, GENERATOR}
    launcher = Launcher("ok")
    bench(launcher, keep_checkpoints=False)
    assert CHECKPOINT in launcher.found[0]
    assert set(files_in(folder)) == {RECORD, SAMPLES, GENERATOR}


def test_a_run_that_diverged_starts_again_even_if_it_was_killed_beside_its_checkpoint(bench, tmp_path):
    bench(Launcher("diverged"))
    (path,) = tmp_path.rglob(RECORD)
    assert set(files_in(path.parent)) == {RECORD}
    (path.parent / CHECKPOINT).write_text("left by a kill right after the record")
    launcher = Launcher("ok")
    bench(launcher)
    assert set(launcher.found[0]) == {RECORD}
    assert statuses(tmp_path) == ["ok"]


# --- stopped at the end of a run --------------------------------------------------------------------------------------

posix = pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")


@pytest.fixture
def met_like_ctrl_c():
    """SIGTERM as `ganzoo bench` meets it."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    yield
    signal.signal(signal.SIGTERM, before)


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_run_that_has_ended_is_recorded_before_a_signal_is_met(
    number, moment, bench, tmp_path, monkeypatch, met_like_ctrl_c
):
    written = runner.write_record

    def write(record, folder):
        if moment == "before":
            os.kill(os.getpid(), number)
        record = written(record, folder)
        if moment == "after":
            os.kill(os.getpid(), number)
        return record

    monkeypatch.setattr(runner, "write_record", write)
    launcher = Launcher("ok", "ok")
    with pytest.raises(KeyboardInterrupt) as interrupt:
        bench(launcher, seeds=2)
    assert [record.status for record in interrupt.value.records] == ["ok"]
    (path,) = tmp_path.rglob(RECORD)
    assert read_record(path).ok
    assert set(files_in(path.parent)) == {RECORD, CHECKPOINT, SAMPLES, GENERATOR}
    assert len(launcher.found) == 1


@posix
def test_the_last_word_of_a_run_that_was_stopped_is_recorded_however_often_one_presses_ctrl_c(
    bench, tmp_path, monkeypatch
):
    class Interrupted(KeyboardInterrupt):
        outcome = outcome_of("ok")

    def stop(request):
        raise Interrupted

    def write(record, folder):
        os.kill(os.getpid(), signal.SIGINT)
        return written(record, folder)

    written = runner.write_record
    monkeypatch.setattr(runner, "write_record", write)
    with pytest.raises(KeyboardInterrupt) as interrupt:
        bench(Launcher(stop))
    assert [record.status for record in interrupt.value.records] == ["ok"]
    assert statuses(tmp_path) == ["ok"]


@posix
def test_what_is_ignored_stays_ignored_and_every_handler_comes_back():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with held_back():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGHUP, before)


def test_in_another_thread_nothing_is_held_back():
    entered = []

    def enter():
        with held_back():
            entered.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert entered == [signal.getsignal(signal.SIGINT)]
