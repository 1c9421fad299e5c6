"""The training loop: phases, moving average, budget. What varies between GANs lives in the phases."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import cast

import torch
from torch import Tensor

from ganzoo.errors import Diverged
from ganzoo.machine.settings import synchronize
from ganzoo.runs import Training
from ganzoo.training.assembly import Assembly
from ganzoo.training.cuda_graph import WARMUP_STEPS, GraphedStep
from ganzoo.training.phase_update import Call
from ganzoo.training.progressive import shrunk
from ganzoo.types import Batch, Phase

LOG_POINTS = 200
"""About how many points a curve has, and how often the loop waits for the device to read the losses."""


@dataclass
class TrainResult:
    """How far a training is."""

    kimg: float = 0.0
    """Real images shown, in thousands; up to one step above the budget."""
    train_seconds: float = 0.0
    """Time of the loop, data and moving average included, evaluation, saving and setting up left out; over all
    processes of a resumed run."""
    setup_seconds: float = 0.0
    """Time of the steps that compile the phases, or prepare and capture CUDA graphs, once in each process."""
    steps_per_point: int = 1
    """Steps between two points of the curves."""
    evaluated_kimg: float = 0.0
    """Where the last evaluation took place."""
    curves: dict[str, list[float]] = field(default_factory=dict)
    """`kimg` and each `phase/term` to arrays of one length; each point is the mean since the last one."""
    updates: dict[str, int] = field(default_factory=dict)
    """Optimizer steps of each player as a whole, by its name."""
    resumed_at_kimg: list[float] = field(default_factory=list)
    """Where another process went on with the run."""

    def facts(self) -> Training:
        """A copy, as a record holds it."""
        return cast(Training, asdict(self))


def run_step(run: Assembly, log: TermLog | None = None) -> None:
    """One step: every phase that is due, as often as it repeats."""
    calls = due_calls(run)
    for (update, _), terms in zip(calls, run.perform(calls), strict=True):
        if log is not None:
            log.add(update.phase, terms)
    run.step += 1


def due_calls(run: Assembly) -> list[Call]:
    """The updates of the coming step, each with what it is given.

    All phases of a step share its batch of real images; a repeat of a phase that updates a judge draws another.
    Every call has a latent of its own, unless it takes the fakes that the call before it made.
    """
    calls: list[Call] = []
    real, labels = _next_batch(run)
    for update in run.updates:
        if run.step % update.phase.every:
            continue
        for repeat in range(update.phase.repeats):
            if repeat and update.phase.judges:
                real, labels = _next_batch(run)
            if update.takes_fakes:
                calls.append((update, calls[-1][1]))
                continue
            latent = run.draw_latent(len(real), run.latent_rng)
            drawn = None if run.label_rng is None else run.batches.some_labels(len(real), run.label_rng)
            calls.append((update, Batch(real, labels, latent, drawn, run.classes)))
    return calls


def train(
    run: Assembly,
    total_kimg: float,
    evaluate_at_kimg: Sequence[float] = (),
    *,
    log: TermLog | None = None,
    on_progress: Callable[[TrainResult, dict[str, float]], None] = lambda result, terms: None,
    on_evaluate: Callable[[float], None] = lambda kimg: None,
    pause_due: Callable[[], bool] = lambda: False,
    on_pause: Callable[[], None] = lambda: None,
) -> TrainResult:
    """Train until `total_kimg` thousand real images were shown to the discriminator, from where `log` says it is.

    `on_progress` follows each point of the curves. `on_evaluate(kimg)` is called as soon as each of
    `evaluate_at_kimg` is reached, and `on_pause()` between two steps whenever `pause_due()`, both off the clock.
    Raises `Diverged` with the phase, the term and the place when a term is not finite.
    """
    log = log or TermLog(TrainResult())
    result = log.result
    result.updates = {player: result.updates.get(player, 0) for player in run.players}
    clock = Clock(result, run.batches.device)
    setup = SetUp()
    due = sorted(kimg for kimg in evaluate_at_kimg if min(kimg, total_kimg) > result.evaluated_kimg)
    while True:
        over = result.kimg >= total_kimg
        evaluation_due = bool(due) and result.kimg >= min(due[0], total_kimg)
        if log.counts and (run.step % result.steps_per_point == 0 or evaluation_due or over):
            with clock.stopped():
                on_progress(result, log.flush(result.kimg, run.values.state))
        if evaluation_due:
            with clock.stopped():
                on_evaluate(result.kimg)
            result.evaluated_kimg = result.kimg
            due = [kimg for kimg in due if kimg > result.kimg]
        if over:
            return result
        if pause_due():
            with clock.stopped():
                on_pause()
        run.enter_stage(result.kimg / total_kimg)
        run.schedules.apply(result.kimg / total_kimg, run.step)
        with clock.stopped_for_setup() if setup.is_due(run) else nullcontext():
            run_step(run, log)
        seen, result.kimg = result.kimg, run.batches.drawn / 1000
        for average in run.averages.values():
            average.update(result.kimg, result.kimg - seen)
        if run.step == 1:
            result.steps_per_point = max(1, min(100, round(total_kimg / result.kimg / LOG_POINTS)))


def _next_batch(run: Assembly) -> tuple[Tensor, Tensor | None]:
    """Real images of the size that the players work on now, and their labels."""
    real, labels = next(run.batches)
    return shrunk(real, run.players.generator.image_size), labels


class SetUp:
    """Tells the steps in which this process compiles, or prepares and captures: the first of each mixture of phases."""

    def __init__(self) -> None:
        self.seen: dict[tuple[object, ...], int] = defaultdict(int)

    def is_due(self, run: Assembly) -> bool:
        """Whether the coming step of `run` is one; to be asked once before each step."""
        if isinstance(run.perform, GraphedStep):
            steps = WARMUP_STEPS + 1
        else:
            steps = int(any(update.function is not update.phase.function for update in run.updates))
        if not steps:
            return False
        names = (update.phase.name for update in run.updates if run.step % update.phase.every == 0)
        due = (run.players.generator.image_size, *names)
        self.seen[due] += 1
        return self.seen[due] <= steps


class Clock:
    """Adds the seconds of the training to a result; stopped while anything else is done."""

    def __init__(self, result: TrainResult, device: torch.device) -> None:
        self.result = result
        self.device = device
        self.started = time.perf_counter()

    @contextmanager
    def stopped_for_setup(self) -> Iterator[None]:
        """Stop the clock, and count the time of the block, until the device has finished, as that of setting up."""
        with self.stopped():
            started = time.perf_counter()
            yield
            synchronize(self.device)
            self.result.setup_seconds += time.perf_counter() - started

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop the clock once the device has finished its queue; restart it after the block."""
        synchronize(self.device)
        self.result.train_seconds += time.perf_counter() - self.started
        yield
        self.started = time.perf_counter()


