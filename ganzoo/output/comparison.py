"""Comparisons as people read them: a table for each dataset, matched machines, two runs side by side."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.measure import measure_renderables
from rich.table import Table

from ganzoo.comparing.baseline import pair_lines, with_baseline
from ganzoo.comparing.diff import RecordDiff, change_of, mixed_states
from ganzoo.comparing.differences import BROUGHT_ALONG, disagreements
from ganzoo.comparing.filters import sort_each
from ganzoo.comparing.rows import by_dataset, comparison, same_settings, score_of_column, shown_protocols
from ganzoo.errors import UnknownName
from ganzoo.output.console import missing, safe, show_duration, show_memory, show_plain, show_rate, show_score
from ganzoo.output.tables import batch_size_used, simple_table
from ganzoo.records.protocols import protocol_words
from ganzoo.runs import RunRecord
from ganzoo.util.text import did_you_mean, printable

if TYPE_CHECKING:
    import pandas

    from ganzoo.util.significance import Direction

Column = tuple[str, Callable[[Mapping[str, Any]], str]]
"""The head of a column, and its cell for a row."""


EXTRAS: dict[str, tuple[str, Callable[[float], str]]] = {
    "mfu": ("MFU", lambda share: "–" if missing(share) else f"{share:.0%}"),
    "energy_joules_per_kimg": ("J/kimg", show_rate),
}
"""Columns that are shown where some row has a value, each with its head and how it reads."""

SETTINGS = ("dataset", "image_size", "kimg", "batch_size", "precision", "hardware")
"""What stands above a comparison where all rows agree in it, and in a column of its own where they do not."""

SHORT = {"batch_size": "batch", "image_size": "size", "git": "commit"}
"""Settings whose column has a shorter head than their name."""


def comparison_tables(
    records: Sequence[RunRecord],
    better: Mapping[str, Direction],
    *,
    target_fid: float | None = None,
    baseline: str | None = None,
    sort: str | None = None,
    width: int | None = None,
) -> list[Table]:
    """A table for each dataset and image size, or two where one does not fit into `width` characters.

    `better` says in which direction each score is.

    Raises `UnknownName` for a baseline or a column to sort by that no table has.
    """
    parts = by_dataset(records)
    variants = {record.spec["variant"] for record in records}
    if baseline is not None and baseline not in variants:
        known = did_you_mean(baseline, variants)
        raise UnknownName(f"--baseline {printable(baseline)}: no row is of that variant{known}")
    summaries = [comparison(part, better, target_fid) for part in parts]
    for index, part in enumerate(parts):
        if baseline in set(summaries[index]["variant"]):
            summaries[index] = with_baseline(summaries[index], part, str(baseline))
    notes = [notes_of(summary, part) for summary, part in zip(summaries, parts, strict=True)]
    if sort is not None:
        summaries = sort_each(summaries, sort)
    return [
        table
        for summary, part, lines in zip(summaries, parts, notes, strict=True)
        for table in comparison_table(summary, shown_protocols(part), lines, width)
    ]


RANK = "rank, on each hardware: 1 + the rows that are better beyond chance (Welch's test; 5 % false discoveries)"

MOST_APART = 5
"""Lines of a table that say what keeps rows of one variant apart."""


def notes_of(summary: pandas.DataFrame, records: Sequence[RunRecord]) -> list[str]:
    """What is to be said of a table's rows: whether their differences are real, and why some were not merged."""
    lines, rows = [], same_settings(records)
    scores = [name for name in summary.attrs["scores"] if _any(summary, name)]
    if any(_any(summary, f"{name}_rank") for name in scores):
        lines.append(RANK)
    elif scores and len(summary) > 1 and (summary[[f"{name}_n" for name in scores]] <= 1).all(axis=None):
        lines.append("one seed each: nothing can be said of which of two scores is better; run more with --seeds")
    if "baseline" not in summary.attrs:
        lines += pair_lines(summary, rows)
    shrunk = [run.spec for run in records if run.ok and run.spec.get("requested_batch_size") is not None]
    lines += dict.fromkeys(f"{spec['variant']}: batch size {batch_size_used(spec)}" for spec in shrunk)
    return lines + _kept_apart([runs[0] for runs in rows])[:MOST_APART] + _mixed_rows(rows)[:MOST_APART]


