"""Records to tables: one row for each record, or one for each variant × dataset × settings × hardware over seeds."""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from ganzoo.comparing.differences import differences
from ganzoo.records.protocols import direction_of, title_of
from ganzoo.records.settings import setting, spec_over_seeds
from ganzoo.records.store import many_objects
from ganzoo.registry.registry import Registry
from ganzoo.runs import RunRecord
from ganzoo.util.significance import Direction, ranks

if TYPE_CHECKING:
    import pandas

SETTINGS = ("variant", "dataset", "image_size", "kimg", "batch_size", "precision", "device", "threads", "hardware")
"""Records that agree in these, and whose specs otherwise differ in the seed only, are one row of a comparison."""

RACE = ("dataset", "image_size", "kimg")
"""Rows that agree in these had the same images and the same budget. Ranks are among those of one hardware, too, for a
variant that ran on several would count as several."""

FIGURES: dict[str, Direction] = {
    "train_images_per_second": "higher",
    "sample_images_per_second": "higher",
    "peak_memory_bytes": "lower",
    "mfu": "higher",
    "energy_joules_per_kimg": "lower",
    "train_seconds": "lower",
}
"""The figures of a comparison beside its scores, and in which direction each is better."""


MEANS = (
    "train_images_per_second",
    "train_images_per_second_error",
    "sample_images_per_second",
    "peak_memory_bytes",
    "mfu",
    "energy_joules_per_kimg",
    "generator_updates",
    "discriminator_updates",
    "train_seconds",
)
"""What a comparison gives the mean of, beside the scores."""

TAKEN = {
    *(*SETTINGS, *MEANS, "run_id", "status", "seed", "path", "flags", "error", "differs", "n", "failed"),
    *(f"{kind}ratio{end}" for kind in ("", "normalized_") for end in ("", "_low", "_high")),
    *("torch", "git", "row"),
}
"""Names of columns that no score takes, as `precision` would; some come later, with a baseline or in a leaderboard."""

OF_A_SCORE = (
    *("_sd", "_n", "_rank", "_best", "_best_kimg"),
    *(f"_target{end}" for end in ("", "_scored", "_reached", "_kimg", "_seconds", "_joules")),
    *(f"_difference{end}" for end in ("", "_low", "_high", "_p")),
)
"""What the names of a score's further columns end in, and no score's own does: `fid_best` is the best FID."""


def score_directions(registry: Registry) -> dict[str, Direction]:
    """In which direction each score is better, by the metrics of all plugins."""
    return {score: way for offer in registry.offers["metrics"] for score, way in offer.record.better.items()}


def by_dataset(records: Sequence[RunRecord]) -> list[list[RunRecord]]:
    """The records of each dataset and image size: no score of one stands beside one of another."""
    parts: dict[tuple[str, int], list[RunRecord]] = defaultdict(list)
    for record in records:
        parts[record.spec["dataset"], record.spec["image_shape"][1]].append(record)
    return list(parts.values())


def score_columns(records: Sequence[RunRecord]) -> dict[tuple[str, str], str]:
    """The column of each (score, protocol): the score's name, and the protocol's id where there are several.

    A score that is called like another column always has its protocol's id: `precision [precision-digits-cnn-…]`.
    """
    protocols: dict[str, list[str]] = defaultdict(list)
    for record in records:
        for score in _final_scores(record):
            if score["protocol"] not in protocols[score["metric"]]:
                protocols[score["metric"]].append(score["protocol"])

    def alone(metric: str) -> bool:
        return len(protocols[metric]) == 1 and metric not in TAKEN and not metric.endswith(OF_A_SCORE)

    return {
        (metric, protocol): metric if alone(metric) else f"{metric} [{protocol}]"
        for metric, found in protocols.items()
        for protocol in found
    }


def score_titles(records: Sequence[RunRecord]) -> dict[str, str]:
    """What heads each column of `score_columns`, by the protocols of the records."""
    protocols = shown_protocols(records)
    return {
        column: title_of(score, protocols.get(protocol, {}))
        for (score, protocol), column in score_columns(records).items()
    }


def leading_score(records: Sequence[RunRecord]) -> tuple[str, Direction]:
    """The score that the most finished runs have, the first recorded of several, and which way it is better.

    Where there is none the name is empty. A score whose protocol gives no direction is taken to be better when lower.
    """
    counts = Counter(name for record in records for name in {score["metric"]: None for score in _final_scores(record)})
    if not counts:
        return "", "lower"
    leading = max(counts, key=lambda name: counts[name])
    protocols = shown_protocols(records)
    ways = [direction_of(leading, protocols.get(own, {})) for name, own in score_columns(records) if name == leading]
    return leading, next(filter(None, ways), "lower")


