"""Runs that were killed, interrupted, timed out or cut off from the disk are completed by the same command."""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from conftest import (
    FRESH,
    HANGING,
    CommandLine,
    forked,
    fresh_with_forked_runs,
    made_once,
    restore_default_signals,
    wait_for,
)
from skips import needs_system

from ganzoo.records.checkpoint import read_checkpoint
from ganzoo.running.process import killed_for_memory

pytestmark = needs_system(os.name == "posix", "signals as POSIX has them")

CPU = ("--device", "cpu", "--threads", "1", "--throughput-seconds", "0.05")
BRIEF = (*CPU, "--fakes", "64", "--checkpoint-seconds")
PLAN = ("bench", "--models", "mlp,dcgan", "--batch-size", "32", "--kimg", "1.5", *BRIEF, "0.1")
"""Two runs of a few seconds each, with ten checkpoints a second."""


def records_in(results: Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(results.rglob("record.json"))]


def weights_in(results: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in results.rglob("generator.safetensors")}


@dataclass
class Background:
    """A bench that runs in the background."""

    process: subprocess.Popen
    results: Path

    def runs(self) -> list[psutil.Process]:
        """The processes of its runs: one, or none between two runs."""
        try:
            children = psutil.Process(self.process.pid).children()
        except psutil.NoSuchProcess:
            return []
        return [child for child in children if "ganzoo.running.worker" in command_of(child)]

    def wait_for_checkpoint(self) -> None:
        wait_for(lambda: list(self.results.rglob("checkpoint.safetensors")) or self.process.poll() is not None)


