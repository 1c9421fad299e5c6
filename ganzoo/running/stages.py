"""The stages of one run: loading, measuring, reference, training with its scorings, and what is kept at the end.

Each fills in its part of the `Outcome`, so that a run that fails leaves what it had.
"""

from __future__ import annotations

import contextlib
import gc
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import torch
from torch import Tensor, nn

from ganzoo.data.finding import find_dataset
from ganzoo.data.prepared import PreparedDataset
from ganzoo.errors import Disturbed, RecordError, RecordMissing, RecordUnreadable
from ganzoo.evaluation.drawing import Drawing
from ganzoo.evaluation.extractors import load_extractor
from ganzoo.evaluation.features import RealSample
from ganzoo.evaluation.quantization import Quantizer
from ganzoo.evaluation.sampling import GeneratedImages, eval_mode, load_generator, noise_seed, untrained_generator
from ganzoo.evaluation.scorer import Scorer
from ganzoo.evaluation.yardsticks import DrawImages, measure_yardsticks
from ganzoo.machine.settings import apply_settings
from ganzoo.machine.timing import WINDOWS, summary
from ganzoo.planning.provenance import check_code_inside, check_unchanged
from ganzoo.records.checkpoint import CHECKPOINT, Checkpoint, read_checkpoint, write_checkpoint
from ganzoo.records.folder import remove_kept_generators
from ganzoo.records.points import best_and_final, best_of
from ganzoo.records.settings import is_averaged
from ganzoo.records.store import BEST_GENERATOR, GENERATOR, SAMPLE_IMAGES, SAMPLES, generator_file
from ganzoo.registry.discovery import discover
from ganzoo.registry.isolation import check_settings, settings_in_force, undisturbed
from ganzoo.registry.registry import Registry
from ganzoo.registry.search_path import search_like
from ganzoo.running.speed import measure_sampling, measure_training, peak_memory_bytes, process_seconds, utilization
from ganzoo.running.wire import Note, OnMessage, Outcome, Progress, Scores, Stage
from ganzoo.runs import FileFacts, KeptGenerator, Protocol, RunRequest, RunSpec, Score, Throughput
from ganzoo.training.assembly import Assembly, DrawLatent, assemble, latent_drawer, materials_of
from ganzoo.training.loop import TermLog, TrainResult, train
from ganzoo.training.preflight import Preflight, preflight
from ganzoo.training.snapshot import restore, snapshot
from ganzoo.training.weights import state_bytes, state_of
from ganzoo.util.conversion import convert, fault_of
from ganzoo.util.files import put_aside, sha256_of_file, write_atomically
from ganzoo.util.images import enlargement, grid, save_png
from ganzoo.util.rights import make_folder
from ganzoo.util.seeds import random_numbers_untouched, stream
from ganzoo.util.signals import StopRequest
from ganzoo.util.text import error_line, printable


class Kept(TypedDict):
    """What a checkpoint keeps of the outcome; a run that goes on makes the rest again."""

    scores: list[Score]
    protocols: dict[str, Protocol]
    throughput: Throughput
    files: NotRequired[dict[str, FileFacts]]
    """The generators that were kept so far; absent from older checkpoints."""


KEPT = tuple(Kept.__annotations__)


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
    saved = _saved(request, folder, emit)
    if saved is not None and saved.run_id == request.run_id:
        _take_over(outcome, saved, *KEPT)
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
            _prepare_scorer(request, spec, registry, dataset, drawing, emit, extractor.name, spec.scoring.metrics)
            for extractor in spec.scoring.features
        ]
    assembly = assemble(spec, registry, dataset)
    outcome.dataset["resident"] = assembly.batches.resident
    if saved is None or saved.run_id != request.run_id:
        # Of an attempt that goes on no longer.
        remove_kept_generators(folder)
    log = TermLog(TrainResult()) if saved is None else _restore_checkpoint(saved, request, assembly, outcome, emit)
    _Training(request, spec, outcome, emit, stop, scorers, drawing, assembly, log, registry).run_training()
    if architecture.teachers:
        outcome.training["teachers"] = list(architecture.teachers)
    check_process()


