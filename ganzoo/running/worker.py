"""One run's process: reads the request from stdin, writes messages and the outcome to stdout.

Whatever the run or a plugin prints goes to stderr. The process ends when its parent does, however that ends, and
the processes that it has started end with it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import time

from ganzoo.errors import Disturbed, Diverged
from ganzoo.running.failure import failure_of
from ganzoo.running.wire import STOP, Message, OnMessage, Outcome, decode_request, encode
from ganzoo.runs import RunRequest
from ganzoo.util.signals import StopRequest

PR_SET_PDEATHSIG = 1

WATCH_SECONDS = 0.5
"""How long the processes that a run has started may outlive it."""

CHECKS_WITHOUT_PARENT = 4
"""Checks without a parent after which the run is killed. It ends by itself before that, unless it is stopped."""


def main() -> None:
    """Read a `RunRequest`, do it, and write its messages, then its outcome; see `ganzoo.running.wire`."""
    _end_with_parent()
    _kill_group_on_exit()
    stop = StopRequest()
    stop.listen()
    channel = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    # What a plugin prints must not be taken for a message.
    os.dup2(2, 1)
    request = decode_request(sys.stdin.readline())
    threading.Thread(target=_listen_for_stop, args=(stop,), daemon=True).start()

    def emit(message: Message | Outcome) -> None:
        channel.write(f"{encode(message)}\n")

    emit(execute(request, emit, stop))
    channel.close()
    # A plugin's stray thread must not keep a finished run alive.
    sys.stderr.flush()
    os._exit(0)


def _end_with_parent() -> None:
    """Die with the parent: on Linux the system kills at once, even in a long call; elsewhere the end of stdin does."""
    with contextlib.suppress(OSError, AttributeError):
        import ctypes

        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _kill_group_on_exit() -> None:
    """Start a process that waits for the end of this one, however it ends, and then kills its process group.

    It does so too where the parent has gone and this one cannot end by itself, because it is stopped.
    """
    run = os.getpid()
    # Where the run does not lead its group, the parent is in that group too.
    if os.name != "posix" or os.getpgrp() != run or os.fork():
        return
    try:
        # What stops the group, as Ctrl-Z does, must not stop this one.
        os.setsid()
        # The pipes that the run writes to are not to be held open; the one that it reads from tells of the parent.
        os.closerange(1, 3)
        without_parent = 0
        while os.getppid() == run and without_parent < CHECKS_WITHOUT_PARENT:
            time.sleep(WATCH_SECONDS)
            without_parent += _has_hung_up(0)
        os.killpg(run, signal.SIGKILL)
    finally:
        os._exit(0)


def _has_hung_up(descriptor: int) -> bool:
    """Whether nobody holds the other end of a pipe any more; what is left in it stays there."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(event & select.POLLHUP for _, event in poll.poll(0))


def _listen_for_stop(stop: StopRequest) -> None:
    for line in sys.stdin:
        if line.strip() == STOP:
            stop.ask()
    os._exit(1)


def execute(request: RunRequest, emit: OnMessage, stop: StopRequest) -> Outcome:
    """Train, score, measure; gives an outcome whatever happens, with the `status` that fits."""
    import torch

    from ganzoo.machine.fingerprint import environment, hardware_fingerprint
    from ganzoo.machine.memory import out_of_memory
    from ganzoo.machine.onednn import linear_backend
    from ganzoo.machine.settings import apply_settings
    from ganzoo.records.store import read_spec
    from ganzoo.running.stages import run_stages

    spec = read_spec(request.spec)
    outcome = Outcome()
    try:
        apply_settings(spec.threads, spec.precision)
        if spec.device != "cpu":
            torch.accelerator.set_device_index(torch.device(spec.device).index or 0)
        run_stages(request, spec, outcome, emit, stop)
    except KeyboardInterrupt as error:
        outcome.failed("interrupted", failure_of(error))
    except Diverged as error:
        outcome.failed("diverged", failure_of(error))
    except Disturbed as error:
        outcome.failed("disturbed", failure_of(error))
    except Exception as error:
        outcome.failed("oom" if out_of_memory(error) else "crashed", failure_of(error))
    # What is left to do is quick, and must be said.
    stop.deferred = True
    outcome.hardware = hardware_fingerprint(spec.device, spec.threads)
    backend = linear_backend(spec.device, spec.precision, spec.step_mode)
    outcome.environment = {**environment({}, backend), **request.code}
    return outcome


if __name__ == "__main__":
    main()
