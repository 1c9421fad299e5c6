"""The stages of one run, in its own process: loading, measuring, reference, training with its scorings, the end.

Each fills in its part of the `outcome`, the fields of the record, so that a run that fails leaves what it had.
"""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypedDict

import torch
from safetensors.torch import save

from ganzoo.data.prepared import PreparedDataset
from ganzoo.errors import RecordError, RecordMissing, RecordUnreadable
from ganzoo.evaluation.extractors import load_extractor
from ganzoo.evaluation.features import RealSample
from ganzoo.evaluation.sampling import eval_mode, generated_images
from ganzoo.evaluation.scorer import Scorer
from ganzoo.machine.settings import apply_settings
from ganzoo.machine.timing import summary
from ganzoo.planning.provenance import check_unchanged
from ganzoo.records.checkpoint import CHECKPOINT, Checkpoint, read_checkpoint, write_checkpoint
from ganzoo.records.store import GENERATOR, SAMPLE_IMAGES, SAMPLES
from ganzoo.registry.discovery import discover
from ganzoo.registry.registry import Registry
from ganzoo.running.speed import measure_sampling, measure_training, peak_memory_bytes, process_seconds, utilization
from ganzoo.runs import Protocol, RunRequest, RunSpec, Score, Throughput
from ganzoo.training.assembly import Assembly, assemble
from ganzoo.training.loop import TermLog, TrainResult, train
from ganzoo.training.preflight import Preflight, preflight
from ganzoo.training.snapshot import restore, snapshot
from ganzoo.types import Metric
from ganzoo.util.conversion import convert, fault_of
from ganzoo.util.files import put_aside, sha256_of_file, write_atomically
from ganzoo.util.images import enlargement, grid, save_png, to_uint8
from ganzoo.util.seeds import stream
from ganzoo.util.signals import StopRequest
from ganzoo.util.text import printable


class Kept(TypedDict):
    """What a checkpoint keeps of the outcome; the rest is had again when a run goes on."""

    scores: list[Score]
    protocols: dict[str, Protocol]
    throughput: Throughput


KEPT = tuple(Kept.__annotations__)

Outcome = dict[str, Any]
Emit = Callable[..., None]


def carry_out(request: RunRequest, spec: RunSpec, outcome: Outcome, emit: Emit, stop: StopRequest) -> None:
    """Do the run, or go on with it where its folder holds a checkpoint. Fills `outcome` as far as the run gets."""
    emit("stage", stage="loading")
    import_seconds = process_seconds()
    registry = discover(request.plugins)
    # Once more, for a plugin may have changed them on import.
    apply_settings(spec.threads, spec.precision)
    torch.use_deterministic_algorithms(spec.deterministic)
    if request.code:
        check_unchanged(request.code, spec, registry)
    dataset = convert(request.dataset, PreparedDataset)
    folder = Path(request.folder)
    folder.mkdir(parents=True, exist_ok=True)
    checked = preflight(spec, registry)
    outcome["parameters"] = dict(checked.parameters)
    outcome["dataset"] = {
        "name": dataset.name,
        "source": dataset.source,
        "split": dataset.split,
        "count": dataset.count,
        "sha256": dataset.sha256,
        "skipped": list(dataset.skipped),
    }
    saved = _saved(request, folder, emit)
    if saved is not None and saved.run_id == request.run_id:
        outcome |= kept_outcome(saved)
    else:
        emit("stage", stage="measuring")
        outcome["throughput"] = {"import_seconds": import_seconds}
        _measure(spec, registry, dataset, checked, outcome)
    if spec.kimg:
        _Training(request, spec, registry, dataset, outcome, emit, stop).carry_out(saved)


def _saved(request: RunRequest, folder: Path, emit: Emit) -> Checkpoint | None:
    """The checkpoint to go on from: the run's own, or that of the run which it continues.

    Raises `RecordUnreadable` where there is one and it cannot be read, which may pass.
    """
    own = folder / CHECKPOINT
    try:
        checkpoint = read_checkpoint(own)
        if checkpoint.run_id == request.run_id and kept_outcome(checkpoint):
            return checkpoint
        fault = f"{printable(own)}: is of another run"
    except RecordMissing:
        fault = ""
    except RecordUnreadable:
        raise
    except RecordError as error:
        fault = str(error)
    if fault:
        put_aside(own)
        emit("note", line=f"{fault}; put aside, and the run starts again")
    if not request.continues:
        return None
    continued = read_checkpoint(Path(request.continues))
    if continued.run_id != request.spec["continues"]:
        raise RecordError(f"{printable(request.continues)}: is of another run than the one to be trained on")
    return continued


def kept_outcome(saved: Checkpoint) -> Outcome:
    """What a checkpoint keeps of the outcome. Raises `RecordError` where it holds something else."""
    kept = saved.state.get("outcome") if isinstance(saved.state, dict) else None
    if not isinstance(kept, dict) or set(kept) != set(KEPT):
        raise RecordError(f"the checkpoint does not hold a run: it lacks {', '.join(KEPT)}")
    if fault := fault_of(kept, Kept):
        raise RecordError(f"the checkpoint does not hold a run: {fault}")
    return kept