def score_of_column(column: str) -> str:
    """The score's name in a column of `score_columns`."""
    return column.partition(" ")[0]


def shown_protocols(records: Sequence[RunRecord]) -> dict[str, Any]:
    """The protocols of the scores that a comparison shows, from id to content."""
    shown = {protocol for _, protocol in score_columns(records)}
    protocols = {identity: content for record in records for identity, content in record.protocols.items()}
    return {identity: protocols[identity] for identity in protocols if identity in shown}


def records_table(records: Sequence[RunRecord]) -> pandas.DataFrame:
    """One row for each record: settings, status, final scores, throughput, memory. Scores are of the EMA generator
    where there is one; scores of different protocols never share a column. A run that did not finish has none.
    `SCORE_best` is the best of the run's evaluations, at `SCORE_best_kimg`.
    """
    import pandas

    columns = score_columns(records)
    names = [name for column in columns.values() for name in (column, f"{column}_best", f"{column}_best_kimg")]
    rows = []
    for record in records:
        spec, training, throughput = record.spec, record.training or {}, record.throughput or {}
        updates = training.get("updates") or {}
        row: dict[str, Any] = {
            "run_id": record.run_id,
            "status": record.status,
            "variant": spec["variant"],
            "dataset": spec["dataset"],
            "image_size": spec["image_shape"][1],
            "kimg": spec["kimg"],
            "batch_size": setting(spec, "batch_size"),
            "seed": spec["seed"],
            "precision": spec["precision"],
            "device": spec["device"],
            "threads": spec["threads"],
            "hardware": spec["hardware"],
            "generator_updates": updates.get("generator"),
            "discriminator_updates": updates.get("discriminator"),
            "train_seconds": training.get("train_seconds"),
            "train_images_per_second": _median(throughput, "train_images_per_second"),
            "train_images_per_second_error": _half_width(throughput, "train_images_per_second"),
            "sample_images_per_second": _median(throughput, "sample_images_per_second"),
            "peak_memory_bytes": throughput.get("peak_memory_bytes"),
            "mfu": throughput.get("mfu"),
            "energy_joules_per_kimg": throughput.get("energy_joules_per_kimg"),
            "flags": "; ".join(throughput.get("flags") or ()),
            "error": (record.error or {}).get("message"),
            "path": str(record.path) if record.path else None,
        }
        row |= dict.fromkeys(names)
        for score in _final_scores(record):
            column = columns[score["metric"], score["protocol"]]
            best: Mapping[str, Any] = (training.get("best") or {}).get(
                f"{score['metric']}/{'ema' if score['ema'] else 'raw'}"
            ) or {}
            row[column] = score["value"]
            row[f"{column}_best"], row[f"{column}_best_kimg"] = best.get("value"), best.get("kimg")
        rows.append(row)
    table = pandas.DataFrame(rows)
    table.attrs["scores"] = list(columns.values())
    return table


