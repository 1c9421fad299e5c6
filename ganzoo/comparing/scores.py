"""The final scores of a run, what a protocol says of a score, and the columns that scores take in a table."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ganzoo.records.points import ScoreKey, best_of, final_scores
from ganzoo.records.protocols import direction_of

if TYPE_CHECKING:
    from ganzoo.runs import RunRecord
    from ganzoo.util.significance import Direction


def best_score(record: RunRecord, score: ScoreKey) -> Mapping[str, Any]:
    """The best evaluation of a score by its protocol, with its `value` and `kimg`; empty where none has a value."""
    evaluations = (entry for entry in record.scores if (entry["metric"], entry["protocol"]) == score)
    return best_of(evaluations, record.protocols) or {}


def scores_of(records: Iterable[RunRecord]) -> list[ScoreKey]:
    """The final scores that any of the records has: in order of appearance, the protocols of one score together."""
    return grouped(map(final_scores, records))


def grouped(finals: Iterable[Iterable[ScoreKey]]) -> list[ScoreKey]:
    """The scores of all runs, each once: in order of appearance, the protocols of one score together."""
    protocols: dict[str, dict[str, None]] = defaultdict(dict)
    for final in finals:
        for score in final:
            protocols[score.name][score.protocol] = None
    return [ScoreKey(name, protocol) for name, several in protocols.items() for protocol in several]


def leading_score(records: Collection[RunRecord]) -> tuple[str, Direction]:
    """The score that the most finished runs have, the first recorded of several, and which way it is better.

    Where there is none the name is empty. A score whose protocol gives no direction is taken to be better when lower.
    """
    counts = Counter(name for record in records for name in {score.name: None for score in final_scores(record)})
    if not counts:
        return "", "lower"
    leading = max(counts, key=lambda name: counts[name])
    scores = [score for score in scores_of(records) if score.name == leading]
    protocols = protocols_of(records, scores)
    ways = [direction_of(leading, protocols.get(score.protocol, {})) for score in scores]
    return leading, next(filter(None, ways), "lower")


def with_several_protocols(scores: Collection[ScoreKey]) -> set[str]:
    """The names of the scores that are there by more than one protocol."""
    names = [score.name for score in scores]
    return {name for name in names if names.count(name) > 1}


def protocols_of(records: Iterable[RunRecord], scores: Collection[ScoreKey]) -> dict[str, Mapping[str, Any]]:
    """The protocols of the scores, from id to content, as far as the records hold them."""
    wanted = {score.protocol for score in scores}
    contents: dict[str, Mapping[str, Any]] = {}
    for record in records:
        contents |= record.protocols
    return {identity: content for identity, content in contents.items() if identity in wanted}
