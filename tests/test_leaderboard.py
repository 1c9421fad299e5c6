"""The leaderboard: one command makes it, and the committed page is up to date with its records."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import ONE_MACHINE
from reporting import set_rate

from ganzoo.util.significance import mean_interval

ROOT = Path(__file__).parent.parent


def test_committed_page_is_up_to_date_with_its_records(invoke):
    outcome = invoke("leaderboard", ROOT / "results", "--check")
    assert outcome.code == 0, outcome.err


def test_links_of_the_committed_page_lead_to_pictures():
    page = (ROOT / "results" / "README.md").read_text()
    links = [part.partition(")")[0] for part in page.split("](")[1:] if ".png" in part.partition(")")[0]]
    assert len(links) >= 15
    assert all((ROOT / "results" / link).is_file() for link in links)


@pytest.fixture
def results(tmp_path, invoke) -> Path:
    """A folder of records with the text of the committed page and up-to-date tables."""
    folder = Path(shutil.copytree(ONE_MACHINE, tmp_path / "results"))
    shutil.copy(ROOT / "results" / "README.md", folder)
    assert invoke("leaderboard").code == 0, "results is the default"
    return folder


def test_check_fails_after_a_record_changes_until_the_page_is_regenerated(results, invoke):
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
    assert "results/README.md: is out of date; run `ganzoo leaderboard results`" in outcome.error
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


HOSTILE = "<img src=x>\x1b[31m` | [x](javascript:y)\n\n<!-- end of the leaderboard -->\n# head"
INERT = r"\<img src=x\> \[31m\` \| \[x\](javascript:y) \<!-- end of the leaderboard --\> \# head"


def keep_one_run(results: Path, name: str = "dcgan-digits") -> tuple[Path, dict[str, Any]]:
    """Remove all runs but one; return the path and content of its record."""
    path = next(results.glob(f"*/{name}-*/record.json"))
    for other in results.glob("*/*/record.json"):
        if other != path:
            shutil.rmtree(other.parent)
    return path, json.loads(path.read_text())


def test_markup_in_records_is_escaped_in_the_page(results, invoke):
    path, record = keep_one_run(results)
    record["hardware"]["cpu"] = record["spec"]["variant"] = record["spec"]["dataset"] = HOSTILE
    protocol = record["scores"][0]["protocol"]
    record["protocols"][protocol]["extractor"] = HOSTILE
    record["throughput"]["flags"] = [HOSTILE]
    text = json.dumps(record).replace(json.dumps(protocol), json.dumps(f"fid-{HOSTILE}"))
    path.write_text(text)
    before = (results / "README.md").read_text()
    assert invoke("leaderboard").code == 0
    page = (results / "README.md").read_text()
    assert page.count(INERT) >= 5
    assert "- `fid-imgsrcx31mxjavascripty" in page
    assert "<img" not in page.replace(r"\<img", "")
    assert "\x1b" not in page
    assert page.count("\n# ") == before.count("\n# ")
    assert page.count("\n<!-- end of the leaderboard -->") == 1
    assert invoke("leaderboard", "--check").code == 0, "what is written is what is read"


def test_failed_row_names_its_machine_and_batch_size(results, invoke):
    _, record = keep_one_run(results)
    for machine, size in (("a-x1-t1", 64), ("a-x1-t2", 128)):
        failed = json.loads(json.dumps(record))
        failed["spec"] |= {"hardware": machine, "batch_size": size}
        failed |= {"status": "diverged", "scores": [], "run_id": f"{size:064x}"}
        (results / machine).mkdir()
        (results / machine / "record.json").write_text(json.dumps(failed))
    assert invoke("leaderboard").code == 0
    rows = [line for line in (results / "README.md").read_text().splitlines() if "(diverged)" in line]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert sorted((row[-1], row[1]) for row in cells) == [("a-x1-t1", "64"), ("a-x1-t2", "128")]


def test_the_best_leads_whatever_the_number_of_protocols_and_a_star_is_explained(results, invoke):
    path, record = keep_one_run(results)
    for index, (fid, rate, images) in enumerate(((50.0, 9000.0, 5000), (5.0, 10.0, 5000), (1.0, 99.0, 9999))):
        other = json.loads(json.dumps(record))
        other["spec"]["variant"] = f"v{index}"
        other["run_id"] = f"{index:064x}"
        set_rate(other, rate)
        other["throughput"]["flags"] = [f"other processes used {20 + index}% of the CPU"]
        for score in other["scores"]:
            score["value"] = fid
        text = json.dumps(other).replace("digits-cnn-5000-ema", f"digits-cnn-{images}-ema")
        (results / f"v{index}").mkdir()
        (results / f"v{index}" / "record.json").write_text(text)
    shutil.rmtree(path.parent)
    assert invoke("leaderboard").code == 0
    lines = (results / "README.md").read_text().splitlines()
    assert [line[2:4] for line in lines if line.startswith("| v") and line[3].isdigit()] == ["v1", "v0", "v2"]
    assert r"- \* v0: other processes used 20% of the CPU" in lines


def test_each_protocol_of_a_score_has_an_order_of_its_own(results, invoke):
    path, record = keep_one_run(results)
    for variant, fid, images in (("a", 5.0, 5000), ("b", 50.0, 5000), ("c", 7.0, 9999), ("d", 70.0, 9999)):
        for seed in range(3):
            other = json.loads(json.dumps(record))
            other["spec"] |= {"variant": variant, "seed": seed}
            other["run_id"] = f"{ord(variant):032x}{seed:032x}"
            for score in other["scores"]:
                score["value"] = fid + seed / 10
            text = json.dumps(other).replace("digits-cnn-5000-ema", f"digits-cnn-{images}-ema")
            (results / f"{variant}{seed}").mkdir()
            (results / f"{variant}{seed}" / "record.json").write_text(text)
    shutil.rmtree(path.parent)
    assert invoke("leaderboard").code == 0
    lines = [line.strip("| ") for line in (results / "README.md").read_text().splitlines() if line.startswith("|")]
    heads, _, *rows = [[cell.strip() for cell in line.split(" | ")] for line in lines]
    (first,) = (index for index, head in enumerate(heads) if head.startswith("FD digits-cnn \\[fid-digits-cnn-5000-"))
    assert heads[first + 1].startswith("FD digits-cnn \\[fid-digits-cnn-9999-")
    interval = "{0:.2f} \\[{1:.2f}, {2:.2f}\\]".format
    shown = [interval(mean, *mean_interval([mean - 0.1, mean, mean + 0.1])) for mean in (5.1, 50.1, 7.1, 70.1)]
    assert [(row[first], row[first + 1]) for row in rows[:4]] == [
        (shown[0], "–"),
        (shown[1], "–"),
        ("–", shown[2]),
        ("–", shown[3]),
    ]


def test_page_that_cannot_be_written_is_one_error_line(results, invoke, tmp_path, monkeypatch):
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
