"""The report as a file: the page shows what the records hold, and no other markup or script gets onto it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import shutil
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy
import pytest
import torch
from conftest import ONE_MACHINE
from PIL import Image
from reporting import FID, MODEL, put_record
from skips import needs_system

from ganzoo.comparing.comparison import compare
from ganzoo.data.prepared import prepare
from ganzoo.errors import RecordError
from ganzoo.output.report import pictures as report_pictures
from ganzoo.output.report.charts import page_rows, pareto_front
from ganzoo.output.report.report import render_report
from ganzoo.records.protocols import distinctions
from ganzoo.records.store import find_records, read_record
from ganzoo.types import DatasetRequest
from ganzoo.util.images import grid, save_png

HOSTILE = "<script>window.hacked=1</script><img src=x onerror=window.hacked=1>"
VOID = {"meta", "link", "img", "input", "br"}


class Page(HTMLParser):
    """The elements of a page as (tag, attributes, text), in order; fails if tags are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str], list[str]]] = []
        self.open: list[int] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, {name: value or "" for name, value in attrs}, []))
        if tag not in VOID:
            self.open.append(len(self.elements) - 1)

    def handle_endtag(self, tag):
        assert self.elements[self.open.pop()][0] == tag

    def handle_data(self, data):
        for index in self.open:
            self.elements[index][2].append(data)

    def all(self, tag, **wanted):
        return [
            (attributes, "".join(text))
            for name, attributes, text in self.elements
            if name == tag and all(attributes.get(key.rstrip("_")) == value for key, value in wanted.items())
        ]

    def figures(self):
        ((_, text),) = self.all("script", id="figure-data")
        return {figure["id"]: figure for figure in json.loads(text)}

    def rows(self):
        """The cells of each row of the results, as (attributes, text)."""
        width = len(self.all("th", scope="col"))
        cells = [
            (attributes, "".join(text))
            for tag, attributes, text in self.elements
            if tag in ("td", "th") and "class" in attributes and attributes.get("scope") != "col"
        ]
        return [cells[start : start + width] for start in range(0, len(cells), width)]


def page_of(*folders: Path, **options) -> Page:
    records, complaints = find_records(folders)
    return Page(render_report(records, complaints, [str(folder) for folder in folders], **options))


@pytest.fixture(scope="module")
def committed(session_environment) -> Page:
    return page_of(ONE_MACHINE, neighbours=True)


# --- the page ---------------------------------------------------------------------------------------------------------