def command_of(process: psutil.Process) -> list[str]:
    """The arguments of a process; empty if it has ended, as the short-lived git process soon has."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@contextmanager
def background(
    cwd: Path,
    *args: object,
    results: str = "runs",
    before: Callable[[], None] = restore_default_signals,
    program: tuple[str, ...] = FRESH,
):
    """Run the command in the background, calling `before` in its process first; at the end kill what is left."""
    command = [*program, *map(str, args), "--results", results]
    process = subprocess.Popen(
        command,
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=before,
    )
    bench = Background(process, cwd / results)
    try:
        yield bench
    finally:
        left = bench.runs()
        process.kill()
        process.communicate()
        _, alive = psutil.wait_procs(left, timeout=HANGING)
        assert not alive, "a run outlived its bench"


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, session_environment) -> Path:
    """The results folder of an uninterrupted plan."""

    def make(folder):
        done = CommandLine(folder)(*PLAN)
        assert done.returncode == 0, done.stderr
        assert len(weights_in(folder / "runs")) == 2
        return folder / "runs"

    return made_once("uninterrupted", make, tmp_path_factory)


def assert_whole(results: Path, uninterrupted: Path) -> None:
    """Every run of the plan is there once, its weights are those of the uninterrupted plan, and no partial file."""
    records = records_in(results)
    assert [record["status"] for record in records] == ["ok"] * len(records)
    assert sorted(record["run_id"] for record in records) == sorted(r["run_id"] for r in records_in(uninterrupted))
    assert weights_in(results) == weights_in(uninterrupted)
    assert list(results.rglob("*.part")) == []
    for record, other in zip(records, records_in(uninterrupted), strict=True):
        assert record["training"]["curves"] == other["training"]["curves"]
        scores = [(score["metric"], score["value"], score["kimg"], score["ema"]) for score in other["scores"]]
        assert [(score["metric"], score["value"], score["kimg"], score["ema"]) for score in record["scores"]] == scores


# --- killed -----------------------------------------------------------------------------------------------------------


def kill_at_random_moment(cwd: Path, plan: tuple[str, ...], rng: random.Random, seconds: float) -> str | None:
    """SIGKILL the bench, or the run's process, at a random moment of a plan that takes about `seconds`.

    Whom; None where the bench was over by then, or the run had said its last word.
    """
    with background(cwd, *plan) as bench:
        moment = time.monotonic() + rng.uniform(0, seconds)
        victim = rng.choice(["bench", "run"])
        while time.monotonic() < moment and bench.process.poll() is None:
            time.sleep(0.005)
        if victim == "run":
            while bench.process.poll() is None and not (runs := bench.runs()):
                time.sleep(0.005)
            if bench.process.poll() is None:
                with suppress(psutil.NoSuchProcess):
                    runs[0].kill()
            # The other runs go on; the killed run is recorded as failed and left to the next command.
            bench.process.communicate()
            assert bench.process.returncode in (0, 1)
            return victim if bench.process.returncode == 1 else None
        bench.process.kill()
        return victim if bench.process.wait() == -signal.SIGKILL else None


def killed_plan(folder: Path, plan: tuple[str, ...], rng: random.Random, seconds: float) -> tuple[CommandLine, str]:
    """The folder of a plan that was killed before its end, and the process that was hit; a late kill is tried again."""
    for attempt in range(20):
        run_cli = CommandLine(folder / str(attempt))
        run_cli.cwd.mkdir(parents=True)
        if victim := kill_at_random_moment(run_cli.cwd, plan, rng, seconds):
            return run_cli, victim
    pytest.fail(f"20 kills came too late: the plan takes much less than {seconds:.0f} s")


def test_kill_after_the_end_is_not_counted(tmp_path):
    for seed in range(2):  # A run, and then the bench.
        assert kill_at_random_moment(tmp_path, ("bench", "--help"), random.Random(seed), 1e9) is None


@pytest.mark.parametrize("seed", range(2))
def test_a_plan_that_is_killed_completes_bit_for_bit(seed, uninterrupted, tmp_path):
    run_cli, _ = killed_plan(tmp_path, PLAN, random.Random(seed), seconds=12)
    done = run_cli(*PLAN)
    assert done.returncode == 0, done.stderr
    assert_whole(run_cli.cwd / "runs", uninterrupted)


LONG_PLAN = (
    "bench",
    "--models",
    "mlp,dcgan,wgan-gp",
    "--seeds",
    "2",
    "--batch-size",
    "32",
    "--kimg",
    "1",
    *BRIEF,
    "0.1",
)
KILLS = int(os.environ.get("GANZOO_KILLS", "100"))
KILL_SEED = int(os.environ.get("GANZOO_KILL_SEED", "0"))


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_a_hundred_killed_plans_of_six_runs_complete_bit_for_bit(tmp_path):
    """Makes the figure in docs/reliability.md; `GANZOO_KILLS` is the number of plans, `GANZOO_KILL_SEED` the seed."""
    whole = CommandLine(tmp_path / "whole")
    whole.cwd.mkdir()
    since = time.monotonic()
    assert whole(*LONG_PLAN).returncode == 0
    seconds = time.monotonic() - since
    rng, befell = random.Random(KILL_SEED), {"bench": 0, "run": 0}
    for index in range(KILLS):
        run_cli, victim = killed_plan(tmp_path / str(index), LONG_PLAN, rng, seconds)
        befell[victim] += 1
        done = run_cli(*LONG_PLAN)
        assert done.returncode == 0, done.stderr
        assert len(records_in(run_cli.cwd / "runs")) == 6
        assert_whole(run_cli.cwd / "runs", whole.cwd / "runs")
        print(f"{index + 1} of {KILLS}: {befell}", flush=True)


HOLDS_THE_INTERPRETER = """
import ctypes, ganzoo

def sleep(real, fake):
    if not real.is_meta:
        open("asleep", "w").close()
        # Called with the interpreter's lock held: no other thread of this process gets a word in.
        ctypes.PyDLL(None).sleep(3600)
    return {"real": real.mean(), "fake": fake.mean()}

LOSS = ganzoo.Loss.of_logits("sleepy", discriminator=sleep, generator=lambda fake: {"fool": fake.mean()})

@ganzoo.hookimpl
def ganzoo_variants():
    yield ganzoo.Variant("sleeper", architecture="mlp", loss=LOSS)
