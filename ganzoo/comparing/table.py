"""Records and comparisons for programs: columns of plain values, and the DataFrames of the API and of reporters.

Each column is declared once, with what it holds; the documentation's tables are made from the declarations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from ganzoo.comparing.comparison import Comparison
from ganzoo.comparing.figures import FIGURES, Figure, OverSeeds
from ganzoo.comparing.rows import Row, ScoreOverSeeds, error_message
from ganzoo.comparing.scores import best_score, scores_of, with_several_protocols
from ganzoo.comparing.settings import ROW_SETTINGS
from ganzoo.records.points import ScoreKey, final_scores
from ganzoo.records.settings import setting
from ganzoo.records.store import garbage_collection_paused
from ganzoo.runs import RunRecord, YardstickKind

if TYPE_CHECKING:
    import pandas

Cells = dict[str, Any]


@dataclass(frozen=True)
class DataColumn:
    """A column for programs: its name, or its suffix behind a score's name; what it holds; where the value is found."""

    name: str
    meaning: str
    value: Callable[[Any], Any]


def _part(name: str, meaning: str, attribute: str) -> DataColumn:
    """An attribute of what may be missing: NaN then."""

    def value(whole: object) -> Any:
        known = getattr(whole, attribute, None)
        return math.nan if known is None else known

    return DataColumn(name, meaning, value)


def _setting(name: str) -> DataColumn:
    meaning = "Settings, as in the spec; `image_size` in pixels."
    return DataColumn(name, meaning, lambda row: row.settings[name])


def _columns_of_figure(figure: Figure) -> Iterator[DataColumn]:
    name = figure.name
    yield DataColumn(name, figure.meaning, lambda row: row.figure(name).mean)
    if name == "train_images_per_second":
        deviation = "Sample standard deviation over seeds."
        yield DataColumn(f"{name}_sd", deviation, lambda row: row.figure(name).deviation)


def _environment(name: str, meaning: str) -> DataColumn:
    return DataColumn(name, meaning, lambda row: row.environment(name))


def _interval(name: str, meaning: str) -> tuple[DataColumn, ...]:
    """A value with the ends of its interval."""
    interval = "Its bootstrap 95 % interval."
    return (
        _part(name, meaning, "value"),
        _part(f"{name}_low", interval, "low"),
        _part(f"{name}_high", interval, "high"),
    )


def _end(name: str, place: int) -> DataColumn:
    """One end of the interval of a score's mean."""
    meaning = "The 95 % interval of the mean."
    return DataColumn(name, meaning, lambda score: score.interval[place] if score.interval else math.nan)


def _yardstick(name: str, meaning: str, kind: YardstickKind) -> DataColumn:
    """What the score of a row is held against."""

    def value(score: ScoreOverSeeds) -> float:
        measured = score.yardsticks.get(kind)
        return math.nan if measured is None else OverSeeds(measured.values).mean

    return DataColumn(name, meaning, value)


def _costs() -> Iterator[DataColumn]:
    meanings = {
        "kimg": "Thousands of real images until then.",
        "seconds": "Training seconds until then.",
        "joules": "Energy until then.",
    }
    for name, meaning in meanings.items():
        yield DataColumn(f"_target_{name}", meaning, lambda target, name=name: target.cost(name).mean)  # type: ignore[misc]
        yield DataColumn(f"_target_{name}_sd", meaning, lambda target, name=name: target.cost(name).deviation)  # type: ignore[misc]


OF_THE_SAMPLE = "The 95 % interval from the sample of one run, its ends' means over seeds."

OF_A_ROW = (
    *(_setting(each.name) for each in ROW_SETTINGS),
    DataColumn(
        "differs", "What else sets the row apart from others of its variant and dataset.", lambda row: row.differs
    ),
    DataColumn("n", "Seeds that finished.", lambda row: len(row.finished)),
    DataColumn("failed", "How others ended, with commas between.", lambda row: row.failed),
    DataColumn("error", "The first failed seed's message.", lambda row: row.error),
    DataColumn("flags", "What makes the speeds doubtful.", lambda row: row.flags),
)

