"""What a table holds scores against: real images, a Gaussian of the pixels, generators that were not trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ganzoo.comparing.yardsticks import Measured, not_trained, shown_yardsticks
from ganzoo.records.points import ScoreKey
from ganzoo.runs import SCHEMA, RunRecord

BENCH = (
    *("bench", "--models", "mlp", "--kimg", 0.512, "--throughput-seconds", 0.01, "--fakes", 400, "--threads", 1),
    *("--device", "cpu", "--metrics", "fid,is"),
)
KEY = ScoreKey("fid", "p")


def run(final: float, sticks: dict[tuple[str, int], float], half_width: float | None = None) -> RunRecord:
    score = {"metric": "fid", "protocol": "p", "kimg": 1.0, "ema": True, "value": final}
    if half_width is not None:
        score |= {"sample_low": final - half_width, "sample_high": final + half_width}
    listed = [
        {"of": of, "metric": "fid", "value": value, "images": images, "protocol": "p"}
        for (of, images), value in sticks.items()
    ]
    return RunRecord(schema=SCHEMA, run_id="0" * 64, status="ok", spec={}, scores=[score], yardsticks=listed)


def sticks(trained: float, gaussian: float = 34.0, untrained: float = 86.0) -> dict[tuple[str, int], float]:
    """As a run on digits leaves them, by 5000 and by 359 images."""
    many = {("pixel gaussian", 5000): gaussian - 1, ("untrained", 5000): untrained - 1}
    few = {("real", 359): 3.2, ("pixel gaussian", 359): gaussian, ("untrained", 359): untrained}
    return many | few | {("trained", 359): trained}


def test_a_run_measures_them_and_a_table_has_them_on_top(invoke, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = invoke(*BENCH)
    assert outcome.code == 0, outcome.err
    (path,) = Path("runs").rglob("record.json")
    record = json.loads(path.read_text())
    kinds = [(stick["of"], stick["metric"], stick["images"]) for stick in record["yardsticks"]]
    many = [(of, metric, 400) for of in ("pixel gaussian", "untrained") for metric in ("fid", "is")]
    few = [(of, metric, 359) for of in ("real", "pixel gaussian", "untrained", "trained") for metric in ("fid", "is")]
    assert kinds == many + few
    final = {score["metric"]: score for score in record["scores"] if score["ema"] and score["kimg"] == 0.512}
    assert {stick["protocol"] for stick in record["yardsticks"]} == {score["protocol"] for score in final.values()}
    fid = {(stick["of"], stick["images"]): stick["value"] for stick in record["yardsticks"] if stick["metric"] == "fid"}
    # Three facts of the digits that other code has computed: 3.23, 34.2, and mlp's untrained 86.6.
    assert fid["real", 359] == pytest.approx(3.2344, abs=0.001)
    assert fid["pixel gaussian", 359] == pytest.approx(34.2, abs=0.8)
    assert fid["untrained", 359] == pytest.approx(86.6, abs=1.5)
    lines = outcome.out.splitlines()
    names = ("real (359)", "pixel Gaussian (400)", "untrained (400)", "mlp")
    places = [next(index for index, line in enumerate(lines) if line.strip().startswith(name)) for name in names]
    assert places == sorted(places)
    assert "† not trained, FD digits-cnn" in " ".join(outcome.out.split())
    assert invoke("doctor", "runs").code == 0
    compared = json.loads(invoke("compare", "runs", "--format", "json").out)
    assert [row["variant"] for row in compared] == ["mlp"], "they are no rows for programs"
    assert compared[0]["fid_real"] == pytest.approx(fid["real", 359])
    assert compared[0]["fid_standing"] == "not trained"


def test_no_bounds_leaves_them_out(invoke, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = invoke(*BENCH, "--no-bounds")
    assert outcome.code == 0, outcome.err
    (path,) = Path("runs").rglob("record.json")
    assert json.loads(path.read_text())["yardsticks"] == []
    assert "pixel Gaussian" not in outcome.out
    assert "not trained" not in outcome.out


def test_without_real_images_to_score_the_number_is_that_of_the_fakes(invoke, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = invoke(*BENCH, "--reference", "both")
    assert outcome.code == 0, outcome.err
    (path,) = Path("runs").rglob("record.json")
    sticks = json.loads(path.read_text())["yardsticks"]
    assert [(stick["of"], stick["images"]) for stick in sticks if stick["metric"] == "fid"] == [
        ("pixel gaussian", 400),
        ("untrained", 400),
    ]
    assert "not trained" in outcome.out


# --- which rows are not trained ---------------------------------------------------------------------------------------


def test_a_row_must_beat_both_by_more_than_its_interval():
    assert not_trained([run(20.0, sticks(21.0))], KEY, "lower") is None
    found = not_trained([run(39.0, sticks(40.0))], KEY, "lower")
    assert found is not None
    assert (found.value, found.than, found.than_value, found.images) == (40.0, "pixel gaussian", 34.0, 359)
    found = not_trained([run(39.0, sticks(40.0, gaussian=90.0, untrained=38.0))], KEY, "lower")
    assert found is not None
    assert found.than == "untrained"


def test_the_number_of_images_is_the_same_for_all():
    """33 by 5000 images beats the Gaussian's 33.5, and by 359, as many as there are real ones, it fails."""
    assert not_trained([run(33.0, sticks(34.5))], KEY, "lower") is not None
    assert not_trained([run(40.0, sticks(33.0))], KEY, "lower") is None


def test_the_interval_is_over_seeds_or_by_the_sample():
    """29, 31 and 33 have the mean 31 ± t(2, 0.975) · 2 / √3, which is 4.97."""
    seeds = [run(value, sticks(value, gaussian=35.9)) for value in (29.0, 31.0, 33.0)]
    assert not_trained(seeds, KEY, "lower") is not None
    seeds = [run(value, sticks(value, gaussian=36.0)) for value in (29.0, 31.0, 33.0)]
    assert not_trained(seeds, KEY, "lower") is None
    assert not_trained([run(31.0, sticks(31.0), half_width=3.5)], KEY, "lower") is not None
    assert not_trained([run(31.0, sticks(31.0), half_width=2.5)], KEY, "lower") is None


def test_a_score_that_is_better_when_higher_must_be_higher():
    values = {("pixel gaussian", 359): 4.2, ("untrained", 359): 1.7}
    assert not_trained([run(5.0, values | {("trained", 359): 4.1})], KEY, "higher") is not None
    assert not_trained([run(5.0, values | {("trained", 359): 4.3})], KEY, "higher") is None


def test_records_without_them_say_nothing():
    assert not_trained([run(500.0, {})], KEY, "lower") is None
    assert not_trained([], KEY, "lower") is None
    assert shown_yardsticks([run(500.0, {})], KEY) == {}


def test_a_table_shows_each_by_its_largest_number_and_the_untrained_of_all_rows():
    rows = [run(20.0, sticks(21.0)), run(20.0, sticks(21.0, untrained=174.0))]
    assert shown_yardsticks(rows, KEY) == {
        "real": Measured((3.2,), 359),
        "pixel gaussian": Measured((33.0,), 5000),
        "untrained": Measured((85.0, 173.0), 5000),
    }
