"""Run `ganzoo` in processes that need not import torch: a server has imported it and forks once for each command.

A fork gets arguments, folder, environment, streams and the limit of file sizes, and its exit code is that of
`python -m MODULE`. It differs from a fresh process in the modules already loaded, in its parent and process group, and
in the variables that Python and torch read when they start. Tests of any of these use a fresh process. Linux only.

Each fork has a stand-in: `python fork_server.py ADDRESS MODULE ENDING ARGUMENT…`. It exits as the fork does, and
when it is killed, the fork is killed too.
"""

from __future__ import annotations

import functools
import json
import os
import resource
import select
import signal
import socket
import sys
from typing import NoReturn

LONGEST_REQUEST = 2**18

SERVERS: list = []
"""Their stdin stays open as long as this process lives, and they end with it."""


@functools.cache
def start(environment: tuple[tuple[str, str], ...]) -> str:
    """Start a server in `environment` and return the path of its socket."""
    import subprocess
    import tempfile

    address = os.path.join(tempfile.mkdtemp(prefix="ganzoo-"), "server")
    server = subprocess.Popen(
        (sys.executable, "-P", __file__, address),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=dict(environment),
        cwd="/",
        start_new_session=True,
    )
    assert server.stdout.readline() == b"ready\n"
    SERVERS.append(server)
    return address


def command(address: str, module: str, ending: str = "short") -> tuple[str, ...]:
    """The stand-in to start in place of `python -m MODULE`: a Python that imports almost nothing.

    A fork skips the half second in which Python tears its modules down, unless the `ending` is "whole".
    """
    return (sys.executable, "-I", "-S", os.path.abspath(__file__), address, module, ending)


def run_stand_in(address: str, module: str, ending: str, *arguments: str) -> NoReturn:
    """Request a fork with the streams of this process, wait for its end, and exit with its code or signal."""
    request = {
        "module": module,
        "ending": ending,
        "arguments": arguments,
        "folder": os.getcwd(),
        "environment": dict(os.environ),
        "largest_file": resource.getrlimit(resource.RLIMIT_FSIZE),
        "leads_session": os.getsid(0) == os.getpid(),
    }
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.connect(address)
        socket.send_fds(server, [json.dumps(request).encode()], [0, 1, 2])
        code = int(server.recv(16))
    if code < 0:
        if code != -signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def serve(address: str) -> dict:
    """Fork for each client until stdin is closed. Returns in the forks only, with their request."""
    preload()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(address)
    listener.listen(64)
    # The kernel reaps the processes that wait for forks.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    os.write(1, b"ready\n")
    while 0 not in select.select([listener, 0], [], [])[0]:
        client, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            message, streams, *_ = socket.recv_fds(client, LONGEST_REQUEST, 3)
            fork = os.fork()
            if fork == 0:
                client.close()
                return {**json.loads(message), "streams": streams}
            for stream in streams:
                os.close(stream)
            wait_for_fork(fork, client)
        client.close()
    os.unlink(address)
    os.rmdir(os.path.dirname(address))
    os._exit(0)


def preload() -> None:
    """Import what commands and runs need, starting no thread: forks would lack it and deadlock on its locks.

    Without `gc.freeze`: ganzoo reads the settings of the collector for each plugin, and Python then counts the frozen
    objects one by one, which made `ganzoo list` take three seconds in place of half a second.
    """
    import pandas  # noqa: F401
    import PIL.Image  # noqa: F401
    import scipy.stats  # noqa: F401
    import torch._dynamo  # noqa: F401

    import ganzoo.cli.commands
    import ganzoo.running.stages  # noqa: F401
    from ganzoo.registry.discovery import discover
    from ganzoo.running import speed as measure

    discover()
    # The peak of the processor is the same for all runs; each would measure it for a second.
    measure.matrix_product_rate = functools.cache(measure.matrix_product_rate)
    measure.matrix_product_rate("cpu", "fp32", 1)
    threads = len(os.listdir("/proc/self/task"))
    assert threads == 1, f"{threads} threads"


def wait_for_fork(fork: int, client: socket.socket) -> NoReturn:
    """Send the exit code of the fork to the client, or kill the fork if the client ends."""
    ended, _, _ = select.select([client, os.pidfd_open(fork)], [], [])
    if client in ended:
        os.kill(fork, signal.SIGKILL)
    else:
        _, status = os.waitpid(fork, 0)
        client.send(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def set_up_fork(request: dict, address: str) -> None:
    """Give this fork the session, streams, folder, environment, arguments and limits of the request."""
    import importlib
    import random

    from ganzoo.running import process

    if request["leads_session"]:
        os.setsid()
    for descriptor, stream in enumerate(request["streams"]):
        os.dup2(stream, descriptor)
        os.close(stream)
    sys.stdin = sys.__stdin__ = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.__stderr__ = os.fdopen(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)
    os.chdir(request["folder"])
    before, now = (
        [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
        for environment in (os.environ, request["environment"])
    )
    # `ganzoo.running.worker` is started with -P.
    sys.path[: len(before)] = [*([] if request["module"] == "ganzoo.running.worker" else [os.getcwd()]), *now]
    importlib.invalidate_caches()
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv[1:] = request["arguments"]
    resource.setrlimit(resource.RLIMIT_FSIZE, request["largest_file"])
    random.seed()
    # Fork the processes of its runs as well.
    process.COMMAND = command(address, "ganzoo.running.worker")


def run_as_main(module: str) -> None:
    """Run the module as `python -m` does; the interpreter then exits as usual."""
    import runpy

    runpy.run_module(module, run_name="__main__", alter_sys=True)


def run_and_exit(module: str) -> NoReturn:
    """Run the module, then exit as the interpreter does, except for tearing down modules."""
    import atexit
    import threading

    code = 0
    try:
        run_as_main(module)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if code == 1 != end.code:
            print(end.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


if __name__ == "__main__":
    address, *rest = sys.argv[1:]
    if rest:
        run_stand_in(address, *rest)
    request = serve(address)
    set_up_fork(request, address)
    if request["ending"] == "whole":
        run_as_main(request["module"])
    else:
        run_and_exit(request["module"])
