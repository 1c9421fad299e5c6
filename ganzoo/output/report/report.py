"""Records to one HTML page that needs nothing else: tables, figures, pictures, machines, protocols.

The page is a jinja2 template that escapes whatever it is given. Its figures are JSON, drawn by plotly, which the page
carries in compressed form. A content security policy lets only these two scripts run, and nothing be fetched.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from ganzoo import __version__
from ganzoo.comparing.comparison import Comparison, compare
from ganzoo.data.prepared import PreparedDataset
from ganzoo.errors import RecordError
from ganzoo.output.columns import SEEDS, VARIANT, Column, columns_of, in_groups, shared_settings, yardstick_rows
from ganzoo.output.console import missing, show_memory, show_plain
from ganzoo.output.notes import doubted, notes_of
from ganzoo.output.report.charts import PageRow, page_rows, report_charts
from ganzoo.output.report.pictures import (
    Picture,
    as_picture,
    cached_dataset,
    neighbour_grid,
    real_images,
    sample_images,
)
from ganzoo.records.protocols import protocol_words, title_of
from ganzoo.records.settings import setting
from ganzoo.runs import RunRecord
from ganzoo.util.destination import check_destination, write_destination
from ganzoo.util.images import grid
from ganzoo.util.text import printable

SHOWN_GRIDS = 48
"""The sample grids that a page carries: of each dataset as many, one of each variant before a second."""

LEADING = ("dataset", "hardware", "differs")
"""The settings that stand beside the variant; the others come after the figures that one looks for."""


@dataclass(frozen=True)
class Head:
    """The head of a column, with a note below it that may lead to a place on the page."""

    head: str
    note: str = ""
    link: str = ""
    numeric: bool = True


@dataclass(frozen=True)
class Cell:
    """What is read, and what is sorted by; None comes last."""

    text: str
    key: float | str | None = None
    failed: bool = False


@dataclass(frozen=True)
class Tile:
    """One run's sample grid. `neighbours` has samples above the nearest real images."""

    row: str
    label: str
    about: str
    picture: Picture | None
    neighbours: Picture | None = None
    reason: str = ""


@dataclass(frozen=True)
class Gallery:
    """The sample grids of one dataset, and real images; `reason` says why there are none."""

    dataset: str
    real: Picture | None
    reason: str
    tiles: list[Tile]


def write_report(
    records: Sequence[RunRecord],
    complaints: Sequence[str],
    sources: Sequence[str],
    output: Path,
    *,
    neighbours: bool = False,
    doubtful: bool = False,
    force: bool = False,
) -> int:
    """Write the page to `output`, and return its size in bytes. With `doubtful` doubtful speeds are compared too.

    `complaints` name the records that could not be read, `sources` the folders that were. Raises `UsageError` where
    `output` is there already (unless `force`) or cannot be written.
    """
    check_destination(output, force=force)
    text = render_report(records, complaints, sources, neighbours=neighbours, doubtful=doubtful)
    page = text.encode("utf-8", "replace")
    write_destination(output, page)
    return len(page)