def _measure(spec: RunSpec, registry: Registry, dataset: PreparedDataset, checked: Preflight, outcome: Outcome) -> None:
    """Speed and memory, before the training: peak memory is the step's then, and not the feature extractor's."""
    throughput = outcome["throughput"]
    started = time.perf_counter()
    measured = assemble(spec, registry, dataset, purpose="throughput")
    outcome["dataset"]["resident"] = measured.batches.resident
    throughput["assemble_seconds"] = time.perf_counter() - started
    throughput |= measure_training(measured, spec.throughput_seconds)
    throughput |= measure_sampling(measured, spec.recipe.batch_size, spec.throughput_seconds)
    throughput["peak_memory_bytes"], throughput["peak_memory_reserved_bytes"] = peak_memory_bytes(spec.device)
    # Its images and networks must be gone before anything else is placed.
    del measured
    gc.collect()
    if spec.device != "cpu":
        torch.accelerator.empty_cache()
    throughput |= utilization(spec, checked, throughput["train_images_per_second"]["median"])


@dataclass
class _Training:
    """The training of a run, its scorings and its checkpoints."""

    request: RunRequest
    spec: RunSpec
    registry: Registry
    dataset: PreparedDataset
    outcome: Outcome
    emit: Emit
    stop: StopRequest

    def carry_out(self, saved: Checkpoint | None) -> None:
        """Train to the end of the budget, from `saved` where there is one; then keep the generator and a picture."""
        self.scorer = self._scorer() if self.spec.metrics else None
        self.run = assemble(self.spec, self.registry, self.dataset)
        self.outcome["dataset"]["resident"] = self.run.batches.resident
        self.log = TermLog(TrainResult())
        if saved is None:
            self.outcome |= {"scores": [], "protocols": {}}
        else:
            self._go_on_from(saved)
        self.last_saved = time.monotonic()
        self.emit("stage", stage="training")
        self.stop.deferred = True
        try:
            self._train()
        except KeyboardInterrupt:
            # Between two steps. After any other exception a step may be torn, and the last checkpoint is the better.
            self.outcome["training"] = asdict(self.log.result)
            self._save()
            raise
        self._save()
        self.outcome["training"] = asdict(self.log.result)
        metrics = self.scorer.metrics if self.scorer else ()
        self.outcome["training"] |= _best_and_final(self.outcome["scores"], metrics)
        self.outcome["files"] = _keep_generator(self.spec, self.run, Path(self.request.folder), self.emit)

    def _scorer(self) -> Scorer:
        self.emit("stage", stage="reference")
        extractor = self.registry.get("features", self.spec.features)
        own_weights = Path(self.request.weights) if self.request.weights else None
        loaded = load_extractor(extractor.record, self.spec.device, own_weights, self.request.weights_sha256)
        source = self.registry.status_of(extractor.plugin).source_sha256
        metrics = [self.registry.get("metrics", name) for name in self.spec.metrics]
        real = RealSample(self.dataset, loaded, lambda line: self.emit("note", line=line), source)
        real.statistics()
        plugins = {metric.record.name: metric.plugin for metric in metrics}
        code = {name: self.registry.sources_of(plugin, extractor.plugin) for name, plugin in plugins.items()}
        return Scorer([metric.record for metric in metrics], real, plugins, code)

    def _go_on_from(self, saved: Checkpoint) -> None:
        kept = kept_outcome(saved)
        self.outcome |= {name: kept[name] for name in ("scores", "protocols")}
        try:
            self.log = restore(self.run, saved.tensors, saved.state)
        except RecordError:
            with contextlib.suppress(FileNotFoundError):
                put_aside(Path(self.request.folder) / CHECKPOINT)
            raise
        result = self.log.result
        result.resumed_at_kimg.append(result.kimg)
        self.outcome["training"] = asdict(result)
        if saved.run_id == self.request.run_id:
            flags = self.outcome["throughput"].setdefault("flags", [])
            flags += [flag for flag in (RESUMED,) if flag not in flags]
        self.emit(
            "note", line=f"{printable(self.spec.variant)}, seed {self.spec.seed}: goes on at {result.kimg:g} kimg"
        )

    def _train(self) -> None:
        def on_progress(result: TrainResult, terms: dict[str, float]) -> None:
            self.outcome["training"] = asdict(result)
            self.emit("progress", kimg=result.kimg, seconds=result.train_seconds, terms=terms)

        def pause_due() -> bool:
            return self.stop.asked or time.monotonic() - self.last_saved >= self.request.checkpoint_seconds

        def on_pause() -> None:
            if self.stop.asked:
                raise KeyboardInterrupt
            self._save()

        train(
            self.run,
            self.spec.kimg,
            self.spec.evaluate_at_kimg,
            log=self.log,
            on_progress=on_progress,
            on_evaluate=self._evaluate if self.scorer else lambda kimg: None,
            pause_due=pause_due,
            on_pause=on_pause,
        )

    def _evaluate(self, kimg: float) -> None:
        assert self.scorer is not None
        self.emit("stage", stage="scoring")
        since = time.perf_counter()
        with _random_numbers_untouched(self.spec.device), self.stop.at_once():
            scores, protocols = _score(self.spec, self.run, self.scorer, kimg)
        scored = self.spec.fakes * len({score["ema"] for score in scores})
        rates = self.outcome["throughput"].get("evaluation_images_per_second", {"samples": []})["samples"]
        rates = [*rates, scored / (time.perf_counter() - since)]
        self.outcome["throughput"]["evaluation_images_per_second"] = summary(rates)
        seconds = self.log.result.train_seconds
        earlier = [score for score in self.outcome["scores"] if score["kimg"] < kimg]
        self.outcome["scores"] = earlier + [{**score, "train_seconds": seconds} for score in scores]
        self.outcome["protocols"] |= protocols
        self.emit("scored", kimg=kimg, scores=scores)
        self.emit("stage", stage="training")

    def _save(self) -> None:
        """Keep a checkpoint. A disk that is full costs the checkpoint and not the run."""
        tensors, state = snapshot(self.run, self.log)
        state["outcome"] = {name: self.outcome[name] for name in KEPT}
        try:
            write_checkpoint(Path(self.request.folder) / CHECKPOINT, Checkpoint(self.request.run_id, tensors, state))
        except OSError as error:
            self.emit("note", line=f"no checkpoint could be written ({error.strerror}); the run goes on without")
        self.last_saved = time.monotonic()


