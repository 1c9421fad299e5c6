"""Finished runs are scored by what they have not been scored by yet. Nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ganzoo.data.finding import find_dataset, prepare_dataset
from ganzoo.data.prepared import PreparedDataset
from ganzoo.errors import PluginError, RecordError, UsageError
from ganzoo.evaluation.drawing import Drawing
from ganzoo.evaluation.scorer import protocol_of
from ganzoo.machine.settings import resolve_device, resolve_threads
from ganzoo.planning.provenance import code_of, code_of_scoring, what_changed
from ganzoo.planning.request import BenchPlan
from ganzoo.planning.scoring import check_images_for, resolve_scoring
from ganzoo.records.adding import add_scores
from ganzoo.records.folder import claim
from ganzoo.records.generators import check_unchanged_file, kept_at, kept_generators
from ganzoo.records.settings import is_averaged
from ganzoo.records.store import read_record, read_spec
from ganzoo.registry.registry import Registry
from ganzoo.registry.search_path import absolute_search_path
from ganzoo.registry.validation import blaming
from ganzoo.running.events import OnNote
from ganzoo.running.launcher import Launcher
from ganzoo.running.wire import Message, Note, Outcome
from ganzoo.runs import Environment, ExtractorWeights, KeptGenerator, RunRecord, RunRequest, RunSpec, ScoringJob
from ganzoo.training.assembly import materials_of
from ganzoo.util.text import printable


def missing_scores(
    record: RunRecord,
    generators: Sequence[KeptGenerator],
    spec: RunSpec,
    registry: Registry,
    dataset: PreparedDataset,
) -> tuple[ScoringJob, ...]:
    """What is to be done so that these generators of a run have all scores that `spec.scoring` asks for."""
    known = {(score["protocol"], score["kimg"]) for score in record.scores}
    drawing = Drawing.of(materials_of(spec, registry).architecture).options
    jobs = []
    for extractor in spec.scoring.features:
        protocols = {
            metric: _protocol(metric, extractor, spec, registry, dataset, drawing) for metric in spec.scoring.metrics
        }
        for generator in generators:
            lacking = tuple(metric for metric, protocol in protocols.items() if (protocol, generator.kimg) not in known)
            jobs += [ScoringJob(generator, lacking, extractor.name)] if lacking else []
    return tuple(jobs)


def _protocol(
    metric: str,
    extractor: ExtractorWeights,
    spec: RunSpec,
    registry: Registry,
    dataset: PreparedDataset,
    drawing: Mapping[str, Any],
) -> str:
    """The id of the protocol by which a kept generator is scored."""
    offer, features = registry.get("metrics", metric), registry.get("features", extractor.name)
    with blaming(PluginError, f"metric '{offer.record.name}'"):
        identity, _ = protocol_of(
            offer.record,
            dataset.reference(spec.scoring.reference),
            features.record,
            extractor.weights_sha256,
            plugin=offer.plugin,
            code=registry.sources_of(offer.plugin, features.plugin),
            drawing=drawing,
            fakes=spec.scoring.fakes,
            ema=is_averaged(spec),
            held_out=dataset.reference("test") if dataset.held_out else None,
        )
    return identity


@dataclass(frozen=True)
class Rescoring:
    """How the scores of finished runs are completed: with whose code, in which process."""

    registry: Registry
    dataset: PreparedDataset
    launcher: Launcher
    plugins: tuple[str, ...]
    on_note: OnNote
    weights: str | None = None
    weights_sha256: str | None = None

    def complete(self, record: RunRecord, spec: RunSpec, code: Environment) -> RunRecord:
        """Score the generators that a run has kept by what `spec.scoring` asks for and its record lacks; gives the
        record with the scores, which is written. The run must be claimed.

        A generator that was thrown away costs a note. Raises `RecordError` where a file is not that of the run, and
        `ScoringFailed` where the scores could not be computed; the record is as it was then.
        """
        assert record.path is not None
        name = printable(record.path.parent.name)
        generators = kept_generators(record)
        jobs = missing_scores(record, generators, spec, self.registry, self.dataset)
        final = kept_at(record)
        gone = [] if final.kimg in {generator.kimg for generator in generators} else [final]
        if lost := missing_scores(record, gone, spec, self.registry, self.dataset):
            self.on_note(f"{name}: its generator was thrown away, so it has no {_words(lost)}; {REMEDY}")
        if not jobs:
            return record
        for generator in dict.fromkeys(job.generator for job in jobs):
            check_unchanged_file(record, generator)
        self.on_note(f"{name}: trained before; scoring what it kept by {_words(jobs)}")
        outcome = self.launcher.launch(self._request(record, spec, code, jobs), self._pass_notes)
        if outcome.status != "ok":
            raise ScoringFailed(name, outcome)
        return add_scores(record.path, outcome.scores, outcome.protocols)

    def _request(self, record: RunRecord, spec: RunSpec, code: Environment, jobs: tuple[ScoringJob, ...]) -> RunRequest:
        assert record.path is not None
        return RunRequest(
            run_id=record.run_id,
            spec=spec.to_json(),
            dataset=asdict(self.dataset),
            folder=str(record.path.parent),
            plugins=self.plugins,
            weights=self.weights,
            weights_sha256=self.weights_sha256,
            checkpoint_seconds=0.0,
            code=code,
            scoring_code=code_of_scoring(spec.scoring, self.registry),
            search_path=absolute_search_path(),
            jobs=jobs,
        )

    def _pass_notes(self, message: Message) -> None:
        if isinstance(message, Note):
            self.on_note(message.line)


@dataclass(frozen=True)
class RunToScore:
    """A finished run, its spec with the scoring that is asked for, and what that needs."""

    record: RunRecord
    spec: RunSpec
    dataset: PreparedDataset
    code: Environment


def prepare_run(record: RunRecord, plan: BenchPlan, registry: Registry, on_note: OnNote) -> RunToScore:
    """Check that a run can be scored by what a plan says of scoring and data.

    It is scored on its own device where that is here, with as many threads as it had, unless the plan gives others: so
    a score is the one that the training would have given. Raises `RecordError` where the run kept no generator or its
    dataset has changed, and what `resolve_scoring` does.
    """
    assert record.path is not None
    name = printable(record.path.parent.name)
    spec = read_spec(record.spec)
    if not record.ok or not spec.kimg:
        raise RecordError(
            f"{name}: {'trained nothing' if record.ok else f'ended as {record.status}'}; nothing to score"
        )
    if not kept_generators(record):
        raise RecordError(f"{name}: its generator was thrown away; {REMEDY}")
    offer, argument = find_dataset(registry, spec.dataset)
    dataset = prepare_dataset(
        registry,
        offer,
        argument,
        image_size=spec.image_shape[1],
        data_root=plan.data_root,
        skip_bad_images=plan.skip_bad_images,
        background=plan.background,
    )
    if dataset.sha256 != spec.dataset_sha256:
        raise RecordError(f"{name}: dataset '{printable(dataset.name)}' has changed since the run; train it again")
    scoring = resolve_scoring(plan, registry, offer.record)
    check_images_for(scoring, registry, dataset)
    threads = spec.threads if plan.threads is None else resolve_threads(plan.threads)
    spec = replace(spec, scoring=scoring, device=_device(plan.device, spec.device), threads=threads)
    code = code_of(spec, registry)
    if changed := list(what_changed(record.environment, code)):
        on_note(f"{name}: since the run {'; '.join(changed)}; its generator is built by the new code")
    return RunToScore(record, spec, dataset, code)


def _device(asked: str, of_run: str) -> str:
    """The device that is asked for; where none is, that of the run, if it is here."""
    if asked != "auto":
        return resolve_device(asked)
    try:
        return resolve_device(of_run)
    except UsageError:
        return resolve_device(asked)


def score_run(run: RunToScore, plan: BenchPlan, registry: Registry, launcher: Launcher, on_note: OnNote) -> RunRecord:
    """Score a run by what it lacks, and add that to its record, which is given; waits for another that works on it.

    Raises what `Rescoring.complete` does.
    """
    path = run.record.path
    assert path is not None
    name = printable(path.parent.name)
    rescoring = Rescoring(
        registry, run.dataset, launcher, plan.plugins, on_note, weights=plan.weights, weights_sha256=plan.weights_sha256
    )

    def on_wait() -> None:
        on_note(f"{name} is being worked on by another process; waiting for it")

    with claim(path.resolve().parents[2], run.record.run_id, on_wait=on_wait):
        # Another process may have added to it.
        return rescoring.complete(read_record(path), run.spec, run.code)


REMEDY = "`ganzoo bench --force` trains it again"


class ScoringFailed(Exception):
    """A generator of `run` could not be scored: its process ended with this outcome."""

    def __init__(self, run: str, outcome: Outcome) -> None:
        super().__init__(outcome.error.message if outcome.error else outcome.status)
        self.run = run
        self.outcome = outcome


def _words(jobs: Sequence[ScoringJob]) -> str:
    """`fid, kid under digits-cnn; fid under inception`."""
    metrics: dict[str, dict[str, None]] = {}
    for job in jobs:
        metrics.setdefault(job.features, {}).update(dict.fromkeys(job.metrics))
    return printable("; ".join(f"{', '.join(names)} under {features}" for features, names in metrics.items()), 200)
