"""Title, direction, bounds and axis of a score: its metric declares them, the record keeps them for use without it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from conftest import ONE_MACHINE

from ganzoo.errors import RecordError
from ganzoo.records.protocols import (
    bounds_of,
    direction_of,
    is_log,
    protocol_id,
    score_facts,
    title_of,
)
from ganzoo.records.score_facts import OLD_METRICS, with_score_facts
from ganzoo.records.store import read_content, read_record
from ganzoo.records.upgrades import upgrade
from ganzoo.registry.discovery import discover
from ganzoo.types import Metric

RESULTS = Path(__file__).parent.parent / "results"
GAP = {"title": "Gap of means", "better": "lower", "bounds": [0, None], "log": True}


# --- a third-party metric, from its record alone ----------------------------------------------------------------------


@pytest.fixture
def runs(strangers_bench, tmp_path) -> Path:
    """Two runs scored by a metric whose plugin is not loaded here."""
    shutil.copytree(strangers_bench.results, tmp_path / "runs")
    return tmp_path / "runs"


def test_record_holds_the_facts_of_third_party_scores(strangers_bench):
    for record in strangers_bench.records:
        assert [protocol["scores"] for protocol in record["protocols"].values()] == [{"mean-gap": GAP}] * 2


def test_title_of_a_third_party_score_heads_the_table_column(runs, invoke):
    (head,) = (line for line in invoke("compare", runs).out.splitlines() if line.split()[:1] == ["variant"])
    assert "Gap of means pooled" in head
    record = next(runs.glob("*/hinge-dcgan-*"))
    assert "Gap of means pooled, EMA" in invoke("show", record).out


def test_rows_are_in_the_order_of_a_third_party_score_by_its_direction(runs, invoke):
    assert invoke("leaderboard", runs).code == 0
    page = (runs / "README.md").read_text(encoding="utf-8")
    (head,) = (line for line in page.splitlines() if line.startswith("| variant"))
    place = [cell.strip() for cell in head.split("|")].index("Gap of means pooled")
    rows = [line.split("|") for line in page.splitlines() if re.match(r"\| \[?(hinge-dcgan|chatty)", line)]
    values = [float(re.split(r"[\[†]", cells[place])[0]) for cells in rows]
    assert len(values) == 2
    assert values == sorted(values)


def test_report_uses_title_and_log_axis_of_a_third_party_score(runs, tmp_path, invoke):
    assert invoke("report", runs, "-o", tmp_path / "report.html").code == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    (data,) = re.findall(r'<script[^>]*id="figure-data"[^>]*>(.*?)</script>', page, re.S)
    figures = {figure["id"]: figure for figure in json.loads(data)}
    assert figures["score-kimg"]["title"] == "Gap of means pooled against kimg"
    assert figures["pareto"]["title"] == "Gap of means pooled against throughput"
    assert figures["pareto"]["explanation"].startswith("Lower and further right")
    for name in ("score-kimg", "score-seconds", "pareto"):
        (panel,) = figures[name]["panels"]
        assert (panel["y"]["title"], panel["y"]["log"]) == ("Gap of means pooled (logarithmic)", True)
    assert re.search(r'<th[^>]*><span class="head">Gap of means pooled</span>', page)


@pytest.mark.parametrize(("value", "outside"), [(0.0, False), (3.5, False), (-0.25, True)])
def test_doctor_names_a_third_party_score_out_of_bounds(value, outside, runs, invoke):
    path = next(runs.glob("*/chatty-*/record.json"))
    record = json.loads(path.read_text())
    record["scores"][0]["value"] = value
    path.write_text(json.dumps(record))
    fault = "score mean-gap at 0.256 kimg is -0.25, outside of 0 to inf"
    assert (fault in invoke("doctor", runs).out) == outside


def test_doctor_checks_the_best_third_party_score_by_its_direction(runs, invoke):
    path = next(runs.glob("*/chatty-*/record.json"))
    record = json.loads(path.read_text())
    early, late = (score for score in record["scores"] if score["ema"])
    early["value"], late["value"] = 1.0, 2.0
    record["training"]["final"]["mean-gap/ema"] |= {"value": 2.0}
    record["training"]["best"]["mean-gap/ema"] = {"value": 2.0, "kimg": late["kimg"]}
    path.write_text(json.dumps(record))
    assert "training.best.mean-gap/ema is not that of its scores" in invoke("doctor", runs).out
    for protocol in record["protocols"].values():
        protocol["scores"]["mean-gap"]["better"] = "higher"
    path.write_text(json.dumps(record))
    assert "mean-gap/ema" not in invoke("doctor", runs).out


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ([], r"protocols\.[\w.-]+\.scores"),
        ({"mean-gap": 7}, r"scores\.mean-gap is 7"),
        ({"mean-gap": GAP | {"title": 7}}, r"scores\.mean-gap\.title is 7"),
        ({"mean-gap": GAP | {"better": "up"}}, r"scores\.mean-gap\.better is 'up'"),
        ({"mean-gap": GAP | {"bounds": [0]}}, r"scores\.mean-gap\.bounds is \[0\]"),
        ({"mean-gap": GAP | {"bounds": ["0", None]}}, r"scores\.mean-gap\.bounds\[0\] is '0'"),
        ({"mean-gap": GAP | {"log": "yes"}}, r"scores\.mean-gap\.log is 'yes'"),
    ],
)
def test_score_facts_of_the_wrong_type_are_refused_by_name(facts, reason, runs, invoke):
    path = next(runs.glob("*/chatty-*/record.json"))
    record = json.loads(path.read_text())
    next(iter(record["protocols"].values()))["scores"] = facts
    path.write_text(json.dumps(record))
    outcome = invoke("compare", runs)
    assert outcome.code == 0
    assert re.search(rf"left out: .*record\.json: .*{reason}", outcome.err)


def test_scores_without_facts_have_their_name_and_no_bounds():
    assert title_of("gap", {}) == title_of("gap", {"scores": {}}) == title_of("gap", {"scores": {"gap": {}}}) == "gap"
    assert (direction_of("gap", {}), is_log("gap", {})) == (None, False)
    assert bounds_of("gap", {}) == (float("-inf"), float("inf"))


# --- declarations of a metric -----------------------------------------------------------------------------------------


def metric(**fields) -> Metric:
    return Metric("odd", lambda real, fake, settings: {}, better={"low": "lower", "high": "higher"}, **fields)


def test_metric_with_directions_only_gets_default_facts():
    assert score_facts(metric()) == {
        "low": {"title": "low", "better": "lower", "bounds": [None, None], "log": False},
        "high": {"title": "high", "better": "higher", "bounds": [None, None], "log": False},
    }


def test_declared_facts_apply_to_the_named_score_only():
    facts = score_facts(metric(title={"low": "LOW"}, bounds={"high": (0, 1)}, log=("low",)))
    assert facts == {
        "low": {"title": "LOW", "better": "lower", "bounds": [None, None], "log": True},
        "high": {"title": "high", "better": "higher", "bounds": [0, 1], "log": False},
    }


@pytest.mark.parametrize(
    ("declared", "reason"),
    [
        ("title={'hihg': 'High'}", "title names ['hihg']; `better` names ['high']"),
        ("log=('low',)", "log names ['low']; `better` names ['high']"),
        ("bounds={'high': (1, 0)}", "bounds of high are (1, 0)"),
        ("bounds={'high': (0, float('inf'))}", "bounds of high are (0, inf)"),
        ("bounds={'high': (0, float('nan'))}", "bounds of high are (0, nan)"),
        ("bounds={'high': 1}", "'odd'.bounds is {'high': 1}"),
        ("title={'high': 1}", "'odd'.title is {'high': 1}"),
        ("log='high'", "'odd'.log is 'high'"),
    ],
)
def test_invalid_declared_facts_are_a_plugin_error(declared, reason, tmp_path, monkeypatch):
    monkeypatch.setenv("GANZOO_PLUGINS", "")
    (tmp_path / "odd.py").write_text(
        "import ganzoo\n\n@ganzoo.hookimpl\ndef ganzoo_metrics():\n"
        f"    yield ganzoo.Metric('odd', lambda real, fake, settings: {{}}, better={{'high': 'higher'}}, {declared})\n"
    )
    (status,) = [one for one in discover([str(tmp_path / "odd.py")]).statuses if one.name == "odd.py"]
    assert status.state == "broken"
    assert reason in status.error


# --- protocols and old records stay comparable ------------------------------------------------------------------------


def test_score_facts_do_not_change_the_protocol_id():
    records = [*RESULTS.glob("*/*/record.json"), *ONE_MACHINE.glob("*/*/record.json")]
    stored = [entry for path in records for entry in read_content(path)["protocols"].items()]
    assert len(stored) > 50
    for identity, content in stored:
        assert "scores" not in content, "written before there were facts"
        assert protocol_id(content) == identity
        assert protocol_id(content | {"scores": {content["metric"]: GAP}}) == identity


def test_records_with_and_without_score_facts_share_a_column(tmp_path, invoke):
    (source,) = ONE_MACHINE.glob("*/mlp-digits-s0-*")
    old, new = tmp_path / "runs" / "old", tmp_path / "runs" / "new"
    shutil.copytree(source, old)
    record = read_content(old / "record.json")
    record["spec"]["seed"] = 1
    record["run_id"] = "1" * 64
    for protocol in record["protocols"].values():
        protocol["scores"] = {protocol["metric"]: {"title": "Another title"}}
    new.mkdir()
    (new / "record.json").write_text(json.dumps(record))
    (row,) = json.loads(invoke("compare", tmp_path / "runs", "--format", "json").out)
    assert (row["n"], row["fid_n"]) == (2, 2)


def test_old_record_gets_the_facts_built_in_at_its_time(invoke):
    (source,) = ONE_MACHINE.glob("*/mlp-digits-s0-*")
    protocols = read_record(source).protocols.values()
    assert {protocol["metric"] for protocol in protocols} == {"fid", "is"}
    for protocol in protocols:
        expected = {
            "fid": {"title": "FID", "better": "lower", "bounds": [0, None], "log": True, "title_by_other": "FD"},
            "is": {"title": "IS", "better": "higher", "bounds": [1, None], "log": False},
        }[protocol["metric"]]
        assert protocol["scores"] == {protocol["metric"]: expected}


def test_the_facts_of_old_records_are_those_that_the_zoo_declares():
    """Except for the bounds of modes and kl, which were not declared before."""
    declared = {offer.record.name: offer for offer in discover().offers["metrics"]}
    for name, (plugin, facts) in OLD_METRICS.items():
        today = score_facts(declared[name].record)
        if name == "modes":
            today = {score: fact | {"bounds": [None, None]} for score, fact in today.items()}
        assert (plugin, facts) == (declared[name].plugin, today)


@pytest.mark.parametrize(
    "protocol",
    [
        {"metric": "fid", "metric_plugin": "my_metrics.py"},
        {"metric": "fid", "metric_plugin": 7},
        {"metric": "fid", "scores": 7},
        {"metric": ["fid"]},
        {"metric": "mean-gap"},
        {},
        [],
        None,
    ],
)
def test_third_party_or_broken_protocol_is_not_upgraded(protocol):
    content = {"protocols": {"p": protocol}}
    assert with_score_facts(content) == content


@pytest.mark.parametrize("content", [{}, {"protocols": None}, {"protocols": []}, {"protocols": 7}])
def test_a_record_without_protocols_stays_as_it_is(content):
    assert with_score_facts(content) == content


@pytest.mark.parametrize("scores", [{}, {"fid": {}}, {"fid": {"title": "FID", "better": "lower", "log": True}}])
def test_facts_that_a_record_has_lost_are_those_of_the_zoo(scores):
    protocol = {"metric": "fid", "metric_plugin": "fid", "scores": scores}
    found = with_score_facts({"protocols": {"p": protocol}})["protocols"]["p"]["scores"]["fid"]
    assert found == OLD_METRICS["fid"][1]["fid"]


@pytest.mark.parametrize(("fact", "value"), [("bounds", [-10, None]), ("bounds", [None, None]), ("better", "higher")])
def test_a_record_that_says_something_else_of_a_score_of_the_zoo_is_refused(fact, value, tmp_path):
    path = tmp_path / "record.json"
    content = read_content(next(ONE_MACHINE.glob("*/dcgan-digits-*/record.json")))
    content = json.loads(json.dumps(with_score_facts(upgrade(content))))
    for protocol in content["protocols"].values():
        if protocol["metric"] == "fid":
            protocol["scores"]["fid"][fact] = value
    path.write_text(json.dumps(content))
    with pytest.raises(RecordError, match=rf"scores\.fid\.{fact} is .*; of fid it is"):
        read_record(path)
