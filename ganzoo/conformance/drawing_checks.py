"""The check of how images are drawn: by the architecture's own way, if it has one, and by seeds alone."""

from __future__ import annotations

import torch
from torch import Tensor

from ganzoo.conformance.trial import Trial
from ganzoo.conformance.verdicts import Failed
from ganzoo.evaluation.drawing import Drawing
from ganzoo.evaluation.sampling import eval_mode
from ganzoo.training.assembly import Assembly
from ganzoo.training.loop import run_step

DRAWN = 8
"""How many images are drawn."""


def seeded_drawing(trial: Trial) -> None:
    """One seed draws the same images twice, what the generator draws itself and `prepare` included.

    In eval mode draw from torch's global generators only, which the harness seeds, and count no calls. What `sample`
    gives is (N, C, H, W) in [-1, 1] too.
    """
    run = trial.assemble()
    run_step(run)
    first, second = (_drawn(trial, run) for _ in range(2))
    if trial.architecture.sample is not None:
        low, high = float(first.min()), float(first.max())
        if tuple(first.shape) != (DRAWN, *trial.spec.image_shape) or not -1 <= low <= high <= 1:
            raise Failed(
                f"sample gives {tuple(first.shape)} with values from {low:.3g} to {high:.3g}; it must give "
                f"{(DRAWN, *trial.spec.image_shape)} in [-1, 1]"
            )
    if not torch.equal(first.nan_to_num(), second.nan_to_num()):
        raise Failed(
            "one seed draws other images the second time; in eval mode draw from torch's global generators only"
        )


def _drawn(trial: Trial, run: Assembly) -> Tensor:
    device, way = run.batches.device, Drawing.of(trial.architecture)
    rng = torch.Generator(device).manual_seed(0)

    def some(count: int) -> tuple[Tensor, Tensor | None]:
        turns = torch.arange(count, device=device) % run.classes if run.classes else None
        return run.draw_latent(count, rng), turns

    ready = way.ready(run.players.generator, some, 0, device)
    with eval_mode(ready):
        return way.images(ready, *some(DRAWN), seed=0)
