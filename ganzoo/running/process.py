"""Carries out one run in a fresh Python process on this machine, and says how it ended, however it did."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from ganzoo.errors import UsageError
from ganzoo.running.worker import LONGEST_TAIL, STOP, tail_of
from ganzoo.runs import RunRequest
from ganzoo.util.files import remove_partial_files

TAIL_LINES = 40
"""How much of a failed run's stderr its record keeps."""

GRACE_SECONDS = 30.0
"""How long a run that is asked to stop may take to finish its step and save itself."""

END_SECONDS = 5.0
"""How long a process may take to end after its last word, and its last words to come through after its end."""

SHORT_SPINS = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "10000"}
"""OpenMP's threads spin while they wait. Where anything else wants the cores, a spinning thread keeps out the one it
waits for: one busy process beside a DCGAN on 2 cores took its step from 2500 to 100 images/s, and to 770 with these
settings, which cost some 5 % on an idle machine."""

KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**33)}
"""glibc gives every large block back to the system as soon as it is freed, and a step frees its activations and
gradients each time: the next step then meets a page fault for each 4 KiB. Kept memory made the step of the MLP-GAN 1.2
times as fast on 2 cores, and that of DCGAN at 64 px 1.1 times."""

RUN_ENVIRONMENT = SHORT_SPINS | KEEP_MEMORY
"""What a run's process is started with. The user's own environment wins."""

REPEATABLE = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
"""Without it cuBLAS does not repeat itself bit for bit (NVIDIA, cuBLAS documentation, on reproducibility)."""

COMMAND = (sys.executable, "-P", "-m", "ganzoo.running.worker")
"""The program that does a run."""

Message = Mapping[str, Any]
OnMessage = Callable[[Message], None]


class RunInterrupted(KeyboardInterrupt):
    """The user's wish to stop, met: `outcome` is what the run left."""

    def __init__(self, outcome: dict[str, Any]) -> None:
        super().__init__()
        self.outcome = outcome


class _OutOfTime(Exception):
    """The deadline has passed; no `TimeoutError`, for whoever follows a run may raise that."""


class Launcher(Protocol):
    """Carries out one run somewhere. Implement this to run specs on another engine."""

    def launch(self, request: RunRequest, on_message: OnMessage) -> dict[str, Any]:
        """Do the run, pass on its messages as they come, and return the outcome: the fields of a record.

        A run that ends without an outcome gives `status` and `error` instead; nothing is raised for it. Where a
        `KeyboardInterrupt` was met by asking the run to save itself, raises `RunInterrupted` with what it left.
        """


class ProcessLauncher:
    """Runs each spec in a fresh process, so that no run touches another. `timeout` is a run's limit in seconds."""

    def __init__(self, timeout: float | None = None) -> None:
        if timeout is not None and not timeout > 0:
            raise UsageError(f"--timeout {timeout}: give a number of seconds above 0")
        self.timeout = timeout

    def launch(self, request: RunRequest, on_message: OnMessage) -> dict[str, Any]:
        """Start the process, feed it the request, and follow its messages until it ends; see `Launcher`."""
        killed_before = killed_for_memory()
        run = RunProcess(request)
        wishes: list[str] = []
        try:
            with run:
                run.write(json.dumps(asdict(request)))
                self._follow(run, on_message, wishes)
        except KeyboardInterrupt:
            # It came while the process was ending.
            wishes.append("interrupted")
        # A run that had taken too long stays a timeout, also where the user could not wait for it to save itself.
        stopped = wishes[0] if wishes else ""
        full = not stopped and killed_for_memory() > killed_before
        outcome = run.outcome or _without_a_word(how_it_ended(run.process.returncode), full)
        if stopped and (run.outcome is None or outcome["status"] == "interrupted"):
            outcome |= {"status": stopped, "error": {**outcome["error"], **self._reason(stopped)}}
        if outcome["error"]:
            tail = "\n".join(part for part in (run.tail, outcome["error"]["tail"]) if part)
            outcome["error"] = {**outcome["error"], "tail": tail[-LONGEST_TAIL:]}
        if "interrupted" in wishes:
            raise RunInterrupted(outcome)
        return outcome

    def _follow(self, run: RunProcess, on_message: OnMessage, wishes: list[str]) -> None:
        """Pass on what it says until it ends; `wishes` is filled with what it was asked to stop for."""
        deadline = time.monotonic() + self.timeout if self.timeout else None
        while True:
            try:
                message = run.next_message(deadline)
                if message is None:
                    return
                on_message(message)
            except (KeyboardInterrupt, _OutOfTime) as reason:
                interrupted = isinstance(reason, KeyboardInterrupt)
                if "interrupted" in wishes or (wishes and not interrupted):
                    # The user asks for the second time, or it takes too long to save itself.
                    run.kill()
                    return
                wishes.append("interrupted" if interrupted else "timeout")
                if len(wishes) == 1:
                    deadline = time.monotonic() + GRACE_SECONDS
                    run.write(STOP)

    def _reason(self, stopped: str) -> dict[str, str]:
        if stopped == "timeout":
            message = f"took longer than --timeout {self.timeout:g}; the same command goes on with it"
            return {"type": "Timeout", "message": message}
        return {"type": "KeyboardInterrupt", "message": "stopped by the user; the same command goes on with it"}


