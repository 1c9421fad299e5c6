"""A comparison: the rows of records in their order, their scores over seeds, and what differs between them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from ganzoo.comparing.differences import differences
from ganzoo.comparing.figures import OverSeeds
from ganzoo.comparing.order import best_first, labels_of
from ganzoo.comparing.rows import Row, ScoreOverSeeds, same_settings
from ganzoo.comparing.scores import best_score, grouped, leading_score, protocols_of
from ganzoo.comparing.settings import RACE
from ganzoo.comparing.targets import Goal, target_over_seeds
from ganzoo.comparing.yardsticks import Measured, not_trained, shown_yardsticks
from ganzoo.records.course import course_of
from ganzoo.records.points import ScoreKey, final_scores
from ganzoo.records.protocols import bounds_of, by_teacher, direction_of, title_of
from ganzoo.records.store import garbage_collection_paused
from ganzoo.runs import RunRecord, Score, YardstickKind
from ganzoo.util.significance import Direction, not_told_apart


@dataclass(frozen=True)
class Baseline:
    """What the rows are set against: a variant of the same race, or the same work on another machine.

    With `doubtful` speeds that are doubtful have ratios too.
    """

    name: str
    kind: Literal["variant", "hardware"]
    doubtful: bool = False


@dataclass(frozen=True)
class Comparison:
    """Rows side by side. `scores` are those that any finished run has, `protocols` what they were taken by.

    `goal` is what `--target` asks for.
    """

    rows: tuple[Row, ...]
    scores: tuple[ScoreKey, ...]
    protocols: Mapping[str, Mapping[str, Any]]
    baseline: Baseline | None = None
    goal: Goal | None = None

    @property
    def by_hardware(self) -> bool:
        """Whether the rows are the same work on several machines."""
        return self.baseline is not None and self.baseline.kind == "hardware"

    @property
    def targets(self) -> tuple[ScoreKey, ...]:
        """The scores that have a target: under each of its protocols the one that a goal was set for."""
        return () if self.goal is None else tuple(score for score in self.scores if score.name == self.goal.score)

    def better(self, score: ScoreKey) -> Direction:
        """In which direction a score is better; lower, where its protocol does not say."""
        return direction_of(score.name, self.protocols.get(score.protocol, {})) or "lower"

    def title(self, score: ScoreKey) -> str:
        """What people call a score: its title, with the protocol's id where several have that title."""
        title = self.plain_title(score)
        return f"{title} [{score.protocol}]" if self.shares_title(score) else title

    def plain_title(self, score: ScoreKey) -> str:
        """The title of a score, which those by another protocol may have too."""
        return title_of(score.name, self.protocols.get(score.protocol, {}))

    def shares_title(self, score: ScoreKey) -> bool:
        """Whether another protocol gives a score of the same title."""
        title = self.plain_title(score)
        return any(other != score and self.plain_title(other) == title for other in self.scores)

    @cached_property
    def leading(self) -> str:
        """The name of the score that decides the order; empty where there is none."""
        return leading_score([run for row in self.rows for run in row.runs])[0]

    @cached_property
    def yardsticks(self) -> Mapping[ScoreKey, Mapping[YardstickKind, Measured]]:
        """What each score is held against, where the records say it."""
        runs = [run for row in self.rows for run in row.finished]
        return {score: found for score in self.scores if (found := shown_yardsticks(runs, score))}

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
def compare(records: Sequence[RunRecord], goal: Goal | None = None) -> Comparison:
    """One row for each variant × dataset × settings × hardware, the best first (see `ganzoo.comparing.order`).

    Rows whose specs or code differ in anything but the seed are kept apart. With a `goal` the rows hold what each took
    to it.
    """
    return compare_rows(same_settings(records), goal, records)


def compare_rows(
    groups: Sequence[Sequence[RunRecord]],
    goal: Goal | None = None,
    records: Iterable[RunRecord] | None = None,
    *,
    keep_order: bool = False,
) -> Comparison:
    """A comparison with a row for each group of runs, the best first, or in the order of the groups.

    `records` are the groups' runs, or more.
    """
    runs = [run for group in groups for run in group]
    finals = [[final_scores(run) for run in group] for group in groups]
    scores = grouped(final for group in finals for final in group)
    protocols = protocols_of(runs if records is None else records, scores)
    rows = [
        Row(tuple(group), _scores_over_seeds(group, final, scores, protocols))
        for group, final in zip(groups, finals, strict=True)
    ]
    rows = rows if keep_order else best_first(rows, scores)
    rows = [replace(row, differs=text) for row, text in zip(rows, _differences(rows), strict=True)]
    rows = [replace(row, label=label) for row, label in zip(rows, labels_of(rows), strict=True)]
    rows = _told_apart(rows, scores)
    comparison = Comparison(tuple(rows), tuple(scores), protocols, None, goal)
    return comparison if goal is None else _with_targets(comparison, goal.value)


def _scores_over_seeds(
    runs: Sequence[RunRecord],
    finals: Sequence[Mapping[ScoreKey, Score]],
    scores: Sequence[ScoreKey],
    protocols: Mapping[str, Mapping[str, Any]],
) -> dict[ScoreKey, ScoreOverSeeds]:
    values: dict[ScoreKey, list[float | None]] = {score: [] for score in scores}
    best: dict[ScoreKey, list[float | None]] = {score: [] for score in scores}
    low: dict[ScoreKey, list[float | None]] = {score: [] for score in scores}
    high: dict[ScoreKey, list[float | None]] = {score: [] for score in scores}
    for run, final in zip(runs, finals, strict=True):
        for score, entry in final.items():
            values[score].append(entry["value"])
            best[score].append(best_score(run, score).get("value"))
            low[score].append(entry.get("sample_low"))
            high[score].append(entry.get("sample_high"))
    better = {score: direction_of(score.name, protocols.get(score.protocol, {})) or "lower" for score in scores}
    return {
        score: ScoreOverSeeds(
            OverSeeds.of(values[score]).values,
            OverSeeds.of(best[score]),
            bounds_of(score.name, protocols.get(score.protocol, {})),
            OverSeeds.of(low[score]),
            OverSeeds.of(high[score]),
            course=course_of(runs, score, better[score]),
            not_trained=not_trained(runs, score, better[score]),
            yardsticks=shown_yardsticks([run for run in runs if run.ok], score),
            by_teacher=any(by_teacher(run.protocols.get(score.protocol, {}), run.training) for run in runs),
        )
        for score in scores
    }


def _told_apart(rows: Sequence[Row], scores: Sequence[ScoreKey]) -> list[Row]:
    """The rows with, for each score, those of their race on their hardware that chance may set apart from them."""
    races: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        races[tuple(row.settings[name] for name in (*RACE, "hardware"))].append(index)
    entries = [dict(row.scores) for row in rows]
    for score in scores:
        for race in races.values():
            # A row that its own teacher has judged is left out of the order, and out of this.
            entered = [entries[index][score] for index in race]
            alike = not_told_apart([() if entry.by_teacher else entry.values for entry in entered])
            for index, others in zip(race, alike, strict=True):
                labels = None if others is None else tuple(rows[race[other]].label for other in others)
                entries[index][score] = replace(entries[index][score], not_told_apart=labels)
    return [replace(row, scores=told) for row, told in zip(rows, entries, strict=True)]


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
            score: replace(row.scores[score], target=target_over_seeds(row.runs, score, goal, comparison.better(score)))
            for score in comparison.targets
        }
        return replace(row, scores={**row.scores, **entries})

    return replace(comparison, rows=tuple(map(reached, comparison.rows)))
