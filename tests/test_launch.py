"""The launcher against fake run processes that die, hang, fork or print too much."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import HANGING, wait_for
from skips import needs_system

from ganzoo.running import process as launch
from ganzoo.running.failure import LONGEST_LINE, LONGEST_TAIL, STDERR_LINES, failure_of
from ganzoo.running.launcher import RunInterrupted
from ganzoo.running.process import ProcessLauncher
from ganzoo.running.wire import Message, Outcome, Stage
from ganzoo.runs import RunRequest

pytestmark = needs_system(os.name == "posix", "signals and processes as POSIX has them")

FAKE_RUN = """
import json, os, signal, sys, time

request = json.loads(sys.stdin.readline())

def say(kind, **content):
    print(json.dumps({"kind": kind, **content}), flush=True)

def end(status="ok", error=None, **more):
    say("outcome", status=status, error=error, **more)

def die():
    os.kill(os.getpid(), signal.SIGKILL)
"""

Launch = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def ctrl_c() -> Iterator[None]:
    """Handle Ctrl-C as at a terminal, even if the tests were started with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def launched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Launch:
    """`launched(code, on_message, timeout)`: the outcome of a run whose process executes `code`."""
    request = RunRequest("id", {"deterministic": False}, {}, str(tmp_path), (), None, None, checkpoint_seconds=60)

    def launched(
        code: str, on_message: Callable[[Message], None] = lambda message: None, timeout: float | None = None
    ) -> Outcome:
        monkeypatch.setattr(launch, "COMMAND", (sys.executable, "-I", "-S", "-c", FAKE_RUN + code))
        return ProcessLauncher(timeout).launch(request, on_message)

    return launched


# --- killed -----------------------------------------------------------------------------------------------------------


def test_messages_and_outcome_of_a_run_reach_the_parent(launched):
    heard: list[Message] = []
    assert launched("say('stage', stage='loading'); end()", heard.append) == Outcome("ok")
    assert heard == [Stage("loading")]


@pytest.mark.parametrize("half", ['{"kind": "outcome", "status": "o', '{"kind": "progress", "kimg": 1', "{"])
def test_a_run_that_is_killed_in_the_middle_of_a_message_has_crashed(half, launched):
    heard: list[Message] = []
    outcome = launched(f"say('stage', stage='loading'); print({half!r}, end='', flush=True); die()", heard.append)
    assert (outcome.status, outcome.error.type) == ("crashed", "SIGKILL")
    assert heard == [Stage("loading")]


def test_lines_without_a_message_are_ignored(launched):
    heard: list[Message] = []
    noise = "print('[3]'); print('{}'); print('{\"kind\": \"farewell\"}'); print('not JSON')"
    assert launched(f"{noise}; say('stage', stage='loading'); {noise}; end()", heard.append) == Outcome("ok")
    assert heard == [Stage("loading")]


LEAVES_A_CHILD = """
child = os.fork()
if not child:
    APART
    time.sleep(3600)
with open(os.path.join(request["folder"], "child"), "w") as file:
    file.write(str(child))
"""


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Callable[[], psutil.Process]]:
    """`child()`: the process that a run with the code `LEAVES_A_CHILD` has forked."""

    def child() -> psutil.Process:
        return psutil.Process(int((tmp_path / "child").read_text()))

    yield child
    with contextlib.suppress(psutil.Error):
        child().kill()


def has_ended(child: Callable[[], psutil.Process]) -> bool:
    try:
        return child().status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_forked_child_of_a_dead_run_is_killed(launched, child):
    outcome = launched(LEAVES_A_CHILD.replace("APART", "pass") + "die()")
    assert (outcome.status, outcome.error.type) == ("crashed", "SIGKILL")
    wait_for(lambda: has_ended(child))


def test_child_in_own_session_does_not_block_the_end_of_a_dead_run(launched, child, monkeypatch):
    monkeypatch.setattr(launch, "END_SECONDS", 0.1)
    when_apart = "\nwhile os.getsid(child) == os.getsid(0): time.sleep(0.01)\ndie()"
    outcome = launched(LEAVES_A_CHILD.replace("APART", "os.setsid()") + when_apart)
    assert (outcome.status, outcome.error.type) == ("crashed", "SIGKILL")
    assert not has_ended(child)


@pytest.fixture
def as_subreaper() -> Iterator[None]:
    """Make this process a child subreaper, so that it adopts orphans as process 1 of a container does."""
    set_child_subreaper = 36
    ctypes.CDLL(None).prctl(set_child_subreaper, 1)
    yield
    ctypes.CDLL(None).prctl(set_child_subreaper, 0)


@needs_system(sys.platform == "linux", "PR_SET_CHILD_SUBREAPER is Linux's")
def test_orphans_are_reaped_as_pid_1(launched, child, as_subreaper):
    launched(LEAVES_A_CHILD.replace("APART", "pass") + "end()")
    with pytest.raises(psutil.NoSuchProcess):
        child()


@pytest.fixture
def waiting_run() -> Iterator[subprocess.Popen]:
    """A real process of a run that has no request yet and leads a process group."""
    process = subprocess.Popen(launch.COMMAND, stdin=subprocess.PIPE, process_group=0)
    yield process
    process.kill()
    process.communicate()


def test_process_group_of_a_run_is_killed_with_it(waiting_run):
    started = subprocess.Popen(["sleep", "3600"], process_group=waiting_run.pid)
    try:
        wait_for(lambda: psutil.Process(waiting_run.pid).children())
        waiting_run.kill()
        assert started.wait(timeout=HANGING) == -signal.SIGKILL
    finally:
        started.kill()


