"""Facts that two files of the repository repeat are the same in both."""

from __future__ import annotations

import configparser
import re
import subprocess
from pathlib import Path

import pytest
import yaml

import ganzoo

ROOT = Path(__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def steps_of(workflow: Path) -> list[dict[str, object]]:
    jobs = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"].values()
    return [step for job in jobs for step in job.get("steps", ())]


def test_citation_has_the_present_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == ganzoo.__version__


def test_ci_script_ends_with_the_commands_of_tox_lint():
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini", encoding="utf-8")
    commands = tox["testenv:lint"]["commands"].split("\n")[1:]
    assert commands
    assert (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()[-len(commands) :] == commands


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_pins_each_action_to_a_major_version(workflow):
    used = [str(step["uses"]) for step in steps_of(workflow) if "uses" in step]
    assert used
    assert [action for action in used if not re.fullmatch(r"[\w.-]+/[\w.-]+@(release/)?v\d+", action)] == []


def test_workflow_fetches_the_reference_commit_of_the_bits_test():
    (checkout, *_) = steps_of(ROOT / ".github" / "workflows" / "tests.yml")
    assert checkout["with"] == {"fetch-depth": 0}


def test_a_release_waits_for_the_tests():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text(encoding="utf-8"))["jobs"]
    waited_for = {jobs[name].get("uses") for name in jobs["publish"]["needs"]}
    assert "./.github/workflows/tests.yml" in waited_for


def test_nothing_is_committed_that_git_ignores():
    # A file named `.venv` was once, and no clone could make its environment.
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--ignored", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    assert listed.stdout == b""
