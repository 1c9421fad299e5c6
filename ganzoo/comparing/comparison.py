"""A comparison: the rows of records, their scores over seeds and ranks, and what differs between them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ganzoo.comparing.differences import differences
from ganzoo.comparing.figures import OverSeeds
from ganzoo.comparing.rows import Row, ScoreOverSeeds, same_settings
from ganzoo.comparing.scores import ScoreKey, best_score, final_scores, grouped, protocols_of
from ganzoo.comparing.settings import RACE
from ganzoo.comparing.targets import target_over_seeds
from ganzoo.records.store import garbage_collection_paused
from ganzoo.runs import RunRecord, Score
from ganzoo.util.significance import Direction, ranks


@dataclass(frozen=True)
class Baseline:
    """What the rows are set against: a variant of the same race, or the same work on another machine."""

    name: str
    kind: Literal["variant", "hardware"]


@dataclass(frozen=True)
class Comparison:
    """Rows side by side. `scores` are those that any finished run has, `protocols` what they were taken by.

    `better` says in which direction a score is better; without it a score has no rank. `target` is the FID that
    `--target-fid` asks for.
    """

    rows: tuple[Row, ...]
    scores: tuple[ScoreKey, ...]
    protocols: Mapping[str, Mapping[str, Any]]
    baseline: Baseline | None = None
    better: Mapping[str, Direction] = field(default_factory=dict)
    target: float | None = None

    @property
    def by_hardware(self) -> bool:
        """Whether the rows are the same work on several machines."""
        return self.baseline is not None and self.baseline.kind == "hardware"

    @property
    def targets(self) -> tuple[ScoreKey, ...]:
        """The scores that have a target: each FID where one is asked for."""
        return () if self.target is None else tuple(score for score in self.scores if score.name == "fid")

    def has(self, score: ScoreKey) -> bool:
        """Whether any row has a value of the score."""
        return any(row.scores[score].values for row in self.rows)

    def parts(self) -> list[Comparison]:
        """The rows of each dataset and image size as a comparison, with the scores that these have."""
        rows: dict[tuple[str, int], list[Row]] = defaultdict(list)
        for row in self.rows:
            rows[row.settings["dataset"], row.settings["image_size"]].append(row)
        return [self._of(tuple(some)) for some in rows.values()]

    def _of(self, rows: tuple[Row, ...]) -> Comparison:
        scores = tuple(score for score in self.scores if any(row.scores[score].values for row in rows))
        protocols = protocols_of((run for row in rows for run in row.runs), scores)
        return replace(self, rows=rows, scores=scores, protocols=protocols)


@garbage_collection_paused()
def compare(
    records: Sequence[RunRecord], better: Mapping[str, Direction] | None = None, target: float | None = None
) -> Comparison:
    """One row for each variant × dataset × settings × hardware, in the order of `same_settings`.

    Rows whose specs or code differ in anything but the seed are kept apart. With `better`, from score to direction,
    there are ranks among the rows of the same images, budget and hardware; with `target` what each row took to that
    FID.
    """
    return compare_rows(same_settings(records), better, target, records)


def compare_rows(
    groups: Sequence[Sequence[RunRecord]],
    better: Mapping[str, Direction] | None = None,
    target: float | None = None,
    records: Iterable[RunRecord] | None = None,
) -> Comparison:
    """A comparison with a row for each group of runs, in that order; `records` are the groups' runs, or more."""
    runs = [run for group in groups for run in group]
    finals = [[final_scores(run) for run in group] for group in groups]
    scores = grouped(final for group in finals for final in group)
    protocols = protocols_of(runs if records is None else records, scores)
    rows = [
        Row(tuple(group), _scores_over_seeds(group, final, scores)) for group, final in zip(groups, finals, strict=True)
    ]
    rows = _ranked(rows, scores, better or {})
    rows = [replace(row, differs=text) for row, text in zip(rows, _differences(rows), strict=True)]
    comparison = Comparison(tuple(rows), tuple(scores), protocols, None, better or {}, target)
    return comparison if target is None else _with_targets(comparison, target)


def _scores_over_seeds(
    runs: Sequence[RunRecord], finals: Sequence[Mapping[ScoreKey, Score]], scores: Sequence[ScoreKey]
) -> dict[ScoreKey, ScoreOverSeeds]:
    values: dict[ScoreKey, list[float | None]] = {score: [] for score in scores}
    best: dict[ScoreKey, list[float | None]] = {score: [] for score in scores}
    for run, final in zip(runs, finals, strict=True):
        for score, entry in final.items():
            values[score].append(entry["value"])
            best[score].append(best_score(run, score, entry).get("value"))
    return {score: ScoreOverSeeds(OverSeeds.of(values[score]).values, OverSeeds.of(best[score])) for score in scores}


def _ranked(rows: Sequence[Row], scores: Sequence[ScoreKey], better: Mapping[str, Direction]) -> list[Row]:
    """The rows with the rank of each score among those of their race on their hardware."""
    races: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        races[tuple(row.settings[name] for name in (*RACE, "hardware"))].append(index)
    entries = [dict(row.scores) for row in rows]
    for score in scores:
        if (way := better.get(score.name)) is None:
            continue
        for race in races.values():
            in_race = ranks([rows[index].scores[score].values for index in race], way)
            for index, rank in zip(race, in_race, strict=True):
                entries[index][score] = replace(entries[index][score], rank=rank)
    return [replace(row, scores=ranked) for row, ranked in zip(rows, entries, strict=True)]


def _differences(rows: Sequence[Row]) -> list[str]:
    """What sets each row apart from the others of its variant and dataset."""
    texts = [""] * len(rows)
    alike: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        alike[row.settings["variant"], row.settings["dataset"]].append(index)
    for indexes in alike.values():
        if len(indexes) > 1:
            for index, text in zip(indexes, differences([rows[index].runs[0] for index in indexes]), strict=True):
                texts[index] = text
    return texts


def _with_targets(comparison: Comparison, goal: float) -> Comparison:
    def reached(row: Row) -> Row:
        entries = {
            score: replace(row.scores[score], target=target_over_seeds(row.runs, score.protocol, goal))
            for score in comparison.targets
        }
        return replace(row, scores={**row.scores, **entries})

    return replace(comparison, rows=tuple(map(reached, comparison.rows)))