def render_report(
    records: Sequence[RunRecord],
    complaints: Sequence[str],
    sources: Sequence[str],
    *,
    neighbours: bool = False,
    doubtful: bool = False,
) -> str:
    """The page as text."""
    comparison = compare(records)
    rows = page_rows(comparison)
    columns = _page_columns(comparison)
    script, plotly = _template("report.js"), _plotly() if rows else ""
    environment = Environment(
        loader=PackageLoader("ganzoo.output.report", "templates"),
        autoescape=True,
        finalize=_printable_text,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    figures = report_charts(rows, doubtful)
    return environment.get_template("report.html").render(
        made=datetime.now(UTC).isoformat(timespec="minutes"),
        version=__version__,
        sources=sources,
        complaints=complaints,
        summary=_summary(rows, records),
        settings=shared_settings(comparison),
        columns=_heads(columns, comparison),
        yardsticks=[
            (name, [column.yardstick(kind) for column in columns[1:]]) for kind, name in yardstick_rows(comparison)
        ],
        rows=rows,
        cells={row.id: [_cell(column, row) for column in columns] for row in rows},
        flags=doubted((f"{row.label} on {row.setting('dataset')}", row.row) for row in rows),
        notes=_notes(comparison),
        facets=_facets(rows),
        figures=figures,
        figure_data=_embedded([asdict(figure) for figure in figures]),
        galleries=_galleries(rows, neighbours),
        neighbours=neighbours,
        left_out=max(0, len(_trained(rows)) - SHOWN_GRIDS),
        failures=[run for row in rows for run in row.failed],
        machines=_machines(records),
        protocols=comparison.protocols,
        protocol_words=protocol_words,
        title_of=title_of,
        setting=setting,
        style=Markup(_template("report.css")),
        script=Markup(script),
        plotly=Markup(_packed(plotly)),
        script_sources=" ".join(f"'sha256-{_digest(text)}'" for text in (script, plotly) if text),
    )


def _printable_text(value: object) -> Any:
    """Text from strangers without control characters, as everywhere; what is markup already is ours."""
    return printable(value, 100_000_000) if isinstance(value, str) and not isinstance(value, Markup) else value


def _template(name: str) -> str:
    return (files("ganzoo.output.report") / "templates" / name).read_text(encoding="utf-8")


@cache
def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


@cache
def _packed(script: str) -> str:
    return base64.b64encode(gzip.compress(script.encode(), mtime=0)).decode()


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _embedded(value: object) -> Markup:
    """JSON that may stand in a script element: no text in it can end the element, nor a line of the script."""
    text = json.dumps(_printable_strings(value), separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _printable_strings(value: object) -> Any:
    if isinstance(value, Mapping):
        return {key: _printable_strings(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_printable_strings(item) for item in value]
    return printable(value, 2000) if isinstance(value, str) else value


# --- the table --------------------------------------------------------------------------------------------------------


def _summary(rows: Sequence[PageRow], records: Sequence[RunRecord]) -> list[str]:
    """How many of what: records, variants, datasets, machines, seeds, failures."""

    def count(number: int, noun: str) -> str:
        return f"{number:,} {noun}{'' if number == 1 else 's'}"

    distinct = {
        name: len({setting(record.spec, name) for record in records}) for name in ("variant", "dataset", "hardware")
    }
    failed = sum(len(row.failed) for row in rows)
    return [
        count(len(records), "record"),
        count(distinct["variant"], "variant"),
        count(distinct["dataset"], "dataset"),
        count(distinct["hardware"], "machine"),
        *([count(failed, "failed run")] if failed else []),
    ]


def _notes(comparison: Comparison) -> list[str]:
    """What is to be said of the rows of each dataset: whether differences are real, and why some were not merged."""
    parts = comparison.parts()
    notes = {_images(part): notes_of(part) for part in parts}
    return [f"{name}: {note}" if len(parts) > 1 else note for name, lines in notes.items() for note in lines]


def _images(comparison: Comparison) -> str:
    settings = comparison.rows[0].settings
    return f"{settings['dataset']}, {settings['image_size']} px"


def _facets(rows: Sequence[PageRow]) -> dict[str, list[str]]:
    """What rows can be chosen by, with the choices."""
    choices = {name: sorted({row.row.settings[name] for row in rows}) for name in ("dataset", "hardware")}
    return {name: several for name, several in choices.items() if len(several) > 1}


def _page_columns(comparison: Comparison) -> list[Column]:
    """The columns of the page: what one looks for first, the settings that matter less at the end."""
    columns = columns_of(comparison)
    settings = in_groups(columns, "setting")
    return [
        VARIANT,
        *(column for column in settings if column.head in LEADING),
        *in_groups(columns, "score", "target", "speed", "cost"),
        SEEDS,
        *(column for column in settings if column.head not in LEADING),
    ]


def _heads(columns: Sequence[Column], comparison: Comparison) -> list[Head]:
    places = {identity: place for place, identity in enumerate(comparison.protocols)}
    return [
        Head(
            column.head,
            column.note,
            f"#protocol-{places[column.protocol]}" if column.protocol else "",
            numeric=column.head not in (VARIANT.head, *LEADING),
        )
        for column in columns
    ]


def _cell(column: Column, row: PageRow) -> Cell:
    value = column.value(row.row)
    return Cell(column.text(row.row), None if missing(value) else value, column is SEEDS and bool(row.failed))


# --- pictures and machines --------------------------------------------------------------------------------------------


def _galleries(rows: Sequence[PageRow], neighbours: bool) -> list[Gallery]:
    """The sample grids of rows that finished, by dataset, each with real images of that dataset."""
    datasets: dict[tuple[str, str], list[PageRow]] = defaultdict(list)
    for row in _rows_to_picture(_trained(rows)):
        datasets[row.setting("dataset"), row.setting("dataset_sha256")].append(row)
    galleries = []
    for (name, sha256), shown in datasets.items():
        dataset = cached_dataset(sha256)
        tiles = [_tile(row, dataset if neighbours else None) for row in shown]
        real = as_picture(grid(real_images(dataset))) if dataset else None
        reason = "" if dataset else f"The images of {name} are not in this machine's cache, so none stand here."
        galleries.append(Gallery(name, real, reason, tiles))
    return galleries


def _tile(row: PageRow, dataset: PreparedDataset | None) -> Tile:
    """A row's sample grid, and with a dataset the nearest of its images."""
    run = row.finished[0]
    about = f"seed {setting(run.spec, 'seed')}, {show_plain(run.training.get('kimg', setting(run.spec, 'kimg')))} kimg"
    try:
        images = sample_images(run)
    except RecordError as error:
        return Tile(row.id, row.label, about, None, reason=str(error))
    tile = Tile(row.id, row.label, about, as_picture(grid(images)))
    if dataset is None:
        return tile
    if images.shape[1:] != dataset.image_shape:
        drawn, real = (" x ".join(map(str, shape)) for shape in (images.shape[1:], dataset.image_shape))
        return replace(tile, reason=f"no neighbours: the image shapes differ ({drawn} drawn, {real} real)")
    return replace(tile, neighbours=as_picture(neighbour_grid(images, dataset)))


def _rows_to_picture(rows: Sequence[PageRow]) -> list[PageRow]:
    """At most `SHOWN_GRIDS` rows, in their order: from each dataset in turn, one of each variant before a second."""
    variants: dict[tuple[str, str], int] = defaultdict(int)
    places: dict[tuple[str, int], int] = defaultdict(int)
    turns = []
    for index, row in enumerate(rows):
        dataset, variant = row.setting("dataset_sha256"), row.setting("variant")
        again = variants[dataset, variant]
        variants[dataset, variant] += 1
        turns.append((again, places[dataset, again], index))
        places[dataset, again] += 1
    return [rows[index] for index in sorted(index for _, _, index in sorted(turns)[:SHOWN_GRIDS])]


def _trained(rows: Sequence[PageRow]) -> list[PageRow]:
    """The rows that have samples: those of a speed measurement alone have none."""
    return [row for row in rows if row.finished and row.setting("kimg")]


def _machines(records: Sequence[RunRecord]) -> dict[str, dict[str, list[str]]]:
    """For each hardware every fact of machine and software, with each value that its records hold."""
    machines: dict[str, dict[str, list[str]]] = {}
    for record in records:
        facts = machines.setdefault(setting(record.spec, "hardware"), {})
        software = {name: value for name, value in (record.environment or {}).items() if name != "plugins"}
        for name, value in {**(record.hardware or {}), **_flat(software)}.items():
            in_bytes = name.endswith("memory_bytes") and isinstance(value, (int, float))
            text = show_memory(value) if in_bytes else _plain(value)
            if text not in facts.setdefault(name, []):
                facts[name].append(text)
    return machines


def _flat(facts: Mapping[str, Any]) -> dict[str, Any]:
    """`{"packages": {"numpy": 2}}` as `{"packages: numpy": 2}`."""
    flat: dict[str, Any] = {}
    for name, value in facts.items():
        flat |= {f"{name}: {key}": item for key, item in value.items()} if isinstance(value, Mapping) else {name: value}
    return flat


def _plain(value: object) -> str:
    return value if isinstance(value, str) else "–" if value is None else json.dumps(value)
