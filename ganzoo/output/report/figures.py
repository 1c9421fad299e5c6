"""The figures of a report as plain data: which records are drawn, where, and under which protocol.

Nothing here knows how a page looks. Each function gives one `Figure`; each `Panel` of it is one choice of what to draw
(a protocol, a dataset, a variant), so that what cannot be compared is never drawn in one pair of axes.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ganzoo.comparing.differences import BROUGHT_ALONG, differences
from ganzoo.comparing.rows import comparison, leading_score, same_settings, score_columns, settings_key, shown_protocols
from ganzoo.records.protocols import distinctions, is_log, protocol_words, title_of
from ganzoo.records.settings import setting
from ganzoo.runs import RunRecord
from ganzoo.util.significance import Direction

LABELLING = ("image_size", "hardware", "kimg", "batch_size", "precision", "device", "threads")
"""What is added to a variant's name where two rows of one variant and dataset differ in it."""


@dataclass(frozen=True)
class Row:
    """One line of the comparison, and the runs behind it: `finished` and `failed`, each in the order of their seeds."""

    id: str
    label: str
    summary: Mapping[str, Any]
    finished: tuple[RunRecord, ...]
    failed: tuple[RunRecord, ...]

    @property
    def spec(self) -> Mapping[str, Any]:
        """The spec of the first run; the others differ in the seed only."""
        return (*self.finished, *self.failed)[0].spec


@dataclass(frozen=True)
class Part:
    """What one run gives to a point that is a mean over runs: the row that it is of, its y and its bounds."""

    row: str
    y: float
    low: float
    high: float


@dataclass(frozen=True)
class Series:
    """Points that belong together. `row` is the row they all come from; else `rows` has one for each point.

    `low` and `high` bound each y. `hue`, `marker` and `dash` count from 0. `labels` stand beside points, `names` say
    what a point is. With `step` the line goes up first, then right. Where points are means over rows, `parts` has for
    each what it is the mean of: what a filter leaves of them is the mean of the rows that are left.
    Series of one `group` have one entry in the legend, which is called so and hides them all.
    """

    name: str
    x: list[float]
    y: list[float]
    low: list[float | None] = field(default_factory=list)
    high: list[float | None] = field(default_factory=list)
    row: str = ""
    rows: list[str] = field(default_factory=list)
    parts: list[list[Part]] = field(default_factory=list)
    mode: str = "lines+markers"
    hue: int = 0
    marker: int = 0
    dash: int = 0
    labels: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    in_legend: bool = True
    group: str = ""
    step: bool = False


@dataclass(frozen=True)
class Axis:
    """`ticks` are given where only some values make sense."""

    title: str
    log: bool = False
    ticks: list[float] = field(default_factory=list)


KIMG = Axis("thousands of real images shown (kimg)")


@dataclass(frozen=True)
class Panel:
    """One choice of what a figure draws. `note` is its protocol; `row` the only row it is of, if it is of one."""

    label: str
    note: str
    x: Axis
    y: Axis
    series: list[Series]
    row: str = ""


@dataclass(frozen=True)
class Figure:
    """`choice` says what its panels are; `empty` why there is none."""

    id: str
    title: str
    explanation: str
    choice: str
    empty: str
    panels: list[Panel]


def report_rows(records: Sequence[RunRecord], better: Mapping[str, Direction] | None = None) -> list[Row]:
    """The lines of `comparison` with their runs: by dataset and budget, the best in the leading score first, failures
    last.
    """
    if not records:
        return []
    table = comparison(records, better)
    columns = score_columns(records)
    leading, way = leading_score(records)
    best = [column for (metric, _), column in columns.items() if metric == leading]
    sign = 1 if way == "lower" else -1

    def rank(entry: Mapping[str, Any]) -> tuple[Any, ...]:
        # Scores of two protocols are in no order: those of one come after those of the other.
        values = [(index, sign * entry[column]) for index, column in enumerate(best) if not math.isnan(entry[column])]
        place = (entry["dataset"], entry["image_size"], entry["kimg"])
        return *place, not entry["n"], *min(values, default=(len(best), math.inf)), entry["variant"]

    entries = [dict(line) for _, line in table.iterrows()]
    pairs = sorted(zip(entries, same_settings(records), strict=True), key=lambda pair: rank(pair[0]))
    labels = _labels([entry for entry, _ in pairs])
    return [
        Row(
            f"r{index}",
            label,
            entry,
            finished=tuple(sorted((run for run in group if run.ok), key=_seed)),
            failed=tuple(sorted((run for run in group if not run.ok), key=_seed)),
        )
        for index, (label, (entry, group)) in enumerate(zip(labels, pairs, strict=True))
    ]


