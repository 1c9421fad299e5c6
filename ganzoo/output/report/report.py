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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from numbers import Integral
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from ganzoo import __version__
from ganzoo.comparing.rows import by_dataset, comparison, score_columns, score_of_column, shown_protocols
from ganzoo.data.prepared import PreparedDataset
from ganzoo.errors import RecordError, UsageError
from ganzoo.output.comparison import notes_of
from ganzoo.output.console import missing, show_duration, show_memory, show_plain, show_rate, show_score
from ganzoo.output.report.figures import Row, report_figures, report_rows
from ganzoo.output.report.pictures import (
    Picture,
    as_picture,
    cached_dataset,
    neighbour_grid,
    real_images,
    sample_images,
)
from ganzoo.records.protocols import distinctions, protocol_words, title_of
from ganzoo.runs import RunRecord
from ganzoo.util.files import write_atomically
from ganzoo.util.images import grid
from ganzoo.util.significance import Direction
from ganzoo.util.text import printable

SHOWN_GRIDS = 48
"""The sample grids that a page carries: of each dataset as many, one of each variant before a second."""

LEADING = ("dataset", "hardware", "differs")
"""The settings that stand beside the variant; the others come after the figures that one looks for."""

SETTINGS = ("dataset", "image_size", "kimg", "batch_size", "precision", "hardware", "device", "threads")
"""What has a column where rows differ in it, and stands above the table where they do not."""

WITH_HARDWARE = ("device", "threads")
"""Settings that go without saying where each hardware has one."""


@dataclass(frozen=True)
class Column:
    """A head, with a note below it that may lead to a place on the page."""

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
    better: Mapping[str, Direction] | None = None,
    force: bool = False,
) -> int:
    """Write the page to `output`, and return its size in bytes. `better` says in which direction each score is.

    `complaints` name the records that could not be read, `sources` the folders that were. Raises `UsageError` where
    `output` is there already (unless `force`) or cannot be written.
    """
    if output.is_dir():
        raise UsageError(f"-o {printable(output)}: is a folder; give the name of a file")
    if output.exists() and not force:
        raise UsageError(f"-o {printable(output)}: exists; choose another file or pass --force")
    if not output.parent.is_dir():
        raise UsageError(f"-o {printable(output)}: the folder {printable(output.parent)} does not exist")
    text = render_report(records, complaints, sources, neighbours=neighbours, better=better)
    page = text.encode("utf-8", "replace")
    try:
        write_atomically(output, lambda stream: stream.write(page))
    except OSError as error:
        raise UsageError(
            f"-o {printable(output)}: cannot be written: {error.strerror}; choose another place"
        ) from error
    return len(page)