"""


@needs_system(sys.platform == "linux", "PR_SET_PDEATHSIG is Linux's")
def test_unresponsive_run_dies_with_its_parent(tmp_path):
    (tmp_path / "sleeper.py").write_text(HOLDS_THE_INTERPRETER)
    with background(tmp_path, "bench", "--models", "sleeper", "--plugin", "sleeper.py", *BRIEF, "1") as bench:
        [run] = wait_for(bench.runs)
        wait_for((tmp_path / "asleep").exists)
        bench.process.kill()
        assert psutil.wait_procs([run], timeout=HANGING)[1] == []


# --- stopped ----------------------------------------------------------------------------------------------------------


def test_sigterm_saves_a_checkpoint(run_cli):
    with background(run_cli.cwd, *PLAN, program=fresh_with_forked_runs()) as bench:
        bench.wait_for_checkpoint()
        bench.process.send_signal(signal.SIGTERM)
        _, err = bench.process.communicate(timeout=HANGING)
    assert bench.process.returncode == 130
    assert "Traceback" not in err
    [record] = records_in(run_cli.cwd / "runs")
    assert record["status"] == "interrupted"
    assert record["training"]["kimg"] > 0


SLOW_TO_LOAD = """
import time
open("loading", "w").close()
time.sleep(3600)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_before_the_runs_begin_ends_the_command_as_it_does_during_runs(number, tmp_path, monkeypatch):
    monkeypatch.setenv("GANZOO_PLUGINS", "")
    (tmp_path / "slow.py").write_text(SLOW_TO_LOAD)
    with background(tmp_path, "bench", "--models", "dcgan", "--plugin", "slow.py") as bench:
        wait_for((tmp_path / "loading").exists)
        bench.process.send_signal(number)
        out, err = bench.process.communicate(timeout=HANGING)
    assert (bench.process.returncode, out, err.splitlines()) == (
        130,
        "",
        ["ganzoo: interrupted; run the same command again to go on"],
    )


def ignore_sigint() -> None:
    """POSIX shells start background commands of a script with SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def test_bench_started_with_sigint_ignored_ignores_it_and_saves_on_sigterm(uninterrupted, run_cli):
    with background(run_cli.cwd, *PLAN, before=ignore_sigint) as bench:
        bench.wait_for_checkpoint()
        bench.process.send_signal(signal.SIGINT)
        # The run ends, and the next one begins.
        wait_for(lambda: len(records_in(bench.results)) == 1)
        wait_for(lambda: list(bench.results.glob("*/dcgan-*/checkpoint.safetensors")))
        bench.process.send_signal(signal.SIGTERM)
        out, err = bench.process.communicate(timeout=HANGING)
    assert bench.process.returncode == 130
    assert err.splitlines()[-1] == "ganzoo: interrupted; run the same command again to go on"
    assert "Traceback" not in err
    assert "interrupted" in out
    stopped, done = sorted(records_in(bench.results), key=lambda record: record["spec"]["variant"])
    assert (done["spec"]["variant"], done["status"]) == ("mlp", "ok")
    assert (stopped["spec"]["variant"], stopped["status"]) == ("dcgan", "interrupted")
    assert stopped["training"]["kimg"] > 0
    done = run_cli(*PLAN)
    assert done.returncode == 0, done.stderr
    assert "dcgan, seed 0: goes on at" in done.stderr
    assert_whole(bench.results, uninterrupted)


def test_ctrl_c_saves_a_checkpoint_and_the_next_bench_resumes(uninterrupted, run_cli):
    with background(run_cli.cwd, *PLAN, program=fresh_with_forked_runs()) as bench:
        bench.wait_for_checkpoint()
        bench.process.send_signal(signal.SIGINT)
        out, err = bench.process.communicate(timeout=HANGING)
    assert bench.process.returncode == 130
    assert "interrupted; run the same command again to go on" in err
    assert "Traceback" not in err
    assert "interrupted" in out
    [record] = records_in(run_cli.cwd / "runs")
    assert record["status"] == "interrupted"
    assert record["error"]["type"] == "KeyboardInterrupt"
    assert 0 < record["training"]["kimg"] < 1.5
    done = run_cli(*PLAN)
    assert done.returncode == 0, done.stderr
    assert re.search(r"mlp, seed 0: goes on at [\d.]+ kimg", done.stderr)
    assert_whole(run_cli.cwd / "runs", uninterrupted)
    mlp, _ = sorted(records_in(run_cli.cwd / "runs"), key=lambda record: record["spec"]["variant"] != "mlp")
    # It resumes at the step where it stopped: no step is lost.
    assert mlp["training"]["resumed_at_kimg"] == [record["training"]["kimg"]]
    assert "resumed: measured by the process that began the run" in mlp["throughput"]["flags"]


# Only a second Ctrl-C can end the wait for a run that does not react to the first.
PATIENT = (
    sys.executable,
    "-c",
    "from ganzoo.cli import main\nfrom ganzoo.running import process\nprocess.GRACE_SECONDS = 3600\nmain.run()",
)


def test_a_second_ctrl_c_does_not_wait(tmp_path):
    (tmp_path / "sleeper.py").write_text(HOLDS_THE_INTERPRETER)
    command = ("bench", "--models", "sleeper", "--plugin", "sleeper.py", *BRIEF, "1")
    with background(tmp_path, *command, program=PATIENT) as bench:
        wait_for((tmp_path / "asleep").exists)
        bench.process.send_signal(signal.SIGINT)
        time.sleep(1)
        assert bench.process.poll() is None
        ended = False
        while not ended:
            # Send another if the machine was too busy to handle the first within that second, and the two became one.
            bench.process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                bench.process.communicate(timeout=60)
                ended = True
    assert bench.process.returncode == 130
    [record] = records_in(tmp_path / "runs")
    assert record["status"] == "interrupted"


TAKES_ITS_TIME = """
import time, ganzoo