class RunProcess:
    """A run's process. On leaving the context it has ended, with whatever it had started.

    `outcome` is there as soon as it has come, whatever signal the main thread meets meanwhile.
    """

    def __init__(self, request: RunRequest) -> None:
        self.folder = Path(request.folder)
        self._stderr = b""
        self.outcome: dict[str, Any] | None = None
        self._messages: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self.process = subprocess.Popen(
            COMMAND,
            # It stays open: its end tells the run that its parent is gone.
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=os.name == "posix",
            env=RUN_ENVIRONMENT | (REPEATABLE if request.spec["deterministic"] else {}) | os.environ,
        )
        # Read in threads, so that a signal or a time limit never meets half a line.
        self._readers = [
            threading.Thread(target=self._listen, daemon=True),
            threading.Thread(target=self._read, daemon=True),
        ]
        # No `join`: one that Ctrl-C interrupts takes its thread for ended from then on (Python 3.11, bpo-45274).
        self._ended = threading.Event()
        for thread in (*self._readers, threading.Thread(target=self._wait, daemon=True)):
            thread.start()

    def __enter__(self) -> RunProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            self._ended.wait(0 if kind else END_SECONDS)
        finally:
            self._end()

    def _end(self) -> None:
        if self.process.returncode is None:
            self.kill()
        self._ended.wait()
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()  # type: ignore[union-attr]
        for reader, stream in zip(self._readers, (self.process.stderr, self.process.stdout), strict=True):
            # Where somebody else still holds the other end, its reader holds this one.
            if not reader.is_alive():
                stream.close()  # type: ignore[union-attr]
        remove_partial_files(self.folder)

    @property
    def tail(self) -> str:
        """The last lines of its stderr."""
        return tail_of(self._stderr.decode(errors="replace"), TAIL_LINES)

    def next_message(self, deadline: float | None) -> Message | None:
        """What it says next, None after the last. Raises `_OutOfTime` at `deadline` (monotonic seconds)."""
        try:
            return self._messages.get(timeout=None if deadline is None else max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise _OutOfTime from None

    def write(self, line: str) -> None:
        """Write a line to its stdin; in vain where it has ended."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(f"{line}\n".encode())
            self.process.stdin.flush()

    def kill(self) -> None:
        """End the process and its descendants."""
        if os.name == "posix":
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        else:
            self.process.kill()

    def _listen(self) -> None:
        """A plugin may print without end, and without the end of a line."""
        assert self.process.stderr is not None
        while some := os.read(self.process.stderr.fileno(), LONGEST_TAIL):
            self._stderr = (self._stderr + some)[-LONGEST_TAIL:]

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            try:
                message = json.loads(line)
            except ValueError:
                # A process that is killed may leave half a line.
                continue
            if message["kind"] == "outcome":
                self.outcome = {name: value for name, value in message.items() if name != "kind"}
                break
            self._messages.put(message)
        self._messages.put(None)

    def _wait(self) -> None:
        """See to its end: children that it has forked hold its stdout too, so that may stay open."""
        self.process.wait()
        self.kill()
        self._bury()
        deadline = time.monotonic() + END_SECONDS
        for reader in self._readers:
            reader.join(max(0.0, deadline - time.monotonic()))
        self._messages.put(None)
        self._ended.set()

    def _bury(self) -> None:
        """What a run leaves behind falls to the first process of a container, and that may be this one."""
        with contextlib.suppress(ChildProcessError):
            while os.name == "posix":
                os.waitpid(-self.process.pid, 0)


def _without_a_word(ended: str, memory_was_full: bool) -> dict[str, Any]:
    """The outcome of a run whose process said none."""
    full = ended == "SIGKILL" and memory_was_full
    message = f"the run's process ended by {ended}" + (": the system's memory was full" if full else "")
    return {"status": "oom" if full else "crashed", "error": {"type": ended, "message": message, "tail": ""}}


def how_it_ended(code: int | None) -> str:
    """The name of the signal that ended a process, or its exit code; `SIGKILL` for one that is still being killed."""
    if code is None:
        return "SIGKILL"
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def killed_for_memory(counters: Path = Path("/proc/vmstat")) -> int:
    """How many processes Linux has killed since it started because memory was full; 0 where it does not say."""
    try:
        lines = counters.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