def _saved(request: RunRequest, folder: Path, emit: OnMessage) -> Checkpoint | None:
    """The checkpoint to go on from: this run's, or that of the run which it continues.

    Raises `RecordUnreadable` where there is one and it cannot be read, which may pass.
    """
    path = folder / CHECKPOINT
    try:
        checkpoint = read_checkpoint(path)
        if checkpoint.run_id == request.run_id and kept_outcome(checkpoint):
            return checkpoint
        fault = f"{printable(path)}: is of another run"
    except RecordMissing:
        fault = ""
    except RecordUnreadable:
        raise
    except RecordError as error:
        fault = str(error)
    if fault:
        put_aside(path)
        emit(Note(f"{fault}; put aside, and the run starts again"))
    if not request.continues:
        return None
    continued = read_checkpoint(Path(request.continues))
    if continued.run_id != request.spec["continues"]:
        raise RecordError(f"{printable(request.continues)}: is of another run than the one to be trained on")
    return continued


def kept_outcome(saved: Checkpoint) -> dict[str, Any]:
    """The parts of the outcome that a checkpoint keeps, by `KEPT`. Raises `RecordError` where it holds other things."""
    kept = saved.state.get("outcome") if isinstance(saved.state, dict) else None
    if not isinstance(kept, dict):
        raise RecordError(f"the checkpoint does not hold a run: it lacks {', '.join(KEPT)}")
    if fault := fault_of(kept, Kept):
        raise RecordError(f"the checkpoint does not hold a run: {fault}")
    return kept


def _take_over(outcome: Outcome, saved: Checkpoint, *names: str) -> None:
    """Put these parts of `KEPT` into the outcome."""
    kept = kept_outcome(saved)
    for name in names:
        if name in kept:
            setattr(outcome, name, kept[name])


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


def _prepare_scorer(
    request: RunRequest,
    spec: RunSpec,
    registry: Registry,
    dataset: PreparedDataset,
    drawing: Drawing,
    emit: OnMessage,
    features: str,
    metrics_asked: Sequence[str],
) -> Scorer:
    """Metrics under one extractor, and the features of the real images that they compare with."""
    emit(Stage("reference"))
    extractor = registry.get("features", features)
    weights = Path(request.weights) if request.weights else None
    loaded = load_extractor(extractor.record, spec.device, weights, request.weights_sha256)
    source = registry.status_of(extractor.plugin).source_sha256
    metrics = [registry.get("metrics", name) for name in metrics_asked]
    real = RealSample(dataset, loaded, lambda line: emit(Note(line)), source, spec.scoring.reference)
    real.statistics()
    plugins = {metric.record.name: metric.plugin for metric in metrics}
    code = {name: registry.sources_of(plugin, extractor.plugin) for name, plugin in plugins.items()}
    kind = find_dataset(registry, spec.dataset)[0].record.images
    held_out = real.others("test") if dataset.held_out else None
    return Scorer([metric.record for metric in metrics], real, plugins, code, drawing.options, kind, held_out)


def _restore_checkpoint(
    saved: Checkpoint, request: RunRequest, assembly: Assembly, outcome: Outcome, emit: OnMessage
) -> TermLog:
    """Put the checkpoint into the networks and optimizers; gives the log of the training so far.

    Puts a checkpoint aside that does not fit, and raises `RecordError`.
    """
    _take_over(outcome, saved, "scores", "protocols")
    try:
        log = restore(assembly, saved.tensors, saved.state)
    except RecordError:
        with contextlib.suppress(FileNotFoundError):
            put_aside(Path(request.folder) / CHECKPOINT)
        raise
    result = log.result
    result.resumed_at_kimg.append(result.kimg)
    outcome.training = result.facts()
    if saved.run_id == request.run_id:
        flags = outcome.throughput.get("flags", [])
        outcome.throughput["flags"] = flags if RESUMED in flags else [*flags, RESUMED]
    label = f"{printable(request.spec['variant'])}, seed {request.spec['seed']}"
    emit(Note(f"{label}: goes on at {result.kimg:g} kimg"))
    return log