def rest(real, fake):
    if not real.is_meta:
        time.sleep(0.05)
    return {"real": -real.mean(), "fake": fake.mean()}

LOSS = ganzoo.Loss.of_logits("restful", discriminator=rest, generator=lambda fake: {"fool": -fake.mean()})

@ganzoo.hookimpl
def ganzoo_variants():
    yield ganzoo.Variant("slow", architecture="mlp", loss=LOSS)
"""


def test_timed_out_run_is_recorded_and_has_saved_a_checkpoint(run_cli):
    (run_cli.cwd / "slow.py").write_text(TAKES_ITS_TIME)
    endless = ("bench", "--models", "slow", "--plugin", "slow.py", "--batch-size", "32", "--kimg", "1e6", *BRIEF, "0.1")
    for limit in (20, 80, 320):
        done = run_cli(*endless, "--timeout", limit)
        assert done.returncode == 1, done.stderr
        [record] = records_in(run_cli.cwd / "runs")
        assert record["status"] == "timeout"
        assert f"took longer than --timeout {limit}; the same command goes on with it" in record["error"]["message"]
        assert "timeout" in done.stdout
        # On a busy machine the timeout may pass before torch is imported.
        if record["training"]:
            break
    [path] = run_cli.cwd.rglob("checkpoint.safetensors")
    assert read_checkpoint(path).state["result"]["kimg"] == record["training"]["kimg"] > 0


# --- temporary failures -----------------------------------------------------------------------------------------------

DIES_ONCE = """
import os, signal
import ganzoo

def real(real, fake):
    DIE
    return {"real": -real.mean(), "fake": fake.mean()}

LOSS = ganzoo.Loss.of_logits("frail", discriminator=real, generator=lambda fake: {"fool": -fake.mean()})
CALLS = 0

def die_in_step_20(real):
    global CALLS
    CALLS += 1
    if not real.is_meta and CALLS > 20 and not os.path.exists("died"):
        open("died", "w").close()
        os.kill(os.getpid(), signal.SIGSEGV)

@ganzoo.hookimpl
def ganzoo_variants():
    yield ganzoo.Variant("frail", architecture="mlp", loss=LOSS)
""".replace("    DIE\n", "    die_in_step_20(real)\n")


def test_crashed_run_is_retried_with_retry(run_cli):
    (run_cli.cwd / "frail.py").write_text(DIES_ONCE)
    frail = (
        "bench",
        "--models",
        "frail,mlp",
        "--plugin",
        "frail.py",
        "--batch-size",
        "32",
        "--kimg",
        "1",
        *BRIEF,
        "0.1",
    )
    done = run_cli(*frail, "--no-keep-going")
    assert done.returncode == 1
    [record] = records_in(run_cli.cwd / "runs")
    assert (record["status"], record["error"]["type"]) == ("crashed", "SIGSEGV")
    (run_cli.cwd / "died").unlink()
    done = run_cli(*frail, "--retry", "oom,crashed", "--force")
    assert done.returncode == 0, done.stderr
    assert "is tried again after it ended as crashed" in done.stderr
    assert [record["status"] for record in records_in(run_cli.cwd / "runs")] == ["ok", "ok"]


def test_invalid_retry_is_refused(invoke):
    said = invoke("bench", "--models", "mlp", "--retry", "diverged", *BRIEF, "1")
    assert said.code == 2
    assert "--retry diverged: choose from oom, crashed, timeout" in said.err


@pytest.mark.parametrize(("option", "value"), [("--timeout", "0"), ("--checkpoint-seconds", "-1")])
def test_option_out_of_range_is_refused(option, value, invoke):
    said = invoke("bench", "--models", "mlp", *BRIEF, "1", option, value)
    assert said.code == 2
    assert said.error.startswith(f"ganzoo: {option}")


HUNGRY = """
import ganzoo

