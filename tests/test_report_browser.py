"""The report in Chromium, opened from disk as users do: display, controls and protection against hostile records."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import HANGING, ONE_MACHINE, wait_for
from reporting import FID, MODEL, put_record

from ganzoo.output.report.report import write_report
from ganzoo.records.store import find_records

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next((found for name in NAMES if (found := shutil.which(name))), None)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=f"no browser: none of {', '.join(NAMES)} is installed")

HOSTILE = "<script>window.hacked=1</script><img src=x onerror=window.hacked=1><a href='https://example.com'>x</a>"
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        # Chromium's sandbox does not work for root in a container.
        arguments = ["--no-sandbox"] if getattr(os, "geteuid", lambda: 1)() == 0 else []
        opened = started.chromium.launch(executable_path=CHROMIUM, args=arguments, timeout=1000 * HANGING)
        yield opened
        opened.close()


class Visit:
    """An open page with its console messages and its requests."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.said: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))

    def traces(self, figure: str) -> list[dict[str, Any]]:
        """The traces that Plotly drew, without bands."""
        code = """([id]) => JSON.stringify(document.querySelector(`#${id} .canvas`).data
            .filter((t) => t.meta !== 'band').map(({name, x, y, meta, error_y}) => ({name, x, y, meta, error_y})))"""
        return json.loads(self.page.evaluate(code, [figure]))

    def rows(self) -> list[str]:
        return [row.inner_text() for row in self.page.locator("#table tbody tr").all() if row.is_visible()]

    def settle(self) -> None:
        """Wait for the next frame, in which figures are drawn."""
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


