"""The runner and the files of runs for every way in which a run may end, with a fake launcher."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shlex
import shutil
import signal
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from conftest import ONE_MACHINE, with_settings
from skips import needs_system

import ganzoo
from ganzoo.cli.interruption import stopped_by
from ganzoo.data.finding import find_dataset, prepare_dataset
from ganzoo.data.prepared import PreparedDataset
from ganzoo.errors import RecordError, RecordUnreadable, UsageError
from ganzoo.planning.continuation import resolve_continuation
from ganzoo.planning.plan import PlannedRun, ResolvedPlan
from ganzoo.planning.provenance import reproducing_command, used_plugins
from ganzoo.planning.request import BenchPlan
from ganzoo.records import checkpoint
from ganzoo.records.checkpoint import CHECKPOINT, Checkpoint, write_checkpoint
from ganzoo.records.consistency import place_faults
from ganzoo.records.store import GENERATOR, INSTALLED, RECORD, SAMPLES, find_records, read_record, read_spec
from ganzoo.registry.discovery import discover
from ganzoo.running import runner
from ganzoo.running.bench import Bench, ignore
from ganzoo.running.launcher import RunInterrupted
from ganzoo.running.options import RunOptions
from ganzoo.running.process import ProcessLauncher
from ganzoo.running.resuming import find_checkpoint
from ganzoo.running.runner import run_plan
from ganzoo.running.suites import SuiteBench
from ganzoo.running.wire import Failure, Message, Outcome
from ganzoo.runs import BenchInterrupted, RunRecord, RunRequest, Scoring
from ganzoo.training.preflight import Preflight
from ganzoo.util.signals import held_back

(MLP,) = ONE_MACHINE.glob("*/mlp-digits-s0-*")
SPEC = read_spec(read_record(MLP).spec)


class Launcher:
    """A fake launcher that ends its runs in turn by `endings`: a status, or a function that gets the request.

    A run leaves a checkpoint that names the attempt, and pictures and weights if it is ok. `found` holds the files in
    the folder when each run began: names and contents.
    """

    def __init__(self, *endings: str | Callable[[RunRequest], Outcome]) -> None:
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


def outcome_of(status: str) -> Outcome:
    return Outcome(status, None if status == "ok" else Failure(status, status))


def files_in(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


@pytest.fixture(scope="module")
def registry():
    return discover()


def plan_of(seeds: Iterable[int], **asked) -> ResolvedPlan:
    """A plan of MLP-GAN runs with these seeds."""
    dataset = PreparedDataset("digits", "", (1, 8, 8), 9, 10, "0" * 64, "", "train", ())
    checked = Preflight({}, "contiguous", None)
    # The fake launcher scores nothing.
    runs = tuple(PlannedRun(replace(SPEC, seed=seed, scoring=Scoring()), checked) for seed in seeds)
    return ResolvedPlan(runs, dataset, BenchPlan(("mlp",), **asked))


@pytest.fixture
def bench(registry, tmp_path):
    """`bench(launcher, seeds=2, asked={...}, **options)` executes a plan; its notes are in `bench.notes`."""

    def bench(launcher, *, seeds: int = 1, asked=None, **options) -> list[RunRecord]:
        plan = plan_of(range(seeds), **(asked or {}))
        return run_plan(plan, registry, tmp_path, RunOptions(**options), launcher=launcher, on_note=bench.notes.append)

    bench.notes = []
    return bench


def statuses(results: Path) -> list[str]:
    return [json.loads(path.read_text())["status"] for path in sorted(results.rglob(RECORD))]


# --- nothing is removed before the record is written ------------------------------------------------------------------


def test_checkpoint_is_discarded_only_after_the_record_is_written(bench, tmp_path, monkeypatch):
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


def test_unrecordable_outcome_is_recorded_as_a_crash(bench, tmp_path):
    def odd(request):
        return Outcome("ok", throughput={"step_seconds": 3})

    for _ in range(2):
        (record,) = bench(Launcher(odd))
        assert record.status == "crashed"
        assert "throughput.step_seconds is 3; it must be an object" in record.error["message"]
        assert statuses(tmp_path) == ["crashed"]
    assert bench.notes == []
    # The checkpoint stays, so that the run can resume after the fix.
    (path,) = tmp_path.rglob(RECORD)
    assert set(files_in(path.parent)) == {RECORD, CHECKPOINT}


def test_diverged_run_restarts_without_a_leftover_checkpoint(bench, tmp_path):
    bench(Launcher("diverged"))
    (path,) = tmp_path.rglob(RECORD)
    assert set(files_in(path.parent)) == {RECORD}
    (path.parent / CHECKPOINT).write_text("left by a kill right after the record")
    launcher = Launcher("ok")
    bench(launcher)
    assert set(launcher.found[0]) == {RECORD}
    assert statuses(tmp_path) == ["ok"]


# --- interrupted at the end of a run ----------------------------------------------------------------------------------

posix = needs_system(os.name == "posix", "signals as POSIX has them")


@pytest.fixture
def signals():
    """Handle SIGINT and SIGTERM as `ganzoo bench` does."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_finished_run_is_recorded_before_a_signal_is_handled(number, moment, bench, tmp_path, monkeypatch, signals):
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
    with pytest.raises(BenchInterrupted) as interrupt:
        bench(launcher, seeds=2)
    assert [record.status for record in interrupt.value.records] == ["ok"]
    (path,) = tmp_path.rglob(RECORD)
    assert read_record(path).ok
    assert set(files_in(path.parent)) == {RECORD, CHECKPOINT, SAMPLES, GENERATOR}
    assert len(launcher.found) == 1