# --- stopped ----------------------------------------------------------------------------------------------------------

SAVES_ITSELF = """
say("stage", stage="training")
assert sys.stdin.readline() == "stop\\n"
say("stage", stage="saving")
DISK
end("interrupted", {"type": "KeyboardInterrupt", "message": "", "tail": ""}, training={"kimg": 1})
"""

SAVED = {"kimg": 1}


def ctrl_c_at(*stages: str) -> Callable[[Message], None]:
    def on_message(message: Message) -> None:
        if message.stage in stages:
            signal.raise_signal(signal.SIGINT)

    return on_message


def test_ctrl_c_lets_the_run_save_a_checkpoint(launched):
    with pytest.raises(RunInterrupted) as stopped:
        launched(SAVES_ITSELF.replace("DISK", "pass"), ctrl_c_at("training"))
    outcome = stopped.value.outcome
    assert (outcome.status, outcome.error.type, outcome.training) == ("interrupted", "KeyboardInterrupt", SAVED)


def test_a_second_ctrl_c_does_not_wait(launched, monkeypatch):
    monkeypatch.setattr(launch, "GRACE_SECONDS", 3600)
    with pytest.raises(RunInterrupted) as stopped:
        launched(SAVES_ITSELF.replace("DISK", "time.sleep(3600)"), ctrl_c_at("training", "saving"))
    outcome = stopped.value.outcome
    assert (outcome.status, outcome.training) == ("interrupted", {})


def test_timed_out_run_saves_a_checkpoint_although_ctrl_c_ends_the_plan(launched):
    with pytest.raises(RunInterrupted) as stopped:
        launched(SAVES_ITSELF.replace("DISK", "pass"), ctrl_c_at("saving"), timeout=0.1)
    outcome = stopped.value.outcome
    assert (outcome.status, outcome.error.type, outcome.training) == ("timeout", "Timeout", SAVED)


def test_second_ctrl_c_after_the_timeout_does_not_wait(launched, monkeypatch):
    monkeypatch.setattr(launch, "GRACE_SECONDS", 3600)
    disk = "say('stage', stage='slow disk'); time.sleep(3600)"
    with pytest.raises(RunInterrupted) as stopped:
        launched(SAVES_ITSELF.replace("DISK", disk), ctrl_c_at("saving", "slow disk"), timeout=0.1)
    outcome = stopped.value.outcome
    assert (outcome.status, outcome.training) == ("timeout", {})


def test_timed_out_run_that_does_not_stop_is_killed(launched, monkeypatch):
    monkeypatch.setattr(launch, "GRACE_SECONDS", 0.1)
    outcome = launched(SAVES_ITSELF.replace("DISK", "time.sleep(3600)"), timeout=0.1)
    assert (outcome.status, outcome.training) == ("timeout", {})


PRESSES_CTRL_C = """
say("stage", stage=str(os.getpid()))
end()
time.sleep(0.1)
os.kill(os.getppid(), signal.SIGINT)
time.sleep(3600)
"""


def test_ctrl_c_while_a_run_ends_kills_it_and_keeps_its_outcome(launched):
    heard: list[Message] = []
    with pytest.raises(RunInterrupted) as stopped:
        launched(PRESSES_CTRL_C, heard.append)
    assert stopped.value.outcome == Outcome("ok")
    assert not psutil.pid_exists(int(heard[0].stage))


def test_ctrl_c_at_the_last_message_of_a_run_keeps_its_outcome(launched, monkeypatch):
    take = launch.RunProcess.next_message

    def interrupted(*arguments: Any) -> None:
        """Take the message and lose it, as a signal at this moment would."""
        take(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(launch.RunProcess, "next_message", interrupted)
    with pytest.raises(RunInterrupted) as stopped:
        launched("end()")
    assert stopped.value.outcome == Outcome("ok")


def test_timeout_error_of_a_message_handler_is_not_the_run_timeout(launched):
    heard: list[Message] = []

    def on_message(message: Message) -> None:
        heard.append(message)
        raise TimeoutError("the log server does not answer")

    with pytest.raises(TimeoutError, match="the log server does not answer"):
        launched("say('stage', stage=str(os.getpid())); assert sys.stdin.readline() == 'stop\\n'; end()", on_message)
    assert not psutil.pid_exists(int(heard[0].stage))


# --- long output ------------------------------------------------------------------------------------------------------


def assert_short(tail: str) -> None:
    assert 0 < len(tail) <= LONGEST_TAIL
    assert max(map(len, tail.splitlines())) <= LONGEST_LINE + 1


@pytest.mark.parametrize("line", ["'x' * 10**7", "('x' * 3000 + '\\n') * 1000", "'é' * 10**6"])
def test_endless_output_of_a_run_is_truncated_in_the_record(line, launched):
    error = {"type": "E", "message": "m", "tail": "Traceback\n  of the run"}
    outcome = launched(f"sys.stderr.write({line} + 'the end'); sys.stderr.flush(); end('crashed', {error!r})")
    assert_short(outcome.error.tail)
    assert outcome.error.tail.endswith("Traceback\n  of the run")


def test_the_last_lines_before_a_death_are_kept(launched):
    outcome = launched("for line in range(1000): print(line, file=sys.stderr)\nsys.stderr.flush(); die()")
    assert outcome.error.tail.splitlines() == [str(line) for line in range(1000 - STDERR_LINES, 1000)]


@pytest.mark.parametrize("message", ["x" * 10**7, "several words\n" * 10**6], ids=["line", "lines"])
def test_endless_error_message_is_truncated_in_the_record(message):
    error = failure_of(ValueError(message))
    assert_short(error.tail)
    assert 0 < len(error.message) <= 500