def test_page_is_well_formed_and_its_references_resolve(committed):
    assert len(committed.all("h1")) == len(committed.all("main")) == len(committed.all("title")) == 1
    assert committed.all("html", lang="en")
    identities = [attributes["id"] for _, attributes, _ in committed.elements if "id" in attributes]
    assert len(identities) == len(set(identities))
    for name in ("aria-labelledby", "aria-describedby", "aria-controls", "for"):
        pointed = {attributes[name] for _, attributes, _ in committed.elements if name in attributes}
        assert pointed <= set(identities), name
    assert {attributes["href"][1:] for attributes, _ in committed.all("a")} <= set(identities)
    assert all(attributes.get("scope") for attributes, _ in committed.all("th"))
    assert all(attributes.get("alt") for attributes, _ in committed.all("img"))
    assert len(committed.all("caption")) == len(committed.all("table"))
    # A heading is never more than one level below the last.
    levels = [int(tag[1]) for tag, _, _ in committed.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_page_fetches_nothing_and_allows_only_its_two_scripts(committed):
    for _, attributes, _ in committed.elements:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            assert attributes.get(name, "#")[:1] == "#" or attributes[name].startswith("data:"), attributes
        assert not [name for name in attributes if name.startswith("on")]
    ((policy, _),) = committed.all("meta", **{"http-equiv": "Content-Security-Policy"})
    (sources,) = re.findall(r"script-src ([^;]+)", policy["content"])
    assert "default-src 'none'" in policy["content"]
    ((_, packed),) = committed.all("script", id="plotly")
    plotly = gzip.decompress(base64.b64decode(packed))
    ((_, own),) = [element for element in committed.all("script") if "type" not in element[0]]
    digests = [base64.b64encode(hashlib.sha256(script).digest()).decode() for script in (own.encode(), plotly)]
    assert sources.split() == [f"'sha256-{digest}'" for digest in digests]
    assert b"plotly.js v" in plotly[:200]


def test_the_table_has_a_row_for_each_record_and_its_final_fid(committed):
    records, _ = find_records([ONE_MACHINE])
    rows = committed.all("tr")[1:19]
    assert len(rows) == len(records) == 18
    for record in records:
        value = record.training["final"]["fid/ema"]["value"]
        found = [text for _, text in rows if text.split()[0] == record.spec["variant"] and f"{value:.2f}" in text]
        assert len(found) == 1, record.spec["variant"]
    heads = [" ".join(text.split()) for _, text in committed.all("th", scope="col")]
    assert heads[:6] == [
        *("variant", "dataset", "FD digits-cnn digits", "FD mnist-cnn mnist"),
        *("IS digits-cnn digits", "IS mnist-cnn mnist"),
    ]


def test_page_lists_every_protocol_and_machine(committed):
    text = "".join(text for _, text in committed.all("dl"))
    records, _ = find_records([ONE_MACHINE])
    final = {score["protocol"] for record in records for score in record.scores if score["ema"]}
    assert final <= set(re.findall(r"[\w-]+-ema-[0-9a-f]{8}", text))
    assert "digits-cnn features, 1797 real (all) against 5000 fakes, EMA generator" in text
    ((_, facts),) = committed.all("table", class_="facts")
    for name in ("cpu", "cpu_capability", "driver"):
        values = {record.hardware[name] or "–" for record in records}
        assert f"{name.replace('_', ' ')}{'; '.join(values)}" in facts
    assert f"packages: numpy{records[0].environment['packages']['numpy']}" in facts


# --- the figures ------------------------------------------------------------------------------------------------------


def test_curves_are_those_of_the_records(committed):
    records = {record.run_id: record for record in find_records([ONE_MACHINE])[0]}
    panel = next(panel for panel in committed.figures()["score-kimg"]["panels"] if FID in panel["note"])
    series = {each["name"]: each for each in panel["series"]}
    digits = [record for record in records.values() if record.spec["dataset"] == "digits"]
    assert set(series) == {record.spec["variant"] for record in digits}
    for record in digits:
        points = [(s["kimg"], s["value"]) for s in record.scores if s["protocol"] == FID]
        drawn = series[record.spec["variant"]]
        assert list(zip(drawn["x"], drawn["y"], strict=True)) == points
        assert drawn["low"] == drawn["high"] == [None] * len(points), "one seed has no band"
    losses = {panel["label"]: panel for panel in committed.figures()["losses"]["panels"]}
    assert len(losses) == len(records)
    for record in digits:
        curves = record.training["curves"]
        for each in losses[f"{record.spec['variant']} on digits"]["series"]:
            assert each["x"] == pytest.approx(curves["kimg"], rel=1e-5)
            assert each["y"] == pytest.approx(curves[each["name"]], rel=1e-5)


def test_loss_curves_of_several_seeds_share_a_legend_group_per_term(tmp_path):
    for seed in range(2):
        put_record(tmp_path, f"s{seed}", seed=seed)
    (panel,) = page_of(tmp_path).figures()["losses"]["panels"]
    groups = {each["group"] for each in panel["series"]}
    assert len(panel["series"]) == 2 * len(groups)
    for group in groups:
        own = [each for each in panel["series"] if each["group"] == group]
        assert [each["name"] for each in own] == [f"{group}, seed 0", f"{group}, seed 1"]
        assert [each["in_legend"] for each in own] == [True, False]


def test_scores_of_two_protocols_never_share_axes(committed):
    for identity in ("score-kimg", "score-seconds", "pareto"):
        for panel in committed.figures()[identity]["panels"]:
            (protocol,) = re.findall(r"\(([\w-]+-[0-9a-f]{8})\)", panel["note"])
            assert panel["label"].split(", ")[1] == ("mnist" if "mnist" in protocol else "digits")


def test_a_band_is_one_standard_deviation_over_seeds(tmp_path):
    fids = [[40.0, 20.0, 10.0, 5.0], [44.0, 26.0, 13.0, None], [42.0, 20.0, 7.0, 8.0]]
    for seed, fid in enumerate(fids):
        put_record(tmp_path, f"s{seed}", seed=seed, fid=fid)
    (panel,) = [panel for panel in page_of(tmp_path).figures()["score-kimg"]["panels"] if f"({FID})" in panel["note"]]
    (series,) = panel["series"]
    values = numpy.array([[numpy.nan if value is None else value for value in fid] for fid in fids])
    mean, deviation = numpy.nanmean(values, 0), numpy.nanstd(values, 0, ddof=1)
    assert series["y"] == pytest.approx(mean)
    assert series["low"] == pytest.approx(mean - deviation)
    assert series["high"] == pytest.approx(mean + deviation)


def test_an_axis_is_logarithmic_only_where_the_whole_band_is_above_zero(tmp_path):
    for seed, fid in enumerate([[40.0, 20.0, 10.0, 5.0], [44.0, 26.0, 13.0, 60.0]]):
        put_record(tmp_path, f"s{seed}", seed=seed, fid=fid)
        panels = page_of(tmp_path).figures()["score-kimg"]["panels"]
        (panel,) = [panel for panel in panels if f"({FID})" in panel["note"]]
        assert panel["y"]["log"] == (seed == 0), panel["series"]


def test_score_over_seconds_falls_back_to_the_total_time(tmp_path):
    first = put_record(tmp_path, "timed", variant="timed", seconds=[1.0, 2.5, 4.0, 6.0])
    put_record(tmp_path, "untimed", variant="untimed")
    panel = next(p for p in page_of(tmp_path).figures()["score-seconds"]["panels"] if f"({FID})" in p["note"])
    series = {each["name"]: each["x"] for each in panel["series"]}
    assert series == {"timed": [1.0, 2.5, 4.0, 6.0], "untimed": [first["training"]["train_seconds"]]}


def test_pareto_front_holds_the_undominated_points():
    rng = numpy.random.default_rng(0)
    points = [tuple(point) for point in rng.integers(0, 12, (60, 2)).tolist()]
    front = [points[index] for index in pareto_front(points)]
    beaten = {(x, y) for x, y in points if any(a >= x and b <= y and (a, b) != (x, y) for a, b in points)}
    assert front == sorted(set(points) - beaten)
    assert pareto_front([]) == []


def test_pareto_front_is_drawn_for_each_hardware(tmp_path):
    for name, machine, rate, last in (
        ("slow-good", "a", 100.0, 5.0),
        ("fast-bad", "a", 900.0, 50.0),
        ("beaten", "a", 90.0, 60.0),
        ("lone", "b", 10.0, 70.0),
    ):
        fid = [90.0, 80.0, 70.0, last]
        put_record(tmp_path, name, variant=name, hardware=machine, fid=fid, rate=(rate, rate, rate))
    panel = next(p for p in page_of(tmp_path).figures()["pareto"]["panels"] if f"({FID})" in p["note"])
    series = {each["name"]: each for each in panel["series"]}
    assert dict(zip(series["a"]["names"], zip(series["a"]["x"], series["a"]["y"], strict=True), strict=True)) == {
        "slow-good": (100.0, 5.0),
        "fast-bad": (900.0, 50.0),
        "beaten": (90.0, 60.0),
    }
    assert series["a, front"]["names"] == ["slow-good", "fast-bad"]
    assert series["b, front"]["names"] == ["lone"]


def test_throughput_is_drawn_over_the_batches_that_were_measured(tmp_path):
    for size, rate in ((32, (10.0, 9.0, 12.0)), (64, (20.0, 18.0, 21.0)), (128, (30.0, 30.0, 31.0))):
        put_record(tmp_path, f"b{size}", batch_size=size, rate=rate)
    put_record(tmp_path, "seed", batch_size=128, seed=1, rate=(40.0, 33.0, 44.0))
    put_record(tmp_path, "full", batch_size=256, status="oom", message="full")
    (panel,) = page_of(tmp_path).figures()["rate-batch"]["panels"]
    (series,) = panel["series"]
    assert (series["x"], series["y"]) == ([32, 64, 128], [10.0, 20.0, 35.0])
    assert (series["low"], series["high"]) == ([9.0, 18.0, 30.0], [12.0, 21.0, 44.0])
    assert "dcgan, batch 256 ended as oom" in panel["note"]


def test_throughput_of_another_recipe_is_another_line(tmp_path):
    put_record(tmp_path, "plain", batch_size=64, rate=(30.0, 29.0, 31.0))
    put_record(tmp_path, "again", batch_size=128, kimg=20.0, rate=(50.0, 49.0, 51.0))
    put_record(tmp_path, "penalized", batch_size=64, rate=(10.0, 9.0, 11.0), label_smoothing=0.1)
    (panel,) = page_of(tmp_path).figures()["rate-batch"]["panels"]
    series = {each["name"]: (each["x"], each["y"]) for each in panel["series"]}
    assert len(series) == 2
    assert series.pop("dcgan, label_smoothing=0.1") == ([64], [10.0])
    assert list(series.values()) == [([64, 128], [30.0, 50.0])], "the budget does not change a step"


def test_throughput_lines_of_two_machines_are_labelled_by_machine(tmp_path):
    for threads in (1, 2):
        own = {"hardware": f"x2-t{threads}", "threads": threads}
        put_record(tmp_path, f"t{threads}", batch_size=64, rate=(30.0, 29.0, 31.0), **own)
    (panel,) = page_of(tmp_path).figures()["rate-batch"]["panels"]
    assert [each["name"] for each in panel["series"]] == ["dcgan, x2-t1", "dcgan, x2-t2"]


def test_throughput_of_a_batch_sweep_and_a_full_run_is_one_line(tmp_path):
    record = put_record(tmp_path, "full", batch_size=64, rate=(30.0, 29.0, 31.0))
    assert {"fid", "dcgan"} <= set(record["environment"]["plugins"])
    metrics = ("fid", "inception-score", "digit-cnns")
    own = {name: facts for name, facts in record["environment"]["plugins"].items() if name not in metrics}
    alone = {"kimg": 0.0, "metrics": [], "features": [], "fakes": 0, "evaluate_at_kimg": [0.0]}
    other = {**own, "dcgan": {**own["dcgan"], "source_sha256": "0" * 64}}
    for name, size, rate, plugins in (("sweep", 128, 50.0, own), ("changed", 256, 70.0, other)):
        put_record(tmp_path, name, batch_size=size, rate=(rate, rate, rate), **alone)
        path = tmp_path / name / "record.json"
        content = json.loads(path.read_text())
        content["environment"]["plugins"] = plugins
        path.write_text(json.dumps(content))
    (panel,) = page_of(tmp_path).figures()["rate-batch"]["panels"]
    series = {each["name"]: (each["x"], each["y"]) for each in panel["series"]}
    assert series.pop("dcgan, plugin dcgan 0000000000") == ([256], [70.0]), "other code is another step"
    assert list(series.values()) == [([64, 128], [30.0, 50.0])]


def test_throughput_point_over_several_rows_has_the_parts_of_each(tmp_path):
    put_record(tmp_path, "short", kimg=20.0, rate=(10.0, 9.0, 11.0))
    put_record(tmp_path, "long", kimg=40.0, rate=(30.0, 28.0, 33.0))
    page = page_of(tmp_path)
    (panel,) = page.figures()["rate-batch"]["panels"]
    (series,) = panel["series"]
    assert series["y"] == [20.0]
    (parts,) = series["parts"]
    assert [(part["y"], part["low"], part["high"]) for part in parts] == [(10.0, 9.0, 11.0), (30.0, 28.0, 33.0)]
    assert [part["row"] for part in parts] == [row["id"] for row, _ in page.all("tr") if "id" in row]


def test_pareto_front_holds_rows_of_one_budget(tmp_path):
    for kimg, last in ((40.0, 30.0), (200.0, 10.0)):
        put_record(tmp_path, f"k{kimg}", kimg=kimg, fid=[90.0, 80.0, 70.0, last], rate=(100.0, 99.0, 101.0))
    panels = [panel for panel in page_of(tmp_path).figures()["pareto"]["panels"] if f"({FID})" in panel["note"]]
    assert [panel["label"].rsplit(", ", 1)[1] for panel in panels] == ["40 kimg", "200 kimg"]
    assert [panel["series"][0]["y"] for panel in panels] == [[30.0], [10.0]]


def test_page_shows_the_best_first_and_p_values(tmp_path):
    for seed in range(3):
        put_record(tmp_path, f"good-{seed}", variant="good", seed=seed, fid=[9.0, 8.0, 7.0, 5.0 + 0.1 * seed])
        put_record(tmp_path, f"bad-{seed}", variant="bad", seed=seed, fid=[99.0, 98.0, 97.0, 50.0 + 0.1 * seed])
    page = page_of(tmp_path)
    assert [text.split()[:2] for _, text in page.all("tr")[1:3]] == [["good", "5.10"], ["bad", "50.10"]]
    ((_, notes),) = page.all("ul", class_="notes")
    assert "the best mean first, with its 95 % interval over seeds" in notes
    assert "is not told apart from" not in notes
    assert "good" in notes
    assert "Welch p = " in notes


def test_score_columns_are_per_protocol(tmp_path):
    """Variants with and without a moving average on one dataset: their scores have two protocols."""
    for variant, last in (("good", 5.0), ("bad", 50.0), ("raw-good", 7.0), ("raw-bad", 70.0)):
        raw = variant.startswith("raw")
        for seed in range(3):
            half_life = 0.0 if raw else 10.0
            record = put_record(tmp_path, f"{variant}-{seed}", variant=variant, seed=seed, ema_half_life_kimg=half_life)
            record["scores"] = [score for score in record["scores"] if score["ema"] != raw]
            for score in record["scores"]:
                score["value"] = last + seed / 10
            (tmp_path / f"{variant}-{seed}" / "record.json").write_text(json.dumps(record))
    page = page_of(tmp_path)
    heads = [" ".join(text.split()) for _, text in page.all("th", scope="col")]
    assert heads[:3] == ["variant", "FD digits-cnn digits, EMA", "FD digits-cnn digits, raw"]
    rows = [text.split() for _, text in page.all("tr")[1:5]]
    assert [row[:2] for row in rows[:2]] == [["good", "5.10"], ["bad", "50.10"]]
    assert [row[:3] for row in rows[2:]] == [["raw-good", "–", "7.10"], ["raw-bad", "–", "70.10"]]
    labels = [panel["label"] for panel in page.figures()["score-kimg"]["panels"]]
    assert labels[:2] == ["FD digits-cnn, digits, EMA", "FD digits-cnn, digits, raw"]
    assert len(set(labels)) == len(labels) == 4


def test_protocol_labels_show_what_differs_or_else_the_id():
    base = {"metric": "fid", "dataset": "digits", "extractor": "digits-cnn", "n_real": 9, "n_fake": 9, "ema": True}
    protocols = {
        "fid-a-11111111": base,
        "fid-b-22222222": base | {"n_fake": 5, "ema": False},
        "fid-c-33333333": base | {"n_fake": 5, "ema": False, "weights_sha256": "0" * 64},
        "fid-d-44444444": base | {"dataset": "mnist"},
    }
    assert list(distinctions(protocols).values()) == [
        *("9 fakes, EMA", "5 fakes, raw, 22222222", "5 fakes, raw, 33333333", "")
    ]
    del protocols["fid-b-22222222"]
    del protocols["fid-c-33333333"]
    protocols |= {"fid-e-55555555": base | {"weights_sha256": "0" * 64}}
    assert distinctions(protocols)["fid-a-11111111"] == "11111111"


def test_sample_grids_are_shared_among_the_datasets(tmp_path):
    for dataset in ("first", "second", "third"):
        for variant in range(15):
            for machine in ("a", "b"):
                name = f"{dataset}-{variant}-{machine}"
                spec = {"dataset": dataset, "dataset_sha256": f"{dataset:x>64}", "hardware": machine}
                put_record(tmp_path, name, variant=f"v{variant:02}", pictures=False, **spec)
    page = page_of(tmp_path)
    labels = [text for attributes, text in page.all("figure") if "tile" in attributes.get("class", "")]
    assert len(labels) == 48
    headings = [text for _, text in page.all("h3") if text in ("first", "second", "third")]
    assert headings == ["first", "second", "third"]
    assert len({text.split(",")[0].split()[0] for text in labels}) == 15


def test_differs_is_missing_for_rows_without_difference(tmp_path):
    put_record(tmp_path, "plain", fid=[4.0, 3.0, 2.0, 1.0])
    put_record(tmp_path, "smooth", label_smoothing=0.1)
    put_record(tmp_path, "mlp", variant="mlp")
    page = page_of(tmp_path)
    place = [" ".join(text.split()) for _, text in page.all("th", scope="col")].index("differs")
    assert [(row[place][0].get("data-key"), row[place][1]) for row in page.rows() if row[0][1] == "mlp"] == [(None, "")]
    assert sorted(row[place][1] for row in page.rows() if row[0][1] == "dcgan") == [
        "label_smoothing=0",
        "label_smoothing=0.1",
    ]


def test_page_rows_keep_their_finished_and_failed_runs(tmp_path):
    """A failed attempt comes first in the folder and last in the comparison: rows and runs must stay aligned."""
    put_record(tmp_path, "0-failed", variant="first", status="crashed", message="m")
    put_record(tmp_path, "1-other", variant="second", fid=[4.0, 3.0, 2.0, 1.0])
    put_record(tmp_path, "2-again", variant="first", fid=[8.0, 7.0, 6.0, 5.0])
    put_record(tmp_path, "3-third", variant="third", status="crashed", message="m")
    records, _ = find_records([tmp_path])
    comparison = compare(records)
    rows = page_rows(comparison)
    assert [row.label for row in rows] == ["second", "first", "third"]
    for row in rows:
        assert {run.spec["variant"] for run in (*row.finished, *row.failed)} == {row.label}
    assert [(len(row.finished), len(row.failed)) for row in rows] == [(1, 0), (1, 0), (0, 1)]
    (fid, _) = comparison.scores
    assert [row.row.scores[fid].mean for row in rows[:2]] == [1.0, 5.0]


# --- zero, one, hostile -----------------------------------------------------------------------------------------------


def test_page_without_records_says_so(invoke, tmp_path):
    (tmp_path / "empty").mkdir()
    outcome = invoke("report", "empty")
    assert (outcome.code, outcome.out) == (0, "")
    assert outcome.err == "ganzoo: wrote report.html, 0.0 MB: no record, and a page that says so\n"
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "empty holds no record that can be read" in "".join(text for _, text in page.all("main"))
    assert not page.all("table")


def test_page_of_one_record(tmp_path):
    page = page_of(MODEL)
    assert "1 record · 1 variant · 1 dataset · 1 machine" in page.all("header")[0][1]
    assert all(len(figure["panels"]) >= 1 for figure in page.figures().values())


def test_a_run_that_only_failed_gives_a_page_without_figures(tmp_path):
    put_record(tmp_path, "a", status="diverged", message="generator/fool became NaN", pictures=False)
    page = page_of(tmp_path)
    assert not any(figure["panels"] for figure in page.figures().values())
    assert "generator/fool became NaN" in "".join(text for _, text in page.all("summary"))
    assert "No finished run was scored." in page.all("section")[1][1]


def test_score_without_its_protocol_has_a_column_but_no_curve(tmp_path):
    record = put_record(tmp_path, "a")
    path = tmp_path / "a" / "record.json"
    path.write_text(json.dumps(record | {"protocols": {}}))
    page = page_of(tmp_path)
    assert f"fid {FID}" in [" ".join(text.split()) for _, text in page.all("th", scope="col")]
    assert page.figures()["score-kimg"]["panels"] == []


def test_markup_in_names_and_messages_is_escaped(tmp_path):
    put_record(tmp_path, "a", variant=HOSTILE, architecture=HOSTILE)
    put_record(tmp_path, "b", variant="c\u202eb\x1b[31m", dataset="</script>&amp;", fid=[1.0, 1.0, 1.0, 1.0])
    put_record(tmp_path, "c", status="crashed", message=f"{HOSTILE}</pre></script>\u2028")
    (tmp_path / HOSTILE.replace("/", ":")).mkdir()
    (tmp_path / HOSTILE.replace("/", ":") / "record.json").write_text("{")
    page = page_of(tmp_path)
    assert len(page.all("script")) == 3
    assert not [attributes for attributes, _ in page.all("img") if not attributes["src"].startswith("data:image/png;")]
    everything = "".join("".join(text) for tag, _, text in page.elements if tag == "html")
    assert HOSTILE in everything
    assert "\u202e" not in everything
    assert "\x1b" not in everything
    assert HOSTILE in json.dumps([panel["label"] for panel in page.figures()["losses"]["panels"]])
    source = render_report(*find_records([tmp_path]), ["x"])
    (embedded,) = re.findall(r'id="figure-data">(.*?)</script>', source, re.S)
    assert not set("<>&\u2028\u2029") & set(embedded)


# --- files ------------------------------------------------------------------------------------------------------------


def test_hardware_facts_that_ganzoo_does_not_know_are_shown_whatever_their_type(tmp_path):
    record = put_record(tmp_path, "odd")
    record["hardware"]["cooling"] = ["much", None]
    (tmp_path / "odd" / "record.json").write_text(json.dumps(record))
    ((_, facts),) = page_of(tmp_path).all("table", class_="facts")
    assert '["much", null]' in facts


def test_record_with_a_hardware_fact_of_another_type_is_named_and_left_out(tmp_path):
    put_record(tmp_path, "good")
    record = put_record(tmp_path, "odd")
    record["hardware"]["memory_bytes"] = ["much", None]
    (tmp_path / "odd" / "record.json").write_text(json.dumps(record))
    records, complaints = find_records([tmp_path])
    assert [record.path.parent.name for record in records] == ["good"]
    (complaint,) = complaints
    assert "hardware.memory_bytes" in complaint


@pytest.mark.parametrize("shape", [None, 5, [None, 28], ["a"], {}])
def test_record_with_an_invalid_protocol_shape_is_named_and_left_out(shape, tmp_path):
    put_record(tmp_path, "good")
    record = put_record(tmp_path, "odd")
    record["protocols"][FID]["image_shape"] = shape
    (tmp_path / "odd" / "record.json").write_text(json.dumps(record))
    ((_, warning),) = page_of(tmp_path).all("section", class_="warning")
    assert f"odd/record.json: protocols.{FID}.image_shape" in warning


def test_unreadable_record_is_named_and_the_others_are_used(invoke, tmp_path):
    put_record(tmp_path / "runs", "good")
    put_record(tmp_path / "runs", "newer")
    newer = tmp_path / "runs" / "newer" / "record.json"
    newer.write_text(newer.read_text().replace('"schema": 1', '"schema": 99'))
    outcome = invoke("report")
    assert outcome.code == 0
    complaint, wrote = outcome.err.splitlines()
    assert complaint.startswith("ganzoo: left out: runs/newer/record.json: has schema 99, newer than")
    assert wrote.startswith("ganzoo: wrote report.html, ")
    assert wrote.endswith(" MB: 1 record")
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "runs/newer/record.json: has schema 99" in page.all("section", class_="warning")[0][1]


def test_report_is_not_overwritten_without_force(invoke, tmp_path):
    put_record(tmp_path / "runs", "good")
    (tmp_path / "report.html").write_text("precious")
    assert "-o report.html: exists; choose another file or pass --force" in invoke("report").error
    assert (tmp_path / "report.html").read_text() == "precious"
    assert invoke("report", "--force").code == 0
    assert "is a folder" in invoke("report", "-o", "runs").error
    assert "the folder nowhere does not exist" in invoke("report", "-o", "nowhere/report.html").error
    outcome = invoke("report", "absent", "-o", "other.html")
    assert outcome.code == 2
    assert "absent: no such folder; run `ganzoo bench` first" in outcome.error
    assert not (tmp_path / "other.html").exists()


@needs_system(sys.platform != "win32", "has no limit of file sizes")
@pytest.mark.parametrize("command", [("report", MODEL, "-o", "page.html"), ("sample", "run", "-o", "grid.png")])
def test_report_on_a_full_disk_leaves_nothing_behind(command, tmp_path, sampled_run, run_cli):
    (tmp_path / "run").symlink_to(sampled_run)
    done = run_cli(*command, largest_file=2048)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line == f"ganzoo: -o {command[-1]}: cannot be written: File too large; choose another place"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


# --- pictures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "size"), [(1, 16), (3, 28), (3, 64), (1, 100)])
def test_a_grid_is_cut_into_the_images_it_was_made_of(channels, size, tmp_path):
    images = torch.randint(
        0, 256, (64, channels, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    put_record(tmp_path, "run", image_shape=[channels, size, size], pictures=False)
    save_png(grid(images), tmp_path / "run" / "samples.png", scale=max(1, 64 // size))
    assert torch.equal(report_pictures.sample_images(read_record(tmp_path / "run")), images)


@pytest.mark.parametrize("spoil", ["absent", "text", "other"])
def test_a_picture_that_is_no_grid_is_left_out(spoil, tmp_path):
    put_record(tmp_path, "run", pictures=False)
    path = tmp_path / "run" / "samples.png"
    if spoil == "text":
        path.write_text("no picture")
    if spoil == "other":
        Image.new("L", (123, 77)).save(path)
    with pytest.raises(RecordError, match=r"samples\.png"):
        report_pictures.sample_images(read_record(tmp_path / "run"))
    page = page_of(tmp_path)
    assert "samples.png" in "".join(text for _, text in page.all("figcaption"))


@pytest.fixture(scope="module")
def digits(session_environment):
    from ganzoo.registry.discovery import discover

    registry = discover()
    offer = registry.get("datasets", "digits")
    return prepare(offer.record, DatasetRequest(Path("data"), "", 16), registry.status_of(offer.plugin).source_sha256)


def test_the_nearest_real_image_is_that_of_the_least_distance(digits, monkeypatch):
    monkeypatch.setattr(report_pictures, "CHUNK", 100)
    real = digits.images().astype(numpy.float64)
    noise = numpy.random.default_rng(3).normal(0, 25, (6, 1, 16, 16))
    queries = (real[[0, 99, 100, 777, 1437, 5]] + noise).clip(0, 255).round()
    distances = ((queries[:, None] - real[None]) ** 2).sum((2, 3, 4))
    found = report_pictures.nearest_real(torch.from_numpy(queries).to(torch.uint8), digits)
    assert numpy.array_equal(found.numpy(), digits.images()[distances.argmin(1)])


def test_truncated_dataset_cache_leaves_the_page_complete(digits, tmp_path, monkeypatch):
    cache = tmp_path / "cache" / "datasets" / "cut"
    cache.mkdir(parents=True)
    shutil.copytree(digits.folder, cache, dirs_exist_ok=True)
    images = cache / "images.npy"
    images.write_bytes(images.read_bytes()[:-1000])
    monkeypatch.setenv("GANZOO_CACHE", str(tmp_path / "cache"))
    put_record(tmp_path / "runs", "a", dataset_sha256=digits.sha256)
    page = page_of(tmp_path / "runs", neighbours=True)
    assert [attributes["alt"] for attributes, _ in page.all("img")] == ["A grid of images generated by dcgan"]
    assert "The images of digits are not in this machine's cache" in "".join(text for _, text in page.all("p"))


def test_samples_of_another_shape_have_no_nearest_images(digits, tmp_path):
    """A third-party record may name any dataset."""
    put_record(tmp_path, "same", dataset_sha256=digits.sha256)
    put_record(tmp_path, "other", dataset_sha256=digits.sha256, variant="rgb", image_shape=[3, 16, 16], pictures=False)
    images = torch.zeros(64, 3, 16, 16, dtype=torch.uint8)
    save_png(grid(images), tmp_path / "other" / "samples.png", scale=4)
    page = page_of(tmp_path, neighbours=True)
    nearest = [attributes["alt"] for attributes, _ in page.all("img") if "nearest" in attributes["alt"]]
    assert nearest == ["Samples of dcgan, and below each the nearest training image"]
    captions = "".join(text for _, text in page.all("figcaption"))
    assert "no neighbours: the image shapes differ (3 x 16 x 16 drawn, 1 x 16 x 16 real)" in captions


def test_real_images_are_shown_beside_samples_of_the_same_dataset(digits, tmp_path):
    put_record(tmp_path, "same", dataset_sha256=digits.sha256)
    put_record(tmp_path, "other", dataset="elsewhere", dataset_sha256="0" * 64)
    page = page_of(tmp_path, neighbours=True)
    alternatives = [attributes["alt"] for attributes, _ in page.all("img")]
    assert alternatives == [
        "A grid of real images of digits",
        "A grid of images generated by dcgan",
        "Samples of dcgan, and below each the nearest training image",
        "A grid of images generated by dcgan",
    ]
    assert "The images of elsewhere are not in this machine's cache" in "".join(t for _, t in page.all("p"))
    assert "nearest" not in "".join(attributes["alt"] for attributes, _ in page_of(tmp_path).all("img"))
