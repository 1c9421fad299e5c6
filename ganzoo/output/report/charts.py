"""The charts of a report as plain data: which records are drawn, where, and under which protocol.

Nothing here knows how a page looks. Each function gives one `Chart`; each `Panel` of it is one choice of what to draw
(a protocol, a dataset, a variant), so that what cannot be compared is never drawn in one pair of axes.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ganzoo.comparing.comparison import Comparison
from ganzoo.comparing.differences import BROUGHT_ALONG, differences
from ganzoo.comparing.figures import OverSeeds
from ganzoo.comparing.rows import Row, settings_key
from ganzoo.comparing.scores import leading_score, protocols_of, scores_of
from ganzoo.output.console import missing
from ganzoo.records.points import ScoreKey
from ganzoo.records.protocols import distinctions, is_log, protocol_words, title_of
from ganzoo.records.settings import setting
from ganzoo.runs import RunRecord
from ganzoo.util.significance import Direction


@dataclass(frozen=True)
class PageRow:
    """A row of the page: its `id` there, and its runs by seed."""

    id: str
    row: Row

    @property
    def label(self) -> str:
        """What figures and pictures call it."""
        return self.row.label

    @property
    def finished(self) -> list[RunRecord]:
        """The runs that finished, in the order of their seeds."""
        return sorted(self.row.finished, key=_seed)

    @property
    def failed(self) -> list[RunRecord]:
        """The runs that did not, in the order of their seeds."""
        return sorted(self.row.unfinished, key=_seed)

    @property
    def spec(self) -> Mapping[str, Any]:
        """The spec of the first run; the others differ in the seed only."""
        return (*self.finished, *self.failed)[0].spec

    def setting(self, name: str) -> Any:
        """A field of the spec."""
        return setting(self.spec, name)


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
class Chart:
    """`choice` says what its panels are; `empty` why there is none."""

    id: str
    title: str
    explanation: str
    choice: str
    empty: str
    panels: list[Panel]


def page_rows(comparison: Comparison) -> list[PageRow]:
    """The rows of a comparison as the page has them, in their order."""
    return [PageRow(f"r{index}", row) for index, row in enumerate(comparison.rows)]


def _seed(record: RunRecord) -> int:
    return int(setting(record.spec, "seed"))


def report_charts(rows: Sequence[PageRow], doubtful: bool = False) -> list[Chart]:
    """Every figure of the page, in order; with `doubtful` a speed that is doubtful may be on the Pareto front."""
    records = [record for row in rows for record in row.finished]
    scores = scores_of(records)
    protocols = protocols_of(records, scores)
    # A score without its protocol is in no figure: nothing says with what it may be compared.
    leading, way = leading_score(records)
    drawn = sorted((score for score in scores if score.protocol in protocols), key=lambda score: score.name != leading)
    return [
        score_against_kimg(rows, drawn, protocols),
        score_against_seconds(rows, drawn, protocols),
        pareto(rows, [score for score in drawn if score.name == leading], protocols, way, doubtful),
        rate_over_batch(rows),
        loss_curves(rows),
    ]


# --- scores -----------------------------------------------------------------------------------------------------------

Protocols = Mapping[str, Mapping[str, Any]]


def _titles(scores: Sequence[ScoreKey], protocols: Protocols) -> str:
    """`FID and other scores`, by the first of the scores."""
    titles = list(dict.fromkeys(title_of(score.name, protocols[score.protocol]) for score in scores))
    return f"{titles[0]} and other scores" if len(titles) > 1 else next(iter(titles), "Scores")


def score_against_kimg(rows: Sequence[PageRow], scores: Sequence[ScoreKey], protocols: Protocols) -> Chart:
    """Each evaluation of each row: the mean over seeds, in a band of one standard deviation."""
    return Chart(
        "score-kimg",
        f"{_titles(scores, protocols)} against kimg",
        "The mean over the seeds at each evaluation; the band is one standard deviation either side, where there are "
        "several seeds.",
        "Score and protocol",
        "No finished run was scored.",
        _score_panels(rows, scores, protocols, KIMG, lambda entry, run: entry["kimg"]),
    )


def score_against_seconds(rows: Sequence[PageRow], scores: Sequence[ScoreKey], protocols: Protocols) -> Chart:
    """The same against the time of the training loop, where a record has it."""
    return Chart(
        "score-seconds",
        f"{_titles(scores, protocols)} against seconds of training",
        "The time is that of the training loop on the hardware of the run, evaluation left out. A record without the "
        "time of each evaluation has its last point only.",
        "Score and protocol",
        "The records hold no training time for their scores.",
        _score_panels(rows, scores, protocols, Axis("seconds of training"), seconds_of),
    )


def seconds_of(entry: Mapping[str, Any], run: RunRecord) -> float | None:
    """Seconds of training when a score was taken; None where the record does not tell."""
    if entry.get("train_seconds") is not None:
        return float(entry["train_seconds"])
    at_the_end = entry["kimg"] == run.training.get("kimg")
    return run.training.get("train_seconds") if at_the_end else None


def _score_panels(
    rows: Sequence[PageRow],
    scores: Sequence[ScoreKey],
    protocols: Protocols,
    axis: Axis,
    place: Callable[[Mapping[str, Any], RunRecord], float | None],
) -> list[Panel]:
    """A panel for each protocol; `place(entry, run)` is where an evaluation stands on the axis, None for nowhere."""
    panels = []
    for score in scores:
        series = []
        for row, hue, again in _styled(rows):
            evaluations: dict[float, list[tuple[float, float]]] = defaultdict(list)
            for run in row.finished:
                for entry in run.scores:
                    x, y = place(entry, run), entry["value"]
                    if (entry["metric"], entry["protocol"]) == score and x is not None and y is not None:
                        evaluations[entry["kimg"]].append((x, y))
            points = [list(zip(*seeds, strict=True)) for _, seeds in sorted(evaluations.items())]
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
            panels.append(_score_panel(score, protocols, axis, series))
    return panels


def _bound(values: Sequence[float], sign: int) -> float | None:
    return statistics.mean(values) + sign * statistics.stdev(values) if len(values) > 1 else None


def _score_panel(score: ScoreKey, protocols: Protocols, axis: Axis, series: list[Series]) -> Panel:
    content = protocols[score.protocol]
    name = title_of(score.name, content)
    apart = distinctions(protocols)[score.protocol] or f"{content.get('n_fake')} fakes"
    label = f"{name}, {content.get('dataset')}, {apart}"
    # A band that reaches zero has no place on a logarithmic axis.
    drawn = [value for each in series for value in (*each.y, *each.low) if value is not None]
    log = is_log(score.name, content) and min(drawn) > 0
    words = f"{name}: {protocol_words(content)} ({score.protocol})."
    return Panel(label, words, axis, Axis(f"{name} (logarithmic)" if log else name, log=log), series)


def _styled(rows: Iterable[PageRow]) -> Iterator[tuple[PageRow, int, int]]:
    """Rows with the number of their variant, which gives the hue, and their own among its rows on one dataset."""
    variants: dict[str, int] = {}
    seen: dict[tuple[str, str], int] = defaultdict(int)
    for row in rows:
        index = variants.setdefault(row.setting("variant"), len(variants))
        again = seen[row.setting("variant"), row.setting("dataset")]
        seen[row.setting("variant"), row.setting("dataset")] += 1
        yield row, index, again


def pareto(
    rows: Sequence[PageRow],
    scores: Sequence[ScoreKey],
    protocols: Protocols,
    better: Direction,
    doubtful: bool = False,
) -> Chart:
    """The leading score, by each of its protocols, against the training rate; for each hardware the rows that no other
    beats in both. A row whose speed is doubtful neither beats another nor is on the front, unless `doubtful`.
    """
    sign = 1 if better == "lower" else -1
    title = next((title_of(score.name, protocols[score.protocol]) for score in scores), "Score")
    stars = not doubtful and any(row.row.speed_is_doubtful for row in rows)
    left_out = "A rate that has a star in the table is doubtful, and on no front. " if stars else ""
    panels = []
    budgets: dict[tuple[ScoreKey, float], dict[str, list[PageRow]]] = {}
    for score in scores:
        for row in rows:
            if row.row.scores[score].values and _rate(row).values:
                machines = budgets.setdefault((score, row.row.settings["kimg"]), defaultdict(list))
                machines[row.row.settings["hardware"]].append(row)
    for (score, kimg), machines in budgets.items():
        series = []
        for hue, (hardware, there) in enumerate(machines.items()):
            points = [(_rate(row).mean, row.row.scores[score].mean, row) for row in there]
            sure = [index for index, row in enumerate(there) if doubtful or not row.row.speed_is_doubtful]
            front = [sure[place] for place in pareto_front([(points[i][0], sign * points[i][1]) for i in sure])]
            deviations = [row.row.scores[score].deviation for row in there]
            series.append(
                Series(
                    hardware,
                    x=[rate for rate, _, _ in points],
                    y=[value for _, value, _ in points],
                    low=[
                        None if missing(sd) else value - sd
                        for (_, value, _), sd in zip(points, deviations, strict=True)
                    ],
                    high=[
                        None if missing(sd) else value + sd
                        for (_, value, _), sd in zip(points, deviations, strict=True)
                    ],
                    rows=[row.id for row in there],
                    mode="markers",
                    hue=hue,
                    marker=hue,
                    labels=[row.setting("variant") if index in front else "" for index, row in enumerate(there)],
                    names=[row.label for row in there],
                    group=hardware,
                )
            )
            if not front:
                continue
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
        panel = _score_panel(score, protocols, axis, series)
        panels.append(replace(panel, label=f"{panel.label}, {kimg:g} kimg"))
    return Chart(
        "pareto",
        f"{title} against throughput",
        f"{better.capitalize()} and further right is better. The dashed line is the Pareto front of each hardware: the "
        "rows that no other on it beats in both. These carry their names. "
        f"{left_out}Bars are one standard deviation over seeds.",
        "Protocol and budget",
        "No finished run has both a score and a rate.",
        panels,
    )


def _rate(row: PageRow) -> OverSeeds:
    return row.row.figure("train_images_per_second")


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """The places of the points that no other beats: x as high as possible, y as low. In the order of x."""
    front: list[int] = []
    for index in sorted(range(len(points)), key=lambda place: (-points[place][0], points[place][1])):
        if not front or points[index][1] < points[front[-1]][1]:
            front.append(index)
    return front[::-1]


# --- speed and losses -------------------------------------------------------------------------------------------------

STEP_SETTINGS = ("variant", "hardware", "device", "precision", "threads", "step_mode", "memory_format")
"""What a line of the figure of rates is called by, where several lines of a variant differ in it."""

NOT_OF_THE_STEP = (*("batch_size", "requested_batch_size", "kimg", "continues", "throughput_seconds"),)
"""Fields of a spec that do not change what a step does to an image, or are the axis."""


def rate_over_batch(rows: Sequence[PageRow]) -> Chart:
    """The rate of the training step at each batch size that was measured."""
    datasets: dict[tuple[str, tuple[int, ...]], list[PageRow]] = defaultdict(list)
    for row in rows:
        datasets[row.setting("dataset"), tuple(row.setting("image_shape"))].append(row)
    panels = []
    for (dataset, shape), there in datasets.items():
        lines = _by_step(there)
        examples = [line[0][1] for line in lines]
        variants = list(dict.fromkeys(setting(run.spec, "variant") for run in examples))
        series = []
        for line, example in zip(lines, examples, strict=True):
            batches: dict[int, list[Part]] = defaultdict(list)
            for row, run in line:
                rates = run.throughput["train_images_per_second"]
                batches[setting(run.spec, "batch_size")].append(
                    Part(row.id, rates["median"], rates["low"], rates["high"])
                )
            by_size = sorted(batches.items())
            again = [other for other in examples if setting(other.spec, "variant") == setting(example.spec, "variant")]
            place = again.index(example)
            hue = variants.index(setting(example.spec, "variant"))
            series.append(
                Series(
                    _step_label(example, again),
                    x=[size for size, _ in by_size],
                    y=[statistics.mean(part.y for part in parts) for _, parts in by_size],
                    low=[min(part.low for part in parts) for _, parts in by_size],
                    high=[max(part.high for part in parts) for _, parts in by_size],
                    rows=[parts[0].row for _, parts in by_size],
                    parts=[parts for _, parts in by_size],
                    hue=hue,
                    marker=hue + place,
                    dash=place,
                )
            )
        if series:
            sizes = sorted({size for each in series for size in each.x})
            side = " x ".join(map(str, shape))
            hint = "" if len(sizes) > 1 else " One batch size only: “ganzoo bench --sweep-batch auto” measures more."
            lost = [f"{row.label} ended as {row.row.failed}" for row in there if row.failed]
            note = f"Training step on {dataset}, {side}.{hint}" + (f" {'; '.join(lost)}." if lost else "")
            axis = Axis("batch size (logarithmic)", log=True, ticks=sizes)
            rate = Axis("real images per second (logarithmic)", log=True)
            panels.append(Panel(f"{dataset}, {side}", note, axis, rate, series))
    return Chart(
        "rate-batch",
        "Throughput over batch size",
        "The median of the timed windows, the mean where several runs have measured it; the band is the widest of the "
        "runs' own 95 % intervals.",
        "Images",
        "No finished run has measured its speed.",
        panels,
    )


def _by_step(rows: Sequence[PageRow]) -> list[list[tuple[PageRow, RunRecord]]]:
    """The runs with a rate, each with its row, by what a step of theirs does to an image.

    Of the plugins only those count that all runs of one recipe drew on: a metric's is none of the step's, and a run
    that measured speed alone has not drawn on it.
    """
    recipes: dict[bytes, list[tuple[PageRow, RunRecord]]] = defaultdict(list)
    for row in rows:
        for run in row.finished:
            if run.throughput.get("train_images_per_second"):
                recipes[settings_key(_drawing_on(run, ()), NOT_OF_THE_STEP)].append((row, run))
    lines: dict[bytes, list[tuple[PageRow, RunRecord]]] = defaultdict(list)
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
    near = [other for other in others if setting(other.spec, "hardware") == setting(run.spec, "hardware")]
    details = []
    for name in STEP_SETTINGS[1:]:
        # What follows from the machine is said where one machine has several.
        among = near if name in BROUGHT_ALONG and name != "hardware" else others
        if len({str(setting(other.spec, name)) for other in among}) > 1:
            details.append(str(setting(run.spec, name)))
    alike = [
        other for other in others if all(setting(other.spec, name) == setting(run.spec, name) for name in STEP_SETTINGS)
    ]
    if len(alike) > 1:
        details.append(differences(alike)[alike.index(run)])
    return ", ".join([setting(run.spec, "variant"), *filter(None, details)])


def loss_curves(rows: Sequence[PageRow]) -> Chart:
    """Every term of the loss of every finished run, a panel for each row; seeds share a hue."""
    panels = []
    for row in rows:
        runs = [run for run in row.finished if "kimg" in (run.training.get("curves") or ())]
        terms = list(dict.fromkeys(term for run in runs for term in run.training["curves"] if term != "kimg"))
        series = [
            Series(
                term if len(runs) == 1 else f"{term}, seed {_seed(run)}",
                x=_rounded(run.training["curves"]["kimg"]),
                y=_rounded(run.training["curves"][term]),
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
            architecture, loss, dataset, batch = map(row.setting, ("architecture", "loss", "dataset", "batch_size"))
            note = f"{architecture} + {loss} on {dataset}, batch {batch}"
            seeds = ", ".join(str(_seed(run)) for run in runs)
            label = f"{row.label} on {dataset}"
            panels.append(Panel(label, f"{note}; seed {seeds}.", KIMG, Axis("term of the loss"), series, row.id))
    return Chart(
        "losses",
        "Loss curves",
        "Each point is the mean of a term since the last point. Losses of different objectives cannot be compared.",
        "Row",
        "No finished run has been trained.",
        panels,
    )


def _rounded(values: Sequence[float | None]) -> list[Any]:
    """Six significant digits: more than a screen can show, and half of the page's weight."""
    return [None if value is None else float(f"{value:.6g}") for value in values]