def _seed(record: RunRecord) -> int:
    return int(record.spec["seed"])


def _labels(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """The variant, and whatever sets its rows on one dataset apart."""
    alike: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for entry in entries:
        alike[entry["variant"], entry["dataset"]].append(entry)
    return [_label(entry, alike[entry["variant"], entry["dataset"]]) for entry in entries]


def _label(entry: Mapping[str, Any], others: Sequence[Mapping[str, Any]]) -> str:
    units = {"image_size": "{} px", "kimg": "{:g} kimg", "batch_size": "batch {}", "threads": "{} threads"}
    names = [name for name in LABELLING if len({other[name] for other in others}) > 1]
    if "hardware" in names:  # they come with the machine
        names = [name for name in names if name not in ("device", "threads")]
    told = [units.get(name, "{}").format(entry[name]) for name in names]
    return ", ".join([entry["variant"], *told, *([entry["differs"]] if entry["differs"] else [])])


def report_figures(rows: Sequence[Row]) -> list[Figure]:
    """Every figure of the page, in order."""
    records = [record for row in rows for record in row.finished]
    protocols = shown_protocols(records)
    scores = {key: column for key, column in score_columns(records).items() if key[1] in protocols}
    leading, way = leading_score(records)
    ordered = dict(sorted(scores.items(), key=lambda item: item[0][0] != leading))
    return [
        score_against_kimg(rows, ordered, protocols),
        score_against_seconds(rows, ordered, protocols),
        pareto(rows, ordered, protocols, leading, way),
        rate_over_batch(rows),
        loss_curves(rows),
    ]


# --- scores -----------------------------------------------------------------------------------------------------------

Columns = Mapping[tuple[str, str], str]
Protocols = Mapping[str, Mapping[str, Any]]


def score_against_kimg(rows: Sequence[Row], columns: Columns, protocols: Protocols) -> Figure:
    """Each evaluation of each row: the mean over seeds, in a band of one standard deviation."""
    return Figure(
        "score-kimg",
        f"{_leading_title(columns, protocols)} against kimg",
        "The mean over the seeds at each evaluation; the band is one standard deviation either side, where there are "
        "several seeds.",
        "Score and protocol",
        "No finished run was scored.",
        _score_panels(rows, columns, protocols, KIMG, lambda score, run: score["kimg"]),
    )


def score_against_seconds(rows: Sequence[Row], columns: Columns, protocols: Protocols) -> Figure:
    """The same against the time of the training loop, where a record has it."""
    return Figure(
        "score-seconds",
        f"{_leading_title(columns, protocols)} against seconds of training",
        "The time is that of the training loop on the hardware of the run, evaluation left out. A record without the "
        "time of each evaluation has its last point only.",
        "Score and protocol",
        "The records hold no training time for their scores.",
        _score_panels(rows, columns, protocols, Axis("seconds of training"), seconds_of),
    )


def _leading_title(columns: Columns, protocols: Protocols) -> str:
    """`FID and other scores`, by the first of the columns."""
    titles = list(dict.fromkeys(title_of(metric, protocols[protocol]) for metric, protocol in columns))
    return f"{titles[0]} and other scores" if len(titles) > 1 else next(iter(titles), "Scores")


def seconds_of(score: Mapping[str, Any], run: RunRecord) -> float | None:
    """Seconds of training when a score was taken; None where the record does not tell."""
    if score.get("train_seconds") is not None:
        return float(score["train_seconds"])
    at_the_end = score["kimg"] == run.training.get("kimg")
    return run.training.get("train_seconds") if at_the_end else None


def _score_panels(
    rows: Sequence[Row],
    columns: Columns,
    protocols: Protocols,
    axis: Axis,
    place: Callable[[Mapping[str, Any], RunRecord], float | None],
) -> list[Panel]:
    """A panel for each protocol; `place(score, run)` is where an evaluation stands on the axis, None for nowhere."""
    panels = []
    for metric, protocol in columns:
        series = []
        for row, hue, again in _styled(rows):
            evaluations: dict[float, list[tuple[float, float]]] = defaultdict(list)
            for run in row.finished:
                for score in run.scores:
                    x, y = place(score, run), score["value"]
                    if (score["metric"], score["protocol"]) == (metric, protocol) and x is not None and y is not None:
                        evaluations[score["kimg"]].append((x, y))
            points = [list(zip(*found, strict=True)) for _, found in sorted(evaluations.items())]
            if points:
                series.append(
                    Series(
                        row.label,
                        x=[statistics.mean(xs) for xs, _ in points],
                        y=[statistics.mean(ys) for _, ys in points],
                        low=[_bound(ys, -1) for _, ys in points],
                        high=[_bound(ys, +1) for _, ys in points],
                        row=row.id,
                        hue=hue,
                        marker=hue + again,
                        dash=again,
                    )
                )
        if series:
            panels.append(_score_panel(metric, protocol, protocols, axis, series))
    return panels


def _bound(values: Sequence[float], sign: int) -> float | None:
    return statistics.mean(values) + sign * statistics.stdev(values) if len(values) > 1 else None


def _score_panel(metric: str, protocol: str, protocols: Protocols, axis: Axis, series: list[Series]) -> Panel:
    content = protocols[protocol]
    name = title_of(metric, content)
    apart = distinctions(protocols)[protocol] or f"{content.get('n_fake')} fakes"
    label = f"{name}, {content.get('dataset')}, {content.get('extractor')}, {apart}"
    # A band that reaches zero has no place on a logarithmic axis.
    drawn = [value for each in series for value in (*each.y, *each.low) if value is not None]
    log = is_log(metric, content) and min(drawn) > 0
    words = f"{name}: {protocol_words(content)} ({protocol})."
    return Panel(label, words, axis, Axis(f"{name} (logarithmic)" if log else name, log=log), series)


def _styled(rows: Iterable[Row]) -> Iterator[tuple[Row, int, int]]:
    """Rows with the number of their variant, which gives the hue, and their own among its rows on one dataset."""
    variants: dict[str, int] = {}
    seen: dict[tuple[str, str], int] = defaultdict(int)
    for row in rows:
        index = variants.setdefault(row.spec["variant"], len(variants))
        again = seen[row.spec["variant"], row.spec["dataset"]]
        seen[row.spec["variant"], row.spec["dataset"]] += 1
        yield row, index, again


def pareto(rows: Sequence[Row], columns: Columns, protocols: Protocols, leading: str, better: Direction) -> Figure:
    """The final leading score against the training rate; for each hardware the rows that no other beats in both."""
    panels = []
    sign = 1 if better == "lower" else -1
    title = next((title_of(leading, protocols[protocol]) for metric, protocol in columns if metric == leading), "Score")
    budgets: dict[tuple[str, str, float], dict[str, list[Row]]] = {}
    for (metric, protocol), column in columns.items():
        for row in rows if metric == leading else ():
            if not any(_missing(row.summary[name]) for name in (column, "train_images_per_second")):
                machines = budgets.setdefault((protocol, column, row.summary["kimg"]), defaultdict(list))
                machines[row.summary["hardware"]].append(row)
    for (protocol, column, kimg), machines in budgets.items():
        series = []
        for hue, (hardware, own) in enumerate(machines.items()):
            points = [(row.summary["train_images_per_second"], row.summary[column], row) for row in own]
            front = pareto_front([(rate, sign * value) for rate, value, _ in points])
            deviations = [row.summary.get(f"{column}_sd") for row in own]
            series.append(
                Series(
                    hardware,
                    x=[rate for rate, _, _ in points],
                    y=[value for _, value, _ in points],
                    low=[
                        None if _missing(sd) else value - sd
                        for (_, value, _), sd in zip(points, deviations, strict=True)
                    ],
                    high=[
                        None if _missing(sd) else value + sd
                        for (_, value, _), sd in zip(points, deviations, strict=True)
                    ],
                    rows=[row.id for row in own],
                    mode="markers",
                    hue=hue,
                    marker=hue,
                    labels=[row.spec["variant"] if index in front else "" for index, row in enumerate(own)],
                    names=[row.label for row in own],
                    group=hardware,
                )
            )
            corners = [points[index] for index in front]
            series.append(
                Series(
                    f"{hardware}, front",
                    x=[rate for rate, _, _ in corners],
                    y=[value for _, value, _ in corners],
                    rows=[row.id for _, _, row in corners],
                    mode="lines",
                    hue=hue,
                    dash=1,
                    names=[row.label for _, _, row in corners],
                    in_legend=False,
                    group=hardware,
                    step=True,
                )
            )
        axis = Axis("training step, real images per second (logarithmic)", log=True)
        panel = _score_panel(leading, protocol, protocols, axis, series)
        panels.append(replace(panel, label=f"{panel.label}, {kimg:g} kimg"))
    return Figure(
        "pareto",
        f"{title} against throughput",
        f"{better.capitalize()} and further right is better. The dashed line is the Pareto front of each hardware: the "
        "rows that no other on it beats in both. These carry their names. Bars are one standard deviation over seeds.",
        "Protocol and budget",
        "No finished run has both a score and a rate.",
        panels,
    )


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """The places of the points that no other beats: x as high as possible, y as low. In the order of x."""
    front: list[int] = []
    for index in sorted(range(len(points)), key=lambda place: (-points[place][0], points[place][1])):
        if not front or points[index][1] < points[front[-1]][1]:
            front.append(index)
    return front[::-1]


def _missing(value: Any) -> bool:
    return value is None or math.isnan(value)


# --- speed and losses -------------------------------------------------------------------------------------------------

STEP = ("variant", "hardware", "device", "precision", "threads", "step_mode", "memory_format")
"""What a line of the figure of rates is called by, where several lines of a variant differ in it."""

NOT_OF_THE_STEP = (
    *("batch_size", "requested_batch_size", "kimg", "evaluate_at_kimg", "continues"),
    *("metrics", "features", "weights_sha256", "fakes", "throughput_seconds"),
)
"""Fields of a spec that do not change what a step does to an image, or are the axis."""


def rate_over_batch(rows: Sequence[Row]) -> Figure:
    """The rate of the training step at each batch size that was measured."""
    datasets: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        datasets[row.spec["dataset"], tuple(row.spec["image_shape"])].append(row)
    panels = []
    for (dataset, shape), own in datasets.items():
        lines = _by_step(own)
        examples = [line[0][1] for line in lines]
        variants = list(dict.fromkeys(run.spec["variant"] for run in examples))
        series = []
        for line, example in zip(lines, examples, strict=True):
            batches: dict[int, list[Part]] = defaultdict(list)
            for row, run in line:
                rates = run.throughput["train_images_per_second"]
                batches[setting(run.spec, "batch_size")].append(
                    Part(row.id, rates["median"], rates["low"], rates["high"])
                )
            found = sorted(batches.items())
            again = [other for other in examples if other.spec["variant"] == example.spec["variant"]]
            place = again.index(example)
            hue = variants.index(example.spec["variant"])
            series.append(
                Series(
                    _step_label(example, again),
                    x=[size for size, _ in found],
                    y=[statistics.mean(part.y for part in parts) for _, parts in found],
                    low=[min(part.low for part in parts) for _, parts in found],
                    high=[max(part.high for part in parts) for _, parts in found],
                    rows=[parts[0].row for _, parts in found],
                    parts=[parts for _, parts in found],
                    hue=hue,
                    marker=hue + place,
                    dash=place,
                )
            )
        if series:
            sizes = sorted({size for each in series for size in each.x})
            side = " x ".join(map(str, shape))
            hint = "" if len(sizes) > 1 else " One batch size only: “ganzoo bench --sweep-batch auto” measures more."
            lost = [f"{row.label} ended as {row.summary['failed']}" for row in own if row.summary["failed"]]
            note = f"Training step on {dataset}, {side}.{hint}" + (f" {'; '.join(lost)}." if lost else "")
            axis = Axis("batch size (logarithmic)", log=True, ticks=sizes)
            rate = Axis("real images per second (logarithmic)", log=True)
            panels.append(Panel(f"{dataset}, {side}", note, axis, rate, series))
    return Figure(
        "rate-batch",
        "Throughput over batch size",
        "The median of the timed windows, the mean where several runs have measured it; the band is the widest of the "
        "runs' own 95 % intervals.",
        "Images",
        "No finished run has measured its speed.",
        panels,
    )


def _by_step(rows: Sequence[Row]) -> list[list[tuple[Row, RunRecord]]]:
    """The runs with a rate, each with its row, by what a step of theirs does to an image.

    Of the plugins only those count that all runs of one recipe drew on: a metric's is none of the step's, and a run
    that measured speed alone has not drawn on it.
    """
    recipes: dict[bytes, list[tuple[Row, RunRecord]]] = defaultdict(list)
    for row in rows:
        for run in row.finished:
            if run.throughput.get("train_images_per_second"):
                recipes[settings_key(_drawing_on(run, ()), NOT_OF_THE_STEP)].append((row, run))
    lines: dict[bytes, list[tuple[Row, RunRecord]]] = defaultdict(list)
    for alike in recipes.values():
        drawn = [set(plugins) for _, run in alike if (plugins := (run.environment or {}).get("plugins"))]
        shared = set.intersection(*drawn) if drawn else set()
        for row, run in alike:
            lines[settings_key(_drawing_on(run, shared), NOT_OF_THE_STEP)].append((row, run))
    return list(lines.values())


def _drawing_on(run: RunRecord, names: Container[str]) -> RunRecord:
    """A record that tells of no other plugins."""
    environment = run.environment or {}
    plugins = {name: facts for name, facts in (environment.get("plugins") or {}).items() if name in names}
    return replace(run, environment={**environment, "plugins": plugins})


def _step_label(run: RunRecord, others: Sequence[RunRecord]) -> str:
    """The variant, and what sets its steps apart from those of the other lines: the machine, else the recipe."""
    near = [other for other in others if other.spec["hardware"] == run.spec["hardware"]]
    told = []
    for name in STEP[1:]:
        # What follows from the machine is told where one machine has several.
        among = near if name in BROUGHT_ALONG and name != "hardware" else others
        if len({str(setting(other.spec, name)) for other in among}) > 1:
            told.append(str(setting(run.spec, name)))
    alike = [other for other in others if all(setting(other.spec, name) == setting(run.spec, name) for name in STEP)]
    if len(alike) > 1:
        told.append(differences(alike)[alike.index(run)])
    return ", ".join([run.spec["variant"], *filter(None, told)])


def loss_curves(rows: Sequence[Row]) -> Figure:
    """Every term of the loss of every finished run, a panel for each row; seeds share a hue."""
    panels = []
    for row in rows:
        runs = [run for run in row.finished if "kimg" in (run.training.get("curves") or ())]
        terms = list(dict.fromkeys(term for run in runs for term in run.training["curves"] if term != "kimg"))
        series = [
            Series(
                term if len(runs) == 1 else f"{term}, seed {run.spec['seed']}",
                x=_short(run.training["curves"]["kimg"]),
                y=_short(run.training["curves"][term]),
                row=row.id,
                mode="lines",
                hue=hue,
                dash=hue,
                in_legend=place == 0,
                group=term,
            )
            for hue, term in enumerate(terms)
            for place, run in enumerate(run for run in runs if term in run.training["curves"])
        ]
        if series:
            spec = row.spec
            note = (
                f"{setting(spec, 'architecture')} + {setting(spec, 'loss')} on {spec['dataset']}, "
                f"batch {setting(spec, 'batch_size')}"
            )
            seeds = ", ".join(str(run.spec["seed"]) for run in runs)
            label = f"{row.label} on {spec['dataset']}"
            panels.append(Panel(label, f"{note}; seed {seeds}.", KIMG, Axis("term of the loss"), series, row.id))
    return Figure(
        "losses",
        "Loss curves",
        "Each point is the mean of a term since the last point. Losses of different objectives cannot be compared.",
        "Row",
        "No finished run has been trained.",
        panels,
    )


def _short(values: Sequence[float | None]) -> list[Any]:
    """Six significant digits: more than a screen can show, and half of the page's weight."""
    return [None if value is None else float(f"{value:.6g}") for value in values]
