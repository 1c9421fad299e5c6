"""stdout and stderr that are closed or cannot write every character: exit codes hold, and nothing is a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from conftest import FRESH, HANGING, ONE_MACHINE

pytestmark = pytest.mark.skipif(os.name != "posix", reason="closes streams as a POSIX shell does")


def in_shell(tmp_path, *arguments, closed="", **variables):
    """The command with these redirections: its exit code, and what it wrote."""
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", *FRESH, *map(str, arguments)],
        cwd=tmp_path,
        env=os.environ | variables,
        capture_output=True,
        timeout=HANGING,
    )


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(("arguments", "code"), [(("list", "suites"), 0), (("doctor", "nowhere"), 2)])
def test_closed_streams_keep_the_exit_code(closed, arguments, code, tmp_path):
    done = in_shell(tmp_path, *arguments, closed=closed)
    assert (done.returncode, b"Traceback" in done.stderr) == (code, False), done.stderr


def test_a_bench_without_stdout_does_its_runs_and_writes_nothing_into_their_files(tmp_path):
    bench = ("bench", "--models", "mlp", "--throughput-only", "--throughput-seconds", "0.1", "--threads", "1")
    # A fresh process, for a forked one is given the streams of its starter.
    done = in_shell(tmp_path, *bench, closed=">&- 2>&-")
    assert done.returncode == 0
    (record,) = tmp_path.glob("runs/*/*/record.json")
    assert json.loads(record.read_text())["status"] == "ok"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_stream_that_lacks_a_character_replaces_it(encoding, tmp_path):
    done = in_shell(tmp_path, "compare", ONE_MACHINE, "--where", "dataset=mnist", PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert "1,357 ± 106".encode(encoding, "replace") in done.stdout


def test_an_error_that_lacks_a_character_is_one_line_all_the_same(tmp_path):
    done = in_shell(tmp_path, "doctor", "größe", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout) == (2, b"")
    (line,) = done.stderr.splitlines()
    assert line.startswith(b"ganzoo: gr??e: ")


def test_a_pool_of_idle_threads_is_no_thread_that_does_not_end(tmp_path):
    """As torch's compiler leaves one behind; a pool that works without end is one."""
    code = (
        "import concurrent.futures, sys, time\n"
        "from ganzoo.cli import main\n"
        "main.PATIENCE_SECONDS = 0.5\n"
        "pool = concurrent.futures.ThreadPoolExecutor(1)\n"
        "pool.submit({}).result({})\n"
        "sys.argv[1:] = ['list', 'suites']\n"
        "main.run()\n"
    )
    idle, busy = (
        subprocess.run([sys.executable, "-c", text], cwd=tmp_path, capture_output=True, text=True, timeout=HANGING)
        for text in (code.format("int", ""), code.format("time.sleep, 600", "").replace(".result()", ""))
    )
    assert (idle.returncode, idle.stderr) == (0, "")
    assert busy.returncode == 0
    assert busy.stderr == "ganzoo: a plugin's thread 'ThreadPoolExecutor-0_0' does not end; it is left behind\n"