@dataclass
class _Training:
    """The training of a run, its scorings and its checkpoints. `last_saved` is in seconds of the monotonic clock."""

    request: RunRequest
    spec: RunSpec
    outcome: Outcome
    emit: OnMessage
    stop: StopRequest
    scorers: Sequence[Scorer]
    drawing: Drawing
    assembly: Assembly
    log: TermLog
    registry: Registry
    last_saved: float = field(default_factory=time.monotonic)

    def run_training(self) -> None:
        """Train to the end of the budget; then keep the generator and a picture."""
        self.emit(Stage("training"))
        self.stop.deferred = True
        try:
            self._train()
        except KeyboardInterrupt:
            # Between two steps. After any other exception a step may be torn, and the last checkpoint is the better.
            self.outcome.training = self.log.result.facts()
            self._save()
            raise
        self._save()
        self._measure_yardsticks()
        points = best_and_final(self.outcome.scores, self.outcome.protocols)
        self.outcome.training = self.log.result.facts() | points
        final = _keep_final(self.spec, self.assembly, self.drawing, self.folder, self.log.result.kimg, self.emit)
        # What was kept on the way may have been removed by hand while the run was interrupted.
        on_the_way = {name: facts for name, facts in self.outcome.files.items() if (self.folder / name).is_file()}
        self.outcome.files = final | on_the_way

    def _train(self) -> None:
        def on_progress(result: TrainResult, terms: dict[str, float]) -> None:
            self.outcome.training = result.facts()
            self.emit(Progress(result.kimg, result.train_seconds, terms))

        def pause_due() -> bool:
            return self.stop.asked or time.monotonic() - self.last_saved >= self.request.checkpoint_seconds

        def on_pause() -> None:
            if self.stop.asked:
                raise KeyboardInterrupt
            self._save()

        train(
            self.assembly,
            self.spec.kimg,
            self.spec.scoring.evaluate_at_kimg,
            log=self.log,
            on_progress=on_progress,
            on_evaluate=self._evaluate if self.scorers else lambda kimg: None,
            pause_due=pause_due,
            on_pause=on_pause,
        )

    def _measure_yardsticks(self) -> None:
        if not self.request.yardsticks:
            return
        self.emit(Stage("scoring"))
        spec, run = self.spec, self.assembly
        new = replace(spec, seed=0)
        # All that decides what an untrained generator gives; of a conditional one also which classes are drawn.
        recipe, plugins = spec.recipe, self.request.code.get("plugins", {})
        key = [recipe.architecture, recipe.options, recipe.latent, spec.image_shape, spec.dataset_sha256, plugins]

        def draw(generator: Any, of: RunSpec, scorer: Scorer, who: str) -> DrawImages:
            return lambda count: _images_of(generator, of, run.draw_latent, self.drawing, scorer, who, count)

        with undisturbed(), random_numbers_untouched(spec.device), self.stop.at_once():
            final, untrained = run.average.settled(), untrained_generator(new, self.registry)
            for scorer in self.scorers:
                self.outcome.yardsticks += measure_yardsticks(
                    scorer,
                    spec.scoring.fakes,
                    run.average.enabled,
                    trained=draw(final, spec, scorer, "the generator"),
                    untrained=draw(untrained, new, scorer, "the untrained generator"),
                    untrained_key=[*key, self.drawing.options],
                )

    def _evaluate(self, kimg: float) -> None:
        self.emit(Stage("scoring"))
        since = time.perf_counter()
        with undisturbed(), random_numbers_untouched(self.spec.device), self.stop.at_once():
            scores, protocols = _score(self.spec, self.assembly, self.drawing, self.scorers, kimg)
        scored = self.spec.scoring.fakes * len(self.scorers) * len({score["ema"] for score in scores})
        rates = self.outcome.throughput.get("evaluation_images_per_second", {"samples": []})["samples"]
        rates = [*rates, scored / (time.perf_counter() - since)]
        self.outcome.throughput["evaluation_images_per_second"] = summary(rates)
        seconds = self.log.result.train_seconds
        earlier = [score for score in self.outcome.scores if score["kimg"] < kimg]
        timed: list[Score] = [{**score, "train_seconds": seconds} for score in scores]
        self.outcome.scores = earlier + timed
        self.outcome.protocols |= protocols
        self._keep_on_the_way(kimg)
        self.emit(Scores(kimg, scores))
        self.emit(Stage("training"))

    @property
    def folder(self) -> Path:
        """Where the run's files go."""
        return Path(self.request.folder)

    def _keep_on_the_way(self, kimg: float) -> None:
        """Keep the generator that was just scored, where `--keep` asks for it."""
        if self.request.keep == "all":
            name = generator_file(kimg)
        elif self.request.keep == "best" and self._is_best(kimg):
            name = BEST_GENERATOR
        else:
            return
        self.outcome.files |= _written(
            {name: _weights_writer(self.spec, self.assembly, self.emit)}, self.spec, self.folder, self.emit
        )
        if name in self.outcome.files:
            self.outcome.files[name] |= {"kimg": kimg, "progress": self.assembly.progress}

    def _is_best(self, kimg: float) -> bool:
        """Whether no generator that was kept before is as good, by the first metric under the first extractor."""
        first = self.scorers[0].metrics[0]
        ema = self.assembly.average.enabled
        protocol, _ = self.scorers[0].protocol(first, self.spec.scoring.fakes, ema)
        name = next(iter(first.better))
        kept = {kimg, *(facts["kimg"] for facts in self.outcome.files.values() if "kimg" in facts)}
        candidates = (
            score
            for score in self.outcome.scores
            if (score["metric"], score["protocol"]) == (name, protocol) and score["kimg"] in kept
        )
        best = best_of(candidates, self.outcome.protocols)
        return best is not None and best["kimg"] == kimg

    def _save(self) -> None:
        """Write a checkpoint. A disk that is full costs the checkpoint and not the run."""
        tensors, state = snapshot(self.assembly, self.log)
        state["outcome"] = {name: getattr(self.outcome, name) for name in KEPT}
        try:
            write_checkpoint(Path(self.request.folder) / CHECKPOINT, Checkpoint(self.request.run_id, tensors, state))
        except OSError as error:
            self.emit(Note(f"no checkpoint could be written ({error.strerror}); the run goes on without"))
        self.last_saved = time.monotonic()


