"""How soon a run is good enough: images, training time and energy until the FID first is at or below a target."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ganzoo.types import RunRecord


@dataclass(frozen=True)
class Reached:
    """The first evaluation of a run at or below the target.

    `kimg` is in thousands of real images, `seconds` is training time with the evaluations off the clock, `joules` is
    `kimg` times the energy per kimg that was measured before the training. None where the record does not hold it.
    """

    kimg: float
    seconds: float | None
    joules: float | None


def first_at_or_below(record: RunRecord, protocol: str, target: float) -> Reached | None:
    """The first evaluation under `protocol` whose score is at or below `target`; None where there is none.

    Nothing is interpolated between evaluations.
    """
    found = [
        score
        for score in record.scores
        if score["protocol"] == protocol and score["value"] is not None and score["value"] <= target
    ]
    if not found:
        return None
    first = min(found, key=lambda score: score["kimg"])
    per_kimg = record.throughput.get("energy_joules_per_kimg")
    joules = None if per_kimg is None else per_kimg * first["kimg"]
    return Reached(first["kimg"], first.get("train_seconds"), joules)


def targets_over_seeds(
    rows: Sequence[Sequence[RunRecord]], columns: Mapping[str, str], target: float
) -> dict[str, list[Any]]:
    """For each FID column, by protocol, what a comparison says of the target, a value for each row.

    `FID_target_scored` counts the finished seeds with such a score and `FID_target_reached` those that came to the
    target; `FID_target_kimg`, `_seconds` and `_joules` are means over these, with `_sd`, NaN where no seed has it.
    """
    found: dict[str, list[Any]] = {}
    for protocol, column in columns.items():
        scored = [
            [record for record in runs if record.ok and any(score["protocol"] == protocol for score in record.scores)]
            for runs in rows
        ]
        reached = [
            [point for record in runs if (point := first_at_or_below(record, protocol, target)) is not None]
            for runs in scored
        ]
        found[f"{column}_target"] = [target] * len(rows)
        found[f"{column}_target_scored"] = [len(runs) for runs in scored]
        found[f"{column}_target_reached"] = [len(points) for points in reached]
        for name in ("kimg", "seconds", "joules"):
            values = [_known(getattr(point, name) for point in points) for points in reached]
            found[f"{column}_target_{name}"] = [statistics.fmean(own) if own else math.nan for own in values]
            found[f"{column}_target_{name}_sd"] = [
                statistics.stdev(own) if len(own) > 1 else math.nan for own in values
            ]
    return found


def _known(values: Any) -> list[float]:
    return [value for value in values if value is not None]