def _kept_apart(examples: Sequence[RunRecord]) -> list[str]:
    """Why a variant has several rows: in what those on one machine disagree, then those on all machines."""
    lines = []
    for variant in dict.fromkeys(run.spec["variant"] for run in examples):
        machines: dict[str, list[RunRecord]] = defaultdict(list)
        for run in examples:
            if run.spec["variant"] == variant:
                machines[run.spec["hardware"]].append(run)
        apart = [disagreements(runs) for runs in machines.values()]
        if len(machines) > 1:
            apart.append(disagreements([run for runs in machines.values() for run in runs], ("seed", *BROUGHT_ALONG)))
        lines += [f"not merged: {variant}, {', '.join(found[:4])}" for found in apart if found]
    return list(dict.fromkeys(lines))


def _mixed_rows(rows: Sequence[Sequence[RunRecord]]) -> list[str]:
    """Rows whose seeds were run in several states of the code or the machine; the mean is one over these, too."""
    lines: dict[str, list[str]] = defaultdict(list)
    for runs in rows:
        for name, found in mixed_states(runs).items():
            lines[f"seeds differ in {name} ({', '.join(found[:4])})"].append(runs[0].spec["variant"])
    return [f"{', '.join(dict.fromkeys(variants))}: {line}" for line, variants in lines.items()]


def matched_tables(
    summary: pandas.DataFrame, records: Sequence[RunRecord], *, sort: str | None = None, width: int | None = None
) -> list[Table]:
    """A table for each dataset and image size of what `ganzoo.comparing.machines.by_hardware` gives; two where one is
    too wide.

    The baseline's row is the first in each cell, unless sorted. Raises `UnknownName` for a column that is not there.
    """
    parts = by_dataset(records)
    summaries = [_part_of(summary, part[0].spec) for part in parts]
    explained = (
        f"ratio: of images/s to those of {summary.attrs['baseline']}, bootstrap 95 % interval over runs and windows",
        "per peak: the same, each rate as a share of the peak that was measured in its own run",
    )
    notes = [[*explained, *notes_of(own, part)] for own, part in zip(summaries, parts, strict=True)]
    if sort is not None:
        summaries = sort_each(summaries, sort)
    return [
        table
        for own, part, lines in zip(summaries, parts, notes, strict=True)
        for table in comparison_table(own, shown_protocols(part), lines, width)
    ]


def _part_of(summary: pandas.DataFrame, spec: Mapping[str, Any]) -> pandas.DataFrame:
    """The rows of one dataset and image size, with the scores that these have."""
    part = summary[(summary["dataset"] == spec["dataset"]) & (summary["image_size"] == spec["image_shape"][1])]
    part = part.reset_index(drop=True)
    part.attrs = {**summary.attrs, "scores": [name for name in summary.attrs["scores"] if _any(part, name)]}
    return part


