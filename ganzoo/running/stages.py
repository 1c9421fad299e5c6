"""The stages of one run: loading, measuring, reference, training with its scorings, and what is kept at the end.

Each fills in its part of the `Outcome`, so that a run that fails leaves what it had.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from ganzoo.data.prepared import PreparedDataset
from ganzoo.errors import Disturbed
from ganzoo.evaluation.drawing import Drawing
from ganzoo.machine.settings import apply_settings
from ganzoo.machine.timing import WINDOWS
from ganzoo.planning.provenance import check_code_inside, check_unchanged
from ganzoo.records.folder import remove_kept_generators
from ganzoo.registry.discovery import discover
from ganzoo.registry.isolation import check_settings, settings_in_force, undisturbed
from ganzoo.registry.registry import Registry
from ganzoo.registry.search_path import search_like
from ganzoo.running.resuming import KEPT, find_checkpoint, restore_checkpoint, take_over
from ganzoo.running.scoring import prepare_scorer, score_kept_generators
from ganzoo.running.speed import measure_sampling, measure_training, peak_memory_bytes, process_seconds, utilization
from ganzoo.running.training_stage import TrainingStage
from ganzoo.running.wire import OnMessage, Outcome, Stage
from ganzoo.runs import RunRequest, RunSpec, Throughput
from ganzoo.training.assembly import assemble, materials_of
from ganzoo.training.loop import TermLog, TrainResult
from ganzoo.training.preflight import Preflight, preflight
from ganzoo.util.conversion import convert
from ganzoo.util.rights import make_folder
from ganzoo.util.signals import StopRequest


def run_stages(request: RunRequest, spec: RunSpec, outcome: Outcome, emit: OnMessage, stop: StopRequest) -> None:
    """Do the run, or go on with it where its folder holds a checkpoint; or score what it has kept, if that is asked.

    Fills `outcome` as far as the run gets.
    """
    emit(Stage("loading"))
    modules_before = frozenset(sys.modules)
    import_seconds = process_seconds()
    search_like(request.search_path)
    only = {*request.code["plugins"], *request.scoring_code} if request.code else None
    registry = discover(request.plugins, only=only)
    # Once more, for a plugin may have changed them on import.
    apply_settings(spec.threads, spec.precision)
    torch.use_deterministic_algorithms(spec.deterministic)
    in_force = settings_in_force()
    if request.code:
        check_unchanged(request.code, request.scoring_code, spec, registry)

    def check_process() -> None:
        """What a network or a phase does on its way may load code, and change settings."""
        if request.code:
            check_code_inside(registry, modules_before)
        check_settings(in_force)

    if request.jobs:
        score_kept_generators(request, spec, registry, outcome, emit)
        check_process()
        return
    dataset = convert(request.dataset, PreparedDataset)
    folder = Path(request.folder)
    make_folder(folder)
    checked = preflight(spec, registry)
    check_process()
    outcome.parameters = dict(checked.parameters)
    held_out = dataset.held_out
    outcome.dataset = {
        "name": dataset.name,
        "source": dataset.source,
        "split": dataset.split,
        "count": dataset.count,
        "sha256": dataset.sha256,
        "held_out_split": held_out.split if held_out else None,
        "held_out_count": held_out.count if held_out else 0,
        "held_out_sha256": held_out.sha256 if held_out else None,
        "skipped": list(dataset.skipped),
        "images_with_alpha": dataset.with_alpha,
        "background": dataset.background or None,
        "notes": list(dataset.notes.values()),
    }
    saved = find_checkpoint(request, folder, emit)
    if saved is not None and saved.run_id == request.run_id:
        take_over(outcome, saved, *KEPT)
    else:
        emit(Stage("measuring"))
        outcome.throughput = {"import_seconds": import_seconds}
        _measure(spec, registry, dataset, checked, outcome, check_process, request.windows or WINDOWS)
        _refuse_disturbed(outcome.throughput, request.max_disturbance)
    if not spec.kimg:
        return
    architecture = materials_of(spec, registry).architecture
    drawing = Drawing.of(architecture)
    with undisturbed():
        scorers = [
            prepare_scorer(request, spec, registry, dataset, drawing, emit, extractor.name, spec.scoring.metrics)
            for extractor in spec.scoring.features
        ]
    assembly = assemble(spec, registry, dataset)
    outcome.dataset["resident"] = assembly.batches.resident
    if saved is None or saved.run_id != request.run_id:
        # Of an attempt that goes on no longer.
        remove_kept_generators(folder)
    log = TermLog(TrainResult()) if saved is None else restore_checkpoint(saved, request, assembly, outcome, emit)
    TrainingStage(request, spec, outcome, emit, stop, scorers, drawing, assembly, log, registry).run_training()
    if architecture.teachers:
        outcome.training["teachers"] = list(architecture.teachers)
    check_process()


def _measure(
    spec: RunSpec,
    registry: Registry,
    dataset: PreparedDataset,
    checked: Preflight,
    outcome: Outcome,
    check_process: Callable[[], None],
    windows: int,
) -> None:
    """Speed and memory, before the training: peak memory is the step's then, and not the feature extractor's."""
    throughput = outcome.throughput
    started = time.perf_counter()
    measured = assemble(spec, registry, dataset, purpose="throughput")
    outcome.dataset["resident"] = measured.batches.resident
    throughput["assemble_seconds"] = time.perf_counter() - started
    throughput |= measure_training(measured, spec.throughput_seconds, windows)
    throughput |= measure_sampling(measured, spec.recipe.batch_size, spec.throughput_seconds, windows)
    # What is recorded of the process was in force while it was measured.
    check_process()
    throughput["peak_memory_bytes"], throughput["peak_memory_reserved_bytes"] = peak_memory_bytes(spec.device)
    # Its images and networks must be gone before anything else is placed.
    del measured
    gc.collect()
    if spec.device != "cpu":
        torch.accelerator.empty_cache()
    throughput |= utilization(spec, checked, throughput["train_images_per_second"]["median"])


def _refuse_disturbed(throughput: Throughput, allowed: float | None) -> None:
    """Raise `Disturbed` where other processes disturbed the measurement more than is allowed."""
    share = throughput["disturbance"]
    if allowed is not None and share > allowed:
        raise Disturbed(
            f"other processes used {share:.1%} of the device while speed was measured, and --max-disturbance allows "
            f"{allowed:.1%}; the same command measures again, and --wait-until-quiet waits for a better moment"
        )
