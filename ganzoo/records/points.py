"""The best, the last and the final evaluation of each score of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ganzoo.records.protocols import direction_of
from ganzoo.runs import Point, Protocol, RunRecord, Score, Training


class ScoreKey(NamedTuple):
    """The name of a score and its protocol: scores of different protocols are never compared."""

    name: str
    protocol: str

    def __str__(self) -> str:
        return f"{self.name} [{self.protocol}]"


def final_scores(record: RunRecord) -> dict[ScoreKey, Score]:
    """The scores at the end of the budget, of the averaged generator where there is one.

    None where the run did not finish: what it scored on the way is no result of the budget.
    """
    if not record.ok or not record.scores:
        return {}
    last = max(entry["kimg"] for entry in record.scores)
    final = [entry for entry in record.scores if entry["kimg"] == last]
    averaged = [entry for entry in final if entry["ema"]]
    return {ScoreKey(entry["metric"], entry["protocol"]): entry for entry in averaged or final}


def best_and_final(scores: Sequence[Score], protocols: Mapping[str, Protocol]) -> Training:
    """`{"best": {...}, "final": {...}}`, each from score and generator (`fid/ema`) to value and kimg.

    Where several protocols give one score it is that of the first which goes as far as any: the first extractor of
    `--features`, and not what was scored later.
    """
    series = leading_series(scores)
    bests = {name: best_of(some, protocols) for name, some in series.items()}
    return {
        "best": {name: _point_of(found) for name, found in bests.items() if found is not None},
        "final": {name: _point_of(some[-1]) for name, some in series.items()},
    }


def leading_series(scores: Iterable[Score]) -> dict[str, list[Score]]:
    """By `fid/ema` or `fid/raw`, the scores of the protocol that `best_and_final` is of, in the order of their kimg."""
    series: dict[str, dict[str, list[Score]]] = {}
    for score in sorted(scores, key=lambda score: score["kimg"]):
        name = f"{score['metric']}/{'ema' if score['ema'] else 'raw'}"
        series.setdefault(name, {}).setdefault(score["protocol"], []).append(score)
    return {name: max(some.values(), key=lambda scores: scores[-1]["kimg"]) for name, some in series.items()}


def best_of(scores: Iterable[Score], protocols: Mapping[str, Mapping[str, Any]]) -> Score | None:
    """The best of the scores of one name and protocol, the earliest of several; None where none has a value."""
    known = sorted((score for score in scores if score["value"] is not None), key=lambda score: score["kimg"])
    if not known:
        return None
    lower = direction_of(known[0]["metric"], protocols.get(known[0]["protocol"], {})) == "lower"
    return (min if lower else max)(known, key=lambda score: score["value"] or 0.0)


def _point_of(score: Score) -> Point:
    return {"value": score["value"], "kimg": score["kimg"]}