RESUMED = "resumed: measured by the process that began the run"


@contextlib.contextmanager
def _random_numbers_untouched(device: str) -> Iterator[None]:
    """Whatever a generator draws while it is scored, the training goes on with the numbers that it would have had."""
    on_device = device != "cpu"
    devices = [torch.accelerator.current_device_index()] if on_device else []
    with torch.random.fork_rng(devices, device_type=torch.device(device).type if on_device else "cuda"):
        yield


def _score(spec: RunSpec, run: Assembly, scorer: Scorer, kimg: float) -> tuple[list[Any], dict[str, Any]]:
    """Scores of the averaged generator and of the raw one, from the same latents."""
    generators = {True: run.average.average, False: run.players.generator} if run.average.enabled else {}
    scores: list[Any] = []
    protocols: dict[str, Any] = {}
    for ema, generator in (generators or {False: run.players.generator}).items():
        images = generated_images(
            generator,
            spec.fakes,
            scorer.real.extractor.extractor.batch_size,
            run.draw_latent,
            stream(spec.seed, "evaluation"),
            spec.device,
            scorer.real.labels if generator.conditional else None,
        )
        found, used = scorer.score(images, kimg, ema)
        scores += found
        protocols |= used
    return scores, protocols


def _best_and_final(scores: Sequence[dict[str, Any]], metrics: Sequence[Metric]) -> dict[str, Any]:
    """`{"best": {...}, "final": {...}}`, each from score and weights (`fid/ema`) to value and kimg."""
    better = {name: way for metric in metrics for name, way in metric.better.items()}
    best: dict[str, Any] = {}
    final: dict[str, Any] = {}
    for score in scores:
        key = f"{score['metric']}/{'ema' if score['ema'] else 'raw'}"
        point = {"value": score["value"], "kimg": score["kimg"]}
        final[key] = point
        if point["value"] is None:
            continue
        sign = 1 if better.get(score["metric"]) == "lower" else -1
        if key not in best or sign * point["value"] < sign * best[key]["value"]:
            best[key] = point
    return {"best": best, "final": final}


def _keep_generator(spec: RunSpec, run: Assembly, folder: Path, emit: Emit) -> dict[str, str]:
    """The averaged generator's weights, and a picture of it at fixed latents; each class in turn if conditional.

    Gives the sha256 of each file by its name. One that cannot be written, as on a full disk, costs a note only.
    """
    generator: Any = run.average.average
    latent = run.draw_latent(SAMPLE_IMAGES, stream(spec.seed, "samples")).to(spec.device)
    labels = torch.arange(SAMPLE_IMAGES, device=spec.device) % spec.classes if generator.conditional else None
    with eval_mode(generator), torch.inference_mode():
        images = to_uint8(generator(latent, labels)).cpu()
    state = {
        name: tensor.detach().cpu().contiguous().clone() for name, tensor in generator.network.state_dict().items()
    }
    writes: dict[str, Callable[[Path], None]] = {
        SAMPLES: lambda path: save_png(grid(images), path, scale=enlargement(spec.image_shape[1])),
        GENERATOR: lambda path: write_atomically(path, lambda stream: stream.write(save(state))),
    }
    hashes: dict[str, str] = {}
    for name, write in writes.items():
        try:
            # What an attempt that was killed has left may be of other weights.
            (folder / name).unlink(missing_ok=True)
            write(folder / name)
            hashes[name] = sha256_of_file(folder / name)
        except OSError as error:
            lacks = f"has no {name}, which could not be written ({printable(error.strerror or error)})"
            emit("note", line=f"{printable(spec.variant)}, seed {spec.seed}: {lacks}")
    return hashes
