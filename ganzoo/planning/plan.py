"""From a `BenchPlan` to run specs: every name looked up, every default filled in, everything checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from itertools import product
from typing import Any

from ganzoo.data.finding import find_dataset, prepare_dataset, refuse_without_labels
from ganzoo.data.prepared import OnProgress, PreparedDataset
from ganzoo.errors import GanzooError, UsageError
from ganzoo.machine.fingerprint import hardware_fingerprint
from ganzoo.machine.peak import matrix_product_rate
from ganzoo.machine.settings import resolve_device, resolve_precision, resolve_step_mode, resolve_threads
from ganzoo.planning.budgets import auto_limit, first_round, rounds_in_words
from ganzoo.planning.overrides import parse_overrides
from ganzoo.planning.recipe import recipe_of, resolve_recipe, settled_recipe
from ganzoo.planning.request import MOST, BenchPlan, SuitePlan, check_numbers
from ganzoo.planning.scoring import check_images_for, foreign_images_of, resolve_scoring
from ganzoo.planning.selection import Selection, select
from ganzoo.registry.registry import Registry
from ganzoo.runs import ResolvedRecipe, RunSpec, Scoring
from ganzoo.training.preflight import Preflight, preflight
from ganzoo.training.tryout import workable_format
from ganzoo.util.text import printable

EVALUATIONS = 4
"""How many times a run is scored, at equal distances, if `eval_every` is not given."""


@dataclass(frozen=True)
class PlannedRun:
    """A spec with the results of its preflight. `checkpoint` is that of the run which it continues."""

    spec: RunSpec
    preflight: Preflight
    checkpoint: str | None = None


@dataclass(frozen=True)
class ResolvedPlan:
    """The runs of a plan, their dataset, the request, and notes for the user on what was left out.

    `settings` has, for each variant, those of the request's `--set` that are in force.
    """

    runs: tuple[PlannedRun, ...]
    dataset: PreparedDataset
    asked: BenchPlan
    notes: tuple[str, ...] = ()
    settings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def asked_of(self, variant: str) -> BenchPlan:
        """The request as far as it concerns a variant: without the `--set` that another replaced."""
        if variant not in self.settings:
            return self.asked
        asked = self.asked.without_suite() if isinstance(self.asked, SuitePlan) else self.asked
        return replace(asked, set=self.settings[variant])

    @property
    def sweeps_until_failure(self) -> bool:
        """Whether this is a sweep over growing batches that ends, for each variant, at the first that fails."""
        return self.asked.sweep_batch == "auto"

    @property
    def shrinks_to_fit(self) -> bool:
        """Whether to halve a batch that does not fit into memory."""
        return self.asked.batch_size == "auto"


def resolve(
    plan: BenchPlan, registry: Registry, on_progress: OnProgress = lambda done, total, size: None
) -> ResolvedPlan:
    """Check everything that can be checked before training, and return the fully resolved runs.

    Raises a `GanzooError` of one line that names the fix; nothing was trained then, and only the dataset's cache was
    written.
    """
    if plan.sweep_batch is not None:
        plan = replace(plan, throughput_only=True)
    check_numbers(plan)
    if not plan.models:
        raise UsageError("--models: name what to run, such as dcgan,mlp")
    selections = select(registry, plan.models)
    labels = [selection.label for selection in selections]
    overrides = [*parse_overrides(plan.set_by_suite, labels, of_suite=True), *parse_overrides(plan.set, labels)]
    machine = machine_of(plan)
    dataset_offer, argument = find_dataset(registry, plan.dataset)
    scoring = resolve_scoring(plan, registry, dataset_offer.record)
    dataset = prepare_dataset(
        registry,
        dataset_offer,
        argument,
        image_size=plan.image_size,
        data_root=plan.data_root,
        skip_bad_images=plan.skip_bad_images,
        background=plan.background,
        hold_out=plan.hold_out,
        on_progress=on_progress,
    )
    check_images_for(scoring, registry, dataset)
    batch_sizes = _batch_sizes(plan, dataset.count)
    runs, notes = [], [*dataset.remarks, *foreign_images_of(scoring, registry, dataset_offer.record)]
    in_force: dict[str, tuple[str, ...]] = {}
    for selection, batch_size in product(selections, batch_sizes):
        matching = [override for override in overrides if fnmatchcase(selection.label, override.variant)]
        try:
            settings, applied = settled_recipe(selection, registry, matching, plan.loss, batch_size)
            recipe = recipe_of(settings)
            if registry.get("architectures", recipe.architecture).record.conditional:
                refuse_without_labels(f"architecture '{printable(recipe.architecture)}' is conditional and", dataset)
            spec = _resolved_spec(
                selection.label,
                recipe,
                plan,
                dataset,
                dataset_kimg=dataset_offer.record.kimg,
                scoring=scoring,
                full_kimg=selection.variant.full_kimg,
                **machine,
            )
            checked = preflight(spec, registry)
            spec = replace(spec, memory_format=workable_format(spec, registry, checked))
        except GanzooError as error:
            if selection.named:
                raise type(error)(f"{printable(selection.label)}: {error}") from error
            notes.append(f"left out {printable(selection.label)}: {error}")
            continue
        in_force[selection.label] = tuple(override.text for override in applied)
        runs += [PlannedRun(replace(spec, seed=plan.seed + index), checked) for index in range(plan.seeds)]
    if not runs:
        raise UsageError("--models: none of the variants can run here; " + "; ".join(notes))
    if (limit := auto_limit(plan.kimg)) is not None:
        notes.append(rounds_in_words(limit, runs[0].spec.kimg, plan.reference))
    return ResolvedPlan(tuple(runs), dataset, plan, tuple(dict.fromkeys(notes)), in_force)


def resolve_alone(selection: Selection, registry: Registry, plan: BenchPlan, dataset: PreparedDataset) -> RunSpec:
    """The spec of one variant on a prepared dataset, for steps without scores.

    From `plan` it takes the batch size and the machine's settings. Raises what `resolve` raises.
    """
    (batch_size,) = _batch_sizes(plan, dataset.count)
    recipe = recipe_of(resolve_recipe(selection, registry, (), None, batch_size))
    spec = _resolved_spec(
        selection.label,
        recipe,
        replace(plan, throughput_only=True),
        dataset,
        dataset_kimg=1.0,
        full_kimg=None,
        scoring=Scoring(),
        **machine_of(plan),
    )
    return replace(spec, memory_format=workable_format(spec, registry, preflight(spec, registry)))


def machine_of(plan: BenchPlan) -> dict[str, Any]:
    """Device, precision, threads, step mode and hardware of the runs of a plan, by fixed rules: fields of a spec."""
    device = resolve_device(plan.device)
    precision = resolve_precision(plan.precision, device)
    threads = resolve_threads(plan.threads)
    step_mode = resolve_step_mode(plan.step_mode, device)
    return {
        "device": device,
        "precision": precision,
        "threads": threads,
        "step_mode": step_mode,
        "hardware": hardware_fingerprint(device, threads)["id"],
    }


def _batch_sizes(plan: BenchPlan, images: int) -> list[int | None]:
    """The batch sizes of a sweep, ascending; without a sweep that of the plan (None: each variant's default)."""
    if plan.sweep_batch is None:
        return [None if plan.batch_size == "auto" else plan.batch_size]
    if plan.batch_size is not None:
        raise UsageError("--sweep-batch and --batch-size: give one of them")
    if plan.sweep_batch == "auto":
        sizes = [2**power for power in range(4, 21) if 2**power <= images]
    else:
        texts = [text.strip() for text in plan.sweep_batch.split(",")]
        if not all(text.isdecimal() and int(text) >= 2 for text in texts):
            raise UsageError(f"--sweep-batch {printable(plan.sweep_batch)}: give sizes from 2, as in 16,32,64, or auto")
        sizes = sorted({int(text) for text in texts})
    return [*sizes]


def evaluation_points(every: float, kimg: float) -> tuple[float, ...]:
    """The kimg at which to score a run, its end last. Raises `UsageError` if `every` gives more than `MOST` points."""
    if kimg / every > MOST:
        count = f"{kimg / every:,.0f} evaluations"
        raise UsageError(f"--eval-every {every:g}: that is {count}; give at least {kimg / MOST:g}")
    points = (round(every * index, 6) for index in range(1, math.ceil(kimg / every)))
    return (*filter(None, points), kimg)


def _resolved_spec(
    label: str,
    recipe: ResolvedRecipe,
    plan: BenchPlan,
    dataset: PreparedDataset,
    *,
    dataset_kimg: float,
    full_kimg: float | None,
    scoring: Scoring,
    **resolved: Any,
) -> RunSpec:
    if recipe.batch_size > dataset.count:
        raise UsageError(
            f"batch_size {recipe.batch_size} is larger than dataset '{printable(dataset.name)}' "
            f"with its {dataset.count} images; choose a smaller --batch-size"
        )
    if recipe.batch_size % recipe.pack:
        raise UsageError(
            f"batch_size {recipe.batch_size} cannot be divided into packs of {recipe.pack} images; choose a multiple "
            "with --batch-size"
        )
    if plan.kimg == "full":
        if full_kimg is None:
            raise UsageError("--kimg full: its source gives no budget; give a number")
        kimg = full_kimg
    elif (limit := auto_limit(plan.kimg)) is not None:
        kimg = first_round(limit, dataset_kimg)
    else:
        kimg = float(plan.kimg or dataset_kimg)
    points = evaluation_points(plan.eval_every or kimg / EVALUATIONS, kimg)
    return RunSpec(
        variant=label,
        dataset=dataset.name,
        image_shape=dataset.image_shape,
        classes=dataset.classes,
        dataset_images=dataset.count,
        dataset_sha256=dataset.sha256,
        kimg=0.0 if plan.throughput_only else kimg,
        seed=plan.seed,
        recipe=recipe,
        throughput_seconds=plan.throughput_seconds,
        deterministic=plan.deterministic,
        requested_batch_size=None,
        continues="",
        # Replaced when the networks have been built.
        memory_format="contiguous",
        scoring=scoring if plan.throughput_only else replace(scoring, evaluate_at_kimg=points),
        **resolved,
    )


REACHED = 0.5
"""The share of the matrix-product rate that a well-filled training step reaches."""


def dry_run(runs: Sequence[PlannedRun]) -> tuple[list[dict[str, Any]], float]:
    """`(entries, rate)`: a JSON object for each run, and this machine's FLOPs per second, measured now."""
    first = runs[0].spec
    rate = matrix_product_rate(first.device, first.precision, first.threads)
    return [_dry_run_entry(run, rate) for run in runs], rate


def _dry_run_entry(run: PlannedRun, rate: float) -> dict[str, Any]:
    flops = run.preflight.flops_per_image
    return {
        "spec": run.spec.to_json(),
        "parameters": dict(run.preflight.parameters),
        "phases": list(run.preflight.phases),
        "flops_per_image": flops,
        "unknown_because": run.preflight.fault if flops is None else None,
        "estimated_train_seconds": None if flops is None else run.spec.kimg * 1000 * flops / (REACHED * rate),
    }
