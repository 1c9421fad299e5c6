"""The ratio of speeds that were measured in turn (`ganzoo bench --interleave`), from pairs of windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ganzoo.comparing.rows import Ratio, Row
from ganzoo.runs import RunRecord
from ganzoo.util.bootstrap import median_interval


def ratio_in_turn(row: Row, other: Row, *, per_peak: bool = False) -> Ratio | None:
    """The ratio of the training rates of two rows, None unless they were measured in turn with each other.

    Of each seed that both rows have, the windows of a round make a pair. What slowed the machine down slowed both of
    them, so that it is in neither's favour: the ratio is the median over the pairs, and its interval the bootstrap 95 %
    interval of that median. With `per_peak` each rate is divided by the peak that was measured in its run.
    """
    runs, others = ({run.spec["seed"]: run for run in side.finished} for side in (row, other))
    seeds = sorted(runs.keys() & others.keys())
    if not seeds or not all(_took_turns(runs[seed], others[seed]) for seed in seeds):
        return None
    ratios: list[float] = []
    for seed in seeds:
        pair = runs[seed], others[seed]
        first, second = (_windows(run, per_peak) for run in pair)
        if not first or len(first) != len(second):
            return None
        ratios += [one / another for one, another in zip(first, second, strict=True)]
    samples = np.asarray(ratios, np.float64)
    return Ratio(float(np.median(samples)), *median_interval(samples), in_turn=True)


def _took_turns(run: RunRecord, other: RunRecord) -> bool:
    """Whether each record names the other, and both are of one measurement."""
    session = run.throughput.get("in_turn_session")
    return (
        session is not None
        and session == other.throughput.get("in_turn_session")
        and other.run_id in run.throughput.get("in_turn_with", ())
        and run.run_id in other.throughput.get("in_turn_with", ())
    )


def _windows(run: RunRecord, per_peak: bool) -> Sequence[float]:
    """The rates of a run's windows; none where one is 0, or where there is no peak to divide by."""
    rate: Mapping[str, Sequence[float]] = run.throughput.get("train_images_per_second", {})  # type: ignore[assignment]
    peak = run.throughput.get("peak_flops") if per_peak else 1.0
    samples = rate.get("samples", ())
    return [sample / peak for sample in samples] if peak and all(samples) else ()