OF_A_SCORE = (
    DataColumn("", "Mean of the final scores.", lambda score: score.mean),
    DataColumn("_sd", "Sample standard deviation over seeds.", lambda score: score.deviation),
    DataColumn("_n", "Finished seeds that have the score.", lambda score: score.count),
    _end("_low", 0),
    _end("_high", 1),
    DataColumn("_sample_low", OF_THE_SAMPLE, lambda score: score.sample_low.mean),
    DataColumn("_sample_high", OF_THE_SAMPLE, lambda score: score.sample_high.mean),
    DataColumn(
        "_not_told_apart",
        "Rows of its images, budget and hardware that only chance may set apart, with semicolons between.",
        lambda score: None if score.not_told_apart is None else "; ".join(score.not_told_apart),
    ),
    DataColumn("_best", "Mean of each run's best evaluation.", lambda score: score.best.mean),
    DataColumn(
        "_standing", "`not trained`, `still improving`, `past its best`, or empty.", lambda score: score.standing
    ),
    _yardstick("_real", "Of real images that are not in the reference, as many as are held out.", "real"),
    _yardstick("_pixel_gaussian", "Of draws from the Gaussian of the real pixels.", "pixel gaussian"),
    _yardstick("_untrained", "Of the generator before training, seed 0.", "untrained"),
)

FIGURE_COLUMNS = tuple(column for figure in FIGURES if figure.meaning for column in _columns_of_figure(figure))

OF_A_TARGET = (
    DataColumn("_target", "The target.", lambda target: target.goal),
    DataColumn("_target_scored", "Finished seeds with such a score.", lambda target: target.scored),
    DataColumn("_target_reached", "Those of them that came to the target.", lambda target: len(target.reached)),
    *_costs(),
)

OF_A_DIFFERENCE = (
    *_interval("_difference", "Mean minus the baseline's."),
    _part("_difference_p", "The p-value of Welch's test.", "p"),
)

VERSIONS = (
    _environment("torch", "The version of torch."),
    _environment("git", "The commits of ganzoo."),
)
RATIO = (
    *_interval("ratio", "Of `train_images_per_second` to the baseline's."),
    _part("ratio_in_turn", "Whether the two were measured in turn, and it is from pairs of windows.", "in_turn"),
)
RATIO_PER_PEAK = _interval("normalized_ratio", "The same, each rate divided by the peak measured in the same run.")


def _of_records() -> Iterator[DataColumn]:
    def setting_of(name: str) -> DataColumn:
        return DataColumn(name, "", lambda record: setting(record.spec, name))

    yield DataColumn("run_id", "", lambda record: record.run_id)
    yield DataColumn("status", "", lambda record: record.status)
    names = [each.name for each in ROW_SETTINGS]
    place = names.index("precision")
    yield from map(setting_of, (*names[:place], "seed", *names[place:]))
    for figure in sorted(FIGURES, key=lambda figure: not figure.of_training):
        if figure.meaning:
            yield DataColumn(figure.name, "", figure.of)
    yield DataColumn("flags", "", lambda record: "; ".join(record.throughput.get("flags") or ()))
    yield DataColumn("error", "", error_message)
    yield DataColumn("path", "", lambda record: str(record.path) if record.path else None)


OF_A_RECORD = tuple(_of_records())

COLUMN_NAMES = {
    column.name for column in (*OF_A_RECORD, *OF_A_ROW, *FIGURE_COLUMNS, *VERSIONS, *RATIO, *RATIO_PER_PEAK)
}
"""Names of columns that no score takes, as `precision` would; some are there with a baseline only."""

SUFFIXES = ("_best_kimg", *(column.name for column in (*OF_A_SCORE[1:], *OF_A_TARGET, *OF_A_DIFFERENCE)))
"""What the names of a score's further columns end in, and no score's name does: `fid_best` is the best FID."""


def meanings() -> dict[str, dict[str, str]]:
    """What each column of a comparison holds, by what it is there for; `SCORE` stands for each score."""

    def of(*columns: DataColumn, score: str = "") -> dict[str, str]:
        return {score + column.name: column.meaning for column in columns}

    return {
        "always": of(*OF_A_ROW) | of(*OF_A_SCORE, score="SCORE") | of(*FIGURE_COLUMNS),
        "target": of(*OF_A_TARGET, score="SCORE"),
        "baseline": of(*OF_A_DIFFERENCE, score="SCORE") | of(*RATIO),
        "by hardware": of(*VERSIONS, *RATIO, *RATIO_PER_PEAK),
    }