def comparison_table(
    summary: pandas.DataFrame,
    protocols: Mapping[str, Mapping[str, Any]],
    notes: Sequence[str] = (),
    width: int | None = None,
) -> list[Table]:
    """A comparison as a table, with its protocols, any failures and `notes` underneath.

    Where it would have to break words to fit into `width` characters there are two: the scores and what they cost, and
    the speed.
    """
    settings = [(SHORT.get(name, name.replace("_", " ")), partial(_setting, name=name)) for name in _varying(summary)]
    scores = [*_score_columns(summary), *_target_columns(summary)]
    asked = _any(summary, "ratio") or bool(_target_columns(summary))
    updates = ("updates D/G", lambda row: updates_of(row["discriminator_updates"], row["generator_updates"]))
    matched = "normalized_ratio" in summary.columns
    ratio = "ratio" if matched else f"of {summary.attrs.get('baseline')}"
    speed: list[Column] = [
        ("images/s", rate_with_error),
        *([(ratio, partial(_ratio, name="ratio"))] if _any(summary, "ratio") else ()),
        *([("per peak", partial(_ratio, name="normalized_ratio"))] if matched else ()),
        # What was asked for takes the place of these and of the updates.
        *([] if asked else [("samples/s", lambda row: show_rate(row["sample_images_per_second"]))]),
        ("memory", lambda row: show_memory(row["peak_memory_bytes"])),
        *_extra_columns(summary),
    ]
    cost: list[Column] = [
        *([] if asked else [updates]),
        ("train time", lambda row: show_duration(row["train_seconds"])),
    ]
    halves = [[*scores, *cost], speed]
    together = [*scores, *speed, *cost]
    if matched:
        # Speed is what machines are compared for.
        halves, together = [speed, [*scores, *cost]], [*speed, *scores, *cost]
    parts = [[together], halves] if scores else [[together]]
    titles = {title for name, title in summary.attrs["titles"].items() if title != score_of_column(name)}
    ways = [(some, WHOLE | titles) for some in parts] + [(parts[-1], WHOLE - MAY_FOLD | titles)]
    for some, whole in ways:
        tables = [_filled(summary, settings, columns, whole) for columns in some]
        if width is None or max(map(_least_width, tables)) <= width:
            break
    lines = [f"{identity}: {protocol_words(content)}" for identity, content in protocols.items()]
    failed = [row for row in summary.to_dict("records") if isinstance(row["error"], str)]
    lines += [*dict.fromkeys(f"{row['variant']}: {row['error']}" for row in failed), *flag_lines(summary)]
    tables[-1].caption = "\n".join(safe(line) for line in [*lines, *notes])
    return tables


def _least_width(table: Table) -> int:
    """How many characters a table takes if no word breaks; a column that does not wrap takes all of its widest cell."""
    console = Console(width=10_000)
    told = [measure_renderables(console, console.options, [one.header, *one.cells]) for one in table.columns]
    widths = [size.maximum if one.no_wrap else size.minimum for one, size in zip(table.columns, told, strict=True)]
    return sum(widths) + PADDING * (len(widths) + 1)


PADDING = 2
"""Characters between two columns, and at either end."""


MAY_FOLD = frozenset({"ratio", "per peak", "hardware", "commit"})

WHOLE = MAY_FOLD | {"images/s", "memory"}
"""Columns whose cells are kept on one line, those of `MAY_FOLD` where there is room; and so are scores with a title."""


def _filled(
    summary: pandas.DataFrame, settings: Sequence[Column], columns: Sequence[Column], whole: Container[str]
) -> Table:
    """A table of the variants with these columns; a row whose runs have all failed says how."""
    table = _titled_table(summary)
    table.add_column("variant", style="bold", no_wrap=True)
    for head, _ in settings:
        table.add_column(safe(head), overflow="fold", no_wrap=head in whole)
    for head, _ in columns:
        table.add_column(safe(head), justify="right", overflow="fold", no_wrap=head in whole)
    table.add_column("seeds", justify="right")
    for row in summary.to_dict("records"):
        cells = [safe(row["variant"]), *(show(row) for _, show in settings)]
        if row["n"]:
            cells += [show(row) for _, show in columns]
        else:
            cells += [f"[red]{safe(row['failed'])}[/red]", *[""] * (len(columns) - 1)]
        cells.append(f"{row['n']}" + (f" [red]({safe(row['failed'])})[/red]" if row["failed"] and row["n"] else ""))
        table.add_row(*cells)
    return table