@many_objects()
def comparison(
    records: Sequence[RunRecord],
    better: Mapping[str, Direction] | None = None,
    target_fid: float | None = None,
) -> pandas.DataFrame:
    """One row for each variant × dataset × settings × hardware; means over seeds.

    `n` counts the seeds that finished and `failed` names how others ended; `SCORE` is the mean, `SCORE_sd` the sample
    standard deviation over seeds (NaN for one), `SCORE_n` the number of seeds that have the score and `SCORE_best` the
    mean of the best evaluations. Rows whose specs or code differ in anything but the seed are kept apart, and
    `differs` says what sets those of one variant on one dataset apart, beside the columns and what a machine brings
    along: `optimizer.learning_rate=0.0004`. `train_images_per_second_error` is half the width of a run's own 95 %
    interval, and `flags` what makes its speed doubtful.

    With `better`, from score to direction, `SCORE_rank` is the rank among the rows of the same images, budget and
    hardware (see `ganzoo.util.significance.ranks`), missing where there is one seed. With `target_fid` the columns of
    `ganzoo.comparing.targets` are there too. The rows are in the order of `same_settings`.
    """
    import pandas

    rows = same_settings(records)
    table = records_table([record for runs in rows for record in runs])
    scores: list[str] = table.attrs["scores"]
    if table.empty:
        return table
    row = pandas.Series([index for index, runs in enumerate(rows) for _ in runs])
    finished = table["status"] == "ok"
    summary = table.loc[~row.duplicated(), [*SETTINGS]].reset_index(drop=True)
    summary["differs"] = _differences(rows)
    summary["n"] = finished.groupby(row).sum()
    summary["failed"] = [", ".join(sorted({record.status for record in runs if not record.ok})) for runs in rows]
    summary["error"] = [next((_message(record) for record in runs if not record.ok), None) for runs in rows]
    flags = table["flags"].where(finished, "").groupby(row)
    summary["flags"] = flags.agg(lambda found: "; ".join(_worst_flags(filter(None, found))))

    measures = [name for score in scores for name in (score, f"{score}_best")] + list(MEANS)
    values = table[measures].apply(pandas.to_numeric).astype(float).where(finished)
    seeds = values.groupby(row)
    means, deviations, counts = seeds.mean(), seeds.std(), seeds.count()
    more: dict[str, Any] = {}
    for name in scores:
        more[name], more[f"{name}_sd"], more[f"{name}_n"] = means[name], deviations[name], counts[name]
        if better and (way := better.get(score_of_column(name))):
            more[f"{name}_rank"] = _ranks(summary, _per_row(values[name], row), way)
        more[f"{name}_best"] = means[f"{name}_best"]
    for name in MEANS:
        more[name] = means[name]
        if name == "train_images_per_second":
            more[f"{name}_sd"] = deviations[name]
    if target_fid is not None:
        more |= targets_over_seeds(rows, _fid_columns(records), target_fid)
    summary = pandas.concat([summary, pandas.DataFrame(more)], axis=1)
    summary.attrs["scores"] = scores
    summary.attrs["titles"] = score_titles(records)
    return summary


def same_settings(records: Sequence[RunRecord]) -> list[list[RunRecord]]:
    """The records of each row of a comparison: alike in all but the seed, one for each seed, in order of appearance.

    A run that was done again stands for the attempts that failed before it.
    """
    rows: dict[bytes, dict[int, RunRecord]] = defaultdict(dict)
    for record in records:
        seeds = rows[settings_key(record)]
        seed = record.spec["seed"]
        if seed not in seeds or (record.ok and not seeds[seed].ok):
            seeds[seed] = record
    return [list(seeds.values()) for seeds in rows.values()]


def seed_scores(runs: Sequence[RunRecord], metric: str, protocol: str) -> list[float]:
    """The final values of a score over the runs of a row, without those that have none."""
    return [
        score["value"]
        for record in runs
        for score in _final_scores(record)
        if (score["metric"], score["protocol"]) == (metric, protocol) and score["value"] is not None
    ]


def _differences(rows: Sequence[Sequence[RunRecord]]) -> list[str]:
    """What sets each row apart from the others of its variant and dataset."""
    texts = [""] * len(rows)
    alike: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, (example, *_) in enumerate(rows):
        alike[example.spec["variant"], example.spec["dataset"]].append(index)
    for indexes in alike.values():
        if len(indexes) > 1:
            for index, text in zip(indexes, differences([rows[index][0] for index in indexes]), strict=True):
                texts[index] = text
    return texts


NUMBER = re.compile(r"\d+(?:\.\d+)?")


def _worst_flags(texts: Iterable[str]) -> list[str]:
    """Of flags that say the same with other numbers, over the seeds of a row, those with the largest."""
    worst: dict[str, tuple[list[float], str]] = {}
    for flag in (flag for text in texts for flag in text.split("; ")):
        kind, numbers = NUMBER.sub("#", flag), [float(number) for number in NUMBER.findall(flag)]
        if kind not in worst or numbers > worst[kind][0]:
            worst[kind] = (numbers, flag)
    return [flag for _, flag in worst.values()]


def _per_row(values: pandas.Series, row: pandas.Series) -> list[list[float]]:
    """The values that are there, by rows."""
    held: list[list[float]] = [[] for _ in range(row.iloc[-1] + 1)]
    for index, value in zip(row, values, strict=True):
        if value == value:
            held[index].append(value)
    return held


