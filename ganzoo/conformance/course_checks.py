"""Checks of what a run keeps from step to step: its state, and all that decides its course after a checkpoint."""

from __future__ import annotations

import os
from collections.abc import Set

import torch

from ganzoo.conformance.apart import call_apart
from ganzoo.conformance.trial import Trial
from ganzoo.conformance.verdicts import Failed, Skipped
from ganzoo.errors import Diverged
from ganzoo.running.process import REPEATABLE
from ganzoo.training.assembly import Assembly
from ganzoo.training.loop import TermLog, TrainResult, run_step, train
from ganzoo.training.snapshot import restore, snapshot

COURSE_KIMG = 0.096
"""How long a run is that is taken up again half way: twelve batches."""


def state_moves(trial: Trial) -> None:
    """State stays finite, and moves: from its start, or from another value where it may have reason to stay.

    Give its next value in `ganzoo.Terms(state=…)`, or by `adapt`, as a function of what is judged.
    """
    run = trial.assemble()
    if not run.values.state:
        raise Skipped("nothing in the recipe keeps state")
    still = _unmoved(run, run.values.state.keys())
    for name in still:
        # ADA's p begins at 0 and stays there while the discriminator does not overfit.
        run.values.state[name].add_(0.5)
    run.step = 0
    for name in sorted(_unmoved(run, still)):
        raise Failed(f"the state '{name}' never changes, wherever it begins; give it another value, or none")


def _unmoved(run: Assembly, names: Set[str]) -> set[str]:
    """Those of the state that a few steps leave as they are. Raises `Failed` where one is not finite."""
    before = {name: run.values.state[name].clone() for name in names}
    for _ in range(4):
        run_step(run)
        for name, value in run.values.state.items():
            if not torch.isfinite(value).all():
                raise Failed(f"the state '{name}' becomes {value.tolist()} in the first steps")
    return {name for name in names if torch.equal(before[name], run.values.state[name])}


def resumes(trial: Trial) -> None:
    """A run that is taken up from a checkpoint goes on bit for bit like one that was never left.

    Keep what decides its course in weights, buffers and declared state, and draw from torch's global generators.
    """
    if torch.device(trial.device).type == "cuda":
        call_apart(trial, resumes_here, REPEATABLE | os.environ)
    else:
        resumes_here(trial)


def resumes_here(trial: Trial) -> None:
    """`resumes` in this process. CUDA repeats itself only where it is asked to."""
    torch.use_deterministic_algorithms(torch.device(trial.device).type == "cuda")
    run, log = trial.assemble(), TermLog(TrainResult())
    saved = snapshot(run, log)

    def save() -> None:
        nonlocal saved
        saved = snapshot(run, log)

    def half_way() -> bool:
        return saved[1]["step"] == 0 and run.batches.drawn >= 500 * COURSE_KIMG

    try:
        train(run, COURSE_KIMG, log=log, pause_due=half_way, on_pause=save)
    except Diverged as error:
        raise Skipped(f"a run has no course: {error}") from error
    whole, _ = snapshot(run, log)
    again = trial.assemble()
    torch.manual_seed(1)
    log = restore(again, *saved)
    train(again, COURSE_KIMG, log=log)
    for name, tensor in snapshot(again, log)[0].items():
        if not torch.equal(tensor, whole[name]):
            raise Failed(
                f"a run that is taken up again goes another way: '{name}' differs; keep what decides it in buffers or "
                "in declared state"
            )