def greedy(real, fake):
    if len(real) > 40 and not real.is_meta:
        raise MemoryError("no room for so many")
    return {"real": -real.mean(), "fake": fake.mean()}

LOSS = ganzoo.Loss.of_logits("greedy", discriminator=greedy, generator=lambda fake: {"fool": -fake.mean()})

@ganzoo.hookimpl
def ganzoo_variants():
    yield ganzoo.Variant("hungry", architecture="mlp", loss=LOSS, batch_size=128)
"""


def test_automatic_batch_size_is_halved_until_it_fits(run_cli):
    (run_cli.cwd / "hungry.py").write_text(HUNGRY)
    hungry = ("bench", "--models", "hungry", "--plugin", "hungry.py", "--kimg", "0.5", *BRIEF, "1", "--json")
    done = run_cli(*hungry)
    assert done.returncode == 1
    assert json.loads(done.stdout)[0]["status"] == "oom"
    done = run_cli(*hungry, "--batch-size", "auto")
    assert done.returncode == 0, done.stderr
    [record] = json.loads(done.stdout)
    assert record["status"] == "ok"
    assert (record["spec"]["recipe"]["batch_size"], record["spec"]["requested_batch_size"]) == (32, 128)
    # The first batch size is known not to fit and is not tried again.
    assert done.stderr.count("started") == 2
    again = run_cli(*hungry, "--batch-size", "auto")
    assert json.loads(again.stdout) == [record]
    assert "started" not in again.stderr


def test_linux_oom_kill_counter_is_read(tmp_path):
    (tmp_path / "vmstat").write_text("nr_free_pages 5\noom_kill 3\nunevictable_pgs_culled 0\n")
    assert killed_for_memory(tmp_path / "vmstat") == 3
    assert killed_for_memory(tmp_path / "absent") == 0


# --- disks ------------------------------------------------------------------------------------------------------------


def test_unwritable_checkpoint_does_not_fail_the_run(uninterrupted, run_cli):
    done = run_cli(*PLAN, "--quiet", largest_file=4_000_000)
    assert done.returncode == 0, done.stderr
    assert "no checkpoint could be written (File too large); the run goes on without" in done.stderr
    assert list(run_cli.cwd.rglob("checkpoint.safetensors")) == []
    assert_whole(run_cli.cwd / "runs", uninterrupted)


def test_a_damaged_checkpoint_is_put_aside_and_the_run_starts_again(uninterrupted, run_cli):
    with background(run_cli.cwd, *PLAN) as bench:
        bench.wait_for_checkpoint()
        bench.process.kill()
        bench.process.wait()
    [checkpoint] = (run_cli.cwd / "runs").rglob("checkpoint.safetensors")
    content = bytearray(checkpoint.read_bytes())
    content[-100] ^= 1
    checkpoint.write_bytes(content)
    done = run_cli(*PLAN)
    assert done.returncode == 0, done.stderr
    assert "is damaged: its sha256 is not that of its bytes; put aside, and the run starts again" in done.stderr
    assert checkpoint.with_name("checkpoint.safetensors.broken").read_bytes() == content
    assert_whole(run_cli.cwd / "runs", uninterrupted)


def test_discard_checkpoints_removes_them(run_cli):
    done = run_cli("bench", "--models", "mlp", "--kimg", "0.5", *BRIEF, "0", "--discard-checkpoints")
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (run_cli.cwd / "runs").glob("*/*/*")}
    assert names == {"record.json", "samples.png", "generator.safetensors"}


# --- two benches at a time --------------------------------------------------------------------------------------------


def test_two_benches_share_a_plan_and_each_run_is_done_once(uninterrupted, run_cli):
    command, program = (*PLAN, "--json"), forked("ganzoo")
    with (
        background(run_cli.cwd, *command, program=program) as one,
        background(run_cli.cwd, *command, program=program) as other,
    ):
        said = [bench.process.communicate(timeout=HANGING) for bench in (one, other)]
    assert [one.process.returncode, other.process.returncode] == [0, 0]
    assert sum(err.count(": started") for _, err in said) == 2
    assert [record["run_id"] for record in json.loads(said[0][0])] == [r["run_id"] for r in json.loads(said[1][0])]
    assert_whole(run_cli.cwd / "runs", uninterrupted)


# --- --resume ---------------------------------------------------------------------------------------------------------


def test_resume_with_a_larger_budget_is_bit_for_bit_the_longer_run(uninterrupted, run_cli):
    brief = ("bench", "--models", "mlp", "--batch-size", "32", *BRIEF, "60", "--eval-every", "0.5")
    done = run_cli(*brief, "--kimg", "1", "--json")
    [short] = json.loads(done.stdout)
    folder = next(iter((run_cli.cwd / "runs").rglob("record.json"))).parent
    done = run_cli("bench", "--resume", folder, "--kimg", "1.5", *CPU, "--json")
    assert done.returncode == 0, done.stderr
    [longer] = json.loads(done.stdout)
    assert longer["run_id"] != short["run_id"]
    assert longer["spec"]["continues"] == short["run_id"]
    assert longer["training"]["resumed_at_kimg"] == [short["training"]["kimg"]]
    assert [score["kimg"] for score in longer["scores"] if (score["metric"], score["ema"]) == ("fid", True)] == [
        0.512, 1.024, 1.504,
    ]  # fmt: skip
    whole = run_cli(*brief, "--kimg", "1.5", "--results", "whole")
    assert whole.returncode == 0, whole.stderr
    [weights] = weights_in(run_cli.cwd / "whole").values()
    assert weights in weights_in(run_cli.cwd / "runs").values()
    assert len(records_in(run_cli.cwd / "runs")) == 2


def test_resume_of_an_unsuitable_run_is_refused(uninterrupted, invoke):
    folder = next(path.parent for path in uninterrupted.rglob("record.json") if path.parent.name.startswith("mlp"))
    said = invoke("bench", "--resume", folder, "--kimg", "1", *CPU)
    assert said.code == 2
    assert "give the new budget in all, --kimg above 1.5" in said.error
    assert (
        "--resume and --models: the run keeps its value"
        in invoke("bench", "--resume", folder, "--kimg", "2", "--models", "mlp").error
    )
    assert "no run in" in invoke("bench", "--resume", "nothing", "--kimg", "2").error
    assert "bench: give --models" in invoke("bench").error


def test_recorded_command_reproduces_the_run(run_cli, stranger):
    done = run_cli(
        "bench", "--models", "mlp*", "--seed", "3", "--kimg", "0.5", "--deterministic",
        "--set", "mlp.learning_rate=1e-4",
        "--set", "mlp-conv.learning_rate=2e-4", "--metrics", "fid,kid", "--batch-size", "16", *BRIEF, "60",
        "--plugin", stranger("hinge"), "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    records = json.loads(done.stdout)
    assert len(records) == 2
    assert all(record["environment"]["flags"]["deterministic"] for record in records)
    last = records[-1]
    program, *arguments = shlex.split(last["command"])
    assert program == "ganzoo"
    again = run_cli(*arguments, "--results", "again", "--json")
    [record] = json.loads(again.stdout)
    assert record["run_id"] == last["run_id"]
    assert record["scores"][-1]["value"] == last["scores"][-1]["value"]


# --- a long plan ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_plan_of_200_runs_leaks_nothing_in_the_parent(tmp_path, session_environment):
    """The memory of the bench stays constant, and a run leaves no process, thread or open file behind."""
    import ganzoo
    from ganzoo.runs import RunFinished

    me, seen = psutil.Process(), []

    def watch(event):
        if isinstance(event, RunFinished):
            seen.append((me.memory_info().rss, len(me.children(recursive=True)), me.num_fds(), me.num_threads()))

    ganzoo.bench(
        "mlp", seeds=200, kimg=0.032, batch_size=16, device="cpu", threads=1, throughput_seconds=0.01, fakes=16,
        results=tmp_path, on_event=watch,
    )  # fmt: skip
    assert len(seen) == 200
    memory, children, files, threads = zip(*seen, strict=True)
    print(f"resident {memory[10] / 2**20:.1f} MiB after 10 runs, {memory[-1] / 2**20:.1f} MiB after 200", flush=True)
    assert memory[-1] - memory[10] < 10 * 2**20
    assert max(children) == 0
    assert files[-1] <= files[10]
    assert threads[-1] <= threads[10]