@posix
def test_outcome_of_an_interrupted_run_is_recorded_despite_repeated_ctrl_c(bench, tmp_path, monkeypatch, signals):
    def stop(request):
        raise RunInterrupted(outcome_of("ok"))

    def write(record, folder):
        os.kill(os.getpid(), signal.SIGINT)
        return written(record, folder)

    written = runner.write_record
    monkeypatch.setattr(runner, "write_record", write)
    with pytest.raises(BenchInterrupted) as interrupt:
        bench(Launcher(stop))
    assert [record.status for record in interrupt.value.records] == ["ok"]
    assert statuses(tmp_path) == ["ok"]


@posix
def test_ignored_signals_stay_ignored_and_handlers_are_restored(signals):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with held_back():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGHUP, before)


@posix
def test_signals_stop_a_command_unless_they_are_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    at_first = signal.getsignal(signal.SIGTERM)
    try:
        with stopped_by("SIGTERM", "SIGHUP", "SIGOFNOSYSTEM"):
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
        assert signal.getsignal(signal.SIGTERM) == at_first
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("context", [held_back, lambda: stopped_by("SIGINT")])
def test_signals_are_left_alone_in_another_thread(context):
    entered = []

    def enter():
        with context():
            entered.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert entered == [signal.getsignal(signal.SIGINT)]


# --- --force ----------------------------------------------------------------------------------------------------------


def stop(request):
    raise KeyboardInterrupt


def folders(results: Path) -> list[Path]:
    """The folders of runs and those laid aside as `.before`, in the order of seeds."""
    return sorted((path for path in results.glob("*/*") if path.is_dir()), key=lambda path: (path.suffix, path.name))


@pytest.mark.parametrize("ending", ["crashed", "oom", "timeout", "diverged", stop])
def test_finished_run_is_kept_when_its_forced_repetition_fails(ending, bench, tmp_path):
    bench(Launcher("ok"))
    (folder,) = folders(tmp_path)
    finished = files_in(folder)
    (folder / "notes.txt").write_text("mine")
    launcher = Launcher(ending)
    with contextlib.suppress(KeyboardInterrupt):
        bench(launcher, force=True)
    assert set(launcher.found[0]) == {"notes.txt"}
    assert bench.notes[-1] == "--force: 1 finished run(s) stay in folders *.before until they are done again"
    assert folders(tmp_path) == [folder, folder.with_name(f"{folder.name}.before")]
    before = folder.with_name(f"{folder.name}.before")
    assert files_in(before) == finished
    assert list(place_faults(read_record(before))) == []
    assert not read_record(folder).ok
    # Both are found: the finished run, and the attempt to repeat it.
    records, complaints = find_records([tmp_path])
    assert sorted(record.ok for record in records) == [False, True]
    assert complaints == []


