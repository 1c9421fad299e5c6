"""Runs each spec in a fresh Python process on this machine, and gives its outcome however the process ends."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from ganzoo.running.failure import LONGEST_TAIL, STDERR_LINES, last_lines
from ganzoo.running.launcher import RunInterrupted
from ganzoo.running.wire import STOP, Failure, Message, OnMessage, Outcome, decode, encode_request
from ganzoo.runs import RunRequest
from ganzoo.util.files import remove_partial_files

GRACE_SECONDS = 30.0
"""How long a run that is asked to stop may take to finish its step and save itself."""

END_SECONDS = 5.0
"""Grace between the outcome and exit, and for output after exit."""

SHORT_SPINS = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "10000"}
"""OpenMP's threads spin while they wait. Where anything else wants the cores, a spinning thread keeps out the one it
waits for: one busy process beside a DCGAN on 2 cores took its step from 2500 to 100 images/s, and to 770 with these
settings, which cost some 5 % on an idle machine."""

KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**33)}
"""glibc gives every large block back to the system as soon as it is freed, and a step frees its activations and
gradients each time: the next step then meets a page fault for each 4 KiB. Kept memory made the step of the MLP-GAN 1.2
times as fast on 2 cores, and that of DCGAN at 64 px 1.1 times."""

RUN_ENVIRONMENT = SHORT_SPINS | KEEP_MEMORY
"""What a run's process is started with. Variables that the user has set win."""

REPEATABLE = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
"""Without it cuBLAS does not repeat itself bit for bit (NVIDIA, cuBLAS documentation, on reproducibility)."""

COMMAND = (sys.executable, "-P", "-m", "ganzoo.running.worker")
"""The program that does a run."""

Reason = Literal["interrupted", "timeout"]
"""What a run is asked to stop for; its status, if it stops for that."""


class _OutOfTime(Exception):
    """The deadline passed. Not `TimeoutError`: callbacks may raise that."""


class ProcessLauncher:
    """Runs each spec in a fresh process, so that no run touches another. `timeout` is a run's limit in seconds."""

    def __init__(self, timeout: float | None = None) -> None:
        self.timeout = timeout

    def launch(self, request: RunRequest, on_message: OnMessage) -> Outcome:
        """Start the process, send it the request, and follow its messages until it ends; see `Launcher`."""
        killed_before = killed_for_memory()
        run = RunProcess(request)
        reasons: list[Reason] = []
        try:
            with run, run.suspended_too():
                run.write(encode_request(request))
                self._follow(run, on_message, reasons)
        except KeyboardInterrupt:
            # It came while the process was ending.
            reasons.append("interrupted")
        memory_was_full = not reasons and killed_for_memory() > killed_before
        outcome = run.outcome or _fallback_outcome(how_it_ended(run.process.returncode), memory_was_full)
        if reasons and (run.outcome is None or outcome.status == "interrupted"):
            # A run that had taken too long stays a timeout, also where the user could not wait for it to save itself.
            outcome.failed(reasons[0], self._failure(reasons[0], outcome.error))
        if outcome.error:
            outcome.error = _with_stderr(outcome.error, run.tail)
        if "interrupted" in reasons:
            raise RunInterrupted(outcome)
        return outcome

    def _follow(self, run: RunProcess, on_message: OnMessage, reasons: list[Reason]) -> None:
        """Pass on its messages until it ends; `reasons` is filled with what it was asked to stop for."""
        deadline = time.monotonic() + self.timeout if self.timeout else None
        while True:
            suspended = run.suspended
            try:
                message = run.next_message(None if deadline is None else deadline + suspended)
                if message is None:
                    return
                on_message(message)
            except (KeyboardInterrupt, _OutOfTime) as stopped:
                if isinstance(stopped, _OutOfTime) and run.suspended > suspended:
                    # It was Ctrl-Z that took the time.
                    continue
                reason: Reason = "interrupted" if isinstance(stopped, KeyboardInterrupt) else "timeout"
                if "interrupted" in reasons or (reasons and reason == "timeout"):
                    # The user asks for the second time, or it takes too long to save itself.
                    run.kill()
                    return
                reasons.append(reason)
                if len(reasons) == 1:
                    deadline = time.monotonic() - run.suspended + GRACE_SECONDS
                    run.write(STOP)

    def _failure(self, reason: Reason, error: Failure | None) -> Failure:
        """Why the run was stopped, with the tail of the error that it ended with."""
        tail = error.tail if error else ""
        if reason == "timeout":
            message = f"took longer than --timeout {self.timeout:g}; the same command goes on with it"
            return Failure("Timeout", message, tail)
        return Failure("KeyboardInterrupt", "stopped by the user; the same command goes on with it", tail)


