"""Scores of a run's generators: in training, and of those that it has kept afterwards."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ganzoo.data.finding import find_dataset
from ganzoo.data.prepared import PreparedDataset
from ganzoo.evaluation.drawing import Drawing
from ganzoo.evaluation.extractors import load_extractor
from ganzoo.evaluation.sampling import GeneratedImages, load_generator
from ganzoo.evaluation.scorer import Scorer
from ganzoo.records.settings import is_averaged
from ganzoo.registry.isolation import undisturbed
from ganzoo.registry.registry import Registry
from ganzoo.running.wire import Note, OnMessage, Outcome, Scores, Stage
from ganzoo.runs import KeptGenerator, Protocol, RunRequest, RunSpec, Score
from ganzoo.training.assembly import Assembly, DrawLatent, latent_drawer, materials_of
from ganzoo.util.conversion import convert
from ganzoo.util.seeds import stream


def prepare_scorer(
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
    scorer = Scorer.of(
        registry,
        [registry.get("metrics", name) for name in metrics_asked],
        extractor,
        loaded,
        dataset,
        find_dataset(registry, spec.dataset)[0].record.images,
        spec.scoring.reference,
        drawing=drawing.options,
        on_note=lambda line: emit(Note(line)),
    )
    scorer.real.statistics()
    return scorer


def score_players(
    spec: RunSpec, run: Assembly, drawing: Drawing, scorers: Sequence[Scorer], kimg: float
) -> tuple[list[Score], dict[str, Protocol]]:
    """Scores of the averaged generator and of the raw one, from the same latents."""
    generators = {True: run.average.settled(), False: run.players.generator} if run.average.enabled else {}
    scores: list[Score] = []
    protocols: dict[str, Protocol] = {}
    for ema, generator in (generators or {False: run.players.generator}).items():
        for scorer in scorers:
            given, used = scores_of(generator, ema, spec, run.draw_latent, drawing, scorer, kimg, run.players)
            scores += given
            protocols |= used
    return scores, protocols


def scores_of(
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
    who = f"the {kind_of(ema)} generator at {kimg:g} kimg"
    images = images_of(generator, spec, draw, drawing, scorer, who, spec.scoring.fakes)
    return scorer.score(images, kimg, ema, players)


def images_of(
    generator: Any, spec: RunSpec, draw: DrawLatent, drawing: Drawing, scorer: Scorer, who: str, count: int
) -> Iterator[Tensor]:
    """The images that a generator is scored by, in batches of the extractor: from the same latents at any time."""
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
            scorer = prepare_scorer(request, spec, registry, dataset, drawing, emit, features, metrics)
        emit(Stage("scoring"))
        for kept in generators:
            generator = load_generator(Path(request.folder) / kept.file, spec, registry, kept.progress)
            with undisturbed():
                scores, protocols = scores_of(generator, is_averaged(spec), spec, draw, drawing, scorer, kept.kimg)
            outcome.scores += scores
            outcome.protocols |= protocols
            emit(Scores(kept.kimg, scores))


def kind_of(ema: bool) -> str:
    """What a generator is called in messages."""
    return "averaged" if ema else "raw"
