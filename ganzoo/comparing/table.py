"""Records and comparisons as columns of plain values, and as the DataFrames of the Python API and of reporters."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ganzoo.comparing.figures import MEANS, UPDATES, figure_of
from ganzoo.comparing.rows import Ratio, Row, ScoreOverSeeds, error_message
from ganzoo.comparing.scores import ScoreKey, best_score, final_scores, scores_of, with_several_protocols
from ganzoo.comparing.settings import SETTINGS
from ganzoo.records.settings import setting
from ganzoo.runs import RunRecord

if TYPE_CHECKING:
    import pandas

    from ganzoo.comparing.comparison import Comparison

Cells = dict[str, Any]

OF_A_RECORD: Mapping[str, Callable[[RunRecord], Any]] = {
    "run_id": lambda record: record.run_id,
    "status": lambda record: record.status,
    **{
        name: (lambda record, name=name: setting(record.spec, name))  # type: ignore[misc]
        for name in (*SETTINGS[:5], "seed", *SETTINGS[5:])
    },
    **{
        name: (lambda record, name=name: figure_of(record, name))  # type: ignore[misc]
        for name in (*UPDATES, "train_seconds", *MEANS[:-3])
    },
    "flags": lambda record: "; ".join(record.throughput.get("flags") or ()),
    "error": error_message,
    "path": lambda record: str(record.path) if record.path else None,
}

OF_A_ROW: Mapping[str, Callable[[Row], Any]] = {
    **{name: (lambda row, name=name: row.settings[name]) for name in SETTINGS},  # type: ignore[misc]
    "differs": lambda row: row.differs,
    "n": lambda row: len(row.finished),
    "failed": lambda row: row.failed,
    "error": lambda row: row.error,
    "flags": lambda row: row.flags,
}

OF_A_SCORE: Mapping[str, Callable[[ScoreOverSeeds], Any]] = {
    "": lambda score: score.mean,
    "_sd": lambda score: score.deviation,
    "_n": lambda score: score.count,
    "_rank": lambda score: score.rank,
    "_best": lambda score: score.best.mean,
}

RATIOS: Mapping[str, Callable[[Row], Ratio | None]] = {
    "ratio": lambda row: row.ratio,
    "normalized_ratio": lambda row: row.ratio_per_peak,
}

VERSIONS = ("torch", "git")

RESERVED = {
    *(*OF_A_RECORD, *OF_A_ROW, *MEANS, *VERSIONS),
    *(f"{name}{bound}" for name in RATIOS for bound in ("", "_low", "_high")),
}
"""Names of columns that no score takes, as `precision` would; some are there with a baseline only."""

SUFFIXES = (
    *("_sd", "_n", "_rank", "_best", "_best_kimg"),
    *(f"_target{end}" for end in ("", "_scored", "_reached", "_kimg", "_seconds", "_joules")),
    *(f"_difference{end}" for end in ("", "_low", "_high", "_p")),
)
"""What the names of a score's further columns end in, and no score's name does: `fid_best` is the best FID."""


SPEED_OVER_SEEDS = "Mean of what the records have under `throughput`."
TRAINING_OVER_SEEDS = "Mean of what the records have under `training`."

MEANINGS: Mapping[str, Mapping[str, str]] = {
    "always": {
        **dict.fromkeys(SETTINGS, "Settings, as in the spec; `image_size` in pixels."),
        "differs": "What else sets the row apart from others of its variant and dataset.",
        "n": "Seeds that finished.",
        "failed": "How others ended, with commas between.",
        "error": "The first failed seed's message.",
        "flags": "What makes the speeds doubtful.",
        "SCORE": "Mean of the final scores.",
        "SCORE_sd": "Sample standard deviation over seeds.",
        "SCORE_n": "Finished seeds that have the score.",
        "SCORE_rank": "One more than the number of rows that are really better; absent where no direction is known.",
        "SCORE_best": "Mean of each run's best evaluation.",
        "train_images_per_second": "Mean of the runs' medians; real images.",
        "train_images_per_second_sd": "Sample standard deviation over seeds.",
        "train_images_per_second_error": "Half the width of a run's own 95 % interval, mean over seeds.",
        **dict.fromkeys(("sample_images_per_second", "peak_memory_bytes", "mfu"), SPEED_OVER_SEEDS),
        "energy_joules_per_kimg": SPEED_OVER_SEEDS,
        **dict.fromkeys((*UPDATES, "train_seconds"), TRAINING_OVER_SEEDS),
    },
    "target": {
        "SCORE_target": "The target.",
        "SCORE_target_scored": "Finished seeds with such a score.",
        "SCORE_target_reached": "Those of them that came to the target.",
        **dict.fromkeys(("SCORE_target_kimg", "SCORE_target_kimg_sd"), "Thousands of real images until then."),
        **dict.fromkeys(("SCORE_target_seconds", "SCORE_target_seconds_sd"), "Training seconds until then."),
        **dict.fromkeys(("SCORE_target_joules", "SCORE_target_joules_sd"), "Energy until then."),
    },
    "baseline": {
        "SCORE_difference": "Mean minus the baseline's.",
        **dict.fromkeys(("SCORE_difference_low", "SCORE_difference_high"), "Its bootstrap 95 % interval."),
        "SCORE_difference_p": "The p-value of Welch's test.",
        "ratio": "Of `train_images_per_second` to the baseline's.",
        **dict.fromkeys(("ratio_low", "ratio_high"), "Its bootstrap 95 % interval."),
    },
    "by hardware": {
        "torch": "The version of torch.",
        "git": "The commits of ganzoo.",
        "ratio": "Of `train_images_per_second` to the baseline machine's.",
        **dict.fromkeys(("ratio_low", "ratio_high"), "Its bootstrap 95 % interval."),
        "normalized_ratio": "The same, each rate divided by the peak measured in the same run.",
        **dict.fromkeys(("normalized_ratio_low", "normalized_ratio_high"), "Its bootstrap 95 % interval."),
    },
}
"""What each column holds, by what it is there for; `SCORE` stands for each score. The documentation shows this."""


def column_names(scores: Collection[ScoreKey]) -> dict[ScoreKey, str]:
    """The column of each score: its name, and the protocol's id where there are several.

    A score that is called like another column always has its protocol's id: `precision [precision-digits-cnn-…]`.
    """
    several = with_several_protocols(scores)

    def alone(name: str) -> bool:
        return name not in several and name not in RESERVED and not name.endswith(SUFFIXES)

    return {score: score.name if alone(score.name) else str(score) for score in scores}


def record_cells(record: RunRecord, columns: Mapping[ScoreKey, str]) -> Cells:
    """One row of `records_table`; `columns` has the column of each score, None stands where the record lacks it."""
    cells = {name: value(record) for name, value in OF_A_RECORD.items()}
    final = final_scores(record)
    for score, column in columns.items():
        entry = final.get(score)
        best = best_score(record, score, entry) if entry else {}
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
    """The rows of `comparison_frame`, all with the same columns in the same order."""
    differences = _difference_columns(comparison)
    return [dict(_comparison_cells(row, comparison, differences)) for row in comparison.rows]


def comparison_frame(comparison: Comparison) -> pandas.DataFrame:
    """One row for each row of the comparison, means over seeds; `attrs["scores"]` lists the columns of the scores."""
    import pandas

    rows = comparison_cells(comparison)
    ranks = {f"{column}_rank" for column in comparison.columns.values()}
    columns: dict[str, Any] = {name: [cells[name] for cells in rows] for name in (rows[0] if rows else ())}
    table = pandas.DataFrame(
        {name: pandas.array(values, "Int64") if name in ranks else values for name, values in columns.items()}
    )
    table.attrs["scores"] = list(comparison.columns.values())
    return table


Differences = Mapping[str, tuple[ScoreKey, str]]
"""The columns of differences from a baseline, each with its score and the part of the difference that it holds."""


def _difference_columns(comparison: Comparison) -> Differences:
    suffixes = {"value": "", "low": "_low", "high": "_high", "p": "_p"}
    parts = comparison.baseline.differences if comparison.baseline else ()
    return {f"{comparison.columns[score]}_difference{suffixes[part]}": (score, part) for score, part in parts}


def _comparison_cells(row: Row, comparison: Comparison, differences: Differences) -> Iterator[tuple[str, Any]]:
    for name, value in OF_A_ROW.items():
        yield name, value(row)
    for score, column in comparison.columns.items():
        for suffix, part in OF_A_SCORE.items():
            if suffix != "_rank" or score.name in comparison.better:
                yield f"{column}{suffix}", part(row.scores[score])
    for name in MEANS:
        figure = row.figure(name)
        yield name, figure.mean
        if name == "train_images_per_second":
            yield f"{name}_sd", figure.deviation
    for score in comparison.targets:
        yield from _target_cells(comparison.columns[score], row.scores[score])
    if comparison.by_hardware:
        yield from ((name, row.environment(name)) for name in VERSIONS)
        for name, ratio in RATIOS.items():
            yield from _ratio_cells(name, ratio(row))
    elif comparison.baseline is not None:
        yield from _ratio_cells("ratio", row.ratio)
        for name, (score, part_name) in differences.items():
            known = getattr(row.scores[score].difference, part_name, None)
            yield name, math.nan if known is None else known


def _target_cells(column: str, score: ScoreOverSeeds) -> Iterator[tuple[str, Any]]:
    """`_scored` counts the finished seeds with such a score, `_reached` those that came to the target; the rest are
    means over these."""
    target = score.target
    assert target is not None
    yield f"{column}_target", target.goal
    yield f"{column}_target_scored", target.scored
    yield f"{column}_target_reached", len(target.reached)
    for name in ("kimg", "seconds", "joules"):
        cost = target.cost(name)
        yield f"{column}_target_{name}", cost.mean
        yield f"{column}_target_{name}_sd", cost.deviation


def _ratio_cells(name: str, ratio: Ratio | None) -> Iterator[tuple[str, Any]]:
    values = (None, None, None) if ratio is None else (ratio.value, ratio.low, ratio.high)
    for bound, value in zip(("", "_low", "_high"), values, strict=True):
        yield f"{name}{bound}", math.nan if value is None else value
