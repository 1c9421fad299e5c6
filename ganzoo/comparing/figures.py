"""The figures of a run beside its scores, such as its speed and memory, and statistics of a figure over seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

if TYPE_CHECKING:
    from ganzoo.runs import RunRecord
    from ganzoo.util.significance import Direction

Unit = Literal["number", "bytes", "share", "seconds"]
Shown = Literal["always", "if known", "if nothing else is asked"]


@dataclass(frozen=True)
class Figure:
    """A figure of a run beside its scores. A new column of the tables is a new one of these, and nothing else.

    `name` is its key in the record's throughput, unless `value` finds it elsewhere. It is a column of DataFrames if it
    has a `meaning`, which the documentation shows, and of tables for people if it has a `head`: with the `note` below
    the head on a page, the `qualifier` behind it in plain text, and where `shown` says. `--sort` and `--fail-on` take
    the head too; the latter only figures that are `better` in one direction. One that is `of_speed` says nothing where
    other work disturbed the measurement. `of_training` figures stand with the updates and the training time, `in_diff`
    ones in `ganzoo diff`.
    """

    name: str
    meaning: str = ""
    head: str = ""
    unit: Unit = "number"
    note: str = ""
    qualifier: str = ""
    shown: Shown = "if known"
    better: Direction | None = None
    of_speed: bool = False
    of_training: bool = False
    in_diff: bool = True
    value: Callable[[RunRecord], float | None] | None = None

    def of(self, record: RunRecord) -> float | None:
        """Its value in a run: a number, or the median of what was timed several times."""
        return self.value(record) if self.value else _measured(record, self.name)


def _measured(record: RunRecord, name: str) -> float | None:
    throughput: Mapping[str, Any] = record.throughput
    value = throughput.get(name)
    if isinstance(value, dict):
        value = value.get("median")
    return value if isinstance(value, (int, float)) else None


def _rate_error(record: RunRecord) -> float | None:
    rate = record.throughput.get("train_images_per_second")
    return (rate["high"] - rate["low"]) / 2 if rate else None


def _updates_of(player: str) -> Callable[[RunRecord], float | None]:
    return lambda record: (record.training.get("updates") or {}).get(player)


SPEED_OVER_SEEDS = "Mean of what the records have under `throughput`."
TRAINING_OVER_SEEDS = "Mean of what the records have under `training`."

FIGURES = (
    Figure(
        "train_images_per_second",
        "Mean of the runs' medians; real images.",
        head="images/s",
        note="training",
        shown="always",
        better="higher",
        of_speed=True,
    ),
    Figure(
        "train_images_per_second_error",
        "Half the width of a run's own 95 % interval, mean over seeds.",
        in_diff=False,
        value=_rate_error,
    ),
    Figure(
        "sample_images_per_second",
        SPEED_OVER_SEEDS,
        head="samples/s",
        note="generator",
        shown="if nothing else is asked",
        better="higher",
        of_speed=True,
    ),
    Figure("sample_latency_seconds", of_speed=True),
    Figure("evaluation_images_per_second", of_speed=True),
    Figure("warmup_seconds", of_speed=True),
    Figure(
        "peak_memory_bytes",
        SPEED_OVER_SEEDS,
        head="memory",
        unit="bytes",
        note="peak",
        shown="always",
        better="lower",
    ),
    Figure("flops_per_image"),
    Figure("peak_flops", of_speed=True),
    Figure("mfu", SPEED_OVER_SEEDS, head="MFU", unit="share", better="higher", of_speed=True),
    Figure("energy_joules_per_kimg", SPEED_OVER_SEEDS, head="J/kimg", better="lower", of_speed=True),
    Figure("generator_updates", TRAINING_OVER_SEEDS, of_training=True, in_diff=False, value=_updates_of("generator")),
    Figure(
        "discriminator_updates",
        TRAINING_OVER_SEEDS,
        head="updates",
        note="D/G",
        qualifier="D/G",
        shown="if nothing else is asked",
        of_training=True,
        in_diff=False,
        value=_updates_of("discriminator"),
    ),
    Figure(
        "train_seconds",
        TRAINING_OVER_SEEDS,
        head="train time",
        unit="seconds",
        shown="always",
        better="lower",
        of_speed=True,
        of_training=True,
        value=lambda record: record.training.get("train_seconds"),
    ),
)
"""In the order of the tables."""

FIGURE_BY_NAME: Mapping[str, Figure] = {figure.name: figure for figure in FIGURES}


def figure_of(record: RunRecord, name: str) -> float | None:
    """A figure of a run by its name. Raises `KeyError` for one that is not there."""
    return FIGURE_BY_NAME[name].of(record)


def is_speed(name: str) -> bool:
    """Whether a name is that of a figure that says nothing where other work disturbed the measurement."""
    return name in FIGURE_BY_NAME and FIGURE_BY_NAME[name].of_speed


def figure_called(word: str) -> str:
    """The name of the figure that tables call `word`, as `images/s`; any other word as it is."""
    return next((figure.name for figure in FIGURES if figure.head and figure.head.lower() == word.lower()), word)


@dataclass(frozen=True)
class OverSeeds:
    """The values of one figure over the seeds of a row, without the seeds that lack it."""

    values: tuple[float, ...] = ()

    @classmethod
    def of(cls, values: Iterable[Any]) -> Self:
        """Of values of which some are None."""
        return cls(tuple(float(value) for value in values if value is not None))

    @property
    def count(self) -> int:
        """How many seeds have it."""
        return len(self.values)

    @property
    def mean(self) -> float:
        """The mean; NaN where no seed has it.

        Summed with Kahan's compensation (1965), whose bits are those that pandas gave before; `statistics.fmean` rounds
        another way in the last digit now and then.
        """
        total = lost = 0.0
        for value in self.values:
            more = value - lost
            before, total = total, total + more
            lost = total - before - more
        return total / len(self.values) if self.values else math.nan

    @property
    def deviation(self) -> float:
        """The sample standard deviation; NaN for fewer than two seeds.

        By Welford's recurrence (1962), whose bits are those that pandas gave before; `statistics.stdev` rounds another
        way in the last digit, mostly.
        """
        if len(self.values) < 2:
            return math.nan
        mean = squares = 0.0
        for count, value in enumerate(self.values, 1):
            before = mean
            mean += (value - before) / count
            squares += (value - mean) * (value - before)
        return math.sqrt(squares / (len(self.values) - 1))
