"""One entry of `FIGURES` adds a column to every table: on the terminal, in Markdown, on the page and for programs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ONE_MACHINE
from rich.console import Console

from ganzoo.comparing.figures import Figure
from ganzoo.output import columns
from ganzoo.output.comparison import comparison_tables
from ganzoo.output.markdown import updated_page
from ganzoo.output.report.report import render_report
from ganzoo.records.store import find_records

RATES = (4321.0, 8765.0)
MEAN = "6,543"


@pytest.fixture
def records(tmp_path):
    """Two seeds of one variant with an evaluation rate."""
    source = min(ONE_MACHINE.glob("*/dcgan-digits-*"))
    for seed, rate in enumerate(RATES):
        place = Path(shutil.copytree(source, tmp_path / "results" / str(seed))) / "record.json"
        record = json.loads(place.read_text())
        record["run_id"] = f"{seed:064x}"
        record["spec"]["seed"] = seed
        timed = record["throughput"]["train_images_per_second"]
        record["throughput"]["evaluation_images_per_second"] = timed | {
            "median": rate,
            "low": rate,
            "high": rate,
            "min": rate,
            "max": rate,
            "samples": [rate],
        }
        place.write_text(json.dumps(record))
    records, complaints = find_records([tmp_path / "results"])
    assert (len(records), complaints) == (len(RATES), [])
    return records


@pytest.fixture
def evaluation_rate(monkeypatch):
    """Add a column by one figure that has a head."""
    figure = Figure("evaluation_images_per_second", head="scored/s", note="evaluation")
    monkeypatch.setattr(columns, "SHOWN_FIGURES", [*columns.SHOWN_FIGURES, columns.figure_column(figure)])


def on_a_terminal(records, folder):
    console = Console(width=250)
    with console.capture() as captured:
        for table in comparison_tables(records):
            console.print(table)
    return captured.get()


def in_markdown(records, folder):
    return updated_page(folder / "results", records)


def on_the_page(records, folder):
    return render_report(records, [], ["results"])


RENDERERS = pytest.mark.parametrize("render", [on_a_terminal, in_markdown, on_the_page])


@RENDERERS
def test_added_column_is_shown_by_every_renderer(render, records, evaluation_rate, tmp_path):
    text = render(records, tmp_path)
    assert "scored/s" in text
    assert MEAN in text


@RENDERERS
def test_column_without_any_value_is_left_out_by_every_renderer(render, records, evaluation_rate, tmp_path):
    for record in records:
        del record.throughput["evaluation_images_per_second"]
    text = render(records, tmp_path)
    assert "images/s" in text
    assert "scored/s" not in text


@RENDERERS
def test_without_the_entry_no_renderer_has_the_column(render, records, tmp_path):
    text = render(records, tmp_path)
    assert "images/s" in text
    assert "scored/s" not in text


def test_page_sorts_by_the_value_and_shows_the_note_below_the_head(records, evaluation_rate, tmp_path):
    page = on_the_page(records, tmp_path)
    assert f'data-key="{sum(RATES) / 2}">{MEAN}</td>' in page
    assert '<span class="head">scored/s</span> <small>evaluation</small>' in page


WITH_A_FIGURE = """
import sys
from ganzoo.comparing import figures

figures.FIGURES += (figures.Figure("data_wait_share", "Mean share.", "data wait", "share", better="lower"),)
figures.FIGURE_BY_NAME = {figure.name: figure for figure in figures.FIGURES}

from ganzoo.cli.main import main
from ganzoo.comparing.table import meanings

assert meanings()["always"]["data_wait_share"] == "Mean share."
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("form", ["table", "csv"])
def test_one_figure_is_a_column_to_show_to_sort_by_and_to_fail_on(form, records, tmp_path):
    for place, share in zip((tmp_path / "results").glob("*/record.json"), (0.125, 0.375), strict=True):
        record = json.loads(place.read_text())
        record["throughput"]["data_wait_share"] = share
        place.write_text(json.dumps(record))
    options = ("--sort", "-data wait", "--against", "results", "--fail-on", "data wait:5%", "--format", form)
    command = [sys.executable, "-P", "-c", WITH_A_FIGURE, "compare", "results", *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "data_wait_share 0.25 -> 0.25, the same" in done.stderr
    name, value = {"table": ("data wait", "25%"), "csv": ("data_wait_share", "0.25")}[form]
    assert name in done.stdout
    assert value in done.stdout
