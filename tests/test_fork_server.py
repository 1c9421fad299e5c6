"""A fork of the server behaves like a fresh process: in its arguments, environment, streams and exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import psutil
import pytest
from conftest import FRESH, HANGING, forked

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the server is Linux's; elsewhere processes are fresh")

TELLS = """
import json, os, resource, sys
told = {
    "arguments": sys.argv[1:],
    "folder": os.getcwd(),
    "environment": dict(os.environ),
    "path": sys.path,
    "limit": resource.getrlimit(resource.RLIMIT_FSIZE),
    "encodings": [sys.stdin.encoding, sys.stdout.encoding, sys.stderr.encoding],
    "name": __name__,
    "read": sys.stdin.read(),
}
print(json.dumps(told))
print("on stderr", file=sys.stderr)
"""


def test_fork_gets_arguments_folder_environment_streams_and_limits(tmp_path):
    (tmp_path / "tells.py").write_text(TELLS)
    (tmp_path / "elsewhere").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "elsewhere"), "ONLY_HERE": "ü"}

    def limit():
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (12_345_678, resource.RLIM_INFINITY))

    said = []
    for program in ((sys.executable, "-m", "tells"), forked("tells")):
        done = subprocess.run(
            [*program, "--word", "ä b"],
            cwd=tmp_path,
            env=environment,
            input="asked",
            capture_output=True,
            text=True,
            preexec_fn=limit,
            timeout=HANGING,
        )
        assert (done.returncode, done.stderr) == (0, "on stderr\n")
        said.append(json.loads(done.stdout))
    fresh, fork = said
    # The folder of the tests is on neither sys.path, and the rest of sys.path is the interpreter's.
    assert fork == fresh


ENDS = [
    "raise SystemExit",
    "raise SystemExit(3)",
    "raise SystemExit('in words')",
    "raise KeyError('unforeseen')",
    "import os; os._exit(4)",
    "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
    "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "import atexit; atexit.register(print, 'at the end'); print('first')",
    "import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.2), print('a thread'))).start()",
]


@pytest.mark.parametrize("source", ENDS)
def test_fork_exits_with_the_code_or_signal_of_a_fresh_process(source, tmp_path):
    (tmp_path / "ends.py").write_text(source)
    fresh, short, whole = (
        subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, timeout=HANGING)
        for program in ((sys.executable, "-m", "ends"), forked("ends"), forked("ends", "whole"))
    )
    for fork in (short, whole):
        assert (fork.returncode, fork.stdout) == (fresh.returncode, fresh.stdout)
        assert fork.stderr.splitlines()[-1:] == fresh.stderr.splitlines()[-1:]


def test_fork_with_a_whole_ending_reports_an_unwritable_stdout(tmp_path):
    """Python reports it and exits with 120."""
    (tmp_path / "writes.py").write_text("print('lost')")
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    for program in ((sys.executable, "-m", "writes"), forked("writes", "whole")):
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                program, cwd=tmp_path, env=buffered, stdout=full, stderr=subprocess.PIPE, text=True, timeout=HANGING
            )
        assert done.returncode == 120
        assert done.stderr.endswith("No space left on device\n")


def test_a_fork_is_killed_with_the_process_that_stands_for_it(tmp_path):
    (tmp_path / "sleeps.py").write_text("import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(600)\n")
    process = subprocess.Popen(forked("sleeps"), cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    fork = psutil.Process(int(process.stdout.readline()))
    assert fork.pid != process.pid
    process.kill()
    assert process.wait() == -signal.SIGKILL
    fork.wait(60)
    process.stdout.close()


def test_fork_prints_what_a_fresh_command_prints(run_cli):
    for command in (("--version",), ("show", "dcgan"), ("benhc",)):
        fresh, fork = run_cli(*command, program=FRESH), run_cli(*command)
        assert (fork.returncode, fork.stdout, fork.stderr) == (fresh.returncode, fresh.stdout, fresh.stderr)
