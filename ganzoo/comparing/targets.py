"""Time to a target: what each run took until its FID was low enough, and over seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from ganzoo.comparing.figures import OverSeeds, figure_of
from ganzoo.runs import RunRecord


@dataclass(frozen=True)
class Reached:
    """The first evaluation of a run at or below the target.

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


def target_over_seeds(runs: Sequence[RunRecord], protocol: str, goal: float) -> Target:
    """What the finished of the runs took until their score under `protocol` was at or below `goal`."""
    scored = [run for run in runs if run.ok and any(score["protocol"] == protocol for score in run.scores)]
    points = (first_at_or_below(run, protocol, goal) for run in scored)
    return Target(goal, len(scored), tuple(point for point in points if point is not None))


def first_at_or_below(record: RunRecord, protocol: str, target: float) -> Reached | None:
    """The first evaluation under `protocol` whose score is at or below `target`; None where there is none.

    Nothing is interpolated between evaluations.
    """
    good_enough = [
        score
        for score in record.scores
        if score["protocol"] == protocol and score["value"] is not None and score["value"] <= target
    ]
    if not good_enough:
        return None
    first = min(good_enough, key=lambda score: score["kimg"])
    per_kimg = figure_of(record, "energy_joules_per_kimg")
    joules = None if per_kimg is None else per_kimg * first["kimg"]
    return Reached(first["kimg"], first.get("train_seconds"), joules)