def test_interrupted_force_resumes_without_force(bench, tmp_path):
    bench(Launcher("ok", "ok", "ok"), seeds=3)
    with pytest.raises(KeyboardInterrupt):
        bench(Launcher("ok", stop), seeds=3, force=True)
    launcher = Launcher("ok", "ok")
    records = bench(launcher, seeds=3)
    # The first is finished, the second resumes from the checkpoint of its new attempt, the third starts anew.
    assert launcher.found[0][CHECKPOINT] == f"{stop}, attempt 2"
    assert launcher.found[1] == {}
    assert [record.ok for record in records] == [True] * 3
    assert len(folders(tmp_path)) == 3
    assert statuses(tmp_path) == ["ok"] * 3


def test_interrupted_force_of_a_suite_resumes_without_force(registry, tmp_path, monkeypatch):
    plans = [plan_of([0]), plan_of([1])]
    suite = SuiteBench(tuple(Bench(plan.asked, registry, plan) for plan in plans))

    def run(*endings, **options):
        launcher = Launcher(*endings)
        monkeypatch.setattr(runner, "ProcessLauncher", lambda timeout: launcher)
        with contextlib.suppress(KeyboardInterrupt):
            suite.run(tmp_path, RunOptions(**options), on_event=ignore, on_note=ignore)
        return len(launcher.found)

    assert run("ok", "ok") == 2
    assert run(stop, force=True) == 1
    # The second part had not begun; it is repeated all the same.
    assert run("ok", "ok", force=False) == 2
    assert statuses(tmp_path) == ["ok", "ok"]


def test_interrupted_suite_gives_the_records_so_far(registry, tmp_path, monkeypatch):
    plans = [plan_of([0]), plan_of([1, 2]), plan_of([3])]
    suite = SuiteBench(tuple(Bench(plan.asked, registry, plan) for plan in plans))
    launcher = Launcher("crashed", "ok", stop)
    monkeypatch.setattr(runner, "ProcessLauncher", lambda timeout: launcher)
    with pytest.raises(KeyboardInterrupt) as stopped:
        suite.run(tmp_path, RunOptions(), on_event=ignore, on_note=ignore)
    assert [record.status for record in stopped.value.records] == ["crashed", "ok", "interrupted"]
    assert [record.spec["seed"] for record in stopped.value.records] == [0, 1, 2]


def test_force_repeats_every_run_from_the_start_in_one_folder_each(bench, tmp_path):
    bench(Launcher("ok", "crashed"), seeds=2)
    launcher = Launcher("ok", "ok")
    bench(launcher, seeds=2, force=True)
    assert CHECKPOINT not in launcher.found[0] | launcher.found[1]
    assert len(folders(tmp_path)) == 2
    assert statuses(tmp_path) == ["ok", "ok"]


def test_force_retries_the_batch_size_that_did_not_fit(bench, tmp_path):
    auto = {"batch_size": "auto"}
    (first,) = bench(Launcher("oom", "ok"), asked=auto)
    assert first.spec["recipe"]["batch_size"] == SPEC.recipe.batch_size // 2
    launcher = Launcher("oom", "ok")
    bench(launcher, asked=auto, force=True)
    assert launcher.found == [{}, {}]
    assert sorted(statuses(tmp_path)) == ["ok", "oom"]
    launcher = Launcher("ok")
    (larger,) = bench(launcher, asked=auto, force=True)
    assert larger.spec["recipe"]["batch_size"] == SPEC.recipe.batch_size
    # A run whose batch size once fitted is kept when it no longer fits.
    bench(Launcher("oom", "ok"), asked=auto, force=True)
    assert sorted(statuses(tmp_path)) == ["ok", "ok", "oom"]


def test_leftover_before_folder_is_removed_once_its_run_is_finished(bench, tmp_path):
    bench(Launcher("ok"))
    (folder,) = folders(tmp_path)
    before = folder.with_name(f"{folder.name}.before")
    shutil.copytree(folder, before)
    bench(Launcher())
    assert folders(tmp_path) == [folder]


