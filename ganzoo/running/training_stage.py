"""The training of a run with its scorings, its checkpoints, and what is kept of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ganzoo.evaluation.drawing import Drawing
from ganzoo.evaluation.sampling import untrained_generator
from ganzoo.evaluation.scorer import Scorer
from ganzoo.evaluation.yardsticks import DrawImages, measure_yardsticks
from ganzoo.machine.timing import summary
from ganzoo.records.checkpoint import CHECKPOINT, Checkpoint, write_checkpoint
from ganzoo.records.points import best_and_final, best_of
from ganzoo.records.store import BEST_GENERATOR, generator_file
from ganzoo.registry.isolation import undisturbed
from ganzoo.registry.registry import Registry
from ganzoo.running.keeping import keep_final, weights_writer, written
from ganzoo.running.resuming import KEPT
from ganzoo.running.scoring import images_of, score_players
from ganzoo.running.wire import Note, OnMessage, Outcome, Progress, Scores, Stage
from ganzoo.runs import RunRequest, RunSpec, Score
from ganzoo.training.assembly import Assembly
from ganzoo.training.loop import TermLog, TrainResult, train
from ganzoo.training.snapshot import snapshot
from ganzoo.util.seeds import random_numbers_untouched
from ganzoo.util.signals import StopRequest


@dataclass
class TrainingStage:
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
        final = keep_final(self.spec, self.assembly, self.drawing, self.folder, self.log.result.kimg, self.emit)
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
            return lambda count: images_of(generator, of, run.draw_latent, self.drawing, scorer, who, count)

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
            scores, protocols = score_players(self.spec, self.assembly, self.drawing, self.scorers, kimg)
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
        self.outcome.files |= written(
            {name: weights_writer(self.spec, self.assembly, self.emit)}, self.spec, self.folder, self.emit
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
