"""The speed of a run that was measured in several rounds, each in a process of its own, as one measurement."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from ganzoo.machine.timing import summary
from ganzoo.runs import Throughput

WORST: Mapping[str, Callable[[Sequence[Any]], Any]] = {
    **dict.fromkeys(("peak_memory_bytes", "peak_memory_reserved_bytes", "data_wait_share", "disturbance"), max),
    "short_windows": any,
    "warmup_steady": all,
}
"""Fields for which the worst round counts; other numbers take the median."""

ONE_AFTER_ANOTHER = ("window_seconds", "device_states")
"""Lists with an entry for each window; of other lists each entry is kept once."""

REASON = "energy_reason"
"""Why there is no figure of energy; one round that has none is enough."""


def throughput_of_rounds(rounds: Sequence[Mapping[str, Any]]) -> Throughput:
    """A record's `throughput`, of those of its rounds: samples one after another, in the order of the rounds."""
    names = dict.fromkeys(name for each in rounds for name in each)
    together = {name: _together(name, [each[name] for each in rounds if name in each]) for name in names}
    flops, peak = together.get("flops_per_image"), together.get("peak_flops")
    if flops is not None and peak:
        together["mfu"] = flops * together["train_images_per_second"]["median"] / peak
    return cast(Throughput, together)


def _together(name: str, values: Sequence[Any]) -> Any:
    first = values[0]
    if name == REASON:
        return next(filter(None, values), None)
    if any(value is None for value in values):
        # What one round could not measure, all together have not.
        return None
    if isinstance(first, Mapping) and "samples" in first:
        return summary([sample for value in values for sample in value["samples"]])
    if isinstance(first, list):
        entries = [entry for value in values for entry in value]
        return entries if name in ONE_AFTER_ANOTHER else list(dict.fromkeys(entries))
    if name in WORST:
        return WORST[name](values)
    if isinstance(first, float):
        return statistics.median(values)
    return first