RESUMED = "resumed: measured by the process that began the run"


def _score(
    spec: RunSpec, run: Assembly, drawing: Drawing, scorers: Sequence[Scorer], kimg: float
) -> tuple[list[Score], dict[str, Protocol]]:
    """Scores of the averaged generator and of the raw one, from the same latents."""
    generators = {True: run.average.settled(), False: run.players.generator} if run.average.enabled else {}
    scores: list[Score] = []
    protocols: dict[str, Protocol] = {}
    for ema, generator in (generators or {False: run.players.generator}).items():
        for scorer in scorers:
            given, used = _scores_of(generator, ema, spec, run.draw_latent, drawing, scorer, kimg, run.players)
            scores += given
            protocols |= used
    return scores, protocols


def _scores_of(
    generator: Any,
    ema: bool,
    spec: RunSpec,
    draw: DrawLatent,
    drawing: Drawing,
    scorer: Scorer,
    kimg: float,
    players: Mapping[str, nn.Module] | None = None,
) -> tuple[list[Score], dict[str, Protocol]]:
    """Scores of one generator: the latents are the same in training and afterwards, whatever else it is scored by."""
    who = f"the {_kind(ema)} generator at {kimg:g} kimg"
    images = _images_of(generator, spec, draw, drawing, scorer, who, spec.scoring.fakes)
    return scorer.score(images, kimg, ema, players)


def _images_of(
    generator: Any, spec: RunSpec, draw: DrawLatent, drawing: Drawing, scorer: Scorer, who: str, count: int
) -> Iterator[Tensor]:
    return GeneratedImages(
        generator,
        count,
        scorer.real.extractor.extractor.batch_size,
        draw,
        stream(spec.seed, "evaluation"),
        spec.device,
        scorer.real.labels if generator.conditional else None,
        who,
        drawing,
    )


