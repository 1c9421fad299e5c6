"""What continues a finished run with the same spec and a larger budget: `--resume`, and a round of `--kimg auto`."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from ganzoo.data.finding import find_dataset, prepare_dataset
from ganzoo.data.prepared import OnProgress
from ganzoo.errors import RecordError, RecordMissing, UsageError, WeightsUnavailable
from ganzoo.evaluation.extractors import find_weights
from ganzoo.planning.plan import PlannedRun, ResolvedPlan, evaluation_points, machine_of
from ganzoo.planning.provenance import code_of, what_changed
from ganzoo.planning.request import BenchPlan, check_numbers
from ganzoo.records.checkpoint import CHECKPOINT, run_id_of_checkpoint
from ganzoo.records.store import find_run, read_spec
from ganzoo.registry.registry import Registry
from ganzoo.runs import RunRecord, RunSpec
from ganzoo.training.preflight import preflight
from ganzoo.util.options import options_of
from ganzoo.util.text import printable


def resolve_continuation(
    plan: BenchPlan,
    registry: Registry,
    results: Path,
    on_progress: OnProgress = lambda done, total, size: None,
    given: Collection[str] = (),
) -> ResolvedPlan:
    """The one run that continues `plan.resume` up to `plan.kimg` in total.

    Device, threads and step mode may change; the recipe may not. Schedules are those of the larger budget. `given`
    names fields of `plan` that the user gave even if their value is the default; a field with another value counts as
    given anyway. A note says which code has changed since the run. Raises a `GanzooError` if the run cannot be
    continued, for instance because the dataset or the extractor's weights have changed.
    """
    assert plan.resume is not None
    check_numbers(plan)
    record = find_run(plan.resume, results)
    assert record.path is not None
    before = read_spec(record.spec)
    options = options_of(BenchPlan)
    asked = {*given, *(option.name for option in options if getattr(plan, option.name) != option.default)}
    _check_fixed_options(plan, before, asked)
    kimg = plan.kimg
    if not isinstance(kimg, (int, float)) or not math.isfinite(kimg) or kimg <= before.kimg:
        raise UsageError(f"--resume {printable(plan.resume)}: give the new budget in all, --kimg above {before.kimg:g}")
    checkpoint = record.path.parent / CHECKPOINT
    _check_checkpoint(checkpoint, record)
    offer, argument = find_dataset(registry, before.dataset)
    dataset = prepare_dataset(
        registry,
        offer,
        argument,
        image_size=before.image_shape[1],
        data_root=plan.data_root,
        skip_bad_images=plan.skip_bad_images,
        background=plan.background,
        hold_out=plan.hold_out,
        on_progress=on_progress,
    )
    if dataset.sha256 != before.dataset_sha256:
        raise RecordError(f"dataset '{printable(dataset.name)}' has changed since the run; start a new one")
    _check_weights(before, registry, plan)
    every = plan.eval_every or _distance_of_scores(before, plan.resume)
    spec = replace(
        with_budget(before, float(kimg), every),
        throughput_seconds=plan.throughput_seconds,
        deterministic=plan.deterministic if "deterministic" in asked else before.deterministic,
        continues=record.run_id,
        **machine_of(replace(plan, precision=before.precision)),
    )
    run = PlannedRun(spec, preflight(spec, registry), str(checkpoint.resolve()))
    changed = list(what_changed(record.environment, code_of(spec, registry)))
    notes = dataset.remarks
    if changed:
        notes.append(f"--resume: since the run {'; '.join(changed)}; the training continues under the new code")
    # Named by its folder, because the reproducing command may run where `./runs` is another folder.
    asked_by_folder = replace(plan, resume=str(record.path.parent))
    return ResolvedPlan((run,), dataset, asked_by_folder, tuple(notes))


def next_round(plan: BenchPlan, run: PlannedRun, record: RunRecord) -> PlannedRun:
    """What trains on with twice the budget, after `run` was done and its `record` written.

    It goes on from the checkpoint; where what is done in a step depends on the budget (see `Preflight`), it begins
    anew instead, for by the larger budget the steps so far would have been others.
    """
    before = read_spec(record.spec)
    kimg = 2 * before.kimg
    spec = with_budget(before, kimg, plan.eval_every or kimg / len(before.scoring.evaluate_at_kimg))
    if run.preflight.follows_budget:
        return replace(run, spec=spec)
    assert record.path is not None
    checkpoint = record.path.parent / CHECKPOINT
    return replace(run, spec=replace(spec, continues=record.run_id), checkpoint=str(checkpoint.resolve()))


def with_budget(spec: RunSpec, kimg: float, every: float) -> RunSpec:
    """The spec with another budget, scored every so many kimg of it."""
    points = evaluation_points(every, kimg)
    return replace(spec, kimg=kimg, scoring=replace(spec.scoring, evaluate_at_kimg=points))


def _distance_of_scores(before: RunSpec, run: str) -> float:
    """After how many kimg the run was first scored. Raises `UsageError` for a run that was not to be."""
    # A run of speed alone has none, or in early records 0.
    points = before.scoring.evaluate_at_kimg
    if not points or not points[0]:
        raise UsageError(f"--resume {printable(run)}: its record says no kimg at which to score; give --eval-every")
    return points[0]


def _check_fixed_options(plan: BenchPlan, before: RunSpec, asked: Collection[str]) -> None:
    """Raise `UsageError` if an option that is fixed on resume differs from the run's value."""
    values = {
        "dataset": before.dataset,
        "image_size": before.image_shape[1],
        "seeds": 1,
        "seed": before.seed,
        "precision": before.precision,
        "batch_size": before.recipe.batch_size,
        "loss": before.recipe.loss,
        "metrics": before.scoring.metrics,
        "features": tuple(extractor.name for extractor in before.scoring.features),
        "fakes": before.scoring.fakes,
        "reference": before.scoring.reference,
    }
    for option in options_of(BenchPlan):
        name, flag = option.name, option.flag
        if option.fixed_on_resume and name in asked and getattr(plan, name) != values.get(name):
            raise UsageError(f"--resume and {flag}: the run keeps its value; leave {flag} out")


def _check_checkpoint(path: Path, record: RunRecord) -> None:
    """Raise `RecordError` if the checkpoint is absent or belongs to another run."""
    try:
        run_id = run_id_of_checkpoint(path)
    except RecordMissing as error:
        again = "run it again without --discard-checkpoints and resume that run"
        raise RecordMissing(f"{printable(path)}: the run kept no checkpoint; {again}") from error
    if run_id != record.run_id:
        raise RecordError(
            f"{printable(path)}: is the checkpoint of another run, {printable(run_id, 10)}; restore the right one"
        )


def _check_weights(before: RunSpec, registry: Registry, plan: BenchPlan) -> None:
    """Raise `WeightsUnavailable` if an extractor's weights have changed: scores would not be comparable."""
    for known in before.scoring.features:
        extractor = registry.get("features", known.name).record
        _, sha256 = find_weights(extractor, Path(plan.weights) if plan.weights else None, plan.weights_sha256)
        if sha256 != known.weights_sha256:
            raise WeightsUnavailable(
                f"the weights of '{printable(extractor.name)}' are not those of the run: give --weights FILE and "
                f"--weights-sha256 {printable(known.weights_sha256)}, or start a new run"
            )
