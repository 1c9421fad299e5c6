"""Time to a target: what each run took until its score was good enough, and over seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from operator import ge, le

from ganzoo.comparing.figures import OverSeeds, figure_of
from ganzoo.errors import UsageError
from ganzoo.records.points import ScoreKey
from ganzoo.runs import RunRecord, Score
from ganzoo.util.significance import Direction
from ganzoo.util.text import printable


@dataclass(frozen=True)
class Goal:
    """One `--target`: how good which score shall be."""

    score: str
    value: float


@dataclass(frozen=True)
class Reached:
    """The first evaluation of a run that is as good as the target.

    `kimg` is in thousands of real images, `seconds` is training time with the evaluations off the clock, `joules` is
    `kimg` times the energy per kimg that was measured before the training. None where the record does not hold it.
    """

    kimg: float
    seconds: float | None
    joules: float | None


class Cost(OverSeeds):
    """What it took to reach a target, over seeds: rounded exactly, so that tables of targets keep their last digit."""

    @property
    def mean(self) -> float:
        """The mean; NaN where no seed reached it."""
        return statistics.fmean(self.values) if self.values else math.nan

    @property
    def deviation(self) -> float:
        """The sample standard deviation; NaN for fewer than two seeds."""
        return statistics.stdev(self.values) if len(self.values) > 1 else math.nan


@dataclass(frozen=True)
class Target:
    """What a row took to a target: of `scored` finished seeds with such a score those that `reached` it."""

    goal: float
    scored: int
    reached: tuple[Reached, ...]

    def cost(self, name: str) -> OverSeeds:
        """`kimg`, `seconds` or `joules` until then, over the seeds that reached it."""
        return Cost.of(getattr(point, name) for point in self.reached)


def parse_goal(text: str) -> Goal:
    """`fid:30`. Raises `UsageError` for another form."""
    score, colon, number = text.rpartition(":")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if not score or not colon or not math.isfinite(value):
        raise UsageError(f"--target {printable(text)}: write SCORE:VALUE, as in fid:30")
    return Goal(score.strip(), value)


def target_over_seeds(runs: Sequence[RunRecord], score: ScoreKey, goal: float, better: Direction) -> Target:
    """What the finished of the runs took until their score was `goal` or better."""
    scored = [run for run in runs if run.ok and _evaluations(run, score)]
    points = (first_as_good(run, score, goal, better) for run in scored)
    return Target(goal, len(scored), tuple(point for point in points if point is not None))


def first_as_good(record: RunRecord, score: ScoreKey, goal: float, better: Direction) -> Reached | None:
    """The first evaluation whose score is `goal` or better; None where there is none.

    Nothing is interpolated between evaluations.
    """
    as_good = le if better == "lower" else ge
    good_enough = [
        entry for entry in _evaluations(record, score) if entry["value"] is not None and as_good(entry["value"], goal)
    ]
    if not good_enough:
        return None
    first = min(good_enough, key=lambda entry: entry["kimg"])
    per_kimg = figure_of(record, "energy_joules_per_kimg")
    joules = None if per_kimg is None else per_kimg * first["kimg"]
    return Reached(first["kimg"], first.get("train_seconds"), joules)


def _evaluations(record: RunRecord, score: ScoreKey) -> list[Score]:
    return [entry for entry in record.scores if (entry["metric"], entry["protocol"]) == score]
