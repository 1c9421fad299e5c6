"""A finished run trained on: the same spec with a larger budget, from its checkpoint."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from ganzoo.checkpoint import CHECKPOINT, verify_checkpoint
from ganzoo.data import OnProgress
from ganzoo.errors import RecordError, UsageError
from ganzoo.generators import find_run
from ganzoo.plan import (
    BenchPlan,
    PlannedRun,
    ResolvedPlan,
    evaluation_points,
    find_dataset,
    machine_of,
    prepare_dataset,
)
from ganzoo.plugins import Registry
from ganzoo.preflight import preflight
from ganzoo.records import read_spec
from ganzoo.text import printable

FIXED = ("models", "dataset", "image_size", "seeds", "precision", "batch_size", "fakes", "loss", "set", "sweep_batch")
"""What a run that is trained on has from its record."""


def resolve_continuation(
    plan: BenchPlan,
    registry: Registry,
    results: Path,
    on_progress: OnProgress = lambda done, total, size: None,
) -> ResolvedPlan:
    """The one run that goes on with `plan.resume` up to `plan.kimg` in all.

    Device, threads and step mode may be others; the recipe is the run's. Schedules are those of the larger budget.
    Raises `UsageError` and its kin where it cannot be done.
    """
    assert plan.resume is not None
    _check_options(plan)
    record = find_run(plan.resume, results)
    assert record.path is not None
    before = read_spec(record.spec)
    kimg = plan.kimg
    if not isinstance(kimg, (int, float)) or not math.isfinite(kimg) or kimg <= before.kimg:
        raise UsageError(f"--resume {printable(plan.resume)}: give the new budget in all, --kimg above {before.kimg:g}")
    checkpoint = record.path.parent / CHECKPOINT
    if fault := verify_checkpoint(checkpoint):
        raise RecordError(f"{printable(checkpoint)}: {fault}")
    offer, argument = find_dataset(registry, before.dataset)
    dataset = prepare_dataset(registry, offer, argument, replace(plan, image_size=before.image_shape[1]), on_progress)
    if dataset.sha256 != before.dataset_sha256:
        raise RecordError(f"dataset '{printable(dataset.name)}' has changed since the run; start a new one")
    spec = replace(
        before,
        kimg=float(kimg),
        evaluate_at_kimg=evaluation_points(plan.eval_every or before.evaluate_at_kimg[0], float(kimg)),
        throughput_seconds=plan.throughput_seconds,
        deterministic=plan.deterministic,
        continues=record.run_id,
        **machine_of(replace(plan, precision=before.precision)),
    )
    run = PlannedRun(spec, preflight(spec, registry), str(checkpoint.resolve()))
    return ResolvedPlan((run,), dataset, plan)


def _check_options(plan: BenchPlan) -> None:
    plain = BenchPlan(models=())
    for name in FIXED:
        if getattr(plan, name) != getattr(plain, name):
            option = "--" + name.replace("_", "-")
            raise UsageError(f"--resume and {option}: the run's own is kept; leave {option} out")
