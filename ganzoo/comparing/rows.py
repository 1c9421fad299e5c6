"""The rows of a comparison: the runs that differ in nothing but the seed, and what they give over seeds."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import orjson

from ganzoo.comparing.figures import OverSeeds, figure_of
from ganzoo.comparing.settings import ROW_SETTINGS
from ganzoo.comparing.targets import Target
from ganzoo.comparing.yardsticks import Measured, NotTrained
from ganzoo.records.course import Course
from ganzoo.records.points import ScoreKey
from ganzoo.records.settings import setting, spec_over_seeds
from ganzoo.runs import RunRecord, YardstickKind
from ganzoo.util.significance import mean_interval


@dataclass(frozen=True)
class Difference:
    """A row's mean minus the baseline's: bootstrap 95 % interval over seeds and the p-value of Welch's test.

    These three are None where either side has fewer than two seeds.
    """

    value: float
    low: float | None = None
    high: float | None = None
    p: float | None = None


@dataclass(frozen=True)
class Ratio:
    """A row's training rate as a multiple of the baseline's, with its bootstrap 95 % interval where there is one.

    `in_turn` where the two were measured in turn, and it is from pairs of their windows.
    """

    value: float
    low: float | None = None
    high: float | None = None
    in_turn: bool = False


@dataclass(frozen=True)
class ScoreOverSeeds(OverSeeds):
    """A score of a row: final values over seeds, and the best evaluations of the same runs.

    `bounds` are the values that the score can take, and from `sample_low` to `sample_high` each run's own interval from
    the sample. `not_told_apart` has the labels of the rows of the same images,
    budget and hardware from which only chance may set this one apart (see `ganzoo.util.significance.not_told_apart`);
    None where nothing can be said. `course` says whether the budget was too short for it, or too long, `not_trained`
    what it does not beat without training; `yardsticks` are those of the row. `by_teacher`: the runs were trained
    against the network that scored them.
    """

    best: OverSeeds = field(default_factory=OverSeeds)
    bounds: tuple[float, float] = (-math.inf, math.inf)
    sample_low: OverSeeds = field(default_factory=OverSeeds)
    sample_high: OverSeeds = field(default_factory=OverSeeds)
    not_told_apart: tuple[str, ...] | None = None
    difference: Difference | None = None
    target: Target | None = None
    course: Course = field(default_factory=Course)
    not_trained: NotTrained | None = None
    yardsticks: Mapping[YardstickKind, Measured] = field(default_factory=dict)
    by_teacher: bool = False

    @property
    def standing(self) -> str:
        """What to know before the score is believed: `not trained`, `still improving`, `past its best`, or empty."""
        if self.not_trained is not None:
            return "not trained"
        if self.course.gain is not None:
            return "still improving"
        return "" if self.course.best_kimg is None else "past its best"

    @cached_property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the mean over seeds; None for fewer than two."""
        interval = mean_interval(self.values)
        return interval and (max(interval[0], self.bounds[0]), min(interval[1], self.bounds[1]))


