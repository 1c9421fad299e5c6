"""An accidental skip fails if `GANZOO_SKIP_NOTHING` is set, and is a skip otherwise."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import HANGING
from skips import STRICT

SKIPS = """
import pytest
from skips import NO_ACCELERATOR, needs_accelerator, needs_system

@needs_accelerator(False, "no CUDA device")
def test_accelerator(): pass

def test_accelerator_in_passing(): pytest.skip(f"{NO_ACCELERATOR}no CUDA device")

@needs_system(False, "signals as POSIX has them")
def test_system(): pass

@needs_system(True, "signals as POSIX has them")
@needs_accelerator(True, "no CUDA device")
def test_passes(): pass

@pytest.mark.xfail
def test_fails_as_expected(): raise ValueError
"""

ACCIDENTS = {
    "mark": '@pytest.mark.skipif(True, reason="no browser")\ndef test_accident(): pass\n',
    "call": 'def test_accident(): pytest.skip("no browser")\n',
    "bare": "@pytest.mark.skip\ndef test_accident(): pass\n",
    "fixture": '@pytest.fixture\ndef browser(): pytest.skip("no browser")\n\ndef test_accident(browser): pass\n',
    "module": 'pytest.importorskip("a_package_that_nobody_has", reason="no browser")\n',
    "allowed-in-the-middle": 'def test_accident(): pytest.skip("no browser, no accelerator: x")\n',
}


def outcome(folder: Path, source: str, strict: str | None) -> tuple[int, str, dict[str, int]]:
    """The exit code of pytest on a test file, its output, and the number of tests by outcome."""
    (folder / "test_few.py").write_text(source)
    environment = {name: value for name, value in os.environ.items() if name not in (STRICT, "PYTEST_ADDOPTS")}
    environment |= {"PYTHONPATH": str(Path(__file__).parent)} | ({STRICT: strict} if strict is not None else {})
    command = [sys.executable, "-m", "pytest", "-p", "skips", "-p", "no:cacheprovider", "-c", os.devnull, "test_few.py"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=HANGING)
    summary = done.stdout.splitlines()[-1]
    return done.returncode, done.stdout, {way: int(count) for count, way in re.findall(r"(\d+) ([a-z]+)", summary)}


def test_missing_accelerator_or_other_system_is_skipped(tmp_path):
    for strict in (None, "", "1"):
        code, said, ways = outcome(tmp_path, SKIPS, strict)
        assert code == 0, said
        assert (ways["passed"], ways["skipped"], ways["xfailed"]) == (1, 3, 1)


@pytest.mark.parametrize("kind", ACCIDENTS)
def test_accidental_skip_fails_with_skip_nothing(kind, tmp_path):
    source = f"import pytest\n\n{ACCIDENTS[kind]}"
    code, said, ways = outcome(tmp_path, source, None)
    assert code in (0, 5), said  # pytest exits with 5 if no test was collected
    assert ways["skipped"] == 1
    code, said, ways = outcome(tmp_path, source, "1")
    assert code in (1, 2), said
    assert "skipped" not in ways
    assert f"skipped, which {STRICT} forbids for this reason: " in said
    assert kind == "bare" or "no browser" in said


def test_ci_script_sets_skip_nothing():
    script = (Path(__file__).parent.parent / ".ci" / "run").read_text()
    assert f"export {STRICT}=1" in script
