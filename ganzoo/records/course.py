"""The course of a row's score over its training: whether its budget was too short for it, or too long."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ganzoo.records.points import ScoreKey
from ganzoo.util.significance import mean_error

if TYPE_CHECKING:
    from ganzoo.runs import RunRecord, Score
    from ganzoo.util.significance import Direction

LAST_PART = 0.25
"""The share of a budget, at its end, that may no longer improve a score."""


@dataclass(frozen=True)
class Course:
    """What the evaluations on the way say of a row's budget.

    `gain` is by how much the last quarter of it improved the score, where that is more than its 95 % interval: the row
    is still improving. `best_kimg` is an earlier evaluation that was better than the last by more than the interval of
    their difference, and `best` its mean: the row is past its best. At most one of the two is there.
    """

    gain: float | None = None
    best_kimg: float | None = None
    best: float | None = None


def course_of(runs: Sequence[RunRecord], score: ScoreKey, better: Direction) -> Course:
    """The course of a score over the finished runs of a row; nothing is said where no interval is known.

    Over two seeds and more intervals are Student's over seeds, of one seed the scores' own, from the sample of images.
    """
    sign = 1.0 if better == "lower" else -1.0
    curves = [curve for run in runs if run.ok and (curve := _curve(run, score))]
    kimgs = sorted(set.intersection(*(set(curve) for curve in curves))) if curves else []
    if len(kimgs) < 2:
        return Course()
    values = {kimg: np.array([sign * (curve[kimg]["value"] or 0.0) for curve in curves]) for kimg in kimgs}
    last, best = kimgs[-1], min(kimgs, key=lambda kimg: float(values[kimg].mean()))

    def improves(before: float, after: float) -> bool:
        """Whether a score became better from one evaluation to another, by more than the difference's interval."""
        gained = values[before] - values[after]
        return bool(gained.mean() > _error(gained, [curve[kimg] for curve in curves for kimg in (before, after)]))

    if best != last and improves(last, best):
        return Course(best_kimg=best, best=sign * float(values[best].mean()))
    before = [kimg for kimg in kimgs if kimg <= last * (1 - LAST_PART) * ROUNDED_UP]
    if before and improves(before[-1], last):
        gain = float((values[before[-1]] - values[last]).mean())
        if gain > _error(values[last], [curve[last] for curve in curves]):
            return Course(gain=gain)
    return Course()


ROUNDED_UP = 1.01
"""A budget is rounded up to whole batches, and so are its parts."""


def _curve(run: RunRecord, score: ScoreKey) -> dict[float, Score]:
    """The evaluations of a score by kimg."""
    scored = (entry for entry in run.scores if (entry["metric"], entry["protocol"]) == score)
    return {entry["kimg"]: entry for entry in scored if entry["value"] is not None}


def _error(values: np.ndarray, entries: Sequence[Score]) -> float:
    """Half of the 95 % interval of the mean over seeds; for one seed, of the difference of its entries, or of the only
    one, by their samples. Infinite where it is not known.
    """
    if len(values) > 1:
        return mean_error(values.tolist())
    widths = [
        (entry["sample_high"] - entry["sample_low"]) / 2
        if "sample_low" in entry and "sample_high" in entry
        else math.inf
        for entry in entries
    ]
    return math.hypot(*widths)
