"""The leaderboard: one command makes it, a test holds the committed page to its records."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from conftest import ONE_MACHINE

ROOT = Path(__file__).parent.parent


def test_the_committed_page_is_what_its_records_give(invoke):
    outcome = invoke("leaderboard", ROOT / "results", "--check")
    assert outcome.code == 0, outcome.err


def test_links_of_the_committed_page_lead_to_pictures():
    page = (ROOT / "results" / "README.md").read_text()
    links = [part.partition(")")[0] for part in page.split("](")[1:] if ".png" in part.partition(")")[0]]
    assert len(links) >= 15
    assert all((ROOT / "results" / link).is_file() for link in links)


@pytest.fixture
def results(tmp_path, invoke) -> Path:
    """A folder of records with the committed page's text, and its own tables."""
    folder = Path(shutil.copytree(ONE_MACHINE, tmp_path / "results"))
    shutil.copy(ROOT / "results" / "README.md", folder)
    assert invoke("leaderboard").code == 0, "results is the default"
    return folder


def test_a_page_is_stale_as_soon_as_a_record_changes_and_one_command_mends_it(results, invoke):
    path = next(results.glob("*/dcgan-digits-*/record.json"))
    record = json.loads(path.read_text())
    final = max(score["kimg"] for score in record["scores"])
    for score in record["scores"]:
        if score["kimg"] == final:
            score["value"] = 1.25
    path.write_text(json.dumps(record))
    before = (results / "README.md").read_text()
    outcome = invoke("leaderboard", "results", "--check")
    assert outcome.code == 1
    assert "results/README.md: is not what its records give; run `ganzoo leaderboard results`" in outcome.error
    assert (results / "README.md").read_text() == before
    assert invoke("leaderboard", "results").code == 0
    page = (results / "README.md").read_text()
    assert page.partition("<!-- leaderboard")[0] == before.partition("<!-- leaderboard")[0]
    rows = [line for line in page.splitlines() if line.startswith("| [dcgan](")]
    assert any("| 1.25 |" in row for row in rows)
    assert invoke("leaderboard", "--check").code == 0


def test_every_run_is_linked_to_its_picture(results):
    page = (results / "README.md").read_text()
    links = [part.partition(")")[0] for part in page.split("](")[1:] if ".png" in part.partition(")")[0]]
    assert len(links) == len(list(results.glob("*/*/samples.png")))
    assert all((results / link).is_file() for link in links)


def test_a_folder_without_a_page_gets_one(results, invoke):
    (results / "README.md").unlink()
    assert invoke("leaderboard", "results").code == 0
    page = (results / "README.md").read_text()
    assert page.startswith("# Results\n\n<!-- leaderboard")
    assert "## Machines" in page


def test_text_from_strangers_is_inert_in_the_page(results, invoke):
    path = next(results.glob("*/dcgan-digits-*/record.json"))
    record = json.loads(path.read_text())
    record["hardware"]["cpu"] = "<script>alert(1)</script> | [x](javascript:y)\n# head"
    path.write_text(json.dumps(record))
    for other in results.glob("*/*/record.json"):
        if other != path:
            shutil.rmtree(other.parent)
    assert invoke("leaderboard").code == 0
    page = (results / "README.md").read_text()
    assert r"\<script\>alert(1)\</script\> \| \[x\](javascript:y) \# head" in page


def test_a_page_that_cannot_be_made_is_one_line(results, invoke, tmp_path, monkeypatch):
    page = results / "README.md"
    page.write_text(page.read_text().replace("<!-- end of the leaderboard -->", ""))
    outcome = invoke("leaderboard")
    assert outcome.code == 2
    assert "the line '<!-- end of the leaderboard -->' is gone" in outcome.error
    (tmp_path / "empty").mkdir()
    assert "empty: holds no record" in invoke("leaderboard", "empty").error
    page.unlink()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert "results/README.md: No space left on device" in invoke("leaderboard").error
    assert not page.exists()