def flag_lines(summary: pandas.DataFrame) -> list[str]:
    """What the stars mean: each reason to doubt a rate, with the rows it is of."""
    several = summary["hardware"].nunique() > 1
    reasons: dict[str, list[str]] = defaultdict(list)
    for row in summary.to_dict("records"):
        if row["flags"]:
            name = f"{row['variant']} ({row['hardware']})" if several else row["variant"]
            reasons[row["flags"]].append(name)
    return [f"* {', '.join(dict.fromkeys(names))}: {reason}" for reason, names in reasons.items()]


def _titled_table(summary: pandas.DataFrame) -> Table:
    """An empty table with what all rows agree in above it."""
    varying = _varying(summary)
    shared = [name for name in SETTINGS if name not in varying]
    title = ", ".join(f"{name.replace('_', ' ')} {show_plain(summary[name].iloc[0])}" for name in shared)
    return Table(
        box=box.SIMPLE_HEAD, title=safe(title), title_justify="left", caption_justify="left", collapse_padding=True
    )


def _setting(row: Mapping[str, Any], name: str) -> str:
    return safe(show_plain(row[name]))


def _extra_columns(summary: pandas.DataFrame) -> list[Column]:
    return [
        (head, lambda row, name=name, show=show: show(row[name]))  # type: ignore[misc]
        for name, (head, show) in EXTRAS.items()
        if summary[name].notna().any()
    ]


def _score_columns(summary: pandas.DataFrame) -> list[Column]:
    """The scores; before each protocol of the first with ranks these, behind each its difference from a baseline."""
    columns: list[Column] = []
    ranked = next((score_of_column(name) for name in summary.attrs["scores"] if _any(summary, f"{name}_rank")), None)
    for name, head in score_heads(summary).items():
        if score_of_column(name) == ranked and _any(summary, f"{name}_rank"):
            columns.append(("rank", partial(rank_of, name=name)))
        columns.append((head, partial(score_over_seeds, name=name)))
        if _any(summary, f"{name}_difference"):
            columns.append((f"{head} − {summary.attrs['baseline']}", partial(_difference, name=name)))
    return columns


def score_heads(summary: pandas.DataFrame) -> dict[str, str]:
    """The head of each score's column, with the protocol's id only where a score has several."""
    names: list[str] = summary.attrs["scores"]
    counts = Counter(map(score_of_column, names))
    titles: dict[str, str] = summary.attrs["titles"]
    return {
        name: titles[name] if counts[score_of_column(name)] == 1 else f"{titles[name]} {name.partition(' ')[2]}"
        for name in names
    }


def _target_columns(summary: pandas.DataFrame) -> list[Column]:
    columns: list[Column] = []
    for name, head in score_heads(summary).items():
        if f"{name}_target" in summary.columns:
            goal = f"to {head} ≤ {summary[f'{name}_target'].iloc[0]:g}"
            columns += [
                (f"kimg {goal}", partial(_target, name=name, figure="kimg", show=show_rate)),
                (f"time {goal}", partial(_target, name=name, figure="seconds", show=show_duration)),
            ]
            if _any(summary, f"{name}_target_joules"):
                columns.append((f"J {goal}", partial(_target, name=name, figure="joules", show=show_rate)))
    return columns


def _any(summary: pandas.DataFrame, name: str) -> bool:
    return name in summary.columns and bool(summary[name].notna().any())


def rank_of(row: Mapping[str, Any], name: str) -> str:
    """The rank of a score, or a dash."""
    rank = row[f"{name}_rank"]
    return str(rank) if isinstance(rank, int) else "–"


def _difference(row: Mapping[str, Any], name: str) -> str:
    """A difference with its interval and p-value; alone where one seed says nothing of its spread."""
    difference, low, high, p_value = (row.get(f"{name}_difference{part}") for part in ("", "_low", "_high", "_p"))
    if missing(difference):
        return "–"
    if missing(p_value):
        return f"{difference:+.3g}"
    return f"{difference:+.3g} [{low:.3g}, {high:.3g}], p {p_value:.2g}".replace("[", "\\[")