def _with_stderr(error: Failure, stderr: str) -> Failure:
    tail = "\n".join(part for part in (stderr, error.tail) if part)
    return replace(error, tail=tail[-LONGEST_TAIL:])


class RunProcess:
    """A run's process. When the context is left, the process has ended, with whatever it had started.

    `outcome` is set as soon as it has come, whatever signal the main thread meets meanwhile. `suspended` counts the
    seconds for which Ctrl-Z has stopped it.
    """

    def __init__(self, request: RunRequest) -> None:
        self.folder = Path(request.folder)
        self.suspended = 0.0
        self._stderr = b""
        self.outcome: Outcome | None = None
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
            threading.Thread(target=self._read_stderr, daemon=True),
            threading.Thread(target=self._read_messages, daemon=True),
        ]
        # No `join`: one that Ctrl-C interrupts takes its thread for ended from then on (Python 3.11, bpo-45274).
        self._ended = threading.Event()
        for thread in (*self._readers, threading.Thread(target=self._wait_for_end, daemon=True)):
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
        return last_lines(self._stderr.decode(errors="replace"), STDERR_LINES)

    def next_message(self, deadline: float | None) -> Message | None:
        """The next message, None after the last. Raises `_OutOfTime` at `deadline` (monotonic seconds)."""
        try:
            return self._messages.get(timeout=None if deadline is None else max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise _OutOfTime from None

    def write(self, line: str) -> None:
        """Write a line to its stdin; nothing happens where it has ended."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(f"{line}\n".encode())
            self.process.stdin.flush()

    @contextlib.contextmanager
    def suspended_too(self) -> Iterator[None]:
        """Forward Ctrl-Z and `fg`: the run has another session and gets no such signal."""
        in_main = threading.current_thread() is threading.main_thread()
        if os.name != "posix" or not in_main or signal.getsignal(signal.SIGTSTP) is signal.SIG_IGN:
            yield
            return

        def suspend(number: int, frame: object) -> None:
            self._signal_group(signal.SIGSTOP)
            since = time.monotonic()
            os.kill(os.getpid(), signal.SIGSTOP)
            self.suspended += time.monotonic() - since
            self._signal_group(signal.SIGCONT)

        before = signal.signal(signal.SIGTSTP, suspend)
        try:
            yield
        finally:
            signal.signal(signal.SIGTSTP, before)

    def _signal_group(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """End the process and its descendants."""
        if os.name == "posix":
            self._signal_group(signal.SIGKILL)
        else:
            self.process.kill()

    def _read_stderr(self) -> None:
        """A plugin may print without end, and without the end of a line."""
        assert self.process.stderr is not None
        while some := os.read(self.process.stderr.fileno(), LONGEST_TAIL):
            self._stderr = (self._stderr + some)[-LONGEST_TAIL:]

    def _read_messages(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            try:
                message = decode(line)
            except ValueError:
                # A process that is killed may leave half a line.
                continue
            if isinstance(message, Outcome):
                self.outcome = message
                break
            self._messages.put(message)
        self._messages.put(None)

    def _wait_for_end(self) -> None:
        """Clean up after its end: its stdout may stay open, for children that it has forked hold it too."""
        self.process.wait()
        self.kill()
        self._reap_children()
        deadline = time.monotonic() + END_SECONDS
        for reader in self._readers:
            reader.join(max(0.0, deadline - time.monotonic()))
        self._messages.put(None)
        self._ended.set()

    def _reap_children(self) -> None:
        """Orphans of a run become children of a container's first process, which may be this one."""
        with contextlib.suppress(ChildProcessError):
            while os.name == "posix":
                os.waitpid(-self.process.pid, 0)


def _fallback_outcome(ended: str, memory_was_full: bool) -> Outcome:
    """Fallback outcome when the process exits without reporting one."""
    full = ended == "SIGKILL" and memory_was_full
    message = f"the run's process ended by {ended}" + (": the system's memory was full" if full else "")
    return Outcome().failed("oom" if full else "crashed", Failure(ended, message))


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
