"""Rows against a baseline: is the difference of their scores real, and how do their speeds compare."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ganzoo.comparing.differences import BROUGHT_ALONG, disagreements
from ganzoo.comparing.rows import RACE, same_settings, score_columns, seed_scores
from ganzoo.errors import UnknownName, UsageError
from ganzoo.runs import RunRecord
from ganzoo.util.significance import difference_interval, rate_ratio_interval, welch_p
from ganzoo.util.text import did_you_mean, printable

if TYPE_CHECKING:
    import pandas

Runs = Sequence[RunRecord]

MOST_TOLD = 3
"""Of what sets two rows apart, so much is said of them in a line."""


def with_baseline(summary: pandas.DataFrame, records: Sequence[RunRecord], baseline: str) -> pandas.DataFrame:
    """A comparison with each row set against the row of the variant `baseline` in the same race.

    `SCORE_difference` is the row's mean minus the baseline's, `_difference_low` and `_high` its bootstrap 95 %
    interval over seeds, and `_difference_p` the p-value of Welch's test; all missing where either has fewer than two
    seeds but for the difference itself. `ratio`, `ratio_low` and `ratio_high` compare training speed, on the same
    hardware only. A row for which several rows of the baseline come into question has none of these. Raises
    `UnknownName` for a variant that is not there and `UsageError` where that is so of every other row.
    """
    rows = same_settings(records)
    names = list(dict.fromkeys(summary["variant"]))
    if baseline not in names:
        raise UnknownName(f"--baseline {printable(baseline)}: no row is of that variant{did_you_mean(baseline, names)}")
    columns = {column: key for key, column in score_columns(records).items()}
    found: dict[str, list[float]] = {}
    places = [_baselines_of(summary, index, baseline) for index in range(len(rows))]
    _check_any_is_told(summary, rows, places, baseline)
    for index, runs in enumerate(rows):
        other = rows[places[index][0]] if len(places[index]) == 1 else None
        own = compared_speed(runs, other) if other and other is not runs and _one_machine(runs, other) else {}
        for column, (metric, protocol) in columns.items():
            values, others = (seed_scores(side, metric, protocol) for side in (runs, other or ()))
            compared = _compared(values, others) if other is not runs else {}
            own |= {f"{column}_{name}": value for name, value in compared.items()}
        for name in ("ratio", "ratio_low", "ratio_high", *own):
            found.setdefault(name, [math.nan] * len(rows))[index] = own.get(name, math.nan)
    import pandas

    joined = pandas.concat([summary, pandas.DataFrame(found)], axis=1)
    joined.attrs |= summary.attrs | {"baseline": baseline}
    return joined


def pair_lines(summary: pandas.DataFrame, rows: Sequence[Runs]) -> list[str]:
    """For each race of exactly two rows, a line for each score they share: the difference, and whether it is real.

    `rows` are the runs of each line of `summary`.
    """
    columns = score_columns([record for runs in rows for record in runs])
    lines = []
    races = summary.groupby([*RACE], sort=False).indices
    budgets = summary["kimg"].nunique() > 1
    for (_, _, kimg), indexes in races.items():
        if len(indexes) != 2:
            continue
        first, second = (rows[index] for index in indexes)
        label = _pair(first[0], second[0]) + (f" at {kimg:g} kimg" if budgets else "")
        for (metric, protocol), column in columns.items():
            pair = [seed_scores(runs, metric, protocol) for runs in (first, second)]
            if all(pair):
                lines.append(f"{column}, {label}: {verdict(*pair)}")
    return lines


def _pair(first: RunRecord, second: RunRecord) -> str:
    """`dcgan − mlp`, or of one variant what sets the two apart; where they ran, if that was not on one machine."""
    one, other = (str(run.spec["variant"]) for run in (first, second))
    machines = [str(run.spec["hardware"]) for run in (first, second)]
    elsewhere = machines[0] != machines[1]
    told = [" − ".join(machines)] if elsewhere else []
    if one == other:
        apart = disagreements([first, second], ("seed", *BROUGHT_ALONG) if elsewhere else ("seed",))
        told += [*apart[:MOST_TOLD], *["…"] * (len(apart) > MOST_TOLD)]
    name = one if one == other else f"{one} − {other}"
    return f"{name} ({', '.join(told)})" if told else name


def verdict(first: Sequence[float], second: Sequence[float]) -> str:
    """`-2.64 [-4.02, -1.10], Welch p = 0.031, 3 and 3 seeds`, or that one seed says nothing."""
    compared = _compared(first, second)
    text = f"{compared['difference']:+.4g}"
    counts = f"{len(first)} and {len(second)} seeds"
    if "difference_p" not in compared:
        return f"{text}, {counts}: nothing can be said of whether it is real; run more with --seeds"
    low, high = compared["difference_low"], compared["difference_high"]
    return f"{text} [{low:.4g}, {high:.4g}], Welch p = {compared['difference_p']:.2g}, {counts}"


def _compared(first: Sequence[float], second: Sequence[float]) -> dict[str, float]:
    if not first or not second:
        return {}
    found = {"difference": statistics.fmean(first) - statistics.fmean(second)}
    p_value, interval = welch_p(first, second), difference_interval(first, second)
    if p_value is not None and interval is not None:
        found |= {"difference_low": interval[0], "difference_high": interval[1], "difference_p": p_value}
    return found


def compared_speed(runs: Runs, other: Runs, per_peak: bool = False) -> dict[str, float]:
    """`ratio` of the mean training rates, and `ratio_low` and `ratio_high`, its bootstrap 95 % interval.

    With `per_peak` each run's rate is divided by the peak that was measured in it. Empty where a side has no rate.
    """
    rates, windows, scales = [], [], []
    for side in (runs, other):
        measured: list[Any] = [
            record.throughput for record in side if record.ok and _measured(record.throughput, per_peak)
        ]
        if not measured:
            return {}
        own = [1 / throughput["peak_flops"] if per_peak else 1.0 for throughput in measured]
        medians = [throughput["train_images_per_second"]["median"] for throughput in measured]
        rates.append(statistics.fmean(rate * scale for rate, scale in zip(medians, own, strict=True)))
        windows.append([throughput["train_images_per_second"].get("samples") or () for throughput in measured])
        scales.append(own)
    found = {"ratio": rates[0] / rates[1]}
    interval = rate_ratio_interval(windows[0], windows[1], scales[0], scales[1])
    return found | ({"ratio_low": interval[0], "ratio_high": interval[1]} if interval else {})


def _measured(throughput: Mapping[str, Any], per_peak: bool) -> bool:
    rate = throughput.get("train_images_per_second")
    return bool(rate and rate["median"]) and (not per_peak or bool(throughput.get("peak_flops")))


def _baselines_of(summary: pandas.DataFrame, index: int, baseline: str) -> list[int]:
    """The places of the baseline's rows in the race of the row at `index`: those on its hardware, else all."""
    race = (summary[[*RACE]] == summary.loc[index, [*RACE]]).all(axis=1)
    there = list(summary.index[race & (summary["variant"] == baseline)])
    if index in there:
        return [index]
    return [row for row in there if summary.loc[row, "hardware"] == summary.loc[index, "hardware"]] or there


def _check_any_is_told(
    summary: pandas.DataFrame, rows: Sequence[Runs], places: Sequence[Sequence[int]], baseline: str
) -> None:
    """Raise `UsageError` where no other row has one row of the baseline to be set against, and some have several."""
    others = [index for index in range(len(rows)) if summary.loc[index, "variant"] != baseline]
    unclear = next((index for index in others if len(places[index]) > 1), None)
    if unclear is None or any(len(places[index]) == 1 for index in others):
        return
    apart = "; ".join(disagreements([rows[row][0] for row in places[unclear]])[:3])
    raise UsageError(
        f"--baseline {printable(baseline)}: has {len(places[unclear])} rows on {summary.loc[unclear, 'dataset']} "
        f"({apart}); choose one with --where"
    )


def _one_machine(runs: Runs, other: Runs) -> bool:
    return bool(runs[0].spec["hardware"] == other[0].spec["hardware"])
