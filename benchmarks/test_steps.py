"""One training step of each variant on `digits` at 16 px, batch 64."""

from __future__ import annotations

import pytest

from ganzoo.machine.settings import synchronize
from ganzoo.registry.discovery import discover
from ganzoo.training.loop import run_step


@pytest.mark.parametrize("variant", discover().names("variants"))
@pytest.mark.benchmark(group="step, digits 16 px, batch 64")
def test_step(benchmark, make_run, variant):
    run = make_run(variant, batch_size=64)

    def step():
        run_step(run)
        synchronize(run.batches.device)

    benchmark.pedantic(step, rounds=20, warmup_rounds=3)
    images = run.batches.drawn / run.step
    benchmark.extra_info["images_per_second"] = images / benchmark.stats.stats.median