class TermLog:
    """Sums the terms on the device, and reads the means when asked: the loop waits for no loss in between."""

    def __init__(self, result: TrainResult) -> None:
        self.result = result
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = defaultdict(int)

    def add(self, phase: Phase, terms: Mapping[str, Tensor]) -> None:
        """Count an update of each player that is updated as a whole, and add the terms, which the caller may reuse."""
        for player in phase.targets:
            if "." not in player:
                self.result.updates[player] = self.result.updates.get(player, 0) + 1
        for name, term in terms.items():
            key = f"{phase.name}/{name}"
            if key in self.sums:
                self.sums[key] += term
            else:
                self.sums[key] = term.float().clone()
            self.counts[key] += 1

    def flush(self, kimg: float, state: Mapping[str, Tensor] | None = None) -> dict[str, float]:
        """Append the means since the last flush, and `state` as it is, to the curves, and return them.

        Of a state only what is a single number is drawn. Raises `Diverged` where one is not finite.
        """
        now = {f"state/{name}": value for name, value in (state or {}).items() if value.dim() == 0}
        summed = {**self.sums, **now}
        values = torch.stack(list(summed.values())).cpu().tolist() if summed else []
        means = {key: value / self.counts.get(key, 1) for key, value in zip(summed, values, strict=True)}
        for key, mean in means.items():
            if not math.isfinite(mean):
                raise Diverged(f"the term '{key}' became {mean} by {kimg:.3f} kimg; lower the learning rate")
        points = len(self.result.curves.setdefault("kimg", []))
        self.result.curves["kimg"].append(kimg)
        for key, mean in means.items():
            # A lazy phase may be absent between two points; its curve keeps the last value to stay aligned.
            curve = self.result.curves.setdefault(key, [])
            curve += [mean] * (points - len(curve))
            curve.append(mean)
        for key, curve in self.result.curves.items():
            if key != "kimg" and len(curve) <= points:
                curve.append(curve[-1])
        self.sums.clear()
        self.counts.clear()
        return means