def _ranks(summary: pandas.DataFrame, samples: Sequence[Sequence[float]], better: Direction) -> pandas.Series:
    """The rank of each row among those it races with on its hardware; missing where it has none."""
    import pandas

    found = pandas.Series(pandas.NA, index=summary.index, dtype="Int64")
    for indexes in summary.groupby([*RACE, "hardware"]).indices.values():
        for index, rank in zip(indexes, ranks([samples[index] for index in indexes], better), strict=True):
            found[index] = pandas.NA if rank is None else rank
    return found


def _fid_columns(records: Sequence[RunRecord]) -> dict[str, str]:
    """The column of each protocol of the FID."""
    return {protocol: column for (metric, protocol), column in score_columns(records).items() if metric == "fid"}


def settings_key(record: RunRecord, ignored: Container[str] = ()) -> bytes:
    """All that a run is but its seed: the spec without the `ignored` fields, and the code that ran it."""
    environment = record.environment or {}
    plugins = {name: facts.get("source_sha256") for name, facts in (environment.get("plugins") or {}).items()}
    spec = {name: value for name, value in spec_over_seeds(record.spec).items() if name not in ignored}
    return orjson.dumps(
        [spec, plugins, environment.get("torch"), environment.get("ganzoo")],
        option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS,
    )


def _message(record: RunRecord) -> str | None:
    return (record.error or {}).get("message")


def _final_scores(record: RunRecord) -> list[Any]:
    """The scores at the end of the budget, of the averaged generator where there is one.

    None where the run did not finish: what it scored on the way is no result of the budget.
    """
    if not record.ok or not record.scores:
        return []
    last = max(score["kimg"] for score in record.scores)
    final = [score for score in record.scores if score["kimg"] == last]
    averaged = [score for score in final if score["ema"]]
    return averaged or final


def _half_width(throughput: Any, key: str) -> float | None:
    summary = throughput.get(key)
    return (summary["high"] - summary["low"]) / 2 if summary else None


def _median(throughput: Any, key: str) -> float | None:
    summary = throughput.get(key)
    return summary["median"] if summary else None


@dataclass(frozen=True)
class Reached:
    """The first evaluation of a run at or below the target.

    `kimg` is in thousands of real images, `seconds` is training time with the evaluations off the clock, `joules` is
    `kimg` times the energy per kimg that was measured before the training. None where the record does not hold it.
    """

    kimg: float
    seconds: float | None
    joules: float | None


def first_at_or_below(record: RunRecord, protocol: str, target: float) -> Reached | None:
    """The first evaluation under `protocol` whose score is at or below `target`; None where there is none.

    Nothing is interpolated between evaluations.
    """
    found = [
        score
        for score in record.scores
        if score["protocol"] == protocol and score["value"] is not None and score["value"] <= target
    ]
    if not found:
        return None
    first = min(found, key=lambda score: score["kimg"])
    per_kimg = record.throughput.get("energy_joules_per_kimg")
    joules = None if per_kimg is None else per_kimg * first["kimg"]
    return Reached(first["kimg"], first.get("train_seconds"), joules)


def targets_over_seeds(
    rows: Sequence[Sequence[RunRecord]], columns: Mapping[str, str], target: float
) -> dict[str, list[Any]]:
    """For each FID column, by protocol, what a comparison says of the target, a value for each row.

    `FID_target_scored` counts the finished seeds with such a score and `FID_target_reached` those that came to the
    target; `FID_target_kimg`, `_seconds` and `_joules` are means over these, with `_sd`, NaN where no seed has it.
    """
    found: dict[str, list[Any]] = {}
    for protocol, column in columns.items():
        scored = [
            [record for record in runs if record.ok and any(score["protocol"] == protocol for score in record.scores)]
            for runs in rows
        ]
        reached = [
            [point for record in runs if (point := first_at_or_below(record, protocol, target)) is not None]
            for runs in scored
        ]
        found[f"{column}_target"] = [target] * len(rows)
        found[f"{column}_target_scored"] = [len(runs) for runs in scored]
        found[f"{column}_target_reached"] = [len(points) for points in reached]
        for name in ("kimg", "seconds", "joules"):
            values = [_known(getattr(point, name) for point in points) for points in reached]
            found[f"{column}_target_{name}"] = [statistics.fmean(own) if own else math.nan for own in values]
            found[f"{column}_target_{name}_sd"] = [
                statistics.stdev(own) if len(own) > 1 else math.nan for own in values
            ]
    return found


def _known(values: Any) -> list[float]:
    return [value for value in values if value is not None]
