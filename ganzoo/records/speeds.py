"""Whether a record's speeds follow from what it holds beside them: medians from samples, the MFU from its parts."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping
from typing import Any, get_type_hints

from ganzoo.records.bounds import CLOSE
from ganzoo.runs import RunRecord, Summary, Throughput

SUMMARIES = tuple(name for name, hint in get_type_hints(Throughput).items() if hint is Summary)
"""The measurements that were taken several times."""


def close(one: float, other: float) -> bool:
    """Equal but for rounding."""
    return math.isclose(one, other, rel_tol=CLOSE)


def speed_contradictions(record: RunRecord) -> Iterator[str]:
    """Each summary that its own samples contradict, and an MFU that is not what its parts give."""
    throughput: Mapping[str, Any] = record.throughput
    for name in SUMMARIES:
        if name in throughput:
            yield from _of_summary(f"throughput.{name}", throughput[name])
    mfu, flops, peak = (throughput.get(name) for name in ("mfu", "flops_per_image", "peak_flops"))
    rate = throughput.get("train_images_per_second", {}).get("median")
    if mfu is not None and (flops is None or not peak or rate is None or not close(mfu, flops * rate / peak)):
        yield "throughput.mfu is not flops_per_image times the median rate over peak_flops"


def _of_summary(name: str, part: Mapping[str, Any]) -> Iterator[str]:
    samples = part["samples"]
    if not samples:
        yield f"{name} has no samples"
        return
    expected = {"median": statistics.median(samples), "min": min(samples), "max": max(samples)}
    yield from (
        f"{name}.{key} is {part[key]:g}, and its samples give {value:g}"
        for key, value in expected.items()
        if key in part and not close(part[key], value)
    )
    if not is_ordered(part):
        yield f"{name}.low and .high are not the interval of the median that its samples give"


def is_ordered(part: Mapping[str, Any]) -> bool:
    """Whether the interval of a summary lies within its samples and around its median."""
    samples = part["samples"]
    return bool(min(samples) <= part["low"] <= part["median"] <= part["high"] <= max(samples))