def test_interrupted_command_says_how_to_resume(invoke, monkeypatch):
    def stop(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(Bench, "run", stop)
    mlp = ("bench", "--models", "mlp", "--device", "cpu", "--quiet", "--throughput-only")
    assert invoke(*mlp).err.splitlines()[-1] == "ganzoo: interrupted; run the same command again to go on"
    said = invoke(*mlp, "--force")
    assert said.err.splitlines()[-1] == "ganzoo: interrupted; run the same command again without --force to go on"


# --- broken, or only temporarily unreadable ---------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES])
def test_temporarily_unreadable_record_is_neither_moved_nor_replaced(number, bench, tmp_path, monkeypatch):
    def fail(path, limit):
        raise OSError(number, os.strerror(number))

    bench(Launcher("ok"))
    before = {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    with monkeypatch.context() as patch:
        patch.setattr("ganzoo.records.store.read_regular", fail)
        with pytest.raises(RecordUnreadable, match=r"record\.json: cannot be read: .*; make it readable and run"):
            bench(Launcher())
    assert RecordUnreadable.exit_code == 2
    assert {path: path.read_text() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert bench(Launcher())[0].ok


def test_a_read_only_folder_of_results_is_one_clear_line(bench, monkeypatch):
    """A read-only file system also refuses to remove a file, even a missing one."""

    def refuse(path, *arguments, **options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(RecordError, match="Read-only file system; choose a folder you can write to"):
        bench(Launcher())


def test_record_in_a_folder_without_permission_is_unreadable(tmp_path, monkeypatch):
    def refuse(path, **options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(RecordUnreadable, match="Permission denied"):
        read_record(tmp_path / RECORD)


def test_broken_records_put_aside_do_not_replace_each_other(bench, tmp_path):
    bench(Launcher("ok"))
    (folder,) = folders(tmp_path)
    for text in ("first", "second", "third"):
        (folder / RECORD).write_text(text)
        bench(Launcher("ok"))
        assert "and the run is done again" in bench.notes[-1]
    aside = {name: text for name, text in files_in(folder).items() if "broken" in name}
    assert aside == {f"{RECORD}.broken": "first", f"{RECORD}.broken.2": "second", f"{RECORD}.broken.3": "third"}


def ignore_message(message: Message) -> None:
    """Ignore a message of the process of a run."""


def request_for(folder: Path, run_id: str = "a" * 64, continues: Path | None = None) -> RunRequest:
    spec = replace(SPEC, continues="c" * 64 if continues else "").to_json()
    return RunRequest(run_id, spec, {}, str(folder), (), None, None, 60, str(continues) if continues else None)


KEPT = {"outcome": {"scores": [], "protocols": {}, "throughput": {}}}


def test_temporarily_unreadable_checkpoint_is_not_moved(tmp_path, monkeypatch):
    def fail(path):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    write_checkpoint(tmp_path / CHECKPOINT, Checkpoint("a" * 64, {"weight": torch.ones(1)}, KEPT))
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "read_header", fail)
        with pytest.raises(RecordUnreadable, match="cannot be read"):
            find_checkpoint(request_for(tmp_path), tmp_path, ignore_message)
    assert find_checkpoint(request_for(tmp_path), tmp_path, ignore_message).run_id == "a" * 64
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]
    # The checkpoint of another run is put aside; a missing one is no fault.
    assert find_checkpoint(request_for(tmp_path, run_id="b" * 64), tmp_path, ignore_message) is None
    assert [path.name for path in tmp_path.iterdir()] == [f"{CHECKPOINT}.broken"]
    assert find_checkpoint(request_for(tmp_path), tmp_path, ignore_message) is None


# --- --resume ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def finished(tmp_path) -> Callable[..., Path]:
    """`finished(checkpoint=..., torch=...)`: the folder of a run that can be resumed, except for the given changes."""

    def make(
        checkpoint: str | None = "its own",
        weights: str | None = None,
        source: str | None = None,
        spec: dict | None = None,
        **environment,
    ):
        content = read_record(MLP).to_json()
        statuses = used_plugins(SPEC, discover())
        content["environment"] |= {"plugins": statuses, **{name: version(name) for name in INSTALLED}, **environment}
        today = prepare_dataset(discover(), *find_dataset(discover(), "digits"))
        data = {"dataset_sha256": today.sha256, "dataset_images": today.count}
        content["spec"] = with_settings(content["spec"], **data, **(spec or {}))
        content["dataset"] |= {"sha256": today.sha256, "count": today.count, "split": today.split}
        if weights:
            content["spec"]["scoring"]["features"][0]["weights_sha256"] = weights
        statuses["losses"]["source_sha256"] = source or statuses["losses"]["source_sha256"]
        folder = tmp_path / "runs" / MLP.parent.name / MLP.name
        folder.mkdir(parents=True)
        (folder / RECORD).write_text(json.dumps(content))
        if checkpoint:
            own = content["run_id"] if checkpoint == "its own" else checkpoint
            write_checkpoint(folder / CHECKPOINT, Checkpoint(own, {"weight": torch.ones(1)}, KEPT))
        return folder

    return make


RESUME = ("bench", "--kimg", 2 * SPEC.kimg, "--device", "cpu", "--dry-run", "--json", "--quiet", "--resume")


def test_resume_of_an_unchanged_run_gives_no_note(finished, invoke):
    said = invoke(*RESUME, finished())
    assert (said.code, said.err) == (0, "")
    (entry,) = json.loads(said.out)
    assert entry["spec"]["continues"] == read_record(MLP).run_id


@pytest.mark.parametrize(
    ("changed", "refusal"),
    [
        ({"checkpoint": "b" * 64}, "checkpoint.safetensors: is the checkpoint of another run, bbbbbbbbb"),
        ({"checkpoint": None}, "checkpoint.safetensors: the run kept no checkpoint; run it again without --discard-"),
        ({"weights": "f" * 64}, "the weights of 'digits-cnn' are not those of the run: give --weights FILE"),
    ],
)
def test_resume_refuses_a_missing_or_foreign_checkpoint_or_weights(changed, refusal, finished, invoke):
    said = invoke(*RESUME, finished(**changed))
    assert said.code == 2
    assert refusal in said.error


@pytest.mark.parametrize(
    ("points", "options", "refusal"),
    [
        ([], (), "its record says no kimg at which to score; give --eval-every"),
        ([], ("--eval-every", "10"), ""),
        ([0.0], (), "its record says no kimg at which to score; give --eval-every"),
        ([-1.0], (), "spec.scoring.evaluate_at_kimg[0] is -1.0; it must be a number from 0"),
        ([5e-324], (), "--eval-every 4.94066e-324: that is inf evaluations; give at least "),
        ([1e-20], (), "--eval-every 1e-20: that is "),
    ],
)
def test_resume_scores_at_sensible_points_only(points, options, refusal, finished, invoke):
    said = invoke(*RESUME, finished(spec={"evaluate_at_kimg": points}), *options)
    assert said.code == (2 if refusal else 0)
    assert refusal in said.err


@pytest.mark.parametrize(
    ("changed", "note"),
    [({"source": "0" * 64}, "plugin 'losses' has changed"), ({"torch": "1.0"}, "torch went from 1.0 to ")],
)
def test_resume_notes_code_that_has_changed(changed, note, finished, invoke):
    said = invoke(*RESUME, finished(**changed))
    assert said.code == 0
    (line,) = said.err.splitlines()
    assert line.startswith(f"ganzoo: --resume: since the run {note}")
    assert line.endswith("; the training continues under the new code")


@pytest.mark.parametrize(
    ("option", "value", "refusal"),
    [
        ("--eval-every", "nan", "--eval-every nan: give a number above 0"),
        ("--eval-every", "-1", "--eval-every -1.0: give a number above 0"),
        ("--metrics", "kid", "--resume and --metrics: the run keeps its value; leave --metrics out"),
        ("--seed", "3", "--resume and --seed: the run keeps its value; leave --seed out"),
        ("--features", "inception", "--resume and --features: the run keeps its value"),
        ("--throughput-only", None, "--resume and --throughput-only: the run keeps its value"),
    ],
)
def test_resume_refuses_options_it_keeps_from_the_run(option, value, refusal, finished, invoke):
    said = invoke(*RESUME, finished(), option, *([value] if value else []))
    assert said.code == 2
    assert refusal in said.error


DEFAULTS = [
    ("--precision", "fp32", {"precision": "bf16"}),
    ("--metrics", "fid,is", {"metrics": ["fid"]}),
    ("--dataset", "digits", {"dataset": "mnist"}),
    ("--seed", "0", {"seed": 3}),
    ("--features", "auto", {}),
    ("--batch-size", "auto", {}),
]
"""Options with their default written out, and a setting of the run that differs from it."""


@pytest.mark.parametrize(("option", "value", "own"), DEFAULTS)
def test_resume_refuses_an_explicit_default_that_differs_from_the_run(option, value, own, finished, invoke):
    said = invoke(*RESUME, finished(spec=own), option, value)
    assert said.code == 2
    assert said.error == f"ganzoo: --resume and {option}: the run keeps its value; leave {option} out"


def test_resume_accepts_options_equal_to_those_of_the_run(finished, invoke):
    own = ("--precision", "fp32", "--metrics", "fid,is", "--dataset", "digits", "--seed", "3", "--seeds", "1")
    said = invoke(*RESUME, finished(spec={"seed": 3}), *own, "--batch-size", SPEC.recipe.batch_size)
    assert (said.code, said.err) == (0, "")
    (entry,) = json.loads(said.out)
    assert (entry["spec"]["precision"], entry["spec"]["seed"]) == ("fp32", 3)


@pytest.mark.parametrize(("own", "options", "then"), [(True, (), True), (False, ("--deterministic",), True)])
def test_resume_keeps_deterministic(own, options, then, finished, invoke):
    said = invoke(*RESUME, finished(spec={"deterministic": own}), *options)
    assert said.code == 0
    assert json.loads(said.out)[0]["spec"]["deterministic"] is then


def test_resume_from_python_refuses_an_explicit_default_that_differs(finished):
    folder = finished(spec={"precision": "bf16"})
    with pytest.raises(UsageError, match="--resume and --precision: the run keeps its value"):
        ganzoo.bench([], resume=str(folder), kimg=2 * SPEC.kimg, device="cpu", precision="fp32")


def test_resume_in_the_run_process_refuses_the_checkpoint_of_another_run(tmp_path):
    path = tmp_path / "other" / CHECKPOINT
    path.parent.mkdir()
    write_checkpoint(path, Checkpoint("b" * 64, {"weight": torch.ones(1)}, KEPT))
    with pytest.raises(RecordError, match="is of another run than the one to be trained on"):
        find_checkpoint(request_for(tmp_path, continues=path), tmp_path, ignore_message)
    write_checkpoint(path, Checkpoint("c" * 64, {"weight": torch.ones(1)}, KEPT))
    assert find_checkpoint(request_for(tmp_path, continues=path), tmp_path, ignore_message).run_id == "c" * 64


# --- the reproducing command ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kimg", "said"), [(1234567.0, "1234567"), (1000.128, "1000.128"), (0.1 + 0.2, "0.30000000000000004"), (2.0, "2")]
)
def test_the_command_has_every_digit_of_a_number(kimg, said):
    words = shlex.split(reproducing_command(BenchPlan(("mlp",), kimg=kimg, eval_every=kimg), SPEC))
    assert words[words.index("--kimg") + 1] == words[words.index("--eval-every") + 1] == said
    assert float(said) == kimg


def test_reproducing_command_of_a_resumed_run_finds_it_from_other_results(finished, registry, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    finished().rename(tmp_path / "out" / "mlp-digits")
    plan = BenchPlan(resume="mlp-dig", kimg=2 * SPEC.kimg, device="cpu")
    resolved = resolve_continuation(plan, registry, Path("out"))
    words = shlex.split(reproducing_command(resolved.asked, resolved.runs[0].spec))
    again = resolve_continuation(replace(plan, resume=words[words.index("--resume") + 1]), registry, Path("runs"))
    assert again.runs[0].spec == resolved.runs[0].spec


# --- two benches at a time --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["crashed", "diverged", "oom", "timeout", "ok"])
@pytest.mark.parametrize("retry", [(), ("crashed",)])
def test_run_finished_by_another_bench_meanwhile_is_not_repeated(ending, retry, bench, registry, tmp_path):
    """The other bench does the second run while this one does the first."""
    other = Launcher(ending, *[ending] * 2 * (ending in retry))

    def meanwhile(request):
        run_plan(plan_of([1]), registry, tmp_path, RunOptions(retry=retry), launcher=other)
        return outcome_of("ok")

    launcher = Launcher(meanwhile)
    records = bench(launcher, seeds=2, retry=retry)
    assert [record.status for record in records] == ["ok", ending]
    assert len(launcher.found) == 1
    # A bench that begins later tries a failed run again.
    later = Launcher("ok")
    assert [record.ok for record in bench(later, seeds=2)] == [True, True]
    assert len(later.found) == (ending != "ok")


def test_run_interrupted_in_another_bench_is_taken_over(bench, registry, tmp_path):
    def meanwhile(request):
        with contextlib.suppress(KeyboardInterrupt):
            run_plan(plan_of([1]), registry, tmp_path, launcher=Launcher(stop))
        return outcome_of("ok")

    launcher = Launcher(meanwhile, "ok")
    assert [record.ok for record in bench(launcher, seeds=2)] == [True, True]
    assert len(launcher.found) == 2


def test_run_that_failed_in_another_bench_while_waiting_for_its_claim_is_not_repeated(bench, registry, tmp_path):
    """The other bench holds the claim when this one reaches the run, and ends while this one waits."""
    begun, go_on = threading.Event(), threading.Event()

    def slow(request):
        begun.set()
        assert go_on.wait(20)
        return outcome_of("crashed")

    def run():
        run_plan(plan_of([0]), registry, tmp_path, launcher=Launcher(slow))

    other = threading.Thread(target=run)
    other.start()
    assert begun.wait(20)
    launcher, notes = Launcher(), []

    def note(line):
        notes.append(line)
        go_on.set()

    (record,) = run_plan(plan_of([0]), registry, tmp_path, launcher=launcher, on_note=note)
    other.join()
    assert record.status == "crashed"
    assert "is being done by another process; waiting for it" in notes[0]
    assert launcher.found == []


@posix
def test_a_file_system_without_locks_is_refused(bench, tmp_path, monkeypatch):
    """The fallback must not be a lock file, which would outlive a dead process."""
    import fcntl

    def flock(*args):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(RecordError, match=r"claims: cannot be locked \(.*not implemented\); choose another --results"):
        bench(Launcher())


# --- a batch that was halved ------------------------------------------------------------------------------------------


def test_compare_and_show_name_the_batch_size_that_did_not_fit(bench, invoke, tmp_path):
    bench(Launcher("oom", "ok"), asked={"batch_size": "auto"})
    (folder,) = (path for path in folders(tmp_path) if read_record(path).ok)
    half = f"{SPEC.recipe.batch_size // 2} in place of {SPEC.recipe.batch_size}, which did not fit into memory"
    assert f"batch size: {half}" in invoke("show", folder).out
    assert f"mlp: batch size {half}" in " ".join(invoke("compare", tmp_path).out.split())
    (other,) = (path for path in folders(tmp_path) if path != folder)
    assert f"batch size: {SPEC.recipe.batch_size}\n" in invoke("show", other).out


# --- code that changes during a bench ---------------------------------------------------------------------------------

RESTLESS = """
import ganzoo

@ganzoo.hookimpl
def ganzoo_variants():
    yield ganzoo.Variant("restless", architecture="mlp", loss="hinge")

@ganzoo.hookimpl
def ganzoo_event(event):
    if isinstance(event, ganzoo.RunStarted) and event.index == 2:
        with open(__file__, "a") as file:
            file.write("# An edit while a bench is under way.\\n")
"""


def test_plugin_edited_during_a_bench_fails_the_remaining_runs(run_cli):
    (run_cli.cwd / "restless.py").write_text(RESTLESS)
    done = run_cli(
        *("bench", "--models", "restless", "--plugin", "restless.py", "--seeds", "2", "--device", "cpu", "--json"),
        *("--throughput-only", "--throughput-seconds", "0.1", "--threads", "1", "--quiet"),
    )
    assert done.returncode == 1
    first, second = json.loads(done.stdout)
    assert (first["status"], second["status"]) == ("ok", "crashed")
    wanted = "plugin 'restless.py' has changed since the bench began; give the command again"
    assert (second["error"]["type"], second["error"]["message"]) == ("PluginError", wanted)


def test_run_crashes_on_another_torch_version_than_planned(bench):
    class Upgraded(ProcessLauncher):
        def launch(self, request, on_message):
            return super().launch(replace(request, code={**request.code, "torch": "1.0"}), on_message)

    (record,) = bench(Upgraded())
    now = version("torch")
    assert record.status == "crashed"
    assert record.error["message"] == f"torch went from 1.0 to {now} since the bench began; give the command again"
