"""The figures of a run beside its scores, such as its speed and memory, and statistics of a figure over seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from ganzoo.runs import RunRecord
    from ganzoo.util.significance import Direction

DIRECTIONS: Mapping[str, Direction] = {
    "train_images_per_second": "higher",
    "sample_images_per_second": "higher",
    "peak_memory_bytes": "lower",
    "mfu": "higher",
    "energy_joules_per_kimg": "lower",
    "train_seconds": "lower",
}
"""In which direction each figure is better, of those that `--fail-on` takes."""

OF_SPEED = frozenset(
    {
        "train_images_per_second",
        "sample_images_per_second",
        "sample_latency_seconds",
        "evaluation_images_per_second",
        "warmup_seconds",
        "peak_flops",
        "mfu",
        "energy_joules_per_kimg",
        "train_seconds",
    }
)
"""The figures that say nothing where other work disturbed the measurement of speed."""

HEADS: Mapping[str, str] = {
    "train_images_per_second": "images/s",
    "sample_images_per_second": "samples/s",
    "peak_memory_bytes": "memory",
    "mfu": "MFU",
    "energy_joules_per_kimg": "J/kimg",
    "train_seconds": "train time",
}
"""What tables for people call figures; `--sort` and `--fail-on` take these words too."""

UPDATES = ("generator_updates", "discriminator_updates")

RATE_ERROR = "train_images_per_second_error"
"""Half the width of the 95 % interval of a run's training rate."""


def figure_of(record: RunRecord, name: str) -> float | None:
    """A figure of a run by its name in the record: a number, or the median of what was timed several times."""
    if name in ELSEWHERE:
        return ELSEWHERE[name](record)
    throughput: Mapping[str, Any] = record.throughput
    value = throughput.get(name)
    if isinstance(value, dict):
        value = value.get("median")
    return value if isinstance(value, (int, float)) else None


def _rate_error(record: RunRecord) -> float | None:
    rate = record.throughput.get("train_images_per_second")
    return (rate["high"] - rate["low"]) / 2 if rate else None


ELSEWHERE: Mapping[str, Callable[[RunRecord], float | None]] = {
    "generator_updates": lambda record: (record.training.get("updates") or {}).get("generator"),
    "discriminator_updates": lambda record: (record.training.get("updates") or {}).get("discriminator"),
    "train_seconds": lambda record: record.training.get("train_seconds"),
    RATE_ERROR: _rate_error,
}
"""The figures that a record does not hold among its measurements of speed."""


def figure_called(word: str) -> str:
    """The figure that tables call `word`, as `images/s`; any other word as it is."""
    return next((name for name, head in HEADS.items() if head.lower() == word.lower()), word)


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