def _ratio(row: Mapping[str, Any], name: str) -> str:
    ratio, low, high = (row[f"{name}{part}"] for part in ("", "_low", "_high"))
    if missing(ratio):
        return "–"
    return f"{ratio:.3g}" if missing(low) else f"{ratio:.3g} \\[{low:.3g}, {high:.3g}]"


def _target(row: Mapping[str, Any], name: str, figure: str, show: Callable[[float], str]) -> str:
    """What it took to come to the target, and how many of the seeds that were scored did."""
    scored, reached = row[f"{name}_target_scored"], row[f"{name}_target_reached"]
    if not reached:
        return ("not reached" if scored else "not scored") if figure == "kimg" else ""
    text = _with_deviation(row[f"{name}_target_{figure}"], row[f"{name}_target_{figure}_sd"], show)
    return f"{text} ({reached}/{scored})" if reached < scored else text


def _varying(summary: pandas.DataFrame) -> list[str]:
    """The columns that tell the rows apart. Devices and threads go with the hardware, unless one has several."""
    varying = [name for name in SETTINGS if summary[name].nunique() > 1]
    varying += [name for name in ("device", "threads") if (summary.groupby("hardware")[name].nunique() > 1).any()]
    varying += ["git"] * ("git" in summary.columns and summary["git"].nunique() > 1)
    return varying + ["differs"] * bool((summary["differs"] != "").any())


def score_over_seeds(row: Mapping[str, Any], name: str) -> str:
    """A mean with its deviation, and of how many of the finished seeds where the score is missing in some."""
    count, finished = row[f"{name}_n"], row["n"]
    # With as many digits as the score itself.
    show_like = show_score if missing(row[name]) or abs(row[name]) < 1 else "{:.2f}".format
    text = _with_deviation(row[name], row[f"{name}_sd"], show_like)
    return f"{text} ({count}/{finished})" if 0 < count < finished else text


def rate_with_error(row: Mapping[str, Any]) -> str:
    """A rate with its deviation over seeds, or for a single one with its own interval; starred where it is doubtful."""
    rate, deviation = row["train_images_per_second"], row["train_images_per_second_sd"]
    error = row["train_images_per_second_error"] if missing(deviation) else deviation
    text = _with_deviation(rate, error, show_rate)
    return f"{text} *" if row["flags"] else text


def _with_deviation(value: float, deviation: float, show: Callable[[float], str]) -> str:
    return show(value) if missing(deviation) or missing(value) else f"{show(value)} ± {show(deviation)}"


def updates_of(discriminator: float, generator: float) -> str:
    """Optimizer steps of both players, `625/125`."""
    return "–" if missing(discriminator) else f"{discriminator:,.0f}/{generator:,.0f}"


def diff_tables(diff: RecordDiff, names: tuple[str, str]) -> Iterator[Table | str]:
    """Two records side by side: a table for each part that differs, and the figures with how they moved."""
    parts = [part for part in ("hardware", "software", "flags", "plugins", "settings") if getattr(diff, part)]
    for part in parts:
        rows = [(name, *map(show_any, sides)) for name, sides in getattr(diff, part).items()]
        yield simple_table(("", *names), rows, part)
    if not parts:
        yield "machine, software, flags, plugins and settings are the same"
    rows = [
        (name, *map(show_any, sides), "–" if (change := change_of(*sides)) is None else f"{change:+.1%}")
        for name, sides in diff.figures.items()
    ]
    yield simple_table(("", *names, "change"), rows, "figures")


def show_any(value: Any) -> str:
    """A value of a record: numbers with six digits, what is missing as a dash."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.6g}"
    return value if isinstance(value, str) else json.dumps(value)
