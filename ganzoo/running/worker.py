"""One run's process: the request comes in on stdin, messages and the outcome go out on stdout.

Whatever the run or a plugin prints goes to stderr. The process ends when its parent does, however that ends, and
what it has started ends with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from ganzoo.errors import Diverged
from ganzoo.runs import RunRequest
from ganzoo.util.signals import StopRequest
from ganzoo.util.text import printable

STOP = "stop"
"""A line on stdin that asks the run to save itself and end."""

TAIL_LINES = 60
"""How much of a traceback a record keeps: enough for its head."""

LONGEST_LINE, LONGEST_TAIL = 2000, 65_536
"""Of what stderr and the traceback say, a record keeps so many characters at most."""

PR_SET_PDEATHSIG = 1

WATCH_SECONDS = 0.5
"""How long what a run has started may outlive it."""

Emit = Callable[..., None]


def main() -> None:
    """Read a `RunRequest`, do it, and write one JSON object per line: events, then the outcome."""
    _end_with_parent()
    _take_along_what_it_starts()
    stop = StopRequest()
    stop.listen()
    channel = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    # A print in a plugin must not be taken for an event.
    os.dup2(2, 1)
    request = RunRequest(**json.loads(sys.stdin.readline()))
    threading.Thread(target=_listen, args=(stop,), daemon=True).start()

    def emit(kind: str, **content: Any) -> None:
        channel.write(json.dumps({"kind": kind, **content}) + "\n")

    outcome = execute(request, emit, stop)
    emit("outcome", **outcome)
    channel.close()
    # A plugin's stray thread must not keep a finished run alive.
    sys.stderr.flush()
    os._exit(0)


def _end_with_parent() -> None:
    """On Linux the system sees to it at once, even in the middle of a long call; elsewhere the end of stdin does."""
    with contextlib.suppress(OSError, AttributeError):
        import ctypes

        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _take_along_what_it_starts() -> None:
    """Start a process that waits for the end of this one, however it ends, and then kills its process group."""
    run = os.getpid()
    # A run that leads no group of its own would take its parent's along.
    if os.name != "posix" or os.getpgrp() != run or os.fork():
        return
    try:
        # The run's pipes are not to be held open.
        os.closerange(0, 3)
        while os.getppid() == run:
            time.sleep(WATCH_SECONDS)
        os.killpg(run, signal.SIGKILL)
    finally:
        os._exit(0)


def _listen(stop: StopRequest) -> None:
    for line in sys.stdin:
        if line.strip() == STOP:
            stop.ask()
    os._exit(1)


def execute(request: RunRequest, emit: Emit, stop: StopRequest) -> dict[str, Any]:
    """Train, score, measure; the fields of a record, whatever happens, with the `status` that fits."""
    import torch

    from ganzoo.machine.fingerprint import environment, hardware_fingerprint
    from ganzoo.machine.onednn import linear_backend
    from ganzoo.machine.settings import apply_settings
    from ganzoo.records.store import read_spec
    from ganzoo.running.stages import carry_out

    spec = read_spec(request.spec)
    outcome: dict[str, Any] = {"status": "ok", "error": None}
    try:
        apply_settings(spec.threads, spec.precision)
        if spec.device != "cpu":
            torch.accelerator.set_device_index(torch.device(spec.device).index or 0)
        carry_out(request, spec, outcome, emit, stop)
    except KeyboardInterrupt as error:
        outcome |= _failure("interrupted", error)
    except Diverged as error:
        outcome |= _failure("diverged", error)
    except Exception as error:
        outcome |= _failure("oom" if _out_of_memory(error) else "crashed", error)
    # What is left to do is quick, and must be said.
    stop.deferred = True
    outcome["hardware"] = hardware_fingerprint(spec.device, spec.threads)
    outcome["environment"] = environment({}, linear_backend(spec.device, spec.precision, spec.step_mode))
    return outcome


def _out_of_memory(error: Exception) -> bool:
    """On the CPU and on MPS torch says so in words only, and a failed capture in the error behind the error."""
    import torch

    spoken = ("DefaultCPUAllocator: can't allocate memory", "MPS backend out of memory", "CUDA error: out of memory")
    behind: BaseException | None = error
    while behind is not None:
        if isinstance(behind, (torch.OutOfMemoryError, MemoryError)) or any(text in str(behind) for text in spoken):
            return True
        behind = behind.__cause__ or behind.__context__
    return False


def _failure(status: str, error: BaseException) -> dict[str, Any]:
    name = printable(type(error).__name__)
    tail = tail_of("".join(traceback.format_exception(error)), TAIL_LINES)
    return {"status": status, "error": {"type": name, "message": printable(error) or name, "tail": tail}}


def tail_of(text: str, lines: int) -> str:
    """The last lines of a text, as a record keeps them: each is cut, and so is the whole."""
    kept = [line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}…" for line in text.splitlines()[-lines:]]
    return "\n".join(kept)[-LONGEST_TAIL:]


if __name__ == "__main__":
    main()