@dataclass(frozen=True)
class Row:
    """One row of a comparison: its runs, one for each seed, and what they give.

    Every row of a comparison has an entry in `scores` for each score of the comparison. `differs` says what sets it
    apart from others of its variant and dataset, beside the settings; `label` names it among all rows. `ratio` and
    `ratio_per_peak` compare speed with a baseline; for the second each rate is divided by the peak that was measured in
    the same run.
    """

    runs: tuple[RunRecord, ...]
    scores: Mapping[ScoreKey, ScoreOverSeeds] = field(default_factory=dict)
    differs: str = ""
    label: str = ""
    ratio: Ratio | None = None
    ratio_per_peak: Ratio | None = None

    @property
    def spec(self) -> Mapping[str, Any]:
        """The spec of the first run; the others differ in the seed only."""
        return self.runs[0].spec

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The settings that tables show, by name."""
        return {each.name: setting(self.spec, each.name) for each in ROW_SETTINGS}

    def setting(self, name: str) -> Any:
        """Any field of the spec, by name."""
        return setting(self.spec, name)

    @cached_property
    def finished(self) -> tuple[RunRecord, ...]:
        """The runs that finished."""
        return tuple(run for run in self.runs if run.ok)

    @cached_property
    def unfinished(self) -> tuple[RunRecord, ...]:
        """The runs that ended in any other way."""
        return tuple(run for run in self.runs if not run.ok)

    @property
    def failed(self) -> str:
        """How the unfinished ended, `diverged, oom`; empty where all finished."""
        return ", ".join(sorted({run.status for run in self.unfinished}))

    @property
    def error(self) -> str | None:
        """What the first unfinished run said."""
        return next((error_message(run) for run in self.unfinished), None)

    @cached_property
    def flags(self) -> str:
        """What makes the speed of the finished runs doubtful."""
        return "; ".join(_worst_flags(flag for run in self.finished for flag in doubts_of_speed(run)))

    @property
    def speed_is_doubtful(self) -> bool:
        """Whether anything was noted while its speed was measured: then there is no ratio to it and no verdict on it,
        unless that is asked for.
        """
        return bool(self.flags)

    def figure(self, name: str) -> OverSeeds:
        """A figure of the finished runs over seeds; see `ganzoo.comparing.figures.figure_of`."""
        return OverSeeds.of(figure_of(run, name) for run in self.finished)

    def environment(self, name: str) -> str | None:
        """What the environments of the runs hold under a name, with commas between; None where none does."""
        environments: list[Mapping[str, Any]] = [run.environment or {} for run in self.runs]
        known = dict.fromkeys(value for environment in environments if (value := environment.get(name)))
        return ", ".join(known) or None


def doubts_of_speed(record: RunRecord) -> Sequence[str]:
    """What was noted while a run's speed was measured: each is a reason to doubt it."""
    return record.throughput.get("flags") or ()


def error_message(record: RunRecord) -> str | None:
    """Why a run did not finish, where the record says so."""
    return (record.error or {}).get("message")


Runs = Sequence[RunRecord]
"""The runs of one row: alike in all but the seed."""

NUMBER_IN_FLAG = re.compile(r"\d+(?:\.\d+)?")


def _worst_flags(texts: Iterable[str]) -> list[str]:
    """Of flags that say the same with other numbers, over the seeds of a row, those with the largest."""
    worst: dict[str, tuple[list[float], str]] = {}
    for flag in (flag for text in texts if text for flag in text.split("; ")):
        kind, numbers = NUMBER_IN_FLAG.sub("#", flag), [float(number) for number in NUMBER_IN_FLAG.findall(flag)]
        if kind not in worst or numbers > worst[kind][0]:
            worst[kind] = (numbers, flag)
    return [flag for _, flag in worst.values()]


def by_dataset(records: Sequence[RunRecord]) -> list[list[RunRecord]]:
    """The records of each dataset and image size: no score of one stands beside one of another."""
    parts: dict[tuple[str, int], list[RunRecord]] = defaultdict(list)
    for record in records:
        parts[setting(record.spec, "dataset"), setting(record.spec, "image_size")].append(record)
    return list(parts.values())


def same_settings(records: Iterable[RunRecord]) -> list[list[RunRecord]]:
    """The records of each row of a comparison: alike in all but the seed, one for each seed, in order of appearance.

    A run that was done again stands for the attempts that failed before it.
    """
    rows: dict[bytes, dict[int, RunRecord]] = defaultdict(dict)
    for record in records:
        seeds = rows[settings_key(record)]
        seed = setting(record.spec, "seed")
        if seed not in seeds or (record.ok and not seeds[seed].ok):
            seeds[seed] = record
    return [list(seeds.values()) for seeds in rows.values()]


def settings_key(record: RunRecord, ignored: Container[str] = ()) -> bytes:
    """All that a run is but its seed: the spec without the `ignored` fields, and the code that ran it."""
    environment = record.environment or {}
    plugins = {name: facts.get("source_sha256") for name, facts in (environment.get("plugins") or {}).items()}
    spec = {name: value for name, value in spec_over_seeds(record.spec).items() if name not in ignored}
    # A record from before they were recorded goes with those of runs that import none.
    imported = environment.get("distributions") or {}
    return as_key([spec, plugins, environment.get("torch"), environment.get("ganzoo"), imported])


def as_key(content: object) -> bytes:
    """JSON-safe content as bytes that are equal where the content is."""
    return orjson.dumps(content, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