def column_names(scores: Collection[ScoreKey]) -> dict[ScoreKey, str]:
    """The column of each score: its name, and the protocol's id where there are several.

    A score that is called like another column always has its protocol's id: `precision [precision-digits-cnn-…]`.
    """
    several = with_several_protocols(scores)

    def alone(name: str) -> bool:
        return name not in several and name not in COLUMN_NAMES and not name.endswith(SUFFIXES)

    return {score: score.name if alone(score.name) else str(score) for score in scores}


def record_cells(record: RunRecord, columns: Mapping[ScoreKey, str]) -> Cells:
    """One row of `records_table`; `columns` has the column of each score, None stands where the record lacks it."""
    cells = {column.name: column.value(record) for column in OF_A_RECORD}
    final = final_scores(record)
    for score, column in columns.items():
        entry = final.get(score)
        best = best_score(record, score) if entry else {}
        cells[column] = entry and entry["value"]
        cells[f"{column}_best"], cells[f"{column}_best_kimg"] = best.get("value"), best.get("kimg")
    return cells


def records_table(records: Sequence[RunRecord]) -> pandas.DataFrame:
    """One row for each record: settings, status, final scores, throughput, memory. Scores are of the EMA generator
    where there is one; scores of different protocols never share a column. A run that did not finish has none.
    `SCORE_best` is the best of the run's evaluations, at `SCORE_best_kimg`.
    """
    import pandas

    columns = column_names(scores_of(records))
    table = pandas.DataFrame([record_cells(record, columns) for record in records])
    table.attrs["scores"] = list(columns.values())
    return table


def comparison_cells(comparison: Comparison) -> list[Cells]:
    """The rows of `comparison_table`, all with the same columns in the same order."""
    columns = _columns(comparison)
    return [{name: value(row) for name, value in columns.items()} for row in comparison.rows]


@garbage_collection_paused()
def comparison_table(comparison: Comparison) -> pandas.DataFrame:
    """One row for each row of the comparison, means over seeds; the columns are in docs/comparing.md.

    `attrs["scores"]` lists the columns of the scores.
    """
    import pandas

    rows = comparison_cells(comparison)
    scores = column_names(comparison.scores).values()
    table = pandas.DataFrame({name: [cells[name] for cells in rows] for name in (rows[0] if rows else ())})
    table.attrs["scores"] = list(scores)
    return table


Value = Callable[[Row], Any]


def _columns(comparison: Comparison) -> dict[str, Value]:
    """Each column of a comparison by its whole name, with its value for a row."""
    columns = _named(OF_A_ROW)
    scores = column_names(comparison.scores)
    for score, name in scores.items():
        columns |= _named(OF_A_SCORE, name, _entry(score))
    columns |= _named(FIGURE_COLUMNS)
    for score in comparison.targets:
        columns |= _named(OF_A_TARGET, scores[score], _entry(score, "target"))
    if comparison.by_hardware:
        per_peak = attrgetter("ratio_per_peak")
        return columns | _named(VERSIONS) | _named(RATIO, of=attrgetter("ratio")) | _named(RATIO_PER_PEAK, of=per_peak)
    if comparison.baseline is not None:
        columns |= _named(RATIO, of=attrgetter("ratio"))
        for score, name in scores.items():
            differences = _named(OF_A_DIFFERENCE, name, _entry(score, "difference"))
            known = {name for name, of in differences.items() if not all(map(math.isnan, map(of, comparison.rows)))}
            columns |= {name: of for name, of in differences.items() if name in known}
    return columns


def _named(
    columns: Iterable[DataColumn], prefix: str = "", of: Callable[[Row], Any] = lambda row: row
) -> dict[str, Value]:
    """Columns of a part of a row, which `of` finds, by their whole names."""
    return {prefix + column.name: (lambda row, value=column.value: value(of(row))) for column in columns}  # type: ignore[misc]


def _entry(score: ScoreKey, attribute: str = "") -> Callable[[Row], Any]:
    """A score of a row, or what it holds under `attribute`."""
    return lambda row: getattr(row.scores[score], attribute) if attribute else row.scores[score]