def render_report(
    records: Sequence[RunRecord],
    complaints: Sequence[str],
    sources: Sequence[str],
    *,
    neighbours: bool = False,
    better: Mapping[str, Direction] | None = None,
) -> str:
    """The page as text."""
    rows = report_rows(records, better)
    script, plotly = _part("report.js"), _plotly() if rows else ""
    environment = Environment(
        loader=PackageLoader("ganzoo.output.report", "templates"),
        autoescape=True,
        finalize=_printable_text,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    figures = report_figures(rows)
    return environment.get_template("report.html").render(
        made=datetime.now(UTC).isoformat(timespec="minutes"),
        version=__version__,
        sources=sources,
        complaints=complaints,
        summary=_summary(rows, records),
        settings=_shared_settings(rows),
        columns=_columns(rows, records),
        rows=rows,
        cells={row.id: cells for row, cells in zip(rows, _cells(rows, records), strict=True)},
        flags=_flags(rows),
        notes=_notes(records, better),
        facets=_facets(rows),
        figures=figures,
        figure_data=_embedded([asdict(figure) for figure in figures]),
        galleries=_galleries(rows, neighbours),
        neighbours=neighbours,
        left_out=max(0, len(_trained(rows)) - SHOWN_GRIDS),
        failures=[run for row in rows for run in row.failed],
        machines=_machines(records),
        protocols=shown_protocols(records),
        protocol_words=protocol_words,
        title_of=title_of,
        style=Markup(_part("report.css")),
        script=Markup(script),
        plotly=Markup(_packed(plotly)),
        script_sources=" ".join(f"'sha256-{_digest(text)}'" for text in (script, plotly) if text),
    )


def _printable_text(value: Any) -> Any:
    """Text from strangers without control characters, as everywhere; what is markup already is ours."""
    return printable(value, 100_000_000) if isinstance(value, str) and not isinstance(value, Markup) else value


def _part(name: str) -> str:
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


def _embedded(value: Any) -> Markup:
    """JSON that may stand in a script element: no text in it can end the element, nor a line of the script."""
    text = json.dumps(_printable_strings(value), separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _printable_strings(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _printable_strings(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_printable_strings(item) for item in value]
    return printable(value, 2000) if isinstance(value, str) else value


# --- the table --------------------------------------------------------------------------------------------------------


def _summary(rows: Sequence[Row], records: Sequence[RunRecord]) -> list[str]:
    """How many of what: records, variants, datasets, machines, seeds, failures."""

    def count(number: int, noun: str) -> str:
        return f"{number:,} {noun}{'' if number == 1 else 's'}"

    distinct = {name: len({record.spec[name] for record in records}) for name in ("variant", "dataset", "hardware")}
    failed = sum(len(row.failed) for row in rows)
    return [
        count(len(records), "record"),
        count(distinct["variant"], "variant"),
        count(distinct["dataset"], "dataset"),
        count(distinct["hardware"], "machine"),
        *([count(failed, "failed run")] if failed else []),
    ]


def _varying(rows: Sequence[Row]) -> list[str]:
    """The settings in which rows differ."""
    several = {name: len({row.summary[name] for row in rows}) > 1 for name in SETTINGS}
    machines: dict[str, set[Any]] = defaultdict(set)
    for row in rows:
        machines[row.summary["hardware"]].add(tuple(row.summary[name] for name in WITH_HARDWARE))
    if all(len(found) == 1 for found in machines.values()):
        several |= dict.fromkeys(WITH_HARDWARE, False)
    return [name for name in SETTINGS if several[name]] + ["differs"] * any(row.summary["differs"] for row in rows)


def _shared_settings(rows: Sequence[Row]) -> list[tuple[str, str]]:
    varying = _varying(rows)
    shared = [name for name in SETTINGS if name not in (*varying, *WITH_HARDWARE)]
    return [(name.replace("_", " "), show_plain(rows[0].summary[name])) for name in shared] if rows else []


def _flags(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Each reason to doubt a rate, with the rows it is of."""
    reasons: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        if row.summary["flags"]:
            reasons[row.summary["flags"]].append(f"{row.label} on {row.spec['dataset']}")
    return reasons


def _notes(records: Sequence[RunRecord], better: Mapping[str, Direction] | None) -> list[str]:
    """What is to be said of the rows of each dataset: whether differences are real, and why some were not merged."""
    parts = by_dataset(records)
    told = {
        f"{part[0].spec['dataset']}, {part[0].spec['image_shape'][1]} px": notes_of(comparison(part, better), part)
        for part in parts
    }
    return [f"{name}: {note}" if len(parts) > 1 else note for name, notes in told.items() for note in notes]


def _facets(rows: Sequence[Row]) -> dict[str, list[str]]:
    """What rows can be chosen by, with the choices."""
    choices = {name: sorted({row.summary[name] for row in rows}) for name in ("dataset", "hardware")}
    return {name: found for name, found in choices.items() if len(found) > 1}


EXTRAS: dict[str, tuple[str, Callable[[float], str]]] = {
    "mfu": ("MFU", lambda share: f"{share:.0%}"),
    "energy_joules_per_kimg": ("J/kimg", show_rate),
}
"""Columns that are there where some row has a value."""


def _extras(rows: Sequence[Row]) -> list[str]:
    return [name for name in EXTRAS if any(not missing(row.summary[name]) for row in rows)]


def _score_heads(records: Sequence[RunRecord]) -> dict[str, Column]:
    """The head of each score's column, with what sets its protocol apart."""
    protocols = shown_protocols(records)
    places, apart = {identity: place for place, identity in enumerate(protocols)}, distinctions(protocols)
    heads = {}
    for (metric, identity), name in score_columns(records).items():
        head, note, link = title_of(metric, protocols.get(identity, {})), identity, ""
        if identity in protocols:
            told = [*(str(protocols[identity].get(key)) for key in ("dataset", "extractor")), apart[identity]]
            note, link = ", ".join(filter(None, told)), f"#protocol-{places[identity]}"
        heads[name] = Column(head, note, link)
    return heads


def _rank_columns(rows: Sequence[Row], records: Sequence[RunRecord]) -> list[tuple[Column, list[str]]]:
    """The columns of ranks, of the first score that has any, each with the columns of the scores that it is by.

    A rank is by one protocol: datasets share a column as long as none has scores by several.
    """
    heads = _score_heads(records)
    ranked = [name for name in heads if any(_rank(row, name) for row in rows)]
    if not ranked:
        return []
    ranked = [name for name in ranked if score_of_column(name) == score_of_column(ranked[0])]
    rivals = [name for name in heads if score_of_column(name) == score_of_column(ranked[0])]
    scored: dict[tuple[str, int], set[str]] = defaultdict(set)
    for row in rows:
        place = row.summary["dataset"], row.summary["image_size"]
        scored[place] |= {name for name in rivals if not missing(row.summary[name])}
    if all(len(names) <= 1 for names in scored.values()):
        return [(Column("rank", "by the first score"), ranked)]
    by = {name: f"by {heads[name].head}, {heads[name].note}" for name in ranked}
    return [(Column("rank", by[name], heads[name].link), [name]) for name in ranked]


def _columns(rows: Sequence[Row], records: Sequence[RunRecord]) -> list[Column]:
    varying = _varying(rows)
    return [
        Column("variant", numeric=False),
        *(Column(name, numeric=False) for name in varying if name in LEADING),
        *(column for column, _ in _rank_columns(rows, records)),
        *_score_heads(records).values(),
        Column("images/s", "training"),
        Column("samples/s", "generator"),
        Column("memory", "peak"),
        *(Column(EXTRAS[name][0]) for name in _extras(rows)),
        Column("updates", "D/G"),
        Column("train time"),
        Column("seeds"),
        *(Column(name.replace("_", " ")) for name in varying if name not in LEADING),
    ]


def _cells(rows: Sequence[Row], records: Sequence[RunRecord]) -> Iterable[list[Cell]]:
    scores, varying, extras = list(score_columns(records).values()), _varying(rows), _extras(rows)
    ranked = [names for _, names in _rank_columns(rows, records)]
    for row in rows:
        summary = row.summary
        cells = [Cell(summary["variant"], summary["variant"])]
        cells += [_setting(summary[name]) for name in varying if name in LEADING]
        for names in ranked:
            rank = next(filter(None, (_rank(row, name) for name in names)), None)
            cells.append(Cell("–" if rank is None else str(rank), rank))
        cells += [_score_cell(summary, name) for name in scores]
        cells.append(_rate_cell(summary))
        cells.append(_number(summary["sample_images_per_second"], show_rate))
        cells.append(_number(summary["peak_memory_bytes"], show_memory))
        cells += [_number(summary[name], EXTRAS[name][1]) for name in extras]
        generator, discriminator = summary["generator_updates"], summary["discriminator_updates"]
        updates = "–" if missing(generator) else f"{discriminator:,.0f}/{generator:,.0f}"
        cells.append(Cell(updates, _key(discriminator)))
        cells.append(_number(summary["train_seconds"], show_duration))
        text = f"{summary['n']}" if not row.failed else f"{summary['n']} ({summary['failed']})"
        cells.append(Cell(text, summary["n"], failed=bool(row.failed)))
        cells += [_setting(summary[name]) for name in varying if name not in LEADING]
        yield cells


def _rank(row: Row, name: str) -> int | None:
    rank = row.summary.get(f"{name}_rank")
    return int(rank) if isinstance(rank, Integral) else None


def _key(value: Any) -> float | str | None:
    return None if missing(value) else value


def _setting(value: Any) -> Cell:
    """An empty text, as where nothing sets a row apart, is missing: it comes last, and may leave its column empty."""
    return Cell(show_plain(value), _key(value) if value != "" else None)


def _number(value: Any, show: Callable[[float], str]) -> Cell:
    return Cell("–" if missing(value) else show(value), _key(value))


def _score_cell(summary: Mapping[str, Any], name: str) -> Cell:
    """The mean over seeds with its deviation, and how many seeds have it where not all do."""
    value, deviation, count = summary[name], summary[f"{name}_sd"], summary[f"{name}_n"]
    text = show_score(value)
    if not missing(value) and not missing(deviation):
        text += f" ± {deviation:.2f}" if abs(value) >= 1 else f" ± {show_score(deviation)}"
    return Cell(text + (f" ({count}/{summary['n']})" if 0 < count < summary["n"] else ""), _key(value))


def _rate_cell(summary: Mapping[str, Any]) -> Cell:
    """With the deviation over seeds, or for a single one half of its own 95 % interval; starred where doubtful."""
    rate, deviation = summary["train_images_per_second"], summary["train_images_per_second_sd"]
    error = summary["train_images_per_second_error"] if missing(deviation) else deviation
    text = show_rate(rate) + ("" if missing(rate) or missing(error) else f" ± {show_rate(error)}")
    return Cell(f"{text} *" if summary["flags"] else text, _key(rate))


# --- pictures and machines --------------------------------------------------------------------------------------------


def _galleries(rows: Sequence[Row], neighbours: bool) -> list[Gallery]:
    """The sample grids of rows that finished, by dataset, each with real images of that dataset."""
    datasets: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in _shown(_trained(rows)):
        datasets[row.spec["dataset"], row.spec["dataset_sha256"]].append(row)
    galleries = []
    for (name, sha256), own in datasets.items():
        dataset = cached_dataset(sha256)
        tiles = [_tile(row, dataset if neighbours else None) for row in own]
        real = as_picture(grid(real_images(dataset))) if dataset else None
        reason = "" if dataset else f"The images of {name} are not in this machine's cache, so none stand here."
        galleries.append(Gallery(name, real, reason, tiles))
    return galleries


def _tile(row: Row, dataset: PreparedDataset | None) -> Tile:
    """A row's sample grid, and with a dataset the nearest of its images."""
    run = row.finished[0]
    about = f"seed {run.spec['seed']}, {show_plain(run.training.get('kimg', run.spec['kimg']))} kimg"
    try:
        images = sample_images(run)
    except RecordError as error:
        return Tile(row.id, row.label, about, None, reason=str(error))
    tile = Tile(row.id, row.label, about, as_picture(grid(images)))
    if dataset is None:
        return tile
    if images.shape[1:] != dataset.image_shape:
        sides = (" x ".join(map(str, shape)) for shape in (images.shape[1:], dataset.image_shape))
        return replace(tile, reason="its images are {}, and the real ones {}: none is looked for".format(*sides))
    return replace(tile, neighbours=as_picture(neighbour_grid(images, dataset)))


def _shown(rows: Sequence[Row]) -> list[Row]:
    """At most `SHOWN_GRIDS` rows, in their order: from each dataset in turn, one of each variant before a second."""
    variants: dict[tuple[str, str], int] = defaultdict(int)
    places: dict[tuple[str, int], int] = defaultdict(int)
    turns = []
    for index, row in enumerate(rows):
        dataset, variant = row.spec["dataset_sha256"], row.spec["variant"]
        again = variants[dataset, variant]
        variants[dataset, variant] += 1
        turns.append((again, places[dataset, again], index))
        places[dataset, again] += 1
    return [rows[index] for index in sorted(index for _, _, index in sorted(turns)[:SHOWN_GRIDS])]


def _trained(rows: Sequence[Row]) -> list[Row]:
    """The rows that have samples: those of a speed measurement alone have none."""
    return [row for row in rows if row.finished and row.spec["kimg"]]


def _machines(records: Sequence[RunRecord]) -> dict[str, dict[str, list[str]]]:
    """For each hardware every fact of machine and software, with each value that its records hold."""
    machines: dict[str, dict[str, list[str]]] = {}
    for record in records:
        facts = machines.setdefault(record.spec["hardware"], {})
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


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else "–" if value is None else json.dumps(value)