@pytest.fixture
def visit(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Visit]]:
    """`visit(folder, …)` writes the report of a folder and opens it; `path=` opens an existing report."""
    contexts = []

    def open_report(*folders: Path, path: Path | None = None, **options: Any) -> Visit:
        if path is None:
            path = tmp_path / "report.html"
            write_report(*find_records(folders), [str(folder) for folder in folders], path, force=True)
        contexts.append(browser.new_context(reduced_motion="reduce", **options))
        contexts[-1].set_default_timeout(120_000)
        visited = Visit(contexts[-1].new_page())
        visited.page.goto(path.as_uri())
        if options.get("java_script_enabled", True) and visited.page.locator("#plotly").count():
            # A function, for the page lets nothing evaluate the text of an expression again and again.
            visited.page.wait_for_function(
                "() => document.documentElement.dataset.drawn === 'true'", timeout=1000 * HANGING
            )
        return visited

    yield open_report
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory, session_environment: Path) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(*find_records([ONE_MACHINE]), ["results"], path)
    return path


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """500 records: two datasets, four machines, three seeds, several batches, some failures."""
    folder = tmp_path_factory.mktemp("crowd")
    for index in range(500):
        failed = index % 23 == 5
        put_record(
            folder,
            f"{index:03}",
            variant=f"variant-{index % 21}",
            seed=index // 21 % 3,
            hardware=f"machine-{index // 63 % 4}",
            batch_size=(32, 64)[index // 252],
            fid=[100.0 + index, 80.0, 60.0, 5.0 + index / 10],
            status="diverged" if failed else "ok",
            message="generator/fool became NaN" if failed else "",
        )
    return folder


def test_page_opens_from_disk_without_errors_or_requests(visit, committed):
    visited = visit(path=committed)
    assert visited.said == []
    assert visited.asked == [committed.as_uri()], "nothing but the file itself"
    assert visited.page.title() == "ganzoo report: 18 records, 15 variants, 2 datasets, 1 machine"
    assert visited.page.locator(".main-svg").count() >= 5


def test_page_policy_blocks_requests_and_other_scripts(visit, committed):
    page = visit(path=committed).page
    assert page.evaluate("fetch('https://example.com/').then(() => 'came', () => 'refused')") == "refused"
    for code in ("window.hacked = 1", "fetch('https://example.com/')"):
        page.evaluate(
            "(code) => { const s = document.createElement('script'); s.textContent = code; document.body.append(s); }",
            code,
        )
    page.evaluate("() => { document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hacked=1\">'); }")
    page.wait_for_timeout(200)
    assert page.evaluate("window.hacked === undefined")


def test_the_table_sorts_by_mouse_and_by_keyboard(visit, committed):
    visited = visit(path=committed)
    head = visited.page.get_by_role("columnheader", name="FD digits-cnn digits")
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    records = [record for record in find_records([ONE_MACHINE])[0] if record.spec["dataset"] == "digits"]
    ordered = sorted(records, key=lambda record: record.training["final"]["fid/ema"]["value"])
    names = [record.spec["variant"] for record in ordered]
    assert [row.split()[0] for row in visited.rows()][:15] == names, "numbers, and not as text"
    head.get_by_role("button").press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert [row.split()[0] for row in visited.rows()][:15] == names[::-1], "what has no score stays last"
    variant = visited.page.get_by_role("columnheader", name="variant")
    variant.get_by_role("button").press("Space")
    assert (variant.get_attribute("aria-sort"), head.get_attribute("aria-sort")) == ("ascending", None)
    assert [row.split()[0] for row in visited.rows()] == sorted(row.split()[0] for row in visited.rows())


def test_rows_without_differs_sort_last_and_an_empty_column_is_hidden(visit, tmp_path):
    put_record(tmp_path / "runs", "plain")
    put_record(tmp_path / "runs", "smooth", label_smoothing=0.1)
    put_record(tmp_path / "runs", "mlp", variant="mlp")
    visited = visit(tmp_path / "runs")
    head = visited.page.get_by_role("columnheader", name="differs")
    for _ in range(2):
        head.get_by_role("button").click()
        assert visited.rows()[-1].split()[0] == "mlp"
    visited.page.get_by_label("Filter").fill("mlp")
    assert visited.page.get_by_role("columnheader", name="differs").count() == 0


def test_filter_applies_to_rows_curves_and_pictures(visit, committed):
    visited = visit(path=committed)
    visited.page.get_by_label("Filter").fill("WGAN digits")
    visited.settle()
    assert {row.split()[0] for row in visited.rows()} == {"wgan", "wgan-gp"}
    assert visited.page.locator("#count").inner_text() == "2 of 18 rows"
    assert {trace["name"] for trace in visited.traces("score-kimg")} == {"wgan", "wgan-gp"}
    assert visited.page.locator(".tile[data-row]:visible").count() == 2
    assert "wgan" in visited.page.locator("#losses select option:checked").inner_text()
    visited.page.get_by_label("Filter").fill("")
    visited.page.locator("select[data-facet=dataset]").select_option("mnist")
    visited.settle()
    assert {row.split()[0] for row in visited.rows()} == {"deconv-mlp", "dcgan", "mlp"}
    assert visited.page.get_by_role("columnheader", name="FD mnist-cnn mnist").is_visible()
    assert visited.page.get_by_role("columnheader", name="FD digits-cnn digits").count() == 0, "empty, so hidden"
    visited.page.get_by_label("Filter").fill("nothing is called this")
    visited.settle()
    assert visited.rows() == []
    assert visited.traces("score-kimg") == []
    assert visited.said == []


def test_drawn_curves_equal_those_of_the_records(visit, committed):
    visited = visit(path=committed)
    records = find_records([ONE_MACHINE])[0]
    drawn = {trace["name"]: trace for trace in visited.traces("score-kimg")}
    for record in records:
        if record.spec["dataset"] == "digits":
            points = [(score["kimg"], score["value"]) for score in record.scores if score["protocol"] == FID]
            trace = drawn.pop(record.spec["variant"])
            assert list(zip(trace["x"], trace["y"], strict=True)) == points
    assert not drawn
    option = visited.page.locator("#score-kimg option", has_text="IS mnist-cnn, mnist").inner_text()
    visited.page.locator("#score-kimg select").select_option(label=option)
    names = {trace["name"] for trace in visited.traces("score-kimg")}
    assert names == {record.spec["variant"] for record in records if record.spec["dataset"] == "mnist"}
    assert "mnist-cnn features" in visited.page.locator("#score-kimg .note").inner_text()


def test_numbers_below_a_figure_equal_the_drawn_ones(visit, committed):
    visited = visit(path=committed)
    for figure in ("score-kimg", "pareto", "losses"):
        visited.page.locator(f"#{figure} summary").click()
        cells = [
            row.split("\t") for row in visited.page.locator(f"#{figure} .data tbody").inner_text().splitlines() if row
        ]
        traces = visited.traces(figure)
        expected = [(trace["name"], x, y) for trace in traces for x, y in zip(trace["x"], trace["y"], strict=True)]
        named = figure == "pareto"
        found = [(row[0], float(row[1 + named]), float(row[2 + named])) for row in cells]
        assert [name for name, _, _ in found] == [name for name, _, _ in expected]
        assert [y for _, _, y in found] == pytest.approx([y for _, _, y in expected], rel=1e-5)
        assert [x for _, x, _ in found] == pytest.approx([x for _, x, _ in expected], rel=1e-5)


def test_bands_and_bars_are_drawn_over_seeds(visit, tmp_path):
    for seed, last in enumerate((10.0, 14.0)):
        put_record(tmp_path / "runs", f"s{seed}", seed=seed, fid=[40.0, 30.0, 20.0, last])
    visited = visit(tmp_path / "runs")
    bands = "document.querySelector('#score-kimg .canvas').data.filter((t) => t.meta === 'band')"
    (band,) = json.loads(visited.page.evaluate(f"JSON.stringify({bands})"))
    spread = 8**0.5
    assert band["y"] == pytest.approx([40, 30, 20, 12 + spread, 12 - spread, 20, 30, 40])
    assert band["x"] == band["x"][:4] + band["x"][:4][::-1]
    points = visited.traces("pareto")[0]
    assert (points["y"], points["error_y"]["array"]) == ([12.0], [pytest.approx(spread)])


def test_filtered_mean_is_over_the_remaining_rows(visit, tmp_path):
    put_record(tmp_path / "runs", "short", kimg=20.0, rate=(12_345.0, 12_000.0, 12_500.0))
    put_record(tmp_path / "runs", "long", kimg=40.0, rate=(23_457.0, 23_000.0, 23_800.0))
    visited = visit(tmp_path / "runs")
    bands = "JSON.stringify(document.querySelector('#rate-batch .canvas').data.find((t) => t.meta === 'band').y)"
    for words, rate, band in (
        ("", 17_901.0, [23_800.0, 12_000.0]),
        ("12,345", 12_345.0, [12_500.0, 12_000.0]),
        ("23,457", 23_457.0, [23_800.0, 23_000.0]),
    ):
        visited.page.get_by_label("Filter").fill(words)
        visited.settle()
        (trace,) = visited.traces("rate-batch")
        assert trace["y"] == [rate], words
        assert json.loads(visited.page.evaluate(bands)) == band
    assert visited.said == []


def test_legend_entry_toggles_all_its_curves(visit, tmp_path):
    for seed in range(2):
        put_record(tmp_path / "runs", f"s{seed}", seed=seed, fid=[40.0, 30.0, 20.0, 10.0 + seed])
    put_record(tmp_path / "runs", "mlp", variant="mlp")
    visited = visit(tmp_path / "runs")
    data = "JSON.stringify(document.querySelector('#{} .canvas').data.map((t) => [t.legendgroup, t.visible || true]))"
    for figure, hidden in (("losses", 2), ("score-kimg", 2)):
        place = visited.page.locator(f"#{figure}")
        entry = place.locator(".legendtext").first.text_content()
        place.locator(".legendtoggle").first.click()
        visited.page.wait_for_function(f"() => document.querySelector('#{figure} .canvas').data.some((t) => t.visible)")
        found = json.loads(visited.page.evaluate(data.format(figure)))
        assert [group for group, visible in found if visible == "legendonly"] == [entry] * hidden, figure
    assert {trace["name"].partition(", seed ")[2] for trace in visited.traces("losses")} == {"", "1"}
    assert visited.said == []


def test_markup_in_names_is_inert(visit, tmp_path):
    put_record(tmp_path / "runs", "a", variant=HOSTILE, dataset=HOSTILE, fid=[4.0, 3.0, 2.0, 1.0])
    put_record(tmp_path / "runs", "b", hardware=HOSTILE, seed=1)
    put_record(tmp_path / "runs", "c", status="crashed", message=HOSTILE, seed=2)
    visited = visit(tmp_path / "runs")
    visited.page.evaluate("for (const details of document.querySelectorAll('details')) details.open = true")
    for select in visited.page.locator(".plot select:visible").all():
        for option in range(select.locator("option").count()):
            select.select_option(index=option)
    visited.page.wait_for_timeout(200)
    assert visited.page.evaluate("window.hacked === undefined")
    assert visited.said == []
    assert len(visited.asked) == 1
    assert visited.page.locator("a[href^=http], svg a, img[src=x]").count() == 0
    assert HOSTILE in visited.page.locator("#table tbody").inner_text()
    assert HOSTILE[:20] in visited.page.locator("#score-kimg .canvas").inner_text()


def test_page_without_records_has_no_errors(visit, tmp_path):
    (tmp_path / "empty").mkdir()
    visited = visit(tmp_path / "empty")
    assert (visited.said, len(visited.asked)) == ([], 1)
    assert visited.page.get_by_role("heading", name="Nothing to show yet").is_visible()


def test_page_of_one_record(visit):
    visited = visit(MODEL)
    assert (visited.said, len(visited.asked)) == ([], 1)
    assert len(visited.rows()) == 1
    assert [len(visited.traces(figure)) for figure in ("score-kimg", "score-seconds", "rate-batch")] == [1, 1, 1]


LEAST = 5e-324
"""The least positive number there is: 1.25 times it is itself, and a tenth of it is 0."""

EXTREMES = {
    "least": ([LEAST] * 4, [1.0, 1.0, 1.0, 1.0], [LEAST] * 3),
    "wide": ([1e29, 1.0, 1e-20, LEAST], [1.0, 1e29, 1.0, 1e29], [LEAST, -1e99, 1e99]),
    "large": ([1e29] * 4, [1e29] * 4, [1e99] * 3),
}
"""FIDs, which are drawn on a logarithmic axis, inception scores, which are on a linear one, and a loss."""


@pytest.mark.parametrize("name", EXTREMES)
def test_extreme_numbers_are_drawn_and_have_few_ticks(name, visit, tmp_path):
    fids, scores, losses = EXTREMES[name]
    record = put_record(tmp_path / "runs", "a", fid=fids, rate=(1e-29, 1e-29, 1e29))
    evaluations = sorted({score["kimg"] for score in record["scores"]})
    for score in record["scores"]:
        if score["metric"] == "is":
            score["value"] = scores[evaluations.index(score["kimg"])]
    curves = record["training"]["curves"]
    record["training"]["curves"] = {name: curve[:3] if name == "kimg" else losses for name, curve in curves.items()}
    (tmp_path / "runs" / "a" / "record.json").write_text(json.dumps(record))
    visited = visit(tmp_path / "runs")
    for select in visited.page.locator(".plot select").all():
        for option in range(select.locator("option").count()):
            select.select_option(index=option, force=True)
            ticks = select.locator("xpath=ancestor::figure").locator(".xtick, .ytick").count()
            assert 0 < ticks < 60
    assert visited.said == []
    (trace,) = visited.traces("losses")[:1]
    assert trace["y"] == losses


def test_five_hundred_records_stay_readable(visit, crowd):
    visited = visit(crowd)
    assert (visited.said, len(visited.asked)) == ([], 1)
    rows = visited.page.locator("#table tbody tr").count()
    assert rows > 100
    assert visited.page.locator("#count").inner_text() == f"{rows} of {rows} rows"
    assert len(visited.traces("score-kimg")) == 16
    assert re.search(r"the first 16 of \d+ rows", visited.page.locator("#score-kimg .note").inner_text())
    assert visited.page.locator(".tile[data-row]").count() == 48
    assert visited.page.evaluate("document.querySelector('.scroll').clientHeight <= innerHeight")
    visited.page.get_by_label("Filter").fill("variant-7 machine-2")
    visited.settle()
    shown = visited.rows()
    assert shown
    assert all("variant-7" in row and "machine-2" in row for row in shown)
    assert len(visited.traces("score-kimg")) <= len(shown)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_in_both_schemes(visit, committed, scheme):
    page = visit(path=committed, color_scheme=scheme).page
    code = """() => {
        const parse = (text) => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
        const linear = (c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        const share = [0.2126, 0.7152, 0.0722];
        const light = (rgb) => rgb.reduce((sum, c, i) => sum + share[i] * linear(c / 255), 0);
        const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        const paper = light(parse(getComputedStyle(document.body).backgroundColor));
        const text = [...document.querySelectorAll("p, a, th, td, label, summary, dd, small, button, figcaption")]
            .map((node) => ratio(light(parse(getComputedStyle(node).color)), paper));
        const drawn = [...document.querySelectorAll(".canvas text")]
            .map((node) => ratio(light(parse(getComputedStyle(node).fill)), paper));
        const lines = [...document.querySelectorAll(".canvas .js-line")]
            .map((node) => ratio(light(parse(getComputedStyle(node).stroke)), paper));
        return [paper, Math.min(...text), Math.min(...drawn), Math.min(...lines)];
    }"""
    paper, text, drawn, lines = page.evaluate(code)
    assert (paper > 0.5) == (scheme == "light")
    assert text >= 4.5
    assert drawn >= 4.5
    assert lines >= 3.0


def test_page_follows_a_change_of_color_scheme(visit, committed):
    visited = visit(path=committed, color_scheme="light")
    colour = "getComputedStyle(document.querySelector('.canvas .xtick text')).fill"
    before = visited.page.evaluate(colour)
    visited.page.emulate_media(color_scheme="dark")
    visited.settle()
    assert visited.page.evaluate(colour) != before


@pytest.mark.parametrize("folder", [ONE_MACHINE, "crowd"])
def test_phone_width_needs_no_horizontal_scrolling(visit, request, folder):
    folder = request.getfixturevalue(folder) if isinstance(folder, str) else folder
    visited = visit(folder, **PHONE)
    assert visited.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert visited.page.evaluate("document.querySelector('.scroll').scrollWidth") > 390, "the table scrolls by itself"
    widths = visited.page.evaluate("[...document.querySelectorAll('.canvas .main-svg')].map((s) => s.clientWidth)")
    assert all(250 < width <= 390 for width in widths)


def test_the_keyboard_reaches_everything(visit, committed):
    page = visit(path=committed).page
    page.keyboard.press("Tab")
    skip = page.evaluate("[document.activeElement.className, document.activeElement.getBoundingClientRect().left >= 0]")
    assert skip == ["skip", True]
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    reached = set()
    for _ in range(80):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.tagName + ' ' + document.activeElement.className"))
        style = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert style != "none" or page.evaluate("document.activeElement === document.body")
    assert {"INPUT ", "SELECT ", "BUTTON ", "SUMMARY ", "DIV scroll"} <= reached


def test_without_scripts_the_table_and_the_pictures_are_there(visit, committed):
    page = visit(path=committed, java_script_enabled=False).page
    assert page.locator("#table tbody tr").count() == 18
    assert page.get_by_text("The figures are drawn by a script, and scripts are off.").is_visible()
    assert not page.locator("#filters").is_visible()
    picture = page.locator(".tile img").first
    picture.scroll_into_view_if_needed()
    wait_for(lambda: picture.bounding_box()["height"] > 50)


def test_browser_that_cannot_draw_shows_a_message_and_the_numbers(browser, committed):
    context = browser.new_context()
    context.add_init_script("delete window.DecompressionStream")
    try:
        visited = Visit(context.new_page())
        visited.page.goto(committed.as_uri())
        visited.page.wait_for_function(
            "() => document.documentElement.dataset.drawn === 'false'", timeout=1000 * HANGING
        )
        assert visited.page.get_by_text("This browser could not draw the figure.").count() == 5
        assert visited.page.locator("[role=img]").count() == 0, "what is in a picture is not read out"
        names = visited.page.locator("#score-kimg .data tbody td:first-child")
        assert len(set(names.all_inner_texts())) == 15
        visited.page.get_by_label("Filter").fill("wgan-gp digits")
        visited.settle()
        assert set(names.all_inner_texts()) == {"wgan-gp"}
    finally:
        context.close()
