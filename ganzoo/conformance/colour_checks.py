"""The check in three channels; all others work in the fewest that an architecture claims."""

from __future__ import annotations

import torch

from ganzoo.conformance.trial import Trial
from ganzoo.conformance.verdicts import Failed, Skipped
from ganzoo.training.loop import due_calls


def three_channels(trial: Trial) -> None:
    """In three channels, and in the memory format that a run has there, the first steps go well.

    Every term is a finite number, and every player that is trained moves.
    """
    if 3 not in trial.architecture.channels:
        raise Skipped("the architecture builds no images of three channels")
    size = min(size for _, size, _ in trial.shapes)
    run = trial.assemble(trial.spec_at((3, size, size)))
    trained = {name: player.trained_weights() for name, player in run.players.items()}
    before = {name: [weight.detach().clone() for weight in weights] for name, weights in trained.items()}
    for _ in range(3):
        calls = due_calls(run)
        for (update, _), terms in zip(calls, run.perform(calls), strict=True):
            for name, term in terms.items():
                if not torch.isfinite(term):
                    raise Failed(f"in three channels the term '{update.phase.name}/{name}' is {float(term)}")
        run.step += 1
    for name, weights in trained.items():
        if weights and all(map(torch.equal, weights, before[name])):
            raise Failed(f"in three channels nothing moves the {name}")
