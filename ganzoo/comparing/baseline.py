"""Rows against a baseline: is the difference of their scores real, and how do their speeds compare."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ganzoo.comparing.comparison import Baseline, Comparison
from ganzoo.comparing.differences import BROUGHT_ALONG, disagreements, disagreements_of_rows
from ganzoo.comparing.pairs import ratio_in_turn
from ganzoo.comparing.rows import Difference, Ratio, Row
from ganzoo.comparing.settings import RACE
from ganzoo.errors import UnknownName, UsageError
from ganzoo.util.significance import difference_interval, rate_ratio_interval, welch_p
from ganzoo.util.text import did_you_mean, printable

MAX_NAMED = 3
"""The most settings in which two rows differ that a line names."""


def with_baseline(comparison: Comparison, baseline: str, doubtful: bool = False) -> Comparison:
    """A comparison with each row set against the row of the variant `baseline` in the same race.

    Each score gets its `difference`; speed gets a `ratio`, on the same hardware only, and one that is doubtful with
    `doubtful` only. A row for which several rows of
    the baseline come into question has neither. Raises `UnknownName` for a variant that is not there and `UsageError`
    where that is so of every other row.
    """
    check_baseline(baseline, [row.settings["variant"] for row in comparison.rows])
    candidates = _candidates(comparison.rows, baseline)
    _check_any_is_clear(comparison.rows, candidates, baseline)
    rows = tuple(
        _against(row, others[0], doubtful) if len(others) == 1 and others[0] is not row else row
        for row, others in zip(comparison.rows, candidates, strict=True)
    )
    return replace(comparison, rows=rows, baseline=Baseline(baseline, "variant", doubtful))


def check_baseline(baseline: str, variants: Sequence[str]) -> None:
    """Raise `UnknownName` for a baseline that is none of the variants."""
    if baseline not in variants:
        known = did_you_mean(baseline, dict.fromkeys(variants))
        raise UnknownName(f"--baseline {printable(baseline)}: no row is of that variant{known}")


def _candidates(rows: Sequence[Row], baseline: str) -> list[list[Row]]:
    """For each row the baseline's rows in its race: those on its hardware, else all; for the baseline's row itself."""
    races: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        if row.settings["variant"] == baseline:
            races.setdefault(_race(row), []).append(row)

    def of(row: Row) -> list[Row]:
        if row.settings["variant"] == baseline:
            return [row]
        others = races.get(_race(row), [])
        return [other for other in others if _on_one_machine(other, row)] or others

    return list(map(of, rows))


def _race(row: Row) -> tuple[object, ...]:
    return tuple(row.settings[name] for name in RACE)


def _check_any_is_clear(rows: Sequence[Row], candidates: Sequence[Sequence[Row]], baseline: str) -> None:
    """Raise `UsageError` where no other row has one row of the baseline to be set against, and some have several."""
    pairs = zip(rows, candidates, strict=True)
    others = [(row, several) for row, several in pairs if row.settings["variant"] != baseline]
    unclear = next(((row, several) for row, several in others if len(several) > 1), None)
    if unclear is None or any(len(some) == 1 for _, some in others):
        return
    row, several = unclear
    apart = "; ".join(disagreements_of_rows([other.runs[0] for other in several])[:3])
    raise UsageError(
        f"--baseline {printable(baseline)}: has {len(several)} rows on {row.settings['dataset']} "
        f"({apart}); choose one with --where"
    )


def _against(row: Row, other: Row, doubtful: bool) -> Row:
    scores = {
        score: replace(entry, difference=difference_of(entry.values, other.scores[score].values))
        for score, entry in row.scores.items()
    }
    ratio = speed_ratio(row, other, doubtful=doubtful) if _on_one_machine(row, other) else None
    return replace(row, scores=scores, ratio=ratio)


def _on_one_machine(row: Row, other: Row) -> bool:
    return bool(row.settings["hardware"] == other.settings["hardware"])


def pair_lines(comparison: Comparison) -> list[str]:
    """For each race of exactly two rows, a line for each score they share: the difference, and whether it is real."""
    races: dict[tuple[object, ...], list[Row]] = {}
    for row in comparison.rows:
        races.setdefault(_race(row), []).append(row)
    budgets = len({row.settings["kimg"] for row in comparison.rows}) > 1
    lines = []
    for rows in races.values():
        if len(rows) != 2:
            continue
        label = _pair_label(*rows) + (f" at {rows[0].settings['kimg']:g} kimg" if budgets else "")
        for score in comparison.scores:
            first, second = (row.scores[score].values for row in rows)
            if first and second:
                difference = difference_in_words(difference_of(first, second), len(first), len(second))
                lines.append(f"{comparison.title(score)}, {label}: {difference}")
    return lines


def _pair_label(first: Row, second: Row) -> str:
    """`dcgan − mlp`, or of one variant what sets the two apart; where they ran, if that was not on one machine."""
    one, other = (str(row.settings["variant"]) for row in (first, second))
    machines = [str(row.settings["hardware"]) for row in (first, second)]
    elsewhere = machines[0] != machines[1]
    details = [" − ".join(machines)] if elsewhere else []
    if one == other:
        ignored = ("seed", *BROUGHT_ALONG) if elsewhere else ("seed",)
        apart = disagreements([first.runs[0], second.runs[0]], ignored)
        details += [*apart[:MAX_NAMED], *["…"] * (len(apart) > MAX_NAMED)]
    name = one if one == other else f"{one} − {other}"
    return f"{name} ({', '.join(details)})" if details else name


def difference_in_words(difference: Difference | None, first: int, second: int) -> str:
    """`-2.64 [-4.02, -1.10], Welch p = 0.031, 3 and 3 seeds`, or that one seed allows no test."""
    assert difference is not None
    text = f"{difference.value:+.4g}"
    counts = f"{first} and {second} seeds"
    if difference.p is None:
        return f"{text}, {counts}: no test of whether it is real; run with --seeds 3 or more"
    return f"{text} [{difference.low:.4g}, {difference.high:.4g}], Welch p = {difference.p:.2g}, {counts}"


def difference_of(first: Sequence[float], second: Sequence[float]) -> Difference | None:
    """The difference of the means of two samples; None where one is empty."""
    if not first or not second:
        return None
    value = statistics.fmean(first) - statistics.fmean(second)
    p_value, interval = welch_p(first, second), difference_interval(first, second)
    return Difference(value) if p_value is None or interval is None else Difference(value, *interval, p_value)


def speed_ratio(row: Row, other: Row, *, per_peak: bool = False, doubtful: bool = False) -> Ratio | None:
    """The ratio of the mean training rates with its bootstrap 95 % interval; None where a side has no rate.

    Of rows that were measured in turn with each other it is taken from pairs of windows. None too where either speed is
    doubtful, unless `doubtful` asks for it. With `per_peak` each run's rate is divided by the peak that was measured in
    it.
    """
    if not doubtful and (row.speed_is_doubtful or other.speed_is_doubtful):
        return None
    sides = [_measured(side, per_peak) for side in (row, other)]
    if not all(sides):
        return None
    if paired := ratio_in_turn(row, other, per_peak=per_peak):
        return paired
    scales = [[1 / measured["peak_flops"] if per_peak else 1.0 for measured in side] for side in sides]
    summaries = [[measured["train_images_per_second"] for measured in side] for side in sides]
    first, second = (
        statistics.fmean(summary["median"] * scale for summary, scale in zip(side, of_side, strict=True))
        for side, of_side in zip(summaries, scales, strict=True)
    )
    windows = [[summary.get("samples") or () for summary in side] for side in summaries]
    interval = rate_ratio_interval(windows[0], windows[1], scales[0], scales[1])
    return Ratio(first / second, *(interval or ()))


def _measured(row: Row, per_peak: bool) -> list[Mapping[str, Any]]:
    """What the finished runs with a training rate measured; with `per_peak` those that have a peak, too."""

    def usable(throughput: Mapping[str, Any]) -> bool:
        rate = throughput.get("train_images_per_second")
        return bool(rate and rate["median"]) and (not per_peak or bool(throughput.get("peak_flops")))

    return [run.throughput for run in row.finished if usable(run.throughput)]
