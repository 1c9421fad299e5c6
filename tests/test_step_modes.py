"""Captured and compiled steps equal eager ones: schedules, lazy phases, repeats, random numbers, gradients.

Capture needs a CUDA device. What surrounds it (buffers, one graph for each mixture of phases, replay) is tested on the
CPU with a recorder in its place, which replays by calling the recorded function again.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
from skips import needs_accelerator
from test_training import assembled, planned, snapshot

from ganzoo.registry.discovery import discover
from ganzoo.training.assembly import assemble
from ganzoo.training.cuda_graph import WARMUP_STEPS, GraphedStep
from ganzoo.training.loop import run_step, train
from ganzoo.training.phase_update import eager_step
from ganzoo.types import Batch

REGISTRY = discover()

RECIPES = {
    "shared fakes": ("dcgan", ()),
    "five repeats and a penalty": ("wgan-gp", ()),
    "clipping after each update": ("wgan", ()),
    "lazy phase": ("dcgan+hinge+r1", ("*.lazy.r1.every=3",)),
    "three phases and codes": ("infogan", ()),
    "labels": ("cdcgan", ()),
    "schedules": ("sngan", ("*.rate_decay=linear",)),
    "SGD with momentum, generator first": ("conv-sgd", ()),
}


class Recorder:
    """Captures without running, as CUDA does: the updates are undone after the capture and made by the replay."""

    def __init__(self, run):
        self.run = run
        self.captures = 0

    def warm_up(self, step):
        return step()

    def record(self, step):
        self.captures += 1
        state = self._state()
        rng = torch.get_rng_state()
        terms = step()
        self._restore(state)
        torch.set_rng_state(rng)

        def replay():
            for kept, now in zip(terms, step(), strict=True):
                for name in kept:
                    kept[name].copy_(now[name])

        return replay, terms

    def _tensors(self):
        players = self.run.players
        tensors = [*players.generator.state_dict().values(), *players["discriminator"].state_dict().values()]
        tensors += self.run.values.state.values()
        for optimizer in self.run.optimizers.values():
            tensors += [
                value
                for entry in optimizer.state.values()
                for value in entry.values()
                if isinstance(value, torch.Tensor)
            ]
        return tensors

    def _state(self):
        return [tensor.clone() for tensor in self._tensors()]

    def _restore(self, state):
        with torch.no_grad():
            for tensor, before in zip(self._tensors(), state, strict=True):
                tensor.copy_(before)


def graphed(models, settings):
    run = assembled(models, set=settings)
    recorder = Recorder(run)
    run.perform = GraphedStep(recorder)
    return run, recorder


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_replayed_run_is_the_eager_run(recipe):
    models, settings = RECIPES[recipe]
    eager = assembled(models, set=settings)
    replayed, recorder = graphed(models, settings)
    steps = WARMUP_STEPS + 6
    drawn = steps * (5 if models.startswith("wgan") else 1)
    results = []
    for run in (eager, replayed):
        torch.manual_seed(0)
        results.append(train(run, 8 * drawn / 1000))
    assert recorder.captures >= 1
    assert results[0].updates == results[1].updates
    assert results[0].curves == results[1].curves
    ours, theirs = snapshot(replayed), snapshot(eager)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_each_combination_of_phases_has_a_separate_graph():
    run, recorder = graphed("dcgan+hinge+r1", ("*.lazy.r1.every=2",))
    for step in range(2 * (WARMUP_STEPS + 2)):
        run_step(run)
        assert recorder.captures == max(0, step + 1 - 2 * WARMUP_STEPS) or recorder.captures == 2
    assert recorder.captures == 2
    assert run.perform.capture_seconds > 0


def compilable():
    return shutil.which("g++") is not None or shutil.which("clang++") is not None


@pytest.mark.skipif(not compilable(), reason="torch.compile needs a C++ compiler on the CPU")
@pytest.mark.parametrize(
    "models",
    [
        "mlp+non-saturating+r1",
        *(
            pytest.param(models, marks=pytest.mark.slow)
            for models in ("dcgan", "dcgan+wasserstein-gp", "sngan", "r3gan", "infogan", "cdcgan")
        ),
    ],
)
@pytest.mark.longest
def test_a_compiled_step_gives_the_eager_gradients(models):
    """Relative norm of the difference at most 1e-5, in float32."""
    from torch._inductor import config

    spec, dataset = planned(models, step_mode="compile")
    eager, _ = planned(models)
    # Compiled code draws other random numbers than eager code unless `fallback_random` is set. Not by `monkeypatch`:
    # the settings of this module lie outside its `__dict__`, and from pytest 9.2 on the undo would delete them.
    with config.patch(fallback_random=True):
        # A compiled run does not share fakes between phases.
        assert_same_gradients(assemble(spec, REGISTRY, dataset), assemble(eager, REGISTRY, dataset, share_fakes=False))
    assert any(Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]).rglob("*.so")), "compiled into the folder of this process"


@needs_accelerator(torch.cuda.is_available(), "no CUDA device")
@pytest.mark.parametrize("mode", ["graph", "compile"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_on_cuda_a_captured_or_compiled_run_is_the_eager_run(recipe, mode):
    """By SGD without momentum a step moves each weight by its gradient, so equal weights mean equal gradients."""
    models, settings = RECIPES[recipe]
    settings = (*settings, "*.optimizer.kind=sgd", "*.optimizer.momentum=0", "*.optimizer.learning_rate=0.001")
    runs = []
    for chosen in ("eager", mode):
        # A compiled run does not share fakes between phases.
        runs.append(moved_by(models, settings, "cuda", chosen, share_fakes=mode != "compile"))
    for name, moved in runs[0].items():
        assert (runs[1][name] - moved).norm() <= 1e-3 * moved.norm() + 1e-7, name


def moved_by(models, settings, device, step_mode, *, share_fakes):
    """By how much a few steps have moved each weight."""
    spec, dataset = planned(models, set=settings, device=device, step_mode=step_mode)
    run = assemble(spec, REGISTRY, dataset, share_fakes=share_fakes)
    start = snapshot(run)
    from torch._inductor import config

    with config.patch(fallback_random=True):
        for _ in range(WARMUP_STEPS + 3):
            run_step(run)
    return {name: value - start[name] for name, value in snapshot(run).items()}


@pytest.mark.skipif(not compilable(), reason="torch.compile needs a C++ compiler on the CPU")
@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["shared fakes", "labels"])
def test_a_compiled_run_is_the_eager_run(recipe):
    """What the test on CUDA does, where there is none."""
    models, settings = RECIPES[recipe]
    settings = (*settings, "*.optimizer.kind=sgd", "*.optimizer.momentum=0", "*.optimizer.learning_rate=0.001")
    eager, compiled = (
        moved_by(models, settings, "cpu", step_mode, share_fakes=False) for step_mode in ("eager", "compile")
    )
    for name, moved in eager.items():
        assert (compiled[name] - moved).norm() <= 1e-3 * moved.norm() + 1e-7, name


def assert_same_gradients(run, other):
    real, labels = next(run.batches)
    for index, (update, theirs) in enumerate(zip(run.updates, other.updates, strict=True)):
        batch = Batch(real, labels, run.draw_latent(len(real), run.latent_rng))
        torch.manual_seed(index)
        update.gradients(batch)
        torch.manual_seed(index)
        theirs.gradients(batch)
        ours = torch.cat([parameter.grad.flatten() for parameter in update.updated])
        eager = torch.cat([parameter.grad.flatten() for parameter in theirs.updated])
        assert (ours - eager).norm() <= 1e-5 * eager.norm(), update.phase.name
        for parameter in (*run.players.parameters(("generator", "discriminator")), *update.updated, *theirs.trainable):
            parameter.grad = None


def test_eager_is_the_step_of_the_cpu():
    assert assembled("dcgan").perform is eager_step
