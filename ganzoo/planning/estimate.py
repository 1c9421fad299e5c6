"""What would run, before anything does: the runs of a plan with their parameters and an estimate of their time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ganzoo.planning.plan import PlannedRun
from ganzoo.running.speed import matrix_product_rate

REACHED = 0.5
"""The share of the matrix-product rate that a well-filled training step reaches."""


def dry_run(runs: Sequence[PlannedRun]) -> tuple[list[dict[str, Any]], float]:
    """`(entries, rate)`: a JSON object for each run, and this machine's FLOPs per second, measured just now."""
    first = runs[0].spec
    rate = matrix_product_rate(first.device, first.precision, first.threads)
    return [_entry(run, rate) for run in runs], rate


def _entry(run: PlannedRun, rate: float) -> dict[str, Any]:
    flops = run.preflight.flops_per_image
    return {
        "spec": run.spec.to_json(),
        "parameters": dict(run.preflight.parameters),
        "flops_per_image": flops,
        "estimated_train_seconds": None if flops is None else run.spec.kimg * 1000 * flops / (REACHED * rate),
    }
