"""Whether scores lie within the bounds that their metric declares, which stand in their protocol."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from ganzoo.records.protocols import bounds_of
from ganzoo.runs import RunRecord
from ganzoo.util.text import printable

CLOSE = 1e-9
"""How far beyond a bound a value may fall by rounding, as FID's square root does: a share of the bound, or of 1."""

Bounds = tuple[float, float]


def is_within(value: float, bounds: Bounds) -> bool:
    """Whether a value lies within inclusive bounds, or beyond one by no more than rounding."""
    low, high = bounds
    if low <= value <= high:
        return True
    slack = CLOSE * max([1.0, *(abs(bound) for bound in bounds if math.isfinite(bound))])
    return low - slack <= value <= high + slack


def bound_faults(record: RunRecord) -> Iterator[str]:
    """Each score, and each of `training.best` and `training.final`, that its metric cannot have given."""
    bounds: dict[tuple[str, str], Bounds] = {}
    widest: dict[str, Bounds] = {}
    for score in record.scores:
        name, identity, value = score["metric"], score["protocol"], score["value"]
        key = name, identity
        if key not in bounds:
            low, high = bounds[key] = bounds_of(name, record.protocols.get(identity, {}))
            known = widest.get(name, (math.inf, -math.inf))
            widest[name] = min(low, known[0]), max(high, known[1])
        if value is not None and not is_within(value, bounds[key]):
            yield _beyond_bounds(f"score {printable(name, 80)} at {score['kimg']:g} kimg", value, bounds[key])
    training: Mapping[str, Any] = record.training
    for which in ("best", "final"):
        for place, point in (training.get(which) or {}).items():
            value, limits = point["value"], widest.get(place.rpartition("/")[0], (-math.inf, math.inf))
            if value is not None and not is_within(value, limits):
                yield _beyond_bounds(f"training.{which}.{printable(place, 80)}", value, limits)


def _beyond_bounds(what: str, value: float, bounds: Bounds) -> str:
    return f"{what} is {value:g}, outside of {bounds[0]:g} to {bounds[1]:g}"