def score_kept_generators(
    request: RunRequest, spec: RunSpec, registry: Registry, outcome: Outcome, emit: OnMessage
) -> None:
    """Do the jobs of a request: score generators that the run has kept. Fills in their scores and protocols."""
    dataset = convert(request.dataset, PreparedDataset)
    architecture = materials_of(spec, registry).architecture
    drawing, draw = Drawing.of(architecture), latent_drawer(spec, architecture)
    work: dict[tuple[str, tuple[str, ...]], list[KeptGenerator]] = defaultdict(list)
    for job in request.jobs:
        work[job.features, job.metrics].append(job.generator)
    for (features, metrics), generators in work.items():
        with undisturbed():
            scorer = _prepare_scorer(request, spec, registry, dataset, drawing, emit, features, metrics)
        emit(Stage("scoring"))
        for kept in generators:
            generator = load_generator(Path(request.folder) / kept.file, spec, registry, kept.progress)
            with undisturbed():
                scores, protocols = _scores_of(generator, is_averaged(spec), spec, draw, drawing, scorer, kept.kimg)
            outcome.scores += scores
            outcome.protocols |= protocols
            emit(Scores(kept.kimg, scores))


def _kind(ema: bool) -> str:
    return "averaged" if ema else "raw"


def _turns(run: Assembly, spec: RunSpec, count: int) -> tuple[Tensor, Tensor | None]:
    """Latents, and labels in turn where the generator takes them."""
    latent = run.draw_latent(count, stream(spec.seed, "preparation")).to(spec.device)
    labels = torch.arange(count, device=spec.device) % spec.classes if run.players.generator.conditional else None
    return latent, labels


def _keep_final(
    spec: RunSpec, run: Assembly, drawing: Drawing, folder: Path, kimg: float, emit: OnMessage
) -> dict[str, FileFacts]:
    """The averaged generator's weights, and a picture of it at fixed latents; each class in turn if conditional.

    Gives the facts of each file by its name. One that cannot be written, as on a full disk, costs a note only. Raises
    `Diverged` where the images are not finite, which no term of the last step may have shown.
    """
    generator: Any = run.average.settled()
    rng = stream(spec.seed, "samples")
    latent = run.draw_latent(SAMPLE_IMAGES, rng).to(spec.device)
    labels = torch.arange(SAMPLE_IMAGES, device=spec.device) % spec.classes if generator.conditional else None
    quantize = Quantizer(f"the {_kind(run.average.enabled)} generator")
    ready = drawing.ready(generator, lambda count: _turns(run, spec, count), noise_seed(rng), spec.device)
    with eval_mode(ready):
        images = quantize(drawing.images(ready, latent, labels, noise_seed(rng))).cpu()
    quantize.check()
    writes = {
        SAMPLES: lambda path: save_png(grid(images), path, scale=enlargement(spec.image_shape[1])),
        GENERATOR: _weights_writer(spec, run, emit),
    }
    files = _written(writes, spec, folder, emit)
    if GENERATOR in files:
        files[GENERATOR] |= {"kimg": kimg, "progress": run.progress}
    return files


def _label(spec: RunSpec) -> str:
    return f"{printable(spec.variant)}, seed {spec.seed}"


def _weights_writer(spec: RunSpec, run: Assembly, emit: OnMessage) -> Callable[[Path], None]:
    """Writes the averaged generator, as it is now, to a path."""
    generator: Any = run.average.settled()

    def write(path: Path) -> None:
        state = state_of(generator.network)
        write_atomically(path, lambda stream: stream.write(state_bytes(state)))
        if state.left_out:
            names = printable(", ".join(state.left_out), 200)
            emit(Note(f"{_label(spec)}: {path.name} has no {names}, which are no tensors and cannot be JSON"))

    return write


def _written(
    writes: Mapping[str, Callable[[Path], None]], spec: RunSpec, folder: Path, emit: OnMessage
) -> dict[str, FileFacts]:
    """Write files; gives the sha256 of each by its name, and a note for each that cannot be written."""
    files: dict[str, FileFacts] = {}
    for name, write in writes.items():
        try:
            # What an attempt that was killed has left may be of other weights.
            (folder / name).unlink(missing_ok=True)
            write(folder / name)
            files[name] = {"sha256": sha256_of_file(folder / name)}
        except Exception as error:  # A module of a plugin gives its own state, and may raise anything.
            reason = printable(error.strerror or error) if isinstance(error, OSError) else error_line(error)
            emit(Note(f"{_label(spec)}: has no {name}, which could not be written ({reason})"))
    return files
